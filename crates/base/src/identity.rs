//! What makes two runs the same: every value that determines a run's bits, and nothing else.
//!
//! No prose, no path, no name: files count by their fingerprints. A value that is the format's default is left out, so
//! that a key added later, with a default, makes no older run unequal. Which points a run finishes is left out too
//! where all come from one trunk: a run asked for a further point is the same run, to be gone on with.

use crate::recipe::ScheduleKind;
use crate::study::{InitFrom, ModelSpec, RunSpec, Warmup};
use crate::{Init, ModelShape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the identity: what its keys are called and mean.
pub const VERSION: u32 = 2;
/// Schema of the document that is stored with a run.
pub const SCHEMA: &str = "isoflop.run/2";
/// The schema before there were identities.
const SCHEMA_1: &str = "isoflop.run/1";

/// What determines a run's bits, by dotted key; values that are defaults of the format are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    version: u32,
    values: BTreeMap<String, Value>,
}

/// A key at which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted key, e.g. `train.lr`.
    pub key: String,
    /// The stored run's value as JSON.
    pub stored: String,
    /// The value asked for.
    pub asked: String,
}

/// A run as it is stored: identity, recipe, and where it belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDocument {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the study it was made for.
    pub study: String,
    /// What determines its bits.
    pub identity: RunIdentity,
    /// The whole recipe, paths and points included.
    pub run: RunSpec,
}

/// Why a stored document is no run that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Another schema.
    #[error(
        "it is of format `{found}`; this version reads {SCHEMA} and {SCHEMA_1}\nhint: go on with the version \
         that wrote it, or use another --store"
    )]
    Schema {
        /// What it says of itself.
        found: String,
    },
    /// Not what its schema says.
    #[error("it cannot be understood: {why}\nhint: move the run's directory away to train it anew")]
    Malformed {
        /// What is wrong.
        why: String,
    },
}

/// Defaults of the format, frozen: a stored identity means these where it has no value. A default of a *study's* keys
/// may change freely; these may not.
fn defaults() -> &'static [(&'static str, Value)] {
    static DEFAULTS: std::sync::OnceLock<Vec<(&str, Value)>> = std::sync::OnceLock::new();
    DEFAULTS.get_or_init(|| {
        vec![
            ("model.family", json!("gpt2")),
            ("model.init", json!("scaled")),
            ("data.bytes_per_token", Value::Null),
            ("data.mix.sources", Value::Null),
            ("data.mix.stages", Value::Null),
            ("data.held_out", Value::Null),
            ("data.end_of_text", Value::Null),
            ("train.optimizer", json!("adamw")),
            ("train.schedule", json!("wsd")),
            ("train.decay", json!(0.2)),
            ("train.min_lr", json!(0.1)),
            ("train.beta1", json!(0.9)),
            ("train.beta2", json!(0.95)),
            ("train.eps", json!(1e-8)),
            ("train.weight_decay", json!(0.1)),
            ("train.clip", json!(1.0)),
            ("train.recompute", json!("none")),
            ("train.branch", Value::Null),
            ("train.init_from", Value::Null),
            ("train.total_steps", Value::Null),
        ]
    })
}

fn default_of(key: &str) -> Option<&'static Value> {
    defaults().iter().find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The values of nested fields by dotted key; a field that is `null` is left out.
fn flat(key: &str, value: &Value, put: &mut impl FnMut(&str, Value)) {
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, v)| flat(&format!("{key}.{name}"), v, put)),
        other => put(key, other.clone()),
    }
}

/// Numbers by value, all else as it is.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

impl RunIdentity {
    /// The identity of a run under this version.
    pub fn of(run: &RunSpec) -> Self {
        let (train, data) = (&run.train, &run.data);
        let mut values = BTreeMap::new();
        let mut put = |key: &str, value: Value| {
            if default_of(key).is_none_or(|default| !equal(default, &value)) {
                values.insert(key.to_owned(), value);
            }
        };
        match &run.model {
            ModelSpec::Gpt2(gpt) => {
                put("model.family", json!("gpt2"));
                put("model.shape", json!(gpt.shape.to_string()));
                put("model.vocab", json!(gpt.vocab));
                put("model.context", json!(gpt.context));
                put("model.init", json!(gpt.init.word()));
            }
            ModelSpec::FewShot(spec) => {
                put("model.family", json!("fewshot"));
                let fields = serde_json::to_value(spec).expect("plain data");
                flat("model", &fields, &mut put);
            }
            ModelSpec::Other { name, params } => {
                put("model.family", json!(name));
                put("model.params", json!(params));
            }
        }
        put("data.fingerprint", json!(data.fingerprint));
        put("data.bytes_per_token", json!(data.bytes_per_token));
        put("data.end_of_text", json!(data.end_of_text));
        if let Some(mix) = &data.mix {
            put("data.mix.sources", mix.sources_identity());
            put("data.mix.stages", mix.stages_identity());
            put("data.held_out", mix.held_out_identity());
        }
        put("seed", json!(run.seed));
        put("train.lr", json!(train.lr));
        put("train.batch_tokens", json!(train.batch_tokens));
        put("train.branch", json!(train.branch));
        put("train.micro_batch", json!(train.micro_batch));
        put("train.precision", json!(train.precision.word()));
        put("train.optimizer", json!(train.optimizer.word()));
        put("train.schedule", json!(train.schedule.word()));
        put("train.decay", json!(train.decay));
        put("train.warmup", json!(train.warmup));
        put("train.min_lr", json!(train.min_lr));
        put("train.beta1", json!(train.beta1));
        put("train.beta2", json!(train.beta2));
        put("train.eps", json!(train.eps));
        put("train.weight_decay", json!(train.weight_decay));
        put("train.clip", json!(train.clip));
        put("train.recompute", json!(train.recompute.word()));
        put("train.eval_every", json!(train.eval_every));
        put("train.eval_tokens", json!(train.eval_tokens));
        put("train.curve_tokens", json!(train.curve_tokens));
        put("train.init_from", json!(train.init_from.as_ref().map(|from| &from.fingerprint)));
        put("train.kernels", json!(train.kernels));
        // A cosine ends where it was told to; a WSD trunk can be gone on with.
        let one_end = train.schedule != ScheduleKind::Wsd;
        put("train.total_steps", if one_end { json!(run.end()) } else { Value::Null });
        Self { version: VERSION, values }
    }

    /// Keys at which this run, stored, differs from one that is asked for.
    pub fn differences(&self, asked: &Self) -> Vec<Difference> {
        let keys: BTreeSet<&String> = self.values.keys().chain(asked.values.keys()).collect();
        let value = |of: &Self, key: &str| of.values.get(key).or(default_of(key)).cloned();
        let words = |v: Option<Value>| v.map_or_else(|| "nothing".to_owned(), |v| v.to_string());
        keys.into_iter()
            .filter_map(|key| {
                let (stored, asked) = (value(self, key), value(asked, key));
                let same = match (&stored, &asked) {
                    (Some(a), Some(b)) => equal(a, b),
                    (a, b) => a == b,
                };
                (!same).then(|| Difference { key: key.clone(), stored: words(stored), asked: words(asked) })
            })
            .collect()
    }
}

impl RunDocument {
    /// The document of a run of a study.
    pub fn new(study: &str, run: &RunSpec) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            study: study.to_owned(),
            identity: RunIdentity::of(run),
            run: run.clone(),
        }
    }

    /// The document of this stored run once it is asked for again: recipe and paths as asked, the warm-up it began
    /// with, and all points it was ever asked for.
    ///
    /// # Errors
    /// The keys at which the two are not the same run.
    pub fn gone_on_with(&self, asked: &Self) -> Result<Self, Vec<Difference>> {
        let differences = self.identity.differences(&asked.identity);
        if !differences.is_empty() {
            return Err(differences);
        }
        let mut document = asked.clone();
        document.run.train.warmup_steps = self.run.train.warmup_steps;
        document.run.ends.extend(&self.run.ends);
        document.run.ends.sort_unstable();
        document.run.ends.dedup();
        Ok(document)
    }

    /// Reads what is stored with a run, of this format or the one before.
    ///
    /// # Errors
    /// [`DocumentError`]: another format, or not what its format says.
    pub fn read(stored: &Value) -> Result<Self, DocumentError> {
        match stored.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {
                let document: Self = serde_json::from_value(stored.clone())
                    .map_err(|e| DocumentError::Malformed { why: e.to_string() })?;
                match document.identity.version {
                    VERSION => Ok(document),
                    other => Err(DocumentError::Schema { found: format!("{SCHEMA}, identity {other}") }),
                }
            }
            Some(SCHEMA_1) => first_format(stored)
                .map(|(study, run)| Self::new(&study, &run))
                .map_err(|why| DocumentError::Malformed { why }),
            other => Err(DocumentError::Schema { found: other.unwrap_or("none").to_owned() }),
        }
    }
}

/// A run of `isoflop.run/1`: data and recipe stood beside the run, with the reasons of each choice, and a warm-up was
/// always a share of the run's end.
fn first_format(stored: &Value) -> Result<(String, RunSpec), String> {
    let part = |key: &str| {
        stored.get(key).and_then(Value::as_object).cloned().ok_or_else(|| format!("`{key}` is missing"))
    };
    let (mut train, mut data, old) = (part("train")?, part("data")?, part("run")?);
    fn take<T: for<'a> Deserialize<'a>>(from: &mut Map<String, Value>, key: &str) -> Result<T, String> {
        serde_json::from_value(from.remove(key).unwrap_or(Value::Null)).map_err(|e| format!("`{key}`: {e}"))
    }
    let mut old = old;
    let ends: Vec<u64> = take(&mut old, "ends")?;
    let total = *ends.last().ok_or("`ends` is empty")?;
    let (warmup, extra): (f64, bool) = (take(&mut train, "warmup")?, take(&mut old, "extra_seed")?);
    let gpt = crate::study::GptSpec {
        shape: take::<ModelShape>(&mut old, "shape")?,
        vocab: take(&mut data, "vocab")?,
        context: take(&mut train, "context")?,
        init: take::<Init>(&mut train, "init")?,
    };
    // The checkpoint's weights were not fingerprinted, so nothing can be shown to equal it.
    let from: Option<std::path::PathBuf> = take(&mut train, "init_from")?;
    let from =
        from.map(|path| InitFrom { fingerprint: format!("not recorded, it was {}", path.display()), path });
    let warmup = Warmup::Share(warmup);
    train.insert("lr".to_owned(), old.remove("lr").unwrap_or(Value::Null));
    train.insert("warmup".to_owned(), json!(warmup));
    train.insert("warmup_steps".to_owned(), json!(warmup.steps(total)));
    train.insert("init_from".to_owned(), json!(from));
    let run = json!({
        "id": old.remove("id"),
        "seed": old.remove("seed"),
        "role": if extra { "seed-spread" } else { "series" },
        "model": ModelSpec::Gpt2(gpt),
        "data": data,
        "train": train,
        "ends": ends,
    });
    let study = stored.get("study").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((study, serde_json::from_value(run).map_err(|e| e.to_string())?))
}

#[cfg(test)]
mod tests;
