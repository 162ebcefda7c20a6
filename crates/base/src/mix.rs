//! Several sources of text in one run: which there are, how much of each is read when, and which are scored.

use crate::recipe::{Word, choice};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

choice! {
    /// Text that teaches nothing, or little, made from a seed as it is read.
    JunkKind {
        /// A few passages of another source, again and again.
        Repeated = "repeated",
        /// Another source's words, those of each 4,096 tokens in another order.
        WordsShuffled = "words-shuffled",
        /// Another source's characters (tokens, where a token is more than a byte) likewise.
        CharactersShuffled = "characters-shuffled",
        /// Every symbol of the vocabulary as likely as any other.
        UniformSymbols = "uniform-symbols",
        /// Printable ASCII, every character as likely as any other.
        UniformAscii = "uniform-ascii",
        /// Base64 of random bytes, in lines of 76.
        Base64 = "base64",
        /// Web pages without content: navigation, lists, forms of the same few parts.
        Markup = "markup",
    }
}

impl JunkKind {
    /// Whether it is made of another source's text.
    pub fn has_material(self) -> bool {
        matches!(self, Self::Repeated | Self::WordsShuffled | Self::CharactersShuffled)
    }
}

/// The sources of a run's rows. A row is of one source as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixSpec {
    /// The sources, in the order of the study's file.
    pub sources: Vec<SourceSpec>,
    /// How much of each is read from when on; the first from the start.
    pub stages: Vec<StageSpec>,
    /// Sources whose held-out text is scored, by index: the first one's loss is that of a point.
    pub held_out: Vec<usize>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Its name in the study.
    pub name: String,
    /// Where its tokens come from.
    pub origin: Origin,
    /// Token ids before each of its rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<u32>,
    /// Only so many of its tokens are read, over and over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_tokens: Option<u64>,
}

/// Where a source's tokens come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// A corpus or token files.
    Tokens {
        /// Hash or fingerprint of the tokens.
        fingerprint: String,
        /// Tokens to train on.
        train_tokens: u64,
        /// Tokens held out; 0 if there are none.
        val_tokens: u64,
    },
    /// Made as it is read.
    Junk {
        /// What it looks like.
        kind: JunkKind,
        /// Index of the source whose text it is made of, where it is made of text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<usize>,
        /// Seed beside the run's.
        seed: u64,
        /// Which passages, of [`JunkKind::Repeated`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passages: Option<Passages>,
    },
}

/// Passages that are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Passages {
    /// Tokens of a passage.
    pub tokens: u64,
    /// How often each is to have been read at the run's end, where the study says that rather than how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<f64>,
    /// How many there are.
    pub count: u64,
}

/// Weights from some step on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// From when on, as the study says it.
    pub from: StageStart,
    /// From which optimiser step on. A share is taken of the run's last point.
    pub from_step: u64,
    /// The sources' weights in whole numbers without a common divisor.
    pub weights: Vec<u64>,
}

/// When a stage begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageStart {
    /// Share of the run's steps.
    Share(f64),
    /// Optimiser steps.
    Steps(u64),
}

impl StageStart {
    /// The step, in a run that ends after `total`.
    pub fn step(self, total: u64) -> u64 {
        match self {
            Self::Share(share) => (share * total as f64).round() as u64,
            Self::Steps(steps) => steps,
        }
    }
}

/// What a run has read of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceSeen {
    /// The source.
    pub name: String,
    /// Tokens of its rows, tags included.
    pub tokens: u64,
    /// Distinct ones among them.
    pub unique_tokens: u64,
    /// Passes over it; 0 for what never repeats.
    pub epochs: f64,
}

/// The held-out loss of a source beside the one a point is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// The source.
    pub name: String,
    /// Nats per token.
    pub loss: f64,
    /// Its standard error, clustered by block.
    pub loss_se: Option<f64>,
    /// Predicted tokens.
    pub tokens: u64,
}

impl MixSpec {
    /// What of the sources determines a run's bits: no names.
    pub(crate) fn sources_identity(&self) -> Value {
        let source = |source: &SourceSpec| {
            let mut value = match &source.origin {
                Origin::Tokens { fingerprint, .. } => json!({ "fingerprint": fingerprint }),
                Origin::Junk { kind, of, seed, passages } => {
                    let mut value = json!({ "junk": kind.word() });
                    let passages = passages.map(|p| json!({ "tokens": p.tokens, "count": p.count }));
                    put(&mut value, "of", of.map(|of| json!(of)));
                    put(&mut value, "seed", (*seed != 0).then(|| json!(seed)));
                    put(&mut value, "passages", passages);
                    value
                }
            };
            put(&mut value, "tag", (!source.tag.is_empty()).then(|| json!(source.tag)));
            put(&mut value, "unique_tokens", source.unique_tokens.map(|unique| json!(unique)));
            value
        };
        Value::Array(self.sources.iter().map(source).collect())
    }

    /// The weights and the steps they hold from.
    pub(crate) fn stages_identity(&self) -> Value {
        let stage = |s: &StageSpec| json!({ "from_step": s.from_step, "weights": s.weights });
        Value::Array(self.stages.iter().map(stage).collect())
    }

    /// Which sources are scored; nothing where it is the first one that can be.
    pub(crate) fn held_out_identity(&self) -> Value {
        let has_text = |s: &SourceSpec| matches!(s.origin, Origin::Tokens { val_tokens: 1.., .. });
        match self.sources.iter().position(has_text) {
            Some(first) if self.held_out == [first] => Value::Null,
            _ => json!(self.held_out),
        }
    }
}

fn put(value: &mut Value, key: &str, what: Option<Value>) {
    if let Some(what) = what {
        value[key] = what;
    }
}

/// Sources in one cell of a table: `prose:6000000:6000000:0.41;noise:…`, name, tokens, distinct tokens, passes.
pub fn sources_cell(sources: &[SourceSeen]) -> Option<String> {
    let one = |s: &SourceSeen| format!("{}:{}:{}:{}", s.name, s.tokens, s.unique_tokens, s.epochs);
    (!sources.is_empty()).then(|| sources.iter().map(one).collect::<Vec<_>>().join(";"))
}

/// Further held-out losses in one cell: `code:1.52:0.01;…`, name, loss, standard error (empty if unknown).
pub fn losses_cell(losses: &[SourceLoss]) -> Option<String> {
    let one = |l: &SourceLoss| {
        let se = l.loss_se.map(|se| se.to_string()).unwrap_or_default();
        format!("{}:{}:{se}", l.name, l.loss)
    };
    (!losses.is_empty()).then(|| losses.iter().map(one).collect::<Vec<_>>().join(";"))
}
