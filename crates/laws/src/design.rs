//! Which runs would tell most? For a proposed set of runs the standard error of the asked quantity is expected from
//! the fitted law's own Jacobian: (JᵀJ/σ² + what is known before)⁻¹, with one new row per proposed run. Nothing of it
//! depends on losses not yet seen.

use crate::fitting::data::{Data, Work, dot3, evaluate};
use crate::forms::Form;
use crate::numeric::linear::{inverse, quadratic};
use crate::numeric::{MAX_COORDS, Square, Theta};
use crate::{Row, Table};

/// Weak knowledge that keeps an unidentified direction finite: standard deviations of 5 for logarithms, 0.5 for
/// exponents.
const LOG_SPREAD: f64 = 5.0;
const EXPONENT_SPREAD: f64 = 0.5;

/// What a design should pin down.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// A reported parameter by name, e.g. `alpha` or `E`.
    Parameter(String),
    /// The law's loss at a size and token count.
    Loss {
        /// Parameters.
        n: f64,
        /// Tokens.
        d: f64,
    },
}

/// A row that a run would bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposed {
    /// Which run: a trunk and its branches are one, each seed of a size is one.
    pub run: usize,
    /// Parameters.
    pub n: f64,
    /// Tokens.
    pub d: f64,
}

/// Expected standard error of `asked` (of its logarithm for positive constants and losses) after the rows of
/// `existing` and those `proposed`. The run is the unit of evidence: the rows of one run count as one row together.
/// `None` if the form has no such parameter or the matrix is singular.
pub fn expected_se(
    form: &Form,
    theta: &Theta,
    sigma: f64,
    existing: &Table,
    proposed: &[Proposed],
    asked: &Asked,
) -> Option<f64> {
    let mut table = existing.clone();
    table.rows.extend(proposed.iter().enumerate().map(|(i, Proposed { run, n, d })| {
        // A name no run of a store or a table has.
        let cluster = format!("\u{0}proposed {run}");
        Row { cluster, ..Row::of(i + 1, *n, *d, 1.0) }
    }));
    let (data, _) = Data::of(form, &table);
    let mut rows_of = vec![0.0; data.runs];
    data.run.iter().for_each(|run| rows_of[*run] += 1.0);
    let w: Vec<f64> = data.run.iter().map(|run| 1.0 / rows_of[*run]).collect();
    let mut work = Work::default();
    evaluate(form, &data, theta, &mut work);
    let p = form.p();
    let mut information: Square = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            information[i][j] = dot3(&w, &work.jac[i], &work.jac[j]) / (sigma * sigma);
        }
        let spread = if form.coords[i].name.starts_with("ln_") { LOG_SPREAD } else { EXPONENT_SPREAD };
        information[i][i] += 1.0 / (spread * spread);
    }
    let covariance = inverse(&information, p)?;
    let gradient = match asked {
        Asked::Parameter(name) => {
            let reported = form.reported.iter().find(|r| r.name == name)?;
            (reported.of)(&crate::numeric::dual::Dual::coordinates(theta)).g
        }
        Asked::Loss { n, d } => {
            let x = form.inputs(&|name| match name {
                "n" => Some(*n),
                "d" => Some(*d),
                "c" => Some(6.0 * n * d),
                _ => None,
            })?;
            form.value(&x, theta).g
        }
    };
    Some(libm::sqrt(quadratic(&covariance, &gradient, p))).filter(|s| s.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::by_id;
    use crate::numeric::theta_of;

    fn each_a_run(rows: &[(f64, f64)]) -> Vec<Proposed> {
        rows.iter().enumerate().map(|(run, (n, d))| Proposed { run, n: *n, d: *d }).collect()
    }

    #[test]
    fn copies_of_a_run_tell_nothing_and_a_branch_less_than_a_run() {
        let form = by_id("l_nd_chinchilla").unwrap()[0];
        let theta = theta_of(&[6.0, 7.1, 0.57, 0.34, 0.34]);
        let asked = Asked::Parameter("alpha".into());
        let table = |per_run: usize| {
            let mut table = Table::default();
            for (i, n) in [1e6, 1e7, 1e8].into_iter().enumerate() {
                for k in 0..per_run {
                    let row = Row::of(k + 1, n, 1e9, 3.0);
                    table.rows.push(Row { run: format!("r{i}"), ..row });
                }
            }
            table
        };
        let se =
            |table: &Table, rows: &[Proposed]| expected_se(form, &theta, 0.005, table, rows, &asked).unwrap();
        assert!((se(&table(1), &[]) / se(&table(50), &[]) - 1.0).abs() < 1e-9);
        let row = |run, d| Proposed { run, n: 3e8, d };
        let branch = se(&table(1), &[row(0, 1e9), row(0, 2e9)]);
        // The same rows of two seeds are two pieces of evidence.
        assert!(branch < se(&table(1), &[]) && branch > se(&table(1), &[row(0, 1e9), row(1, 2e9)]));
        let copy = [row(0, 1e9), row(0, 1e9)];
        assert!((se(&table(1), &copy) / se(&table(1), &copy[..1]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn wider_ladders_tell_more_and_more_runs_never_tell_less() {
        let form = by_id("l_nd_chinchilla").unwrap()[0];
        let theta = theta_of(&[6.0, 7.1, 0.57, 0.34, 0.34]);
        let asked = Asked::Loss { n: 1e9, d: 2e10 };
        let se = |runs: &[(f64, f64)]| {
            expected_se(form, &theta, 0.005, &Table::default(), &each_a_run(runs), &asked).unwrap()
        };
        let narrow = [(1e7, 2e8), (1.2e7, 3e8), (1.5e7, 4e8)];
        let wide = [(1e6, 1e9), (1e7, 2e8), (1e8, 2e9)];
        assert!(se(&wide) < se(&narrow));
        let mut more = wide.to_vec();
        more.push((3e8, 6e9));
        assert!(se(&more) < se(&wide));
        let unknown = Asked::Parameter("nothing".into());
        assert!(expected_se(form, &theta, 0.005, &Table::default(), &each_a_run(&wide), &unknown).is_none());
    }
}
