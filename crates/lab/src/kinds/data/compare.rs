//! Arms of one size, length and seed beside each other: what is common to all questions about data.

use crate::kinds::{Finished, Found};
use isoflop_base::study::RunSpec;

/// A size and a seed: the unit of evidence of paired comparisons. Its arms share initial values and data order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    /// N.
    pub(super) params: u64,
    /// Seed.
    pub(super) seed: u64,
}

impl Unit {
    pub(super) fn of(run: &RunSpec) -> Self {
        Self { params: run.model.params(), seed: run.seed }
    }
}

/// Whether a run is on clean text, all of it, under the study's own recipe.
pub(super) fn is_clean(run: &RunSpec) -> bool {
    match run.arm.get("junk").map(String::as_str) {
        Some(kind) => kind == "none",
        None => run.arm.is_empty(),
    }
}

/// The units of a study, ascending.
pub(super) fn units(found: &Found<'_>) -> Vec<Unit> {
    let mut units: Vec<Unit> = found.points.iter().map(|f| Unit::of(f.run)).collect();
    units.sort_unstable();
    units.dedup();
    units
}

/// (tokens, loss) of the points of a unit's runs for which `keep` holds.
pub(super) fn curve(found: &Found<'_>, unit: Unit, keep: impl Fn(&RunSpec) -> bool) -> Vec<(f64, f64)> {
    let of_unit = found.points.iter().filter(|f| Unit::of(f.run) == unit && keep(f.run));
    let mut points: Vec<(f64, f64)> = of_unit.map(|f| (f.point.tokens as f64, f.point.loss)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// The loss of a curve at a length, to within half a per cent of it.
pub(super) fn at(curve: &[(f64, f64)], tokens: f64) -> Option<f64> {
    curve.iter().find(|(d, _)| isoflop_laws::table::same_level(*d, tokens)).map(|(_, loss)| *loss)
}

/// Distinct values of a number of the points, ascending; nearly equal ones once.
pub(super) fn levels(found: &Found<'_>, of: impl Fn(&Finished<'_>) -> Option<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = found.points.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|b, a| isoflop_laws::table::same_level(*a, *b));
    values
}

/// Values of an axis in the order of the runs.
pub(super) fn values(found: &Found<'_>, axis: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for run in &found.study.runs {
        if let Some(value) = run.arm.get(axis)
            && !values.contains(value)
        {
            values.push(value.clone());
        }
    }
    values
}
