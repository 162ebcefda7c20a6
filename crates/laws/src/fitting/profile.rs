//! Profile intervals: how far can a function of the coordinates be pulled before the fit gets worse than chance allows?
//!
//! The profile is walked by a pull: the minimiser of S(θ) + k·(t − g(θ))² is, for any k and t, the best fit among all
//! with its own value of g, so each solution is a point of the exact profile curve. With k = 1 and the threshold on
//! the whole sum the same walk gives the prediction interval of one new observation of g. On a linear model both are
//! the textbook t intervals.

use super::data::Data;
use super::minimise::{Functional, Problem, Pull, Solver, Stop};
use super::penalty::Penalty;
use crate::document::Ends;
use crate::forms::Form;
use crate::numeric::Theta;

const STOP: Stop = Stop { steps: 60, tolerance: 1e-9, exact: true, foresee: false };

/// The least-squares fit a profile starts from.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// Form.
    pub form: &'a Form,
    /// Rows.
    pub data: &'a Data,
    /// Its optimum in squared error of ln y.
    pub theta: Theta,
    /// Σ w·r² there.
    pub ssr: f64,
    /// Variance of the function in units of its information: of one run's ln loss, where rows are runs.
    pub variance: f64,
    /// Quantile of Student's t at the level.
    pub quantile: f64,
}

/// What the interval is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Of {
    /// The value of the function itself.
    Value,
    /// One new observation of it: the variance of the function in units of its information, over that of a run.
    NewRun(f64),
}

/// The interval of g. `reach` bounds the walk: an end further than that from the optimum is open (absent). `step` is
/// a first guess of the half-width, a standard error if there is one.
pub fn interval(base: &Base<'_>, of: Of, g: &Functional<'_>, step: f64, reach: (f64, f64)) -> Ends {
    Ends { lo: end(base, of, g, -step.abs(), reach.0), hi: end(base, of, g, step.abs(), reach.1) }
}

fn end(base: &Base<'_>, of: Of, g: &Functional<'_>, step: f64, limit: f64) -> Option<f64> {
    let allowed = base.quantile * base.quantile * base.variance;
    let centre = g(&base.theta).0;
    if !(allowed > 0.0 && centre.is_finite() && allowed.is_finite()) {
        return (allowed == 0.0).then_some(centre);
    }
    // A pull as stiff as the data are at one standard error.
    let stiff = match of {
        Of::Value => 20.0 * base.variance / (step * step),
        Of::NewRun(weight) => weight,
    };
    let mut solver = Solver::default();
    let mut from = base.theta;
    // (value of g that this pull stands for, rise of the sum of squares over its allowance)
    let mut probe = |target: f64, from: &mut Theta| -> (f64, f64) {
        let problem = Problem {
            form: base.form,
            data: base.data,
            w: &base.data.w,
            penalty: Penalty::square(),
            pull: Some(Pull { of: g, target, weight: stiff }),
        };
        let mut optimum = solver.minimise(&problem, from, STOP);
        for start in lifted(base, &optimum.theta) {
            let other = solver.minimise(&problem, &start, STOP);
            if other.objective < optimum.objective {
                optimum = other;
            }
        }
        *from = optimum.theta;
        let reached = g(&optimum.theta).0;
        match of {
            // The objective is half the sum of squares.
            Of::NewRun(_) => (target, (2.0 * optimum.objective - base.ssr) / allowed),
            Of::Value => {
                let pulled = 0.5 * stiff * (target - reached) * (target - reached);
                (reached, (2.0 * (optimum.objective - pulled) - base.ssr) / allowed)
            }
        }
    };
    let mut low = (centre, 0.0);
    let mut width = step;
    let mut high = None;
    let mut low_target = centre;
    for _ in 0..60 {
        let target = centre + width;
        let point = probe(target, &mut from);
        if point.1 >= 1.0 {
            high = Some((point, target));
            break;
        }
        low = point;
        low_target = target;
        let beyond = if step > 0.0 { point.0 >= limit } else { point.0 <= limit };
        if beyond || !point.0.is_finite() {
            return None;
        }
        width *= 1.6;
    }
    let (mut high, mut high_target) = high?;
    for _ in 0..60 {
        // The rise is close to quadratic: interpolate its root.
        let (a, b) = (libm::sqrt(low.1.max(0.0)), libm::sqrt(high.1));
        let share = ((1.0 - a) / (b - a)).clamp(0.05, 0.95);
        let target = low_target + share * (high_target - low_target);
        let mut start = from;
        let point = probe(target, &mut start);
        from = start;
        if (point.1 - 1.0).abs() < 1e-4 || (high_target - low_target).abs() < 1e-10 * step.abs() {
            return within(point.0, step, limit);
        }
        if point.1 >= 1.0 {
            (high, high_target) = (point, target);
        } else {
            (low, low_target) = (point, target);
        }
    }
    within(high.0, step, limit)
}

/// A floor that has sunk to nothing has no slope left to lift it again: starts with the floor at a half and at nine
/// tenths of the lowest loss, where it would otherwise be stuck.
fn lifted(base: &Base<'_>, theta: &Theta) -> Vec<Theta> {
    let Some(floor) = base.form.coords.iter().position(|c| c.name == "ln_e" || c.name == "ln_c") else {
        return Vec::new();
    };
    let lowest = base.data.y.iter().copied().fold(f64::INFINITY, f64::min);
    if theta[floor] > lowest - 2.5 {
        return Vec::new();
    }
    [0.5, 0.9]
        .map(|share| {
            let mut start = *theta;
            start[floor] = lowest + libm::log(share);
            start
        })
        .to_vec()
}

fn within(value: f64, step: f64, limit: f64) -> Option<f64> {
    let beyond = if step > 0.0 { value >= limit } else { value <= limit };
    (!beyond && value.is_finite()).then_some(value)
}
