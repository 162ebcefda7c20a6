//! Two recipes against each other, each by runs of several sizes, seeds and lengths: by how much the loss differs, how
//! sure that is, and how many times the data (and so, at one size, the compute) the first would need to match the
//! second.
//!
//! The unit of evidence is a run, or a pair of runs of one size and seed: its points at several lengths share its luck
//! and are averaged first.

use crate::arms::{Estimate, mean, regression};
use crate::numeric::quantile::t_quantile;

/// One finished point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Parameters.
    pub size: f64,
    /// Seed.
    pub seed: u64,
    /// Training tokens.
    pub tokens: f64,
    /// Held-out loss, nats per token.
    pub loss: f64,
}

/// One size and length at which both recipes have points.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Parameters.
    pub size: f64,
    /// Training tokens.
    pub tokens: f64,
    /// Losses of the first recipe's seeds.
    pub first: Vec<f64>,
    /// Losses of the second's.
    pub second: Vec<f64>,
    /// Second less first, by Welch's interval where both have two seeds or more.
    pub difference: Estimate,
}

/// What two recipes say of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// By size and length.
    pub cells: Vec<Cell>,
    /// Whether each run of one recipe has a twin of its size and seed in the other.
    pub paired: bool,
    /// Mean difference of the losses, second less first, nats per token.
    pub difference: Estimate,
    /// Times the tokens with which the first recipe reaches what the second does, at equal size: its compute
    /// multiplier. `None` where no size has two lengths, or its loss does not fall between them.
    pub multiplier: Option<Estimate>,
    /// Units (pairs, or runs of both together) that would tell the difference from the threshold if its spread stayed
    /// what it is; `None` where the spread is not known or there is no difference to tell.
    pub needed: Option<usize>,
}

/// A loss that falls by less than this power of the tokens says nothing of tokens.
const LEAST_SLOPE: f64 = 0.003;
/// More runs than this are no advice.
const MOST: usize = 100_000;

/// Compares the points of two recipes; `None` where they have no size and length in common. A difference counts from
/// `threshold` nats on.
pub fn compare(first: &[Measured], second: &[Measured], threshold: f64, level: f64) -> Option<Comparison> {
    let cells = cells(first, second, level);
    if cells.is_empty() {
        return None;
    }
    let runs = [runs(first, &cells), runs(second, &cells)];
    let twin = |run: &Run, of: &[Run]| of.iter().any(|other| other.key() == run.key());
    let (few, many) =
        if runs[0].len() <= runs[1].len() { (&runs[0], &runs[1]) } else { (&runs[1], &runs[0]) };
    let paired = few.len() >= 2 && few.iter().all(|run| twin(run, many));
    let (difference, spread) = effect(&runs, paired, level, |_, _, loss| Some(loss))?;
    let slopes = slopes(first);
    let multiplier = effect(&runs, paired, level, |size, tokens, loss| {
        let slope = slopes.iter().find(|s| s.size == size && s.tokens == tokens)?.slope;
        (slope >= LEAST_SLOPE).then(|| -libm::log(loss) / slope)
    });
    let needed = spread.and_then(|spread| needed(difference, spread, threshold, level));
    Some(Comparison {
        cells,
        paired,
        difference,
        multiplier: multiplier.map(|(m, _)| m.map(libm::exp)),
        needed,
    })
}

fn cells(first: &[Measured], second: &[Measured], level: f64) -> Vec<Cell> {
    let mut places: Vec<(f64, f64)> = first.iter().map(|m| (m.size, m.tokens)).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    places.dedup();
    let at = |of: &[Measured], place: (f64, f64)| -> Vec<f64> {
        of.iter().filter(|m| (m.size, m.tokens) == place).map(|m| m.loss).collect()
    };
    places
        .into_iter()
        .map(|place| (place, at(first, place), at(second, place)))
        .filter(|(_, a, b)| !a.is_empty() && !b.is_empty())
        .map(|((size, tokens), a, b)| Cell {
            size,
            tokens,
            difference: welch(&a, &b, level),
            first: a,
            second: b,
        })
        .collect()
}

/// The difference of two means, with Welch's interval: each group has its own variance, degrees of freedom by
/// Satterthwaite.
fn welch(a: &[f64], b: &[f64], level: f64) -> Estimate {
    let stats = |v: &[f64]| {
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        let variance = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
        (mean, variance / n, n - 1.0)
    };
    let ((mean_a, va, da), (mean_b, vb, db)) = (stats(a), stats(b));
    let value = mean_b - mean_a;
    let ends = (a.len() > 1 && b.len() > 1 && va + vb > 0.0).then(|| {
        let dof = (va + vb) * (va + vb) / (va * va / da + vb * vb / db);
        let half = t_quantile(0.5 + 0.5 * level, dof) * libm::sqrt(va + vb);
        (value - half, value + half)
    });
    Estimate { value, ends, units: a.len() + b.len() }
}

/// A run's losses at the lengths that both recipes have of its size.
struct Run {
    size: f64,
    seed: u64,
    /// (tokens, loss).
    points: Vec<(f64, f64)>,
}

impl Run {
    fn key(&self) -> (u64, u64) {
        (self.size.to_bits(), self.seed)
    }
}

/// The runs that have all lengths of their size that are compared: means over other lengths would differ by those.
fn runs(of: &[Measured], cells: &[Cell]) -> Vec<Run> {
    let mut keys: Vec<(f64, u64)> = of.iter().map(|m| (m.size, m.seed)).collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.dedup();
    keys.into_iter()
        .filter_map(|(size, seed)| {
            let lengths = cells.iter().filter(|c| c.size == size).map(|c| c.tokens);
            let loss = |tokens: f64| {
                let own = of.iter().find(|m| m.size == size && m.seed == seed && m.tokens == tokens)?;
                Some((tokens, own.loss))
            };
            let points: Vec<(f64, f64)> = lengths.map(loss).collect::<Option<_>>()?;
            (!points.is_empty()).then_some(Run { size, seed, points })
        })
        .collect()
}

/// The mean difference of a function of the losses, second less first, and the spread of one unit of evidence with its
/// degrees of freedom.
fn effect(
    runs: &[Vec<Run>; 2],
    paired: bool,
    level: f64,
    of: impl Fn(f64, f64, f64) -> Option<f64>,
) -> Option<(Estimate, Option<f64>)> {
    // A run's mean over its lengths; lengths that say nothing are left out of all runs alike.
    let value = |run: &Run| -> Option<f64> {
        let all: Vec<f64> =
            run.points.iter().filter_map(|(tokens, loss)| of(run.size, *tokens, *loss)).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let estimate = if paired {
        let differences: Vec<f64> = runs[0]
            .iter()
            .filter_map(|a| Some((a, runs[1].iter().find(|b| b.key() == a.key())?)))
            .filter_map(|(a, b)| Some(value(b)? - value(a)?))
            .collect();
        mean(&differences, level)?
    } else {
        let mut sizes: Vec<f64> = runs.iter().flatten().map(|run| run.size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (second, run) in runs.iter().enumerate().flat_map(|(k, of)| of.iter().map(move |run| (k, run))) {
            let Some(value) = value(run) else { continue };
            // A level for each size, and what the second recipe adds.
            let mut row: Vec<f64> = sizes.iter().map(|s| f64::from(u8::from(*s == run.size))).collect();
            row.push(second as f64);
            x.push(row);
            y.push(value);
        }
        let told = |k: usize| x.iter().map(|row| row[k]).sum::<f64>() > 0.0;
        let kept: Vec<usize> = (0..=sizes.len()).filter(|k| told(*k)).collect();
        let x: Vec<Vec<f64>> = x.iter().map(|row| kept.iter().map(|k| row[*k]).collect()).collect();
        *regression(&x, &y, level)?.last()?
    };
    let spread = estimate.half_width().map(|half| {
        let n = estimate.units as f64;
        half / t_quantile(0.5 + 0.5 * level, (n - 1.0).max(1.0)) * libm::sqrt(n)
    });
    Some((estimate, spread))
}

/// Units at which the interval of this difference would end before the threshold.
fn needed(difference: Estimate, spread: f64, threshold: f64, level: f64) -> Option<usize> {
    let beyond = difference.value.abs() - threshold;
    if !(beyond > 0.0 && spread > 0.0) {
        return None;
    }
    let half = |n: usize| t_quantile(0.5 + 0.5 * level, n as f64 - 1.0) * spread / libm::sqrt(n as f64);
    let mut n = 2;
    while half(n) > beyond {
        n += 1 + n / 50;
        if n > MOST {
            return None;
        }
    }
    Some(n)
}

struct Slope {
    size: f64,
    tokens: f64,
    slope: f64,
}

/// −d ln L/d ln D of the first recipe at each size and length, between its neighbours in length.
fn slopes(first: &[Measured]) -> Vec<Slope> {
    let mut curve: Vec<(f64, f64, f64, f64)> = Vec::new();
    for m in first {
        match curve.iter_mut().find(|c| (c.0, c.1) == (m.size, m.tokens)) {
            Some(place) => (place.2, place.3) = (place.2 + m.loss, place.3 + 1.0),
            None => curve.push((m.size, m.tokens, m.loss, 1.0)),
        }
    }
    curve.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let ln = |c: &(f64, f64, f64, f64)| (libm::log(c.1), libm::log(c.2 / c.3));
    let mut out = Vec::new();
    for (i, c) in curve.iter().enumerate() {
        let below = i.checked_sub(1).map(|k| &curve[k]).filter(|o| o.0 == c.0).unwrap_or(c);
        let above = curve.get(i + 1).filter(|o| o.0 == c.0).unwrap_or(c);
        let ((x0, y0), (x1, y1)) = (ln(below), ln(above));
        if x1 > x0 {
            out.push(Slope { size: c.0, tokens: c.1, slope: (y0 - y1) / (x1 - x0) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::random::Random;

    /// L = 1 + 30·N^−0.3 + 40·(mD)^−0.3 with luck of `noise` nats a run: `m` times the tokens' worth.
    fn points(
        m: f64,
        noise: f64,
        sizes: &[f64],
        seeds: std::ops::Range<u64>,
        lengths: &[f64],
    ) -> Vec<Measured> {
        let mut out = Vec::new();
        for (k, &size) in sizes.iter().enumerate() {
            for seed in seeds.clone() {
                let mut random = Random::new(seed + (m * 1e6) as u64, k as u64);
                let luck = noise * (0..12).map(|_| random.uniform() - 0.5).sum::<f64>();
                for &tokens in lengths {
                    let loss = 1.0 + 30.0 * libm::pow(size, -0.3) + 40.0 * libm::pow(m * tokens, -0.3) + luck;
                    out.push(Measured { size, seed, tokens, loss });
                }
            }
        }
        out
    }

    const SIZES: [f64; 3] = [1e4, 1e5, 1e6];
    const LENGTHS: [f64; 4] = [1e6, 2e6, 4e6, 8e6];

    #[test]
    fn a_recipe_worth_more_tokens_is_found_to_be_worth_them() {
        let (a, b) = (points(1.0, 0.0, &SIZES, 0..3, &LENGTHS), points(1.3, 0.0, &SIZES, 0..3, &LENGTHS));
        let found = compare(&a, &b, 0.0, 0.95).unwrap();
        assert!(found.paired && found.cells.len() == 12);
        let multiplier = found.multiplier.unwrap();
        assert!((multiplier.value - 1.3).abs() < 0.02, "{multiplier:?}");
        assert!(found.difference.is_below(0.0), "{:?}", found.difference);
        // The other way round it is the reciprocal, about.
        let back = compare(&b, &a, 0.0, 0.95).unwrap().multiplier.unwrap();
        assert!((back.value * 1.3 - 1.0).abs() < 0.03, "{back:?}");
    }

    #[test]
    fn intervals_hold_the_truth_paired_or_not() {
        for (other, paired) in [(0..4, true), (100..104, false)] {
            let (mut held, mut multipliers) = (0, 0);
            for trial in 0..200 {
                let shift = trial * 1000;
                let a = points(1.0, 0.01, &SIZES, shift..shift + 4, &LENGTHS);
                let b = points(1.2, 0.01, &SIZES, other.start + shift..other.end + shift, &LENGTHS);
                let truth =
                    mean(&LENGTHS.map(|d| 40.0 * (libm::pow(1.2 * d, -0.3) - libm::pow(d, -0.3))), 0.95)
                        .unwrap()
                        .value;
                let found = compare(&a, &b, 0.0, 0.95).unwrap();
                assert_eq!(found.paired, paired);
                held += i32::from(found.difference.holds(truth));
                multipliers += i32::from(found.multiplier.unwrap().holds(1.2));
            }
            assert!((180..=199).contains(&held), "{held} of 200 intervals hold the difference");
            assert!(multipliers >= 175, "{multipliers} of 200 hold the multiplier");
        }
    }

    #[test]
    fn what_would_tell_is_said_and_tells() {
        let with = |seeds: u64| {
            let a = points(1.0, 0.02, &SIZES, 0..seeds, &LENGTHS);
            compare(&a, &points(1.1, 0.02, &SIZES, 50..50 + seeds, &LENGTHS), 0.0, 0.95).unwrap()
        };
        let few = with(2);
        assert!(few.difference.holds(0.0), "{:?}", few.difference);
        let needed = few.needed.unwrap();
        assert!(needed > few.difference.units, "{needed}");
        // Far more than that tell.
        let many = with(4 * needed as u64 / 6 + 1);
        assert!(many.difference.is_below(0.0), "{needed}: {:?}", many.difference);
        let (a, b) = (points(1.0, 0.02, &SIZES, 0..2, &LENGTHS), points(1.1, 0.02, &SIZES, 0..2, &LENGTHS));
        // A threshold above the difference cannot be told from by any number of runs.
        assert_eq!(compare(&a, &b, 1.0, 0.95).unwrap().needed, None);
    }

    #[test]
    fn one_run_each_has_a_difference_and_no_interval() {
        let a = points(1.0, 0.0, &SIZES[..1], 0..1, &LENGTHS[..1]);
        let b = points(2.0, 0.0, &SIZES[..1], 5..6, &LENGTHS[..1]);
        let found = compare(&a, &b, 0.0, 0.95).unwrap();
        assert!(found.difference.value < 0.0 && found.difference.ends.is_none());
        assert!(found.multiplier.is_none() && found.needed.is_none());
        assert_eq!(compare(&a, &points(1.0, 0.0, &[5.0], 0..1, &LENGTHS), 0.0, 0.95), None);
    }
}
