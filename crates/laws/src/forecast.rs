//! A forecast for runs that are not in the table, with a prediction interval for one new run.

use crate::document::{Ends, FitRecord, Forecast, FormForecast, Outcome};
use crate::fitting::data::Data;
use crate::fitting::fitted::{Fitted, around};
use crate::fitting::minimise::{Functional, Problem};
use crate::fitting::penalty::Penalty;
use crate::fitting::residuals::aicc;
use crate::fitting::{Setting, profile, search};
use crate::forms::{self, Form};
use crate::numeric::Theta;
use crate::table::same_level;
use crate::table::seeds::Repeats;
use crate::{LawError, Options, Table};
use isoflop_base::units::si;

/// What to forecast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Parameters.
    pub n: f64,
    /// Training tokens.
    pub d: f64,
}

/// Forecasts the loss of each target from the table: where at least three sizes share the target's D, from L(N) at
/// that D (pure and irreducible), else from L(N, D). The interval holds the uncertainty of the fit, the spread of
/// single runs (seeds), and the spread between the forms.
///
/// # Errors
/// Too few rows.
pub fn forecast(table: &Table, targets: &[Target], options: &Options) -> Result<Vec<Forecast>, LawError> {
    targets.iter().map(|target| one(table, *target, options)).collect()
}

/// One form's forecast on the scale of ln loss.
struct Opinion {
    form: String,
    centre: f64,
    ends: Ends,
    fit_half: Option<f64>,
    seed_half: Option<f64>,
    aicc: Option<f64>,
    rows: usize,
}

fn one(table: &Table, target: Target, options: &Options) -> Result<Forecast, LawError> {
    let at_d = table.filtered(|r| r.d.is_some_and(|d| same_level(d, target.d)));
    let along_n = at_d.levels("n").len() >= 3;
    let (rows, ids) = if along_n { (&at_d, "l_n") } else { (table, "l_nd_chinchilla") };
    let candidates = forms::by_id(ids)?;
    let setting = Setting { repeats: Repeats::of(table), ..Setting::default() };
    let mut opinions = Vec::new();
    let mut failure = None;
    for form in candidates {
        match opinion(form, rows, target, &setting, options) {
            Ok(o) => opinions.push(o),
            Err(error) => failure = Some(error),
        }
    }
    if opinions.is_empty() {
        return Err(failure.unwrap_or_else(|| forms::unknown(ids)));
    }
    let mut forecast = combine(&opinions, target, along_n, options);
    forecast.notes = beyond(rows, target);
    Ok(forecast)
}

/// How far the target lies outside of the rows, in words; nothing within 5 % of them.
pub fn beyond(rows: &Table, target: Target) -> Vec<String> {
    let mut out = Vec::new();
    for (symbol, name, value) in
        [("N", "n", target.n), ("D", "d", target.d), ("C = 6·N·D", "c", 6.0 * target.n * target.d)]
    {
        let of = |r: &crate::Row| if name == "c" { Some(6.0 * r.n? * r.d?) } else { r.get(name) };
        let values = || rows.rows.iter().filter_map(of);
        let (low, high) = values().fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if !(low.is_finite() && low > 0.0 && value > 0.0) {
            continue;
        }
        let (factor, which, end) = if value > high {
            (value / high, "above the largest", high)
        } else {
            (low / value, "below the smallest", low)
        };
        if factor > 1.05 {
            let far = if factor >= 10.0 {
                ": more than a decade of trust in the form, which no interval here holds"
            } else {
                ""
            };
            out.push(format!("{symbol} is a factor of {factor:.3} {which} of the rows, {}{far}", si(end)));
        }
    }
    out
}

fn opinion(
    form: &Form,
    table: &Table,
    target: Target,
    setting: &Setting,
    options: &Options,
) -> Result<Opinion, LawError> {
    form.check(table)?;
    let fitted = quick_fit(form, table, setting, options)?;
    let inputs = form.inputs(&|name| match name {
        "n" => Some(target.n),
        "d" => Some(target.d),
        "c" => Some(6.0 * target.n * target.d),
        _ => None,
    });
    let Some(x) = inputs else {
        return Err(LawError::BadOption {
            what: format!("N = {} and D = {} are no sizes to forecast", target.n, target.d),
            hint: "give positive numbers".to_owned(),
        });
    };
    let g = |theta: &Theta| {
        let v = form.value(&x, theta);
        (v.v, v.g)
    };
    let g: &Functional<'_> = &g;
    let (centre, gradient) = g(&fitted.theta);
    let ends = new_run(&fitted, g, options);
    let scale = fitted.scale(&gradient);
    let quantile = scale.map(|s| s.1);
    let se = fitted.se(&gradient);
    Ok(Opinion {
        form: form.label(),
        centre,
        ends,
        fit_half: se.zip(quantile).map(|(s, q)| s * q).filter(|h| h.is_finite()),
        seed_half: fitted
            .run_variance()
            .map(|(v, dof)| libm::sqrt(v) * fitted.quantile_at(dof))
            .filter(|h| h.is_finite()),
        aicc: aicc(fitted.ssr, fitted.data.len(), fitted.units(), form.p()),
        rows: fitted.data.len(),
    })
}

/// Fit without intervals, for forecasts: the same optimum as the record's.
pub(crate) fn quick_fit<'a>(
    form: &'a Form,
    table: &Table,
    setting: &Setting,
    options: &Options,
) -> Result<Fitted<'a>, LawError> {
    let (data, _) = Data::of(form, table);
    let penalty = Penalty::of(options.loss, options.delta);
    let problem = Problem { form, data: &data, w: &data.w, penalty, pull: None };
    let mut starts = (form.starts)(&data.columns(), options.dense && data.x.len() == 1);
    if let Some(part) = form.linear {
        starts
            .extend(crate::fitting::varpro::search(&problem, part, options.threads).iter().map(|o| o.theta));
    }
    let best = search::search(&problem, &starts, options.threads).ok_or_else(|| LawError::NoOptimum {
        form: form.label(),
        why: "no start led to a finite objective".to_owned(),
    })?;
    Ok(around(form, data.clone(), &best.optimum, penalty, table, setting, options))
}

/// Prediction interval of ln loss of one new run: the law's own uncertainty and the scatter of a run together, walked
/// by profile.
pub(crate) fn new_run(fitted: &Fitted<'_>, g: &Functional<'_>, options: &Options) -> Ends {
    let (centre, gradient) = g(&fitted.theta);
    let (Some((scale, _)), Some((variance, run_dof))) = (fitted.scale(&gradient), fitted.run_variance())
    else {
        return Ends::default();
    };
    // Where rows are runs, both come from one variance; else the less certain of them decides.
    let dof = if fitted.by_runs() { scale.dof.min(run_dof) } else { run_dof };
    let quantile = fitted.quantile_at(dof);
    let base = fitted.base(scale.lambda, quantile);
    let step = libm::sqrt(variance) * quantile;
    if !(options.level > 0.0 && step.is_finite() && step > 0.0) {
        return Ends::default();
    }
    let weight = scale.lambda / variance;
    let ends = profile::interval(&base, profile::Of::NewRun(weight), g, step, (centre - 20.0, centre + 20.0));
    Ends { lo: ends.lo.map(|l| l.min(centre)), hi: ends.hi.map(|h| h.max(centre)) }
}

/// Akaike weights where all forms have the criterion; equal ones where it does not exist.
fn weights(opinions: &[Opinion]) -> (Vec<f64>, bool) {
    let scores: Vec<f64> = opinions.iter().filter_map(|o| o.aicc).collect();
    if scores.len() < opinions.len() {
        return (vec![1.0 / opinions.len() as f64; opinions.len()], false);
    }
    let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let raw: Vec<f64> = scores.iter().map(|s| libm::exp(-0.5 * (s - lowest))).collect();
    let total: f64 = raw.iter().sum();
    (raw.iter().map(|r| r / total).collect(), true)
}

fn combine(opinions: &[Opinion], target: Target, along_n: bool, options: &Options) -> Forecast {
    let (weights, judged) = weights(opinions);
    let centre: f64 = opinions.iter().zip(&weights).map(|(o, w)| o.centre * w).sum();
    // A form the data reject (weight below 5 %) no longer widens the interval.
    let heard: Vec<&Opinion> =
        opinions.iter().zip(&weights).filter(|(_, w)| **w >= 0.05).map(|(o, _)| o).collect();
    let hull = |pick: &dyn Fn(&Opinion) -> Option<f64>, fold: fn(f64, f64) -> f64| {
        heard.iter().map(|o| pick(o)).reduce(|a, b| Some(fold(a?, b?))).flatten()
    };
    let lo = hull(&|o| o.ends.lo, f64::min);
    let hi = hull(&|o| o.ends.hi, f64::max);
    let centres = || heard.iter().map(|o| o.centre);
    let apart = centres().fold(f64::NEG_INFINITY, f64::max) - centres().fold(f64::INFINITY, f64::min);
    let largest = |pick: fn(&Opinion) -> Option<f64>| heard.iter().filter_map(|o| pick(o)).reduce(f64::max);
    let plain = |x: Option<f64>| x.map(libm::exp).filter(|v| v.is_finite());
    let names: Vec<&str> = opinions.iter().map(|o| o.form.as_str()).collect();
    let rows = opinions.first().map_or(0, |o| o.rows);
    let method = format!(
        "{} fitted to {rows} rows{}; interval of one new run at {} % by profile with Student's t (fit and seed spread), the union over \
         the forms {}",
        names.join(" and "),
        if along_n { format!(" at D = {}", si(target.d)) } else { String::new() },
        100.0 * options.level,
        if judged { "of Akaike weight 5 % or more" } else { "(too few rows to weigh them)" },
    );
    Forecast {
        n: Some(target.n),
        d: Some(target.d),
        c: Some(6.0 * target.n * target.d),
        loss: libm::exp(centre),
        lo: plain(lo),
        hi: plain(hi),
        level: options.level,
        method,
        half_width_fit: largest(|o| o.fit_half),
        half_width_seed: largest(|o| o.seed_half),
        half_width_form: Some(0.5 * apart).filter(|a| a.is_finite()),
        rows_used: rows,
        by_form: opinions
            .iter()
            .zip(&weights)
            .map(|(o, w)| FormForecast {
                form: o.form.clone(),
                loss: libm::exp(o.centre),
                lo: plain(o.ends.lo),
                hi: plain(o.ends.hi),
                weight: judged.then_some(*w),
            })
            .collect(),
        outcome: None,
        notes: Vec::new(),
    }
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

/// Evaluates a fitted law with its bands (linearised in ln loss). `value(name)` gives the variables by name: `n`,
/// `d`, `c`, … as counts. `None` if the form is unknown or a variable is absent.
pub fn evaluate(fit: &FitRecord, value: &dyn Fn(&str) -> Option<f64>) -> Option<Band> {
    let form = forms::find(&fit.form, &fit.variant)?;
    let x = form.inputs(value)?;
    let p = form.p();
    if fit.state.theta.len() != p {
        return None;
    }
    let at = form.value(&x, &crate::numeric::theta_of(&fit.state.theta));
    let plain = |y: f64| if form.log_response { libm::exp(y) } else { y };
    let mut band = Band { value: plain(at.v), ..Band::default() };
    let full = fit.state.covariance.len() == p && fit.state.covariance.iter().all(|row| row.len() == p);
    if let (true, Some(q), Some(sigma)) = (full, fit.state.quantile, fit.state.sigma) {
        let mut variance = 0.0;
        for (i, row) in fit.state.covariance.iter().enumerate() {
            for (j, c) in row.iter().enumerate() {
                variance += at.g[i] * c * at.g[j];
            }
        }
        let half = q * libm::sqrt(variance.max(0.0));
        let run = q * libm::sqrt(variance.max(0.0) + sigma * sigma);
        let some = |y: f64| Some(plain(y)).filter(|v| v.is_finite());
        band.lo = some(at.v - half);
        band.hi = some(at.v + half);
        band.run_lo = some(at.v - run);
        band.run_hi = some(at.v + run);
    }
    band.value.is_finite().then_some(band)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    fn series(sizes: &[f64], wiggle: &[f64]) -> Table {
        let mut table = Table::default();
        for (i, (n, e)) in sizes.iter().zip(wiggle).enumerate() {
            let loss = (1.1 + (2e5 / n).powf(0.2) * 0.5) * (1.0 + e);
            table.rows.push(Row::of(i + 1, *n, 12e6, loss));
        }
        table
    }

    const SIZES: [f64; 5] = [13_824.0, 24_576.0, 55_296.0, 147_456.0, 307_200.0];

    #[test]
    fn a_forecast_from_five_sizes_holds_the_truth() {
        let table = series(&SIZES, &[1e-3, -8e-4, 2e-4, 9e-4, -1e-3]);
        let targets = [Target { n: 602_112.0, d: 12e6 }, Target { n: 1.536e6, d: 12e6 }];
        let forecasts = forecast(&table, &targets, &Options::default()).unwrap();
        for f in &forecasts {
            let truth = 1.1 + (2e5 / f.n.unwrap()).powf(0.2) * 0.5;
            let o = outcome(f, truth);
            assert!(o.hit, "{f:?}");
            assert!(f.lo.unwrap() < f.loss && f.loss < f.hi.unwrap());
            assert!(f.hi.unwrap() / f.lo.unwrap() < 1.3, "useless interval {f:?}");
        }
        assert!(
            forecasts[1].hi.unwrap() - forecasts[1].lo.unwrap()
                > forecasts[0].hi.unwrap() - forecasts[0].lo.unwrap()
        );
        assert!(!outcome(&forecasts[0], 9.0).hit);
    }

    #[test]
    fn too_few_sizes_are_an_error_that_says_how_many() {
        let table = series(&SIZES[..2], &[0.0, 0.0]);
        let error = forecast(&table, &[Target { n: 1e6, d: 12e6 }], &Options::default()).unwrap_err();
        assert!(error.to_string().contains("at least 6"), "{error}");
    }
}
