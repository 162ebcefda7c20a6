//! The rows of the largest budget left out, and forecast from the rest.

use super::data::Data;
use super::minimise::{Problem, Solver};
use super::penalty::Penalty;
use super::residuals::residuals;
use super::search;
use crate::document::Holdout;
use crate::forms::Form;
use crate::numeric::Theta;
use crate::table::same_level;
use crate::{Row, Table};
use std::collections::BTreeSet;

/// Leaves out the rows of the largest budget (or the largest value of the only variable), with all rows of their
/// runs, refits and forecasts them. Where that leaves too few, their runs' other rows stay, and it is said.
pub(super) fn holdout(form: &Form, table: &Table, theta: &Theta, penalty: Penalty) -> Option<Holdout> {
    let key = if form.variables.len() == 1 {
        form.variables[0].name
    } else if table.has("c") {
        "c"
    } else {
        form.variables[0].name
    };
    let (kept, left, threshold) = without_top(table, key)?;
    let tops: BTreeSet<&str> = left.rows.iter().map(Row::unit).filter(|u| !u.is_empty()).collect();
    let others = kept.filtered(|r| !tops.contains(r.unit()));
    let shared = others.rows.len() < kept.rows.len();
    let (kept, seen) = if form.check(&others).is_ok() { (others, false) } else { (kept, shared) };
    form.check(&kept).ok()?;
    let (data, _) = Data::of(form, &kept);
    let problem = Problem { form, data: &data, w: &data.w, penalty, pull: None };
    let mut starts = (form.starts)(&data.columns(), false);
    starts.push(*theta);
    let best = search::search(&problem, &starts, 1)?;
    let (tested_data, _) = Data::of(form, &left);
    let test = Problem { form, data: &tested_data, w: &tested_data.w, ..problem };
    let (_, logs) = Solver::default().report(&test, &best.optimum.theta);
    let tested = residuals(form, &tested_data, &left, &logs);
    let count = tested.len() as f64;
    let finite = |x: f64| Some(x).filter(|v| v.is_finite());
    let symbol = key.to_uppercase();
    Some(Holdout {
        left_out: (if left.levels(key).len() > 1 {
            format!("{symbol} >= {}", isoflop_base::units::si(threshold))
        } else {
            format!("{symbol} = {}", isoflop_base::units::si(threshold))
        }) + if seen { " (earlier rows of the same runs were fitted)" } else { "" },
        rows_fitted: data.len(),
        rows_tested: tested.len(),
        rms: finite(libm::sqrt(logs.iter().map(|r| r * r).sum::<f64>() / count)),
        bias: finite(logs.iter().sum::<f64>() / count),
        tested,
    })
}

/// The table without its largest levels of a column, the rows of those levels (at least a twentieth of all), and where
/// they begin.
fn without_top(table: &Table, key: &str) -> Option<(Table, Table, f64)> {
    let levels = table.levels(key);
    let least = table.rows.len().div_ceil(20);
    let threshold = levels.iter().rev().copied().find(|level| {
        table.rows.iter().filter(|r| r.get(key).is_some_and(|x| x > *level || same_level(x, *level))).count()
            >= least
    })?;
    let out = |v: Option<f64>| v.is_some_and(|x| x > threshold || same_level(x, threshold));
    Some((table.filtered(|r| !out(r.get(key))), table.filtered(|r| out(r.get(key))), threshold))
}
