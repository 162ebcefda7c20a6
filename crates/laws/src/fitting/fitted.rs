//! What is known around an optimum before any interval is made: the evidence, the covariance, and rows whose profile
//! is the estimator's own.

use super::data::{Data, Work, dot3, evaluate};
use super::evidence::{Evidence, Rows, Runs, Scale};
use super::minimise::{Optimum, POLISH, Problem, Solver};
use super::penalty::Penalty;
use super::variance::variance;
use super::{bootstrap, profile, search};
use crate::forms::Form;
use crate::numeric::linear::{inverse, quadratic};
use crate::numeric::quantile::t_quantile;
use crate::numeric::{MAX_COORDS, Square, Theta};
use crate::table::seeds::Repeats;
use crate::{Options, Table};
use std::collections::BTreeMap;

/// What a fit is told besides its rows.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// What was held fixed.
    pub condition: BTreeMap<String, f64>,
    /// Repeated seeds of the whole table.
    pub repeats: Repeats,
}

/// Refits behind the variance of a kinked penalty's estimate; its standard error is known to 7 %.
const REFITS: usize = 100;

/// Everything about the optimum that later steps need.
pub(crate) struct Fitted<'a> {
    pub(crate) form: &'a Form,
    pub(crate) data: Data,
    /// The reported optimum.
    pub(crate) theta: Theta,
    /// The rows moved, along the law, so that least squares finds the reported optimum: a profile of theirs is the
    /// profile of the estimator that was asked for (see [`beside`]).
    moved: Data,
    /// Sum of squares of the moved rows about the reported optimum.
    moved_ssr: f64,
    /// Sum of squares of ln loss at the least-squares optimum.
    pub(crate) ssr: f64,
    pub(crate) evidence: Option<Evidence>,
    /// Variance of this estimator over that of least squares.
    inefficiency: f64,
    /// Refits under random weights of whole runs, for a kinked penalty on rows that share their run's luck: there one
    /// number does not tell how much less it knows than least squares.
    refits: Vec<Theta>,
    /// Share of the residuals in the linear part of the penalty.
    linear: f64,
    /// (JᵀWJ)⁻¹ at the reported optimum.
    bread: Option<Square>,
    pub(crate) covariance: Option<Square>,
    pub(crate) quantile: Option<f64>,
    level: f64,
}

/// Degrees of freedom below which refits alone are not trusted to scatter.
const FEWEST: f64 = 2.0;

impl Fitted<'_> {
    /// How many pieces of evidence there are: runs, or rows where all are of one run.
    pub(crate) fn units(&self) -> usize {
        if self.data.runs > 1 { self.data.runs } else { self.data.len() }
    }

    /// Whether runs have several rows, and their luck is seen by comparing them.
    pub(crate) fn by_runs(&self) -> bool {
        matches!(self.evidence, Some(Evidence::Runs(_)))
    }

    /// The scale of a function with this gradient, and Student's quantile that goes with it.
    pub(crate) fn scale(&self, gradient: &Theta) -> Option<(Scale, f64)> {
        let mut scale = self.evidence.as_ref()?.scale(gradient)?;
        scale.lambda *= self.inefficiency;
        if !self.refits.is_empty() {
            let information = quadratic(&self.bread?, gradient, self.form.p());
            let spread = self.spread_of_refits(gradient);
            // A sum of squared scores is too small by the ratio; refits of a kinked objective scatter too much, by
            // about as much as runs exceed what is left of them: both by simulation of tables of 9 runs of 40 rows.
            let (runs, p) = (self.data.runs as f64, self.form.p() as f64);
            scale.ratio *= libm::pow((runs - p).max(1.0) / runs, self.linear);
            if spread > 0.0 {
                let refitted = spread * spread * scale.ratio / information;
                // Refits of a kinked objective pass through the same rows whatever the weights of two runs.
                scale.lambda = if scale.dof < FEWEST { refitted.max(scale.lambda) } else { refitted };
            }
        }
        Some((scale, self.quantile_at(scale.dof)))
    }

    /// Half of the distance between the 16th and the 84th percentile of the refits: a standard deviation that a few far
    /// ones do not move.
    fn spread_of_refits(&self, gradient: &Theta) -> f64 {
        let p = self.form.p();
        let along = |t: &Theta| (0..p).map(|j| gradient[j] * (t[j] - self.theta[j])).sum::<f64>();
        let mut values: Vec<f64> = self.refits.iter().map(along).filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        if values.len() < 20 {
            return 0.0;
        }
        0.5 * (bootstrap::at(&values, 0.8413) - bootstrap::at(&values, 0.1587))
    }

    /// Standard error of a function with this gradient.
    pub(crate) fn se(&self, gradient: &Theta) -> Option<f64> {
        let (scale, _) = self.scale(gradient)?;
        let information = quadratic(&self.bread?, gradient, self.form.p());
        Some(libm::sqrt(scale.lambda * information)).filter(|s| s.is_finite() && *s > 0.0)
    }

    /// Variance of one new run of ln loss about the law, with its degrees of freedom.
    pub(crate) fn run_variance(&self) -> Option<(f64, f64)> {
        self.evidence.as_ref().map(Evidence::of_a_run)
    }

    /// A scale of this estimator as least squares would have it.
    pub(crate) fn of_least_squares(&self, lambda: f64) -> f64 {
        if self.refits.is_empty() { lambda / self.inefficiency } else { lambda }
    }

    /// Student's quantile at the level.
    pub(crate) fn quantile_at(&self, dof: f64) -> f64 {
        t_quantile(0.5 + 0.5 * self.level, dof.max(0.2))
    }

    /// Where a profile of a function starts whose scale is `lambda` at `quantile`.
    pub(crate) fn base(&self, lambda: f64, quantile: f64) -> profile::Base<'_> {
        profile::Base {
            form: self.form,
            data: &self.moved,
            theta: self.theta,
            ssr: self.moved_ssr,
            variance: lambda,
            quantile,
        }
    }
}

/// Evidence, covariance and the moved rows around the reported optimum.
pub(crate) fn around<'a>(
    form: &'a Form,
    data: Data,
    best: &Optimum,
    penalty: Penalty,
    table: &Table,
    setting: &Setting,
    options: &Options,
) -> Fitted<'a> {
    let (theta, p) = (best.theta, form.p());
    let mut solver = Solver::default();
    let mut weighed = data.clone();
    let (ssr, logs) = {
        let squares = Problem { form, data: &data, w: &data.w, penalty: Penalty::square(), pull: None };
        let square = solver.minimise(&squares, &theta, POLISH).theta;
        let (ssr, logs) = solver.report(&squares, &square);
        if penalty.raw && form.log_response && !penalty.is_floor() {
            // The squared error of the loss itself is that of ln loss weighed by the square of the loss.
            weigh_by_the_law(&mut weighed, &squares, &theta);
            let squares = Problem { data: &weighed, w: &weighed.w, ..squares };
            let square = solver.minimise(&squares, &theta, POLISH).theta;
            (ssr, solver.report(&squares, &square).1)
        } else {
            (ssr, logs)
        }
    };
    let mut work = Work::default();
    evaluate(form, &data, &theta, &mut work);
    hold_edges(form, &theta, &mut work);
    let bread = inverse(&information(form, &weighed.w, &work), p);
    let residual = beside(&work, &weighed.w, &logs, bread.as_ref(), p);
    let moved_ssr = residual.iter().zip(&weighed.w).map(|(r, w)| w * r * r).sum();
    let lines: Vec<usize> = data.source.iter().map(|i| table.rows[*i].line).collect();
    let outside = if form.response == "loss" { setting.repeats.outside(&lines) } else { (0.0, 0) };
    let evidence = if data.runs > 1 && data.runs < data.len() {
        bread.as_ref().and_then(|bread| {
            let (jacobian, w, run, runs) = (&work.jac, &weighed.w, &data.run, data.runs);
            let rows = Rows { jacobian, w, residual: &residual, run, runs, bread };
            Runs::of(&rows).map(|r| Evidence::Runs(Box::new(r)))
        })
    } else {
        // Weights count rows: a row of weight 2 is the same row twice.
        let count: f64 = data.w.iter().sum::<f64>().max(data.len() as f64 * 1e-9);
        variance(weighed_ssr(&weighed, &logs), count - p as f64, outside).map(Evidence::Rows)
    };
    let inefficiency = evidence
        .as_ref()
        .map(Evidence::of_a_run)
        .map_or(1.0, |(v, dof)| penalty.inefficiency(libm::sqrt(v), dof));
    let kinked = penalty.has_delta() && form.log_response && !penalty.is_floor();
    let refits = if kinked && matches!(evidence, Some(Evidence::Runs(_))) {
        // Runs scatter whatever the number of their rows: a sample of a long table's rows shows it.
        let few = data.some(&search::sample(&data));
        let problem = Problem { form, data: &few, w: &few.w, penalty, pull: None };
        bootstrap::refits(&problem, &theta, REFITS, options.seed, options.threads, bootstrap::SPREAD)
    } else {
        Vec::new()
    };
    let covariance = evidence.as_ref().zip(bread).map(|(e, bread)| {
        let mut out = e.covariance(&bread);
        out.iter_mut().flatten().for_each(|x| *x *= inefficiency);
        out
    });
    let quantile = evidence.as_ref().map(|e| t_quantile(0.5 + 0.5 * options.level, e.of_a_run().1.max(0.2)));
    let from_optimum: Vec<f64> = data.y.iter().zip(&work.f).map(|(y, f)| y - f).collect();
    let mut moved = weighed;
    for (y, (f, r)) in moved.y.iter_mut().zip(work.f.iter().zip(&residual)) {
        *y = f + r;
    }
    Fitted {
        form,
        data,
        theta,
        moved,
        moved_ssr,
        ssr,
        evidence,
        inefficiency,
        refits,
        linear: penalty.linear_share(&from_optimum),
        bread,
        covariance,
        quantile,
        level: options.level,
    }
}

fn weighed_ssr(data: &Data, logs: &[f64]) -> f64 {
    logs.iter().zip(&data.w).map(|(r, w)| w * r * r).sum()
}

/// Weights times the square of the law's loss, their sum unchanged.
fn weigh_by_the_law(data: &mut Data, problem: &Problem<'_>, theta: &Theta) {
    let mut work = Work::default();
    evaluate(problem.form, problem.data, theta, &mut work);
    let top = work.f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let before: f64 = data.w.iter().sum();
    for (w, f) in data.w.iter_mut().zip(&work.f) {
        *w *= libm::exp(2.0 * (f - top));
    }
    let after: f64 = data.w.iter().sum();
    data.w.iter_mut().for_each(|w| *w *= before / after);
}

/// A coordinate at the end of its range does not move with the rows: its column is zero.
fn hold_edges(form: &Form, theta: &Theta, work: &mut Work) {
    for ((coordinate, value), column) in form.coords.iter().zip(theta).zip(&mut work.jac) {
        if *value <= coordinate.lo || *value >= coordinate.hi {
            column.fill(0.0);
        }
    }
}

/// Jᵀ·W·J, with one on the diagonal of a column of zeros.
fn information(form: &Form, w: &[f64], work: &Work) -> Square {
    let p = form.p();
    let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            out[i][j] = dot3(w, &work.jac[i], &work.jac[j]);
        }
        if out[i][i] == 0.0 {
            out[i][i] = 1.0;
        }
    }
    out
}

/// The residuals of least squares without what of them lies along the law's own directions at the reported optimum.
/// Rows at f + r have their least squares there, and the same scatter about it: the shape of the valley is the law's,
/// its place and width the estimator's own.
fn beside(work: &Work, w: &[f64], residual: &[f64], bread: Option<&Square>, p: usize) -> Vec<f64> {
    let Some(bread) = bread else { return residual.to_vec() };
    let along: Vec<f64> = (0..p).map(|i| dot3(w, &work.jac[i], residual)).collect();
    let step: Vec<f64> = (0..p).map(|i| (0..p).map(|j| bread[i][j] * along[j]).sum()).collect();
    let mut out = residual.to_vec();
    for (i, s) in step.iter().enumerate() {
        out.iter_mut().zip(&work.jac[i]).for_each(|(r, j)| *r -= s * j);
    }
    if out.iter().all(|r| r.is_finite()) { out } else { residual.to_vec() }
}
