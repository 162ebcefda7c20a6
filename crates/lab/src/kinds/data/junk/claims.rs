//! Published claims that runs with junk can judge.

use super::page::spoken;
use super::{Kind, TELLS};
use crate::kinds::words::{interval, list, maybe, verdict};
use isoflop_laws::arms::Estimate;
use isoflop_report::{Ruling, Verdict};

pub(super) fn claims(kinds: &[Kind], clean: Option<&Estimate>) -> Vec<Verdict> {
    let measured = |of: &dyn Fn(&Kind) -> Option<String>| -> String {
        kinds
            .iter()
            .filter_map(|k| Some(format!("{}: {}", spoken(&k.name), of(k)?)))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let g = |kind: &Kind| Some(format!("g {}", kind.g_words()));
    let milder = match kinds.iter().all(|k| k.g.is_some_and(|g| g.is_below(1.0))) {
        true => (Ruling::Reproduced, "every interval of g lies below one".to_owned()),
        false => match kinds.iter().filter(|k| k.harms()).collect::<Vec<_>>()[..] {
            [] => (Ruling::CannotTell, "an interval of g reaches one".to_owned()),
            ref worse => {
                let names: Vec<String> = worse.iter().map(|k| spoken(&k.name).to_owned()).collect();
                (Ruling::NotReproduced, format!("{} costs more than the tokens it takes", list(&names)))
            }
        },
    };
    let bends = |kind: &&Kind| {
        kind.exponents.last().and_then(|e| e.equal_total).is_some_and(|d| d.is_above(0.0) || d.is_below(0.0))
    };
    let sharp = |kind: &Kind| {
        let half = kind.exponents.last()?.equal_total?.half_width()?;
        Some(half <= TELLS * clean?.value.abs())
    };
    let offset = match kinds.iter().filter(bends).collect::<Vec<_>>()[..] {
        [] if kinds.iter().all(|k| sharp(k) == Some(true)) => (
            Ruling::Reproduced,
            "no change of the exponent is seen at the largest share, and half of it would be".to_owned(),
        ),
        [] => (
            Ruling::CannotTell,
            "the change of the exponent is known too badly: more seeds would tell".to_owned(),
        ),
        ref bent => {
            let names: Vec<String> = bent.iter().map(|k| spoken(&k.name).to_owned()).collect();
            (
                Ruling::NotReproduced,
                format!("the line bends with {}: the interval of the change excludes zero", list(&names)),
            )
        }
    };
    let change = |kind: &Kind| {
        let last = kind.exponents.last()?;
        let beside = last.equal_worth.as_ref().map(|e| format!(", by {} at equal D_eff", interval(e, 3)));
        Some(format!(
            "α changes by {} at q = {}{}",
            maybe(last.equal_total.as_ref(), 3),
            last.share,
            beside.unwrap_or_default()
        ))
    };
    let mut verdicts = vec![
        verdict(
            "Bad data are milder than lost data: D(1 − q)^g with g < 1",
            "after arXiv 2510.03313, which finds γ < 1 for noisy shares",
            measured(&g),
            milder.0,
            milder.1,
        ),
        verdict(
            "Junk shifts the line of loss against size, but does not bend it",
            "the question of a home reproduction on two consumer GPUs",
            measured(&change),
            offset.0,
            offset.1,
        ),
    ];
    verdicts.extend(repeated_is_harmless(kinds, measured(&g)));
    verdicts
}

/// That repeated junk is harmless where varied junk is not.
fn repeated_is_harmless(kinds: &[Kind], measured: String) -> Option<Verdict> {
    let repeated = kinds.iter().find(|k| k.name == "repeated")?;
    let others: Vec<&Kind> = kinds.iter().filter(|k| k.name != "repeated").collect();
    if others.is_empty() {
        return None;
    }
    // Where g could not be read off, what it is above is its lower end.
    let ends = |k: &Kind| match (k.g, k.above) {
        (Some(g), _) => g.ends,
        (None, above) => above.map(|above| (above, f64::INFINITY)),
    };
    let own = ends(repeated);
    let lower = |k: &&Kind| ends(k).zip(own).is_some_and(|(other, own)| own.1 < other.0);
    let higher = |k: &&Kind| ends(k).zip(own).is_some_and(|(other, own)| own.0 > other.1);
    let (ruling, why) = match (others.iter().all(lower), others.iter().any(higher)) {
        (true, _) => (Ruling::Reproduced, "its interval of g lies below those of all other kinds"),
        (_, true) => (Ruling::NotReproduced, "another kind costs less, and the intervals do not overlap"),
        _ => (Ruling::CannotTell, "intervals of g overlap"),
    };
    Some(verdict(
        "Junk that repeats costs less than junk that varies",
        "after Allen-Zhu and Li 2024, arXiv 2404.05405, on knowledge capacity",
        measured,
        ruling,
        why,
    ))
}
