//! What a language model's engine is fed: rows of tokens, made by whoever reads data and eaten by whoever computes.

/// Sequences of equal length with their targets: `tokens[B, T + 1]`, each token of a row predicting the next.
///
/// Its largest id is found once, when it is filled, so that a reader and an engine each compare one number with their
/// vocabulary instead of every token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    tokens: Vec<u32>,
    sequences: usize,
    length: usize,
    largest: u32,
}

impl TokenBatch {
    /// `tokens[sequences, length + 1]`.
    ///
    /// # Panics
    /// If the number of tokens is another, or there are none.
    pub fn new(tokens: Vec<u32>, sequences: usize, length: usize) -> Self {
        assert!(length > 0 && sequences > 0, "a batch has rows and a row has positions");
        assert!(tokens.len() == sequences * (length + 1), "tokens[sequences, length + 1]");
        let largest = tokens.iter().copied().max().unwrap_or(0);
        Self { tokens, sequences, length, largest }
    }

    /// Zeros, to be filled.
    pub fn zeroed(sequences: usize, length: usize) -> Self {
        Self::new(vec![0; sequences * (length + 1)], sequences, length)
    }

    /// Writes other tokens into the same memory: `write` gets each row of `length + 1` with its index.
    ///
    /// # Errors
    /// The first of `write`'s. The batch then holds what was written so far.
    pub fn fill<E>(&mut self, mut write: impl FnMut(usize, &mut [u32]) -> Result<(), E>) -> Result<(), E> {
        let mut rows = self.tokens.chunks_exact_mut(self.length + 1).enumerate();
        let filled = rows.try_for_each(|(index, row)| write(index, row));
        self.largest = self.tokens.iter().copied().max().unwrap_or(0);
        filled
    }

    /// Number of sequences B.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Positions per sequence T.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens to be predicted: B·T.
    pub fn predicted(&self) -> u64 {
        (self.sequences * self.length) as u64
    }

    /// The largest id in it.
    pub fn largest(&self) -> u32 {
        self.largest
    }

    /// Row `index`: T + 1 tokens.
    pub fn row(&self, index: usize) -> &[u32] {
        &self.tokens[index * (self.length + 1)..][..self.length + 1]
    }

    /// What sequence `index` is given: T tokens.
    pub fn inputs(&self, index: usize) -> &[u32] {
        &self.row(index)[..self.length]
    }

    /// What it is to predict: T tokens.
    pub fn targets(&self, index: usize) -> &[u32] {
        &self.row(index)[1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_id_is_that_of_what_was_filled_last() {
        let mut batch = TokenBatch::new(vec![0, 9, 2, 3, 4, 5], 2, 2);
        assert_eq!((batch.largest(), batch.inputs(0), batch.targets(1)), (9, &[0, 9][..], &[4, 5][..]));
        batch
            .fill::<()>(|index, row| {
                row.fill(index as u32);
                Ok(())
            })
            .unwrap();
        assert_eq!((batch.largest(), batch.row(1)), (1, &[1, 1, 1][..]));
        // A row that could not be written leaves what was written, and its largest id with it.
        assert_eq!(
            batch.fill(|index, row| {
                row.fill(7);
                if index == 1 { Err("no row") } else { Ok(()) }
            }),
            Err("no row")
        );
        assert_eq!(batch.largest(), 7);
    }
}
