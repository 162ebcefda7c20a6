//! One form fitted to one table: the optimum, then everything that is said of it.
//!
//! [`fit_form`] is the fit of L(N, D), and of every other law: rows as a form reads them (`data`), the optimum from
//! many starts (`search`, `minimise`; cross-checked by `varpro`), then intervals, verdicts, residuals and the
//! hold-out, one file each.

use super::data::Data;
use super::evidence::Evidence;
use super::fitted::{Fitted, Setting, around};
use super::holdout::holdout;
use super::intervals::{BOOTSTRAP_FROM, ResidualShape, heavy_tailed, interval_method, parameters};
use super::minimise::{Problem, Solver};
use super::penalty::Penalty;
use super::residuals::{aicc, r_squared, residuals};
use super::straight::{local_slopes, residual_tests, straightness};
use super::{bootstrap, search, varpro};
use crate::document::{FitRecord, FitState};
use crate::forms::Form;
use crate::{LawError, Options, Table};
use std::collections::BTreeMap;

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
    let fitted = around(form, data.clone(), &best.optimum, penalty, table, setting, options);
    let mut solver = Solver::default();
    let (objective, logs) = solver.report(&problem, &best.optimum.theta);
    let residuals = residuals(form, &data, table, &logs);
    let by_line: BTreeMap<usize, usize> =
        data.source.iter().zip(&data.run).map(|(i, run)| (table.rows[*i].line, *run)).collect();
    let units: Vec<usize> = residuals.iter().map(|r| by_line[&r.row]).collect();
    let runs = data.runs;
    // Where runs have several rows the profile has their variance already, which small numbers of refits know less
    // well.
    let by_profile = fitted.by_runs() && !penalty.is_floor();
    let refits = if runs >= BOOTSTRAP_FROM && options.bootstrap >= 20 && !by_profile {
        bootstrap::refits(
            &problem,
            &fitted.theta,
            options.bootstrap,
            options.seed,
            options.threads,
            bootstrap::STOP,
        )
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
        interval_method: interval_method(&fitted, &refits, penalty),
        objective: Some(objective).filter(|o| o.is_finite()),
        objective_kind: penalty.words(),
        r2_loglog: r_squared(&data.y, &logs),
        residual_tests: residual_tests(&residuals, &units),
        residuals,
        rows_used: data.len(),
        runs_used: runs,
        rows_dropped: dropped,
        starts: best.starts,
        starts_agree: best.agree,
        varpro_objective,
        aicc: aicc(fitted.ssr, data.len(), fitted.units(), form.p()),
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
    let starts = (problem.form.starts)(&problem.data.columns(), options.dense);
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

fn state(fitted: &Fitted<'_>) -> FitState {
    let p = fitted.form.p();
    FitState {
        names: fitted.form.coords.iter().map(|c| c.name.to_owned()).collect(),
        theta: fitted.theta[..p].to_vec(),
        covariance: fitted
            .covariance
            .map(|c| c[..p].iter().map(|row| row[..p].to_vec()).collect())
            .unwrap_or_default(),
        sigma: fitted.run_variance().map(|v| libm::sqrt(v.0)),
        dof: fitted.run_variance().map_or(0.0, |v| v.1),
        quantile: fitted.quantile.filter(|q| q.is_finite()),
    }
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
    let straight = straightness(&x, &y, &fitted.data.run, seeds, options.level);
    // A loss falls, and its exponent is written positive; a setting grows with it.
    let sign = if fitted.form.response == "loss" { -1.0 } else { 1.0 };
    record.local_slope = local_slopes(&x, &y, sign);
    record.curvature = straight.curvature.clone();
    record.straight = Some(straight);
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
    if matches!(fitted.evidence, Some(Evidence::Rows(v)) if v.lack_of_fit) {
        record.notes.push(
            "the residuals are larger than repeated seeds explain: the form misses something, and the \
             intervals count that as noise"
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
