//! Approach 2: at each budget, where is the bottom of the valley of loss against size?

use crate::Table;
use crate::document::Optimum;
use crate::numeric::linear::least_squares;

/// Rows of one budget.
#[derive(Debug, Clone)]
pub struct Budget {
    /// FLOPs (geometric mean of its rows).
    pub c: f64,
    /// (N, D, loss), ascending in N; repeats of a size by their mean.
    pub rows: Vec<(f64, f64, f64)>,
}

/// Groups of rows with nearly the same C (a group spans at most 30 %, and is set apart from its neighbours by a gap),
/// with at least three sizes each.
pub fn budgets(table: &Table) -> Vec<Budget> {
    let mut rows: Vec<(f64, f64, f64, f64)> = table
        .rows
        .iter()
        .filter_map(|r| Some((libm::log(r.c?), r.n?, r.d?, r.loss)))
        .filter(|r| r.3.is_finite() && r.3 > 0.0)
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut groups: Vec<Vec<(f64, f64, f64, f64)>> = Vec::new();
    for row in rows {
        match groups.last_mut() {
            Some(g) if row.0 - g[g.len() - 1].0 < 0.09 && row.0 - g[0].0 < 0.27 => g.push(row),
            _ => groups.push(vec![row]),
        }
    }
    groups
        .into_iter()
        .map(|mut g| {
            let c = libm::exp(g.iter().map(|r| r.0).sum::<f64>() / g.len() as f64);
            g.sort_by(|a, b| a.1.total_cmp(&b.1));
            let mut merged: Vec<(f64, f64, f64, f64)> = Vec::new();
            for (_, n, d, loss) in g {
                match merged.last_mut() {
                    Some(m) if crate::table::same_level(m.0, n) => {
                        m.2 += loss;
                        m.3 += 1.0;
                    }
                    _ => merged.push((n, d, loss, 1.0)),
                }
            }
            Budget { c, rows: merged.into_iter().map(|(n, d, sum, k)| (n, d, sum / k)).collect() }
        })
        .filter(|b| b.rows.len() >= 3)
        .collect()
}

/// Bottom of the parabola of raw loss in ln N through all rows of a budget; not interior if it opens downwards or its
/// bottom lies outside of the sizes tried.
pub fn parabola(budget: &Budget) -> Option<Optimum> {
    let logs: Vec<f64> = budget.rows.iter().map(|r| libm::log(r.0)).collect();
    let centre = logs.iter().sum::<f64>() / logs.len() as f64;
    let x: Vec<Vec<f64>> = logs.iter().map(|l| vec![1.0, l - centre, (l - centre) * (l - centre)]).collect();
    let y: Vec<f64> = budget.rows.iter().map(|r| r.2).collect();
    let fit = least_squares(&x, &y, &vec![1.0; y.len()])?;
    let (b0, b1, b2) = (fit.beta[0], fit.beta[1], fit.beta[2]);
    let bottom = -b1 / (2.0 * b2);
    let ln_n = bottom + centre;
    let interior = b2 > 0.0 && ln_n >= logs[0] && ln_n <= logs[logs.len() - 1];
    let n = libm::exp(ln_n);
    if !(n.is_finite() && n > 0.0) {
        return None;
    }
    // D at the bottom, between the rows' own N·D.
    let ln_nd = budget.rows.iter().map(|r| libm::log(r.0 * r.1)).sum::<f64>() / logs.len() as f64;
    Some(Optimum {
        c: budget.c,
        n,
        d: libm::exp(ln_nd - ln_n),
        loss: Some(b0 + b1 * bottom + b2 * bottom * bottom).filter(|l| l.is_finite()),
        interior,
        rows: budget.rows.len(),
    })
}

/// The row with the lowest loss.
pub fn argmin(budget: &Budget) -> Option<Optimum> {
    let (i, best) = budget.rows.iter().enumerate().min_by(|a, b| a.1.2.total_cmp(&b.1.2))?;
    Some(Optimum {
        c: budget.c,
        n: best.0,
        d: best.1,
        loss: Some(best.2),
        interior: i > 0 && i + 1 < budget.rows.len(),
        rows: budget.rows.len(),
    })
}
