//! What is varied besides the method, and the power laws of the error.

use super::conduct::Outcome;
use super::results::joined;
use super::runs::FewShotStudy;
use crate::noise::noise_scale;
use isoflop_laws::{Options, Row, Table};
use isoflop_report::fewshot::input::{ErrorLaw, SweepRow};
use isoflop_store::Store;

/// A row for each setting, method and number of shots, seeds together.
///
/// # Errors
/// A store that cannot be read.
pub fn rows(study: &FewShotStudy, store: &Store, outcomes: &[Outcome<'_>]) -> anyhow::Result<Vec<SweepRow>> {
    let mut rows: Vec<(SweepRow, Vec<Vec<f64>>, Vec<f64>)> = Vec::new();
    for outcome in outcomes {
        for (axis, value) in &outcome.entry.arm {
            let value: f64 = value.parse()?;
            let (method, shots) = (outcome.entry.method.word(), outcome.entry.shots);
            let same = |row: &SweepRow| {
                row.axis == *axis && row.value == value && row.method == method && row.shots == shots
            };
            let found = rows.iter().position(|(row, ..)| same(row)).unwrap_or_else(|| {
                let row = SweepRow {
                    axis: axis.clone(),
                    value,
                    method: method.to_owned(),
                    shots,
                    accuracy: super::results::interval(&[0.0]),
                    noise: None,
                };
                rows.push((row, Vec::new(), Vec::new()));
                rows.len() - 1
            });
            rows[found].1.push(outcome.tested.accuracies().collect());
            rows[found].2.extend(noise(study, store, outcome)?);
        }
    }
    Ok(rows
        .into_iter()
        .map(|(mut row, seeds, noise)| {
            row.accuracy = joined(&seeds);
            row.noise = (!noise.is_empty()).then(|| noise.iter().sum::<f64>() / noise.len() as f64);
            row
        })
        .collect())
}

/// Gradient noise of one episode over the squared gradient, tr Σ/|G|², from the later half of a run's pairs of norms:
/// an episode is the small batch (McCandlish et al. 2018, appendix A.1).
fn noise(study: &FewShotStudy, store: &Store, outcome: &Outcome<'_>) -> anyhow::Result<Option<f64>> {
    let run = &study.runs[outcome.entry.run];
    let curves = store.read_run(&run.id)?.curves()?;
    let scale = noise_scale(&curves).later_tokens;
    // The ledger of the loop counts queries where a language model has tokens.
    let judged = (study.asked.episodes.ways * study.asked.episodes.queries) as f64;
    Ok(scale.value().map(|queries| queries / judged))
}

/// A law for each axis, method and number of shots that has at least four values.
pub fn laws(rows: &[SweepRow]) -> Vec<ErrorLaw> {
    let mut laws: Vec<ErrorLaw> = Vec::new();
    for row in rows.iter().filter(|row| row.axis != "per_step") {
        let same =
            |law: &&mut ErrorLaw| law.axis == row.axis && law.method == row.method && law.shots == row.shots;
        let point = (row.value, 1.0 - row.accuracy.mean, row.accuracy.half);
        match laws.iter_mut().find(same) {
            Some(law) => law.points.push(point),
            None => laws.push(ErrorLaw {
                axis: row.axis.clone(),
                method: row.method.clone(),
                shots: row.shots,
                points: vec![point],
                exponent: Err("not fitted".to_owned()),
                scale: f64::NAN,
                floor: f64::NAN,
            }),
        }
    }
    laws.retain(|law| law.points.len() >= 4);
    for law in &mut laws {
        law.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        fit(law);
    }
    laws
}

/// The pure power law error = (scale/x)^exponent, by the fitter of all other laws.
fn fit(law: &mut ErrorLaw) {
    let mut table = Table::default();
    for (i, (x, error, half)) in law.points.iter().enumerate() {
        let loss_se = Some(half / 1.96).filter(|se| *se > 0.0);
        table.rows.push(Row {
            line: i + 1,
            n: Some(*x),
            loss: *error,
            loss_se,
            weight: 1.0,
            ..Row::default()
        });
    }
    let options = Options { forms: vec!["l_n".to_owned()], ..Options::default() };
    let document = match isoflop_laws::fit(&table, &options) {
        Ok(document) => document,
        Err(why) => {
            law.exponent = Err(why.to_string());
            return;
        }
    };
    let pure = document.fits.iter().find(|fit| fit.form == "l_n" && fit.variant == "pure");
    let alpha = pure.and_then(|fit| fit.params.get("alpha"));
    law.exponent = match alpha.map(|alpha| (alpha.value, alpha.lo, alpha.hi)) {
        Some((value, Some(lo), Some(hi))) => Ok((value, lo, hi)),
        Some((value, ..)) => Err(format!("the exponent {value:.3} has no interval from so few settings")),
        None => Err("no power law was fitted".to_owned()),
    };
    law.scale = pure.and_then(|fit| fit.params.get("N_c")).map_or(f64::NAN, |scale| scale.value);
    law.floor = 0.0;
}
