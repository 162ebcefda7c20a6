//! What a family of models brings to the training loop. Language modelling ([`language`]) is one; the loop knows of
//! batches, scores and samples, and nothing of tokens.

pub mod ahead;
pub mod evaluate;
pub mod language;
pub mod rows;

use crate::stop::Stop;
use isoflop_base::{BlockLoss, SourceLoss, SourceSeen};
use isoflop_nn::Engine;
use serde_json::Value;
use std::ops::Range;

/// The mean loss over held-out samples, with its standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Nats per predicted token or sample.
    pub loss: f64,
    /// Standard error, blocks as clusters; `None` with a single block.
    pub se: Option<f64>,
    /// Predicted tokens or samples.
    pub samples: u64,
    /// Sums by block, for paired and clustered errors.
    pub blocks: Vec<BlockLoss>,
}

/// Which held-out samples are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// A few, for a row of the training curve.
    Curve,
    /// All that the study asks for, for a finished point.
    Point,
}

/// What a run has seen after some optimiser steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Tokens or samples.
    pub samples: u64,
    /// Training FLOPs by the exact ledger.
    pub flops: f64,
    /// Passes over the training split.
    pub epochs: f64,
    /// Distinct tokens or samples.
    pub unique: u64,
}

/// The texts a checkpoint holds beside its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointTexts {
    /// `config.json`: with what the model is built again.
    pub config: Value,
    /// Further files by name.
    pub others: Vec<(&'static str, String)>,
}

/// What a family brings to the loop: batches, scores, what was seen, and what belongs into a checkpoint.
pub trait Task {
    /// The model in training.
    type Engine: Engine;

    /// The micro-batches of an optimiser step that takes these batches, one but where a branch has a batch of its own:
    /// the same whoever asks and whenever. Read ahead of the step, so that asking costs little; what waiting there was
    /// is in [`Task::waited_s`].
    ///
    /// # Errors
    /// Data that cannot be read, or is not what it was when it was opened.
    fn micro_batches(&mut self, batches: Range<u64>) -> anyhow::Result<&[<Self::Engine as Engine>::Batch]>;

    /// Seconds the loop has waited for batches so far.
    fn waited_s(&self) -> f64;

    /// The held-out loss.
    ///
    /// # Errors
    /// Data that cannot be read; [`crate::Stopped`] between two batches.
    fn score(&mut self, engine: &mut Self::Engine, which: Scoring, stop: &Stop) -> anyhow::Result<Score>;

    /// Held-out losses beside it, for a finished point.
    ///
    /// # Errors
    /// As [`Task::score`].
    fn score_others(&mut self, _engine: &mut Self::Engine, _stop: &Stop) -> anyhow::Result<Vec<SourceLoss>> {
        Ok(Vec::new())
    }

    /// What it has seen of each source by then, where there are several.
    fn sources(&self, _steps: u64) -> Vec<SourceSeen> {
        Vec::new()
    }

    /// What a run has seen after `steps`, along the path that leads there.
    fn seen(&self, steps: u64) -> Seen;

    /// The texts of a checkpoint.
    fn texts(&self) -> CheckpointTexts;

    /// Gives a new run's engine its initial values, where they are not the engine's own.
    ///
    /// # Errors
    /// A checkpoint to start from that cannot be read or does not fit.
    fn begin(&self, engine: &mut Self::Engine) -> anyhow::Result<()>;
}
