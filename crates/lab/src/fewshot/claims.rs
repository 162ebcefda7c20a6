//! The claims of the home report on class-dependency attention, judged by what was measured here.

use isoflop_report::fewshot::input::{ClaimRow, DifferenceRow, Interval, MethodRow, SweepRow};

const SOURCE: &str = "home report on CCD, mini-ImageNet, 5-way 5-shot";
/// Points that the report says CCD gains over ProtoNet.
const GAIN: f64 = 0.063;
/// Share of right answers above chance that counts as nothing known of the classes.
const NOTHING: f64 = 0.03;

/// A method before it was trained on episodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtStart {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cosine between what distances are measured to.
    pub cosine_after: f64,
    /// 1 over the number of classes.
    pub chance: f64,
}

fn points(interval: &Interval) -> String {
    format!("{} ± {:.2} points", signed(interval.mean), 100.0 * interval.wider())
}

/// Points with their sign, by the minus of figures.
fn signed(share: f64) -> String {
    format!("{:+.2}", 100.0 * share).replace('-', "−")
}

fn row(claim: &str, found: String, verdict: &str, why: &str) -> ClaimRow {
    ClaimRow {
        claim: claim.to_owned(),
        source: SOURCE.to_owned(),
        found,
        verdict: verdict.to_owned(),
        why: why.to_owned(),
    }
}

/// All claims that these results say something of.
pub fn judge(
    rows: &[MethodRow],
    differences: &[DifferenceRow],
    sweeps: &[SweepRow],
    start: Option<AtStart>,
) -> Vec<ClaimRow> {
    let mut claims = Vec::new();
    claims.extend(["ccd", "ccd-residual"].into_iter().filter_map(|method| gain(differences, method)));
    claims.extend(start.map(|start| collapse(rows, start)));
    claims.extend(noise(sweeps));
    claims.extend(less_data(sweeps));
    claims
}

/// CCD +6.3 points over ProtoNet.
fn gain(differences: &[DifferenceRow], method: &str) -> Option<ClaimRow> {
    let found = differences.iter().find(|d| d.method == method && d.against == "proto" && d.shots == 5)?;
    let (low, high) =
        (found.difference.mean - found.difference.wider(), found.difference.mean + found.difference.wider());
    let verdict = match (low, high) {
        (low, _) if low >= GAIN => "holds",
        (_, high) if high < GAIN => "refuted",
        _ => "open",
    };
    let name = if method == "ccd" { "to the letter" } else { "with a residual" };
    Some(row(
        &format!("CCD ({name}) gains 6.3 points over ProtoNet"),
        points(&found.difference),
        verdict,
        "same backbone, start and episodes; these pictures, not mini-ImageNet",
    ))
}

/// Before training the refined prototypes say no more of the classes than chance.
fn collapse(rows: &[MethodRow], start: AtStart) -> ClaimRow {
    let trained = rows
        .iter()
        .filter(|row| row.method == "ccd")
        .filter_map(|row| row.geometry.map(|g| format!("{}-shot {:.3}", row.shots, g.cosine_after)));
    let trained: Vec<String> = trained.collect();
    let collapsed = start.accuracy < start.chance + NOTHING;
    row(
        "The module as reported knows nothing of the classes at its start",
        format!(
            "before training accuracy {:.1} % where chance is {:.1} %, mean cosine {:.4}; trained: {}",
            100.0 * start.accuracy,
            100.0 * start.chance,
            start.cosine_after,
            trained.join(", ")
        ),
        if collapsed { "holds" } else { "refuted" },
        "not a claim of the report but a property of its equation",
    )
}

/// Dependencies are noisy with few episodes a step.
fn noise(sweeps: &[SweepRow]) -> Option<ClaimRow> {
    let of = |method: &str| {
        let mut rows: Vec<&SweepRow> =
            sweeps.iter().filter(|row| row.axis == "per_step" && row.method == method).collect();
        rows.sort_by(|a, b| a.value.total_cmp(&b.value));
        rows
    };
    let ends = |rows: &[&SweepRow]| match rows {
        [first, .., last] if first.shots == last.shots => Some((
            first.value,
            last.value,
            last.accuracy.mean - first.accuracy.mean,
            first.accuracy.wider() + last.accuracy.wider(),
        )),
        _ => None,
    };
    let method = ["ccd-residual", "ccd", "ccd-mha", "feat"].into_iter().find(|m| of(m).len() > 1)?;
    let (from, to, gained, within) = ends(&of(method))?;
    let plain = ends(&of("proto"));
    let mut found = format!("{method}: {} points from {from} to {to} episodes a step", signed(gained));
    let mut verdict = if gained > within { "holds" } else { "refuted" };
    if let Some((_, _, without, spread)) = plain {
        found += &format!("; proto: {}", signed(without));
        if gained > within && gained - without < within + spread {
            verdict = "open";
        }
    }
    Some(row(
        "Dependencies are noisy with small meta-batches",
        found,
        verdict,
        "the same number of episodes for each size of a step; holds if CCD gains more from larger steps than proto",
    ))
}

/// 90 % less data.
fn less_data(sweeps: &[SweepRow]) -> Option<ClaimRow> {
    let of = |method: &str| {
        let rows = sweeps.iter().filter(|row| row.axis == "classes" && row.method == method);
        let mut rows: Vec<&SweepRow> = rows.collect();
        rows.sort_by(|a, b| a.value.total_cmp(&b.value));
        Some((*rows.first()?, *rows.last()?)).filter(|(first, last)| first.value < last.value)
    };
    let method = ["ccd-residual", "ccd", "ccd-mha"].into_iter().find(|m| of(m).is_some())?;
    let ((few, _), (_, all)) = (of(method)?, of("proto")?);
    let difference = few.accuracy.mean - all.accuracy.mean;
    let within = few.accuracy.wider() + all.accuracy.wider();
    Some(row(
        "90 % less data suffices",
        format!(
            "{method} with {} of {} base classes {:.2} %, proto with all {:.2} %",
            few.value,
            all.value,
            100.0 * few.accuracy.mean,
            100.0 * all.accuracy.mean
        ),
        if difference >= -within { "holds" } else { "refuted" },
        "read as: CCD with a tenth of the base classes does as well as ProtoNet with all",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(mean: f64, half: f64, seeds_half: Option<f64>) -> Interval {
        Interval { mean, half, seeds_half }
    }

    #[test]
    fn a_gain_is_judged_by_the_wider_of_its_intervals() {
        let verdict = |difference| {
            let row = DifferenceRow { method: "ccd".into(), against: "proto".into(), shots: 5, difference };
            gain(&[row], "ccd").unwrap().verdict
        };
        assert_eq!(verdict(interval(0.01, 0.002, None)), "refuted");
        assert_eq!(verdict(interval(0.07, 0.002, None)), "holds");
        assert_eq!(verdict(interval(0.062, 0.002, None)), "open");
        assert_eq!(verdict(interval(0.04, 0.002, Some(0.05))), "open");
        assert!(gain(&[], "ccd").is_none());
    }

    #[test]
    fn noise_must_be_more_than_that_of_any_method() {
        let sweep = |method: &str, value: f64, mean: f64| SweepRow {
            axis: "per_step".into(),
            value,
            method: method.into(),
            shots: 5,
            accuracy: interval(mean, 0.002, None),
            noise: None,
        };
        let verdict = |ccd: [f64; 2], proto: [f64; 2]| {
            let mut rows = Vec::new();
            for (method, means) in [("ccd-residual", ccd), ("proto", proto)] {
                rows.extend([1.0, 16.0].into_iter().zip(means).map(|(v, m)| sweep(method, v, m)));
            }
            noise(&rows).unwrap().verdict
        };
        assert_eq!(verdict([0.7, 0.8], [0.8, 0.8]), "holds");
        assert_eq!(verdict([0.7, 0.8], [0.7, 0.8]), "open");
        assert_eq!(verdict([0.8, 0.8], [0.8, 0.8]), "refuted");
    }
}
