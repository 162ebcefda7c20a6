//! Intervals of the reported parameters: profile with Student's t below `BOOTSTRAP_FROM` runs, bootstrap by run from
//! there on.

use super::evidence::Evidence;
use super::fitted::Fitted;
use super::penalty::Penalty;
use super::variance::Variance;
use super::verdict::{FEW_DOF, at_assumed_scatter, beside_a_free_floor, judge, strictly};
use super::{bootstrap, profile};
use crate::Options;
use crate::document::{Correlation, Ends, FitRecord, ParamEstimate, Params};
use crate::forms::{Reported, Role};
use crate::numeric::Theta;
use crate::numeric::dual::Dual;
use crate::numeric::quantile::normal_quantile;

/// From this many runs on, a bootstrap by run is made; below it, a profile interval with Student's t.
pub(super) const BOOTSTRAP_FROM: usize = 20;

pub(super) fn interval_method(fitted: &Fitted<'_>, refits: &[Theta], penalty: Penalty) -> String {
    let (runs, rows) = (fitted.data.runs, fitted.data.len());
    let unit = match &fitted.evidence {
        Some(Evidence::Rows(Variance { pooled: true, dof, .. })) => {
            format!(
                "variance of a run pooled from residuals and repeated seeds ({dof:.0} degrees of freedom)"
            )
        }
        Some(Evidence::Rows(Variance { dof, .. })) if runs == 1 && rows > 1 => format!(
            "all rows are of one run: the scatter of its rows ({dof:.0} degrees of freedom), not the luck of \
             another run"
        ),
        Some(Evidence::Rows(Variance { dof, .. })) => format!(
            "variance of a run from the residuals ({dof:.0} degrees of freedom), which holds the seeds' share"
        ),
        Some(Evidence::Runs(r)) => format!(
            "the run is the unit: {rows} rows of {runs} runs, variance by run with its own degrees of freedom for each parameter \
             (a run's offset scatters by {:.2} %, a row about its run by {:.2} %)",
            100.0 * libm::sqrt(r.between),
            100.0 * libm::sqrt(r.within)
        ),
        None if runs > 1 && runs < rows => {
            format!(
                "the law follows the {runs} runs one by one: they do not tell how another would differ, so no interval"
            )
        }
        None => "no degree of freedom left: no interval".to_owned(),
    };
    if refits.is_empty() && penalty.is_floor() {
        return format!(
            "none: the law is fitted to the floor of the rows, of which squared errors say nothing, and a \
             bootstrap needs {BOOTSTRAP_FROM} runs"
        );
    }
    if refits.is_empty() {
        format!("profile of {} about its optimum with Student's t; {unit}", penalty.estimator())
    } else if fitted.by_runs() {
        format!(
            "bootstrap by run: {} refits under exponential weights of {runs} runs, adjusted by Student's t; {unit}",
            refits.len()
        )
    } else {
        format!(
            "bootstrap by run: percentiles of {} refits under exponential weights of {runs} runs, adjusted \
             for the sample size",
            refits.len()
        )
    }
}

/// A reported parameter and its gradient in the coordinates (its logarithm, if `log`).
fn functional(reported: &Reported) -> impl Fn(&Theta) -> (f64, Theta) + Sync + use<> {
    let of = reported.of;
    move |theta: &Theta| {
        let d = of(&Dual::coordinates(theta));
        (d.v, d.g)
    }
}

pub(super) fn parameters(
    record: &mut FitRecord,
    fitted: &Fitted<'_>,
    refits: &[Theta],
    shape: ResidualShape,
    options: &Options,
) {
    let p = fitted.form.p();
    let mut gradients: Vec<(&str, Theta)> = Vec::new();
    let mut params = Vec::new();
    for reported in fitted.form.reported {
        let g = functional(reported);
        let (centre, gradient) = g(&fitted.theta);
        let scale = fitted.scale(&gradient);
        let se = fitted.se(&gradient);
        let profiled = scale.filter(|_| !shape.floor).map_or(Ends::default(), |(s, quantile)| {
            let step = se.unwrap_or(0.1 * centre.abs().max(0.1)).clamp(1e-12, 30.0);
            let base = fitted.base(s.lambda, quantile);
            profile::interval(&base, profile::Of::Value, &g, step, reported.reach(centre))
        });
        let drawn: Vec<f64> = refits.iter().map(|t| g(t).0).collect();
        let wide = shape.half_width(fitted, &gradient, options.level);
        let mut percentile = wide.map_or(Ends::default(), |w| bootstrap::ends(&drawn, centre, w));
        let mut further = false;
        if !refits.is_empty() && !shape.floor {
            (percentile, further) = beyond(percentile, profiled, centre, shape.heavy);
        }
        let (low, high) = reported.reach(centre);
        percentile.lo = percentile.lo.filter(|x| *x > low);
        percentile.hi = percentile.hi.filter(|x| *x < high);
        let se = if refits.is_empty() || fitted.by_runs() { se } else { bootstrap::spread_of(&drawn).or(se) };
        let plain =
            |x: Option<f64>| x.map(|v| if reported.log { libm::exp(v) } else { v }).filter(|v| v.is_finite());
        let plain_ends = |e: Ends| Ends { lo: plain(e.lo), hi: plain(e.hi) };
        // A floor that sank to the edge of its box is no floor.
        let sunk = reported.role == Role::Floor && reported.log && centre < -11.9;
        let value = if sunk { 0.0 } else { plain(Some(centre)).unwrap_or(0.0) };
        let ends = widened(plain_ends(if refits.is_empty() { profiled } else { percentile }), value);
        let (mut known, mut words) = judge(reported, value, ends);
        let dof = scale.map_or(0.0, |(s, _)| s.dof);
        if known && refits.is_empty() && dof < FEW_DOF.max(p as f64) {
            (known, words) = at_assumed_scatter(fitted, reported, &g, value);
        } else if known && refits.is_empty() && reported.role == Role::Floor {
            // A floor that is pinned down at 95 % by luck alone is the commonest false claim of small tables: ask again
            // at 99.5 %.
            (known, words) = strictly(fitted, reported, &g, value);
        }
        if further {
            record.notes.push(format!(
                "{}: refits from the optimum do not see the whole valley; the profile, which does, gives the \
                 interval's end",
                reported.name
            ));
        }
        record.identified.insert(reported.name.to_owned(), known);
        record.not_identified.extend(words);
        params.push((
            reported.name.to_owned(),
            ParamEstimate {
                value,
                se: se.map(|s| if reported.log { s * value } else { s }).filter(|s| s.is_finite()),
                lo: ends.lo,
                hi: ends.hi,
                profile: (!refits.is_empty()).then(|| plain_ends(profiled)),
            },
        ));
        gradients.push((reported.name, gradient));
    }
    beside_a_free_floor(fitted, record);
    record.params = Params(params);
    record.correlations = correlations(fitted, &gradients);
}

/// What the residuals look like to a bootstrap.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResidualShape {
    /// Share of them in the linear part of the penalty.
    pub(super) linear: f64,
    /// The law is fitted to the floor of the rows: squared errors, and so the profile, say nothing of it.
    pub(super) floor: bool,
    /// A few are far larger than the rest: squared errors, and so the profile, are theirs alone.
    pub(super) heavy: bool,
}

impl ResidualShape {
    /// How many of a refit's standard deviations an interval reaches.
    ///
    /// Where every row is a run, √(n/(n−p)) normal ones for a smooth objective, whose refits scatter too little by
    /// that much; a kinked one (all residuals in the linear part of the penalty) scatters too much by about as much,
    /// and the exponent goes from ½ to −½ with the share of residuals there: a rule that `examples/coverage` bears
    /// out. Where runs have several rows, Student's t with the bias and the degrees of freedom of a sum of squared
    /// scores.
    fn half_width(&self, fitted: &Fitted<'_>, gradient: &Theta, level: f64) -> Option<f64> {
        let (runs, p) = (fitted.data.runs, fitted.form.p());
        if runs <= p {
            return None;
        }
        if fitted.by_runs() {
            let (scale, quantile) = fitted.scale(gradient)?;
            return Some(libm::sqrt(scale.ratio) * quantile);
        }
        let ratio = runs as f64 / (runs - p) as f64;
        Some(libm::pow(ratio, 0.5 - self.linear) * normal_quantile(0.5 + 0.5 * level))
    }
}

/// Root mean square above twice the normal-consistent median deviation.
pub(super) fn heavy_tailed(residuals: &[f64]) -> bool {
    let mut sizes: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let Some(median) = sizes.get(sizes.len() / 2) else { return false };
    let rms = libm::sqrt(sizes.iter().map(|r| r * r).sum::<f64>() / sizes.len() as f64);
    rms > 2.0 * 1.4826 * median
}

/// Bootstrap ends, but the profile's where it is open or (unless tails are heavy) lies more than three times as far:
/// a refit that starts at the optimum stays in its part of a flat valley.
fn beyond(percentile: Ends, profile: Ends, centre: f64, heavy: bool) -> (Ends, bool) {
    let end = |own: Option<f64>, other: Option<f64>| match (own, other) {
        (Some(o), Some(p)) if heavy || (p - centre).abs() <= 3.0 * (o - centre).abs() => (own, false),
        (_, p) => (p, true),
    };
    let (lo, a) = end(percentile.lo, profile.lo);
    let (hi, b) = end(percentile.hi, profile.hi);
    (Ends { lo, hi }, a || b)
}

/// An estimate is never left outside of its interval, whatever rounding does at the end of a range.
fn widened(ends: Ends, value: f64) -> Ends {
    Ends { lo: ends.lo.map(|l| l.min(value)), hi: ends.hi.map(|h| h.max(value)) }
}

fn correlations(fitted: &Fitted<'_>, gradients: &[(&str, Theta)]) -> Vec<Correlation> {
    let Some(covariance) = fitted.covariance else { return Vec::new() };
    let p = fitted.form.p();
    let cross = |a: &Theta, b: &Theta| -> f64 {
        (0..p).map(|i| (0..p).map(|j| a[i] * covariance[i][j] * b[j]).sum::<f64>()).sum()
    };
    let mut out = Vec::new();
    for (k, (b, gb)) in gradients.iter().enumerate() {
        for (a, ga) in &gradients[..k] {
            let r = cross(ga, gb) / libm::sqrt(cross(ga, ga) * cross(gb, gb));
            if r.is_finite() {
                out.push(Correlation { a: (*a).to_owned(), b: (*b).to_owned(), r: r.clamp(-1.0, 1.0) });
            }
        }
    }
    out
}
