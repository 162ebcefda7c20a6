//! What a model is, how it is optimised, and how an engine is to run it.

use isoflop_base::ModelShape;
use isoflop_kernels::KernelSet;
use serde::{Deserialize, Serialize};

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Standard deviation 0.02·√(768/d): what 0.02 is at GPT-2's width, at every width.
    Scaled,
    /// GPT-2's 0.02 whatever the width.
    Gpt2,
}

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

/// Type of the operands of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout.
    F32,
    /// bf16 operands, f32 everything else.
    Bf16,
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Moments in f32.
    AdamW,
    /// Block-wise 8-bit moments.
    AdamW8bit,
}

/// What the backward pass computes again instead of storing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Only what is cheap: norms and activation functions.
    None,
    /// Everything inside a block, from its input.
    Block,
}

/// How to run a model on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Operands of products.
    pub precision: Precision,
    /// Kernels.
    pub kernels: KernelSet,
    /// Threads, at least one.
    pub threads: usize,
    /// Most sequences of one `accumulate` or `evaluate`.
    pub micro_batch: usize,
    /// Seed of the initial weights.
    pub seed: u64,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// Which optimiser.
    pub optimizer: Optimizer,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            kernels: KernelSet::detect(),
            threads: 1,
            micro_batch: 8,
            seed: 1,
            recompute: Recompute::None,
            optimizer: Optimizer::AdamW,
        }
    }
}
