//! Variable projection: with the exponents given, E, A and B are a non-negative linear least-squares problem, so that
//! only the exponents are searched, on a grid. Nearly free of starts; its best points are polished with the true
//! objective.

use super::data::dot;
use super::minimise::{FINE, Optimum, Problem};
use super::search::{sample, spread};
use crate::forms::LinearPart;
use crate::numeric::Theta;
use crate::numeric::linear::least_squares;

/// Searches the exponents on a grid, keeps the best few by squared relative error of the loss, and runs the real
/// search from them. The grid sees a sample of a long table's rows, the real search all of them.
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
    let places = |index: usize| -> Vec<usize> {
        (0..part.exponents.len()).map(|k| index / width.pow(k as u32) % width).collect()
    };
    let columns = Columns::of(problem, part, &grid);
    let mut scored: Vec<(f64, usize, Theta)> =
        spread(count, threads, |_, i| columns.project(part, &grid, &places(i)))
            .into_iter()
            .enumerate()
            .filter_map(|(i, found)| found.map(|(score, theta)| (score, i, theta)))
            .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.truncate(8);
    spread(scored.len(), threads, |solver, i| solver.search(problem, &scored[i].2, FINE, true))
}

/// √w/L times what each term may be: its power of the variable for every exponent of the grid, or one.
struct Columns {
    /// `powers[term][place in the grid][row]`; one column for the constant term.
    powers: Vec<Vec<Vec<f64>>>,
    /// √w/L·L, the right-hand side.
    y: Vec<f64>,
    /// Mean of each variable: columns centred there are of one size, and the shift goes back into the coefficient.
    means: Vec<f64>,
}

impl Columns {
    fn of(problem: &Problem<'_>, part: &LinearPart, grid: &[f64]) -> Self {
        let rows = sample(problem.data);
        let data = problem.data;
        let means: Vec<f64> =
            data.x.iter().map(|c| rows.iter().map(|i| c[*i]).sum::<f64>() / rows.len() as f64).collect();
        let root: Vec<f64> = rows.iter().map(|i| libm::sqrt(problem.w[*i].max(0.0))).collect();
        let scale: Vec<f64> = rows.iter().zip(&root).map(|(i, s)| s * libm::exp(-data.y[*i])).collect();
        let power = |exponent: f64, variable: usize| -> Vec<f64> {
            let column = &data.x[variable];
            let of = |i: usize| libm::exp(-exponent * (column[i] - means[variable]));
            rows.iter().zip(&scale).map(|(i, s)| s * of(*i)).collect()
        };
        let powers = part
            .terms
            .iter()
            .map(|term| match term {
                Some((_, variable)) => grid.iter().map(|e| power(*e, *variable)).collect(),
                None => vec![scale.clone()],
            })
            .collect();
        Self { powers, y: root, means }
    }

    /// The best non-negative coefficients for given exponents: (squared relative error, coordinates).
    fn project(&self, part: &LinearPart, grid: &[f64], places: &[usize]) -> Option<(f64, Theta)> {
        let terms = part.terms.len();
        let mut columns: Vec<Vec<f64>> =
            (0..terms).map(|t| self.powers[t][part.terms[t].map_or(0, |(k, _)| places[k])].clone()).collect();
        columns.push(self.y.clone());
        // One reduction serves every set of terms: their least squares are those of the triangle's rows.
        let triangle = triangle(&mut columns);
        let right: Vec<f64> = triangle.iter().map(|row| row[terms]).collect();
        let ones = vec![1.0; triangle.len()];
        let mut best: Option<(f64, Theta)> = None;
        // Non-negative least squares by trying every set of terms: there are at most three.
        for set in 1..(1usize << terms) {
            let active: Vec<usize> = (0..terms).filter(|t| set >> t & 1 == 1).collect();
            let rows: Vec<Vec<f64>> =
                triangle.iter().map(|row| active.iter().map(|t| row[*t]).collect()).collect();
            let Some(fit) = least_squares(&rows, &right, &ones) else { continue };
            if fit.beta.iter().any(|b| *b <= 0.0) || best.is_some_and(|(score, _)| score <= fit.ssr) {
                continue;
            }
            let mut theta = [0.0; crate::numeric::MAX_COORDS];
            for (k, &coordinate) in part.exponents.iter().enumerate() {
                theta[coordinate] = grid[places[k]];
            }
            for term in 0..terms {
                let shift =
                    part.terms[term].map_or(0.0, |(k, variable)| grid[places[k]] * self.means[variable]);
                // An absent term starts four orders below one nat, from where the search may lift it again.
                let value = active.iter().position(|t| *t == term).map_or(1e-4, |i| fit.beta[i]);
                theta[part.ln_coefficient[term]] = libm::log(value) + shift;
            }
            best = Some((fit.ssr, theta));
        }
        best
    }
}

/// The triangle that Householder's reflections make of columns, by rows; as many as there are columns, or rows if those
/// are fewer.
fn triangle(columns: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let (width, n) = (columns.len(), columns[0].len());
    let height = width.min(n);
    for k in 0..height {
        let (done, rest) = columns.split_at_mut(k + 1);
        let pivot = &mut done[k];
        let norm = libm::sqrt(dot(&pivot[k..], &pivot[k..]));
        if !(norm > 0.0 && norm.is_finite()) {
            continue;
        }
        let alpha = if pivot[k] > 0.0 { -norm } else { norm };
        pivot[k] -= alpha;
        let vv = dot(&pivot[k..], &pivot[k..]);
        for column in rest {
            let share = 2.0 * dot(&pivot[k..], &column[k..]) / vv;
            column[k..].iter_mut().zip(&pivot[k..]).for_each(|(c, v)| *c -= share * v);
        }
        pivot[k] = alpha;
        pivot[k + 1..].fill(0.0);
    }
    (0..height).map(|i| columns.iter().map(|c| c[i]).collect()).collect()
}
