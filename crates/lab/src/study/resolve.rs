//! From the keys of a file to what its runs share: defaults filled in, `auto` decided and its reason kept, everything
//! validated once so that nothing after this checks again.

use super::device::{self, precision, threads};
use super::instruments::instruments;
use super::raw::RawStudy;
use super::{documents, mix, recipe};
use crate::error::UserError;
use crate::gpt;
use crate::machine::Hardware;
use isoflop_base::ModelShape;
use isoflop_base::mix::MixSpec;
use isoflop_base::recipe::*;
use isoflop_base::study::*;
use isoflop_base::units::{parse_count, parse_seconds, parse_share, parse_whole, si, whole};
use isoflop_data::{BinOptions, Corpus, Mixture, TokenDtype, TokenizerKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest β2 under which 8-bit second moments follow changing gradients (`isoflop_kernels::adamw8bit`).
const EIGHT_BIT_BETA2: f64 = 0.95;

/// What the machine offers; none of it is in the file.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the kernel set in use.
    pub kernels: String,
    /// Worker threads when the study does not say how many.
    pub threads: usize,
    /// Whether the engine computes in bf16 under this kernel set.
    pub bf16: bool,
    /// Why f32 is faster all the same, where it is: figures.
    pub bf16_loses: Option<String>,
}

/// Choices made for the user, each with its reason.
#[derive(Debug, Clone, Default)]
pub struct Notes(pub Vec<Resolution>);

impl Notes {
    /// A choice that determines results; `machine`: one that depends on the machine alone and changes no bit.
    pub fn add(&mut self, key: &str, value: impl Into<String>, reason: &str, machine: bool) {
        self.0.push(Resolution {
            key: key.to_owned(),
            value: value.into(),
            reason: reason.to_owned(),
            machine,
        });
    }
}

/// What the runs of a study start from: a kind of study makes runs of it by choosing model, rate, seed and length.
#[derive(Debug, Clone)]
pub struct Base {
    /// The study's name.
    pub name: String,
    /// The tokens.
    pub data: DataSpec,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
    /// Vocabulary V.
    pub vocab: usize,
    /// Context length T.
    pub context: usize,
    /// Initial values.
    pub init: Init,
    /// The recipe; a run sets its own rate, micro-batch and steps of warm-up.
    pub train: TrainSpec,
    /// The micro-batch the study asks for, if it does not leave it to the rule.
    pub micro_batch: Option<usize>,
    /// How runs are run here.
    pub machine: MachineSpec,
    /// The graphics cards that train, if any do.
    pub cards: Option<Hardware>,
    /// Which of the study's arms its runs are of.
    pub arm: Arm,
}

/// What a study's one text is called as a source of its arms.
pub const TEXT: &str = "text";

/// An arm of a study: what its runs share that those of other arms do not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arm {
    /// Part of the names of its runs, e.g. `base64-50`; empty where there are no arms.
    pub label: String,
    /// Value by axis, e.g. `share` → `0.5`.
    pub values: BTreeMap<String, String>,
    /// Times the rate that the study says.
    pub rate: Option<f64>,
    /// Whether steps are divided in two at least, so that the gradient's noise scale can be estimated.
    pub pairs: bool,
}

/// Sequences a step from which dividing it in two leaves each part enough to keep several threads busy.
const PAIRS_FROM: usize = 8;

impl Arm {
    /// An arm of this name with these values by axis.
    pub fn new<const K: usize>(label: impl Into<String>, values: [(&str, String); K]) -> Self {
        let values = values.map(|(axis, value)| (axis.to_owned(), value)).into();
        Self { label: label.into(), values, ..Self::default() }
    }
}

impl Base {
    /// The micro-batch that the cards' memory holds; `None` on a processor.
    fn micro_batch_of_cards(&self, shape: ModelShape, sequences: usize) -> Option<usize> {
        let (vocab, context, init) = (self.vocab, self.context, self.init);
        let config = gpt::config(&GptSpec { shape, vocab, context, init });
        self.cards.as_ref()?.auto_micro_batch(&config, &gpt::train_options(&self.train), sequences)
    }

    /// A run of a model under the study's recipe, finishing points after these optimiser steps (ascending).
    pub fn run(&self, shape: ModelShape, lr: f64, seed: u64, ends: Vec<u64>, role: Role) -> RunSpec {
        let sequences = (self.train.batch_tokens / self.context as u64) as usize;
        let auto = || {
            let most = self
                .micro_batch_of_cards(shape, sequences)
                .unwrap_or_else(|| recipe::auto_micro_batch(shape, self.vocab, self.context, sequences));
            let half = sequences / 2;
            if self.arm.pairs && sequences >= PAIRS_FROM && sequences.is_multiple_of(2) {
                most.min(half)
            } else {
                most
            }
        };
        let total = *ends.last().expect("a run has an end");
        RunSpec {
            id: match self.arm.label.as_str() {
                "" => format!("{}-{shape}-s{seed}", self.name),
                label => format!("{}-{shape}-{label}-s{seed}", self.name),
            },
            seed,
            arm: self.arm.values.clone(),
            role,
            model: ModelSpec::Gpt2(GptSpec {
                shape,
                vocab: self.vocab,
                context: self.context,
                init: self.init,
            }),
            data: self.data.clone(),
            train: TrainSpec {
                lr,
                micro_batch: self.micro_batch.unwrap_or_else(auto),
                warmup_steps: self.train.warmup.steps(total),
                ..self.train.clone()
            },
            ends,
        }
    }
}

/// Opens the corpus a study names. Paths are relative to where the command is run.
pub fn open_corpus(raw: &RawStudy) -> Result<Corpus, UserError> {
    documents::open(raw, open_texts(raw)?)
}

fn open_texts(raw: &RawStudy) -> Result<Corpus, UserError> {
    let options = BinOptions {
        vocab: match raw.parsed("data.vocab", parse_whole)? {
            Some(vocab) => Some(at_most(raw, "data.vocab", vocab, MOST_VOCAB)? as usize),
            None => None,
        },
        bytes_per_token: raw.parsed("data.bytes_per_token", parse_count)?,
        dtype: raw.word("data.dtype", TokenDtype::of_name, &TokenDtype::ALL.map(TokenDtype::name))?,
        ..BinOptions::default()
    };
    if !raw.mix.is_empty() {
        return mix::open(raw, &options);
    }
    let opened = open_one(raw, &options)?;
    // Arms mix it with junk, or read a part of it.
    Ok(if raw.text("kind")?.as_deref() == Some("data") { opened.with_itself_as(TEXT) } else { opened })
}

/// The corpus of a study without a mix.
fn open_one(raw: &RawStudy, options: &BinOptions) -> Result<Corpus, UserError> {
    let (train, val) = (raw.text("data.train")?, raw.text("data.val")?);
    if let Some(dir) = raw.text("data.prepared")? {
        return open_prepared(raw, &dir);
    }
    let opened = match (raw.text("data.corpus")?.as_deref(), train, val, raw.text("data.text")?) {
        (None, None, None, None) => isoflop_data::builtin(),
        (Some(name), None, None, None) if isoflop_data::BUILTIN.contains(&name) => {
            isoflop_data::builtin_named(name).expect("one of them")
        }
        (None, Some(train), Some(val), None) => isoflop_data::from_bin(train.as_ref(), val.as_ref(), options),
        (None, None, None, Some(text)) => isoflop_data::from_text(text.as_ref()),
        (Some(other), None, None, None) => {
            return Err(UserError::new(format!(
                "{}: there is no corpus \"{other}\"",
                raw.place("data.corpus")
            ))
            .hint(
                "write corpus = \"builtin\", or train = \"….bin\" and val = \"….bin\", or text = \"….txt\", or \
                 prepared = \"DIR\"",
            ));
        }
        _ => {
            return Err(UserError::new(format!(
                "{}: [data] names its tokens in more than one way, or only half of them",
                raw.file
            ))
            .hint(
                "write either corpus = \"builtin\", or both train = \"….bin\" and val = \"….bin\", or \
                       text = \"….txt\"",
            ));
        }
    };
    opened.map_err(UserError::from_error)
}

/// Opens what `isoflop prepare` has made; it says itself what other files need said.
fn open_prepared(raw: &RawStudy, dir: &str) -> Result<Corpus, UserError> {
    const OTHERS: [&str; 7] = ["corpus", "train", "val", "text", "dtype", "vocab", "bytes_per_token"];
    let others = OTHERS.map(|key| format!("data.{key}"));
    if let Some(other) = others.iter().find(|key| raw.entries.contains_key(*key)) {
        return Err(UserError::new(format!("{}: does not go with data.prepared", raw.place(other)))
            .hint("leave it out: the directory says what its tokens are"));
    }
    isoflop_data::from_prepared(dir.as_ref()).map_err(UserError::from_error)
}

/// Resolves what all runs of a parsed study share, against its corpus and the machine.
///
/// # Errors
/// A value that is missing, of the wrong type, out of range, or beyond what corpus and machine can do.
pub fn base(
    raw: &RawStudy,
    corpus: &Corpus,
    machine: &Machine,
    notes: &mut Notes,
) -> Result<Base, UserError> {
    let name = study_name(raw)?;
    let (device, cards) = device::device(raw)?;
    let machine = &device::machine_of(cards.as_ref(), machine);
    let context = at_most(raw, "train.context", raw.whole("train.context", 256)?, MOST_CONTEXT)? as usize;
    let train = resolve_train(raw, context, corpus, machine, notes)?;
    corpus.check_context(context).map_err(UserError::from_error)?;
    let sequences = (train.batch_tokens / context as u64) as usize;
    Ok(Base {
        name,
        data: data_spec(raw, corpus, context, train.batch_tokens, notes)?,
        tokenizer: corpus.info.tokenizer.clone(),
        vocab: corpus.info.vocab,
        context,
        init: raw.choice("train.init")?.unwrap_or(Init::Scaled),
        train,
        micro_batch: micro_batch(raw, sequences)?,
        machine: MachineSpec {
            threads: threads(raw, machine, notes)?,
            device,
            checkpoint_every_s: raw.parsed("train.checkpoint_every", parse_seconds)?.unwrap_or(60.0),
            instruments: instruments(raw)?,
        },
        cards,
        arm: Arm::default(),
    })
}

/// The models of a series, smallest first, each once.
///
/// # Errors
/// None, or one that is no model shape.
pub fn models(raw: &RawStudy) -> Result<Vec<ModelShape>, UserError> {
    let mut models = raw.parsed_list("series.models", |t| t.parse::<ModelShape>())?.unwrap_or_default();
    if models.is_empty() {
        return Err(UserError::new(format!("{}: no models to train", raw.place("series.models")))
            .hint("write models = [\"L2-d32-h2\", \"L3-d64-h4\"] under [series]"));
    }
    raw.no_repeats("series.models", &models)?;
    models.sort_by_key(|m| (m.params(), *m));
    Ok(models)
}

/// The name a study gives itself, else its file's.
///
/// # Errors
/// One that cannot name directories.
pub fn study_name(raw: &RawStudy) -> Result<String, UserError> {
    let name = match raw.text("name")? {
        Some(name) => name,
        None => {
            let stem = std::path::Path::new(&raw.file).file_stem();
            stem.map_or_else(|| "study".to_owned(), |s| s.to_string_lossy().into_owned())
        }
    };
    check_name(&name, &raw.place("name"))?;
    Ok(name)
}

/// That a study can be called so.
///
/// # Errors
/// A [`UserError`] at `place`.
pub fn check_name(name: &str, place: &str) -> Result<(), UserError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(fine)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(UserError::new(format!("{place}: \"{name}\" cannot name a study")).hint(
            "use up to 64 letters, digits, `.`, `_`, `-`: runs and their directories are named after it",
        ));
    }
    Ok(())
}

/// Longest context, largest batch and largest vocabulary: beyond what is trained anywhere, and their products with
/// any model's sizes are checked below before they are taken in integers.
const MOST_CONTEXT: u64 = 1 << 20;
const MOST_BATCH_TOKENS: u64 = 1 << 30;
const MOST_VOCAB: u64 = 1 << 31;
/// Most bytes of weights, moments and activations: an exbibyte.
const MOST_BYTES: f64 = (1_u64 << 60) as f64;

fn at_most(raw: &RawStudy, key: &str, value: u64, most: u64) -> Result<u64, UserError> {
    if value <= most {
        return Ok(value);
    }
    Err(UserError::new(format!("{}: {value} is out of range", raw.place(key)))
        .hint(format!("choose at most {most}")))
}

/// That no run overflows what its bytes are counted in: sizes beyond an exbibyte are no study.
///
/// # Errors
/// A [`UserError`] naming the model.
pub fn check_sizes(raw: &RawStudy, runs: &[RunSpec]) -> Result<(), UserError> {
    for run in runs {
        let (gpt, micro_batch) = (run.gpt(), run.train.micro_batch);
        let shape = gpt.shape;
        let [l, d, h] = [shape.n_layer, shape.d_model, shape.n_head].map(|x| x as f64);
        let (vocab, context) = (gpt.vocab as f64, gpt.context as f64);
        let tokens = micro_batch as f64 * context;
        let weights = 12.0 * l * d * d + (vocab + context) * d;
        let activations = tokens * (40.0 * l * d + vocab + l * h * context);
        let bytes = 4.0 * (4.0 * weights + 2.0 * activations);
        if bytes > MOST_BYTES {
            return Err(UserError::new(format!(
                "{}: {shape} with a vocabulary of {vocab} and {micro_batch} sequences of {context} needs \
                 about {bytes:.0e} bytes",
                raw.place("series.models"),
            ))
            .hint("choose a smaller model, a shorter context or a smaller micro_batch"));
        }
    }
    Ok(())
}

/// That every mix can be read as the runs want it.
///
/// # Errors
/// As [`Mixture::new`].
pub fn check_mixes(corpus: &Corpus, runs: &[RunSpec]) -> Result<(), UserError> {
    let mut seen: Vec<(&MixSpec, usize)> = Vec::new();
    for run in runs {
        let Some(mix) = &run.data.mix else { continue };
        let (gpt, this) = (run.gpt(), (mix, run.gpt().context));
        if !seen.contains(&this) {
            let sequences = run.train.batch_tokens / gpt.context as u64;
            Mixture::new(corpus, mix, run.seed, gpt.context, sequences, 0).map_err(UserError::from_error)?;
            seen.push(this);
        }
    }
    Ok(())
}

fn resolve_train(
    raw: &RawStudy,
    context: usize,
    corpus: &Corpus,
    machine: &Machine,
    notes: &mut Notes,
) -> Result<TrainSpec, UserError> {
    let batch_tokens =
        at_most(raw, "train.batch_tokens", raw.whole("train.batch_tokens", 2048)?, MOST_BATCH_TOKENS)?;
    if !batch_tokens.is_multiple_of(context as u64) {
        let near = (batch_tokens / context as u64).max(1) * context as u64;
        return Err(UserError::new(format!(
            "{}: {batch_tokens} tokens are no whole number of sequences of {context}",
            raw.place("train.batch_tokens")
        ))
        .hint(format!("write batch_tokens = {near}")));
    }
    let schedule = raw.choice::<ScheduleKind>("train.schedule")?.unwrap_or(ScheduleKind::Wsd);
    let share = |key: &str, default: f64| -> Result<f64, UserError> {
        Ok(raw.parsed(key, parse_share)?.unwrap_or(default))
    };
    let unit = |v: f64| (0.0..1.0).contains(&v);
    let eval_tokens = eval_tokens(raw, corpus, notes)?;
    let (eval_every, decay) = (share("train.eval_every", 0.05)?, share("train.decay", 0.2)?);
    for (key, value) in [("train.eval_every", eval_every), ("train.decay", decay)] {
        if value <= 0.0 {
            return Err(
                UserError::new(format!("{}: must be above zero", raw.place(key))).hint("write 5% or 0.2")
            );
        }
    }
    let optimizer = raw.choice::<Optimizer>("train.optimizer")?.unwrap_or(Optimizer::AdamW);
    let beta2 = raw.number("train.beta2", 0.95, unit, "0 up to, but not, 1")?;
    if optimizer == Optimizer::AdamW8bit && beta2 > EIGHT_BIT_BETA2 {
        notes.add(
            "train.beta2",
            beta2.to_string(),
            "warning: 8-bit second moments stand still where a step changes them by less than half a code, and lag \
             behind changing gradients; with adamw8bit stay at 0.95 or below",
            false,
        );
    }
    Ok(TrainSpec {
        lr: 0.0,
        batch_tokens,
        branch: None,
        micro_batch: 0,
        precision: precision(raw, machine, notes)?,
        optimizer,
        schedule,
        decay,
        warmup: warmup(raw, batch_tokens)?,
        warmup_steps: 0,
        min_lr: raw.number(
            "train.min_lr",
            0.1,
            |v| (0.0..=1.0).contains(&v),
            "a share of the peak, 0 to 1",
        )?,
        beta1: raw.number("train.beta1", 0.9, unit, "0 up to, but not, 1")?,
        beta2,
        eps: raw.number("train.eps", 1e-8, |v| v > 0.0 && v < 1.0, "a small number above 0, e.g. 1e-8")?,
        weight_decay: raw.number("train.weight_decay", 0.1, |v| (0.0..10.0).contains(&v), "0 to 10")?,
        clip: raw.number("train.clip", 1.0, |v| v > 0.0 && v.is_finite(), "a norm above 0, e.g. 1.0")?,
        recompute: raw.choice::<Recompute>("train.recompute")?.unwrap_or(Recompute::None),
        eval_every,
        eval_tokens,
        curve_tokens: curve_tokens(raw, eval_tokens, notes)?,
        init_from: raw.text("train.init_from")?.map(|path| init_from(Path::new(&path))).transpose()?,
        kernels: machine.kernels.clone(),
    })
}

/// Held-out tokens of a finished point: as many as asked for, or all there are.
fn eval_tokens(raw: &RawStudy, corpus: &Corpus, notes: &mut Notes) -> Result<u64, UserError> {
    let asked = raw.whole("train.eval_tokens", 1_000_000)?;
    let there = corpus.info.val_tokens;
    if asked > there && raw.entries.contains_key("train.eval_tokens") {
        notes.add("train.eval_tokens", si(there as f64), "all there are held out", false);
    }
    Ok(asked.min(there))
}

fn curve_tokens(raw: &RawStudy, eval_tokens: u64, notes: &mut Notes) -> Result<u64, UserError> {
    if raw.quantity("train.curve_tokens")?.is_some() {
        let asked = raw.whole("train.curve_tokens", eval_tokens)?;
        if asked > eval_tokens {
            notes.add("train.curve_tokens", si(eval_tokens as f64), "no more than eval_tokens", false);
        }
        return Ok(asked.min(eval_tokens));
    }
    let auto = (eval_tokens / 16).max(eval_tokens.min(16_384));
    notes.add(
        "train.curve_tokens",
        si(auto as f64),
        "a sixteenth of eval_tokens: the training curve needs no more, finished points get all of them",
        false,
    );
    Ok(auto)
}

/// `5%` of the run's longest point, or an absolute length in tokens.
fn warmup(raw: &RawStudy, batch_tokens: u64) -> Result<Warmup, UserError> {
    let parse = |text: &str| match parse_share(text) {
        Ok(share) => Ok(Warmup::Share(share)),
        Err(e) if text.trim().ends_with('%') => Err(e.to_string()),
        Err(_) => match parse_count(text) {
            Ok(tokens) => whole((tokens / batch_tokens as f64).round()).map(Warmup::Steps).ok_or_else(|| {
                format!("`{text}` is longer than any run\nhint: write a share of the run such as 5%")
            }),
            Err(_) => Err(format!(
                "`{text}` is no length of a warm-up\nhint: write a share of the run such as 5%, or tokens such as 600k"
            )),
        },
    };
    Ok(raw.parsed("train.warmup", parse)?.unwrap_or(Warmup::Share(0.05)))
}

/// A checkpoint to start from, known by its weights rather than by where they lie.
fn init_from(path: &Path) -> Result<InitFrom, UserError> {
    let problem = |e: isoflop_store::StoreError| UserError::new(format!("train.init_from: {e}"));
    let checkpoint = isoflop_store::Checkpoint::open_dir(path).map_err(problem)?;
    let fingerprint = checkpoint.weights_sha256().map_err(problem)?;
    Ok(InitFrom { path: path.to_owned(), fingerprint })
}

/// Sequences per forward and backward, if the study says so.
fn micro_batch(raw: &RawStudy, sequences: usize) -> Result<Option<usize>, UserError> {
    let Some(given) = raw.parsed("train.micro_batch", parse_whole)?.map(|n| n as usize) else {
        return Ok(None);
    };
    if given == 0 || !sequences.is_multiple_of(given) {
        let divisors: Vec<String> = (1..=sequences.min(4096))
            .filter(|n| sequences.is_multiple_of(*n))
            .map(|n| n.to_string())
            .collect();
        return Err(UserError::new(format!(
            "{}: {given} sequences do not divide the batch of {sequences}",
            raw.place("train.micro_batch")
        ))
        .hint(format!("choose one of {}", divisors.join(", "))));
    }
    Ok(Some(given))
}

fn data_spec(
    raw: &RawStudy,
    corpus: &Corpus,
    context: usize,
    batch_tokens: u64,
    notes: &mut Notes,
) -> Result<DataSpec, UserError> {
    let info = &corpus.info;
    let end_of_text = documents::end_of_text(raw, corpus)?;
    Ok(DataSpec {
        corpus: info.name.clone(),
        train: raw.text("data.train")?.map(PathBuf::from),
        val: raw.text("data.val")?.map(PathBuf::from),
        train_tokens: match end_of_text {
            Some(_) if corpus.sources.is_empty() => {
                documents::readable(raw, &*corpus.train, "data.documents", context, notes)?
            }
            _ => info.train_tokens,
        },
        val_tokens: info.val_tokens,
        bytes_per_token: info.bytes_per_token,
        fingerprint: info.sha256.clone(),
        mix: mix::spec(raw, corpus, context, batch_tokens, notes)?,
        end_of_text,
    })
}
