//! A forecast for runs that are not in the table, with a prediction interval for one new run.

use crate::document::{FitRecord, Forecast, Outcome};
use crate::{LawError, Options, Table};

/// What to forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Parameters.
    pub n: f64,
    /// Training tokens.
    pub d: f64,
}

/// Forecasts the loss of each target from the table: where at least three sizes share the target's D, from L(N) at that D (pure and
/// irreducible), else from L(N, D). The interval holds the uncertainty of the fit, the spread of single runs (seeds), and
/// the spread between the forms.
///
/// # Errors
/// Too few rows.
pub fn forecast(_table: &Table, _targets: &[Target], _options: &Options) -> Result<Vec<Forecast>, LawError> {
    Err(LawError::NoOptimum { form: "forecast".into(), why: "not written yet".into() })
}

/// Compares a forecast with what was observed.
pub fn outcome(forecast: &Forecast, observed: f64) -> Outcome {
    let inside = |lo: Option<f64>, hi: Option<f64>| {
        lo.is_none_or(|l| observed >= l) && hi.is_none_or(|h| observed <= h)
    };
    let hit = inside(forecast.lo, forecast.hi);
    let relative_error = observed / forecast.loss - 1.0;
    let ends = match (forecast.lo, forecast.hi) {
        (Some(lo), Some(hi)) => format!("{lo:.4} to {hi:.4}"),
        (Some(lo), None) => format!("{lo:.4} upwards"),
        (None, Some(hi)) => format!("up to {hi:.4}"),
        (None, None) => "an open interval, which nothing could miss".to_owned(),
    };
    let words = format!(
        "{}: observed {observed:.4}, forecast {:.4} ({ends}), {:+.2} %",
        if hit { "hit" } else { "miss" },
        forecast.loss,
        100.0 * relative_error
    );
    Outcome { observed, hit, relative_error, words }
}

/// A law's value and its bands at one place.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Band {
    /// The law.
    pub value: f64,
    /// Confidence band of the law itself.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Prediction band of one new run.
    pub run_lo: Option<f64>,
    /// Upper end.
    pub run_hi: Option<f64>,
}

/// Evaluates a fitted law with its bands. `value(name)` gives the variables by name: `n`, `d`, `c`, … as counts.
/// `None` if the form is unknown or a variable is absent.
pub fn evaluate(_fit: &FitRecord, _value: &dyn Fn(&str) -> Option<f64>) -> Option<Band> {
    None
}
