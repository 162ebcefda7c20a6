//! `[data.mix]`: named sources with weights. From the study's keys to opened texts, and to what a run's recipe has of
//! them.

use super::documents;
use super::raw::RawStudy;
use super::resolve::Notes;
use crate::error::UserError;
use isoflop_base::JunkKind;
use isoflop_base::mix::{MixSpec, Origin, Passages, SourceSpec, StageSpec, StageStart};
use isoflop_base::study::RunSpec;
use isoflop_base::units::{parse_count, parse_share, parse_whole, percent, si, whole};
use isoflop_data::corpus::{self, CorpusSource};
use isoflop_data::junk::known_tokenizer;
use isoflop_data::mix::{Assignment, MOST_SOURCES, stages};
use isoflop_data::{BinOptions, Corpus, CorpusInfo, TokenizerKind};
use std::path::Path;

/// Weights are whole multiples of one over this.
pub(super) const WEIGHT_UNITS: f64 = 1e6;
/// Tokens of a repeated passage where the study does not say: about 4 kB of bytes.
pub(super) const PASSAGE_TOKENS: u64 = 4096;
/// Keys of a source that say where its tokens come from; it has one of them.
const ORIGINS: [&str; 5] = ["corpus", "train", "text", "prepared", "junk"];

/// `data.mix.<name>.<key>`.
fn key(name: &str, key: &str) -> String {
    format!("data.mix.{name}.{key}")
}

/// Where a source is written, for messages.
fn place(raw: &RawStudy, name: &str) -> String {
    let keys = ORIGINS.iter().chain(&["weight"]).map(|k| key(name, k));
    keys.into_iter()
        .find(|k| raw.entries.contains_key(k))
        .map_or_else(|| format!("{}: [data.mix] {name}", raw.file), |k| raw.place(&k))
}

fn origin(raw: &RawStudy, name: &str) -> Result<&'static str, UserError> {
    let given: Vec<&str> = ORIGINS.into_iter().filter(|k| raw.entries.contains_key(&key(name, k))).collect();
    match given[..] {
        [one] => Ok(one),
        [] => Err(UserError::new(format!("{}: the source `{name}` has no text", place(raw, name))).hint(
            "give it corpus = \"builtin\", train = \"….bin\" (and val), text = \"….txt\", or junk = \"…\"",
        )),
        _ => Err(UserError::new(format!("{}: {} exclude each other", place(raw, name), given.join(", ")))
            .hint("a source has one text: name several sources")),
    }
}

/// Opens the texts of a mix.
///
/// # Errors
/// A text that cannot be read, texts that do not go together, nothing that could be scored.
pub(super) fn open(raw: &RawStudy, options: &BinOptions) -> Result<Corpus, UserError> {
    if let Some(also) = ["data.corpus", "data.train", "data.val", "data.text", "data.prepared"]
        .into_iter()
        .find(|k| raw.entries.contains_key(*k))
    {
        return Err(UserError::new(format!("{}: stands beside [data.mix]", raw.place(also)))
            .hint("name it as a source of [data.mix], with a weight"));
    }
    if raw.mix.len() > MOST_SOURCES {
        return Err(UserError::new(format!("{}: a mix has at most {MOST_SOURCES} sources", raw.file)));
    }
    let mut sources = Vec::new();
    for name in &raw.mix {
        if let Some(source) = open_one(raw, name, options)? {
            sources.push(source);
        }
    }
    if sources.is_empty() {
        return Err(UserError::new(format!("{}: [data.mix] has no text but junk", raw.file))
            .hint("name a source to be learnt, e.g. clean = { corpus = \"builtin\", weight = 0.5 }"));
    }
    let scored = match held_out_names(raw)?.first() {
        None => sources.iter().position(|s| s.val.is_some()).unwrap_or(0),
        Some(name) => sources.iter().position(|s| s.name == *name).ok_or_else(|| no_such(raw, name))?,
    };
    corpus::of_several(sources, scored).map_err(UserError::from_error)
}

fn open_one(raw: &RawStudy, name: &str, options: &BinOptions) -> Result<Option<CorpusSource>, UserError> {
    let text = |k: &str| raw.text(&key(name, k));
    let val = text("val")?;
    let kind = origin(raw, name)?;
    if val.is_some() && kind != "train" {
        return Err(UserError::new(format!("{}: only beside train", raw.place(&key(name, "val"))))
            .hint("a text or a corpus holds a part of itself out"));
    }
    let found = text(kind)?.unwrap_or_default();
    let opened = match (kind, val) {
        ("corpus", _) if isoflop_data::BUILTIN.contains(&found.as_str()) => {
            isoflop_data::builtin_named(&found).expect("one of them")
        }
        ("corpus", _) => {
            return Err(UserError::new(format!("{}: there is no corpus \"{found}\"", place(raw, name)))
                .hint("write corpus = \"builtin\", \"builtin-verse\" or \"builtin-prose\", or name files with train or text"));
        }
        ("text", _) => isoflop_data::from_text(Path::new(&found)),
        ("prepared", _) => isoflop_data::from_prepared(Path::new(&found)),
        ("train", Some(val)) => isoflop_data::from_bin(Path::new(&found), Path::new(&val), options),
        ("train", None) => {
            let source = CorpusSource::from_bin(name, Path::new(&found), options);
            return source.map(Some).map_err(UserError::from_error);
        }
        _ => return Ok(None),
    };
    opened.map(|corpus| Some(CorpusSource::new(name, corpus))).map_err(UserError::from_error)
}

fn held_out_names(raw: &RawStudy) -> Result<Vec<String>, UserError> {
    let names = match raw.entries.get("data.held_out").map(|e| &e.value) {
        None => return Ok(Vec::new()),
        Some(toml::Value::String(one)) => vec![one.clone()],
        Some(_) => {
            raw.parsed_list("data.held_out", |t| Ok::<_, UserError>(t.to_owned()))?.unwrap_or_default()
        }
    };
    raw.no_repeats("data.held_out", &names)?;
    Ok(names)
}

fn no_such(raw: &RawStudy, name: &str) -> UserError {
    let junk = raw.mix.iter().any(|known| known == name);
    let what = if junk { "is junk, of which nothing is held out" } else { "is no source of [data.mix]" };
    UserError::new(format!("{}: `{name}` {what}", raw.place("data.held_out")))
        .hint(format!("sources: {}", raw.mix.join(", ")))
}

/// The mix of a study, if it has one; what depends on a run's length is for [`settle`].
///
/// # Errors
/// Weights, tags, passages or names that make no sense.
pub(super) fn spec(
    raw: &RawStudy,
    corpus: &Corpus,
    context: usize,
    batch_tokens: u64,
    notes: &mut Notes,
) -> Result<Option<MixSpec>, UserError> {
    if raw.mix.is_empty() {
        for key in ["data.held_out", "data.stages"] {
            if raw.entries.contains_key(key) {
                return Err(UserError::new(format!("{}: without [data.mix]", raw.place(key)))
                    .hint("name sources under [data.mix]"));
            }
        }
        return Ok(None);
    }
    let sources = raw
        .mix
        .iter()
        .map(|name| source(raw, corpus, name, context, notes))
        .collect::<Result<Vec<_>, _>>()?;
    let index =
        |name: &String| raw.mix.iter().position(|n| n == name).filter(|i| val_tokens(&sources[*i]) > 0);
    let mut held_out = Vec::new();
    for name in held_out_names(raw)? {
        held_out.push(index(&name).ok_or_else(|| no_such(raw, &name))?);
    }
    if held_out.is_empty() {
        held_out.extend(sources.iter().position(|s| val_tokens(s) > 0));
    }
    Ok(Some(MixSpec { stages: weights(raw, batch_tokens)?, sources, held_out }))
}

fn val_tokens(source: &SourceSpec) -> u64 {
    match source.origin {
        Origin::Tokens { val_tokens, .. } => val_tokens,
        Origin::Junk { .. } => 0,
    }
}

fn source(
    raw: &RawStudy,
    corpus: &Corpus,
    name: &str,
    context: usize,
    notes: &mut Notes,
) -> Result<SourceSpec, UserError> {
    let tag = tag(raw, corpus, name)?;
    let origin = match corpus.sources.iter().find(|s| s.name == name) {
        Some(CorpusSource { info, train, .. }) => {
            for of_junk in ["of", "seed", "copies", "passages", "passage_tokens"] {
                if raw.entries.contains_key(&key(name, of_junk)) {
                    return Err(UserError::new(format!(
                        "{}: only beside junk",
                        raw.place(&key(name, of_junk))
                    )));
                }
            }
            let CorpusInfo { val_tokens, sha256, .. } = info;
            // A tag that fills a row is refused where rows are made.
            let content = context.saturating_sub(tag.len()).max(1);
            Origin::Tokens {
                fingerprint: sha256.clone(),
                train_tokens: documents::readable(raw, &**train, &key(name, "documents"), content, notes)?,
                val_tokens: *val_tokens,
            }
        }
        None => junk(raw, corpus, name)?,
    };
    let unique_tokens = raw.parsed(&key(name, "unique_tokens"), parse_count)?.map(|tokens| tokens as u64);
    if unique_tokens.is_some() && matches!(origin, Origin::Junk { .. }) {
        return Err(UserError::new(format!("{}: junk never ends", raw.place(&key(name, "unique_tokens"))))
            .hint("for text that repeats, write junk = \"repeated\" with passages or copies"));
    }
    Ok(SourceSpec { name: name.to_owned(), origin, tag, unique_tokens })
}

fn junk(raw: &RawStudy, corpus: &Corpus, name: &str) -> Result<Origin, UserError> {
    let kind = raw.choice::<JunkKind>(&key(name, "junk"))?.expect("a source without a text is junk");
    let of_key = key(name, "of");
    let of = match (kind.has_material(), raw.text(&of_key)?) {
        (false, None) => None,
        (false, Some(_)) => {
            return Err(UserError::new(format!(
                "{}: {} is made of no text",
                raw.place(&of_key),
                kind.word()
            )));
        }
        (true, named) => {
            let named = named.unwrap_or_else(|| corpus.sources[0].name.clone());
            let is_text = corpus.sources.iter().any(|s| s.name == named);
            let index = raw.mix.iter().position(|n| *n == named).filter(|_| is_text);
            Some(index.ok_or_else(|| {
                let texts: Vec<&str> = corpus.sources.iter().map(|s| s.name.as_str()).collect();
                UserError::new(format!("{}: `{named}` is no text of [data.mix]", raw.place(&of_key)))
                    .hint(format!("texts: {}", texts.join(", ")))
            })?)
        }
    };
    let seed = raw.parsed(&key(name, "seed"), parse_whole)?.unwrap_or(0);
    Ok(Origin::Junk { kind, of, seed, passages: passages(raw, kind, name)? })
}

fn passages(raw: &RawStudy, kind: JunkKind, name: &str) -> Result<Option<Passages>, UserError> {
    let [copies_key, count_key, tokens_key] = ["copies", "passages", "passage_tokens"].map(|k| key(name, k));
    if kind != JunkKind::Repeated {
        return match [&copies_key, &count_key, &tokens_key].into_iter().find(|k| raw.entries.contains_key(*k))
        {
            None => Ok(None),
            Some(k) => Err(UserError::new(format!("{}: only of junk = \"repeated\"", raw.place(k)))),
        };
    }
    let copies = raw.parsed(&copies_key, parse_count)?;
    if let Some(few) = copies.filter(|copies| !(1.0..=1e15).contains(copies)) {
        return Err(UserError::new(format!("{}: {few} copies of a passage", raw.place(&copies_key)))
            .hint("write copies = 8, at least 1"));
    }
    if copies.is_some() && raw.entries.contains_key(&count_key) {
        return Err(UserError::new(format!(
            "{}: copies say how many passages there are",
            raw.place(&count_key)
        ))
        .hint("keep one of copies and passages"));
    }
    let (tokens, count) = (raw.whole(&tokens_key, PASSAGE_TOKENS)?, raw.whole(&count_key, 1)?);
    Ok(Some(Passages { tokens, copies, count }))
}

/// A text before every row of a source, or its ids where the tokeniser is not known.
fn tag(raw: &RawStudy, corpus: &Corpus, name: &str) -> Result<Vec<u32>, UserError> {
    let key = key(name, "tag");
    let ids = match raw.entries.get(&key).map(|e| &e.value) {
        None => return Ok(Vec::new()),
        Some(toml::Value::String(text)) => encoded(raw, &key, text, &corpus.info.tokenizer)?,
        Some(_) => {
            let ids = raw.parsed_list(&key, parse_whole)?.unwrap_or_default();
            ids.into_iter().map(|id| u32::try_from(id).unwrap_or(u32::MAX)).collect()
        }
    };
    match ids.iter().find(|id| **id as usize >= corpus.info.vocab) {
        None => Ok(ids),
        Some(id) => Err(UserError::new(format!(
            "{}: {id} is beyond the vocabulary of {}",
            raw.place(&key),
            corpus.info.vocab
        ))
        .hint("write a text, or ids of the vocabulary")),
    }
}

/// The ids of a tag's text.
///
/// # Errors
/// A tokeniser that is not known.
pub(super) fn encoded(
    raw: &RawStudy,
    key: &str,
    text: &str,
    tokenizer: &TokenizerKind,
) -> Result<Vec<u32>, UserError> {
    let tokenizer = known_tokenizer(tokenizer).map_err(|e| {
        UserError::new(format!("{}: {}", raw.place(key), e.to_string().lines().next().unwrap_or("")))
            .hint("write the ids of its tokens, tag = [50256]")
    })?;
    Ok(tokenizer.encode(text))
}

/// The weights of each stage: one where a source has a number, several where it has a list.
fn weights(raw: &RawStudy, batch_tokens: u64) -> Result<Vec<StageSpec>, UserError> {
    let starts = starts(raw, batch_tokens)?;
    let mut by_source = Vec::new();
    for name in &raw.mix {
        let key = key(name, "weight");
        let weights = match raw.entries.get(&key).map(|e| &e.value) {
            None => {
                return Err(UserError::new(format!(
                    "{}: the source `{name}` has no weight",
                    place(raw, name)
                ))
                .hint("give every source a weight, e.g. weight = 0.25; they need not sum to 1"));
            }
            Some(toml::Value::Array(_)) => raw.parsed_list(&key, weight)?.unwrap_or_default(),
            Some(_) => vec![raw.parsed(&key, weight)?.unwrap_or(0); starts.len()],
        };
        if weights.len() != starts.len() {
            return Err(UserError::new(format!(
                "{}: {} weights for {} stages",
                raw.place(&key),
                weights.len(),
                starts.len()
            ))
            .hint(
                "stages = [\"50%\"] under [data] makes two of them, before and after; list a weight for each",
            ));
        }
        by_source.push(weights);
    }
    let stage = |(index, from): (usize, &StageStart)| {
        let weights: Vec<u64> = by_source.iter().map(|w| w[index]).collect();
        let divisor = weights.iter().copied().fold(0, gcd);
        if divisor == 0 {
            return Err(UserError::new(format!("{}: every weight of stage {} is 0", raw.file, index + 1))
                .hint("give at least one source a weight in each stage"));
        }
        let weights = weights.iter().map(|w| w / divisor).collect();
        Ok(StageSpec { from: *from, from_step: 0, weights })
    };
    starts.iter().enumerate().map(stage).collect()
}

fn weight(text: &str) -> Result<u64, String> {
    let value = parse_share(text).or_else(|_| parse_count(text)).map_err(|e| e.to_string())?;
    let units = (value * WEIGHT_UNITS).round();
    // One that rounds to nothing would leave its source out.
    if value == 0.0 || (value <= 1e9 && units >= 1.0) {
        return Ok(units as u64);
    }
    Err(format!("{text} is no weight\nhint: write a number from 0 up, such as 0.25, 3 or \"25%\""))
}

/// When each stage begins, the first at the start.
fn starts(raw: &RawStudy, batch_tokens: u64) -> Result<Vec<StageStart>, UserError> {
    let parse = |text: &str| match text.trim().ends_with('%') {
        true => parse_share(text).map(StageStart::Share).map_err(|e| e.to_string()),
        false => {
            let tokens = parse_count(text).map_err(|e| e.to_string())?;
            let steps = whole((tokens / batch_tokens as f64).round());
            steps.map(StageStart::Steps).ok_or_else(|| format!("`{text}` is later than any run ends"))
        }
    };
    let later = raw.parsed_list("data.stages", parse)?.unwrap_or_default();
    Ok([StageStart::Steps(0)].into_iter().chain(later).collect())
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Says how much of each source a run reads, and where text is read more than once.
pub(super) fn note(run: &RunSpec, notes: &mut Notes) {
    let Some(mix) = &run.data.mix else { return };
    for stage in &mix.stages {
        let sum: u64 = stage.weights.iter().sum();
        let share = |(source, weight): (&SourceSpec, &u64)| {
            format!("{} {}", source.name, percent(*weight as f64 / sum as f64))
        };
        let shares: Vec<String> = mix.sources.iter().zip(&stage.weights).map(share).collect();
        let from = run.tokens_at(stage.from_step) as f64;
        let when = if stage.from_step == 0 { String::new() } else { format!(" from {} tokens on", si(from)) };
        let reason = "of the rows, each within one row of its share after every row";
        notes.add("data.mix", format!("{}{when}", shares.join(", ")), reason, false);
    }
    let sequences = run.train.batch_tokens / run.gpt().context as u64;
    let Ok(assignment) = Assignment::new(&stages(mix, sequences), run.end() * sequences) else { return };
    for (source, rows) in mix.sources.iter().zip(assignment.counts(assignment.rows())) {
        let Origin::Tokens { train_tokens, .. } = source.origin else { continue };
        let content = rows * (run.gpt().context as u64).saturating_sub(source.tag.len() as u64);
        let all = source.unique_tokens.map_or(train_tokens, |unique| unique.min(train_tokens));
        let epochs = content as f64 / all as f64;
        if epochs > 1.0 {
            let reason = format!(
                "{} tokens of {}, of which {} are read: that text is repeated",
                si(content as f64),
                source.name,
                si(all as f64)
            );
            notes.add("series.epochs", format!("{epochs:.2}"), &reason, false);
        }
    }
}

/// Sets what of a run's mix depends on its length: where stages begin, and how many passages there are.
///
/// # Errors
/// Stages that do not follow each other, a mix no run of this length can have.
pub(super) fn settle(run: &mut RunSpec) -> Result<(), UserError> {
    let end = run.end();
    let Some(context) = run.model.gpt().map(|gpt| gpt.context as u64) else { return Ok(()) };
    let sequences = run.train.batch_tokens / context;
    let id = run.id.clone();
    let Some(mix) = &mut run.data.mix else { return Ok(()) };
    for stage in &mut mix.stages {
        stage.from_step = stage.from.step(end);
    }
    if let Some(pair) = mix.stages.windows(2).find(|s| s[0].from_step >= s[1].from_step) {
        return Err(UserError::new(format!(
            "data.stages: in {id} a stage from step {} is followed by one from step {}",
            pair[0].from_step, pair[1].from_step
        ))
        .hint("list stages in their order, each later than the one before by a step at least"));
    }
    if !mix.sources.iter().any(|s| copies(s).is_some()) {
        return Ok(());
    }
    let rows = Assignment::new(&stages(mix, sequences), end * sequences)
        .map_err(UserError::from_error)?
        .counts(end * sequences);
    for (source, rows) in mix.sources.iter_mut().zip(rows) {
        let content = context.saturating_sub(source.tag.len() as u64);
        let wanted = copies(source).map(|copies| rows as f64 * content as f64 / copies);
        if let (Some(wanted), Origin::Junk { passages: Some(passages), .. }) = (wanted, &mut source.origin) {
            passages.count = ((wanted / passages.tokens as f64).round() as u64).max(1);
        }
    }
    Ok(())
}

fn copies(source: &SourceSpec) -> Option<f64> {
    match source.origin {
        Origin::Junk { passages: Some(Passages { copies, .. }), .. } => copies,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
