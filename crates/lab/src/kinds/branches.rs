//! The branching method (after Merrill et al. 2025, arXiv:2505.23971): from one checkpoint the batch is raised until
//! the loss suffers.
//!
//! Their branches go on for a fixed number of tokens at a constant rate, and pass where the smoothed training loss is
//! within 0.01 of that of smaller batches. Here a branch is the decay of a finished point, from the same fork with k
//! times the batch, over the same tokens; it passes where its *held-out* loss is no more than two standard errors of
//! the paired difference above the lowest of the smaller batches. Both are finished models, scored on the same blocks,
//! so that the tolerance is what can be seen and not a constant.

use super::batch::{BYTES_PER_BPE, kaplan, zhang};
use super::words::{count, list, verdict};
use super::{Findings, Found};
use crate::noise::noise_scale;
use isoflop_base::Point;
use isoflop_base::study::RunSpec;
use isoflop_base::units::si;
use isoflop_laws::table::paired::paired_difference;
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};
use std::collections::BTreeMap;

/// Standard errors of a difference that a branch may lie above the lowest of the smaller batches.
const TOLERANCE: f64 = 2.0;
/// Steps of a branch below which it says more of having few steps than of its batch.
const LEAST_STEPS: u64 = 30;

/// One multiple of the trunk's batch at one fork.
struct Branch {
    /// Tokens a step.
    batch: f64,
    /// Loss above that of the trunk's own batch, and twice its standard error.
    above: (f64, f64),
    /// Whether it passes: see the header.
    passes: bool,
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

    fn bracket(&self) -> String {
        match self.first_above() {
            Some(above) => format!("{} to {}", si(self.last()), si(above)),
            None => format!("{} or more", si(self.last())),
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
        paragraphs: vec![answer(&forks), method()],
        charts: vec![chart(&forks)],
        tables: vec![table(&forks)],
    };
    Findings { sections: vec![section], verdicts: claims(&forks) }
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
    by_fork
        .into_iter()
        .filter_map(|((params, tokens), points)| fork(found, params, tokens, &points))
        .collect()
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
        noise: (!noise.is_empty()).then(|| noise.iter().sum::<f64>() / noise.len() as f64),
    })
    .filter(|fork| !fork.branches.is_empty())
}

fn answer(forks: &[Fork]) -> String {
    let parts: Vec<String> = forks.iter().map(|f| format!("{} ({})", f.bracket(), f.name())).collect();
    format!(
        "How far can the batch be raised before the loss of the finished model suffers? From the same checkpoint, over the \
         same tokens, it lies between these tokens a step: {}.",
        list(&parts)
    )
}

fn method() -> String {
    format!(
        "Each branch is the decay of a finished point, from the trunk's state where that decay begins, which is the same for \
         all bit for bit. It passes if its held-out loss is at most {TOLERANCE:.0} standard errors above the lowest of the \
         smaller batches; errors are those of paired differences, block by block, and hold for these runs: how another \
         seed's trunk would fare they do not say. Branches of fewer than {} are left out.",
        count(LEAST_STEPS as usize, "step")
    )
}

fn chart(forks: &[Fork]) -> Chart {
    let series = |f: &Fork| {
        let percent = |nats: f64| 100.0 * nats / f.loss;
        let point = |b: &Branch| ChartPoint {
            x: b.batch,
            y: percent(b.above.0),
            interval: Some((percent(b.above.0 - b.above.1), percent(b.above.0 + b.above.1))),
        };
        let own = ChartPoint { x: f.batch, y: 0.0, interval: None };
        ChartSeries {
            name: f.name(),
            points: std::iter::once(own).chain(f.branches.iter().map(point)).collect(),
            line: Vec::new(),
        }
    };
    Chart {
        title: "What a larger batch costs from one checkpoint.".to_owned(),
        caption: "Held-out loss of the finished point above that of the trunk's own batch; bars are two standard errors of the \
                  paired difference."
            .to_owned(),
        x: ChartAxis { label: "batch of the branch, tokens a step".to_owned(), log: true },
        y: ChartAxis { label: "loss above the trunk's batch, %".to_owned(), log: false },
        series: forks.iter().map(series).collect(),
    }
}

fn table(forks: &[Fork]) -> Grid {
    let row = |f: &Fork| {
        let branches: Vec<String> = f
            .branches
            .iter()
            .map(|b| format!("{}: {:+.4} ± {:.4}", si(b.batch), b.above.0, b.above.1))
            .collect();
        vec![
            si(f.params),
            format!("{} to {}", si(f.from), si(f.to)),
            f.seeds.to_string(),
            format!("{:.4}", f.loss),
            branches.join("; "),
            f.bracket(),
            f.noise.map_or_else(|| "–".to_owned(), si),
            si(kaplan(f.loss, BYTES_PER_BPE)),
            si(zhang(f.to)),
        ]
    };
    Grid {
        caption: "From each fork: nats per token above the trunk's own batch (± two standard errors), and the largest batch \
                  that passes"
            .to_owned(),
        columns: [
            "N",
            "tokens",
            "seeds",
            "loss",
            "batch: loss above",
            "critical batch",
            "noise scale",
            "Kaplan et al.",
            "Zhang et al.",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: forks.iter().map(row).collect(),
    }
}

fn claims(forks: &[Fork]) -> Vec<Verdict> {
    vec![grows(forks), noise(forks)]
}

/// That it grows as training goes on: the shortest fork of a size beside its longest.
fn grows(forks: &[Fork]) -> Verdict {
    let (mut up, mut down, mut parts, mut sizes) = (0, 0, Vec::new(), 0);
    for of_size in forks.chunk_by(|a, b| a.params == b.params) {
        let (Some(first), Some(last)) = (of_size.first(), of_size.last()) else { continue };
        if first.to == last.to {
            continue;
        }
        sizes += 1;
        up += usize::from(first.first_above().is_some_and(|above| above <= last.last()));
        down += usize::from(last.first_above().is_some_and(|above| above <= first.last()));
        parts.push(format!(
            "{} at {}, then {} at {}",
            first.bracket(),
            first.name(),
            last.bracket(),
            last.name()
        ));
    }
    let (ruling, why) = match (sizes, up, down) {
        (1.., up, 0) if up == sizes => (Ruling::Reproduced, "the later bracket lies above the earlier one"),
        (1.., 0, down) if down == sizes => {
            (Ruling::NotReproduced, "the later bracket lies below the earlier one")
        }
        (0, ..) => (Ruling::CannotTell, "there are no two forks of a size"),
        _ => (Ruling::CannotTell, "the brackets overlap, or sizes differ"),
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
    let known: Vec<(&Fork, f64)> = forks.iter().filter_map(|f| Some((f, f.noise?))).collect();
    let below = known.iter().filter(|(f, noise)| *noise < f.last()).count();
    let above = known.iter().filter(|(f, noise)| f.first_above().is_some_and(|b| *noise > b)).count();
    let parts: Vec<String> = known
        .iter()
        .map(|(f, noise)| format!("{}: noise scale {}, branches {}", f.name(), si(*noise), f.bracket()))
        .collect();
    let (ruling, why) = match known.len() {
        0 => (Ruling::CannotTell, "the noise scale was not measured".to_owned()),
        all if below == all => (Ruling::Reproduced, format!("it is below the bracket at all of {all} forks")),
        all if above == all => {
            (Ruling::NotReproduced, format!("it is above the bracket at all of {all} forks"))
        }
        all => (
            Ruling::CannotTell,
            format!("it is below the bracket at {below} of {all} forks, above at {above}"),
        ),
    };
    verdict(
        "The simple noise scale lies below the critical batch that branches show",
        "after Merrill et al. 2025, arXiv 2505.23971",
        parts.join("; "),
        ruling,
        why,
    )
}
