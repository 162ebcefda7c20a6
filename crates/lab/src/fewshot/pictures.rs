//! Opening the pictures of a study: built in, or prepared once from files and kept beside the runs.

use super::study::{Asked, Pictures, Source};
use crate::error::UserError;
use isoflop_base::EpisodeShape;
use isoflop_base::bits::mix;
use isoflop_base::fewshot::Base;
use isoflop_base::study::DataSpec;
use isoflop_data::DataError;
use isoflop_data::episodes::{EpisodeClass, Episodes};
use isoflop_data::images::{self, ImageSet, Index, Picture};
use std::path::Path;
use std::sync::Arc;

/// Folder of a store that holds prepared pictures.
const FOLDER: &str = "images";

/// Opens the pictures; those of files are decoded once, into `store/images`.
///
/// # Errors
/// A [`UserError`] naming the file that cannot be used; a store that cannot be written.
pub fn open(pictures: &Pictures, store: &Path, threads: usize) -> anyhow::Result<Arc<ImageSet>> {
    let index = match &pictures.source {
        Source::Icons => return Ok(Arc::new(images::icons().map_err(UserError::from_error)?)),
        Source::Prepared(path) => return Ok(Arc::new(prepared(path, pictures)?)),
        Source::Folder(folder) => Index::of_folders(folder),
        Source::Lists { images, lists } => {
            let lists: Vec<(&str, &Path)> =
                lists.iter().map(|(split, path)| (*split, path.as_path())).collect();
            Index::of_lists(images, &lists)
        }
    };
    let index = index.map_err(UserError::from_error)?;
    Ok(Arc::new(decoded(&index, pictures, store, threads)?))
}

/// A set that somebody prepared, of the size and channels that the study has.
fn prepared(path: &Path, pictures: &Pictures) -> Result<ImageSet, UserError> {
    let set = ImageSet::open(path).map_err(UserError::from_error)?;
    let (found, asked) = ((set.side(), set.channels()), (pictures.side, pictures.channels));
    if found == asked {
        return Ok(set);
    }
    let words = |(side, channels): (usize, usize)| format!("{side} pixels and {channels} channels");
    Err(UserError::new(format!(
        "{}: pictures of {}, the study asks for {}",
        path.display(),
        words(found),
        words(asked)
    ))
    .hint("set data.side and data.channels to what the pictures have, or prepare them again"))
}

/// Pictures of files, decoded once, into `store/images`.
fn decoded(index: &Index, pictures: &Pictures, store: &Path, threads: usize) -> anyhow::Result<ImageSet> {
    let picture =
        Picture { short: pictures.resize, side: pictures.side, channels: pictures.channels, convert: true };
    let fingerprint = images::fingerprint(index, &picture).map_err(UserError::from_error)?;
    let path = store.join(FOLDER).join(format!("{}.images", &fingerprint[..16]));
    if !path.exists() {
        isoflop_store::write_streamed(&path, |write| {
            images::prepare::<anyhow::Error>(index, &picture, threads, &mut |bytes| {
                write(bytes).map_err(Into::into)
            })
        })
        .map_err(|error| match error.downcast::<DataError>() {
            Ok(error) => UserError::from_error(error).into(),
            Err(error) => error,
        })?;
    }
    Ok(ImageSet::open(&path).map_err(UserError::from_error)?)
}

/// Pictures that a study is only tested on.
pub struct Also {
    /// What tables call it.
    pub name: String,
    /// Its pictures; the split `test` is what counts.
    pub set: ImageSet,
}

/// Opens what `test.also` names: prepared sets, or folders of class folders, all of whose classes are tested unless
/// they are divided. Each must hold the episodes that will be asked of it.
///
/// # Errors
/// As [`open`]; classes that are too few or too small, named.
pub fn open_also(asked: &Asked, store: &Path) -> anyhow::Result<Vec<Also>> {
    let (pictures, test) = (&asked.pictures, &asked.test);
    let mut all = Vec::new();
    for path in &test.also {
        let place = path.display();
        let set = if path.is_dir() {
            let index = Index::of_test_folders(path).map_err(UserError::from_error)?;
            decoded(&index, pictures, store, asked.machine.threads)?
        } else {
            prepared(path, pictures)?
        };
        for &shots in asked.episodes.shots.iter().chain(&test.shots) {
            let shape = EpisodeShape { ways: test.ways, shots, queries: test.also_queries };
            let classes = set.classes("test").map_err(UserError::from_error)?;
            Episodes::new(classes, shape, 0).map_err(|e| UserError::new(format!("{place}: {e}")))?;
        }
        let name = path.file_stem().map_or_else(|| place.to_string(), |n| n.to_string_lossy().into_owned());
        all.push(Also { name, set: if test.also_inverted { set.inverted() } else { set } });
    }
    Ok(all)
}

/// What identifies a set in a run.
pub fn data_spec(pictures: &Pictures, set: &ImageSet) -> DataSpec {
    let count = |split: &str| {
        let classes = set.classes(split).unwrap_or_default();
        classes.iter().map(|class| class.images.len() as u64).sum()
    };
    let corpus = match &pictures.source {
        Source::Icons => "icons".to_owned(),
        Source::Folder(path) | Source::Prepared(path) | Source::Lists { images: path, .. } => {
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
        }
    };
    DataSpec {
        corpus,
        train: None,
        val: None,
        train_tokens: count("train"),
        val_tokens: count("val"),
        bytes_per_token: None,
        fingerprint: set.header().fingerprint.clone(),
        mix: None,
        end_of_text: None,
    }
}

/// The base classes that a run may use, and of each which pictures: an order that depends on their numbers alone, so
/// that less is always a part of more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImages {
    /// As the episodes see them: names, and ranges of `images`.
    pub classes: Vec<EpisodeClass>,
    /// Numbers of pictures in the set, class by class.
    pub images: Vec<usize>,
}

impl BaseImages {
    /// A part of the training split.
    ///
    /// # Errors
    /// No such split.
    pub fn new(set: &ImageSet, base: Base) -> Result<Self, DataError> {
        let mut all = set.classes("train")?;
        all.sort_by_key(|class| mix(class.images.start as u64 ^ 0x0063_6c61_7373));
        all.truncate(usize::try_from(base.classes).unwrap_or(usize::MAX));
        all.sort_by_key(|class| class.images.start);
        let (mut classes, mut images) = (Vec::new(), Vec::new());
        for class in all {
            let first = images.len();
            let mut own: Vec<usize> = class.images.collect();
            own.sort_by_key(|image| mix(*image as u64 ^ 0x0069_6d61_6765));
            own.truncate(usize::try_from(base.images).unwrap_or(usize::MAX));
            images.extend(own);
            classes.push(EpisodeClass { name: class.name, images: first..images.len() });
        }
        Ok(Self { classes, images })
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<u32> {
        let label = |(number, class): (usize, &EpisodeClass)| vec![number as u32; class.images.len()];
        self.classes.iter().enumerate().flat_map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_a_part_of_more() {
        let set = images::icons().unwrap();
        let part = |classes, images| BaseImages::new(&set, Base { classes, images }).unwrap();
        let (all, some, few) = (part(1 << 40, 1 << 40), part(20, 1 << 40), part(20, 7));
        assert_eq!(all.images.len() as u64, data_spec_of(&set).train_tokens);
        assert!(some.classes.iter().all(|class| all.classes.iter().any(|other| other.name == class.name)));
        assert!(few.images.iter().all(|image| some.images.contains(image)));
        assert_eq!((some.classes.len(), few.images.len(), few.labels().len()), (20, 140, 140));
        // Not merely the first ones: those would be the alphabet's first sets of drawings.
        let class = set.classes("train").unwrap()[0].images.clone();
        let own = &part(1 << 40, 7).images[..7];
        assert!(own.iter().all(|image| class.contains(image)));
        assert!(own.iter().any(|image| image - class.start > 7), "{own:?}");
    }

    fn data_spec_of(set: &ImageSet) -> DataSpec {
        let pictures = Pictures { source: Source::Icons, resize: 28, side: 28, channels: 1 };
        data_spec(&pictures, set)
    }
}
