//! What a model is, how it is optimised, and how an engine is to run it.

pub use isoflop_base::recipe::{Init, Optimizer, Precision, Recompute};
pub use isoflop_kernels::Activation;

use isoflop_base::ModelShape;
use serde::{Deserialize, Serialize};

/// In what a model differs from GPT-2 as Hugging Face defines it. The default is GPT-2, and all that studies train; the
/// rest is for checkpoints made elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    /// The MLP's activation function. In bf16 only GELU in its tanh form.
    pub activation: Activation,
    /// Width of the MLP's hidden layer, if not 4·C.
    pub inner: Option<usize>,
    /// Added to the variance of a norm.
    pub norm_epsilon: f64,
    /// Whether scores are divided by the root of the head's width.
    pub scaled_scores: bool,
    /// Whether the scores of layer l (from 0) are divided by l + 1 as well.
    pub scores_by_layer: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            activation: Activation::GeluTanh,
            inner: None,
            norm_epsilon: isoflop_kernels::layernorm::EPSILON,
            scaled_scores: true,
            scores_by_layer: false,
            tied: true,
        }
    }
}

/// A GPT-2 as Hugging Face defines it: pre-norm, learned positions, biases, GELU (tanh), tied head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptConfig {
    /// Layers, width, heads.
    pub shape: ModelShape,
    /// Vocabulary V.
    pub vocab: usize,
    /// Longest sequence T.
    pub context: usize,
    /// How weights start.
    pub init: Init,
    /// In what it is no GPT-2.
    pub variant: Variant,
}

impl GptConfig {
    /// A GPT-2 whose weights start at std 0.02·√(768/d): V tokens, T positions.
    pub fn new(shape: ModelShape, vocab: usize, context: usize) -> Self {
        Self { shape, vocab, context, init: Init::Scaled, variant: Variant::default() }
    }

    /// Width of the MLP's hidden layer.
    pub fn inner(&self) -> usize {
        self.variant.inner.unwrap_or(4 * self.shape.d_model)
    }

    /// What the scores of a layer are divided by.
    pub fn score_divisor(&self, layer: usize) -> f64 {
        let Variant { scaled_scores, scores_by_layer, .. } = self.variant;
        let width = if scaled_scores { libm::sqrt(self.shape.head_width() as f64) } else { 1.0 };
        width * if scores_by_layer { (layer + 1) as f64 } else { 1.0 }
    }

    /// Standard deviation of the initial weights; residual projections divide it by √(2L).
    pub fn initializer_range(&self) -> f64 {
        match self.init {
            Init::Scaled => 0.02 * libm::sqrt(768.0 / self.shape.d_model as f64),
            Init::Gpt2 => 0.02,
        }
    }
}

/// AdamW with gradient clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

/// How a model is trained and held in memory, on whatever device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineOptions {
    /// Operands of products.
    pub precision: Precision,
    /// Most sequences of one `accumulate` or `evaluate`.
    pub micro_batch: usize,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// Which optimiser.
    pub optimizer: Optimizer,
    /// Its settings.
    pub adamw: AdamWConfig,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            micro_batch: 8,
            recompute: Recompute::None,
            optimizer: Optimizer::AdamW,
            adamw: AdamWConfig::default(),
        }
    }
}
