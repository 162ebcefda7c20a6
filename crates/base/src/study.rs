//! A resolved study: every `auto` replaced by a value, every unit by a number. Plain data: the laboratory parses and
//! resolves it. Each run owns its whole recipe; what of it determines a run's bits is its
//! [`RunIdentity`](crate::identity::RunIdentity).

use crate::ModelShape;
use crate::fewshot::FewShotSpec;
use crate::instruments::InstrumentSpec;
use crate::mix::MixSpec;
use crate::recipe::{Init, Optimizer, Precision, Recompute, ScheduleKind, Word, choice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs that answer a question together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Its name; run ids start with it.
    pub name: String,
    /// What question it asks.
    pub kind: StudyKind,
    /// The runs, in the order in which they will be trained: smaller models first.
    pub runs: Vec<RunSpec>,
    /// How they are run here; changes no bit.
    pub machine: MachineSpec,
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
        /// The best model size for a budget of compute.
        Isoflop = "isoflop",
        /// What data are worth: how much, how often, how much junk, in which mixture.
        Data = "data",
        /// Which batch to train with.
        Batch = "batch",
        /// Which learning rate to train with.
        Lr = "lr",
    }
}

/// How runs are run; their bits do not depend on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Worker threads.
    pub threads: usize,
    /// What trains: `cpu`, or graphics cards as a study names them. Which bits come out of it is the kernel set's.
    #[serde(default = "processor", skip_serializing_if = "is_processor")]
    pub device: String,
    /// Seconds between two checkpoints.
    pub checkpoint_every_s: f64,
    /// Limits, alarms, and what a meter cannot know.
    #[serde(default, skip_serializing_if = "InstrumentSpec::is_default")]
    pub instruments: InstrumentSpec,
}

/// The device of a study that names none.
pub const PROCESSOR: &str = "cpu";

fn processor() -> String {
    PROCESSOR.to_owned()
}

fn is_processor(device: &str) -> bool {
    device == PROCESSOR
}

/// One run: what is trained, on what, how, and which points it finishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// `<study>-L2-d32-h2-s1`, the name of its directory.
    pub id: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// Its place in the study: value by axis, e.g. `budget` → `1e13`. A label; what it means is in the recipe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arm: BTreeMap<String, String>,
    /// Why it is run.
    pub role: Role,
    /// What is trained.
    pub model: ModelSpec,
    /// On what.
    pub data: DataSpec,
    /// How.
    pub train: TrainSpec,
    /// Optimiser steps at the end of each finished point, ascending; the last is the run's own end.
    pub ends: Vec<u64>,
}

choice! {
    /// Why a run is run.
    Role {
        /// One of the study's own.
        Series = "series",
        /// A further seed of a setting, to measure the spread between seeds.
        SeedSpread = "seed-spread",
    }
}

/// A model, by family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum ModelSpec {
    /// GPT-2 as `transformers` has it.
    Gpt2(GptSpec),
    /// A convolutional network for few-shot learning.
    FewShot(FewShotSpec),
    /// A model of another family, which only its own task understands.
    Other {
        /// Family and size in a word, e.g. `softmax-8x4`.
        name: String,
        /// Parameters that are trained.
        params: u64,
    },
}

/// A GPT-2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GptSpec {
    /// Layers, width, heads.
    pub shape: ModelShape,
    /// Vocabulary V.
    pub vocab: usize,
    /// Context length T.
    pub context: usize,
    /// Initial values.
    pub init: Init,
}

/// Where the samples come from, and what identifies them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// `builtin`, or the training file's name.
    pub corpus: String,
    /// Training tokens file, unless built in.
    pub train: Option<PathBuf>,
    /// Validation tokens file, unless built in.
    pub val: Option<PathBuf>,
    /// Tokens of the training split.
    pub train_tokens: u64,
    /// Tokens of the validation split.
    pub val_tokens: u64,
    /// Text bytes per token, if known: turns nats per token into bits per byte.
    pub bytes_per_token: Option<f64>,
    /// Hash or fingerprint of the tokens.
    pub fingerprint: String,
    /// The sources, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixSpec>,
    /// The id between documents, where rows are not to reach from one into the next; then `train_tokens` are those
    /// that rows have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_text: Option<u32>,
}

/// Batch, optimiser, schedule, evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Peak learning rate.
    pub lr: f64,
    /// Tokens per optimiser step; a multiple of the context.
    pub batch_tokens: u64,
    /// Another batch in the decayed side branches than in the trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchBatch>,
    /// Sequences per forward and backward; divides the batch.
    pub micro_batch: usize,
    /// Operands of the products.
    pub precision: Precision,
    /// Optimiser.
    pub optimizer: Optimizer,
    /// Learning-rate schedule.
    pub schedule: ScheduleKind,
    /// WSD: share of a point's steps over which the rate falls linearly to zero.
    pub decay: f64,
    /// How long the rate rises, as the study says it.
    pub warmup: Warmup,
    /// Steps over which the rate rises. A share is taken of the longest point the run was to have when it began, and
    /// kept when the run is extended: its trunk is trained once.
    pub warmup_steps: u64,
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
    /// A checkpoint to start from instead of fresh values.
    pub init_from: Option<InitFrom>,
    /// The kernel set: part of what determines a run's bits.
    pub kernels: String,
}

/// The batch of a run's side branches. Steps are counted in batches of the trunk all along the path: a step of a branch
/// counts for as many as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BranchBatch {
    /// Batches of the trunk that a step takes together.
    pub batches: u64,
    /// What the rate is multiplied by.
    pub rate: f64,
}

/// How long the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// Share of the run's steps.
    Share(f64),
    /// Optimiser steps.
    Steps(u64),
}

impl Warmup {
    /// Steps of a run that ends after `total`.
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Self::Share(share) => (share * total as f64).round() as u64,
            Self::Steps(steps) => steps,
        }
    }
}

/// A checkpoint as initial values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitFrom {
    /// A GPT-2 checkpoint directory.
    pub path: PathBuf,
    /// SHA-256 of its weights.
    pub fingerprint: String,
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

impl ModelSpec {
    /// Its name in tables: `L2-d32-h2`.
    pub fn name(&self) -> String {
        match self {
            Self::Gpt2(gpt) => gpt.shape.to_string(),
            Self::FewShot(spec) => spec.name(),
            Self::Other { name, .. } => name.clone(),
        }
    }

    /// The GPT-2, if it is one.
    pub fn gpt(&self) -> Option<&GptSpec> {
        match self {
            Self::Gpt2(gpt) => Some(gpt),
            Self::FewShot(_) | Self::Other { .. } => None,
        }
    }

    /// The few-shot network, if it is one.
    pub fn few_shot(&self) -> Option<&FewShotSpec> {
        match self {
            Self::FewShot(spec) => Some(spec),
            _ => None,
        }
    }

    /// N: parameters that laws are fitted to, Kaplan's 12·L·d² for a GPT-2.
    pub fn params(&self) -> u64 {
        match self {
            Self::Gpt2(gpt) => gpt.shape.params(),
            Self::FewShot(FewShotSpec { params, .. }) | Self::Other { params, .. } => *params,
        }
    }

    /// All parameters.
    pub fn params_total(&self) -> u64 {
        match self {
            Self::Gpt2(gpt) => gpt.shape.params_total(gpt.vocab, gpt.context),
            Self::FewShot(FewShotSpec { params, .. }) | Self::Other { params, .. } => *params,
        }
    }
}

/// Share of junk of an arm, in a study of junk.
pub(crate) fn junk_share(arm: &BTreeMap<String, String>) -> Option<f64> {
    arm.get("junk").and(arm.get("share"))?.parse().ok()
}

impl RunSpec {
    /// Its place on an axis of the study, where that is a number.
    pub fn arm_number(&self, axis: &str) -> Option<f64> {
        self.arm.get(axis)?.parse().ok()
    }

    /// Share of junk among what it reads, in a study of junk.
    pub fn junk_share(&self) -> Option<f64> {
        junk_share(&self.arm)
    }

    /// Optimiser steps at the end of its last point.
    pub fn end(&self) -> u64 {
        *self.ends.last().expect("a run has an end")
    }

    /// Tokens seen after `steps`.
    pub fn tokens_at(&self, steps: u64) -> u64 {
        steps * self.train.batch_tokens
    }

    /// Tokens at the end of each point, ascending.
    pub fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.ends.iter().map(|end| self.tokens_at(*end))
    }

    /// The GPT-2 it trains. Panics for another family: only language models' code asks.
    pub fn gpt(&self) -> &GptSpec {
        self.model.gpt().expect("a language model")
    }
}

impl Study {
    /// One run of each model, in the order of the runs.
    pub fn one_of_each_model(&self) -> Vec<&RunSpec> {
        let mut firsts: Vec<&RunSpec> = Vec::new();
        for run in &self.runs {
            if !firsts.iter().any(|first| first.model == run.model) {
                firsts.push(run);
            }
        }
        firsts
    }
}
