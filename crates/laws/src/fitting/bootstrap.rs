//! The bootstrap by run: whole runs are drawn with replacement, each refit starts at the optimum and is polished. Percentiles
//! are widened for small samples (Hesterberg 2015, "What teachers should know about the bootstrap").

use super::minimise::{Problem, Solver, Stop};
use super::search::spread;
use crate::document::Ends;
use crate::numeric::Theta;
use crate::numeric::quantile::{normal_cdf, t_quantile};
use crate::numeric::random::Random;

const STOP: Stop = Stop { steps: 60, tolerance: 1e-8, exact: true };

/// Refits of `refits` samples of whole runs; coordinates of each, in order.
pub fn refits(
    problem: &Problem<'_>,
    optimum: &Theta,
    refits: usize,
    seed: u64,
    threads: usize,
) -> Vec<Theta> {
    spread(refits, threads, |solver: &mut Solver, i| {
        let mut random = Random::new(seed, i as u64 + 1);
        let mut counts = vec![0.0; problem.data.runs];
        for _ in 0..problem.data.runs {
            counts[random.below(problem.data.runs)] += 1.0;
        }
        let w: Vec<f64> = problem.w.iter().zip(&problem.data.run).map(|(w, run)| w * counts[*run]).collect();
        let sample = Problem { w: &w, ..*problem };
        solver.minimise(&sample, optimum, STOP).theta
    })
}

/// Percentile interval at `level` of values from a sample of `runs` runs fitted with `p` coordinates, widened by √(n/(n−p)) and Student's t.
pub fn percentiles(values: &[f64], level: f64, runs: usize, p: usize) -> Ends {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if sorted.len() < 20 || runs <= p {
        return Ends::default();
    }
    sorted.sort_by(f64::total_cmp);
    let dof = (runs - p) as f64;
    let wide = libm::sqrt(runs as f64 / dof) * t_quantile(0.5 + 0.5 * level, dof);
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
