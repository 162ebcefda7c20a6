//! The seam between a training loop and a device: all the loop knows of hardware.
//!
//! One optimiser step is `accumulate` for each micro-batch, then `reduce`, then `update`:
//!
//! - `accumulate` only starts work. The loss and its finiteness stay in the engine, so that a device need not be waited
//!   for between micro-batches.
//! - `reduce` joins the ranks of a [`Group`]: gradients and the step's sums in one call, so that every rank sees the
//!   same gradient *and* the same loss. A loss that is no number on one rank is none on any, and all leave together.
//! - `update` decides: a step is applied, skipped, or refused as not finite. Ranks that were joined decide alike.

use isoflop_base::{Precision, TensorError, TensorSink, TensorSource, TokenBatch};

/// Squared gradient norms of a small and a big batch of one step, from which the noise scale is estimated
/// (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoisePair {
    /// |G|² of a micro-batch: the step's first, its mean over the ranks.
    pub small_squared: f64,
    /// Its tokens.
    pub small_tokens: u64,
    /// |G|² of the whole batch.
    pub big_squared: f64,
    /// Its tokens.
    pub big_tokens: u64,
}

/// What one optimiser step saw and did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Mean loss over the step's tokens, on all ranks, nats per token.
    pub loss: f64,
    /// Those tokens.
    pub tokens: u64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Every tenth step, if the step had more than one micro-batch or more than one rank.
    pub noise: Option<NoisePair>,
    /// Whether the weights moved.
    pub outcome: Outcome,
}

/// Whether an update changed the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The optimiser made a step.
    Applied,
    /// The gradients overflowed under the loss scale: weights, moments and the optimiser's own step count are as they
    /// were, and the scale has been lowered. An ordinary event of fp16, no divergence.
    ///
    /// Three things a loop must keep apart: its step goes on, and with it data and schedule (the batch is consumed, the
    /// next learning rate is the next step's); the optimiser's step does not, so that bias correction counts only steps
    /// that were made. A run has diverged only when the scale has come down to where nothing overflows any more.
    Skipped {
        /// The loss scale from now on.
        scale: f32,
    },
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

/// Bytes an engine holds or will hold, by what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// Name and bytes of each group.
    pub groups: Vec<(&'static str, u64)>,
}

impl MemoryPlan {
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
    #[error(
        "a batch of {} sequences of {} tokens does not fit an engine built for 1 to {} of at most {}",
        found.0, found.1, most.0, most.1
    )]
    Batch {
        /// Sequences and length.
        found: (usize, usize),
        /// Most of each.
        most: (usize, usize),
    },
    /// A token is not in the vocabulary.
    #[error(
        "token {token} lies beyond the vocabulary of {vocab}\n\
         hint: the tokens were made with another tokeniser, or `vocab` is too small"
    )]
    Token {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The device cannot do what it was asked: kernels, threads or a driver are missing.
    #[error("{0}")]
    Device(String),
    /// A device of several, or the only one, can do nothing any more. What [`Engine::save`] still writes is the state
    /// before the step that failed; if no device holds it, that is an error too.
    #[error("{0}")]
    Lost(String),
    /// A group could not be joined: another rank left, or the way to it broke.
    #[error("the ranks could not be joined: {0}")]
    Group(String),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Checks a batch against what an engine was built for: at most `most` sequences of at most `context` tokens below
/// `vocab`.
///
/// # Errors
/// [`EngineError::Batch`], [`EngineError::Token`].
pub fn check_batch(batch: &TokenBatch, vocab: usize, context: usize, most: usize) -> Result<(), EngineError> {
    if batch.sequences() > most || batch.length() > context {
        return Err(EngineError::Batch { found: (batch.sequences(), batch.length()), most: (most, context) });
    }
    match batch.largest() {
        token if token as usize >= vocab => Err(EngineError::Token { token, vocab }),
        _ => Ok(()),
    }
}

/// A flat buffer of f32, wherever it lies.
#[derive(Debug)]
pub enum Buffer<'a> {
    /// In this process's memory.
    Host(&'a mut [f32]),
    /// On a device. Plain data: whoever reads or writes there knows how, and answers for it.
    Device(DevicePtr),
}

/// Where a buffer lies on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePtr {
    /// The device's number among those the process sees.
    pub device: u32,
    /// Address in the device's memory.
    pub address: u64,
    /// Number of f32.
    pub len: usize,
    /// The stream or queue on which the buffer is being written, as the device's library names it; 0 is its default.
    pub queue: u64,
}

/// The ranks that train one model: devices, processes or hosts, each with a share of every batch.
pub trait Group {
    /// Number of ranks.
    fn size(&self) -> usize;

    /// Replaces `gradient` by its mean over the ranks and each of `sums` by its sum over them. Returns when it is done
    /// on this rank; every rank must call it the same number of times with the same lengths, and every rank gets the
    /// same bits. Values that are not finite are summed like others, so that each rank sees them.
    ///
    /// # Errors
    /// [`EngineError::Group`] if a rank cannot be reached; [`EngineError::Device`] for a buffer of a device the group
    /// does not know.
    fn join(&mut self, gradient: Buffer<'_>, sums: &mut [f64]) -> Result<(), EngineError>;
}

/// A group of one: nothing to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleDevice;

impl Group for SingleDevice {
    fn size(&self) -> usize {
        1
    }

    fn join(&mut self, _gradient: Buffer<'_>, _sums: &mut [f64]) -> Result<(), EngineError> {
        Ok(())
    }
}

/// What a step has summed besides its gradient: an engine's own between `accumulate` and `reduce`, the group's after
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepSums {
    /// Summed loss, nats. Not finite as soon as one token's is not.
    pub loss: f64,
    /// Tokens.
    pub tokens: u64,
    /// |G|² of the first micro-batch, if this step estimates the noise: the mean over ranks.
    pub small_squared: Option<f64>,
    /// Its tokens, on each rank.
    pub small_tokens: u64,
}

impl StepSums {
    /// Joins them, together with the gradient, over a group whose ranks have equal shares of the batch.
    ///
    /// # Errors
    /// The group's.
    pub fn join(&mut self, gradient: Buffer<'_>, group: &mut dyn Group) -> Result<(), EngineError> {
        let ranks = group.size() as f64;
        let mut sums = [self.loss, self.tokens as f64, self.small_squared.unwrap_or(0.0)];
        group.join(gradient, &mut sums)?;
        self.loss = sums[0];
        self.tokens = sums[1] as u64; // exact below 2^53
        self.small_squared = self.small_squared.map(|_| sums[2] / ranks);
        Ok(())
    }

    /// Mean loss; an error if it is none.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`].
    pub fn mean_loss(&self) -> Result<f64, EngineError> {
        if !self.loss.is_finite() {
            return Err(EngineError::NonFinite { what: "the loss" });
        }
        Ok(self.loss / self.tokens.max(1) as f64)
    }

    /// The pair with the whole batch's squared norm, if this step has one.
    pub fn noise(&self, big_squared: f64) -> Option<NoisePair> {
        self.small_squared.map(|small_squared| NoisePair {
            small_squared,
            small_tokens: self.small_tokens,
            big_squared,
            big_tokens: self.tokens,
        })
    }
}

/// A model on a device, in training.
pub trait Engine {
    /// What the device eats.
    type Batch;

    /// Forward and backward: adds `scale` times the mean gradient of the batch to the gradients, and its loss to the
    /// step's. Does not wait for a device.
    ///
    /// # Errors
    /// [`EngineError::Batch`], [`EngineError::Token`]: the batch does not fit, and nothing was added.
    fn accumulate(&mut self, batch: &Self::Batch, scale: f32) -> Result<(), EngineError>;

    /// Joins gradients and the step's sums over a group. Once a step, on every rank.
    ///
    /// # Errors
    /// The group's. A loss that is not finite is none here: the other ranks must learn of it, and [`Self::update`]
    /// says it.
    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError>;

    /// Norm, finite check, clip, optimiser. The next `accumulate` begins a new step.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`] on every rank if loss or gradient were not finite on one: weights and moments are
    /// unchanged.
    fn update(&mut self, lr: f32) -> Result<Update, EngineError>;

    /// Losses of the batch's sequences, in order.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    fn evaluate(
        &mut self,
        batch: &Self::Batch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError>;

    /// Streams weights, moments and counters.
    ///
    /// # Errors
    /// The sink's.
    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError>;

    /// Takes them back; without optimiser state the moments start at zero.
    ///
    /// # Errors
    /// The source's; a tensor that is missing or of another shape.
    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError>;

    /// Bytes held.
    fn memory(&self) -> MemoryPlan;
}

impl<E: Engine + ?Sized> Engine for Box<E> {
    type Batch = E::Batch;

    fn accumulate(&mut self, batch: &Self::Batch, scale: f32) -> Result<(), EngineError> {
        (**self).accumulate(batch, scale)
    }

    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        (**self).reduce(group)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        (**self).update(lr)
    }

    fn evaluate(
        &mut self,
        batch: &Self::Batch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        (**self).evaluate(batch, each)
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        (**self).save(sink)
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        (**self).load(source)
    }

    fn memory(&self) -> MemoryPlan {
        (**self).memory()
    }
}

impl<E: LanguageModel + ?Sized> LanguageModel for Box<E> {
    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        (**self).next_token_logits(tokens)
    }
}

/// An engine of a language model: it also continues a text.
pub trait LanguageModel: Engine<Batch = TokenBatch> {
    /// Logits `[V]` for the token after `tokens` (1 to context of them).
    ///
    /// # Errors
    /// [`EngineError::Batch`], [`EngineError::Token`].
    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError>;
}

/// What a device is, for a run's record and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// `cpu`, or a device's own name.
    pub name: String,
    /// Kernel set: with the seed and the recipe it determines a run's bits.
    pub kernels: &'static str,
    /// Precisions it computes at full speed, the preferred one first.
    pub precisions: Vec<Precision>,
}

/// Where engines of models with configuration `Config` are made.
pub trait Device<Config> {
    /// The engines it makes.
    type Engine: Engine;

    /// What it is.
    fn facts(&self) -> DeviceFacts;

    /// Bytes that [`Self::make`] will allocate, counted before it does.
    fn plan(&self, config: &Config, options: &crate::EngineOptions) -> MemoryPlan;

    /// An engine with fresh weights, a function of the seed.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the device cannot run it.
    fn make(
        &self,
        config: &Config,
        options: &crate::EngineOptions,
        seed: u64,
    ) -> Result<Self::Engine, EngineError>;
}
