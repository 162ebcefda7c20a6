//! Approach 3 along the budgets that were tried: the lowest point of the fitted L(N, D) where the FLOPs are the
//! budget's, however they were counted. Small models spend far more than 6·N·D, so that a = β/(α + β) is not the
//! exponent of their exact FLOPs.

use super::isoflop::Budget;
use crate::FitRecord;
use crate::document::{Allocation, LineSpread, Optimum};
use crate::numeric::linear::least_squares;

/// ln D of a budget as a quadratic in ln N − centre.
struct Valley {
    c: f64,
    rows: usize,
    centre: f64,
    ends: (f64, f64),
    ln_d: [f64; 3],
}

impl Valley {
    fn of(budget: &Budget) -> Option<Self> {
        let logs: Vec<f64> = budget.rows.iter().map(|r| libm::log(r.0)).collect();
        let centre = logs.iter().sum::<f64>() / logs.len() as f64;
        let x: Vec<Vec<f64>> =
            logs.iter().map(|l| vec![1.0, l - centre, (l - centre) * (l - centre)]).collect();
        let y: Vec<f64> = budget.rows.iter().map(|r| libm::log(r.1)).collect();
        let fit = least_squares(&x, &y, &vec![1.0; y.len()])?;
        let ends = (*logs.first()?, *logs.last()?);
        let ln_d = [fit.beta[0], fit.beta[1], fit.beta[2]];
        Some(Self { c: budget.c, rows: logs.len(), centre, ends, ln_d })
    }

    fn ln_d(&self, ln_n: f64) -> f64 {
        let u = ln_n - self.centre;
        self.ln_d[0] + u * (self.ln_d[1] + u * self.ln_d[2])
    }

    /// Its lowest point under ln A, ln B, ln E, α, β.
    fn lowest(&self, theta: &[f64; 5]) -> Optimum {
        let loss = |ln_n: f64| {
            libm::exp(theta[2])
                + libm::exp(theta[0] - theta[3] * ln_n)
                + libm::exp(theta[1] - theta[4] * self.ln_d(ln_n))
        };
        let (mut lo, mut hi) = self.ends;
        for _ in 0..100 {
            let (a, b) = (lo + (hi - lo) / 3.0, hi - (hi - lo) / 3.0);
            if loss(a) < loss(b) { hi = b } else { lo = a }
        }
        let ln_n = 0.5 * (lo + hi);
        let margin = 0.01 * (self.ends.1 - self.ends.0);
        Optimum {
            c: self.c,
            n: libm::exp(ln_n),
            d: libm::exp(self.ln_d(ln_n)),
            loss: Some(loss(ln_n)),
            interior: ln_n - self.ends.0 > margin && self.ends.1 - ln_n > margin,
            rows: self.rows,
        }
    }
}

/// The line through the lowest points, with intervals from the fit's covariance to first order.
pub fn allocation(record: &FitRecord, budgets: &[Budget]) -> Option<Allocation> {
    let valleys: Vec<Valley> = budgets.iter().filter_map(Valley::of).collect();
    let value = |name: &str| record.state.names.iter().position(|n| n == name).map(|i| record.state.theta[i]);
    let theta = [value("ln_a")?, value("ln_b")?, value("ln_e")?, value("alpha")?, value("beta")?];
    let line = |theta: &[f64; 5]| super::line("surface", valleys.iter().map(|v| v.lowest(theta)).collect());
    let mut whole = line(&theta)?;
    whole.notes.push("the lowest points of the fitted L(N, D) along the budgets' own FLOPs".to_owned());
    match gradients(&theta, &whole, &line).zip(record.state.quantile) {
        Some((gradients, quantile)) if record.state.covariance.len() == theta.len() => {
            let covariance = &record.state.covariance;
            let spread_n = propagate(&gradients[0], &gradients[1], covariance, quantile);
            let se = libm::sqrt(spread_n.exponent);
            whole.a.se = Some(se);
            whole.a.lo = Some(whole.a.value - quantile * se);
            whole.a.hi = Some(whole.a.value + quantile * se);
            whole.spread_d = Some(propagate(&gradients[2], &gradients[3], covariance, quantile));
            whole.spread_n = Some(spread_n);
            whole.interval_method = "covariance of the fit of L(N, D), to first order".to_owned();
        }
        _ => whole.interval_method = "no interval: the fit of L(N, D) has no covariance there".to_owned(),
    }
    Some(whole)
}

/// Gradients of ln G, a, ln H, b in the fit's coordinates; `None` where a budget's optimum leaves the sizes tried on
/// the way.
fn gradients(
    theta: &[f64; 5],
    whole: &Allocation,
    line: &dyn Fn(&[f64; 5]) -> Option<Allocation>,
) -> Option<[[f64; 5]; 4]> {
    let inside = |a: &Allocation| a.optima.iter().map(|o| o.interior).collect::<Vec<_>>();
    let parts = |a: &Allocation| [a.ln_coefficient, a.a.value, a.ln_coefficient_d, a.b];
    let mut out = [[0.0; 5]; 4];
    for k in 0..theta.len() {
        let step = 1e-4 * (1.0 + theta[k].abs());
        let (mut above, mut below) = (*theta, *theta);
        above[k] += step;
        below[k] -= step;
        let (above, below) = (line(&above)?, line(&below)?);
        if inside(&above) != inside(whole) || inside(&below) != inside(whole) {
            return None;
        }
        for (row, (a, b)) in out.iter_mut().zip(parts(&above).into_iter().zip(parts(&below))) {
            row[k] = (a - b) / (2.0 * step);
        }
    }
    Some(out)
}

fn propagate(g: &[f64; 5], a: &[f64; 5], covariance: &[Vec<f64>], quantile: f64) -> LineSpread {
    let form = |u: &[f64; 5], v: &[f64; 5]| -> f64 {
        covariance.iter().zip(u).map(|(row, u)| u * row.iter().zip(v).map(|(c, v)| c * v).sum::<f64>()).sum()
    };
    LineSpread { coefficient: form(g, g), both: form(g, a), exponent: form(a, a).max(0.0), quantile }
}
