//! A directory of token shards as `isoflop prepare` writes it, and any number of token files as one stream.

use crate::bin::{BinFile, BinOptions, Scan};
use crate::corpus::{Corpus, CorpusInfo, block_tokens};
use crate::dialect::TokenDtype;
use crate::fingerprint::sha256;
use crate::tokenizer::TokenizerKind;
use crate::{DataError, Tokens};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file that everything is found by.
pub const PREPARED: &str = "prepared.json";
/// The tokeniser, as Hugging Face `tokenizers` reads it.
pub const TOKENIZER: &str = "tokenizer.json";
/// What the file calls its own form.
pub const SCHEMA: &str = "isoflop.prepared/1";

/// What `prepared.json` says, as far as a study needs it.
#[derive(Debug, Clone, Deserialize)]
struct Document {
    schema: String,
    tokenizer: TokenizerFacts,
    dtype: TokenDtype,
    train: Split,
    val: Split,
}

#[derive(Debug, Clone, Deserialize)]
struct TokenizerFacts {
    name: String,
    sha256: String,
    vocab: usize,
}

#[derive(Debug, Clone, Deserialize)]
struct Split {
    tokens: u64,
    bytes_per_token: Option<f64>,
    shards: Vec<ShardFacts>,
}

#[derive(Debug, Clone, Deserialize)]
struct ShardFacts {
    file: String,
    tokens: u64,
}

/// An open directory.
#[derive(Debug)]
pub struct Prepared {
    train: Shards,
    val: Shards,
    document: Document,
    tokenizer_json: String,
}

impl Prepared {
    /// Opens the shards of both splits.
    ///
    /// # Errors
    /// No preparation, or one that is not finished; a file of it that is missing or is not what was written.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(PREPARED);
        let wrong = |what: String, hint: &str| DataError::NoTokens {
            path: dir.to_owned(),
            what,
            hint: hint.to_owned(),
        };
        let again = "prepare it again with --restart";
        let text = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound if dir.join("unfinished.json").exists() => {
                wrong("was not finished".to_owned(), "give the same `isoflop prepare` again: it goes on")
            }
            std::io::ErrorKind::NotFound => {
                wrong(format!("has no {PREPARED}"), "name a directory that `isoflop prepare` has made")
            }
            _ => DataError::from_io(&path, e),
        })?;
        let document: Document =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("{PREPARED}: {e}"), again))?;
        if document.schema != SCHEMA {
            return Err(wrong(format!("{PREPARED} is of another version, {}", document.schema), again));
        }
        let file = dir.join(TOKENIZER);
        let tokenizer_json = std::fs::read_to_string(&file).map_err(|e| DataError::from_io(&file, e))?;
        if sha256(tokenizer_json.as_bytes()) != document.tokenizer.sha256 {
            return Err(wrong(format!("{TOKENIZER} is not the one it was prepared with"), again));
        }
        let shards = |name: &str, split: &Split| {
            let options = BinOptions {
                dtype: Some(document.dtype),
                vocab: Some(document.tokenizer.vocab),
                bytes_per_token: split.bytes_per_token,
                scan: Scan::Sample,
            };
            let paths: Vec<PathBuf> = split.shards.iter().map(|shard| dir.join(&shard.file)).collect();
            let shards = Shards::open(&format!("{}, {name}", dir.display()), &paths, &options)?;
            for (file, said) in shards.files.iter().zip(&split.shards) {
                if file.len() != said.tokens {
                    let (found, said, file) = (file.len(), said.tokens, &said.file);
                    return Err(wrong(format!("{file} has {found} tokens, {said} were written"), again));
                }
            }
            if shards.len() != split.tokens {
                return Err(wrong(format!("{PREPARED} does not add up"), again));
            }
            Ok(shards)
        };
        let (train, val) = (shards("train", &document.train)?, shards("val", &document.val)?);
        Ok(Self { train, val, document, tokenizer_json })
    }

    /// The two streams as a corpus.
    ///
    /// # Errors
    /// One of them has no tokens.
    pub fn corpus(self, dir: &Path) -> Result<Corpus, DataError> {
        let Self { train, val, document, tokenizer_json } = self;
        for (stream, what) in [(&train, "to train on"), (&val, "held out")] {
            if stream.is_empty() {
                return Err(DataError::NoTokens {
                    path: dir.to_owned(),
                    what: format!("has no tokens {what}"),
                    hint: "prepare it with another --val-share, or from more documents".to_owned(),
                });
            }
        }
        let facts = &document.tokenizer;
        let (train_hash, val_hash) = (train.fingerprint(), val.fingerprint());
        let info = CorpusInfo {
            name: dir.display().to_string(),
            vocab: facts.vocab,
            train_tokens: train.len(),
            val_tokens: val.len(),
            tokenizer: TokenizerKind::of(Some(&facts.name), Some(&facts.sha256), facts.vocab),
            bytes_per_token: document.val.bytes_per_token,
            sha256: sha256(format!("{train_hash}{val_hash}").as_bytes()),
            sha256_covers:
                "hashes of the shards of train and val: whole ones up to 16 MiB, else sampled places"
                    .to_owned(),
            block_tokens: block_tokens(document.val.bytes_per_token),
        };
        let tokenizer_json = Some(tokenizer_json);
        let (train, val) = (Box::new(train), Box::new(val));
        Ok(Corpus { train, val, info, sources: Vec::new(), tokenizer_json })
    }
}

/// Token files of one vocabulary, one after another, as one stream.
#[derive(Debug)]
pub struct Shards {
    name: String,
    files: Vec<BinFile>,
    /// First token of each file, and the end.
    starts: Vec<u64>,
    vocab: usize,
}

impl Shards {
    /// Opens files; none are a stream without tokens.
    ///
    /// # Errors
    /// What [`BinFile::open`] says of one of them; vocabularies that differ.
    pub fn open(name: &str, paths: &[PathBuf], options: &BinOptions) -> Result<Self, DataError> {
        let files: Vec<BinFile> =
            paths.iter().map(|path| BinFile::open(path, options)).collect::<Result<_, _>>()?;
        let vocab = files.first().map_or(options.vocab.unwrap_or(0), Tokens::vocab);
        if let Some(other) = files.iter().find(|file| file.vocab() != vocab) {
            return Err(DataError::Setting {
                what: format!(
                    "{} has a vocabulary of {}, the first file {vocab}",
                    other.name(),
                    other.vocab()
                ),
                hint: "make all files with the same tokeniser".to_owned(),
            });
        }
        let mut starts = vec![0];
        for file in &files {
            starts.push(starts[starts.len() - 1] + file.len());
        }
        Ok(Self { name: name.to_owned(), files, starts, vocab })
    }

    /// Of one file its own fingerprint, of several that of all.
    pub fn fingerprint(&self) -> String {
        let hashes: Vec<String> = self.files.iter().map(|file| file.fingerprint().0).collect();
        if hashes.len() == 1 { hashes.concat() } else { sha256(hashes.concat().as_bytes()) }
    }
}

impl Tokens for Shards {
    fn len(&self) -> u64 {
        self.starts[self.files.len()]
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        assert!(start + out.len() as u64 <= self.len(), "tokens {start}+{} of {}", out.len(), self.len());
        let (mut start, mut out) = (start, out);
        let mut index = self.starts.partition_point(|first| *first <= start) - 1;
        while !out.is_empty() {
            let room = self.starts[index + 1] - start;
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(out.len());
            let (now, rest) = out.split_at_mut(count);
            self.files[index].read(start - self.starts[index], now);
            (start, out, index) = (start + count as u64, rest, index + 1);
        }
    }

    fn will_read(&self, start: u64, count: usize) {
        let index = self.starts.partition_point(|first| *first <= start) - 1;
        let room = usize::try_from(self.starts[index + 1] - start).unwrap_or(usize::MAX);
        // What lies in the next file is read when it is read.
        self.files[index].will_read(start - self.starts[index], count.min(room));
    }

    fn check_source(&self) -> Result<(), DataError> {
        self.files.iter().try_for_each(Tokens::check_source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_one_stream_wherever_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, ids) in [0..5u16, 5..6, 6..13].into_iter().enumerate() {
            let path = dir.path().join(format!("{index}.bin"));
            std::fs::write(&path, ids.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
            paths.push(path);
        }
        let shards = Shards::open("s", &paths, &BinOptions::default()).unwrap();
        assert_eq!(shards.len(), 13);
        for start in 0..13u32 {
            for end in start..13 {
                let mut out = vec![0; (end - start) as usize];
                shards.read(start.into(), &mut out);
                assert!(out.iter().copied().eq(start..end), "{start}..{end}: {out:?}");
            }
        }
        assert!(Shards::open("none", &[], &BinOptions::default()).unwrap().is_empty());
    }
}
