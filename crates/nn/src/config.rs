//! What a model is, how it is optimised, and how an engine is to run it.

pub use isoflop_base::recipe::{Init, Optimizer, Precision, Recompute};

use isoflop_base::ModelShape;
use serde::{Deserialize, Serialize};

/// A GPT-2 as Hugging Face defines it: pre-norm, learned positions, biases, GELU (tanh), tied head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GptConfig {
    /// Layers, width, heads.
    pub shape: ModelShape,
    /// Vocabulary V.
    pub vocab: usize,
    /// Longest sequence T.
    pub context: usize,
    /// How weights start.
    pub init: Init,
}

impl GptConfig {
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
