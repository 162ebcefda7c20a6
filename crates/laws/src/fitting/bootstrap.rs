//! The bootstrap by run: every run gets a random weight (exponential, the Bayesian bootstrap of Rubin 1981), all its rows the same; each
//! refit starts at the optimum and is polished. Whole-number counts would drop a third of a small table's runs from every sample and
//! make the refits scatter too much: `examples/coverage` measured 99 to 100 % for 95 % intervals of 30 runs, with weights 95 to 98 %.

use super::minimise::{Problem, Solver, Stop};
use super::search::spread;
use crate::document::Ends;
use crate::numeric::Theta;
use crate::numeric::quantile::{normal_cdf, normal_quantile};
use crate::numeric::random::Random;

const STOP: Stop = Stop { steps: 60, tolerance: 1e-8, exact: true };

/// Coordinates of `refits` refits under random weights of whole runs, in order.
pub fn refits(
    problem: &Problem<'_>,
    optimum: &Theta,
    refits: usize,
    seed: u64,
    threads: usize,
) -> Vec<Theta> {
    spread(refits, threads, |solver: &mut Solver, i| {
        let mut random = Random::new(seed, i as u64 + 1);
        let counts: Vec<f64> = (0..problem.data.runs).map(|_| -libm::log(1.0 - random.uniform())).collect();
        let w: Vec<f64> = problem.w.iter().zip(&problem.data.run).map(|(w, run)| w * counts[*run]).collect();
        let sample = Problem { w: &w, ..*problem };
        // A kink this sharp holds a search where it starts: widen it first.
        if problem.penalty.is_floor() {
            return solver.narrow(&sample, optimum, STOP).theta;
        }
        solver.minimise(&sample, optimum, STOP).theta
    })
}

/// Percentile interval at `level` of values from a sample of `runs` runs fitted with `p` coordinates.
///
/// Widened by √(n/(n−p)) for a smooth objective, whose refits scatter too little by that much; a kinked one (all residuals in the linear
/// part of the penalty) scatters too much by about as much. `linear` is the share of residuals there, and the exponent goes from
/// ½ to −½ with it: a rule that `examples/coverage` bears out.
pub fn percentiles(values: &[f64], level: f64, runs: usize, p: usize, linear: f64) -> Ends {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if sorted.len() < 20 || runs <= p {
        return Ends::default();
    }
    sorted.sort_by(f64::total_cmp);
    let ratio = runs as f64 / (runs - p) as f64;
    let wide = libm::pow(ratio, 0.5 - linear) * normal_quantile(0.5 + 0.5 * level);
    let tail = normal_cdf(-wide);
    Ends { lo: Some(at(&sorted, tail)), hi: Some(at(&sorted, 1.0 - tail)) }
}

/// The `share` quantile of sorted values, interpolated.
pub fn at(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Standard deviation.
pub fn spread_of(values: &[f64]) -> Option<f64> {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if finite.len() < 2 {
        return None;
    }
    let mean = finite.iter().sum::<f64>() / finite.len() as f64;
    let sum: f64 = finite.iter().map(|v| (v - mean) * (v - mean)).sum();
    Some(libm::sqrt(sum / (finite.len() - 1) as f64))
}
