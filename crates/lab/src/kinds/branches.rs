//! The branching method (after Merrill et al. 2025, arXiv:2505.23971): from one checkpoint the batch is raised until
//! the loss suffers.
//!
//! Their branches go on for a fixed number of tokens at a constant rate, and pass where the smoothed training loss is
//! within 0.01 of that of smaller batches. Here a branch is the decay of a finished point, from the same fork with k
//! times the batch, over the same tokens, and its *held-out* loss is compared with that at the trunk's own batch: both
//! are finished models, scored on the same blocks.
//!
//! Such a comparison sees differences of a thousandth of a nat, and nearly every larger batch then loses something. So
//! the loss is turned into tokens: those with which the trunk's own batch reaches it, read off its finished points of
//! other lengths. The critical batch is the one that needs a fifth more of them (Zhang et al. 2024, arXiv:2410.21676).

use super::batch::{BYTES_PER_BPE, kaplan, zhang};
use super::words::{self, count, list, verdict};
use super::{Findings, Found};
use crate::noise::noise_scale;
use isoflop_base::Point;
use isoflop_base::study::RunSpec;
use isoflop_base::units::si;
use isoflop_laws::arms::{Reached, reaches_bent};
use isoflop_laws::table::paired::paired_difference;
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};
use std::collections::BTreeMap;

/// Standard errors of a difference beyond which it is seen.
const TOLERANCE: f64 = 2.0;
/// Share of further tokens that makes a batch critical.
const WASTE: f64 = 0.2;
/// Steps of a branch below which it says more of having few steps than of its batch.
const LEAST_STEPS: u64 = 30;

/// One multiple of the trunk's batch at one fork.
struct Branch {
    /// Tokens a step.
    batch: f64,
    /// Loss above that of the trunk's own batch, and twice its standard error.
    above: (f64, f64),
    /// Whether it is not seen to lie above the lowest of the smaller batches.
    passes: bool,
}

/// The batch that needs a fifth more tokens.
#[derive(Clone, Copy)]
enum Critical {
    /// Between those that were tried, with its interval.
    At(f64, (f64, f64)),
    /// Above the largest of those.
    Beyond(f64),
    /// There is no shorter finished point to read tokens off.
    Unknown,
}

impl Critical {
    fn words(self) -> String {
        match self {
            Self::At(batch, (lo, hi)) if hi.is_infinite() => format!("{} ({} or more)", si(batch), si(lo)),
            Self::At(batch, ends) => format!("{}{}", si(batch), words::counts(Some(ends))),
            Self::Beyond(batch) => format!("above {}", si(batch)),
            Self::Unknown => "–".to_owned(),
        }
    }

    fn ends(self) -> Option<(f64, f64)> {
        match self {
            Self::At(_, ends) => Some(ends),
            Self::Beyond(batch) => Some((batch, f64::INFINITY)),
            Self::Unknown => None,
        }
    }
}

/// One fork: a size and a length, its seeds together.
struct Fork {
    params: f64,
    /// Tokens where the branches leave the trunk, and where they end.
    from: f64,
    to: f64,
    seeds: usize,
    /// Loss at the trunk's own batch.
    loss: f64,
    /// The trunk's own batch.
    batch: f64,
    /// By batch, ascending.
    branches: Vec<Branch>,
    /// Tokens and loss of the finished points of this size at the trunk's own batch, of all lengths.
    own: Vec<(f64, f64)>,
    /// The noise scale of the later half of the trunk's gradients, tokens.
    noise: Option<f64>,
}

impl Fork {
    /// The largest batch up to which all pass; the trunk's own if none does.
    fn last(&self) -> f64 {
        self.branches.iter().take_while(|b| b.passes).last().map_or(self.batch, |b| b.batch)
    }

    /// The smallest that does not.
    fn first_above(&self) -> Option<f64> {
        self.branches.iter().find(|b| !b.passes).map(|b| b.batch)
    }

    fn name(&self) -> String {
        format!("N = {}, {} tokens", si(self.params), si(self.to))
    }

    /// Up to which batch nothing is seen.
    fn bracket(&self) -> String {
        match self.first_above() {
            Some(above) => format!("{} to {}", si(self.last()), si(above)),
            None => format!("{} or more", si(self.last())),
        }
    }

    /// The share of further tokens that a loss this far above the trunk's own batch stands for. A loss above that of
    /// the shortest point is taken for that point's, which is the least it can stand for.
    fn waste(&self, above: f64) -> Option<f64> {
        let shortest = self.own.first().filter(|(tokens, _)| *tokens < self.to)?.0;
        let tokens = match reaches_bent(&self.own, self.loss + above)? {
            Reached::At(tokens) => tokens,
            Reached::Before(_) => shortest,
            Reached::After(last) => last,
        };
        Some(self.to / tokens - 1.0)
    }

    /// Where the further tokens reach [`WASTE`], straight in ln B between the batches tried; infinite beyond them.
    fn crossing(&self, above: impl Fn(&Branch) -> f64) -> Option<f64> {
        let (mut batch, mut waste) = (self.batch, 0.0);
        for branch in &self.branches {
            let next = self.waste(above(branch))?;
            if next >= WASTE {
                return Some(batch * (branch.batch / batch).powf((WASTE - waste) / (next - waste)));
            }
            (batch, waste) = (branch.batch, next);
        }
        Some(f64::INFINITY)
    }

    fn critical(&self) -> Critical {
        let Some(at) = self.crossing(|b| b.above.0) else { return Critical::Unknown };
        let ends = [1.0, -1.0].map(|side| self.crossing(|b| b.above.0 + side * b.above.1).unwrap_or(at));
        match at.is_finite() {
            true => Critical::At(at, (ends[0], ends[1])),
            false => Critical::Beyond(self.branches.last().map_or(self.batch, |b| b.batch)),
        }
    }
}

/// The section on branches; nothing where the study has none.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let forks = forks(found);
    if forks.is_empty() {
        return Findings::default();
    }
    let section = Section {
        id: "branches".to_owned(),
        title: "The batch raised from one checkpoint".to_owned(),
        paragraphs: vec![seen(&forks), method()],
        charts: vec![chart(&forks)],
        tables: vec![table(&forks), losses(&forks)],
    };
    Findings {
        answer: words::answer(title(&forks), answer(&forks)),
        sections: vec![section],
        verdicts: claims(&forks),
    }
}

fn multiple(run: &RunSpec) -> Option<u64> {
    run.arm.get("branch")?.parse().ok()
}

/// Steps of a run's branch that ends with this point.
fn steps(run: &RunSpec, point: &Point, multiple: u64) -> u64 {
    crate::train::program::decay_steps(run.train.decay, point.steps) / multiple
}

/// By multiple: the points of the seeds.
type Multiples<'a> = BTreeMap<u64, Vec<(&'a RunSpec, &'a Point)>>;

fn forks(found: &Found<'_>) -> Vec<Fork> {
    // By size and tokens.
    let mut by_fork: BTreeMap<(u64, u64), Multiples<'_>> = BTreeMap::new();
    for f in &found.points {
        if let Some(multiple) = multiple(f.run)
            && steps(f.run, f.point, multiple) >= LEAST_STEPS
        {
            let fork = by_fork.entry((f.point.params, f.point.tokens)).or_default();
            fork.entry(multiple).or_default().push((f.run, f.point));
        }
    }
    let mut forks: Vec<Fork> = by_fork
        .into_iter()
        .filter_map(|((params, tokens), points)| fork(found, params, tokens, &points))
        .collect();
    let ends: Vec<(f64, f64, f64)> = forks.iter().map(|f| (f.params, f.to, f.loss)).collect();
    for fork in &mut forks {
        fork.own = ends.iter().filter(|e| e.0 == fork.params).map(|e| (e.1, e.2)).collect();
    }
    forks
}

/// The mean over seeds of the loss at one multiple less that at another, and its standard error by blocks.
fn difference(of: &[(&RunSpec, &Point)], from: &[(&RunSpec, &Point)]) -> Option<(f64, f64)> {
    let (mut sum, mut variance, mut seeds) = (0.0, 0.0, 0.0);
    for (run, point) in of {
        let twin = from.iter().find(|(other, _)| other.seed == run.seed)?;
        let (mean, se, _) = paired_difference(&point.blocks, &twin.1.blocks).ok()?;
        sum += mean;
        variance += se? * se?;
        seeds += 1.0;
    }
    (seeds > 0.0).then(|| (sum / seeds, f64::sqrt(variance) / seeds))
}

fn fork(found: &Found<'_>, params: u64, tokens: u64, points: &Multiples<'_>) -> Option<Fork> {
    let own = points.get(&1)?;
    let (run, point) = own.first()?;
    let mut branches = Vec::new();
    let mean = |of: &[(&RunSpec, &Point)]| of.iter().map(|(_, p)| p.loss).sum::<f64>() / of.len() as f64;
    let mut lowest = own;
    for (&multiple, of) in points.range(2..) {
        let (above, se) = difference(of, own)?;
        let (over_lowest, tolerance) = difference(of, lowest)?;
        branches.push(Branch {
            batch: (multiple * run.train.batch_tokens) as f64,
            above: (above, TOLERANCE * se),
            passes: over_lowest <= TOLERANCE * tolerance,
        });
        if mean(of) < mean(lowest) {
            lowest = of;
        }
    }
    let from = point.steps - crate::train::program::decay_steps(run.train.decay, point.steps);
    let noise = own.iter().filter_map(|(run, _)| {
        let trunk = found.curves.iter().filter(|row| row.run == run.id && row.step <= from && !row.decayed);
        noise_scale(&trunk.cloned().collect::<Vec<_>>()).later_tokens.value().copied()
    });
    let noise: Vec<f64> = noise.collect();
    Some(Fork {
        params: params as f64,
        from: run.tokens_at(from) as f64,
        to: tokens as f64,
        seeds: own.len(),
        loss: mean(own),
        batch: run.train.batch_tokens as f64,
        branches,
        own: Vec::new(),
        noise: (!noise.is_empty()).then(|| noise.iter().sum::<f64>() / noise.len() as f64),
    })
    .filter(|fork| !fork.branches.is_empty())
}

/// The last fork of each size: the one with the most training before it.
fn last_forks(forks: &[Fork]) -> impl Iterator<Item = &Fork> {
    forks.chunk_by(|a, b| a.params == b.params).filter_map(<[Fork]>::last)
}

fn title(forks: &[Fork]) -> String {
    let known: Vec<(f64, f64)> = last_forks(forks).filter_map(|f| f.critical().ends()).collect();
    let (lo, hi) = known.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), e| (lo.min(e.0), hi.max(e.1)));
    match known.len() {
        0 => "How far the batch can be raised from here cannot be said of one length".to_owned(),
        _ if hi.is_finite() => {
            format!("Late in training a batch of {} to {} tokens costs a fifth more tokens", si(lo), si(hi))
        }
        _ => format!("Late in training a batch of {} tokens costs less than a fifth more tokens", si(lo)),
    }
}

fn answer(forks: &[Fork]) -> String {
    let known = forks.iter().filter(|f| f.critical().ends().is_some());
    let parts: Vec<String> = known.map(|f| format!("{} ({})", f.critical().words(), f.name())).collect();
    if parts.is_empty() {
        return "Each size has one finished length, off which no tokens can be read. Add branches under [series]."
            .to_owned();
    }
    format!(
        "Raised from one checkpoint, this many tokens a step need a fifth more tokens to the same loss than the trunk's own \
         {}: {}. Intervals are two standard errors of the loss, of these runs ({}).",
        si(forks[0].batch),
        list(&parts),
        count(forks.iter().map(|f| f.seeds).min().unwrap_or(0), "seed")
    )
}

/// From where a difference is seen at all.
fn seen(forks: &[Fork]) -> String {
    let first = forks.iter().filter_map(Fork::first_above).fold(f64::INFINITY, f64::min);
    let worth = last_forks(forks).filter_map(|f| {
        let at = f.branches.iter().find(|b| !b.passes)?;
        Some(format!(
            "{:.1} % more tokens at N = {} and {} a step",
            100.0 * f.waste(at.above.0)?,
            si(f.params),
            si(at.batch)
        ))
    });
    let worth: Vec<String> = worth.collect();
    match first.is_finite() {
        true if worth.is_empty() => {
            format!("A loss is seen from {} tokens a step on, by two standard errors.", si(first))
        }
        true => format!(
            "Something is lost earlier: by two standard errors a loss is seen from {} tokens a step on. After the longest \
             training that first step costs {}.",
            si(first),
            list(&worth)
        ),
        false => "No loss is seen at any batch that was tried.".to_owned(),
    }
}

fn method() -> String {
    format!(
        "Each branch is the decay of a finished point, from the trunk's state where that decay begins, which is the same for \
         all bit for bit. Its loss is turned into tokens by the trunk's own finished points of other lengths, between two \
         of which the line bends as it does beside them; a fifth more \
         is the criterion of Zhang et al. Standard errors are those of paired differences, block by block: how another \
         seed's trunk would fare they do not say. Branches of fewer than {} are left out.",
        count(LEAST_STEPS as usize, "step")
    )
}

fn chart(forks: &[Fork]) -> Chart {
    let series = |f: &Fork| {
        let point = |b: &Branch| {
            let percent = |above: f64| f.waste(above).map(|w| 100.0 * w).filter(|w| *w > 0.0);
            let ends = percent(b.above.0 - b.above.1).zip(percent(b.above.0 + b.above.1));
            Some(ChartPoint { x: b.batch, y: percent(b.above.0)?, interval: ends })
        };
        let points: Vec<ChartPoint> = f.branches.iter().filter_map(point).collect();
        ChartSeries { name: f.name(), line: points.iter().map(|p| (p.x, p.y)).collect(), points }
    };
    let mut all: Vec<ChartSeries> = forks.iter().map(series).filter(|s| !s.points.is_empty()).collect();
    let batches = || all.iter().flat_map(|s| &s.points).map(|p| p.x);
    let (lo, hi) = batches().fold((f64::INFINITY, 0.0f64), |(lo, hi), x| (lo.min(x), hi.max(x)));
    if lo < hi {
        let line = [lo, hi].map(|x| (x, 100.0 * WASTE)).to_vec();
        all.push(ChartSeries { name: "a fifth more".to_owned(), line, ..ChartSeries::default() });
    }
    Chart {
        title: "What a larger batch costs from one checkpoint.".to_owned(),
        caption: "Further tokens that the loss of the finished model stands for, against the trunk's own batch; bars are two \
                  standard errors of the paired difference. Loss above that of the shortest finished point is drawn as \
                  that point's."
            .to_owned(),
        x: ChartAxis { label: "batch of the branch, tokens a step".to_owned(), log: true },
        y: ChartAxis { label: "further tokens needed, %".to_owned(), log: true },
        series: all,
    }
}

fn table(forks: &[Fork]) -> Grid {
    let row = |f: &Fork| {
        vec![
            si(f.params),
            format!("{} to {}", si(f.from), si(f.to)),
            f.seeds.to_string(),
            format!("{:.4}", f.loss),
            f.critical().words(),
            f.bracket(),
            f.noise.map_or_else(|| "–".to_owned(), si),
            si(kaplan(f.loss, BYTES_PER_BPE)),
            si(zhang(f.to)),
        ]
    };
    let columns = ["N", "tokens", "seeds", "loss", "critical batch", "nothing seen up to", "noise scale"];
    Grid {
        caption:
            "The batch that needs a fifth more tokens, from each fork, and what published laws say there"
                .to_owned(),
        columns: columns.into_iter().chain(["Kaplan et al.", "Zhang et al."]).map(str::to_owned).collect(),
        rows: forks.iter().map(row).collect(),
    }
}

fn losses(forks: &[Fork]) -> Grid {
    let mut batches: Vec<f64> = forks.iter().flat_map(|f| &f.branches).map(|b| b.batch).collect();
    batches.sort_by(f64::total_cmp);
    batches.dedup();
    let row = |f: &Fork| {
        let cell = |batch: &f64| match f.branches.iter().find(|b| b.batch == *batch) {
            Some(b) => format!("{:+.4} ± {:.4}", b.above.0, b.above.1).replace('-', "−"),
            None => "–".to_owned(),
        };
        let place = [si(f.params), format!("{} to {}", si(f.from), si(f.to))];
        place.into_iter().chain(batches.iter().map(cell)).collect()
    };
    Grid {
        caption: "Nats per token above the trunk's own batch, ± two standard errors, by tokens a step"
            .to_owned(),
        columns: ["N".to_owned(), "tokens".to_owned()]
            .into_iter()
            .chain(batches.iter().map(|b| si(*b)))
            .collect(),
        rows: forks.iter().map(row).collect(),
    }
}

fn claims(forks: &[Fork]) -> Vec<Verdict> {
    vec![grows(forks), noise(forks)]
}

/// That it grows as training goes on: the shortest fork of a size that has one beside its longest.
fn grows(forks: &[Fork]) -> Verdict {
    let (mut up, mut down, mut parts, mut sizes) = (0, 0, Vec::new(), 0);
    for of_size in forks.chunk_by(|a, b| a.params == b.params) {
        let known: Vec<(&Fork, (f64, f64))> =
            of_size.iter().filter_map(|f| Some((f, f.critical().ends()?))).collect();
        let [(first, early), .., (last, late)] = known[..] else { continue };
        sizes += 1;
        up += usize::from(early.1 < late.0);
        down += usize::from(late.1 < early.0);
        let (before, after) = (first.critical().words(), last.critical().words());
        parts.push(format!("{}: {before}, then {after} at {} tokens", first.name(), si(last.to)));
    }
    let (ruling, why) = match (sizes, up, down) {
        (1.., up, 0) if up == sizes => (Ruling::Reproduced, "the later interval lies above the earlier one"),
        (1.., 0, down) if down == sizes => {
            (Ruling::NotReproduced, "the later interval lies below the earlier one")
        }
        (0, ..) => (Ruling::CannotTell, "there are no two forks of a size"),
        _ => (Ruling::CannotTell, "the intervals overlap, or sizes differ"),
    };
    verdict(
        "The critical batch grows as training goes on",
        "after Merrill et al. 2025, arXiv 2505.23971",
        parts.join("; "),
        ruling,
        why,
    )
}

/// That the gradient noise scale comes out too low.
fn noise(forks: &[Fork]) -> Verdict {
    let known: Vec<(&Fork, f64, (f64, f64))> =
        forks.iter().filter_map(|f| Some((f, f.noise?, f.critical().ends()?))).collect();
    let below = known.iter().filter(|(_, noise, ends)| *noise < ends.0).count();
    let above = known.iter().filter(|(_, noise, ends)| *noise > ends.1).count();
    let say = |(f, noise, _): &(&Fork, f64, _)| {
        format!("{}: noise scale {}, branches {}", f.name(), si(*noise), f.critical().words())
    };
    let (measured, ruling, why) = match known.len() {
        0 => (
            "–".to_owned(),
            Ruling::CannotTell,
            "the noise scale or the branches' was not measured".to_owned(),
        ),
        all => {
            let measured = known.iter().map(say).collect::<Vec<_>>().join("; ");
            let (ruling, why) = match (below, above) {
                (below, _) if below == all => {
                    (Ruling::Reproduced, format!("it is below at all of {all} forks"))
                }
                (_, above) if above == all => {
                    (Ruling::NotReproduced, format!("it is above at all of {all} forks"))
                }
                _ => (Ruling::CannotTell, format!("it is below at {below} of {all} forks, above at {above}")),
            };
            (measured, ruling, why)
        }
    };
    verdict(
        "The simple noise scale lies below the critical batch that branches show",
        "after Merrill et al. 2025, arXiv 2505.23971",
        measured,
        ruling,
        why,
    )
}
