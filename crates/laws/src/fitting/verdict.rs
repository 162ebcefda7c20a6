//! Does an interval pin a parameter down? Said in words when it does not.

use super::fitted::Fitted;
use super::profile;
use crate::document::{Ends, FitRecord};
use crate::forms::{Kernel, Reported, Role, Slot};
use crate::numeric::Theta;
use crate::numeric::quantile::t_quantile;

/// Below this many degrees of freedom, or as many as there are parameters, the scatter of a run is hardly known.
pub(super) const FEW_DOF: f64 = 4.0;

/// Scatter of a run's ln loss that is assumed then, when asked what the table identifies.
const ASSUMED_SCATTER: f64 = 0.01;

/// Whether the interval is narrow enough to use, and a sentence if it is not.
pub fn judge(reported: &Reported, value: f64, ends: Ends) -> (bool, Option<String>) {
    let name = reported.name;
    let say = |why: String| (false, Some(format!("{name} is not identified: {why}")));
    let span = || match (ends.lo, ends.hi) {
        (None, None) => "the data bound it on neither side".to_owned(),
        (None, Some(hi)) => format!("the data only say it is below {}", number(hi)),
        (Some(lo), None) => format!("the data only say it is above {}", number(lo)),
        (Some(lo), Some(hi)) => format!("its interval is {} to {}", number(lo), number(hi)),
    };
    let (Some(lo), Some(hi)) = (ends.lo, ends.hi) else { return say(span()) };
    let half = 0.5 * (hi - lo);
    match reported.role {
        Role::Exponent if lo <= 0.0 && hi >= 0.0 => say(format!("{}, which contains zero", span())),
        Role::Exponent if half > 0.5 * value.abs() => say(format!("{}, more than ±50 %", span())),
        Role::Floor if half > 0.25 * value => say(format!("{}, more than ±25 %", span())),
        Role::Scale if hi > 100.0 * lo => say(format!("{}, a factor of more than 100", span())),
        _ => (true, None),
    }
}

type Gradient<'a> = &'a (dyn Fn(&Theta) -> (f64, Theta) + Sync);

/// [`judge`] on the 99.5 % profile interval.
pub(super) fn strictly(
    fitted: &Fitted<'_>,
    reported: &Reported,
    g: Gradient<'_>,
    value: f64,
) -> (bool, Option<String>) {
    let Some((scale, _)) = fitted.scale(&g(&fitted.theta).1) else { return (false, None) };
    let strict = fitted.base(scale.lambda, t_quantile(0.9975, scale.dof.max(0.2)));
    let (known, words) = judged_on(&strict, reported, g, value);
    (known, words.map(|w| format!("{w} (at 99.5 %)")))
}

/// [`judge`] as if a run scattered by at least [`ASSUMED_SCATTER`].
///
/// With so few degrees of freedom the measured scatter is often far too small by luck, and a narrow interval is the
/// sign of that luck: intervals called identified for their narrowness would miss the truth more often than they say.
/// Under an assumed scatter at least as large as the true one, a parameter is either never called identified or in
/// more than 60 % of all tables, and of those intervals at most 5/60 miss.
pub(super) fn at_assumed_scatter(
    fitted: &Fitted<'_>,
    reported: &Reported,
    g: Gradient<'_>,
    value: f64,
) -> (bool, Option<String>) {
    let (Some((scale, quantile)), Some((variance, _))) =
        (fitted.scale(&g(&fitted.theta).1), fitted.run_variance())
    else {
        return (false, None);
    };
    // Floors at 99.5 % as elsewhere: their own estimate decides how wide is too wide.
    let quantile =
        if reported.role == Role::Floor { t_quantile(0.9975, scale.dof.max(0.2)) } else { quantile };
    let larger = (ASSUMED_SCATTER * ASSUMED_SCATTER / variance).max(1.0);
    // What a table can tell is asked of the table, at the width of least squares, not of the penalty.
    let assumed = fitted.base(fitted.of_least_squares(scale.lambda) * larger, quantile);
    let (known, words) = judged_on(&assumed, reported, g, value);
    let why =
        format!("if a run scatters by 1 %; {:.1} degrees of freedom cannot tell that it does not", scale.dof);
    (known, words.map(|w| format!("{w} {why}")))
}

/// Span of a variable below which a power beside a free floor is hardly a curve.
const NARROW: f64 = 4.0;

/// Takes back the verdict on an exponent whose variable spans less than a factor of [`NARROW`], where the floor beside
/// it is free: over a factor of two x^−0.33 leaves the straight line in ln x by a thirty-fifth of its fall, so any
/// scatter trades the exponent for the floor, and of intervals narrow enough to be called identified most are so by
/// luck. Measured on the built-in plan (`examples/coverage "the plan"`, tokens over a factor of two): beta of L(N, D)
/// was called identified in 43 of 150 tables and held the truth in 11 of them.
pub(super) fn beside_a_free_floor(fitted: &Fitted<'_>, record: &mut FitRecord) {
    let form = fitted.form;
    let Some(floor) = form.reported.iter().find(|r| r.role == Role::Floor) else { return };
    let Kernel::Terms(terms) = &form.kernel else { return };
    if record.identified.get(floor.name).copied().unwrap_or(true) {
        return;
    }
    let span = |variable: usize| {
        let x = &fitted.data.x[variable];
        let (low, high) =
            x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        libm::exp(high - low)
    };
    for reported in form.reported.iter().filter(|r| r.role == Role::Exponent) {
        let slots = terms.iter().flat_map(|term| term.iter());
        let variables = slots.filter_map(|slot| match *slot {
            Slot::Minus(i, v) if form.coords[i].name == reported.name && form.variables[v].log => Some(v),
            _ => None,
        });
        // An exponent of two variables is known by the wider of them.
        let widest = variables.map(|v| (v, span(v))).max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((variable, factor)) = widest.filter(|(_, factor)| *factor < NARROW) else { continue };
        if record.identified.insert(reported.name.to_owned(), false) == Some(true) {
            record.not_identified.push(format!(
                "{} is not identified: {} spans a factor of {factor:.1} only, over which a power of it can hardly be \
                 told from a constant, and {} is free",
                reported.name, form.variables[variable].name, floor.name
            ));
        }
    }
}

fn judged_on(
    base: &profile::Base<'_>,
    reported: &Reported,
    g: Gradient<'_>,
    value: f64,
) -> (bool, Option<String>) {
    let centre = g(&base.theta).0;
    let ends = profile::interval(base, profile::Of::Value, g, 0.2, reported.reach(centre));
    let plain = |e: Option<f64>| e.map(|v| if reported.log { libm::exp(v) } else { v });
    judge(reported, value, Ends { lo: plain(ends.lo), hi: plain(ends.hi) })
}

/// Four significant digits, in the notation people read fastest.
pub fn number(value: f64) -> String {
    let a = value.abs();
    if a == 0.0 || (1e-3..1e5).contains(&a) {
        let digits = if a >= 1e3 {
            1
        } else if a >= 100.0 {
            2
        } else if a >= 10.0 {
            3
        } else {
            4
        };
        let text = format!("{value:.digits$}");
        // A value that rounds to nothing has no sign.
        if text.trim_start_matches(['-', '0', '.']).is_empty() {
            text.trim_start_matches('-').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::by_id;

    #[test]
    fn wide_or_open_intervals_are_called_so() {
        let form = by_id("l_n").unwrap()[1];
        let (alpha, scale, floor) = (&form.reported[0], &form.reported[1], &form.reported[2]);
        let ends = |lo: f64, hi: f64| Ends { lo: Some(lo), hi: Some(hi) };
        assert!(judge(alpha, 0.08, ends(0.07, 0.09)).0);
        assert!(!judge(alpha, 0.08, ends(-0.01, 0.17)).0);
        assert!(!judge(scale, 5.0, ends(0.1, 50.0)).0);
        assert!(judge(floor, 1.7, ends(1.5, 1.9)).0);
        let (known, words) = judge(floor, 1.7, Ends { lo: None, hi: Some(2.0) });
        assert!(!known && words.unwrap().contains("only say it is below 2.0000"));
    }
}
