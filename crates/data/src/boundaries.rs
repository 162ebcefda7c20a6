//! Where documents end in a stream of tokens, and the windows that lie inside of them.
//!
//! A document reaches from the mark before it to its own, both included: the mark before is only read, its own is also
//! predicted. So the documents of a stream predict every token but the first once, whether marks stand before
//! documents, as llm.c writes them, or after, as nanoGPT and `isoflop prepare` do. Of a document that predicts n tokens
//! ⌊n/T⌋ windows of T are read; the n mod T that are left lie at its end or at its beginning, as the seed has it, so
//! that neither beginnings nor ends are never read. A document that predicts fewer than T tokens is not read.

use crate::sampler::mix;
use crate::{DataError, Tokens, read_checked};
use std::sync::Arc;

/// Tokens looked at in one go.
const CHUNK: usize = 1 << 16;
/// Documents whose windows are counted together: a window is found by its group, then inside of it.
const GROUP: usize = 64;
/// Mixed with the seed that says which end of a document is left out.
const WHICH_END: u64 = 0x656e_6473;

/// The ends of a stream's documents: eight bytes each.
#[derive(Debug, PartialEq, Eq)]
pub struct Boundaries {
    /// One past each document's last token; the last one is the stream's end.
    ends: Vec<u64>,
}

impl Boundaries {
    /// Looks for the mark in all of a stream.
    ///
    /// # Errors
    /// [`DataError::Setting`] where it does not occur; an id beyond the vocabulary; a file that shrank.
    pub fn find(tokens: &dyn Tokens, end_of_text: u32) -> Result<Self, DataError> {
        let (mut ends, mut ids) = (Vec::new(), vec![0; CHUNK]);
        for start in (0..tokens.len()).step_by(CHUNK) {
            let ids = &mut ids[..(tokens.len() - start).min(CHUNK as u64) as usize];
            read_checked(tokens, start, ids)?;
            let marks = ids.iter().zip(start + 1..).filter(|(id, _)| **id == end_of_text);
            ends.extend(marks.map(|(_, end)| end));
        }
        if ends.is_empty() {
            return Err(DataError::Setting {
                what: format!("{} has no document's end: the id {end_of_text} does not occur", tokens.name()),
                hint:
                    "name the id between its documents with end_of_text under [data], or leave documents out"
                        .to_owned(),
            });
        }
        if ends.last() != Some(&tokens.len()) {
            ends.push(tokens.len());
        }
        Ok(Self { ends })
    }

    /// Documents, a last one without a mark and empty ones included.
    pub fn documents(&self) -> usize {
        self.ends.len()
    }

    /// Documents that predict at least so many tokens.
    pub fn with_windows(&self, context: u64) -> usize {
        (0..self.documents()).filter(|index| self.document(*index).1 >= context).count()
    }

    /// First token read of a document, and how many it predicts.
    fn document(&self, index: usize) -> (u64, u64) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] - 1);
        (start, self.ends[index] - start - 1)
    }
}

/// The windows of one length inside of documents, numbered in the order of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentWindows {
    boundaries: Arc<Boundaries>,
    context: u64,
    /// Windows before each group of documents, and all of them.
    before: Vec<u64>,
    key: u64,
}

impl DocumentWindows {
    pub(crate) fn new(boundaries: &Arc<Boundaries>, context: u64, seed: u64) -> Self {
        let mut before = vec![0];
        let mut total = 0;
        for group in (0..boundaries.documents()).step_by(GROUP) {
            let last = (group + GROUP).min(boundaries.documents());
            total += (group..last).map(|index| boundaries.document(index).1 / context).sum::<u64>();
            before.push(total);
        }
        Self { boundaries: Arc::clone(boundaries), context, before, key: mix(seed ^ WHICH_END) }
    }

    /// Windows in all.
    pub(crate) fn total(&self) -> u64 {
        self.before[self.before.len() - 1]
    }

    /// First token of a window.
    pub(crate) fn start(&self, window: u64) -> u64 {
        let group = self.before.partition_point(|before| *before <= window) - 1;
        let (mut index, mut left) = (group * GROUP, window - self.before[group]);
        loop {
            let (start, predicted) = self.boundaries.document(index);
            let windows = predicted / self.context;
            if left < windows {
                let from_its_end = mix(self.key ^ mix(index as u64)) & 1 == 1;
                let skipped = if from_its_end { predicted % self.context } else { 0 };
                return start + skipped + left * self.context;
            }
            (index, left) = (index + 1, left - windows);
        }
    }
}

/// A stream that is read in windows inside of its documents.
pub struct Separated {
    tokens: Arc<dyn Tokens>,
    boundaries: Arc<Boundaries>,
}

impl Separated {
    /// Finds the documents of a stream.
    ///
    /// # Errors
    /// As [`Boundaries::find`].
    pub fn new(tokens: Arc<dyn Tokens>, end_of_text: u32) -> Result<Self, DataError> {
        let boundaries = Arc::new(Boundaries::find(&*tokens, end_of_text)?);
        Ok(Self { tokens, boundaries })
    }
}

impl Tokens for Separated {
    fn len(&self) -> u64 {
        self.tokens.len()
    }

    fn vocab(&self) -> usize {
        self.tokens.vocab()
    }

    fn name(&self) -> &str {
        self.tokens.name()
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        self.tokens.read(start, out);
    }

    fn check_source(&self) -> Result<(), DataError> {
        self.tokens.check_source()
    }

    fn will_read(&self, start: u64, count: usize) {
        self.tokens.will_read(start, count);
    }

    fn boundaries(&self) -> Option<&Arc<Boundaries>> {
        Some(&self.boundaries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteTokens, Sampler};
    use proptest::prelude::*;

    const MARK: u8 = 255;

    /// A stream whose documents have these lengths without their marks; the last one perhaps has none.
    fn stream(lengths: &[usize], closed: bool) -> Arc<dyn Tokens> {
        let mut bytes = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            bytes.extend((0..*length).map(|at| (at % 200) as u8));
            if closed || index + 1 < lengths.len() {
                bytes.push(MARK);
            }
        }
        Arc::new(ByteTokens::new("t", bytes))
    }

    proptest! {
        #[test]
        fn an_epoch_reads_whole_windows_of_each_document_once_and_crosses_none(
            lengths in prop::collection::vec(0usize..60, 1..200),
            context in 1usize..20,
            closed: bool,
            seed: u64,
        ) {
            let tokens = stream(&lengths, closed);
            prop_assume!(closed || lengths.len() > 1);
            let separated = Separated::new(Arc::clone(&tokens), MARK.into()).unwrap();
            // What the definition says, counted without the code above: the marks of the stream and its ends.
            let mut all = vec![0; tokens.len() as usize];
            tokens.read(0, &mut all);
            let mut expected = 0;
            let mut from = 0;
            for at in 1..=all.len() {
                if at == all.len() || all[at] == u32::from(MARK) {
                    let last = at.min(all.len() - 1);
                    expected += (last - from) / context;
                    from = last;
                }
            }
            let sampler = match Sampler::over(&separated, context, seed, None) {
                Ok(sampler) => sampler,
                Err(_) => {
                    prop_assert_eq!(expected, 0);
                    return Ok(());
                }
            };
            prop_assert_eq!(sampler.windows(), expected as u64);
            prop_assert_eq!(sampler.unique_tokens(u64::MAX), (expected * context) as u64);
            for epoch in 0..2 {
                let mut predicted = vec![false; all.len()];
                for row in epoch * sampler.windows()..(epoch + 1) * sampler.windows() {
                    let start = sampler.row_start(row) as usize;
                    let inside = &all[start..=start + context];
                    let marks = inside[1..context].iter().filter(|id| **id == u32::from(MARK)).count();
                    prop_assert_eq!(marks, 0, "a mark inside of {:?}", inside);
                    for seen in &mut predicted[start + 1..=start + context] {
                        prop_assert!(!*seen, "predicted twice");
                        *seen = true;
                    }
                }
            }
        }
    }

    #[test]
    fn beginnings_and_ends_are_both_read() {
        // Two hundred documents of one window and a half.
        let tokens = stream(&[14; 200], true);
        let separated = Separated::new(Arc::clone(&tokens), MARK.into()).unwrap();
        let sampler = Sampler::over(&separated, 10, 1, None).unwrap();
        assert_eq!(sampler.windows(), 200);
        let mut row = [0; 11];
        let ends = (0..200).filter(|index| {
            tokens.read(sampler.row_start(*index), &mut row);
            row[10] == u32::from(MARK)
        });
        let ends = ends.count();
        assert!((70..130).contains(&ends), "{ends} of 200 windows end with their document");
    }

    #[test]
    fn the_places_are_pinned() {
        // Any change here makes old runs unrepeatable.
        let lengths: Vec<usize> = (0..100).map(|i| i * 37 % 91).collect();
        let separated = Separated::new(stream(&lengths, true), MARK.into()).unwrap();
        let sampler = Sampler::over(&separated, 16, 1, None).unwrap();
        let starts: Vec<u64> = (0..5).map(|row| sampler.row_start(row)).collect();
        assert_eq!((sampler.windows(), &starts[..]), (237, &[3668, 794, 3868, 2063, 3716][..]));
    }

    #[test]
    fn a_part_is_of_the_windows_and_what_has_no_documents_is_refused() {
        let tokens = stream(&[30; 40], true);
        let separated = Separated::new(Arc::clone(&tokens), MARK.into()).unwrap();
        let part = Sampler::over(&separated, 10, 3, Some(200)).unwrap();
        assert_eq!((part.windows(), part.unique_tokens(1000)), (20, 200));
        let text = Separated::new(tokens, 254).err().unwrap().to_string();
        assert!(text.contains("254 does not occur") && text.contains("hint:"), "{text}");
        let short = Separated::new(stream(&[5; 40], true), MARK.into()).unwrap();
        let text = Sampler::over(&short, 10, 3, None).unwrap_err().to_string();
        assert!(text.contains("no document") && text.contains("context"), "{text}");
    }
}
