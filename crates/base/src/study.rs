//! A resolved study: every `auto` replaced by a value, every unit by a number. Plain data; the binary parses
//! and resolves it, each run stores the part that determines its bits.

use crate::ModelShape;
use crate::recipe::{Init, Optimizer, Precision, Recompute, ScheduleKind, Word, choice};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A series of runs on one corpus under one recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Its name; run ids start with it.
    pub name: String,
    /// What question it asks.
    pub kind: StudyKind,
    /// Where the tokens come from.
    pub data: DataSpec,
    /// The recipe all runs share.
    pub train: TrainSpec,
    /// The runs, in the order in which they will be trained: smaller models first.
    pub runs: Vec<RunSpec>,
    /// Claims to be judged by the report.
    pub claims: Vec<ClaimSpec>,
    /// What `auto` became, and other choices made for the user, each with its reason.
    pub resolutions: Vec<Resolution>,
}

choice! {
    /// What question a study asks.
    StudyKind {
        /// Loss against model size, tokens and compute.
        Scaling = "scaling",
    }
}

/// Where the tokens come from, and what identifies them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// `builtin`, or the training file's name.
    pub corpus: String,
    /// Training tokens file, unless built in.
    pub train: Option<PathBuf>,
    /// Validation tokens file, unless built in.
    pub val: Option<PathBuf>,
    /// Vocabulary V.
    pub vocab: usize,
    /// Tokens of the training split.
    pub train_tokens: u64,
    /// Tokens of the validation split.
    pub val_tokens: u64,
    /// Text bytes per token, if known: turns nats per token into bits per byte.
    pub bytes_per_token: Option<f64>,
    /// Hash or fingerprint of the tokens.
    pub fingerprint: String,
}

/// One run: a model shape and a seed under the study's recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// `<study>-L2-d32-h2-s1`, the name of its directory.
    pub id: String,
    /// Layers, width, heads.
    pub shape: ModelShape,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Optimiser steps at the end of each finished point, ascending; the last is the run's own end.
    pub ends: Vec<u64>,
    /// Run only for its seed's spread: fits of a single seed leave it out.
    pub extra_seed: bool,
}

/// The recipe: model context, batch, optimiser, schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Context length T.
    pub context: usize,
    /// Tokens per optimiser step; a multiple of the context.
    pub batch_tokens: u64,
    /// Sequences per forward and backward; divides the batch.
    pub micro_batch: usize,
    /// Operands of the products.
    pub precision: Precision,
    /// Optimiser.
    pub optimizer: Optimizer,
    /// Initial values.
    pub init: Init,
    /// Learning-rate schedule.
    pub schedule: ScheduleKind,
    /// WSD: share of a point's steps over which the rate falls linearly to zero.
    pub decay: f64,
    /// Share of the run's steps over which the rate rises linearly.
    pub warmup: f64,
    /// Cosine: the last rate as a share of the peak.
    pub min_lr: f64,
    /// AdamW's β₁.
    pub beta1: f64,
    /// AdamW's β₂.
    pub beta2: f64,
    /// AdamW's ε.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip: f64,
    /// Activation checkpointing.
    pub recompute: Recompute,
    /// Share of the run between two evaluations for the training curve.
    pub eval_every: f64,
    /// Validation tokens of a finished point.
    pub eval_tokens: u64,
    /// Validation tokens of a row of the training curve.
    pub curve_tokens: u64,
    /// A GPT-2 checkpoint directory to start from instead of fresh values.
    pub init_from: Option<PathBuf>,
    /// Worker threads; bits do not depend on them.
    pub threads: usize,
    /// Seconds between two checkpoints.
    pub checkpoint_every_s: f64,
    /// The kernel set: part of what determines a run's bits.
    pub kernels: String,
}

/// A published statement the report is to judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// The statement in the study's own words, e.g. `alpha_N = 0.076`.
    pub text: String,
    /// Id of the law it speaks of, e.g. `l_n`.
    pub law: String,
    /// The parameter, e.g. `alpha`.
    pub param: String,
    /// The claimed value.
    pub value: f64,
    /// How far from it still counts as reproduced.
    pub within: f64,
    /// Where it was published.
    pub source: Option<String>,
    /// What must hold before it can be judged: `converged`, `bpe`, `n >= 1e6`.
    pub needs: Vec<String>,
}

/// A value chosen for the user, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    /// Key of the study, e.g. `train.lr`.
    pub key: String,
    /// What it became, as text.
    pub value: String,
    /// Why.
    pub reason: String,
    /// Whether it depends on the machine alone and changes no bit of the result.
    pub machine: bool,
}

impl Study {
    /// The tokens of a point that ends after `steps`.
    pub fn tokens_at(&self, steps: u64) -> u64 {
        steps * self.train.batch_tokens
    }

    /// What determines the bits of a run, stored with it: a run is resumed only under an equal spec. Threads and
    /// the seconds between checkpoints are left out, for they change no result.
    pub fn run_document(&self, run: &RunSpec) -> serde_json::Value {
        let mut train = serde_json::to_value(&self.train).expect("plain data serialises");
        let fields = train.as_object_mut().expect("a struct is an object");
        fields.remove("threads");
        fields.remove("checkpoint_every_s");
        let resolutions: Vec<&Resolution> = self.resolutions.iter().filter(|r| !r.machine).collect();
        serde_json::json!({
            "schema": "isoflop.run/1",
            "study": self.name,
            "kind": self.kind,
            "data": self.data,
            "run": run,
            "train": train,
            "resolutions": resolutions,
        })
    }
}
