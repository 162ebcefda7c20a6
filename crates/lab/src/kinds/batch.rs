//! `batch`: which batch to train with. Each batch is tried with several rates, so that none is judged at another's; the
//! fewest tokens that reach a loss, E(B), are those of its best rate, and a best rate at the end of the sweep is *not
//! found*: that row is left out. Steps S = E/B against B at one loss are McCandlish et al.'s hyperbola (2018,
//! arXiv:1812.06162), whose bend is the critical batch B_crit = E_min/S_min.

use super::branches;
use super::words::{self, LEAST_STEPS, LEVEL, count, counts, maybe, verdict};
use super::{Findings, Found, Kind};
use crate::error::UserError;
use crate::noise::noise_scale;
use crate::study::arms;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Base, Notes};
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, Reached, reaches, slope};
use isoflop_laws::{CriticalBatch, Options, Row, Table};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};

/// Bytes of the built-in text in a token of GPT-2's: published laws count such tokens (`corpus/CREDITS.md`: 15.6 MB are
/// 3.84 M tokens).
pub(super) const BYTES_PER_BPE: f64 = 4.07;

/// Multiples of the rule's rate that each batch is tried with, where the study does not say.
const RATES: [f64; 4] = [0.25, 0.5, 1.0, 2.0];

pub(super) struct Batch;

impl Kind for Batch {
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError> {
        let known = ["batches", "rates", "rate_exponent", "branch_batches", "branch_rate_exponent"];
        arms::only(raw, "batch", &known)?;
        let mut all = arms::of_branches(raw, base)?;
        if raw.entries.contains_key("arms.batches") || all.is_empty() {
            if !raw.entries.contains_key("arms.batches") {
                return Err(UserError::new(format!("{}: which batches?", raw.place("arms.batches"))).hint(
                    "write batches = [512, 2048, 8192, 32768] (tokens a step) under [arms], or branch_batches = \
                     [2, 4, 8, 16, 32] (of the trunk's)",
                ));
            }
            all.extend(arms::of_settings(raw, base, &RATES, true)?);
        }
        arms::runs(raw, &all, &resolve::models(raw)?, notes)
    }

    fn is_of_the_law(&self, study: &Study, run: &RunSpec) -> bool {
        match study.runs.iter().any(|run| run.arm.contains_key("branch")) {
            true => run.arm_number("branch") == Some(1.0),
            false => super::lr::is_base(study, run),
        }
    }

    fn findings(&self, found: &Found<'_>) -> Findings {
        let branches = branches::findings(found);
        let targets = targets(found);
        if targets.is_empty() {
            return branches;
        }
        let noise = noise_scales(found);
        let mut section = Section {
            id: "batch".to_owned(),
            title: "Which batch to train with".to_owned(),
            ..Section::default()
        };
        section.paragraphs.push(critical(&targets));
        section.paragraphs.push(noise_in_words(&noise, &targets));
        section.charts.push(tokens_chart(&targets));
        section.charts.push(critical_chart(&targets));
        section.tables.push(critical_table(&targets));
        section.tables.push(cost_table(&targets));
        let Findings { mut sections, mut verdicts, .. } = branches;
        sections.insert(0, section);
        verdicts.splice(0..0, claims(&targets));
        Findings { answer: words::answer(title(&targets), answer(found, &targets)), sections, verdicts }
    }
}

/// What one batch needs to reach a target.
struct Cost {
    batch: f64,
    /// Fewest tokens over the rates that were tried.
    tokens: f64,
    /// The multiple of the rule's rate that needed them.
    rate: f64,
    /// Whether that multiple lies inside those that were tried.
    inside: bool,
    /// Training tokens per second of the fastest run of this batch: all do the same work, and what else the machine
    /// was busy with can only slow one.
    tokens_per_s: Option<f64>,
}

impl Cost {
    fn seconds(&self) -> Option<f64> {
        self.tokens_per_s.map(|speed| self.tokens / speed)
    }
}

/// A loss that a model is to reach.
struct Target {
    params: f64,
    loss: f64,
    /// By batch, ascending.
    costs: Vec<Cost>,
    /// The hyperbola through those whose best rate was found.
    fit: Option<Hyperbola>,
}

struct Hyperbola {
    e_min: f64,
    s_min: f64,
    /// B_crit, tokens.
    critical: Estimate,
    rows: usize,
}

impl Target {
    fn found(&self) -> impl Iterator<Item = &Cost> {
        self.costs.iter().filter(|cost| cost.inside)
    }

    /// Tokens of the most economical batch.
    fn fewest(&self) -> f64 {
        self.costs.iter().map(|c| c.tokens).fold(f64::INFINITY, f64::min)
    }
}

/// (tokens, loss) of a run's points that have enough steps.
fn curve(found: &Found<'_>, id: &str) -> Vec<(f64, f64)> {
    let own = found.points.iter().filter(|f| f.run.id == id && f.point.steps >= LEAST_STEPS);
    own.map(|f| (f.point.tokens as f64, f.point.loss)).collect()
}

/// Three losses for each size and seed: those that the middle batch has at its shortest, middle and longest length but
/// one, so that most batches reach them.
fn targets(found: &Found<'_>) -> Vec<Target> {
    let mut sizes: Vec<(u64, u64)> = found.points.iter().map(|f| (f.point.params, f.run.seed)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut out = Vec::new();
    for (params, seed) in sizes {
        let runs: Vec<&RunSpec> = found
            .study
            .runs
            .iter()
            .filter(|run| {
                run.model.params() == params
                    && run.seed == seed
                    && run.arm.contains_key("batch")
                    && !curve(found, &run.id).is_empty()
            })
            .collect();
        let mut batches: Vec<u64> = runs.iter().map(|run| run.train.batch_tokens).collect();
        batches.sort_unstable();
        batches.dedup();
        if batches.len() < 3 {
            continue;
        }
        // What every batch reaches at its best rate: the worst of the batches' best.
        let best = |batch: u64| {
            let own = runs.iter().filter(|run| run.train.batch_tokens == batch);
            own.flat_map(|run| curve(found, &run.id)).map(|(_, loss)| loss).fold(f64::INFINITY, f64::min)
        };
        let mut reach: Vec<f64> = batches.iter().map(|batch| best(*batch)).collect();
        reach.sort_by(f64::total_cmp);
        for loss in goals(&reach) {
            let costs: Vec<Cost> =
                batches.iter().filter_map(|batch| cost(found, &runs, *batch, loss)).collect();
            if costs.len() >= 3 {
                let fit = hyperbola(found, params as f64, &costs);
                out.push(Target { params: params as f64, loss, costs, fit });
            }
        }
    }
    out
}

/// Losses to aim at, from those that the batches reach at their best, ascending: what all of them reach, what all but
/// one do, and what half of them do.
fn goals(reach: &[f64]) -> Vec<f64> {
    let last = reach.len() - 1;
    let mut goals = vec![reach[last] * 1.002, reach[last - 1] * 1.002, reach[reach.len() / 2] * 1.002];
    goals.dedup_by(|b, a| (*a - *b).abs() < 0.004 * *a);
    goals
}

/// The fewest tokens with which a batch reaches a loss, over its rates.
fn cost(found: &Found<'_>, runs: &[&RunSpec], batch: u64, loss: f64) -> Option<Cost> {
    let rate = |run: &RunSpec| run.arm_number("rate");
    let own: Vec<&&RunSpec> = runs.iter().filter(|run| run.train.batch_tokens == batch).collect();
    let mut rates: Vec<f64> = own.iter().filter_map(|run| rate(run)).collect();
    rates.sort_by(f64::total_cmp);
    let reached = own.iter().filter_map(|run| match reaches(&curve(found, &run.id), loss)? {
        Reached::At(tokens) => Some((tokens, rate(run)?)),
        Reached::Before(_) | Reached::After(_) => None,
    });
    let (tokens, best) = reached.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let timed = found.points.iter().filter(|f| own.iter().any(|run| run.id == f.run.id));
    let speed = timed.filter_map(|f| f.point.tokens_per_s.value().copied()).reduce(f64::max);
    let inside = rates.first().is_some_and(|lo| best > *lo) && rates.last().is_some_and(|hi| best < *hi);
    Some(Cost { batch: batch as f64, tokens, rate: best, inside, tokens_per_s: speed })
}

/// The hyperbola through the batches whose best rate was found.
fn hyperbola(found: &Found<'_>, params: f64, costs: &[Cost]) -> Option<Hyperbola> {
    let rows = costs.iter().filter(|cost| cost.inside).enumerate().map(|(i, cost)| {
        let mut row = Row::of(i + 1, params, cost.tokens, 1.0);
        row.extra.insert("batch".to_owned(), cost.batch);
        row.extra.insert("steps".to_owned(), cost.tokens / cost.batch);
        row
    });
    let table = Table { rows: rows.collect(), ..Table::default() };
    let options = Options {
        forms: vec!["hyperbola".to_owned()],
        holdout: false,
        bootstrap: 0,
        ..found.options.clone()
    };
    let document = isoflop_laws::fit(&table, &options).ok()?;
    let fit = document.fits.first()?;
    let value = |name: &str| fit.params.get(name).map(|p| p.value);
    let critical = fit.params.get("B_crit")?;
    // An end at 10³³ is no interval: no claim is judged by it.
    let identified = fit.identified.get("B_crit").copied().unwrap_or(false);
    Some(Hyperbola {
        e_min: value("E_min")?,
        s_min: value("S_min")?,
        critical: Estimate {
            value: critical.value,
            ends: critical.lo.zip(critical.hi).filter(|_| identified),
            units: fit.rows_used,
        },
        rows: fit.rows_used,
    })
}

/// B_simple in tokens of each run, early and late, from the gradient pairs that were logged.
struct Noise {
    params: f64,
    batch: f64,
    loss: f64,
    tokens: f64,
}

fn noise_scales(found: &Found<'_>) -> Vec<Noise> {
    let mut out = Vec::new();
    for run in &found.study.runs {
        let rows: Vec<_> = found.curves.iter().filter(|row| row.run == run.id).cloned().collect();
        let last = found.points.iter().rfind(|f| f.run.id == run.id);
        if let (Some(tokens), Some(last)) = (noise_scale(&rows).later_tokens.value(), last) {
            out.push(Noise {
                params: last.point.params as f64,
                batch: run.train.batch_tokens as f64,
                loss: last.point.loss,
                tokens: *tokens,
            });
        }
    }
    out
}

fn noise_in_words(noise: &[Noise], targets: &[Target]) -> String {
    if noise.is_empty() {
        return "The gradient noise scale was not measured: it needs several micro-batches a step."
            .to_owned();
    }
    let mut values: Vec<f64> = noise.iter().map(|n| n.tokens).collect();
    values.sort_by(f64::total_cmp);
    let measured: Vec<f64> =
        targets.iter().filter_map(|t| t.fit.as_ref()).map(|f| f.critical.value).collect();
    let beside = match measured.iter().copied().reduce(f64::max) {
        Some(most) => format!(", against {} and less by the hyperbola", si(most)),
        None => String::new(),
    };
    let lowest = noise.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("not empty");
    format!(
        "The simple noise scale tr Σ/|G|² of the later half of {} runs is {} to {} tokens, {} in the middle{beside}; at the \
         lowest loss, {:.3} (N = {}, B = {}), it is {}. It takes the curvature to be the same in all directions, which it \
         is not: a diagnostic with a known bias, not a measurement of the critical batch.",
        noise.len(),
        si(values[0]),
        si(values[values.len() - 1]),
        si(values[values.len() / 2]),
        lowest.loss,
        si(lowest.params),
        si(lowest.batch),
        si(lowest.tokens),
    )
}

/// Of each size the lowest loss that was aimed at.
fn hardest(targets: &[Target]) -> Vec<&Target> {
    let mut sizes: Vec<f64> = targets.iter().map(|t| t.params).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let lowest = |n: &f64| {
        let of_size = targets.iter().filter(|t| t.params == *n);
        of_size.min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("one of it")
    };
    sizes.iter().map(lowest).collect()
}

/// The batch that reaches a loss soonest, where runs were timed.
fn soonest(target: &Target) -> Option<(&Cost, f64)> {
    let timed = target.costs.iter().filter_map(|c| Some((c, c.seconds()?)));
    timed.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// `512`, or `512 to 2.05 k`.
fn range(values: impl Iterator<Item = f64>) -> Option<String> {
    let (lo, hi) = values.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
    (lo <= hi).then(|| if lo < hi { format!("{} to {}", si(lo), si(hi)) } else { si(lo) })
}

/// The batch to use and the critical one, in one sentence.
fn title(targets: &[Target]) -> String {
    let quick = range(hardest(targets).into_iter().filter_map(|t| Some(soonest(t)?.0.batch)));
    let fitted = || targets.iter().filter_map(|t| Some(t.fit.as_ref()?.critical));
    let bounded = range(fitted().filter(|c| c.ends.is_some()).map(|c| c.value));
    let critical = bounded.or_else(|| range(fitted().map(|c| c.value)));
    match (quick, critical) {
        (Some(quick), Some(critical)) => {
            format!("Train with {quick} tokens a step on this machine; the critical batch is {critical}")
        }
        (None, Some(critical)) => format!("The critical batch is {critical} tokens"),
        (Some(quick), None) => format!("Train with {quick} tokens a step on this machine"),
        (None, None) => "Which batch to train with cannot be said of these rates".to_owned(),
    }
}

/// The batch to use, and what others waste.
fn answer(found: &Found<'_>, targets: &[Target]) -> String {
    let one = |target: &&Target| {
        let fewest = target.fewest();
        let by_tokens =
            target.costs.iter().min_by(|a, b| a.tokens.total_cmp(&b.tokens)).expect("three of them");
        let timed = target.costs.iter().filter_map(|c| Some((c, c.seconds()?)));
        let slowest = timed.max_by(|a, b| a.1.total_cmp(&b.1));
        let words = match soonest(target).zip(slowest) {
            Some(((cost, seconds), slow)) => {
                format!(
                    "use {} tokens a step here: {:.0} s to reach {:.3}, with {:.1} times the fewest tokens; a batch of {} \
                     takes {:.1} times as long",
                    si(cost.batch),
                    seconds,
                    target.loss,
                    cost.tokens / fewest,
                    si(slow.0.batch),
                    slow.1 / seconds
                )
            }
            None => format!("no run was timed; fewest tokens to reach {:.3}", target.loss),
        };
        let largest = target.costs.last().expect("three of them");
        format!(
            "N = {}: {words}. The fewest tokens, {}, are needed with {} a step; {} a step needs {:.1} times as many",
            si(target.params),
            si(fewest),
            si(by_tokens.batch),
            si(largest.batch),
            largest.tokens / fewest
        )
    };
    let seeds: std::collections::BTreeSet<u64> = found.study.runs.iter().map(|run| run.seed).collect();
    format!(
        "{}. ({}; speeds are those of the fastest run of each batch.)",
        hardest(targets).iter().map(one).collect::<Vec<_>>().join(". "),
        count(seeds.len(), "seed")
    )
}

fn critical(targets: &[Target]) -> String {
    let known: Vec<&Target> = targets.iter().filter(|t| t.fit.is_some()).collect();
    if known.is_empty() {
        return "No critical batch can be said: too few batches have their best rate inside the rates that were tried. \
                Widen rates under [arms]."
            .to_owned();
    }
    let one = |t: &&Target| {
        let fit = t.fit.as_ref().expect("known");
        let ends = counts(fit.critical.ends);
        format!("{}{ends} tokens at a loss of {:.3} of N = {}", si(fit.critical.value), t.loss, si(t.params))
    };
    format!(
        "The critical batch, at which steps and tokens are each twice the fewest, is {}.",
        known.iter().map(one).collect::<Vec<_>>().join("; ")
    )
}

fn name(target: &Target) -> String {
    format!("N = {}, loss {:.3}", si(target.params), target.loss)
}

fn tokens_chart(targets: &[Target]) -> Chart {
    let series = |t: &Target| {
        let line = t.fit.as_ref().map_or_else(Vec::new, |fit| {
            let (lo, hi) = (t.costs[0].batch, t.costs[t.costs.len() - 1].batch);
            (0..=24)
                .map(|i| lo * (hi / lo).powf(f64::from(i) / 24.0))
                .map(|b| (b, fit.e_min + fit.s_min * b))
                .collect()
        });
        ChartSeries {
            name: name(t),
            points: t.found().map(|c| ChartPoint { x: c.batch, y: c.tokens, interval: None }).collect(),
            line,
        }
    };
    Chart {
        title: "Tokens to reach a loss against the batch.".to_owned(),
        caption: "A mark for each batch at its best rate, where that lies inside the rates tried; lines: E = E_min + S_min·B. \
                  Left of the bend a larger batch costs no tokens, right of it no steps are saved."
            .to_owned(),
        x: ChartAxis { label: "batch B, tokens a step".to_owned(), log: true },
        y: ChartAxis { label: "tokens to reach the loss".to_owned(), log: true },
        series: targets.iter().map(series).collect(),
    }
}

/// Kaplan et al. 2020 (arXiv:2001.08361, eq. 5.3): B_crit = 2·10⁸ tokens/L^(1/0.21), of their BPE tokens.
pub(super) fn kaplan(loss: f64, bytes_per_bpe: f64) -> f64 {
    CriticalBatch::kaplan().at(loss * bytes_per_bpe) * bytes_per_bpe
}

/// Zhang et al. 2024 (arXiv:2410.21676): 93.20·(N/10⁶)^0.47 sequences of 512 tokens where D = 20·N; by data, since they
/// find that it follows the data: N is D/20.
pub(super) fn zhang(tokens: f64) -> f64 {
    93.2 * (tokens / 20.0 / 1e6).powf(0.47) * 512.0
}

fn critical_chart(targets: &[Target]) -> Chart {
    let mut sizes: Vec<f64> = targets.iter().map(|t| t.params).collect();
    sizes.dedup();
    let mut series: Vec<ChartSeries> = sizes
        .iter()
        .map(|n| ChartSeries {
            name: format!("measured, N = {}", si(*n)),
            points: targets
                .iter()
                .filter(|t| t.params == *n)
                .filter_map(|t| {
                    let fit = t.fit.as_ref()?;
                    Some(ChartPoint { x: t.loss, y: fit.critical.value, interval: fit.critical.ends })
                })
                .collect(),
            line: Vec::new(),
        })
        .collect();
    let (lo, hi) =
        targets.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), t| (lo.min(t.loss), hi.max(t.loss)));
    series.push(ChartSeries {
        name: "Kaplan et al. by loss".to_owned(),
        points: Vec::new(),
        line: [lo, 0.5 * (lo + hi), hi].map(|l| (l, kaplan(l, BYTES_PER_BPE))).to_vec(),
    });
    let mut by_data: Vec<(f64, f64)> =
        targets.iter().filter_map(|t| Some((t.loss, zhang(t.fit.as_ref()?.e_min)))).collect();
    by_data.sort_by(|a, b| a.0.total_cmp(&b.0));
    series.push(ChartSeries { name: "Zhang et al. by tokens".to_owned(), points: Vec::new(), line: by_data });
    Chart {
        title: "The critical batch against the loss.".to_owned(),
        caption: "Bars: intervals of 95 %. Published laws were found for models and batches a thousand times larger; Kaplan's is \
                  turned from BPE tokens to bytes by 4.07 bytes a token, that of the built-in text."
            .to_owned(),
        x: ChartAxis { label: "loss reached, nats per token".to_owned(), log: false },
        y: ChartAxis { label: "critical batch, tokens".to_owned(), log: true },
        series,
    }
}

fn critical_table(targets: &[Target]) -> Grid {
    let row = |t: &Target| {
        let fit = t.fit.as_ref();
        let number = |of: &dyn Fn(&Hyperbola) -> f64| fit.map_or_else(|| "–".to_owned(), |f| si(of(f)));
        let ends = fit.map_or_else(
            || "too few batches with their best rate inside".to_owned(),
            |f| {
                f.critical
                    .ends
                    .map_or_else(|| "not bounded".to_owned(), |(lo, hi)| format!("{} to {}", si(lo), si(hi)))
            },
        );
        vec![
            name(t),
            number(&|f| f.e_min),
            number(&|f| f.s_min),
            number(&|f| f.critical.value),
            ends,
            fit.map_or(0, |f| f.rows).to_string(),
            si(kaplan(t.loss, BYTES_PER_BPE)),
            si(zhang(fit.map_or(t.fewest(), |f| f.e_min))),
        ]
    };
    Grid {
        caption:
            "The hyperbola (S/S_min − 1)(E/E_min − 1) = 1 at each loss, and what published laws say there"
                .to_owned(),
        columns: [
            "target",
            "E_min tokens",
            "S_min steps",
            "B_crit",
            "interval",
            "batches",
            "Kaplan et al.",
            "Zhang et al.",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: targets.iter().map(row).collect(),
    }
}

fn cost_table(targets: &[Target]) -> Grid {
    let mut rows = Vec::new();
    for t in targets {
        let fewest = t.fewest();
        let fastest = t.costs.iter().filter_map(Cost::seconds).fold(f64::INFINITY, f64::min);
        rows.extend(t.costs.iter().map(|c| {
            vec![
                name(t),
                si(c.batch),
                si(c.tokens),
                si(c.tokens / c.batch),
                format!("{:.2}", c.tokens / fewest),
                c.seconds().map_or_else(|| "–".to_owned(), |s| format!("{:.1} s, {:.2}", s, s / fastest)),
                format!(
                    "{}{}",
                    c.rate,
                    if c.inside { "" } else { ", at the end of those tried: left out of the fit" }
                ),
            ]
        }));
    }
    Grid {
        caption: "What each batch needs to reach a loss, at its best rate".to_owned(),
        columns: [
            "target",
            "B",
            "tokens",
            "steps",
            "tokens / fewest",
            "time here, / shortest",
            "rate, times the rule's",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
    }
}

fn claims(targets: &[Target]) -> Vec<Verdict> {
    let known: Vec<(&Target, &Hyperbola)> =
        targets.iter().filter_map(|t| Some((t, t.fit.as_ref()?))).collect();
    let judge = |claim: &str, source: &str, law: &dyn Fn(&Target, &Hyperbola) -> f64| {
        let measured = known
            .iter()
            .map(|(t, f)| {
                let ends = f
                    .critical
                    .ends
                    .map_or_else(String::new, |(lo, hi)| format!(" ({} to {})", si(lo), si(hi)));
                format!("{}: {}{ends}, the law says {}", name(t), si(f.critical.value), si(law(t, f)))
            })
            .collect::<Vec<_>>()
            .join("; ");
        let bounded: Vec<(f64, (f64, f64))> =
            known.iter().filter_map(|(t, f)| Some((law(t, f), f.critical.ends?))).collect();
        let inside = bounded.iter().filter(|(law, (lo, hi))| lo <= law && law <= hi).count();
        let (ruling, why) = match (bounded.len(), inside) {
            (0, _) => (Ruling::CannotTell, "no critical batch has an interval with two ends".to_owned()),
            (all, inside) if inside == all => {
                (Ruling::Reproduced, format!("it lies in all of {all} intervals"))
            }
            (all, 0) => (Ruling::NotReproduced, format!("it lies outside of all of {all} intervals")),
            (all, inside) => (Ruling::CannotTell, format!("it lies in {inside} of {all} intervals")),
        };
        verdict(claim, source, measured, ruling, why)
    };
    let mut verdicts = vec![
        judge(
            "The critical batch is 2·10⁸/L^4.76 tokens",
            "Kaplan et al. 2020, arXiv 2001.08361, eq. 5.3, BPE tokens turned to bytes",
            &|t, _| kaplan(t.loss, BYTES_PER_BPE),
        ),
        judge(
            "The critical batch follows the data: 93.2·(D/20 M)^0.47 sequences of 512",
            "Zhang et al. 2024, arXiv 2410.21676, their law for D = 20·N asked by D",
            &|_, f| zhang(f.e_min),
        ),
    ];
    verdicts.push(grows(&known));
    verdicts
}

/// That the critical batch grows as the loss falls.
fn grows(known: &[(&Target, &Hyperbola)]) -> Verdict {
    let (x, y): (Vec<f64>, Vec<f64>) =
        known.iter().map(|(t, f)| (t.loss.ln(), f.critical.value.ln())).unzip();
    let found = slope(&x, &y, LEVEL);
    let (ruling, why) = match found {
        Some(e) if e.is_below(0.0) => (Ruling::Reproduced, "the slope's interval lies below zero"),
        Some(e) if e.is_above(0.0) => (Ruling::NotReproduced, "the slope's interval lies above zero"),
        Some(_) => (Ruling::CannotTell, "the slope's interval holds zero"),
        None => (Ruling::CannotTell, "too few losses with a critical batch"),
    };
    let measured = format!("B_crit goes with the loss to the power {}", maybe(found.as_ref(), 1));
    verdict(
        "The critical batch grows as the loss falls",
        "McCandlish et al. 2018, arXiv 1812.06162; Kaplan et al. 2020",
        measured,
        ruling,
        why,
    )
}
