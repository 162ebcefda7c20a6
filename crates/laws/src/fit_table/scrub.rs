//! No number in a document is infinite or NaN: tables of 1e300 parameters do reach that. What has no finite value is
//! left out, in words.

use crate::document::{FitRecord, LawDocument, Optimum, ParamEstimate, Straightness};

/// Takes out what is not finite.
pub(crate) fn scrub(document: &mut LawDocument) {
    document.fits.iter_mut().for_each(record);
    document.allocation.retain(|a| {
        let plain = [a.a.value, a.ln_coefficient, a.b, a.ln_coefficient_d];
        let optimum = |o: &Optimum| o.c.is_finite() && o.n.is_finite() && o.d.is_finite();
        plain.iter().all(|v| v.is_finite()) && a.optima.iter().all(optimum)
    });
    for a in &mut document.allocation {
        estimate(&mut a.a);
        a.optima.iter_mut().for_each(|o| o.loss = o.loss.filter(|l| l.is_finite()));
    }
    if document.seed_spread.as_ref().is_some_and(|s| !s.sigma_ln.is_finite() || !s.sigma_loss.is_finite()) {
        document.seed_spread = None;
    }
    document.conventions.retain(|c| c.estimate.value.is_finite());
    document.conventions.iter_mut().for_each(|c| estimate(&mut c.estimate));
    document.paired.retain(|p| p.difference.is_finite());
    document.rollout.retain(|r| [r.forecast, r.observed, r.relative_error].iter().all(|v| v.is_finite()));
    document.left_out.retain(|s| s.expected.is_finite() && s.observed.is_finite());
    let ends = document.rollout.iter_mut().flat_map(|r| [&mut r.lo, &mut r.hi]);
    for end in ends.chain(document.left_out.iter_mut().flat_map(|s| [&mut s.lo, &mut s.hi])) {
        *end = end.filter(|v| v.is_finite());
    }
}

fn record(record: &mut FitRecord) {
    let before = record.residuals.len();
    record.residuals.retain(|r| [r.observed, r.predicted, r.residual].iter().all(|v| v.is_finite()));
    if record.residuals.len() < before {
        let lost = before - record.residuals.len();
        record.notes.push(format!("{lost} residuals are beyond the largest number and are not listed"));
    }
    for r in &mut record.residuals {
        for v in [&mut r.n, &mut r.d, &mut r.c] {
            *v = v.filter(|x| x.is_finite());
        }
    }
    if let Some(h) = &mut record.holdout {
        h.tested.retain(|r| [r.observed, r.predicted, r.residual].iter().all(|v| v.is_finite()));
    }
    record.local_slope.retain(|s| s.slope.is_finite());
    record.correlations.retain(|c| c.r.is_finite());
    record.params.0.retain(|(_, p)| p.value.is_finite());
    record.params.0.iter_mut().for_each(|(_, p)| estimate(p));
    record.objective = record.objective.filter(|v| v.is_finite());
    record.r2_loglog = record.r2_loglog.filter(|v| v.is_finite());
    record.aicc = record.aicc.filter(|v| v.is_finite());
    let tests = &mut record.residual_tests;
    for v in [&mut tests.rms, &mut tests.worst_deviation, &mut tests.sign_runs_p] {
        *v = v.filter(|x| x.is_finite());
    }
    if let Some(c) = record.curvature.take().filter(|c| c.value.is_finite()) {
        record.curvature = Some(c);
        record.curvature.iter_mut().for_each(estimate);
    }
    record.straight = record.straight.take().map(straightness);
    if record.state.covariance.iter().flatten().any(|v| !v.is_finite()) {
        record.state.covariance.clear();
    }
    record.state.sigma = record.state.sigma.filter(|v| v.is_finite());
    record.state.quantile = record.state.quantile.filter(|v| v.is_finite());
}

fn straightness(mut s: Straightness) -> Straightness {
    s.r2 = s.r2.filter(|v| v.is_finite());
    if !s.worst_deviation.is_finite() {
        s.worst_deviation = f64::MAX;
        s.worst_small = false;
        s.straight = false;
    }
    s.curvature = s.curvature.filter(|c| c.value.is_finite());
    s.curvature.iter_mut().for_each(estimate);
    s
}

fn estimate(p: &mut ParamEstimate) {
    for v in [&mut p.se, &mut p.lo, &mut p.hi] {
        *v = v.filter(|x| x.is_finite());
    }
    if let Some(ends) = &mut p.profile {
        ends.lo = ends.lo.filter(|x| x.is_finite());
        ends.hi = ends.hi.filter(|x| x.is_finite());
    }
}
