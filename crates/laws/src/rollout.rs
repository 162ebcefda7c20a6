//! Whether the law of some sizes foretells the others: each next size from all smaller ones, and each size from all the
//! others.
//!
//! A law that was fitted to a series passes near its points by construction; what it is worth shows where it had to
//! speak first. The *rollout* does so for every k: L(N) of the k smallest sizes, and what it says of size k + 1.
//! Leaving out one size at a time asks the same from both sides, and tells a size that is out of line (a learning rate
//! that does not suit it, a run that went wrong) from a line that bends.

use crate::document::{LeftOut, Rollout};
use crate::forecast::{Target, forecast, outcome};
use crate::{Options, Table};

/// Sizes that a line is drawn through at least.
const LEAST: usize = 3;
/// A table of more sizes at one D is no series of trainings by one hand; each costs a fit.
const MOST: usize = 32;

/// Tokens, rows and sizes.
type Series = (f64, Table, Vec<f64>);

/// The rows at the most tokens at which enough sizes stand, and those sizes.
fn series(table: &Table) -> Option<Series> {
    table.levels("d").into_iter().rev().find_map(|level| {
        let rows =
            table.filtered(|r| r.n.is_some() && r.d.is_some_and(|d| crate::table::same_level(d, level)));
        let sizes = rows.levels("n");
        (LEAST < sizes.len() && sizes.len() <= MOST).then_some((level, rows, sizes))
    })
}

/// Mean loss of the rows of a size, and how many they are.
fn observed(rows: &Table, n: f64) -> (f64, usize) {
    let losses: Vec<f64> = (rows.rows.iter())
        .filter(|r| r.n.is_some_and(|x| crate::table::same_level(x, n)))
        .map(|r| r.loss)
        .collect();
    (losses.iter().sum::<f64>() / losses.len() as f64, losses.len())
}

/// The sizes at the most tokens: for every k from three on what L(N) of the k smallest says of the next, and what that
/// of all others says of each.
pub fn foretold(table: &Table, options: &Options) -> (Vec<Rollout>, Vec<LeftOut>) {
    series(table).map(|series| (rollout(&series, options), left_out(&series, options))).unwrap_or_default()
}

fn rollout(&(tokens, ref rows, ref sizes): &Series, options: &Options) -> Vec<Rollout> {
    let known = (LEAST..sizes.len()).filter_map(|k| {
        let smaller =
            rows.filtered(|r| r.n.is_some_and(|n| n < sizes[k] && !crate::table::same_level(n, sizes[k])));
        let forecast = forecast(&smaller, &[Target { n: sizes[k], d: tokens }], options).ok()?.pop()?;
        let (loss, seeds) = observed(rows, sizes[k]);
        let outcome = outcome(&forecast, loss);
        Some(Rollout {
            tokens,
            sizes: k,
            n: sizes[k],
            forecast: forecast.loss,
            lo: forecast.lo,
            hi: forecast.hi,
            observed: loss,
            seeds,
            hit: outcome.hit,
            relative_error: outcome.relative_error,
        })
    });
    known.collect()
}

fn left_out(&(tokens, ref rows, ref sizes): &Series, options: &Options) -> Vec<LeftOut> {
    let known = sizes.iter().filter_map(|&n| {
        let others = rows.filtered(|r| r.n.is_some_and(|x| !crate::table::same_level(x, n)));
        let expected = forecast(&others, &[Target { n, d: tokens }], options).ok()?.pop()?;
        let (loss, seeds) = observed(rows, n);
        let ruling = match (expected.lo, expected.hi) {
            (_, Some(hi)) if loss > hi => "looks untuned",
            (Some(lo), _) if loss < lo => "better than the others say",
            (Some(_), Some(_)) => "on the line",
            _ => "cannot tell",
        };
        Some(LeftOut {
            tokens,
            n,
            expected: expected.loss,
            lo: expected.lo,
            hi: expected.hi,
            observed: loss,
            seeds,
            ruling: ruling.to_owned(),
        })
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    /// L = 1 + (1e5/N)^0.3 at two lengths, with the errors given for the longer one.
    fn table(errors: &[f64]) -> Table {
        let mut table = Table::default();
        for d in [3e6, 12e6] {
            for (i, e) in errors.iter().enumerate() {
                let n = 1e4 * 2f64.powi(i as i32);
                let loss = (1.0 + (1e5 / n).powf(0.3) + 1e5 / d) * if d > 1e7 { 1.0 + e } else { 1.5 };
                table.rows.push(Row::of(table.rows.len() + 1, n, d, loss));
            }
        }
        table
    }

    const SMALL: [f64; 7] = [1e-3, -8e-4, 4e-4, 9e-4, -1e-3, 3e-4, -6e-4];

    #[test]
    fn each_size_is_foretold_by_the_smaller_ones_at_the_most_tokens() {
        let rows = foretold(&table(&SMALL), &Options::default()).0;
        assert_eq!(rows.iter().map(|r| r.sizes).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(rows.iter().all(|r| r.tokens == 12e6 && r.seeds == 1), "{rows:?}");
        // With three sizes a floor cannot be told from none; from five on it can.
        assert!(rows[2..].iter().all(|r| r.hit && r.relative_error.abs() < 0.025), "{rows:?}");
    }

    #[test]
    fn a_size_out_of_line_is_named_and_the_others_are_not() {
        let fine = foretold(&table(&SMALL), &Options::default()).1;
        assert!(fine.len() == 7 && fine.iter().all(|s| s.ruling == "on the line"), "{fine:?}");
        let mut errors = SMALL;
        errors[3] = 0.05;
        let found = foretold(&table(&errors), &Options::default()).1;
        assert_eq!(found[3].ruling, "looks untuned", "{found:?}");
        assert!(found.iter().enumerate().all(|(i, s)| i == 3 || s.ruling != "looks untuned"), "{found:?}");
    }

    #[test]
    fn three_sizes_are_too_few_and_no_grid_is_no_series() {
        assert!(foretold(&table(&SMALL[..3]), &Options::default()).0.is_empty());
        let mut many = Table::default();
        for i in 0..60 {
            many.rows.push(Row::of(i + 1, 1e4 * 1.2f64.powi(i as i32), 1e7, 2.0 - 0.01 * i as f64));
        }
        assert!(foretold(&many, &Options::default()).1.is_empty());
    }
}
