//! What a run leaves behind: finished points, rows of its training curve, its status.

use crate::{Measured, ModelShape, SourceLoss, SourceSeen};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a run ended, or has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    /// Not all of its points are finished.
    Running,
    /// All points finished.
    Done,
    /// Loss or gradient became non-finite; nothing after `step` exists.
    Diverged {
        /// The step whose loss or gradient was not finite.
        step: u64,
        /// The branch it happened in (`trunk` or the branch's tokens).
        segment: String,
    },
    /// Stopped by a limit or an alarm; it can be gone on with.
    Stopped {
        /// Which, in words.
        reason: String,
    },
    /// Stopped by an error.
    Failed {
        /// The error in words.
        reason: String,
    },
}

impl Status {
    /// One word for tables and CSV.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Diverged { .. } => "diverged",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Which of a run's schedules a point finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// The end of the run's own schedule.
    Final,
    /// A decayed side branch.
    Branch,
}

impl PointKind {
    /// One word for tables and CSV.
    pub fn word(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Branch => "branch",
        }
    }
}

/// Summed validation loss of one held-out block: the unit by which standard errors are clustered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlockLoss {
    /// Identity of the block in the validation split.
    pub block: u32,
    /// Summed loss in nats.
    pub sum: f64,
    /// Predicted tokens.
    pub tokens: u64,
}

/// A finished point: a model of N parameters after D tokens, its schedule run to its end, and its validation loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Run it belongs to, e.g. `L2-d32-h2-s1`.
    pub run: String,
    /// Final or branch.
    pub kind: PointKind,
    /// Layers, width, heads, of a GPT.
    pub shape: Option<ModelShape>,
    /// N that laws are fitted to: Kaplan's 12·L·d² of a GPT.
    pub params: u64,
    /// All parameters.
    pub params_total: u64,
    /// Training tokens D seen by this point.
    pub tokens: u64,
    /// Training FLOPs by the exact ledger.
    pub flops: f64,
    /// 6·N·D with Kaplan's N.
    pub flops_6nd: f64,
    /// Validation loss, nats per token.
    pub loss: f64,
    /// Its standard error, clustered by block.
    pub loss_se: Option<f64>,
    /// loss / ln 2 · tokens per byte, if the bytes per token are known.
    pub bits_per_byte: Option<f64>,
    /// Passes over the training tokens; of a mix, over those of the source that the loss is about.
    pub epochs: f64,
    /// Distinct training tokens seen.
    pub unique_tokens: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens per optimiser step.
    pub batch_tokens: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// `wsd`, `cosine`, `constant`.
    pub schedule: String,
    /// `scaled`, `gpt2`.
    pub init: String,
    /// Context length T, of a language model.
    pub context: Option<usize>,
    /// Vocabulary V, of a language model.
    pub vocab: Option<usize>,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// `f32`, `bf16`.
    pub precision: String,
    /// Kernel set.
    pub kernels: String,
    /// Seconds of training this point took from the start of its run (trunk up to its fork, then its branch).
    pub seconds: Measured<f64>,
    /// Training tokens per second over that time.
    pub tokens_per_s: Measured<f64>,
    /// Joules over that time.
    pub energy_j: Measured<f64>,
    /// FLOPs by the exact ledger a second, as a share of what this machine was measured to reach at most.
    #[serde(default = "no_peak")]
    pub peak_share: Measured<f64>,
    /// What was read of each source, of a mix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSeen>,
    /// Its run's place in its study, value by axis.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arm: BTreeMap<String, String>,
    /// Held-out losses of further sources, where the study asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<SourceLoss>,
    /// Validation loss by block, for paired and clustered errors. Not in the CSV.
    pub blocks: Vec<BlockLoss>,
}

/// Of points written before the peak was measured.
fn no_peak() -> Measured<f64> {
    Measured::missing("the peak was not measured then")
}

impl Point {
    /// FLOPs by the exact ledger a second of training.
    pub fn flops_per_s(&self) -> Measured<f64> {
        over(self.flops, &self.seconds)
    }

    /// Mean power of training, watts.
    pub fn watts(&self) -> Measured<f64> {
        match self.energy_j.value() {
            Some(joules) => joined(over(*joules, &self.seconds), &self.energy_j),
            None => self.energy_j.clone(),
        }
    }

    /// FLOPs by the exact ledger a joule: FLOP/s per watt.
    pub fn flops_per_joule(&self) -> Measured<f64> {
        over(self.flops, &self.energy_j)
    }
}

/// A quotient, of the provenance of what it is divided by; missing where that is nothing.
fn over(amount: f64, by: &Measured<f64>) -> Measured<f64> {
    match by.value() {
        Some(value) if *value <= 0.0 => Measured::missing("too short to be measured"),
        _ => by.clone().map(|value| amount / value),
    }
}

/// A value that is no better known than `of`.
fn joined(value: Measured<f64>, of: &Measured<f64>) -> Measured<f64> {
    match (value, of) {
        (Measured::Measured { value }, Measured::Estimated { how, .. }) => {
            Measured::estimated(value, how.clone())
        }
        (value, _) => value,
    }
}

/// What training cost: measured, so outside of what must be equal after an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of optimiser steps.
    pub seconds: f64,
    /// Joules over them; `None` once a reading was missing.
    pub joules: Option<f64>,
    /// Whether some of the joules are an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Default for Cost {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl Cost {
    /// What nothing costs.
    pub const NOTHING: Self = Self { seconds: 0.0, joules: Some(0.0), estimated: false };

    /// Adds the cost of more training.
    pub fn add(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.joules = self.joules.zip(more.joules).map(|(a, b)| a + b);
        self.estimated |= more.estimated;
    }
}

/// Squared gradient norms of a small and a big batch, means over pairs taken at the same steps: what the noise scale is
/// estimated from (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoisePairs {
    /// How many pairs the means are over.
    pub pairs: u64,
    /// Tokens of the small batch.
    pub small_tokens: u64,
    /// Mean |G|² of the small batches.
    pub small_sq: f64,
    /// Tokens of the big batch.
    pub big_tokens: u64,
    /// Mean |G|² of the big batches.
    pub big_sq: f64,
}

impl NoisePairs {
    /// The means with those of more pairs of the same batch sizes.
    pub fn with(self, more: Self) -> Self {
        let (a, b) = (self.pairs as f64, more.pairs as f64);
        Self {
            pairs: self.pairs + more.pairs,
            small_sq: (a * self.small_sq + b * more.small_sq) / (a + b),
            big_sq: (a * self.big_sq + b * more.big_sq) / (a + b),
            ..more
        }
    }

    /// B_simple = tr Σ / |G|² in tokens, from E|G_B|² = |G|² + tr Σ / B at the two sizes; `None` where they are one
    /// size or too few to tell the gradient from its noise.
    pub fn scale_tokens(self) -> Option<f64> {
        let (small, big) = (self.small_tokens as f64, self.big_tokens as f64);
        let signal = (big * self.big_sq - small * self.small_sq) / (big - small);
        let trace = (self.small_sq - self.big_sq) / (1.0 / small - 1.0 / big);
        (small < big && signal > 0.0 && trace > 0.0).then(|| trace / signal)
    }
}

/// One row of a training curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// Run.
    pub run: String,
    /// `trunk`, or the branch's token count.
    pub segment: String,
    /// Optimiser steps so far.
    pub step: u64,
    /// Tokens so far.
    pub tokens: u64,
    /// Exact training FLOPs so far.
    pub flops: f64,
    /// Mean training loss of the step, nats per token.
    pub train_loss: f64,
    /// Validation loss if evaluated at this step.
    pub val_loss: Option<f64>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Whether the learning rate has begun to decay: only losses with `decayed` at a segment's end are finished points.
    pub decayed: bool,
    /// Tokens per second over the last interval.
    pub tokens_per_s: Option<f64>,
    /// Share of the interval's steps that was spent waiting for batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_wait: Option<f64>,
    /// In fp16: steps so far whose gradients overflowed, so that they were skipped. They are among `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Gradient norms of a small and a big batch since the row before, if any step measured them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoisePairs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_written_before_there_were_noise_pairs_is_read() {
        let old = r#"{"run":"a","segment":"trunk","step":1,"tokens":8,"flops":1.0,"train_loss":2.0,"val_loss":null,
            "lr":0.1,"grad_norm":1.0,"decayed":false,"tokens_per_s":null}"#;
        let row: CurveRow = serde_json::from_str(old).unwrap();
        assert_eq!((row.noise, row.data_wait, row.skipped), (None, None, None));
        assert!(
            !serde_json::to_string(&row).unwrap().contains("noise"),
            "rows without pairs stay as they were"
        );
    }

    #[test]
    fn means_are_weighted_by_their_pairs() {
        let one = NoisePairs { pairs: 1, small_tokens: 8, small_sq: 4.0, big_tokens: 32, big_sq: 1.0 };
        let three = NoisePairs { pairs: 3, small_sq: 8.0, big_sq: 5.0, ..one };
        assert_eq!(one.with(three), NoisePairs { pairs: 4, small_sq: 7.0, big_sq: 4.0, ..one });
    }
}
