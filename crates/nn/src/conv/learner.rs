//! What stands behind a backbone and is trained with it: a classifier of the base classes, or a head of episodes, with
//! its weights, gradients and moments.

use super::heads::{Classifier, Head, HeadConfig};
use super::optimizer::{OptimizerConfig, OptimizerState};
use super::parameters::Parameters;
use crate::init::mix;
use isoflop_base::EpisodeShape;
use isoflop_kernels::{AlignedBuffer, KernelSet};
use serde::{Deserialize, Serialize};

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub enum LearnerConfig {
    /// Softmax over the base classes.
    Classes {
        /// How many.
        classes: usize,
        /// Share ε of the target that is spread over all classes.
        smoothing: f64,
    },
    /// Episodes, through a head.
    Episodes(HeadConfig),
}

impl LearnerConfig {
    /// Layout of its weights for `width` features.
    pub fn parameters(&self, width: usize) -> Parameters {
        match *self {
            Self::Classes { classes, smoothing } => {
                Classifier::<f32>::new(width, classes, smoothing).parameters().clone()
            }
            Self::Episodes(head) => Head::<f32>::new(head).parameters().clone(),
        }
    }
}

/// What a batch of images is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The base class of each image.
    Classes(Vec<u32>),
    /// Whole episodes behind each other, `[B,N,K+Q]` images.
    Episodes {
        /// Shape of each.
        shape: EpisodeShape,
        /// Number of the first: what dropout drops in each is a function of it.
        first: u64,
    },
}

impl Default for Targets {
    fn default() -> Self {
        Self::Classes(Vec::new())
    }
}

/// Sums over a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Cross-entropy, nats, auxiliary tasks with their weight.
    pub loss: f64,
    /// Images that were classified: all of a batch, or the queries of its episodes.
    pub judged: u64,
}

enum Kind {
    Classes(Classifier),
    Episodes(Box<Head>),
}

/// A classifier or head in training.
pub struct Learner {
    kind: Kind,
    pub(super) parameters: Parameters,
    pub(super) weights: AlignedBuffer,
    /// Added up over a step.
    pub(super) gradients: AlignedBuffer,
    /// A batch's own, for a classifier overwrites them.
    own: AlignedBuffer,
    pub(super) moments: OptimizerState,
    seed: u64,
}

impl Learner {
    /// With fresh weights, a function of the seed.
    pub fn new(config: LearnerConfig, width: usize, optimizer: OptimizerConfig, seed: u64) -> Self {
        let kind = match config {
            LearnerConfig::Classes { classes, smoothing } => {
                Kind::Classes(Classifier::new(width, classes, smoothing))
            }
            LearnerConfig::Episodes(head) => Kind::Episodes(Box::new(Head::new(head))),
        };
        let parameters = config.parameters(width);
        let mut weights = AlignedBuffer::zeroed(parameters.len);
        // Another stream than the backbone's.
        parameters.start(mix(seed ^ 0x6865_6164), &mut weights);
        Self {
            kind,
            weights,
            gradients: AlignedBuffer::zeroed(parameters.len),
            own: AlignedBuffer::zeroed(parameters.len),
            moments: OptimizerState::new(optimizer, parameters.len),
            parameters,
            seed,
        }
    }

    /// Bytes of weights, gradients and moments of a learner.
    pub fn bytes(config: &LearnerConfig, width: usize, optimizer: &OptimizerConfig) -> u64 {
        let len = config.parameters(width).len;
        3 * AlignedBuffer::bytes(len) as u64 + optimizer.bytes(len)
    }

    /// Whether these targets are of its kind.
    pub fn understands(&self, targets: &Targets) -> bool {
        matches!(
            (&self.kind, targets),
            (Kind::Classes(_), Targets::Classes(_)) | (Kind::Episodes(_), Targets::Episodes { .. })
        )
    }

    /// The head, if it learns from episodes.
    pub fn head_mut(&mut self) -> Option<(&mut Head, &[f32])> {
        match &mut self.kind {
            Kind::Episodes(head) => Some((head, &self.weights)),
            Kind::Classes(_) => None,
        }
    }

    /// Losses of features `f[B,d]`; `df` (overwritten) and the gradients (added to) are `scale` times those of the mean
    /// loss. Panics for targets it does not understand.
    pub fn train(
        &mut self,
        set: KernelSet,
        targets: &Targets,
        f: &[f32],
        scale: f32,
        df: &mut [f32],
    ) -> Sums {
        match (&mut self.kind, targets) {
            (Kind::Classes(classifier), Targets::Classes(classes)) => {
                let given = (f, &classes[..]);
                let (loss, _) = classifier.train(set, &self.weights, given, scale, df, &mut self.own);
                self.gradients.iter_mut().zip(&*self.own).for_each(|(sum, g)| *sum += g);
                let judged = classes.len() as u64;
                Sums { loss: loss * judged as f64, judged }
            }
            (Kind::Episodes(head), &Targets::Episodes { shape, first }) => {
                let each = shape.images() * head.config().width;
                let episodes = f.len() / each;
                let share = scale / episodes as f32;
                let weight = head.config().auxiliary.map_or(0.0, |(weight, _)| weight);
                let queries = (shape.ways * shape.queries) as u64;
                let mut sums = Sums::default();
                for (i, (f, df)) in f.chunks_exact(each).zip(df.chunks_exact_mut(each)).enumerate() {
                    let mask = mix(self.seed ^ mix(first + i as u64));
                    let made =
                        head.train(set, shape, &self.weights, f, (share, mask), df, &mut self.gradients);
                    sums.loss += (made.loss + weight * made.auxiliary) * queries as f64;
                    sums.judged += queries;
                }
                sums
            }
            _ => panic!("a learner was given targets of another kind"),
        }
    }
}
