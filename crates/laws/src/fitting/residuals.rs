//! What is left of the rows once the law is taken away, and what that says of the form.

use super::data::Data;
use super::straight::rounding;
use crate::Table;
use crate::document::Residual;
use crate::forms::Form;

pub(super) fn residuals(form: &Form, data: &Data, table: &Table, logs: &[f64]) -> Vec<Residual> {
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by(|a, b| data.x[0][*a].total_cmp(&data.x[0][*b]).then(data.source[*a].cmp(&data.source[*b])));
    let plain = |y: f64| if form.log_response { libm::exp(y) } else { y };
    order
        .into_iter()
        .map(|i| {
            let row = &table.rows[data.source[i]];
            Residual {
                row: row.line,
                run: row.run.clone(),
                n: row.n,
                d: row.d,
                c: row.c,
                observed: plain(data.y[i]),
                predicted: plain(data.y[i] - logs[i]),
                residual: logs[i],
            }
        })
        .collect()
}

pub(super) fn r_squared(y: &[f64], residuals: &[f64]) -> Option<f64> {
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let total: f64 = y.iter().map(|v| (v - mean) * (v - mean)).sum();
    let rest: f64 = residuals.iter().map(|r| r * r).sum();
    (total > rounding(y)).then(|| 1.0 - rest / total).filter(|r| r.is_finite())
}

/// m·ln(SSR/n) + 2k + 2k(k+1)/(m−k−1) for n rows that are m pieces of evidence (runs), k counting the variance too.
pub(crate) fn aicc(ssr: f64, rows: usize, units: usize, p: usize) -> Option<f64> {
    let (n, m, k) = (rows as f64, units as f64, p as f64 + 1.0);
    (m - k - 1.0 > 0.0 && ssr > 0.0)
        .then(|| m * libm::log(ssr / n) + 2.0 * k + 2.0 * k * (k + 1.0) / (m - k - 1.0))
}
