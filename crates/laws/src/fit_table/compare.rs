//! Which of several forms do the data support? Judged by the corrected Akaike criterion and by rows that were held
//! out; when the two disagree, or the difference is small, the answer is that the data cannot tell.

use crate::document::{Candidate, Comparison, FitRecord, LawDocument, condition_words};

/// Name of the verdict when the data cannot tell.
pub const NEITHER: &str = "neither";

/// Compares forms fitted to the same rows. `labels` and `records` go together.
pub fn compare(question: &str, records: &[(&str, &FitRecord)]) -> Comparison {
    let candidates: Vec<Candidate> = records
        .iter()
        .map(|(label, r)| Candidate {
            label: (*label).to_owned(),
            aicc: r.aicc,
            holdout_rms: r.holdout.as_ref().and_then(|h| h.rms),
            num_params: r.state.theta.len(),
        })
        .collect();
    let by_fit = winner(&candidates, |c| c.aicc, |best, next| next - best > 2.0);
    let by_holdout = winner(&candidates, |c| c.holdout_rms, |best, next| best < 0.9 * next);
    let floor_known = |label: &str| {
        records
            .iter()
            .find(|(l, _)| *l == label)
            .and_then(|(_, r)| r.identified.get("E"))
            .is_none_or(|known| *known)
    };
    let (supported, words) = match (&by_fit, &by_holdout) {
        (Some(a), Some(b)) if a == b && floor_known(a) => {
            (a.clone(), format!("{a} has the better Akaike criterion and forecasts the held-out rows better"))
        }
        (Some(a), Some(b)) if a == b => (
            NEITHER.to_owned(),
            format!("{a} fits and forecasts better, but its irreducible loss is not identified"),
        ),
        (Some(a), Some(b)) => {
            (NEITHER.to_owned(), format!("{a} fits better, {b} forecasts the held-out rows better"))
        }
        (None, Some(b)) => {
            (NEITHER.to_owned(), format!("the fits are equally good; {b} forecasts the held-out rows better"))
        }
        (Some(a), None) => {
            (NEITHER.to_owned(), format!("{a} has the better Akaike criterion, held-out rows do not tell"))
        }
        (None, None) => (NEITHER.to_owned(), "neither the fit nor held-out rows tell them apart".to_owned()),
    };
    Comparison { question: question.to_owned(), candidates, supported, words }
}

/// Pure against irreducible, wherever both were fitted to the same rows.
pub(super) fn floors(document: &LawDocument) -> Vec<Comparison> {
    let mut out = Vec::new();
    for pure in document.fits.iter().filter(|f| f.variant == "pure") {
        let partner = document
            .fits
            .iter()
            .find(|f| f.variant == "irreducible" && f.form == pure.form && f.condition == pure.condition);
        if let Some(floored) = partner {
            let question = if pure.condition.is_empty() {
                format!("{}: is there an irreducible loss?", pure.form)
            } else {
                format!(
                    "{} at {}: is there an irreducible loss?",
                    pure.form,
                    condition_words(&pure.condition)
                )
            };
            out.push(compare(&question, &[("pure", pure), ("irreducible", floored)]));
        }
    }
    out
}

/// The forms of L(N, D) against each other, by the rows held out of each.
pub(super) fn surfaces(document: &LawDocument) -> Option<Comparison> {
    let found: Vec<(&str, &FitRecord)> = document
        .fits
        .iter()
        .filter(|f| f.form.starts_with("l_nd_") && f.condition.is_empty())
        .map(|f| (f.form.as_str(), f))
        .collect();
    (found.len() > 1).then(|| compare("L(N, D): which form?", &found))
}

/// What junk takes: tokens alone, a constant at every size, or capacity too; for each kind of it.
pub(super) fn junk(document: &LawDocument) -> Vec<Comparison> {
    let mut out = Vec::new();
    for first in document.fits.iter().filter(|f| f.form == "junk" && f.variant == "sizes") {
        let same = |f: &&FitRecord| f.form == "junk" && f.group == first.group && f.variant != "one size";
        let found: Vec<(&str, &FitRecord)> =
            document.fits.iter().filter(same).map(|f| (f.variant.as_str(), f)).collect();
        if found.len() > 1 {
            let of = if first.group.is_empty() { "junk" } else { &first.group };
            out.push(compare(&format!("{of}: tokens alone, a constant, or capacity too?"), &found));
        }
    }
    out
}

/// The laws of one setting against each other, on the same rows: does the best rate depend on N, on D, on both?
pub(super) fn settings(document: &LawDocument) -> Vec<Comparison> {
    let mut out = Vec::new();
    for (prefix, question) in [
        ("lr_", "best learning rate: on what does it depend?"),
        ("batch_", "best batch: on what does it depend?"),
        ("b_crit_", "critical batch: on what does it depend?"),
    ] {
        let of_it = |f: &&FitRecord| f.form.starts_with(prefix);
        let Some(rows) = document.fits.iter().filter(of_it).map(|f| f.rows_used).max() else { continue };
        let found: Vec<(&str, &FitRecord)> = document
            .fits
            .iter()
            .filter(of_it)
            .filter(|f| f.rows_used == rows)
            .map(|f| (f.form.as_str(), f))
            .collect();
        if found.len() > 1 {
            out.push(compare(question, &found));
        }
    }
    out
}

/// The candidate with the lowest score, if it is clearly lower than the next.
fn winner(
    candidates: &[Candidate],
    score: impl Fn(&Candidate) -> Option<f64>,
    clear: impl Fn(f64, f64) -> bool,
) -> Option<String> {
    let mut scored: Vec<(f64, &str)> =
        candidates.iter().filter_map(|c| Some((score(c)?, c.label.as_str()))).collect();
    if scored.len() < candidates.len() || scored.len() < 2 {
        return None;
    }
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    clear(scored[0].0, scored[1].0).then(|| scored[0].1.to_owned())
}
