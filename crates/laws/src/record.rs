//! One form fitted to one table: optimum, intervals, residuals, hold-out, and the recipe in words.

use crate::document::{Correlation, Ends, FitRecord, FitState, Holdout, ParamEstimate, Params, Residual};
use crate::fitting::data::Data;
use crate::fitting::minimise::{Optimum, POLISH, Problem, Solver};
use crate::fitting::penalty::Penalty;
use crate::fitting::{bootstrap, profile, search, varpro};
use crate::forms::{Form, Reported, Role};
use crate::judge::judge;
use crate::numeric::dual::Dual;
use crate::numeric::linear::{inverse, quadratic};
use crate::numeric::quantile::t_quantile;
use crate::numeric::{MAX_COORDS, Square, Theta};
use crate::seeds::{Repeats, Variance, variance};
use crate::straight::{local_slopes, residual_tests, straightness};
use crate::table::same_level;
use crate::{LawError, Options, Table};
use std::collections::BTreeMap;

/// From this many runs on, a bootstrap by run is made; below it, a profile interval with Student's t.
pub const BOOTSTRAP_FROM: usize = 20;
/// Below this many degrees of freedom, or as many as there are parameters, the scatter of a run is hardly known.
const FEW_DOF: f64 = 4.0;
/// Scatter of a run's ln loss that is assumed then, when asked what the table identifies.
const ASSUMED_SCATTER: f64 = 0.01;

/// What a fit is told besides its rows.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// What was held fixed.
    pub condition: BTreeMap<String, f64>,
    /// Repeated seeds of the whole table.
    pub repeats: Repeats,
}

/// Everything about the optimum that later steps need.
pub(crate) struct Fitted<'a> {
    pub(crate) form: &'a Form,
    pub(crate) data: Data,
    pub(crate) theta: Theta,
    /// The optimum in squared ln loss, from which profiles are walked.
    pub(crate) square: Theta,
    pub(crate) ssr: f64,
    pub(crate) variance: Option<Variance>,
    pub(crate) covariance: Option<Square>,
    pub(crate) quantile: Option<f64>,
}

/// Fits `form` to the rows of `table`.
///
/// # Errors
/// Too few rows, a missing column, or no finite optimum.
pub fn fit_form(
    form: &Form,
    table: &Table,
    setting: &Setting,
    options: &Options,
) -> Result<FitRecord, LawError> {
    form.check(table)?;
    let (data, dropped) = Data::of(form, table);
    let penalty = penalty_for(form, options);
    let problem = Problem { form, data: &data, w: &data.w, penalty, pull: None };
    let (best, varpro_objective) = optimum(&problem, options)?;
    let fitted = around(form, data.clone(), &best.optimum, table, setting, options);
    let mut solver = Solver::default();
    let (objective, logs) = solver.report(&problem, &best.optimum.theta);
    let residuals = residuals(form, &data, table, &logs);

    let runs = data.runs;
    let refits = if runs >= BOOTSTRAP_FROM && options.bootstrap >= 20 {
        bootstrap::refits(&problem, &fitted.theta, options.bootstrap, options.seed, options.threads)
    } else {
        Vec::new()
    };
    let mut record = FitRecord {
        form: form.id.to_owned(),
        variant: form.variant.to_owned(),
        formula: form.formula.to_owned(),
        condition: setting.condition.clone(),
        loss_unit: table.loss_unit.clone(),
        n_convention: table.n_convention.clone(),
        c_convention: table.c_convention.clone(),
        level: options.level,
        interval_method: interval_method(&fitted, &refits, penalty.is_floor()),
        objective: Some(objective).filter(|o| o.is_finite()),
        objective_kind: penalty.words(),
        r2_loglog: r_squared(&data.y, &logs),
        residual_tests: residual_tests(&residuals),
        residuals,
        rows_used: data.len(),
        runs_used: runs,
        rows_dropped: dropped,
        starts: best.starts,
        starts_agree: best.agree,
        varpro_objective,
        aicc: aicc(fitted.ssr, data.len(), form.p()),
        state: state(&fitted),
        ..FitRecord::default()
    };
    let shape = ResidualShape {
        linear: penalty.linear_share(&logs),
        heavy: heavy_tailed(&logs),
        floor: penalty.is_floor(),
    };
    parameters(&mut record, &fitted, &refits, shape, options);
    one_variable(&mut record, &fitted, table, setting, options);
    record.holdout = options.holdout.then(|| holdout(form, table, &fitted.theta, penalty)).flatten();
    record.recipe = recipe(form, &record, options);
    remarks(&mut record, &fitted);
    Ok(record)
}

fn penalty_for(form: &Form, options: &Options) -> Penalty {
    if form.log_response { Penalty::of(options.loss, options.delta) } else { Penalty::square() }
}

/// Full multi-start and, where the form allows it, variable projection; the better of the two is reported.
fn optimum(problem: &Problem<'_>, options: &Options) -> Result<(search::Best, Option<f64>), LawError> {
    let starts = (problem.form.starts)(problem.data, options.dense);
    let ends = search::all(problem, &starts, options.threads);
    let mut best = search::best_of(problem, &ends);
    let mut reached = None;
    if let Some(part) = problem.form.linear {
        let projected = varpro::search(problem, part, options.threads);
        if let Some(other) = search::best_of(problem, &projected) {
            reached = Some(Solver::default().report(problem, &other.optimum.theta).0);
            if best.is_none_or(|b| other.optimum.objective < b.optimum.objective) {
                // How many of the grid's own starts came as far.
                let near = other.optimum.objective * 1.0001 + 1e-14;
                let agree = ends.iter().filter(|e| e.objective <= near).count();
                best = Some(search::Best { starts: starts.len(), agree, ..other });
            }
        }
    }
    let best = best.filter(|b| b.optimum.theta.iter().all(|t| t.is_finite())).ok_or_else(|| {
        LawError::NoOptimum {
            form: problem.form.label(),
            why: "no start led to a finite objective".to_owned(),
        }
    })?;
    Ok((best, reached.filter(|r| r.is_finite())))
}

/// Variance, covariance and the least-squares optimum around the reported one.
pub(crate) fn around<'a>(
    form: &'a Form,
    data: Data,
    best: &Optimum,
    table: &Table,
    setting: &Setting,
    options: &Options,
) -> Fitted<'a> {
    let mut solver = Solver::default();
    let squares = Problem { form, data: &data, w: &data.w, penalty: Penalty::square(), pull: None };
    let square = solver.minimise(&squares, &best.theta, POLISH).theta;
    let (ssr, _) = solver.report(&squares, &square);
    let lines: Vec<usize> = data.source.iter().map(|i| table.rows[*i].line).collect();
    let outside = if form.response == "loss" { setting.repeats.outside(&lines) } else { (0.0, 0) };
    // Weights count rows: a row of weight 2 is the same row twice.
    let count: f64 = data.w.iter().sum::<f64>().max(data.len() as f64 * 1e-9);
    let variance = variance(ssr, count - form.p() as f64, outside);
    let work = solver.evaluate(&squares, &best.theta);
    let p = form.p();
    let mut information = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            information[i][j] = crate::fitting::data::dot3(&data.w, &work.jac[i], &work.jac[j]);
        }
    }
    let covariance = variance.and_then(|v| {
        let mut out = inverse(&information, p)?;
        out.iter_mut().flatten().for_each(|x| *x *= v.value);
        Some(out)
    });
    let quantile = variance.map(|v| t_quantile(0.5 + 0.5 * options.level, v.dof));
    Fitted { form, data, theta: best.theta, square, ssr, variance, covariance, quantile }
}

fn state(fitted: &Fitted<'_>) -> FitState {
    let p = fitted.form.p();
    FitState {
        names: fitted.form.coords.iter().map(|c| c.name.to_owned()).collect(),
        theta: fitted.theta[..p].to_vec(),
        covariance: fitted
            .covariance
            .map(|c| c[..p].iter().map(|row| row[..p].to_vec()).collect())
            .unwrap_or_default(),
        sigma: fitted.variance.map(|v| libm::sqrt(v.value)),
        dof: fitted.variance.map_or(0.0, |v| v.dof),
        quantile: fitted.quantile.filter(|q| q.is_finite()),
    }
}

fn interval_method(fitted: &Fitted<'_>, refits: &[Theta], floor: bool) -> String {
    let seeds = match fitted.variance {
        Some(Variance { pooled: true, dof, .. }) => {
            format!("variance of a run pooled from residuals and repeated seeds ({dof} degrees of freedom)")
        }
        Some(Variance { dof, .. }) => {
            format!(
                "variance of a run from the residuals ({dof} degrees of freedom), which holds the seeds' share"
            )
        }
        None => "no degree of freedom left: no interval".to_owned(),
    };
    if refits.is_empty() && floor {
        return format!(
            "none: the law is fitted to the floor of the rows, of which squared errors say nothing, and a bootstrap needs {BOOTSTRAP_FROM} runs"
        );
    }
    if refits.is_empty() {
        format!("profile of the squared error of ln loss with Student's t; {seeds}")
    } else {
        format!(
            "bootstrap by run: percentiles of {} refits under exponential weights of {} runs, adjusted for the sample size",
            refits.len(),
            fitted.data.runs
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

/// How far a profile is walked before its end is called open.
fn reach(reported: &Reported, centre: f64) -> (f64, f64) {
    match reported.role {
        Role::Floor => (-11.5, 5.9),
        Role::Exponent => (-2.9, 11.9),
        Role::Scale if reported.log => (centre - 80.0, centre + 80.0),
        _ => (centre - 1e3 - 1e3 * centre.abs(), centre + 1e3 + 1e3 * centre.abs()),
    }
}

pub(crate) fn base_of<'a>(fitted: &'a Fitted<'_>) -> Option<profile::Base<'a>> {
    Some(profile::Base {
        form: fitted.form,
        data: &fitted.data,
        theta: fitted.square,
        ssr: fitted.ssr,
        variance: fitted.variance?.value,
        quantile: fitted.quantile?,
    })
}

fn parameters(
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
        let se = fitted
            .covariance
            .map(|c| libm::sqrt(quadratic(&c, &gradient, p)))
            .filter(|s| s.is_finite() && *s > 0.0);
        let profiled = base_of(fitted).filter(|_| !shape.floor).map_or(Ends::default(), |base| {
            let step = se.unwrap_or(0.1 * centre.abs().max(0.1)).clamp(1e-12, 30.0);
            profile::interval(&base, profile::Of::Value, &g, step, reach(reported, centre))
        });
        let drawn: Vec<f64> = refits.iter().map(|t| g(t).0).collect();
        let mut percentile = bootstrap::percentiles(&drawn, options.level, fitted.data.runs, p, shape.linear);
        let mut further = false;
        if !refits.is_empty() && !shape.floor {
            (percentile, further) = beyond(percentile, profiled, centre, shape.heavy);
        }
        let (low, high) = reach(reported, centre);
        percentile.lo = percentile.lo.filter(|x| *x > low);
        percentile.hi = percentile.hi.filter(|x| *x < high);
        let se = if refits.is_empty() { se } else { bootstrap::spread_of(&drawn).or(se) };
        let plain =
            |x: Option<f64>| x.map(|v| if reported.log { libm::exp(v) } else { v }).filter(|v| v.is_finite());
        let plain_ends = |e: Ends| Ends { lo: plain(e.lo), hi: plain(e.hi) };
        // A floor that sank to the edge of its box is no floor.
        let sunk = reported.role == Role::Floor && reported.log && centre < -11.9;
        let value = if sunk { 0.0 } else { plain(Some(centre)).unwrap_or(0.0) };
        let ends =
            if refits.is_empty() { widened(plain_ends(profiled), value) } else { plain_ends(percentile) };
        let (mut known, mut words) = judge(reported, value, ends);
        let dof = fitted.variance.map_or(0.0, |v| v.dof);
        if known && refits.is_empty() && dof < FEW_DOF.max(p as f64) {
            (known, words) = at_assumed_scatter(fitted, reported, &g, value);
        } else if known && refits.is_empty() && reported.role == Role::Floor {
            // A floor that is pinned down at 95 % by luck alone is the commonest false claim of small tables: ask again at 99.5 %.
            (known, words) = strictly(fitted, reported, &g, value);
        }
        if further {
            record.notes.push(format!(
                "{}: refits from the optimum do not see the whole valley; the profile, which does, gives the interval's end",
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
                bootstrap: None,
            },
        ));
        gradients.push((reported.name, gradient));
    }
    record.params = Params(params);
    record.correlations = correlations(fitted, &gradients);
}

type Gradient<'a> = &'a (dyn Fn(&Theta) -> (f64, Theta) + Sync);

/// [`judge`] on the 99.5 % profile interval.
fn strictly(fitted: &Fitted<'_>, reported: &Reported, g: Gradient<'_>, value: f64) -> (bool, Option<String>) {
    let Some(base) = base_of(fitted) else { return (false, None) };
    let dof = fitted.variance.map_or(1.0, |v| v.dof);
    let strict = profile::Base { quantile: t_quantile(0.9975, dof), ..base };
    let (known, words) = judged_on(&strict, reported, g, value);
    (known, words.map(|w| format!("{w} (at 99.5 %)")))
}

/// [`judge`] as if a run scattered by at least [`ASSUMED_SCATTER`].
///
/// With so few degrees of freedom the measured scatter is often far too small by luck, and a narrow interval is the sign of that luck:
/// intervals called identified for their narrowness would miss the truth more often than they say. Under an assumed scatter at least
/// as large as the true one, a parameter is either never called identified or in more than 60 % of all tables, and of those intervals
/// at most 5/60 miss.
fn at_assumed_scatter(
    fitted: &Fitted<'_>,
    reported: &Reported,
    g: Gradient<'_>,
    value: f64,
) -> (bool, Option<String>) {
    let (Some(base), Some(variance)) = (base_of(fitted), fitted.variance) else { return (false, None) };
    // Floors at 99.5 % as elsewhere: their own estimate decides how wide is too wide.
    let quantile =
        if reported.role == Role::Floor { t_quantile(0.9975, variance.dof) } else { base.quantile };
    let assumed =
        profile::Base { variance: base.variance.max(ASSUMED_SCATTER * ASSUMED_SCATTER), quantile, ..base };
    let (known, words) = judged_on(&assumed, reported, g, value);
    let why =
        format!("if a run scatters by 1 %; {} degrees of freedom cannot tell that it does not", variance.dof);
    (known, words.map(|w| format!("{w} {why}")))
}

fn judged_on(
    base: &profile::Base<'_>,
    reported: &Reported,
    g: Gradient<'_>,
    value: f64,
) -> (bool, Option<String>) {
    let centre = g(&base.theta).0;
    let ends = profile::interval(base, profile::Of::Value, g, 0.2, reach(reported, centre));
    let plain = |e: Option<f64>| e.map(|v| if reported.log { libm::exp(v) } else { v });
    judge(reported, value, Ends { lo: plain(ends.lo), hi: plain(ends.hi) })
}

/// What the residuals look like to a bootstrap.
#[derive(Debug, Clone, Copy)]
struct ResidualShape {
    /// Share of them in the linear part of the penalty.
    linear: f64,
    /// The law is fitted to the floor of the rows: squared errors, and so the profile, say nothing of it.
    floor: bool,
    /// A few are far larger than the rest: squared errors, and so the profile, are theirs alone.
    heavy: bool,
}

/// Root mean square above twice the normal-consistent median deviation.
fn heavy_tailed(residuals: &[f64]) -> bool {
    let mut sizes: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let Some(median) = sizes.get(sizes.len() / 2) else { return false };
    let rms = libm::sqrt(sizes.iter().map(|r| r * r).sum::<f64>() / sizes.len() as f64);
    rms > 2.0 * 1.4826 * median
}

/// Bootstrap ends, but the profile's where it is open or (unless tails are heavy) lies more than three times as far: a refit that
/// starts at the optimum stays in its part of a flat valley.
fn beyond(percentile: Ends, profile: Ends, centre: f64, heavy: bool) -> (Ends, bool) {
    let end = |own: Option<f64>, other: Option<f64>| match (own, other) {
        (Some(o), Some(p)) if heavy || (p - centre).abs() <= 3.0 * (o - centre).abs() => (own, false),
        (_, p) => (p, true),
    };
    let (lo, a) = end(percentile.lo, profile.lo);
    let (hi, b) = end(percentile.hi, profile.hi);
    (Ends { lo, hi }, a || b)
}

/// The interval belongs to the squared error; the estimate may come from another objective and is never left outside.
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

fn residuals(form: &Form, data: &Data, table: &Table, logs: &[f64]) -> Vec<Residual> {
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

fn r_squared(y: &[f64], residuals: &[f64]) -> Option<f64> {
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let total: f64 = y.iter().map(|v| (v - mean) * (v - mean)).sum();
    let rest: f64 = residuals.iter().map(|r| r * r).sum();
    (total > 0.0).then(|| 1.0 - rest / total).filter(|r| r.is_finite())
}

/// n·ln(SSR/n) + 2k + 2k(k+1)/(n−k−1), k counting the variance too.
fn aicc(ssr: f64, n: usize, p: usize) -> Option<f64> {
    let (n, k) = (n as f64, p as f64 + 1.0);
    (n - k - 1.0 > 0.0 && ssr > 0.0)
        .then(|| n * libm::log(ssr / n) + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0))
}

/// Slopes, curvature and straightness of a form in one variable.
fn one_variable(
    record: &mut FitRecord,
    fitted: &Fitted<'_>,
    table: &Table,
    setting: &Setting,
    options: &Options,
) {
    let [variable] = fitted.form.variables else { return };
    let power = fitted.form.response == "loss"
        || fitted.form.variant.is_empty() && fitted.form.reported[0].name == "exponent";
    if !variable.log || !power {
        return;
    }
    let x: Vec<f64> = fitted.data.x[0].iter().map(|v| libm::exp(*v)).collect();
    let y: Vec<f64> = fitted.data.y.iter().map(|v| libm::exp(*v)).collect();
    let lines: Vec<usize> = fitted.data.source.iter().map(|i| table.rows[*i].line).collect();
    let seeds = (fitted.form.response == "loss").then(|| setting.repeats.outside(&lines));
    let straight = straightness(&x, &y, seeds, options.level);
    record.local_slope = local_slopes(&x, &y);
    record.curvature = straight.curvature.clone();
    record.straight = Some(straight);
}

/// Leaves out the rows of the largest budget (or the largest value of the only variable), refits and forecasts them.
fn holdout(form: &Form, table: &Table, theta: &Theta, penalty: Penalty) -> Option<Holdout> {
    let key = if form.variables.len() == 1 {
        form.variables[0].name
    } else if table.has("c") {
        "c"
    } else {
        form.variables[0].name
    };
    let (kept, left, threshold) = without_top(table, key)?;
    form.check(&kept).ok()?;
    let (data, _) = Data::of(form, &kept);
    let problem = Problem { form, data: &data, w: &data.w, penalty, pull: None };
    let mut starts = (form.starts)(&data, false);
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
        left_out: if left.levels(key).len() > 1 {
            format!("{symbol} >= {}", isoflop_base::units::si(threshold))
        } else {
            format!("{symbol} = {}", isoflop_base::units::si(threshold))
        },
        rows_fitted: data.len(),
        rows_tested: tested.len(),
        rms: finite(libm::sqrt(logs.iter().map(|r| r * r).sum::<f64>() / count)),
        bias: finite(logs.iter().sum::<f64>() / count),
        tested,
    })
}

/// The table without its largest levels of a column, the rows of those levels (at least a twentieth of all), and where they begin.
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

fn recipe(form: &Form, record: &FitRecord, options: &Options) -> String {
    let mut text = format!(
        "{} ({}). Minimised {} over {} rows of {} runs, in the coordinates {}, from {} starts by damped Newton steps with \
         analytic gradients, the best polished.",
        form.formula,
        form.source,
        record.objective_kind,
        record.rows_used,
        record.runs_used,
        record.state.names.join(", "),
        record.starts,
    );
    if record.varpro_objective.is_some() {
        text.push_str(" Cross-checked by variable projection on a grid of exponents.");
    }
    text.push_str(&format!(" Intervals at {} %: {}.", 100.0 * options.level, record.interval_method));
    text
}

fn remarks(record: &mut FitRecord, fitted: &Fitted<'_>) {
    if fitted.variance.is_some_and(|v| v.lack_of_fit) {
        record.notes.push(
            "the residuals are larger than repeated seeds explain: the form misses something, and the intervals count that as noise"
                .to_owned(),
        );
    }
    if record.starts > 1 && record.starts_agree * 20 < record.starts {
        record.notes.push(format!(
            "only {} of {} starts reached the optimum: a hard landscape",
            record.starts_agree, record.starts
        ));
    }
    for (coordinate, value) in fitted.form.coords.iter().zip(&fitted.theta) {
        if *value <= coordinate.lo || *value >= coordinate.hi {
            record.notes.push(format!("{} ended at the edge of its range ({value})", coordinate.name));
        }
    }
    if record.params.get("alpha").is_some_and(|a| a.value < 0.0) {
        record.notes.push("the exponent is negative: loss rises where the law says it falls".to_owned());
    }
}
