//! What is written when a preparation is done: `prepared.json`, by which a study finds everything, the JSON beside each
//! shard, and the tokeniser.

use super::progress::{Progress, UNFINISHED, first_difference};
use super::seen::LIST;
use super::settings::{Settings, sha256};
use super::shards::Stream;
use crate::error::UserError;
use isoflop_data::bin::Sidecar;
use isoflop_data::prepared::{PREPARED as FILE, SCHEMA, TOKENIZER};
use isoflop_store::JobFolder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What everything is found by.
pub const PREPARED: &str = FILE;
/// What the shards were made from, with the times at which sources were changed.
pub const FROM: &str = ".prepared-from.json";
/// What could not be used.
pub const PROBLEMS: &str = "problems.jsonl";
/// Documents that were removed as copies.
pub const REMOVED: &str = "removed.jsonl";

/// Writes the tokeniser and the JSON beside each shard; what `prepared.json` will say.
///
/// # Errors
/// They cannot be written.
pub fn write(settings: &Settings, folder: &JobFolder, progress: &Progress) -> anyhow::Result<Value> {
    let tokenizer = &*settings.tokenizer;
    let json = tokenizer.json();
    let tokenizer_sha256 = sha256(json.as_bytes());
    folder.replace(TOKENIZER, json.as_bytes())?;
    for stream in [&progress.train, &progress.val] {
        for shard in &stream.shards {
            let beside = Sidecar {
                tokenizer: Some(tokenizer.name().to_owned()),
                tokenizer_sha256: Some(tokenizer_sha256.clone()),
                vocab: Some(tokenizer.vocab_size()),
                dtype: Some(settings.dtype),
                tokens: Some(shard.tokens),
                source_bytes: None,
                source_sha256: None,
                bytes_per_token: bytes_per_token(stream),
            };
            let name = Sidecar::path_of(Path::new(&shard.file));
            folder.replace(&name.to_string_lossy(), &serde_json::to_vec_pretty(&beside)?)?;
        }
    }
    Ok(json!({
        "schema": SCHEMA,
        "tokenizer": {
            "name": tokenizer.name(),
            "file": TOKENIZER,
            "sha256": tokenizer_sha256,
            "vocab": tokenizer.vocab_size(),
            "between_documents": settings.form().separator.ids,
        },
        "dtype": settings.dtype.name(),
        "train": split(&progress.train),
        "val": split(&progress.val),
        "counts": counts(progress),
        "sources": sources(settings, progress),
        "settings": settings_of(&progress.identity),
    }))
}

fn bytes_per_token(stream: &Stream) -> Option<f64> {
    (stream.tokens > 0).then(|| stream.text_bytes as f64 / stream.tokens as f64)
}

fn split(stream: &Stream) -> Value {
    json!({
        "documents": stream.documents,
        "tokens": stream.tokens,
        "text_bytes": stream.text_bytes,
        "bytes_per_token": bytes_per_token(stream),
        "shards": stream.shards,
    })
}

fn counts(progress: &Progress) -> Value {
    let mut problems = BTreeMap::new();
    let (mut documents, mut empty, mut removed, mut text_bytes) = (0, 0, 0, 0);
    for source in &progress.sources {
        documents += source.documents;
        empty += source.empty;
        removed += source.removed;
        text_bytes += source.text_bytes;
        for (kind, count) in &source.problems {
            *problems.entry(kind).or_insert(0) += count;
        }
    }
    json!({
        "documents": documents,
        "text_bytes": text_bytes,
        "removed": removed,
        "empty": empty,
        "problems": problems,
    })
}

fn sources(settings: &Settings, progress: &Progress) -> Vec<Value> {
    let one = |(source, tally): (&isoflop_data::documents::Source, &super::progress::SourceTally)| {
        json!({
            "name": source.name,
            "format": source.format.word(),
            "bytes": source.bytes,
            "documents": tally.documents,
            "text_bytes": tally.text_bytes,
            "digest": tally.digest,
            "removed": tally.removed,
            "empty": tally.empty,
            "problems": tally.problems,
        })
    };
    settings.found.sources.iter().zip(&progress.sources).map(one).collect()
}

/// The identity without its sources, which are listed with more.
fn settings_of(identity: &Value) -> Value {
    let mut settings = identity.clone();
    if let Some(map) = settings.as_object_mut() {
        map.shift_remove("sources");
        map.shift_remove("tokenizer");
        map.shift_remove("tokenizer_sha256");
        map.shift_remove("dtype");
    }
    settings
}

/// What a finished preparation of these settings says, if that is what the folder holds.
///
/// # Errors
/// A [`UserError`] where it holds one of other settings, or one whose shards are gone.
pub fn finished(folder: &JobFolder, identity: &Value) -> anyhow::Result<Option<Value>> {
    let Ok(text) = std::fs::read(folder.path().join(PREPARED)) else { return Ok(None) };
    let other = |words: String| {
        UserError::new(format!("{} holds another preparation: {words}", folder.path().display()))
            .hint("name another directory with --out, or --restart to replace what is there")
    };
    let from = std::fs::read(folder.path().join(FROM)).unwrap_or_default();
    let from: Value = serde_json::from_slice(&from).unwrap_or_default();
    if let Some(words) = first_difference(&from, identity) {
        return Err(other(words).into());
    }
    let summary: Value =
        serde_json::from_slice(&text).map_err(|e| other(format!("{PREPARED} is damaged: {e}")))?;
    isoflop_data::prepared::Prepared::open(folder.path()).map_err(|e| other(e.to_string()))?;
    Ok(Some(summary))
}

/// Deletes what a preparation wrote, and nothing else.
///
/// # Errors
/// It cannot be deleted.
pub fn clear(folder: &JobFolder) -> anyhow::Result<()> {
    // What everything is found by goes first: what is half deleted is nothing.
    folder.remove(PREPARED)?;
    for name in JobFolder::names(folder.path())? {
        let shard = |stream: &str| {
            let rest = name.strip_prefix(stream).and_then(|rest| rest.strip_prefix('-'));
            rest.and_then(|rest| rest.split_once('.')).is_some_and(|(number, end)| {
                number.bytes().all(|b| b.is_ascii_digit()) && ["bin", "bin.json", "part"].contains(&end)
            })
        };
        if [FROM, PROBLEMS, REMOVED, TOKENIZER, LIST].contains(&name.as_str())
            || shard("train")
            || shard("val")
        {
            folder.remove(&name)?;
        }
    }
    Ok(folder.remove(UNFINISHED)?)
}
