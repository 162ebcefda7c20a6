//! How findings say numbers.

use isoflop_base::units::si;
use isoflop_laws::arms::Estimate;
use isoflop_report::{Answer, Ruling, Verdict};

/// Level of the intervals of all findings.
pub(super) const LEVEL: f64 = 0.95;
/// Optimiser steps below which a point says more of its warm-up and schedule than of what its arm varies.
pub(super) const LEAST_STEPS: u64 = 50;

/// `0.62 (0.51 to 0.73)`, or that there is no interval.
pub(super) fn interval(estimate: &Estimate, digits: usize) -> String {
    let number = |value: f64| fixed(value, digits);
    match estimate.ends {
        Some((lo, hi)) => format!("{} ({} to {})", number(estimate.value), number(lo), number(hi)),
        None => format!("{} (no interval)", number(estimate.value)),
    }
}

/// So many decimals, with a true minus sign, and none before what is rounded to zero.
fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| b"0.".contains(&b)) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// ` (3.88 k to 36.2 k)`, or that there is no interval.
pub(super) fn counts(ends: Option<(f64, f64)>) -> String {
    ends.map_or_else(|| " (no interval)".to_owned(), |(lo, hi)| format!(" ({} to {})", si(lo), si(hi)))
}

/// [`interval`] of what may not be there.
pub(super) fn maybe(estimate: Option<&Estimate>, digits: usize) -> String {
    estimate.map_or_else(|| "–".to_owned(), |e| interval(e, digits))
}

/// `8 runs`, `1 run`.
pub(super) fn count(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// An answer of a heading and one paragraph.
pub(super) fn answer(title: String, words: String) -> Option<Answer> {
    Some(Answer { title, words: vec![words] })
}

/// A verdict.
pub(super) fn verdict(
    claim: &str,
    source: &str,
    measured: impl Into<String>,
    ruling: Ruling,
    why: impl Into<String>,
) -> Verdict {
    Verdict {
        claim: claim.to_owned(),
        source: source.to_owned(),
        measured: measured.into(),
        ruling,
        why: why.into(),
    }
}
