//! A batch of records becomes documents: text, what identifies it, ids as they will lie in a shard.

use super::settings::{Dedup, Settings};
use isoflop_data::TokenDtype;
use isoflop_data::documents::digest::digest;
use isoflop_data::documents::minhash::Signature;
use isoflop_data::documents::{Batch, Format, Position, Problem, ProblemKind, Record, text_of};
use isoflop_data::tokenize::{Tokenizer, chunks};
use std::ops::Range;

/// Bytes of text that are encoded at a time.
const CHUNK: usize = 256 << 10;
/// Most bytes of a word: merging one takes fifty times as much memory.
const LONGEST_WORD: usize = 4 << 20;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Worked {
    /// Documents with text in them, in the order of their source.
    pub documents: Vec<Document>,
    /// What could not be used.
    pub problems: Vec<Problem>,
    /// Documents without text.
    pub empty: u64,
    /// Ids of all documents, as they lie in a shard.
    pub ids: Vec<u8>,
    /// Where the source is behind them.
    pub end: Position,
}

/// A document, ready to be written.
#[derive(Debug)]
pub struct Document {
    /// Its record, from 0.
    pub record: u64,
    /// The line it begins on, from 0.
    pub line: u64,
    /// What identifies it.
    pub digest: u128,
    /// What nearly identifies it, where that is asked for.
    pub signature: Option<Box<Signature>>,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Its ids in [`Worked::ids`].
    pub ids: Range<usize>,
    /// It goes on where the one before ended.
    pub continues: bool,
}

/// Works on a batch; a pure function of its arguments.
pub fn work(settings: &Settings, format: Format, mut batch: Batch) -> Worked {
    let mut worked = Worked { end: batch.end, ..Worked::default() };
    worked.problems = std::mem::take(&mut batch.problems);
    let mut scratch = Vec::new();
    for record in &batch.records {
        let text = match text_of(format, &settings.fields, &batch, record, &mut worked.problems) {
            Ok(text) => text,
            Err(problem) => {
                worked.problems.push(problem);
                continue;
            }
        };
        if text.trim_start().is_empty() {
            worked.empty += 1;
            continue;
        }
        let from = worked.ids.len();
        if let Err(length) =
            encode(&*settings.tokenizer, settings.dtype, &text, &mut scratch, &mut worked.ids)
        {
            worked.ids.truncate(from);
            worked.problems.push(too_long(format, record, length));
            continue;
        }
        worked.documents.push(Document {
            record: record.at.record,
            line: record.at.line,
            digest: digest(&text),
            signature: match settings.dedup {
                Dedup::MinHash => Signature::of(&text).map(Box::new),
                _ => None,
            },
            text_bytes: text.len() as u64,
            ids: from..worked.ids.len(),
            continues: record.continues,
        });
    }
    worked.problems.sort_by_key(|problem| (problem.record, problem.line));
    worked
}

fn too_long(format: Format, record: &Record, length: usize) -> Problem {
    Problem {
        record: record.at.record,
        line: (format != Format::Parquet).then_some(record.at.line + 1),
        kind: ProblemKind::TooLong,
        what: format!("a word of {length} bytes in it; {} MiB are the most", LONGEST_WORD >> 20),
    }
}

/// Appends the ids of a text as they lie in a shard.
///
/// # Errors
/// The length of a word that is too long to be merged.
fn encode(
    tokenizer: &dyn Tokenizer,
    dtype: TokenDtype,
    text: &str,
    scratch: &mut Vec<u32>,
    out: &mut Vec<u8>,
) -> Result<(), usize> {
    for part in chunks(text, CHUNK) {
        if part.len() > LONGEST_WORD {
            let longest = longest_word(part);
            if longest > LONGEST_WORD && tokenizer.vocab_size() > 256 {
                return Err(longest);
            }
        }
        scratch.clear();
        tokenizer.encode_into(part, scratch);
        append(dtype, scratch, out);
        if scratch.capacity() > 4 * CHUNK {
            *scratch = Vec::new();
        }
    }
    Ok(())
}

/// Appends ids as they lie in a shard, little-endian.
pub(super) fn append(dtype: TokenDtype, ids: &[u32], out: &mut Vec<u8>) {
    match dtype {
        TokenDtype::U16 => {
            out.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes()));
        }
        _ => out.extend(ids.iter().flat_map(|&id| id.to_le_bytes())),
    }
}

/// Bytes of the longest run of letters, digits, white space, or other characters: no pattern's piece is longer but for
/// a space before it.
fn longest_word(text: &str) -> usize {
    let class = |c: char| match c {
        _ if c.is_alphabetic() => 0,
        _ if c.is_numeric() => 1,
        _ if c.is_whitespace() => 2,
        _ => 3,
    };
    let (mut longest, mut begin, mut current) = (0, 0, 4);
    for (at, c) in text.char_indices() {
        if class(c) != current {
            longest = longest.max(at - begin);
            (begin, current) = (at, class(c));
        }
    }
    longest.max(text.len() - begin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_data::tokenize::{Bytes, gpt2::gpt2};

    #[test]
    fn a_word_that_cannot_be_merged_is_named_by_its_length() {
        let word = "a".repeat(LONGEST_WORD + 1);
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        let text = format!("some words {word} and others");
        assert_eq!(encode(&gpt2(), TokenDtype::U16, &text, &mut scratch, &mut out), Err(word.len()));
        out.clear();
        assert_eq!(encode(&Bytes, TokenDtype::U16, &text, &mut scratch, &mut out), Ok(()));
        assert_eq!(out.len(), 2 * text.len());
        assert_eq!(longest_word("ab 123... 日本語"), 9);
    }

    #[test]
    fn a_long_text_in_parts_has_the_ids_of_the_whole() {
        let text = "The lower the loss, the slower the law.\n\n  It bends — 日本語! 12345 ".repeat(9000);
        let (tokenizer, mut out) = (gpt2(), Vec::new());
        encode(&tokenizer, TokenDtype::U32, &text, &mut Vec::new(), &mut out).unwrap();
        let mut whole = Vec::new();
        append(TokenDtype::U32, &tokenizer.encode(&text), &mut whole);
        assert!(out == whole);
    }
}
