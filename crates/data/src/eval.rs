//! The windows of an evaluation.
//!
//! Window `i` reads tokens `[i·T, i·T+T)` and predicts `[i·T+1, i·T+T+1)`; context starts anew in each; the short last
//! window is scored too. So every token but the first is predicted exactly once, and the mean over predicted tokens
//! does not depend on how windows are batched.

use crate::sampler::zero_context;
use crate::{DataError, Tokens, read_rows};
use isoflop_base::TokenBatch;

/// One window of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First token read.
    pub start: u64,
    /// Tokens predicted: the row is `length + 1` tokens from `start`.
    pub length: usize,
    /// The block of text the window lies in: losses within a block are correlated, so standard errors cluster by it.
    pub block: u32,
}

/// The windows over a stream of `len` tokens, in order. With `limit`, only as many windows as are needed to predict
/// that many tokens, evenly spread: the first ones would be one author's, and no estimate of the whole. `block_tokens`
/// is the length of a clustering block ([`crate::CorpusInfo::block_tokens`]).
///
/// # Panics
/// If `context` or `block_tokens` is 0.
pub fn eval_windows(
    len: u64,
    context: usize,
    block_tokens: u64,
    limit: Option<u64>,
) -> impl Iterator<Item = Window> {
    assert!(context > 0 && block_tokens > 0, "a window and a block have at least one token");
    let predicted = len.saturating_sub(1);
    let all = predicted.div_ceil(context as u64);
    let count = limit.map_or(all, |limit| all.min(limit.div_ceil(context as u64)));
    (0..count).map(move |i| {
        // The product of two u64 may not fit one.
        let window = (u128::from(i) * u128::from(all) / u128::from(count)) as u64;
        let start = window * context as u64;
        Window {
            start,
            length: (predicted - start).min(context as u64) as usize,
            block: u32::try_from(start / block_tokens).expect("fewer than 2^32 blocks"),
        }
    })
}

/// Windows of equal length to evaluate together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalBatch {
    /// The rows: as many as windows, each as long as they.
    pub rows: TokenBatch,
    /// The windows, one per row.
    pub windows: Vec<Window>,
}

/// The windows of an evaluation, read and grouped into batches of at most `max_sequences` rows; a short last window is
/// a batch of its own.
///
/// # Errors
/// [`DataError::TooFewTokens`] if there is nothing to predict; per batch, an id beyond the vocabulary.
pub fn eval_batches(
    tokens: &dyn Tokens,
    context: usize,
    block_tokens: u64,
    limit: Option<u64>,
    max_sequences: usize,
) -> Result<impl Iterator<Item = Result<EvalBatch, DataError>>, DataError> {
    if context == 0 {
        return Err(zero_context());
    }
    if tokens.len() < 2 || limit == Some(0) {
        let source_name = tokens.name().to_owned();
        return Err(DataError::TooFewTokens { source_name, tokens: tokens.len(), context: 1 });
    }
    let mut windows = eval_windows(tokens.len(), context, block_tokens, limit).peekable();
    Ok(std::iter::from_fn(move || {
        let first = windows.next()?;
        let mut group = vec![first];
        while group.len() < max_sequences.max(1) {
            match windows.next_if(|w| w.length == first.length) {
                Some(window) => group.push(window),
                None => break,
            }
        }
        let mut rows = TokenBatch::zeroed(group.len(), first.length);
        let read = read_rows(tokens, &mut rows, |index| group[index].start);
        Some(read.map(|()| EvalBatch { rows, windows: group }))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteTokens;

    fn check(len: u64, context: usize, limit: Option<u64>, expected: &[(u64, usize, u32)]) {
        let windows: Vec<_> =
            eval_windows(len, context, 8, limit).map(|w| (w.start, w.length, w.block)).collect();
        assert_eq!(windows, expected, "len {len}, context {context}, limit {limit:?}");
    }

    #[test]
    fn windows_follow_the_definition() {
        check(13, 4, None, &[(0, 4, 0), (4, 4, 0), (8, 4, 1)]);
        check(15, 4, None, &[(0, 4, 0), (4, 4, 0), (8, 4, 1), (12, 2, 1)]);
        check(14, 4, None, &[(0, 4, 0), (4, 4, 0), (8, 4, 1), (12, 1, 1)]);
        check(3, 4, None, &[(0, 2, 0)]);
        check(1, 4, None, &[]);
        check(0, 4, None, &[]);
        check(15, 4, Some(5), &[(0, 4, 0), (8, 4, 1)]);
        check(41, 4, Some(12), &[(0, 4, 0), (12, 4, 1), (24, 4, 3)]);
        check(15, 4, Some(1000), &[(0, 4, 0), (4, 4, 0), (8, 4, 1), (12, 2, 1)]);
    }

    #[test]
    fn batches_predict_every_token_but_the_first_once() {
        let tokens = ByteTokens::new("t", (0..=254).collect());
        for max in [1, 3, 7, 100] {
            let mut predicted = Vec::new();
            for batch in eval_batches(&tokens, 16, 64, None, max).unwrap() {
                let batch = batch.unwrap();
                assert!(batch.windows.len() <= max);
                for (index, w) in batch.windows.iter().enumerate() {
                    let row = batch.rows.row(index);
                    assert_eq!(u64::from(row[0]), w.start);
                    predicted.extend_from_slice(&row[1..]);
                }
            }
            assert_eq!(predicted, (1..=254).collect::<Vec<u32>>(), "max {max}");
        }
        assert!(eval_batches(&ByteTokens::new("t", vec![1]), 16, 64, None, 4).is_err());
    }
}
