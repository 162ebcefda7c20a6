//! From the keys of a file to a resolved study: defaults filled in, `auto` decided and its reason kept, everything
//! validated once so that nothing after this checks again.

use super::raw::RawStudy;
use super::{claims, recipe, series};
use crate::error::UserError;
use isoflop_base::ModelShape;
use isoflop_base::recipe::*;
use isoflop_base::study::*;
use isoflop_base::units::{parse_count, parse_seconds, parse_share, parse_whole, si};
use isoflop_data::{BinOptions, Corpus, TokenDtype};
use std::path::PathBuf;

/// The largest β2 under which 8-bit second moments follow changing gradients (`isoflop_kernels::adamw8bit`).
const EIGHT_BIT_BETA2: f64 = 0.95;

/// What the machine offers; none of it is in the file.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the kernel set in use.
    pub kernels: String,
    /// Worker threads when the study says `auto`, and why that many.
    pub threads: usize,
    /// Whether the engine computes in bf16 under this kernel set.
    pub bf16: bool,
}

/// Exact training FLOPs per token of a shape (vocabulary, context), for isoFLOP series.
pub type FlopsPerToken = fn(ModelShape, usize, usize) -> f64;

/// Opens the corpus a study names. Paths are relative to where the command is run.
pub fn open_corpus(raw: &RawStudy) -> Result<Corpus, UserError> {
    let options = BinOptions {
        vocab: raw.parsed("data.vocab", parse_whole)?.map(|v| v as usize),
        bytes_per_token: raw.parsed("data.bytes_per_token", parse_count)?,
        dtype: word(raw, "data.dtype", dtype_from_word, &["u16", "u32"])?,
        ..BinOptions::default()
    };
    let (train, val) = (raw.text("data.train")?, raw.text("data.val")?);
    let opened = match (raw.text("data.corpus")?.as_deref(), train, val, raw.text("data.text")?) {
        (Some("builtin"), None, None, None) | (None, None, None, None) => isoflop_data::builtin(),
        (None, Some(train), Some(val), None) => {
            isoflop_data::from_bin(train.as_ref(), val.as_ref(), &options)
        }
        (None, None, None, Some(text)) => isoflop_data::from_text(text.as_ref()),
        (Some(other), None, None, None) => {
            return Err(UserError::new(format!(
                "{}: there is no corpus \"{other}\"",
                raw.place("data.corpus")
            ))
            .hint(
                "write corpus = \"builtin\", or train = \"….bin\" and val = \"….bin\", or text = \"….txt\"",
            ));
        }
        _ => {
            return Err(UserError::new(format!("{}: [data] names its tokens in more than one way, or only half of them", raw.file))
                .hint("write either corpus = \"builtin\", or both train = \"….bin\" and val = \"….bin\", or text = \"….txt\""));
        }
    };
    opened.map_err(UserError::from_error)
}

fn dtype_from_word(word: &str) -> Option<TokenDtype> {
    [TokenDtype::U16, TokenDtype::U32].into_iter().find(|d| d.name() == word)
}

/// Resolves a parsed study against its corpus and the machine.
pub fn resolve(
    raw: &RawStudy,
    corpus: &Corpus,
    machine: &Machine,
    flops_per_token: FlopsPerToken,
) -> Result<Study, UserError> {
    let mut notes = Vec::new();
    let name = study_name(raw)?;
    let kind = choice::<StudyKind>(raw, "kind")?.unwrap_or(StudyKind::Scaling);
    let models = raw.parsed_list("series.models", |t| t.parse::<ModelShape>())?.unwrap_or_default();
    if models.is_empty() {
        return Err(UserError::new(format!("{}: no models to train", raw.place("series.models")))
            .hint("write models = [\"L2-d32-h2\", \"L3-d64-h4\"] under [series]"));
    }
    let train = resolve_train(raw, &models, corpus, machine, &mut notes)?;
    corpus.check_context(train.context).map_err(UserError::from_error)?;
    let data = data_spec(raw, corpus)?;
    let mut study =
        Study { name, kind, data, train, runs: Vec::new(), claims: claims::claims(raw)?, resolutions: notes };
    study.runs = series::runs(raw, &mut study, &models, flops_per_token)?;
    Ok(study)
}

fn study_name(raw: &RawStudy) -> Result<String, UserError> {
    let name = match raw.text("name")? {
        Some(name) => name,
        None => {
            let stem = std::path::Path::new(&raw.file).file_stem();
            stem.map_or_else(|| "study".to_owned(), |s| s.to_string_lossy().into_owned())
        }
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(fine)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(UserError::new(format!("{}: \"{name}\" cannot name a study", raw.place("name"))).hint(
            "use up to 64 letters, digits, `.`, `_`, `-`: runs and their directories are named after it",
        ));
    }
    Ok(name)
}

/// One of a fixed set of words.
fn word<T>(
    raw: &RawStudy,
    key: &str,
    parse: fn(&str) -> Option<T>,
    words: &[&str],
) -> Result<Option<T>, UserError> {
    let Some(text) = raw.text(key)? else { return Ok(None) };
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(UserError::new(format!("{}: \"{text}\" is not one of them", raw.place(key)))
            .hint(format!("write one of: {}", words.join(", ")))),
    }
}

/// One of a choice's words.
fn choice<T: Word>(raw: &RawStudy, key: &str) -> Result<Option<T>, UserError> {
    word(raw, key, T::from_word, T::WORDS)
}

/// A number inside a range.
pub(super) fn number(
    raw: &RawStudy,
    key: &str,
    default: f64,
    ok: fn(f64) -> bool,
    range: &str,
) -> Result<f64, UserError> {
    let parse = |t: &str| {
        t.parse::<f64>()
            .map_err(|_| format!("`{t}` is not a number\nhint: write a number such as 0.1 or 1e-3"))
    };
    let value = raw.parsed(key, parse)?.unwrap_or(default);
    if ok(value) {
        Ok(value)
    } else {
        Err(UserError::new(format!("{}: {value} is out of range", raw.place(key)))
            .hint(format!("choose {range}")))
    }
}

fn whole(raw: &RawStudy, key: &str, default: u64) -> Result<u64, UserError> {
    match raw.parsed(key, parse_whole)?.unwrap_or(default) {
        0 => Err(UserError::new(format!("{}: must be at least 1", raw.place(key)))
            .hint(format!("leave it out for {default}"))),
        value => Ok(value),
    }
}

pub(super) fn note(
    notes: &mut Vec<Resolution>,
    key: &str,
    value: impl Into<String>,
    reason: &str,
    machine: bool,
) {
    notes.push(Resolution { key: key.to_owned(), value: value.into(), reason: reason.to_owned(), machine });
}

fn resolve_train(
    raw: &RawStudy,
    models: &[ModelShape],
    corpus: &Corpus,
    machine: &Machine,
    notes: &mut Vec<Resolution>,
) -> Result<TrainSpec, UserError> {
    let context = whole(raw, "train.context", 256)? as usize;
    let batch_tokens = whole(raw, "train.batch_tokens", 2048)?;
    if !batch_tokens.is_multiple_of(context as u64) {
        let near = (batch_tokens / context as u64).max(1) * context as u64;
        return Err(UserError::new(format!(
            "{}: {batch_tokens} tokens are no whole number of sequences of {context}",
            raw.place("train.batch_tokens")
        ))
        .hint(format!("write batch_tokens = {near}")));
    }
    let sequences = (batch_tokens / context as u64) as usize;
    let schedule = choice::<ScheduleKind>(raw, "train.schedule")?.unwrap_or(ScheduleKind::Wsd);
    let share = |key: &str, default: f64| -> Result<f64, UserError> {
        Ok(raw.parsed(key, parse_share)?.unwrap_or(default))
    };
    let unit = |v: f64| (0.0..1.0).contains(&v);
    let eval_tokens = whole(raw, "train.eval_tokens", 1_000_000)?.min(corpus.info.val_tokens);
    let (eval_every, decay) = (share("train.eval_every", 0.05)?, share("train.decay", 0.2)?);
    for (key, value) in [("train.eval_every", eval_every), ("train.decay", decay)] {
        if value <= 0.0 {
            return Err(
                UserError::new(format!("{}: must be above zero", raw.place(key))).hint("write 5% or 0.2")
            );
        }
    }
    let optimizer = choice::<Optimizer>(raw, "train.optimizer")?.unwrap_or(Optimizer::AdamW);
    let beta2 = number(raw, "train.beta2", 0.95, unit, "0 up to, but not, 1")?;
    if optimizer == Optimizer::AdamW8bit && beta2 > EIGHT_BIT_BETA2 {
        note(
            notes,
            "train.beta2",
            beta2.to_string(),
            "warning: 8-bit second moments stand still where a step changes them by less than half a code, and lag \
             behind changing gradients; with adamw8bit stay at 0.95 or below",
            false,
        );
    }
    Ok(TrainSpec {
        context,
        batch_tokens,
        micro_batch: micro_batch(raw, models, corpus.info.vocab, context, sequences, notes)?,
        precision: precision(raw, machine, notes)?,
        optimizer,
        init: choice::<Init>(raw, "train.init")?.unwrap_or(Init::Scaled),
        schedule,
        decay,
        warmup: share("train.warmup", 0.05)?,
        min_lr: number(
            raw,
            "train.min_lr",
            0.1,
            |v| (0.0..=1.0).contains(&v),
            "a share of the peak, 0 to 1",
        )?,
        beta1: number(raw, "train.beta1", 0.9, unit, "0 up to, but not, 1")?,
        beta2,
        eps: number(raw, "train.eps", 1e-8, |v| v > 0.0 && v < 1.0, "a small number above 0, e.g. 1e-8")?,
        weight_decay: number(raw, "train.weight_decay", 0.1, |v| (0.0..10.0).contains(&v), "0 to 10")?,
        clip: number(raw, "train.clip", 1.0, |v| v > 0.0 && v.is_finite(), "a norm above 0, e.g. 1.0")?,
        recompute: choice::<Recompute>(raw, "train.recompute")?.unwrap_or(Recompute::None),
        eval_every,
        eval_tokens,
        curve_tokens: curve_tokens(raw, eval_tokens, notes)?,
        init_from: raw.text("train.init_from")?.map(PathBuf::from),
        threads: threads(raw, machine, notes)?,
        checkpoint_every_s: raw.parsed("train.checkpoint_every", parse_seconds)?.unwrap_or(60.0),
        kernels: machine.kernels.clone(),
    })
}

fn curve_tokens(raw: &RawStudy, eval_tokens: u64, notes: &mut Vec<Resolution>) -> Result<u64, UserError> {
    if let Some(given) = raw.parsed("train.curve_tokens", parse_whole)? {
        return Ok(given.clamp(1, eval_tokens));
    }
    let auto = (eval_tokens / 16).max(eval_tokens.min(16_384));
    note(
        notes,
        "train.curve_tokens",
        si(auto as f64),
        "a sixteenth of eval_tokens: the training curve needs no more, finished points get all of them",
        false,
    );
    Ok(auto)
}

fn micro_batch(
    raw: &RawStudy,
    models: &[ModelShape],
    vocab: usize,
    context: usize,
    sequences: usize,
    notes: &mut Vec<Resolution>,
) -> Result<usize, UserError> {
    if let Some(given) = raw.parsed("train.micro_batch", parse_whole)? {
        let given = given as usize;
        if given == 0 || !sequences.is_multiple_of(given) {
            let divisors: Vec<String> =
                (1..=sequences).filter(|n| sequences.is_multiple_of(*n)).map(|n| n.to_string()).collect();
            return Err(UserError::new(format!(
                "{}: {given} sequences do not divide the batch of {sequences}",
                raw.place("train.micro_batch")
            ))
            .hint(format!("choose one of {}", divisors.join(", "))));
        }
        return Ok(given);
    }
    let smallest =
        models.iter().map(|m| recipe::auto_micro_batch(*m, vocab, context, sequences)).min().unwrap_or(1);
    note(
        notes,
        "train.micro_batch",
        format!("{smallest} sequences"),
        "the most whose activations stay under 1 GiB for every size, so that all sizes sum in the same order",
        false,
    );
    Ok(smallest)
}

fn precision(raw: &RawStudy, machine: &Machine, notes: &mut Vec<Resolution>) -> Result<Precision, UserError> {
    let text = raw.text("train.precision")?.unwrap_or_else(|| "auto".to_owned());
    match text.as_str() {
        "auto" => {
            let (value, reason) = if machine.bf16 {
                (Precision::Bf16, "the engine computes in bf16 under this kernel set")
            } else {
                (Precision::F32, "the engine computes in f32 under this kernel set")
            };
            note(notes, "train.precision", value.word(), reason, false);
            Ok(value)
        }
        "f32" => Ok(Precision::F32),
        "bf16" if machine.bf16 => Ok(Precision::Bf16),
        "bf16" => Err(UserError::new(format!(
            "{}: bf16 is not computed under kernel set `{}`, and never emulated silently",
            raw.place("train.precision"),
            machine.kernels
        ))
        .hint(
            "write precision = \"auto\" or \"f32\"; `isoflop doctor` lists the kernel sets of this machine",
        )),
        "fp16" => Err(UserError::new(format!(
            "{}: fp16 is not computed on a processor, and never emulated silently",
            raw.place("train.precision")
        ))
        .hint("write precision = \"auto\", \"f32\" or \"bf16\"")),
        other => {
            Err(UserError::new(format!("{}: \"{other}\" is no precision", raw.place("train.precision")))
                .hint("write auto, f32, bf16 or fp16"))
        }
    }
}

fn threads(raw: &RawStudy, machine: &Machine, notes: &mut Vec<Resolution>) -> Result<usize, UserError> {
    match raw.parsed("train.threads", parse_whole)? {
        Some(n) if (1..=1024).contains(&n) => Ok(n as usize),
        Some(n) => Err(UserError::new(format!("{}: {n} is out of range", raw.place("train.threads")))
            .hint("choose 1 to 1024")),
        None => {
            let reason = "one per processor core this process may use";
            note(notes, "train.threads", machine.threads.to_string(), reason, true);
            Ok(machine.threads)
        }
    }
}

fn data_spec(raw: &RawStudy, corpus: &Corpus) -> Result<DataSpec, UserError> {
    let info = &corpus.info;
    Ok(DataSpec {
        corpus: info.name.clone(),
        train: raw.text("data.train")?.map(PathBuf::from),
        val: raw.text("data.val")?.map(PathBuf::from),
        vocab: info.vocab,
        train_tokens: info.train_tokens,
        val_tokens: info.val_tokens,
        bytes_per_token: info.bytes_per_token,
        fingerprint: info.sha256.clone(),
    })
}
