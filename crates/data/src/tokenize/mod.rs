//! Text to token ids and back.
//!
//! | module | what it holds |
//! |---|---|
//! | [`bpe`] | a byte-level BPE vocabulary and its encoder |
//! | [`gpt2`] | GPT-2's vocabulary, built in |
//! | `bytes` | bytes as tokens |
//! | `json` | Hugging Face `tokenizer.json`, read and written |
//! | `rank_file` | tiktoken's rank files |
//! | [`train`] | a vocabulary from a text |
//! | [`pattern`] | the patterns that cut a text into pieces |
//! | `gpt2_split`, `scan` | how it is cut: GPT-2's pattern by bits, the others by characters |
//! | `merge`, `cache` | merging a piece, and what it became the last time |
//! | `chunks` | where a text can be cut without changing a token |
//! | `parallel` | several threads, the same ids |
//! | `naive` | the encoder in plain loops, which it is tested against |

pub mod bpe;
mod bytes;
mod cache;
mod chunks;
mod classes;
pub mod gpt2;
mod gpt2_split;
pub(crate) mod json;
mod merge;
mod naive;
mod parallel;
pub mod pattern;
mod rank_file;
mod scan;
#[cfg(test)]
mod tests;
pub mod train;

use crate::error::DataError;
pub use bytes::Bytes;
pub use chunks::chunks;
pub use parallel::encode_each;
use pattern::Pattern;
use std::path::Path;

/// The special token between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A token that stands for no text of its own, such as the end of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Special {
    /// How it is written where a text is said to have it.
    pub text: String,
    /// Its id.
    pub id: u32,
}

/// Text to ids and back. One tokeniser serves any number of threads at once.
pub trait Tokenizer: Send + Sync {
    /// `bytes`, `gpt2`, or the file's name.
    fn name(&self) -> &str;

    /// One above the largest id.
    fn vocab_size(&self) -> usize;

    /// Appends the ids of a text. What looks like a special token is text like any other.
    fn encode_into(&self, text: &str, ids: &mut Vec<u32>);

    /// The bytes of an id; `None` for a special token's, and for one that there is not.
    fn token(&self, id: u32) -> Option<&[u8]>;

    /// Special tokens.
    fn special(&self) -> &[Special];

    /// A `tokenizer.json` with which Hugging Face `tokenizers` gives the same ids.
    fn json(&self) -> String;

    /// The ids of a text.
    fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut ids);
        ids
    }

    /// As [`Self::encode_into`], but special tokens are recognised where they are written out: the first one in the
    /// text, the longest where several begin there.
    fn encode_with_special_into(&self, text: &str, ids: &mut Vec<u32>) {
        let special = self.special();
        let find = |which: usize, from: usize| text[from..].find(&special[which].text).map(|at| from + at);
        let mut next: Vec<Option<usize>> = (0..special.len()).map(|which| find(which, 0)).collect();
        let mut at = 0;
        loop {
            for (which, next) in next.iter_mut().enumerate() {
                if next.is_some_and(|position| position < at) {
                    *next = find(which, at);
                }
            }
            let found = next.iter().zip(special).filter_map(|(next, special)| next.map(|at| (at, special)));
            let found = found.filter(|(_, special)| !special.text.is_empty());
            let Some((first, special)) = found.min_by_key(|(at, s)| (*at, std::cmp::Reverse(s.text.len())))
            else {
                break;
            };
            self.encode_into(&text[at..first], ids);
            ids.push(special.id);
            at = first + special.text.len();
        }
        self.encode_into(&text[at..], ids);
    }

    /// Appends the bytes of ids; special tokens as they are written.
    ///
    /// # Errors
    /// [`DataError::UnknownId`] for an id that the vocabulary does not have.
    fn decode_into(&self, ids: &[u32], bytes: &mut Vec<u8>) -> Result<(), DataError> {
        for (position, &id) in (0..).zip(ids) {
            let special =
                || self.special().iter().find(|special| special.id == id).map(|s| s.text.as_bytes());
            let token = self.token(id).or_else(special);
            bytes.extend_from_slice(token.ok_or_else(|| DataError::UnknownId {
                tokenizer: self.name().to_owned(),
                position,
                id,
                vocab: self.vocab_size(),
            })?);
        }
        Ok(())
    }

    /// The id between documents, if there is one.
    fn end_of_text(&self) -> Option<u32> {
        const NAMES: [&str; 4] = [END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>"];
        NAMES
            .iter()
            .find_map(|name| self.special().iter().find(|s| s.text == *name))
            .map(|special| special.id)
    }
}

/// A tokeniser by name, `bytes` or `gpt2`, or from a file: a `tokenizer.json` (or a directory with one in it), or a
/// `.tiktoken` rank file, whose pattern is told by its name unless it is given.
///
/// # Errors
/// An unknown name, a file that cannot be read, or one that holds something else than a byte-level BPE.
pub fn open(name: &str, pattern: Option<Pattern>) -> Result<Box<dyn Tokenizer>, DataError> {
    let setting = |what: String, hint: &str| DataError::Setting { what, hint: hint.to_owned() };
    let path = Path::new(name);
    let is_ranks = path.extension().is_some_and(|extension| extension == "tiktoken");
    if pattern.is_some() && !is_ranks {
        return Err(setting(
            format!("the tokeniser {name} has its own pattern"),
            "a pattern is for .tiktoken files, which hold none",
        ));
    }
    match name {
        "bytes" => return Ok(Box::new(Bytes)),
        "gpt2" | "r50k_base" => return Ok(Box::new(gpt2::gpt2())),
        _ => {}
    }
    let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    if !path.exists() && path.extension().is_none() && path.components().count() == 1 {
        return Err(setting(
            format!("no tokeniser is named {name}"),
            "name bytes or gpt2, or a file: a tokenizer.json or a .tiktoken rank file",
        ));
    }
    let text = std::fs::read(&path).map_err(|e| DataError::from_io(&path, e))?;
    let name = path.display().to_string();
    Ok(Box::new(if is_ranks {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        rank_file::read(&name, &stem, &text, pattern)?
    } else {
        json::read(&name, &text)?
    }))
}

/// What a tokeniser does to a text.
#[derive(Debug, Clone, Default)]
pub struct TokenStats {
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens they became.
    pub tokens: u64,
    /// How often each id occurs, by id.
    pub counts: Vec<u64>,
}

impl TokenStats {
    /// Adds the ids of a text of so many bytes.
    ///
    /// # Panics
    /// On ids beyond `vocab_size` of the tokeniser it was made for.
    pub fn add(&mut self, bytes: usize, ids: &[u32]) {
        self.bytes += bytes as u64;
        self.tokens += ids.len() as u64;
        for &id in ids {
            self.counts[id as usize] += 1;
        }
    }

    /// For a vocabulary of this size.
    pub fn new(vocab_size: usize) -> Self {
        Self { bytes: 0, tokens: 0, counts: vec![0; vocab_size] }
    }

    /// Mean bytes of a token; none without tokens.
    pub fn bytes_per_token(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.bytes as f64 / self.tokens as f64)
    }

    /// How many ids occur.
    pub fn used(&self) -> usize {
        self.counts.iter().filter(|&&count| count > 0).count()
    }
}
