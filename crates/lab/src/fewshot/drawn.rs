//! Episodes as pictures, with what each method said of the queries.

use super::evaluate::test_episodes;
use super::results::Group;
use super::runs::FewShotStudy;
use isoflop_data::episodes::Episode;
use isoflop_data::images::ImageSet;
use isoflop_report::fewshot::input::{Drawing, DrawnEpisode, DrawnQuery};
use std::collections::BTreeMap;

/// Episodes that are drawn.
const EPISODES: u64 = 2;
/// Queries of each class that are drawn.
const QUERIES: usize = 3;

/// The first test episodes at the most shots.
///
/// # Errors
/// Pictures that cannot be read.
pub fn episodes(
    study: &FewShotStudy,
    set: &ImageSet,
    groups: &[Group<'_>],
) -> anyhow::Result<Vec<DrawnEpisode>> {
    let Some(shots) = groups.iter().map(|group| group.shots).max() else { return Ok(Vec::new()) };
    let test = test_episodes(study, set, shots)?;
    let (shape, classes) = (test.shape(), set.classes("test")?);
    let (mut episode, mut drawn) = (Episode::default(), Vec::new());
    for number in 0..EPISODES {
        test.episode(number, &mut episode);
        let mut said = BTreeMap::new();
        for group in groups.iter().filter(|group| group.shots == shots) {
            if let Some(frozen) = &group.seeds[0].frozen {
                said.insert(group.method.word().to_owned(), frozen.probabilities(shape, &episode));
            }
        }
        let (mut support, mut queries) = (Vec::new(), Vec::new());
        for (class, images) in episode.images.chunks_exact(shape.each()).enumerate() {
            support.push(images[..shots].iter().map(|&image| drawing(set, image)).collect::<Result<_, _>>()?);
            for (q, &image) in images[shots..].iter().take(QUERIES).enumerate() {
                let at = (class * shape.queries + q) * shape.ways;
                let row = |all: &Vec<f32>| all[at..at + shape.ways].to_vec();
                let said = said.iter().map(|(method, all)| (method.clone(), row(all))).collect();
                queries.push(DrawnQuery { picture: drawing(set, image)?, class, said });
            }
        }
        let classes = episode.classes.iter().map(|&class| classes[class].name.clone()).collect();
        drawn.push(DrawnEpisode { number, classes, support, queries });
    }
    Ok(drawn)
}

fn drawing(set: &ImageSet, image: usize) -> anyhow::Result<Drawing> {
    let mut pixels = vec![0.0; set.side() * set.side() * set.channels()];
    set.read(image, &mut pixels)?;
    let bytes: Vec<u8> = pixels.iter().map(|x| (x * 255.0).round() as u8).collect();
    Ok(Drawing { side: set.side(), channels: set.channels(), hex: isoflop_base::bits::hex(&bytes) })
}
