//! Testing: every test image is embedded once, then thousands of episodes are judged on the features alone.
//!
//! Which episodes is a function of their number, the same for every method and seed, so that methods are compared on
//! identical episodes.

use super::runs::{Entry, FewShotStudy, checkpoint_label};
use super::study::Method;
use super::task;
use crate::error::UserError;
use crate::stop::Stop;
use anyhow::Context as _;
use isoflop_base::EpisodeShape;
use isoflop_base::study::{MachineSpec, RunSpec};
use isoflop_base::tensor::WeightsOnly;
use isoflop_data::episodes::{Episode, Episodes};
use isoflop_data::images::ImageSet;
use isoflop_kernels::KernelSet;
use isoflop_nn::Engine as _;
use isoflop_nn::conv::heads::{Geometry, baseline};
use isoflop_nn::conv::{FewShotEngine, Head, HeadConfig};
use isoflop_store::{Checkpoint, Store};
use std::time::Instant;

/// Seed of the test episodes.
const TEST: u64 = 0x7465_7374;

/// Features of a split by one backbone, and what judges them.
pub struct Frozen {
    /// `[n,d]`, in the order of the split's images.
    features: Vec<f32>,
    width: usize,
    /// Number of the split's first image.
    first: usize,
    judge: Judge,
    kernels: KernelSet,
}

enum Judge {
    Head(HeadConfig, Vec<f32>),
    Baseline,
}

/// What judging some episodes came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    /// Right answers of each episode.
    pub correct: Vec<u16>,
    /// Questions of each.
    pub of: u16,
    /// Mean loss, nats.
    pub loss: f64,
    /// Means over episodes, for a head.
    pub geometry: Option<Geometry>,
    /// Seconds it took, embedding left out.
    pub seconds: f64,
}

impl Tested {
    /// Share of right answers of each episode.
    pub fn accuracies(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.correct.iter().map(|&correct| f64::from(correct) / f64::from(self.of))
    }
}

/// The engine at the end of a run.
///
/// # Errors
/// A checkpoint that is missing or does not verify.
pub fn finished(store: &Store, run: &RunSpec, machine: &MachineSpec) -> anyhow::Result<FewShotEngine> {
    let mut checkpoint = store.read_run(&run.id)?.open_checkpoint(&checkpoint_label(run))?;
    loaded(&mut checkpoint, run, machine)
}

/// An engine for looking, with the weights of a checkpoint.
///
/// # Errors
/// A tensor that is missing or of another shape.
pub fn loaded(
    checkpoint: &mut Checkpoint,
    run: &RunSpec,
    machine: &MachineSpec,
) -> anyhow::Result<FewShotEngine> {
    let mut engine = task::looking(run, machine)?;
    let place = checkpoint.dir().display().to_string();
    engine.load(&mut WeightsOnly(checkpoint)).with_context(|| format!("loading {place}"))?;
    Ok(engine)
}

impl Frozen {
    /// Embeds all images of a split.
    ///
    /// # Errors
    /// A split that is missing; [`crate::Stopped`].
    pub fn new(
        engine: &mut FewShotEngine,
        method: Method,
        set: &ImageSet,
        split: &str,
        kernels: KernelSet,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let classes = set.classes(split).map_err(UserError::from_error)?;
        let first = classes.first().map_or(0, |class| class.images.start);
        let end = classes.last().map_or(0, |class| class.images.end);
        let d = engine.network().features;
        let features = task::embed(engine, set, &(first..end).collect::<Vec<_>>(), stop)?;
        let judge = match (method, engine.head()) {
            (Method::Baseline, _) => Judge::Baseline,
            (Method::Head(_) | Method::Scratch, Some((head, weights))) => Judge::Head(head, weights.to_vec()),
            (Method::NearestMean | Method::Head(_) | Method::Scratch, _) => {
                Judge::Head(HeadConfig::nearest_mean(d), Vec::new())
            }
        };
        Ok(Self { features, width: d, first, judge, kernels })
    }

    /// Features of an episode's images, `out[N,K+Q,d]`.
    fn gather(&self, episode: &Episode, out: &mut Vec<f32>) {
        out.clear();
        for image in &episode.images {
            let at = (image - self.first) * self.width;
            out.extend_from_slice(&self.features[at..at + self.width]);
        }
    }

    /// Judges `count` episodes by several threads; the result does not depend on them.
    ///
    /// # Errors
    /// [`crate::Stopped`].
    pub fn test(
        &self,
        episodes: &Episodes,
        count: u64,
        threads: usize,
        stop: &Stop,
    ) -> anyhow::Result<Tested> {
        let started = Instant::now();
        let shape = episodes.shape();
        let share = count.div_ceil(threads.max(1) as u64).max(1);
        let parts: Vec<std::ops::Range<u64>> =
            (0..count).step_by(share as usize).map(|first| first..(first + share).min(count)).collect();
        let done: Vec<anyhow::Result<Part>> = std::thread::scope(|scope| {
            let part = |range| scope.spawn(|| self.part(episodes, range, stop));
            let threads: Vec<_> = parts.into_iter().map(part).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let (mut correct, mut losses, mut geometry) = (Vec::new(), Vec::new(), Vec::new());
        for part in done {
            let part = part?;
            correct.extend(part.correct);
            losses.extend(part.losses);
            geometry.extend(part.geometry);
        }
        // Added in the order of the episodes, whoever judged them.
        let mean =
            |of: &dyn Fn(&Geometry) -> f64| geometry.iter().map(of).sum::<f64>() / geometry.len() as f64;
        Ok(Tested {
            of: (shape.ways * shape.queries) as u16,
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
            geometry: (!geometry.is_empty()).then(|| Geometry {
                cosine_before: mean(&|g| g.cosine_before),
                cosine_after: mean(&|g| g.cosine_after),
                entropy: mean(&|g| g.entropy),
            }),
            correct,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn part(&self, episodes: &Episodes, range: std::ops::Range<u64>, stop: &Stop) -> anyhow::Result<Part> {
        let (shape, mut episode) = (episodes.shape(), Episode::default());
        let (mut f, mut logits, mut part) = (Vec::new(), Vec::new(), Part::default());
        let mut head = match &self.judge {
            Judge::Head(config, _) => Some(Head::new(*config)),
            Judge::Baseline => None,
        };
        for number in range {
            if number.is_multiple_of(64) {
                stop.check()?;
            }
            episodes.episode(number, &mut episode);
            self.gather(&episode, &mut f);
            let outcome = match (&self.judge, &mut head) {
                (Judge::Head(_, weights), Some(head)) => {
                    let outcome = head.evaluate(self.kernels, shape, weights, &f, &mut logits);
                    part.geometry.push(head.geometry(shape.ways));
                    outcome
                }
                _ => baseline::evaluate(&baseline::BaselineConfig::default(), shape, &f, self.width).0,
            };
            part.correct.push(outcome.correct as u16);
            part.losses.push(outcome.loss);
        }
        Ok(part)
    }

    /// Probabilities `[N·Q,N]` of one episode's queries, class by class.
    pub fn probabilities(&self, shape: EpisodeShape, episode: &Episode) -> Vec<f32> {
        let mut f = Vec::new();
        self.gather(episode, &mut f);
        self.judge.probabilities(self.kernels, shape, &f, self.width)
    }
}

impl Judge {
    fn probabilities(&self, kernels: KernelSet, shape: EpisodeShape, f: &[f32], d: usize) -> Vec<f32> {
        let mut logits = Vec::new();
        match self {
            Self::Head(config, weights) => {
                Head::new(*config).evaluate(kernels, shape, weights, f, &mut logits);
            }
            Self::Baseline => {
                logits = baseline::evaluate(&baseline::BaselineConfig::default(), shape, f, d).1
            }
        }
        logits.chunks_exact_mut(shape.ways).for_each(softmax);
        logits
    }
}

/// Logits of one question to probabilities.
pub fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::MIN, f32::max);
    row.iter_mut().for_each(|l| *l = (*l - most).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|p| *p /= sum);
}

#[derive(Default)]
struct Part {
    correct: Vec<u16>,
    losses: Vec<f64>,
    geometry: Vec<Geometry>,
}

/// The test episodes of a study with so many support images.
///
/// # Errors
/// A split that is missing, classes that are too small.
pub fn test_episodes(study: &FewShotStudy, set: &ImageSet, shots: usize) -> Result<Episodes, UserError> {
    episodes_of(set, EpisodeShape { ways: study.asked.test.ways, shots, queries: study.asked.test.queries })
}

/// The test episodes of this shape.
///
/// # Errors
/// As [`test_episodes`].
pub fn episodes_of(set: &ImageSet, shape: EpisodeShape) -> Result<Episodes, UserError> {
    let classes = set.classes("test").map_err(UserError::from_error)?;
    Episodes::new(classes, shape, TEST).map_err(UserError::from_error)
}

/// Tests one entry of a study on a set of pictures, with so many queries of each class.
///
/// # Errors
/// A checkpoint that cannot be read; [`crate::Stopped`].
pub fn test_entry(
    study: &FewShotStudy,
    entry: &Entry,
    store: &Store,
    (set, queries): (&ImageSet, usize),
    stop: &Stop,
) -> anyhow::Result<(Tested, Frozen)> {
    let (run, machine) = (&study.runs[entry.run], study.machine());
    let mut engine = finished(store, run, machine)?;
    let kernels = task::kernels(run)?;
    let frozen = Frozen::new(&mut engine, entry.method, set, "test", kernels, stop)?;
    let shape = EpisodeShape { ways: study.asked.test.ways, shots: entry.shots, queries };
    let episodes = episodes_of(set, shape)?;
    Ok((frozen.test(&episodes, study.asked.test.episodes, machine.threads, stop)?, frozen))
}
