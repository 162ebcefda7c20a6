//! A stream of tokens, wherever it lies.

use crate::DataError;
use crate::boundaries::Boundaries;
use isoflop_base::TokenBatch;
use std::sync::Arc;

/// A stream of token ids that can be read anywhere. In memory or memory-mapped; never changed.
pub trait Tokens: Send + Sync {
    /// Tokens in the stream.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Symbols in the vocabulary: every id is to be below it.
    fn vocab(&self) -> usize;

    /// File or corpus, for messages.
    fn name(&self) -> &str;

    /// Copies tokens `start .. start + out.len()` as they are stored, without looking at the ids.
    ///
    /// # Panics
    /// If the range does not lie in the stream.
    fn read(&self, start: u64, out: &mut [u32]);

    /// Whether the source is still what was opened. A mapped file that became shorter is an error here, before it is
    /// touched.
    fn check_source(&self) -> Result<(), DataError> {
        Ok(())
    }

    /// Says which tokens are about to be read. A hint.
    fn will_read(&self, _start: u64, _count: usize) {}

    /// Where its documents end, if windows are not to cross from one into the next.
    fn boundaries(&self) -> Option<&Arc<Boundaries>> {
        None
    }
}

impl<T: Tokens + ?Sized> Tokens for Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn vocab(&self) -> usize {
        (**self).vocab()
    }

    fn name(&self) -> &str {
        (**self).name()
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        (**self).read(start, out);
    }

    fn check_source(&self) -> Result<(), DataError> {
        (**self).check_source()
    }

    fn will_read(&self, start: u64, count: usize) {
        (**self).will_read(start, count);
    }

    fn boundaries(&self) -> Option<&Arc<Boundaries>> {
        (**self).boundaries()
    }
}

/// [`Tokens::read`] with the ids checked against the vocabulary.
///
/// # Errors
/// [`DataError::TokenBeyondVocab`] with the position of the first bad id; [`DataError::Shrunk`].
pub fn read_checked(tokens: &dyn Tokens, start: u64, out: &mut [u32]) -> Result<(), DataError> {
    tokens.check_source()?;
    tokens.read(start, out);
    let vocab = tokens.vocab();
    match out.iter().position(|&id| id as usize >= vocab) {
        None => Ok(()),
        Some(at) => Err(DataError::TokenBeyondVocab {
            source_name: tokens.name().to_owned(),
            position: start + at as u64,
            id: out[at],
            vocab,
        }),
    }
}

/// Fills a batch: row `i` with the tokens from `start(i)` on. Ids are compared with the vocabulary once, by their
/// largest.
///
/// # Errors
/// As [`read_checked`].
pub fn read_rows(
    tokens: &dyn Tokens,
    batch: &mut TokenBatch,
    start: impl Fn(usize) -> u64,
) -> Result<(), DataError> {
    tokens.check_source()?;
    (0..batch.sequences()).for_each(|index| tokens.will_read(start(index), batch.length() + 1));
    batch.fill(|index, row| {
        tokens.read(start(index), row);
        Ok(())
    })?;
    if (batch.largest() as usize) < tokens.vocab() {
        return Ok(());
    }
    // Again, to say where.
    batch.fill(|index, row| read_checked(tokens, start(index), row))
}

/// Bytes as tokens, in memory. Vocabulary 256.
#[derive(Debug, Clone)]
pub struct ByteTokens {
    name: String,
    bytes: Vec<u8>,
}

impl ByteTokens {
    /// A stream of the bytes themselves.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Tokens for ByteTokens {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn vocab(&self) -> usize {
        256
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        let start = usize::try_from(start).expect("a stream in memory is addressed by usize");
        let source = &self.bytes[start..start + out.len()];
        for (id, &byte) in out.iter_mut().zip(source) {
            *id = u32::from(byte);
        }
    }
}
