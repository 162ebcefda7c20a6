//! Variable projection: with the exponents given, E, A and B are a non-negative linear least-squares problem, so that only the
//! exponents are searched, on a grid. Nearly free of starts; its best points are polished with the true objective.

use super::minimise::{FINE, Optimum, Problem};
use super::search::spread;
use crate::forms::LinearPart;
use crate::numeric::Theta;
use crate::numeric::linear::least_squares;

/// Searches the exponents on a grid, keeps the best few by squared relative error of the loss, and runs the real search from them.
pub fn search(problem: &Problem<'_>, part: &LinearPart, threads: usize) -> Vec<Optimum> {
    let grid: Vec<f64> = match part.exponents.len() {
        1 => (1..=120).map(|i| 0.0125 * f64::from(i)).collect(),
        _ => [0.02, 0.05, 0.08, 0.11, 0.14, 0.17, 0.2, 0.23, 0.26, 0.3, 0.34, 0.38, 0.43, 0.48]
            .into_iter()
            .chain([0.54, 0.6, 0.68, 0.76, 0.86, 0.98, 1.12, 1.3, 1.6, 2.0])
            .collect(),
    };
    let width = grid.len();
    let count = width.pow(part.exponents.len() as u32);
    let exponents = |index: usize| -> Vec<f64> {
        (0..part.exponents.len()).map(|k| grid[index / width.pow(k as u32) % width]).collect()
    };
    let mut scored: Vec<(f64, usize, Theta)> =
        spread(count, threads, |_, i| project(problem, part, &exponents(i)))
            .into_iter()
            .enumerate()
            .filter_map(|(i, found)| found.map(|(score, theta)| (score, i, theta)))
            .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.truncate(8);
    spread(scored.len(), threads, |solver, i| solver.search(problem, &scored[i].2, FINE))
}

/// The best non-negative coefficients for given exponents: (squared relative error, coordinates).
fn project(problem: &Problem<'_>, part: &LinearPart, exponents: &[f64]) -> Option<(f64, Theta)> {
    let data = problem.data;
    let n = data.len();
    // Centred variables keep the columns of one size; the shift goes back into the coefficient.
    let means: Vec<f64> = data.x.iter().map(|c| c.iter().sum::<f64>() / n as f64).collect();
    let y: Vec<f64> = data.y.iter().map(|v| libm::exp(*v)).collect();
    let w: Vec<f64> = problem.w.iter().zip(&y).map(|(w, y)| w / (y * y)).collect();
    let column = |term: usize, i: usize| match part.terms[term] {
        Some((k, variable)) => libm::exp(-exponents[k] * (data.x[variable][i] - means[variable])),
        None => 1.0,
    };
    let terms = part.terms.len();
    let mut best: Option<(f64, Theta)> = None;
    // Non-negative least squares by trying every set of terms: there are at most three.
    for set in 1..(1usize << terms) {
        let active: Vec<usize> = (0..terms).filter(|t| set >> t & 1 == 1).collect();
        let rows: Vec<Vec<f64>> = (0..n).map(|i| active.iter().map(|t| column(*t, i)).collect()).collect();
        let Some(fit) = least_squares(&rows, &y, &w) else { continue };
        if fit.beta.iter().any(|b| *b <= 0.0) || best.is_some_and(|(score, _)| score <= fit.ssr) {
            continue;
        }
        let mut theta = [0.0; crate::numeric::MAX_COORDS];
        for (k, &coordinate) in part.exponents.iter().enumerate() {
            theta[coordinate] = exponents[k];
        }
        for term in 0..terms {
            let shift = part.terms[term].map_or(0.0, |(k, variable)| exponents[k] * means[variable]);
            // An absent term starts four orders below one nat, from where the search may lift it again.
            let value = active.iter().position(|t| *t == term).map_or(1e-4, |i| fit.beta[i]);
            theta[part.ln_coefficient[term]] = libm::log(value) + shift;
        }
        best = Some((fit.ssr, theta));
    }
    best
}
