//! Rules about training: the rate, whether it was done, the batch, waiting for data.

use super::{Diagnosis, Fault, POINTS, RUNS, Seen, mean, model, of, place, those, worst};
use crate::numbers::{count, fixed, significant};
use isoflop_base::{CurveRow, NoisePairs, Point};
use std::collections::{BTreeMap, BTreeSet};

/// Rates differ by factors of two in sweeps; one further off is another rate.
const FAR: f64 = 2.0;
/// Fewest rates that show on which side of the best one lies.
const RATES: usize = 3;

/// Points that differ in nothing but their rate and seed, at the most tokens of their size. Those of a study's arms are
/// among them where their batch is that of its series.
fn sweeps<'a>(seen: &Seen<'a>) -> Vec<Vec<&'a Point>> {
    let mut groups: BTreeMap<(u64, u64, u64, String), Vec<&'a Point>> = BTreeMap::new();
    let of_series = |p: &&Point| {
        let twin = |q: &&Point| (q.params, q.batch_tokens) == (p.params, p.batch_tokens);
        p.loss.is_finite() && seen.points.iter().any(twin) && !seen.points.iter().any(|q| q.run == p.run)
    };
    for p in seen.points.iter().copied().chain(seen.input.swept.iter().filter(of_series)) {
        // What was read is part of what was tried: arms of a study about data are no sweep of rates.
        let read: Vec<(&str, u64)> = p.sources.iter().map(|s| (s.name.as_str(), s.tokens)).collect();
        let rest = format!("{} {} {} {read:?}", p.schedule, p.init, p.unique_tokens);
        groups.entry((p.params, p.tokens, p.batch_tokens, rest)).or_default().push(p);
    }
    let mut out: Vec<Vec<&Point>> = Vec::new();
    for (_, mut points) in groups {
        // Seeds of a rate count by their lowest loss.
        points.sort_by(|a, b| a.lr.total_cmp(&b.lr).then(a.loss.total_cmp(&b.loss)));
        points.dedup_by(|b, a| (a.lr / b.lr).ln().abs() < 1e-3);
        if points.len() >= RATES && points.iter().all(|p| p.lr > 0.0) {
            out.retain(|o| o[0].params != points[0].params || o[0].tokens >= points[0].tokens);
            out.push(points);
        }
    }
    out
}

/// The rate used most for a size, over all its points.
fn usual_rate(seen: &Seen<'_>, params: u64) -> Option<f64> {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for p in seen.points.iter().filter(|p| p.params == params && p.lr > 0.0) {
        match counts.iter_mut().find(|c| (c.0 / p.lr).ln().abs() < 1e-3) {
            Some(c) => c.1 += 1,
            None => counts.push((p.lr, 1)),
        }
    }
    let most = counts.iter().map(|c| c.1).max()?;
    // Rates tried equally often have no usual one among them.
    let mut at_most = counts.iter().filter(|c| c.1 == most);
    at_most.next().filter(|_| at_most.next().is_none()).map(|c| c.0)
}

/// The rate at the bottom of the parabola in ln rate through the lowest point and its neighbours.
fn bottom(sweep: &[&Point], at: usize) -> Option<f64> {
    let near = [at.checked_sub(1)?, at, at + 1].map(|i| sweep.get(i).map(|p| (p.lr.ln(), p.loss)));
    let [Some((x0, y0)), Some((x1, y1)), Some((x2, y2))] = near else { return None };
    let (left, right) = ((y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1));
    let bend = right - left;
    (bend > 0.0).then(|| (0.5 * (x0 + x1) - left * 0.5 * (x2 - x0) / bend).exp())
}

pub(super) fn learning_rate(seen: &Seen<'_>) -> Option<Diagnosis> {
    let sweeps = sweeps(seen);
    if sweeps.is_empty() {
        return (!seen.points.is_empty()).then(|| {
            Diagnosis::unknown(
                Fault::LearningRate,
                "no size was trained at three rates or more, so the points cannot tell whether theirs was the best",
                "sweep the rate of the smallest, the middle and the largest size, a factor of two to each side",
            )
        });
    }
    let mut parts = Vec::new();
    for sweep in &sweeps {
        let at = (0..sweep.len()).min_by(|a, b| sweep[*a].loss.total_cmp(&sweep[*b].loss))?;
        let (best, rates) = (sweep[at], sweep.len());
        let rate = |lr: f64| significant(lr, 2);
        if at == 0 || at + 1 == rates {
            let end = if at == 0 { "lowest" } else { "highest" };
            parts.push(format!(
                "the best of {rates} rates of {} is the {end} tried, {}",
                model(best),
                rate(best.lr)
            ));
        } else if let (Some(lowest), Some(usual)) = (bottom(sweep, at), usual_rate(seen, best.params))
            && (usual / lowest).ln().abs() > FAR.ln()
        {
            let side = if usual > lowest { "above" } else { "below" };
            parts.push(format!(
                "{} was trained at {}, {} times {side} the bottom of its sweep, {}",
                model(best),
                rate(usual),
                significant((usual / lowest).max(lowest / usual), 2),
                rate(lowest)
            ));
        }
    }
    (!parts.is_empty()).then(|| {
        Diagnosis::found(
            Fault::LearningRate,
            parts.join("; "),
            "widen the sweep until the best rate has a worse one on both sides, and train every size at its own best",
        )
    })
}

/// Loss that still falls faster with tokens than with parameters is a loss of the data, not of the size.
const STEEPER: f64 = 1.0;

pub(super) fn not_converged(seen: &Seen<'_>) -> Option<Diagnosis> {
    let undecayed: Vec<&Point> = seen.points.iter().copied().filter(|p| ends_undecayed(seen, p)).collect();
    let mut parts = Vec::new();
    if let Some(p) = undecayed.first() {
        parts.push(format!(
            "{} measured before the rate had decayed, e.g. {}",
            those(undecayed.len(), seen.points.len(), POINTS, ["was", "were"]),
            place(p)
        ));
    }
    let steep = slopes(seen);
    if let Some(s) = worst(&steep, |s| s.by_tokens / s.by_size).filter(|_| undecayed.is_empty()) {
        parts.push(format!(
            "at its end {} still gains more from tokens than sizes differ by: {} falls as D^−{} between {}, and as N^−{} between sizes",
            place(s.point),
            s.what,
            fixed(s.by_tokens, 3),
            s.between,
            fixed(s.by_size, 3)
        ));
    }
    (!parts.is_empty()).then(|| {
        Diagnosis::found(
            Fault::NotConverged,
            parts.join("; "),
            "finish the schedule of every point, and train longer before reading L(N); L(N, D) separates the two",
        )
    })
}

/// The last row of a point's own segment has not begun to decay, or its schedule never does.
fn ends_undecayed(seen: &Seen<'_>, p: &Point) -> bool {
    let mut rows = seen.input.curves.iter().filter(|r| r.run == p.run && r.tokens == p.tokens).peekable();
    p.schedule == "constant" || rows.peek().is_some() && rows.all(|r| !r.decayed)
}

/// How steeply a size's loss falls with its tokens at its end, beside how the sizes differ there.
#[derive(Clone, Copy)]
struct Steep<'a> {
    point: &'a Point,
    by_tokens: f64,
    by_size: f64,
    what: &'static str,
    between: &'static str,
}

/// The largest size and any other whose slope in tokens exceeds the slope between sizes at the most tokens: of its
/// last two finished points where there are two, else of the last tenth of its trunk, minus two standard errors.
fn slopes<'a>(seen: &Seen<'a>) -> Vec<Steep<'a>> {
    let sizes = seen.last_of_each_size();
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return Vec::new() };
    let by_size = -(last.loss / first.loss).ln() / (last.params as f64 / first.params as f64).ln();
    if sizes.len() < 2 || first.tokens != last.tokens || by_size.is_nan() || by_size <= 0.0 {
        return Vec::new();
    }
    let of_points = |p: &Point| {
        let earlier = seen.best.iter().filter(|q| q.params == p.params && q.tokens < p.tokens);
        let before = earlier.max_by_key(|q| q.tokens)?;
        let slope = -(p.loss / before.loss).ln() / (p.tokens as f64 / before.tokens as f64).ln();
        Some((slope, "the loss", "its last two points"))
    };
    let of_curve = |p: &Point| {
        let is_it = |r: &&CurveRow| r.run == p.run && r.segment == "trunk" && !r.decayed;
        let rows: Vec<&CurveRow> = seen.input.curves.iter().filter(is_it).collect();
        Some((late_slope(&rows)?, "the training loss", "the ends of the last tenth of its trunk"))
    };
    let steep = sizes.iter().filter_map(|p| {
        let (by_tokens, what, between) = of_points(p).or_else(|| of_curve(p))?;
        (by_tokens > STEEPER * by_size).then_some(Steep { point: p, by_tokens, by_size, what, between })
    });
    steep.collect()
}

/// −d ln loss / d ln tokens over the last tenth of a trunk, minus two standard errors.
fn late_slope(rows: &[&CurveRow]) -> Option<f64> {
    const FEWEST: usize = 10;
    let from = 0.9 * rows.last()?.tokens as f64;
    let late: Vec<(f64, f64)> = rows
        .iter()
        .filter(|r| r.tokens as f64 >= from && r.train_loss > 0.0)
        .map(|r| ((r.tokens as f64).ln(), r.train_loss.ln()))
        .collect();
    let n = late.len() as f64;
    let (mx, my) = (mean(late.iter().map(|p| p.0))?, mean(late.iter().map(|p| p.1))?);
    let sxx: f64 = late.iter().map(|p| (p.0 - mx).powi(2)).sum();
    let slope = late.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / sxx;
    let rest: f64 = late.iter().map(|p| (p.1 - my - slope * (p.0 - mx)).powi(2)).sum();
    (late.len() >= FEWEST && sxx > 0.0).then(|| -slope - 2.0 * (rest / (n - 2.0) / sxx).sqrt())
}

/// A batch as large as the noise scale costs twice the tokens of a small one (C = C_min·(1 + B/B_crit), Kaplan et
/// al. 2020, arXiv 2001.08361, eq. 5.4).
const TOO_LARGE: f64 = 1.0;
/// One fifty times smaller takes fifty times the steps of a batch at the noise scale, for 2 % of the tokens.
const TOO_SMALL: f64 = 1.0 / 50.0;

pub(super) fn batch(seen: &Seen<'_>) -> Option<Diagnosis> {
    let runs: BTreeMap<&str, &Point> = seen.points.iter().map(|p| (p.run.as_str(), *p)).collect();
    if runs.is_empty() || seen.input.curves.is_empty() {
        return None;
    }
    let ratios: Vec<(&Point, f64, f64)> = runs
        .iter()
        .filter_map(|(run, p)| {
            let scale = noise_scale(seen, run)?;
            Some((*p, scale, p.batch_tokens as f64 / scale))
        })
        .collect();
    if ratios.is_empty() {
        // A study of batches has measured what the noise scale only hints at.
        if seen.input.study.get("kind").is_some_and(|kind| kind == "batch") {
            return None;
        }
        return Some(Diagnosis::unknown(
            Fault::Batch,
            "the gradient's noise was not measured in these runs, or too seldom to tell it from the gradient",
            "train with two or more micro-batches a step (`train.micro_batch`), which measures it for nothing",
        ));
    }
    let large: Vec<_> = ratios.iter().copied().filter(|r| r.2 > TOO_LARGE).collect();
    let small: Vec<_> = ratios.iter().copied().filter(|r| r.2 < TOO_SMALL).collect();
    let words = |(p, scale, ratio): (&Point, f64, f64), what: &str| {
        format!(
            "{what}: {} with batches of {} tokens at a noise scale of {} ({} times it; this scale is known to come out low)",
            model(p),
            count(p.batch_tokens as f64),
            count(scale),
            significant(ratio, 2)
        )
    };
    let mut parts = Vec::new();
    if let Some(r) = worst(&large, |r| r.2) {
        parts.push(format!(
            "{}, about {} times the tokens of a small one",
            words(r, &format!("{} above it", those(large.len(), ratios.len(), RUNS, ["lies", "lie"]))),
            significant(1.0 + r.2, 2)
        ));
    }
    if let Some(r) = worst(&small, |r| -r.2) {
        parts.push(format!(
            "{}, which costs time, not loss",
            words(r, &format!("{} far below it", those(small.len(), ratios.len(), RUNS, ["lies", "lie"])))
        ));
    }
    (!parts.is_empty()).then(|| {
        Diagnosis::found(
            Fault::Batch,
            parts.join("; "),
            "take a batch below the noise scale and above a tenth of it, with its own learning rate",
        )
    })
}

/// B_simple over the later half of a run's rows with pairs: it grows as the loss falls.
fn noise_scale(seen: &Seen<'_>, run: &str) -> Option<f64> {
    let pairs: Vec<NoisePairs> =
        seen.input.curves.iter().filter(|r| r.run == run).filter_map(|r| r.noise).collect();
    pairs[pairs.len() / 2..].iter().copied().reduce(NoisePairs::with)?.scale_tokens()
}

/// Share of the steps' time spent waiting; reading a mix beside training waits for 0.6 % of an interval at the worst
/// of 220.
const WAIT: f64 = 0.02;

pub(super) fn input_bound(seen: &Seen<'_>) -> Option<Diagnosis> {
    let runs: BTreeSet<&str> = seen.input.curves.iter().map(|r| r.run.as_str()).collect();
    let waits: Vec<(&str, f64)> = runs
        .into_iter()
        .filter_map(|run| {
            Some((run, mean(seen.input.curves.iter().filter(|r| r.run == run).filter_map(|r| r.data_wait))?))
        })
        .collect();
    let long: Vec<(&str, f64)> = waits.iter().copied().filter(|w| w.1 > WAIT).collect();
    let (run, share) = worst(&long, |w| w.1)?;
    Some(Diagnosis::found(
        Fault::InputBound,
        format!(
            "{} waited for batches; the most: {run}, {} % of its steps' time. This bends lines against seconds and joules, not against N, D \
             or C",
            of(long.len(), waits.len(), RUNS),
            fixed(100.0 * share, 0)
        ),
        "read from a local disk, from prepared shards rather than text, and see `isoflop bench loader`",
    ))
}
