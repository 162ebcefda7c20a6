//! Which classes and images an episode of few-shot learning is made of.
//!
//! An episode is `ways` classes of one split, and `shots + queries` images of each: the first `shots` are the
//! support, the rest the queries. Which ones is a pure function of (seed, index), so that there is no sampler's state
//! to save, any two methods can be judged on the same episodes, and a resumed run sees what an uninterrupted one
//! would have.

use crate::DataError;
use isoflop_base::EpisodeShape;
use isoflop_base::bits::mix;
use std::ops::Range;

/// One class of a split: its name, for errors, and its images' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeClass {
    /// Its name.
    pub name: String,
    /// Numbers of its images.
    pub images: Range<usize>,
}

/// One episode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Episode {
    /// Which classes of the split, N of them.
    pub classes: Vec<usize>,
    /// Numbers of images `[N, K + Q]`, the support of each class first.
    pub images: Vec<usize>,
}

/// A pure function from an index to an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episodes {
    classes: Vec<EpisodeClass>,
    shape: EpisodeShape,
    seed: u64,
}

impl Episodes {
    /// Episodes of this shape from these classes.
    ///
    /// # Errors
    /// [`DataError::Setting`] if an episode has no class, no support or no query, or more classes than there are;
    /// [`DataError::ClassTooSmall`] for a class with fewer images than an episode takes of it.
    pub fn new(classes: Vec<EpisodeClass>, shape: EpisodeShape, seed: u64) -> Result<Self, DataError> {
        if shape.ways < 2 || shape.shots == 0 || shape.queries == 0 {
            return Err(DataError::Setting {
                what: format!(
                    "an episode of {} ways, {} shots, {} queries",
                    shape.ways, shape.shots, shape.queries
                ),
                hint: "give at least 2 ways, 1 shot and 1 query".into(),
            });
        }
        if classes.len() < shape.ways {
            return Err(DataError::Setting {
                what: format!("{} ways, but the split has {} classes", shape.ways, classes.len()),
                hint: "use fewer ways or a split with more classes".into(),
            });
        }
        for class in &classes {
            if class.images.len() < shape.each() {
                return Err(DataError::ClassTooSmall {
                    class: class.name.clone(),
                    found: class.images.len(),
                    needed: shape.each(),
                });
            }
        }
        Ok(Self { classes, shape, seed })
    }

    /// Shape of each episode.
    pub fn shape(&self) -> EpisodeShape {
        self.shape
    }

    /// Every image that the first `count` episodes take, each once, ascending.
    pub fn drawn(&self, count: u64) -> Vec<usize> {
        let (mut episode, mut images) = (Episode::default(), Vec::new());
        for index in 0..count {
            self.episode(index, &mut episode);
            images.extend_from_slice(&episode.images);
        }
        images.sort_unstable();
        images.dedup();
        images
    }

    /// Episode `index`, into `out`, whose memory is used again.
    pub fn episode(&self, index: u64, out: &mut Episode) {
        let mut random =
            Hashed { key: mix(self.seed ^ mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15))), drawn: 0 };
        random.choose(0..self.classes.len(), self.shape.ways, &mut out.classes);
        out.images.clear();
        let mut drawn = Vec::with_capacity(self.shape.each());
        for &class in &out.classes {
            random.choose(self.classes[class].images.clone(), self.shape.each(), &mut drawn);
            out.images.extend_from_slice(&drawn);
        }
    }
}

/// A stream of hashed numbers.
struct Hashed {
    key: u64,
    drawn: u64,
}

impl Hashed {
    /// Evenly below `n`: of 2^64 values at most n are drawn once too often.
    fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        let bits = mix(self.key ^ mix(self.drawn));
        ((u128::from(bits) * n as u128) >> 64) as usize
    }

    /// `count` different numbers of a range in random order: the first steps of a shuffle (Fisher & Yates) of which
    /// only the moved places are remembered.
    fn choose(&mut self, from: Range<usize>, count: usize, out: &mut Vec<usize>) {
        let mut moved: Vec<(usize, usize)> = Vec::with_capacity(2 * count);
        let at = |moved: &[(usize, usize)], place: usize| {
            moved.iter().rev().find(|(p, _)| *p == place).map_or(place, |(_, value)| *value)
        };
        out.clear();
        for i in 0..count {
            let other = i + self.below(from.len() - i);
            out.push(from.start + at(&moved, other));
            let here = at(&moved, i);
            moved.push((other, here));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn classes(sizes: &[usize]) -> Vec<EpisodeClass> {
        let mut end = 0;
        let of = |(number, &size): (usize, &usize)| {
            end += size;
            EpisodeClass { name: format!("class-{number}"), images: end - size..end }
        };
        sizes.iter().enumerate().map(of).collect()
    }

    fn episode(of: &Episodes, index: u64) -> Episode {
        let mut out = Episode::default();
        of.episode(index, &mut out);
        out
    }

    proptest! {
        #[test]
        fn classes_differ_and_support_and_queries_are_disjoint(
            sizes in prop::collection::vec(6usize..40, 2..30), ways in 2usize..9, shots in 1usize..4,
            queries in 1usize..3, seed: u64, index: u64,
        ) {
            prop_assume!(ways <= sizes.len());
            let (all, shape) = (classes(&sizes), EpisodeShape { ways, shots, queries });
            let drawn = episode(&Episodes::new(all.clone(), shape, seed).unwrap(), index);
            prop_assert_eq!(drawn.classes.iter().collect::<HashSet<_>>().len(), ways);
            prop_assert_eq!(drawn.images.iter().collect::<HashSet<_>>().len(), ways * shape.each());
            for (class, images) in drawn.classes.iter().zip(drawn.images.chunks_exact(shape.each())) {
                prop_assert!(images.iter().all(|i| all[*class].images.contains(i)));
            }
        }
    }

    #[test]
    fn an_episode_is_a_function_of_seed_and_index() {
        let shape = EpisodeShape { ways: 5, shots: 1, queries: 15 };
        let of = |seed| Episodes::new(classes(&[600; 64]), shape, seed).unwrap();
        let (a, mut used) = (of(1), Episode::default());
        a.episode(3, &mut used);
        a.episode(7, &mut used);
        assert_eq!(used, episode(&of(1), 7));
        assert_ne!(used, episode(&of(2), 7));
        assert_ne!(used, episode(&a, 8));
    }

    /// Every class and every image comes up about equally often, as support and as query.
    #[test]
    fn draws_are_even() {
        let shape = EpisodeShape { ways: 3, shots: 2, queries: 3 };
        let of = Episodes::new(classes(&[10; 12]), shape, 5).unwrap();
        let (mut support, mut queries, mut out) = ([0f64; 120], [0f64; 120], Episode::default());
        let rounds = 40_000;
        for index in 0..rounds {
            of.episode(index, &mut out);
            for images in out.images.chunks_exact(5) {
                images[..2].iter().for_each(|&i| support[i] += 1.0);
                images[2..].iter().for_each(|&i| queries[i] += 1.0);
            }
        }
        for (counts, each) in [(support, 2.0), (queries, 3.0)] {
            let expected = rounds as f64 * 3.0 * each / 120.0;
            let chi: f64 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum();
            // 119 degrees of freedom: mean 119 and deviation 15.4 at most, for draws without replacement vary less.
            assert!(chi < 119.0 + 5.0 * 15.4, "{chi}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_by_name() {
        let shape = EpisodeShape { ways: 2, shots: 1, queries: 5 };
        let error = Episodes::new(classes(&[6, 5, 9]), shape, 1).unwrap_err();
        assert!(
            matches!(&error, DataError::ClassTooSmall { class, found: 5, needed: 6 } if class == "class-1")
        );
        assert!(error.to_string().contains("hint: "));
        let refused = |ways, shots, queries| {
            let shape = EpisodeShape { ways, shots, queries };
            matches!(Episodes::new(classes(&[9; 4]), shape, 1), Err(DataError::Setting { .. }))
        };
        assert!(refused(5, 1, 1) && refused(1, 1, 1) && refused(2, 0, 1) && refused(2, 1, 0));
        assert!(!refused(4, 1, 1));
    }
}
