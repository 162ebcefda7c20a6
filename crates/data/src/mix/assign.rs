//! Which source each row of a run is of.
//!
//! With weights w_k of sum W, source k is due T_k(n) = n·w_k/W of the first n rows; where weights change, T_k grows by
//! the new ones from there on. Rows are given so that each source has had ⌊T_k(n)⌋ or ⌈T_k(n)⌉ of them after *every*
//! n: a source may not have its i-th row before T_k passes i − 1, has to have it by when T_k reaches i, and of those
//! that may the one that has to soonest is next. That is Tijdeman's chairman assignment problem (1980, *Discrete
//! Mathematics* 32), which has such a sequence for any weights, and scheduling the earliest deadline first finds one
//! where there is one (Steiner & Yeomans 1993, *Management Science* 39). All in whole numbers.
//!
//! It does not depend on the seed. Neither is anything drawn: of two halves every other row is the other's.

use crate::DataError;

/// Rows between two places where the counts so far are kept.
const MARK: usize = 256;
/// Most rows of a run that has a mix: their sources are listed, a byte each.
const MOST_ROWS: u64 = 1 << 30;
/// Most sources.
pub const MOST_SOURCES: usize = 255;

/// Weights that hold from a row on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The first row they hold for.
    pub from_row: u64,
    /// One per source; not all 0.
    pub weights: Vec<u64>,
}

/// The source of every row of a run, and how many rows of each came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    sources: usize,
    of_row: Vec<u8>,
    /// Counts before rows 0, [`MARK`], 2·[`MARK`], …
    marks: Vec<u64>,
}

impl Assignment {
    /// The first `rows` rows. Of two runs with the same stages the shorter is the beginning of the longer.
    ///
    /// # Errors
    /// [`DataError::Setting`]: no weights, too many rows, or weights whose common denominator exceeds 2⁶².
    ///
    /// # Panics
    /// If the stages do not begin at row 0 and ascend, or have weights of different numbers of sources.
    pub fn new(stages: &[Stage], rows: u64) -> Result<Self, DataError> {
        assert!(stages.first().is_some_and(|s| s.from_row == 0), "a first stage from the start");
        assert!(stages.windows(2).all(|s| s[0].from_row < s[1].from_row), "stages ascend");
        let sources = stages[0].weights.len();
        assert!(stages.iter().all(|s| s.weights.len() == sources) && sources <= MOST_SOURCES);
        if rows > MOST_ROWS {
            return Err(setting(
                format!("{rows} rows are more than a mix can have ({MOST_ROWS})"),
                "use a longer context or fewer tokens",
            ));
        }
        let shares = shares(stages)?;
        let mut clock = Clock { stages: &shares, stage: 0, due: vec![0; sources] };
        let mut counts = vec![0u64; sources];
        let mut this = Self { sources, of_row: Vec::with_capacity(rows as usize), marks: Vec::new() };
        for row in 0..rows {
            if row.is_multiple_of(MARK as u64) {
                this.marks.extend_from_slice(&counts);
            }
            let source = clock.next(row);
            counts[source] += 1;
            this.of_row.push(source as u8);
        }
        if rows.is_multiple_of(MARK as u64) {
            this.marks.extend_from_slice(&counts);
        }
        Ok(this)
    }

    /// Rows that are assigned.
    pub fn rows(&self) -> u64 {
        self.of_row.len() as u64
    }

    /// The source of a row.
    pub fn source(&self, row: u64) -> usize {
        usize::from(self.of_row[row as usize])
    }

    /// How many of the rows before `row` each source has.
    ///
    /// # Panics
    /// Beyond the rows that are assigned.
    pub fn counts(&self, row: u64) -> Vec<u64> {
        let row = row as usize;
        assert!(row <= self.of_row.len(), "row {row} of {}", self.of_row.len());
        let mark = row / MARK;
        let mut counts = self.marks[mark * self.sources..][..self.sources].to_vec();
        for &source in &self.of_row[mark * MARK..row] {
            counts[usize::from(source)] += 1;
        }
        counts
    }
}

/// A stage in parts of one whole that is common to all: `parts` sum to it.
struct Shares {
    from_row: u64,
    parts: Vec<i128>,
}

/// All stages with a common denominator.
fn shares(stages: &[Stage]) -> Result<Vec<Shares>, DataError> {
    const MOST: u128 = 1 << 62;
    let none = || setting("the weights of a mix are all 0".to_owned(), "give at least one source a weight");
    let mut whole = 1u128;
    for stage in stages {
        let sum: u128 = stage.weights.iter().map(|w| u128::from(*w)).sum();
        if sum == 0 {
            return Err(none());
        }
        whole = whole / gcd(whole, sum) * sum;
        if whole > MOST {
            return Err(setting(
                "the weights of a mix have too many digits for all of its stages together".to_owned(),
                "round them, e.g. to whole per cent",
            ));
        }
    }
    let parts = |stage: &Stage| {
        let sum: u128 = stage.weights.iter().map(|w| u128::from(*w)).sum();
        stage.weights.iter().map(|w| (u128::from(*w) * (whole / sum)) as i128).collect()
    };
    Ok(stages.iter().map(|s| Shares { from_row: s.from_row, parts: parts(s) }).collect())
}

/// What is due to whom, row by row.
struct Clock<'a> {
    stages: &'a [Shares],
    stage: usize,
    /// What each source is due beyond the rows it has had, in parts of a row; all sum to 0 after each row.
    due: Vec<i128>,
}

impl Clock<'_> {
    /// The source of the next row.
    fn next(&mut self, row: u64) -> usize {
        if self.stages.get(self.stage + 1).is_some_and(|next| next.from_row <= row) {
            self.stage += 1;
        }
        let parts = &self.stages[self.stage].parts;
        let whole: i128 = parts.iter().sum();
        for (due, part) in self.due.iter_mut().zip(parts) {
            *due += part;
        }
        let may = (0..parts.len()).filter(|&k| self.due[k] > 0);
        let next = may.min_by_key(|&k| self.deadline(k, row, whole)).expect("what is due sums to a row");
        self.due[next] -= whole;
        next
    }

    /// The row at which a source will be due a whole one more than it has had.
    fn deadline(&self, k: usize, row: u64, whole: i128) -> u128 {
        let (mut due, mut at) = (self.due[k], u128::from(row));
        for stage in self.stage..self.stages.len() {
            let part = self.stages[stage].parts[k];
            // Rows until it is due at this rate, this one counted already.
            let rows = if due >= whole { Some(0) } else { ceil_div(whole - due, part) };
            let end = self.stages.get(stage + 1).map(|next| u128::from(next.from_row));
            match (rows, end) {
                (Some(rows), None) => return at + rows,
                // The last row at this rate is the one before the next stage's first.
                (Some(rows), Some(end)) if at + rows < end => return at + rows,
                (_, Some(end)) => {
                    due += part * (end - 1 - at) as i128;
                    at = end - 1;
                }
                (None, None) => {}
            }
        }
        u128::MAX
    }
}

/// How many parts it takes; `None` for never.
fn ceil_div(what: i128, part: i128) -> Option<u128> {
    (part > 0).then(|| ((what + part - 1) / part) as u128)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn setting(what: String, hint: &str) -> DataError {
    DataError::Setting { what, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assign(stages: &[(u64, &[u64])], rows: u64) -> Assignment {
        let stages: Vec<Stage> =
            stages.iter().map(|(from_row, w)| Stage { from_row: *from_row, weights: w.to_vec() }).collect();
        Assignment::new(&stages, rows).unwrap()
    }

    proptest! {
        #[test]
        fn after_every_row_each_source_is_within_one_row_of_its_weights(
            first in proptest::collection::vec(0u64..1000, 2..7),
            change in proptest::collection::vec((1u64..200, proptest::collection::vec(0u64..50, 7)), 0..4),
        ) {
            prop_assume!(first.iter().any(|w| *w > 0));
            let k = first.len();
            let mut stages = vec![Stage { from_row: 0, weights: first }];
            for (rows, weights) in change {
                let weights = weights[..k].to_vec();
                prop_assume!(weights.iter().any(|w| *w > 0));
                stages.push(Stage { from_row: stages.last().unwrap().from_row + rows, weights });
            }
            let rows = 1500;
            let assignment = Assignment::new(&stages, rows).unwrap();
            let (mut counts, mut due) = (vec![0u64; k], vec![0.0; k]);
            for row in 0..rows {
                prop_assert_eq!(&assignment.counts(row), &counts);
                let stage = stages.iter().rev().find(|s| s.from_row <= row).unwrap();
                let sum: u64 = stage.weights.iter().sum();
                counts[assignment.source(row)] += 1;
                for i in 0..k {
                    due[i] += stage.weights[i] as f64 / sum as f64;
                    let off: f64 = counts[i] as f64 - due[i];
                    prop_assert!(off.abs() < 1.0 - 1e-9 || off.abs() < 1e-6, "source {} is {} rows off after {}", i, off, row);
                }
            }
            prop_assert_eq!(assignment.counts(rows), counts);
        }
    }

    #[test]
    fn the_sequence_is_pinned() {
        // Any change here makes old runs unrepeatable.
        let of = |stages: &[(u64, &[u64])], rows| -> Vec<usize> {
            let assignment = assign(stages, rows);
            (0..rows).map(|row| assignment.source(row)).collect()
        };
        assert_eq!(of(&[(0, &[1, 1])], 6), [0, 1, 0, 1, 0, 1]);
        assert_eq!(of(&[(0, &[1, 0, 3])], 8), [2, 2, 0, 2, 2, 2, 0, 2]);
        assert_eq!(of(&[(0, &[5, 3, 2])], 10), [0, 1, 0, 2, 0, 1, 0, 1, 0, 2]);
        assert_eq!(of(&[(0, &[1, 1]), (3, &[0, 1])], 6), [0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_shorter_run_is_the_beginning_of_a_longer_one() {
        let stages: [(u64, &[u64]); 2] = [(0, &[7, 2, 4]), (300, &[1, 5, 1])];
        let (short, long) = (assign(&stages, 500), assign(&stages, 900));
        assert!((0..500).all(|row| short.source(row) == long.source(row)));
        assert_eq!(short.counts(500), long.counts(500));
    }

    #[test]
    fn what_cannot_be_divided_is_an_error() {
        let error = |stages: Vec<Stage>, rows| Assignment::new(&stages, rows).unwrap_err().to_string();
        let stage = |from_row, weights: &[u64]| Stage { from_row, weights: weights.to_vec() };
        assert!(error(vec![stage(0, &[0, 0])], 5).contains("all 0"));
        assert!(error(vec![stage(0, &[1, 1])], u64::MAX).contains("rows"));
        let odd = [999_983u64, 999_979, 999_961, 999_959].iter().zip(0..);
        let stages = odd.map(|(prime, at)| stage(at, &[1, prime - 1])).collect();
        assert!(error(stages, 5).contains("too many digits"));
    }
}
