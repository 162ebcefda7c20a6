//! Rules about training curves and single sizes: unstable runs, plateaus, sizes out of line.

use super::{Diagnosis, Fault, RUNS, Seen, count, place, those, worst};
use crate::numbers::{fixed, significant};
use isoflop_base::{CurveRow, Point, Status};
use std::collections::BTreeSet;

/// A row's loss this far above the median of those before it is a spike; a batch of 2,048 bytes scatters by 3 %, and
/// the harder of two mixed sources alone would not reach it.
const SPIKE: f64 = 1.3;
/// The next row is still this far above: one odd batch (1.4 times the median in a sound run of the built-in series) is
/// gone in the next.
const STILL: f64 = 1.1;
/// Rows the median is taken over.
const BEFORE: usize = 15;
/// A spike is looked for after this share of the run: the first steps fall, and may rise once in the warm-up.
const AFTER: f64 = 0.1;

pub(super) fn unstable(seen: &Seen<'_>) -> Option<Diagnosis> {
    let mut parts: Vec<String> = seen
        .input
        .runs
        .iter()
        .filter_map(|r| match &r.status {
            Status::Diverged { step, segment } => {
                Some(format!("{} diverged at step {step} of {segment}", r.run))
            }
            _ => None,
        })
        .collect();
    let runs: BTreeSet<&str> = seen.input.curves.iter().map(|r| r.run.as_str()).collect();
    let spiking: Vec<(&str, (u64, f64))> =
        runs.into_iter().filter_map(|run| Some((run, spike(&trunk(seen, run))?))).collect();
    if let Some((run, (step, times))) = worst(&spiking, |s| s.1.1) {
        let more = if spiking.len() > 1 { format!(" ({} runs spike)", spiking.len()) } else { String::new() };
        parts.push(format!(
            "the loss of {run} jumps to {} times its median at step {step}{more}",
            fixed(times, 1)
        ));
    }
    (!parts.is_empty()).then(|| {
        Diagnosis::found(
            Fault::Unstable,
            parts.join("; "),
            "lower the learning rate of that size, warm up longer, or clip gradients; a run that diverged is in no fit, one that \
             jumped is, and lies high",
        )
    })
}

/// The highest spike of a trunk: its step, and how many times the median before it.
fn spike(rows: &[&CurveRow]) -> Option<(u64, f64)> {
    let from = AFTER * rows.last()?.tokens as f64;
    let all: Vec<(u64, f64)> = (BEFORE..rows.len().saturating_sub(1))
        .filter(|i| rows[*i].tokens as f64 > from)
        .filter_map(|i| {
            let mut before: Vec<f64> = rows[i - BEFORE..i].iter().map(|r| r.train_loss).collect();
            before.sort_by(f64::total_cmp);
            let median = before[BEFORE / 2];
            (rows[i + 1].train_loss > STILL * median).then(|| (rows[i].step, rows[i].train_loss / median))
        })
        .collect();
    worst(&all, |s| s.1).filter(|s| s.1 > SPIKE)
}

/// The rows of a run's trunk at a rate that has not begun to decay.
fn trunk<'a>(seen: &Seen<'a>, run: &str) -> Vec<&'a CurveRow> {
    let is_it =
        |r: &&CurveRow| r.run == run && r.segment == "trunk" && !r.decayed && r.train_loss.is_finite();
    seen.input.curves.iter().filter(is_it).collect()
}

/// Loss that changes by less than this is flat; a law of exponent 0.08 falls by 4 % over the shortest stretch.
const FLAT: f64 = 0.01;
/// A stretch is long if it covers this factor in tokens …
const STRETCH: f64 = 1.6;
/// … and this share of the run.
const SHARE: f64 = 0.08;
/// What the loss falls by after it, if it was a plateau: with the rate still constant.
const FALL: f64 = 0.1;
/// A run that ends flat this far above both neighbours in size has not left its plateau.
const ABOVE: f64 = 0.1;

/// Width-blind initialisation leaves narrow models on the loss of single symbols for a third of their run.
pub(super) fn plateau(seen: &Seen<'_>) -> Option<Diagnosis> {
    let runs: BTreeSet<&str> = seen.points.iter().map(|p| p.run.as_str()).collect();
    let stretches: Vec<(&str, Stretch)> =
        runs.iter().filter_map(|run| Some((*run, longest_flat(&trunk(seen, run))?))).collect();
    let left: Vec<(&str, Stretch)> = stretches.iter().copied().filter(|s| s.1.fall > FALL).collect();
    let mut parts = Vec::new();
    if let Some((run, s)) = worst(&left, |s| s.1.to - s.1.from) {
        parts.push(format!(
            "{} late; the longest: {run} near {} from {} to {} tokens, {} % lower after",
            those(left.len(), runs.len(), RUNS, ["stays flat and falls", "stay flat and fall"]),
            fixed(s.loss, 2),
            count(s.from),
            count(s.to),
            fixed(100.0 * s.fall, 0)
        ));
    }
    if let Some(p) = stuck(seen) {
        parts.push(format!(
            "{} ends flat at {}, more than {} % above every other size",
            place(p),
            fixed(p.loss, 2),
            fixed(100.0 * ABOVE, 0)
        ));
    }
    let scaled = seen.points.iter().all(|p| p.init == "scaled");
    (!parts.is_empty()).then(|| {
        let what_to_do = match scaled {
            true => {
                "take a smaller batch, raise the learning rate of that size, or train it longer: tokens spent on a plateau \
                 are not tokens of the law"
            }
            false => {
                "initialise by width (`init = \"scaled\"`), raise the learning rate of that size, or train it longer: tokens spent \
                 on a plateau are not tokens of the law"
            }
        };
        Diagnosis::found(Fault::Plateau, parts.join("; "), what_to_do)
    })
}

/// A size that ends flat and far above every other at its number of tokens.
fn stuck<'a>(seen: &Seen<'a>) -> Option<&'a Point> {
    seen.last_of_each_size().into_iter().find(|p| {
        let others = seen.best.iter().filter(|q| q.tokens == p.tokens && q.params != p.params);
        let highest_other = others.map(|q| q.loss).fold(0.0f64, f64::max);
        let above = highest_other > 0.0 && p.loss > (1.0 + ABOVE) * highest_other;
        above && longest_flat(&trunk(seen, &p.run)).is_some_and(|s| s.ends && s.to > 2.0 * s.from)
    })
}

/// A flat stretch of a curve.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: f64,
    to: f64,
    loss: f64,
    /// By which share the loss falls after it.
    fall: f64,
    /// It is how the trunk ends.
    ends: bool,
}

/// The longest flat stretch of a trunk that it fell after, else the longest of any kind; on means over its rows in
/// `BINS` equal parts of ln tokens.
fn longest_flat(rows: &[&CurveRow]) -> Option<Stretch> {
    const BINS: usize = 24;
    let (first, last) = (rows.first()?.tokens.max(1) as f64, rows.last()?.tokens as f64);
    // The first hundredth is warm-up.
    let begin = first.max(0.01 * last);
    let width = (last / begin).ln() / BINS as f64;
    if width.is_nan() || width <= 0.0 || rows.len() < 2 * BINS {
        return None;
    }
    let mut bins = [(0.0, 0.0); BINS];
    for r in rows.iter().filter(|r| r.tokens as f64 >= begin) {
        let at = (((r.tokens as f64 / begin).ln() / width) as usize).min(BINS - 1);
        bins[at] = (bins[at].0 + r.train_loss, bins[at].1 + 1.0);
    }
    // Early bins of a coarse log may be empty.
    let filled: Vec<(f64, f64, f64)> = (0..BINS)
        .filter(|i| bins[*i].1 > 0.0)
        .map(|i| {
            let edge = |k: usize| begin * (k as f64 * width).exp();
            (edge(i), edge(i + 1), bins[i].0 / bins[i].1)
        })
        .collect();
    let lowest_after = |i: usize| filled[i..].iter().map(|b| b.2).fold(f64::INFINITY, f64::min);
    let mut best: Option<Stretch> = None;
    for i in 0..filled.len() {
        for j in i + 1..filled.len() {
            let part = filled[i..=j].iter().map(|b| b.2);
            let (low, high) = part.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
            let (from, to) = (filled[i].0, filled[j].1);
            if high > (1.0 + FLAT) * low || to < STRETCH * from || to - from < SHARE * last {
                continue;
            }
            let s = Stretch {
                from,
                to,
                loss: 0.5 * (low + high),
                fall: 1.0 - lowest_after(j) / high,
                ends: j + 1 == filled.len(),
            };
            let rank = |s: &Stretch| (s.fall > FALL, s.to - s.from);
            if best.is_none_or(|b| rank(&s) > rank(&b)) {
                best = Some(s);
            }
        }
    }
    best
}

/// A larger model this much above the next smaller one, beyond three standard errors, is not a matter of chance:
/// seeds differ by 0.1 % at 10⁸ parameters and by 1 % at 10⁴.
const HIGHER: f64 = 0.02;

pub(super) fn out_of_line(seen: &Seen<'_>) -> Option<Diagnosis> {
    let neighbours = seen.neighbours();
    let higher: Vec<_> = neighbours
        .iter()
        .copied()
        .filter(|(small, large)| {
            let se = (small.loss_se.unwrap_or(0.0).powi(2) + large.loss_se.unwrap_or(0.0).powi(2)).sqrt();
            let gap = large.loss - small.loss;
            gap > HIGHER * small.loss && gap > 3.0 * se && !on_a_plateau(seen, &large.run)
        })
        .collect();
    let (small, large) = worst(&higher, |(s, l)| l.loss / s.loss)?;
    Some(Diagnosis::found(
        Fault::OutOfLine,
        format!(
            "{} above the next smaller size; the worst: {} at {}, {} % above {}",
            those(higher.len(), neighbours.len(), ["larger neighbour", "larger neighbours"], ["ends", "end"]),
            place(large),
            fixed(large.loss, 3),
            significant(100.0 * (large.loss / small.loss - 1.0), 2),
            super::model(small)
        ),
        "tune that size (its learning rate first, then its warm-up and its seed), and fit again with and without it",
    ))
}

/// A run that the rule of plateaus names already.
fn on_a_plateau(seen: &Seen<'_>, run: &str) -> bool {
    longest_flat(&trunk(seen, run)).is_some_and(|s| s.fall > FALL)
        || stuck(seen).is_some_and(|p| p.run == run)
}
