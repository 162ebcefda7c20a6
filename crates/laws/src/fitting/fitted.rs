//! What is known around an optimum before any interval is made: the variance of a run, the covariance, Student's quantile.

use super::data::{Data, dot3};
use super::minimise::{Optimum, POLISH, Problem, Solver};
use super::penalty::Penalty;
use super::profile;
use super::variance::{Variance, variance};
use crate::forms::Form;
use crate::numeric::linear::inverse;
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
            information[i][j] = dot3(&data.w, &work.jac[i], &work.jac[j]);
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
