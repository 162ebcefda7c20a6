//! Which window of the training stream each row reads.
//!
//! An epoch is every non-overlapping window of the stream once, in an order given by a keyed permutation. The
//! permutation is a Feistel network over the smallest even-bit domain that holds all windows, walked until it lands
//! inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"): constant memory for any file size, and row
//! `i` is found without its predecessors, so a resumed run needs no sampler state.

use crate::boundaries::DocumentWindows;
use crate::{DataError, Tokens, read_rows};
use isoflop_base::TokenBatch;
pub(crate) use isoflop_base::bits::mix;

/// Rounds of the network. Four are provably enough against an adversary; this only has to look shuffled.
const ROUNDS: u64 = 6;
/// Mixed with the seed where only a part of a stream is read.
const PART: u64 = 0x7061_7274;

/// A pure function from (seed, row index) to a window of the training stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    context: u64,
    /// Windows of an epoch.
    windows: u64,
    half_bits: u32,
    seed: u64,
    /// Where an epoch is only a part of the stream: which windows are its.
    part: Option<Part>,
    /// Where windows lie, if not at multiples of the context.
    documents: Option<DocumentWindows>,
}

/// The first windows of a permutation of all: those a stream is read down to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    all: u64,
    half_bits: u32,
    key: u64,
}

impl Sampler {
    /// Windows of `context + 1` tokens at multiples of `context` in a stream of `tokens_len`.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] if not one window fits; [`DataError::Setting`] for a context of 0.
    pub fn new(tokens_len: u64, context: usize, seed: u64) -> Result<Self, DataError> {
        if context == 0 {
            return Err(zero_context());
        }
        let windows = tokens_len.saturating_sub(1) / context as u64;
        if windows == 0 {
            let source_name = "training split".to_owned();
            return Err(DataError::TooFewTokens { source_name, tokens: tokens_len, context });
        }
        Ok(Self::of_windows(windows, context as u64, seed))
    }

    fn of_windows(windows: u64, context: u64, seed: u64) -> Self {
        Self { context, windows, half_bits: half_bits(windows), seed, part: None, documents: None }
    }

    /// As [`Self::of_part`], of a stream: in windows inside of its documents where it keeps them apart.
    ///
    /// # Errors
    /// As [`Self::of_part`]; [`DataError::Setting`] where no document is long enough.
    pub fn over(
        tokens: &dyn Tokens,
        context: usize,
        seed: u64,
        part: Option<u64>,
    ) -> Result<Self, DataError> {
        let Some(boundaries) = tokens.boundaries() else {
            return Self::of_part(tokens.len(), context, seed, part);
        };
        if context == 0 {
            return Err(zero_context());
        }
        let documents = DocumentWindows::new(boundaries, context as u64, seed);
        let windows = documents.total();
        if windows == 0 {
            return Err(DataError::Setting {
                what: format!(
                    "no document of {} has a window of {context} tokens inside of it ({} documents)",
                    tokens.name(),
                    boundaries.documents()
                ),
                hint: "use a shorter context, or leave documents = \"separate\" out".to_owned(),
            });
        }
        let whole = Self { documents: Some(documents), ..Self::of_windows(windows, context as u64, seed) };
        whole.part(part)
    }

    /// As [`Self::new`], but only so many tokens of the stream are read, in whole windows that the seed chooses from
    /// all of it.
    ///
    /// # Errors
    /// As [`Self::new`]; [`DataError::Setting`] for less than a window.
    pub fn of_part(
        tokens_len: u64,
        context: usize,
        seed: u64,
        tokens: Option<u64>,
    ) -> Result<Self, DataError> {
        Self::new(tokens_len, context, seed)?.part(tokens)
    }

    fn part(self, tokens: Option<u64>) -> Result<Self, DataError> {
        let Some(tokens) = tokens else { return Ok(self) };
        let windows = tokens / self.context;
        if windows == 0 {
            return Err(DataError::Setting {
                what: format!("{tokens} tokens are less than one window of {}", self.context),
                hint: "read more of it, or use a shorter context".into(),
            });
        }
        if windows >= self.windows {
            return Ok(self);
        }
        let part = Part { all: self.windows, half_bits: self.half_bits, key: mix(self.seed ^ PART) };
        Ok(Self { windows, half_bits: half_bits(windows), part: Some(part), ..self })
    }

    /// Windows in one epoch.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// First token of row `index`, counted over the whole run.
    pub fn row_start(&self, index: u64) -> u64 {
        let (epoch, position) = (index / self.windows, index % self.windows);
        let key = mix(self.seed ^ mix(epoch.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        let window = permuted(position, self.windows, self.half_bits, key);
        let window = match &self.part {
            Some(part) => permuted(window, part.all, part.half_bits, part.key),
            None => window,
        };
        match &self.documents {
            Some(documents) => documents.start(window),
            None => window * self.context,
        }
    }

    /// Rows `first .. first + B` into a batch of B rows of T positions.
    ///
    /// # Errors
    /// An id beyond the vocabulary, or a file that shrank.
    ///
    /// # Panics
    /// If the batch's rows have another length than the sampler's context.
    pub fn fill(&self, tokens: &dyn Tokens, first: u64, batch: &mut TokenBatch) -> Result<(), DataError> {
        assert_eq!(batch.length() as u64, self.context, "rows as long as the context");
        read_rows(tokens, batch, |index| self.row_start(first + index as u64))
    }

    /// The same as a batch of its own.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn batch(&self, tokens: &dyn Tokens, first: u64, rows: usize) -> Result<TokenBatch, DataError> {
        let mut batch = TokenBatch::zeroed(rows, self.context as usize);
        self.fill(tokens, first, &mut batch)?;
        Ok(batch)
    }

    /// Passes over the stream after `rows` rows.
    pub fn epochs(&self, rows: u64) -> f64 {
        rows as f64 / self.windows as f64
    }

    /// Distinct predicted tokens after `rows` rows.
    pub fn unique_tokens(&self, rows: u64) -> u64 {
        rows.min(self.windows) * self.context
    }
}

/// Half the bits of the smallest even-bit domain that holds so many windows.
fn half_bits(windows: u64) -> u32 {
    (u64::BITS - (windows - 1).leading_zeros()).div_ceil(2).max(1)
}

/// Where a keyed permutation of `0..windows` puts a value of it.
fn permuted(value: u64, windows: u64, half_bits: u32, key: u64) -> u64 {
    let mut window = permute(value, half_bits, key);
    while window >= windows {
        window = permute(window, half_bits, key);
    }
    window
}

fn permute(value: u64, half_bits: u32, key: u64) -> u64 {
    let mask = (1 << half_bits) - 1;
    let (mut left, mut right) = (value >> half_bits, value & mask);
    for round in 0..ROUNDS {
        let f = mix(key ^ mix(right | round << 58)) & mask;
        (left, right) = (right, left ^ f);
    }
    left << half_bits | right
}

pub(crate) fn zero_context() -> DataError {
    DataError::Setting { what: "a context of 0 tokens".into(), hint: "give a context of at least 1".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteTokens;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn an_epoch_visits_every_window_once(len in 2u64..3000, context in 1usize..40, seed: u64, epoch in 0u64..3) {
            prop_assume!(len > context as u64);
            let sampler = Sampler::new(len, context, seed).unwrap();
            let n = sampler.windows();
            let starts: HashSet<u64> = (epoch * n..(epoch + 1) * n).map(|i| sampler.row_start(i)).collect();
            prop_assert_eq!(starts.len() as u64, n);
            for start in starts {
                prop_assert_eq!(start % context as u64, 0);
                prop_assert!(start + (context as u64) < len);
            }
        }
    }

    #[test]
    fn of_a_part_every_epoch_has_the_same_windows_from_all_over_the_stream() {
        let part = Sampler::of_part(100_001, 100, 3, Some(20_050)).unwrap();
        assert_eq!((part.windows(), part.unique_tokens(1000), part.epochs(500)), (200, 20_000, 2.5));
        let epoch = |e: u64| (e * 200..(e + 1) * 200).map(|i| part.row_start(i)).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        let sorted = |mut v: Vec<u64>| {
            v.sort_unstable();
            v
        };
        let windows = sorted(first);
        assert_eq!(windows, sorted(second));
        assert!(
            windows.windows(2).all(|w| w[0] < w[1])
                && windows.iter().all(|w| w % 100 == 0 && w + 100 < 100_001)
        );
        let in_first_half = windows.iter().filter(|w| **w < 50_000).count();
        assert!((75..125).contains(&in_first_half), "{in_first_half}");
        assert_eq!(Sampler::of_part(1001, 100, 3, Some(5000)).unwrap(), Sampler::new(1001, 100, 3).unwrap());
        assert!(matches!(Sampler::of_part(1001, 100, 3, Some(99)), Err(DataError::Setting { .. })));
    }

    #[test]
    fn seeds_and_epochs_give_different_orders_and_the_same_seed_the_same() {
        let order = |seed, epoch: u64| {
            let s = Sampler::new(100_001, 100, seed).unwrap();
            (0..1000).map(|i| s.row_start(epoch * 1000 + i)).collect::<Vec<_>>()
        };
        assert_eq!(order(1, 0), order(1, 0));
        for (a, b) in [(order(1, 0), order(2, 0)), (order(1, 0), order(1, 1))] {
            let same = a.iter().zip(&b).filter(|(x, y)| x == y).count();
            assert!(same < 10, "{same} of 1000 rows at the same place");
        }
    }

    #[test]
    fn the_order_is_pinned() {
        // Any change here makes old runs unrepeatable.
        let s = Sampler::new(1_000_000, 256, 1).unwrap();
        let starts: Vec<u64> = (0..4).map(|i| s.row_start(i) / 256).collect();
        assert_eq!(starts, [1091, 1043, 578, 7]);
    }

    #[test]
    fn neighbours_in_order_are_not_neighbours_in_text() {
        let s = Sampler::new(1_000_001, 100, 7).unwrap();
        let n = s.windows() as f64;
        let w: Vec<f64> = (0..10_000).map(|i| s.row_start(i) as f64 / 100.0 / n).collect();
        // Mean |difference| of two independent uniforms is 1/3 with a standard error near 0.0024 here.
        let mean = w.windows(2).map(|p| (p[0] - p[1]).abs()).sum::<f64>() / (w.len() - 1) as f64;
        assert!((mean - 1.0 / 3.0).abs() < 0.012, "{mean}");
    }

    #[test]
    fn a_batch_is_its_rows() {
        let tokens = ByteTokens::new("t", (0..=255).collect());
        let s = Sampler::new(256, 10, 3).unwrap();
        let all = s.batch(&tokens, 0, 40).unwrap();
        let later = s.batch(&tokens, 30, 10).unwrap();
        assert!((0..10).all(|row| all.row(30 + row) == later.row(row)));
        let start = s.row_start(5) as u32;
        assert_eq!(all.row(5), (start..start + 11).collect::<Vec<_>>());
        assert_eq!(s.epochs(50), 2.0);
        assert_eq!(s.unique_tokens(50), 250);
    }

    #[test]
    fn too_few_tokens_and_no_context_are_errors() {
        assert!(matches!(Sampler::new(256, 256, 0), Err(DataError::TooFewTokens { .. })));
        assert!(Sampler::new(257, 256, 0).is_ok());
        assert!(matches!(Sampler::new(257, 0, 0), Err(DataError::Setting { .. })));
    }
}
