//! Which runs would tell most? For a proposed set of runs the standard error of the asked quantity is expected from the fitted law's own
//! Jacobian: (JᵀJ/σ² + what is known before)⁻¹, with one new row per proposed run. Nothing of it depends on losses not yet seen.

use crate::fitting::data::{Data, Work, evaluate};
use crate::forms::Form;
use crate::numeric::linear::{inverse, quadratic};
use crate::numeric::{MAX_COORDS, Square, Theta};
use crate::{Row, Table};

/// Weak knowledge that keeps an unidentified direction finite: standard deviations of 5 for logarithms, 0.5 for exponents.
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

/// Expected standard error of `asked` (of its logarithm for positive constants and losses) after the rows of `existing` and one row
/// per (N, D) of `proposed`. `None` if the form has no such parameter or the matrix is singular.
pub fn expected_se(
    form: &Form,
    theta: &Theta,
    sigma: f64,
    existing: &Table,
    proposed: &[(f64, f64)],
    asked: &Asked,
) -> Option<f64> {
    let mut table = existing.clone();
    table.rows.extend(proposed.iter().enumerate().map(|(i, (n, d))| Row::of(i + 1, *n, *d, 1.0)));
    let (data, _) = Data::of(form, &table);
    let mut work = Work::default();
    evaluate(form, &data, theta, &mut work);
    let p = form.p();
    let mut information: Square = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            let sum: f64 = work.jac[i].iter().zip(&work.jac[j]).map(|(a, b)| a * b).sum();
            information[i][j] = sum / (sigma * sigma);
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

    #[test]
    fn wider_ladders_tell_more_and_more_runs_never_tell_less() {
        let form = by_id("l_nd_chinchilla").unwrap()[0];
        let theta = theta_of(&[6.0, 7.1, 0.57, 0.34, 0.34]);
        let asked = Asked::Loss { n: 1e9, d: 2e10 };
        let se =
            |runs: &[(f64, f64)]| expected_se(form, &theta, 0.005, &Table::default(), runs, &asked).unwrap();
        let narrow = [(1e7, 2e8), (1.2e7, 3e8), (1.5e7, 4e8)];
        let wide = [(1e6, 1e9), (1e7, 2e8), (1e8, 2e9)];
        assert!(se(&wide) < se(&narrow));
        let mut more = wide.to_vec();
        more.push((3e8, 6e9));
        assert!(se(&more) < se(&wide));
        let unknown = Asked::Parameter("nothing".into());
        assert!(expected_se(form, &theta, 0.005, &Table::default(), &wide, &unknown).is_none());
    }
}
