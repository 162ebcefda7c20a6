//! The seam between a training loop and a device: all the loop knows of hardware.

use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_kernels::KernelError;

/// Sequences of equal length with their targets: rows of `length + 1` tokens, each predicting the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    tokens: Vec<u32>,
    sequences: usize,
    length: usize,
}

impl TokenBatch {
    /// `tokens[sequences, length + 1]`. Panics if the number of tokens is another.
    pub fn new(tokens: Vec<u32>, sequences: usize, length: usize) -> Self {
        assert!(length > 0 && tokens.len() == sequences * (length + 1), "tokens[sequences, length + 1]");
        Self { tokens, sequences, length }
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Positions per sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What sequence `index` is given: T tokens.
    pub fn inputs(&self, index: usize) -> &[u32] {
        let start = index * (self.length + 1);
        &self.tokens[start..start + self.length]
    }

    /// What it is to predict: T tokens.
    pub fn targets(&self, index: usize) -> &[u32] {
        let start = index * (self.length + 1) + 1;
        &self.tokens[start..start + self.length]
    }

    pub(crate) fn check(&self, vocab: usize, context: usize, most: usize) -> Result<(), EngineError> {
        if self.sequences == 0 || self.sequences > most || self.length > context {
            return Err(EngineError::Batch { found: (self.sequences, self.length), most: (most, context) });
        }
        match self.tokens.iter().position(|&t| t as usize >= vocab) {
            Some(at) => Err(EngineError::Token { token: self.tokens[at], vocab }),
            None => Ok(()),
        }
    }
}

/// What `accumulate` saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchStats {
    /// Mean loss, nats per token. May be non-finite.
    pub loss: f64,
    /// Predicted tokens.
    pub tokens: u64,
}

/// Squared gradient norms of a small and a big batch of one step, from which the noise scale is estimated
/// (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisePair {
    /// |G|² of the first micro-batch.
    pub small_squared: f64,
    /// Its tokens.
    pub small_tokens: u64,
    /// |G|² of the whole batch.
    pub big_squared: f64,
    /// Its tokens.
    pub big_tokens: u64,
}

/// What `update` did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether it was clipped.
    pub clipped: bool,
    /// Every tenth step, if the step had more than one micro-batch.
    pub noise: Option<NoisePair>,
}

/// Summed loss of one sequence of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceLoss {
    /// Index in the batch.
    pub index: usize,
    /// Sum over its positions, nats.
    pub sum: f64,
    /// Positions.
    pub tokens: u64,
}

/// Bytes an engine holds, by what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUse {
    /// Name and bytes of each group.
    pub groups: Vec<(&'static str, u64)>,
}

impl MemoryUse {
    /// All groups together.
    pub fn total(&self) -> u64 {
        self.groups.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The loss or a gradient is infinite or not a number. Nothing was changed.
    #[error("{what} is not finite")]
    NonFinite {
        /// Loss or gradient norm.
        what: &'static str,
    },
    /// The batch does not fit the engine.
    #[error("a batch of {} sequences of {} tokens does not fit an engine built for 1 to {} of at most {}", found.0, found.1, most.0, most.1)]
    Batch {
        /// Sequences and length.
        found: (usize, usize),
        /// Most of each.
        most: (usize, usize),
    },
    /// A token is not in the vocabulary.
    #[error(
        "token {token} lies beyond the vocabulary of {vocab}\nhint: the tokens were made with another tokeniser, or `vocab` is too small"
    )]
    Token {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// An option this engine does not have.
    #[error("the CPU engine has no {what}\nhint: {hint}")]
    Unsupported {
        /// The option.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// Kernels that cannot run here.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Threads could not be started.
    #[error("threads could not be started: {0}")]
    Threads(std::io::Error),
}

/// Averages gradients over devices or hosts.
pub trait Reduce {
    /// Replaces `gradient` by its mean over the group.
    fn average(&mut self, gradient: &mut [f32]) -> Result<(), EngineError>;
}

/// A group of one: nothing to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleDevice;

impl Reduce for SingleDevice {
    fn average(&mut self, _gradient: &mut [f32]) -> Result<(), EngineError> {
        Ok(())
    }
}

/// A model on a device, in training.
pub trait Engine {
    /// What the device eats.
    type Batch;
    /// Forward and backward; adds `scale` times the mean gradient of the batch to the gradients.
    fn accumulate(&mut self, batch: &Self::Batch, scale: f32) -> Result<BatchStats, EngineError>;
    /// Averages gradients over a group.
    fn reduce(&mut self, group: &mut dyn Reduce) -> Result<(), EngineError>;
    /// Norm, finite check, clip, optimiser; gradients are zero afterwards. `NonFinite`: weights and moments unchanged.
    fn update(&mut self, lr: f32) -> Result<Update, EngineError>;
    /// Losses of the batch's sequences, in order.
    fn evaluate(
        &mut self,
        batch: &Self::Batch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError>;
    /// Streams weights, moments and counters.
    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError>;
    /// Takes them back; without optimiser state the moments start at zero.
    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError>;
    /// Bytes held.
    fn memory(&self) -> MemoryUse;
}
