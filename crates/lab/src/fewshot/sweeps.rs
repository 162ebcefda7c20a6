//! What is varied besides the method, and the power laws of the error.

use super::conduct::Outcome;
use super::results::joined;
use super::runs::FewShotStudy;
use crate::noise::noise_scale;
use isoflop_laws::{FitRecord, Options, Row, Table};
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

/// A law for each axis, method and number of shots that has at least four values; where the shots are varied, one for
/// all of them.
pub fn laws(rows: &[SweepRow]) -> Vec<ErrorLaw> {
    let mut laws: Vec<ErrorLaw> = Vec::new();
    for row in rows.iter().filter(|row| row.axis != "per_step") {
        let shots = if row.axis == "shots" { 0 } else { row.shots };
        let same =
            |law: &&mut ErrorLaw| law.axis == row.axis && law.method == row.method && law.shots == shots;
        let point = (row.value, 1.0 - row.accuracy.mean, row.accuracy.half);
        match laws.iter_mut().find(same) {
            Some(law) => law.points.push(point),
            None => laws.push(ErrorLaw {
                axis: row.axis.clone(),
                method: row.method.clone(),
                shots,
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

/// The power law error = floor + (scale/x)^exponent, by the fitter of all other laws: with a floor only where Akaike's
/// criterion asks for one.
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
    let options = Options { forms: vec![FORM.to_owned()], ..Options::default() };
    let document = match isoflop_laws::fit(&table, &options) {
        Ok(document) => document,
        Err(why) => {
            law.exponent = Err(why.to_string());
            return;
        }
    };
    let of = |variant: &str| document.fits.iter().find(|fit| fit.form == FORM && fit.variant == variant);
    let (pure, floored) = (of("pure"), of("irreducible"));
    let better = |pure: &FitRecord, floored: &FitRecord| {
        let clear = pure.aicc.zip(floored.aicc).is_some_and(|(without, with)| with + CLEAR < without);
        clear && floored.identified.get("E").is_none_or(|known| *known)
    };
    let (fit, has_floor) = match (pure, floored) {
        (Some(pure), Some(floored)) if better(pure, floored) => (Some(floored), true),
        _ => (pure, false),
    };
    let value = |name: &str| fit.and_then(|fit| fit.params.get(name));
    law.exponent = match value("alpha").map(|alpha| (alpha.value, alpha.lo, alpha.hi)) {
        Some((value, Some(lo), Some(hi))) => Ok((value, lo, hi)),
        Some((value, ..)) => Err(format!("the exponent {value:.3} has no interval from so few settings")),
        None => Err("no power law was fitted".to_owned()),
    };
    // A/x^α is (A^(1/α)/x)^α.
    let root = value("A").zip(value("alpha")).map(|(a, alpha)| a.value.powf(1.0 / alpha.value));
    law.scale = root.unwrap_or(f64::NAN);
    law.floor = if has_floor { value("E").map_or(f64::NAN, |floor| floor.value) } else { 0.0 };
}

/// The law's form: in its words the variable is N, whatever is varied here.
const FORM: &str = "l_n";
/// By how much Akaike's corrected criterion must be lower to count (Burnham & Anderson 2002).
const CLEAR: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_report::fewshot::input::Interval;

    fn rows(axis: &str, error: impl Fn(f64) -> f64) -> Vec<SweepRow> {
        let row = |x: f64| SweepRow {
            axis: axis.to_owned(),
            value: x,
            method: "proto".to_owned(),
            shots: x as usize,
            accuracy: Interval { mean: 1.0 - error(x), half: 0.001, seeds_half: None },
            noise: None,
        };
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0].map(row).to_vec()
    }

    /// Shots are one law, however many shots a row has; a floor is found where there is one.
    #[test]
    fn known_laws_of_the_error_are_found_again() {
        for (floor, known) in [(0.0, "pure"), (0.1, "with a floor")] {
            let found = laws(&rows("shots", |x| floor + 0.5 * x.powf(-0.6)));
            let [law] = &found[..] else { panic!("{known}: {} laws", found.len()) };
            let (value, lo, hi) = law.exponent.clone().unwrap();
            assert!((value - 0.6).abs() < 0.02 && lo <= 0.6 && 0.6 <= hi, "{known}: {value} ({lo} to {hi})");
            assert!((law.floor - floor).abs() < 0.01, "{known}: floor {}", law.floor);
            let at_one = law.floor + law.scale.powf(value);
            assert!((at_one - floor - 0.5).abs() < 0.01, "{known}: {at_one} at 1");
        }
        // Where shots are not what is varied, each number of them has a law of its own: here one point each.
        assert!(laws(&rows("images", |x| 0.5 * x.powf(-0.6))).is_empty());
    }
}
