//! `lr`: which learning rate to train with. At each size, length and batch the best rate is the bottom of a parabola in
//! its logarithm, with Fieller's interval; a bottom at the end of a sweep is *not found*, and left out. The best rates
//! are then power laws of size, length and batch. Points of several lengths come from the same trunks, so sizes are the
//! units of evidence of the exponents of length and batch.

use super::words::{self, LEAST_STEPS, LEVEL, count, interval, list, maybe, verdict};
use super::{Findings, Found, Kind};
use crate::error::UserError;
use crate::study::arms;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Base, Notes};
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::units::si;
use isoflop_laws::arms::{Bottom, Estimate, bottom, mean, regression, slope};
use isoflop_laws::table::same_level;
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};

/// Exponents of lr = G·N^x·D^y in Li et al. 2025 ("Step Law"), arXiv:2503.04715.
const STEP_LAW: (f64, f64) = (-0.713, 0.307);

/// Multiples of the rule's rate that are tried, where the study does not say.
const RATES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

pub(super) struct Lr;

impl Kind for Lr {
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError> {
        arms::only(raw, "lr", &["batches", "rates", "rate_exponent", "init"])?;
        arms::runs(raw, &arms::of_settings(raw, base, &RATES, false)?, &resolve::models(raw)?, notes)
    }

    fn is_of_the_law(&self, study: &Study, run: &RunSpec) -> bool {
        is_base(study, run)
    }

    fn findings(&self, found: &Found<'_>) -> Findings {
        let sweeps = sweeps(found);
        if sweeps.is_empty() {
            return Findings::default();
        }
        let laws = Exponents::of(&sweeps);
        let mut section = Section {
            id: "rate".to_owned(),
            title: "The best learning rate".to_owned(),
            ..Section::default()
        };
        section.paragraphs.push(how_flat(&sweeps));
        section.paragraphs.push(exponents_in_words(&laws));
        section.paragraphs.extend(transfer(&sweeps));
        section.charts.extend(valleys(&sweeps));
        section.charts.push(optima_chart(&sweeps));
        section.tables.push(optima_table(&sweeps));
        Findings {
            answer: words::answer(title(&sweeps, &laws), answer(found, &sweeps, &laws)),
            sections: vec![section],
            verdicts: claims(&laws),
        }
    }
}

/// A sweep of rates at one size, length, batch and way of initialising.
struct Sweep {
    params: f64,
    width: f64,
    tokens: f64,
    batch: f64,
    init: String,
    /// (ln rate, loss) of every run.
    points: Vec<(f64, f64)>,
    bottom: Bottom,
}

impl Sweep {
    fn found(&self) -> bool {
        self.bottom.interior
    }

    fn rate(&self) -> f64 {
        self.bottom.x.exp()
    }

    fn interval(&self) -> Option<(f64, f64)> {
        self.bottom.ends.map(|(lo, hi)| (lo.exp(), hi.exp())).filter(|(lo, hi)| *lo > 0.0 && hi.is_finite())
    }
}

/// All sweeps of at least three rates, by way of initialising, batch, size and length.
fn sweeps(found: &Found<'_>) -> Vec<Sweep> {
    let mut sweeps: Vec<Sweep> = Vec::new();
    for f in found.points.iter().filter(|f| f.point.steps >= LEAST_STEPS) {
        let (params, tokens) = (f.point.params as f64, f.point.tokens as f64);
        let (batch, init) = (f.point.batch_tokens as f64, f.arm("init").unwrap_or_default());
        let same = |s: &&mut Sweep| {
            s.params == params && same_level(s.tokens, tokens) && s.batch == batch && s.init == init
        };
        let point = (f.point.lr.ln(), f.point.loss);
        match sweeps.iter_mut().find(same) {
            Some(sweep) => sweep.points.push(point),
            None => sweeps.push(Sweep {
                params,
                width: f.point.shape.map_or(f64::NAN, |shape| shape.d_model as f64),
                tokens,
                batch,
                init: init.to_owned(),
                points: vec![point],
                bottom: Bottom { x: 0.0, ends: None, y: 0.0, curvature: 0.0, interior: false },
            }),
        }
    }
    sweeps.retain_mut(|sweep| {
        let (x, y): (Vec<f64>, Vec<f64>) = sweep.points.iter().copied().unzip();
        bottom(&x, &y, LEVEL).map(|bottom| sweep.bottom = bottom).is_some()
    });
    let key = |s: &Sweep| (s.init.clone(), s.batch, s.params, s.tokens);
    sweeps.sort_by(|a, b| key(a).partial_cmp(&key(b)).expect("numbers"));
    sweeps
}

/// Exponents of the best rate.
struct Exponents {
    /// Of N at the largest length and the study's first batch.
    size: Option<Estimate>,
    /// Of the width, there.
    width: Option<Estimate>,
    /// Of D, over sizes.
    length: Option<Estimate>,
    /// Of B, over sizes and lengths.
    batch: Option<Estimate>,
    /// The rate for four times the largest size, at the largest length.
    next: Option<(f64, f64, Estimate)>,
}

impl Exponents {
    fn of(sweeps: &[Sweep]) -> Self {
        let main: Vec<&Sweep> = sweeps.iter().filter(|s| s.found() && s.init == sweeps[0].init).collect();
        let batch = sweeps.iter().map(|s| s.batch).fold(f64::INFINITY, f64::min);
        let longest = main.iter().filter(|s| s.batch == batch).map(|s| s.tokens).fold(0.0, f64::max);
        let at_longest: Vec<&&Sweep> =
            main.iter().filter(|s| s.batch == batch && same_level(s.tokens, longest)).collect();
        let against = |of: fn(&Sweep) -> f64| {
            let (x, y): (Vec<f64>, Vec<f64>) = at_longest.iter().map(|s| (of(s).ln(), s.bottom.x)).unzip();
            slope(&x, &y, LEVEL)
        };
        let within = |same: &dyn Fn(&Sweep, &Sweep) -> bool, of: fn(&Sweep) -> f64| {
            let mut slopes = Vec::new();
            let mut done: Vec<&Sweep> = Vec::new();
            for first in &main {
                if done.iter().any(|d| same(d, first)) {
                    continue;
                }
                done.push(first);
                let group: Vec<(f64, f64)> =
                    main.iter().filter(|s| same(s, first)).map(|s| (of(s).ln(), s.bottom.x)).collect();
                let (x, y): (Vec<f64>, Vec<f64>) = group.into_iter().unzip();
                slopes.extend(slope(&x, &y, LEVEL).map(|s| (first.params, s.value)));
            }
            // What is of one size is of the same runs: a size is a unit.
            let mut sizes: Vec<f64> = slopes.iter().map(|(n, _)| *n).collect();
            sizes.dedup();
            let of_size = |n: &f64| {
                let own: Vec<f64> = slopes.iter().filter(|(m, _)| m == n).map(|(_, s)| *s).collect();
                own.iter().sum::<f64>() / own.len() as f64
            };
            mean(&sizes.iter().map(of_size).collect::<Vec<_>>(), LEVEL)
        };
        Self {
            size: against(|s| s.params),
            width: against(|s| s.width),
            length: within(&|a, b| a.params == b.params && a.batch == b.batch, |s| s.tokens),
            batch: within(&|a, b| a.params == b.params && same_level(a.tokens, b.tokens), |s| s.batch),
            next: next(&at_longest, longest),
        }
    }
}

/// The rate for four times the largest size, read off the line through the best rates.
fn next(sweeps: &[&&Sweep], tokens: f64) -> Option<(f64, f64, Estimate)> {
    let target = 4.0 * sweeps.iter().map(|s| s.params).fold(0.0, f64::max);
    let x: Vec<Vec<f64>> = sweeps.iter().map(|s| vec![1.0, (s.params / target).ln()]).collect();
    let y: Vec<f64> = sweeps.iter().map(|s| s.bottom.x).collect();
    let line = regression(&x, &y, LEVEL).filter(|_| sweeps.len() > 2)?;
    Some((target, tokens, line[0].map(f64::exp)))
}

/// The rate to take, in one sentence.
fn title(sweeps: &[Sweep], laws: &Exponents) -> String {
    if let Some((size, _, rate)) = &laws.next {
        let ends = rate.ends.map_or_else(String::new, |(lo, hi)| format!(" ({lo:.1e} to {hi:.1e})"));
        return format!("A model of {} parameters is best trained at {:.1e}{ends}", si(*size), rate.value);
    }
    let rates = sweeps.iter().filter(|s| s.found()).map(Sweep::rate);
    let (lo, hi) = rates.fold((f64::INFINITY, 0.0f64), |(lo, hi), r| (lo.min(r), hi.max(r)));
    match hi > 0.0 {
        true => format!("The best peak rates lie between {lo:.1e} and {hi:.1e}"),
        false => "The best rate lies outside of those that were tried".to_owned(),
    }
}

fn answer(found: &Found<'_>, sweeps: &[Sweep], laws: &Exponents) -> String {
    let inside = sweeps.iter().filter(|s| s.found()).count();
    let recommended = match &laws.next {
        Some((size, tokens, rate)) => {
            let ends = rate
                .ends
                .map_or_else(|| " (no interval)".to_owned(), |(lo, hi)| format!(" ({lo:.1e} to {hi:.1e})"));
            format!(
                "For a model of {} parameters, four times the largest that was tried, trained on {} tokens, the sweeps \
                 recommend a peak rate of {:.2e}{ends}.",
                si(*size),
                si(*tokens),
                rate.value
            )
        }
        None => "Sizes are too few to say a rate for one that was not tried.".to_owned(),
    };
    format!(
        "{recommended} {inside} of {} sweeps ({}) have their best rate inside what was tried{}.",
        sweeps.len(),
        count(found.seeds(), "seed"),
        if inside < sweeps.len() {
            "; the others end at their lowest point, and say nothing but that"
        } else {
            ""
        }
    )
}

/// What a rate twice or half the best costs.
fn how_flat(sweeps: &[Sweep]) -> String {
    let cost = |s: &&Sweep| 0.5 * s.bottom.curvature * std::f64::consts::LN_2.powi(2);
    let costs: Vec<f64> = sweeps.iter().filter(|s| s.found()).map(|s| cost(&s)).collect();
    let (low, high) = costs.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), c| (lo.min(*c), hi.max(*c)));
    if costs.is_empty() {
        return "How much a wrong rate costs cannot be said.".to_owned();
    }
    format!(
        "A rate twice or half the best one costs {low:.4} to {high:.4} nats per token, by the curvature of the parabolas."
    )
}

fn exponents_in_words(laws: &Exponents) -> String {
    let one = |name: &str, e: &Option<Estimate>| {
        e.as_ref().map(|e| format!("{name} to the power {}", interval(e, 2)))
    };
    let parts: Vec<String> = [
        one("parameters", &laws.size),
        one("width", &laws.width),
        one("tokens", &laws.length),
        one("batch", &laws.batch),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return "No power law of the best rate can be fitted to so few sweeps.".to_owned();
    }
    format!("The best rate goes with {}. Intervals of 95 %; sizes are the units of evidence.", list(&parts))
}

/// Whether width-scaled initialisation makes the rate carry over, where both ways were tried.
fn transfer(sweeps: &[Sweep]) -> Option<String> {
    let mut inits: Vec<&str> = sweeps.iter().map(|s| s.init.as_str()).collect();
    inits.dedup();
    if inits.len() < 2 {
        return None;
    }
    let longest = sweeps.iter().map(|s| s.tokens).fold(0.0, f64::max);
    let of_init = |init: &&str| {
        let own: Vec<&Sweep> = sweeps
            .iter()
            .filter(|s| s.init == **init && s.found() && same_level(s.tokens, longest))
            .collect();
        let (x, y): (Vec<f64>, Vec<f64>) = own.iter().map(|s| (s.width.ln(), s.bottom.x)).unzip();
        let exponent = slope(&x, &y, LEVEL);
        let says = match exponent {
            Some(e) if e.holds(0.0) => "no dependence on the width is seen",
            Some(e) if e.ends.is_some() => {
                if e.value < 0.0 {
                    "the rate has to fall with the width"
                } else {
                    "the rate may rise with the width"
                }
            }
            _ => "too few sizes to tell",
        };
        format!(
            "with {init} initial values the best rate goes with the width to the power {}: {says}",
            maybe(exponent.as_ref(), 2)
        )
    };
    Some(format!(
        "Does the rate carry over from width to width? {}.",
        inits.iter().map(of_init).collect::<Vec<_>>().join("; ")
    ))
}

/// Loss against rate at the largest length, a curve for each size.
fn valleys(sweeps: &[Sweep]) -> Option<Chart> {
    let first = &sweeps[0];
    let longest = sweeps
        .iter()
        .filter(|s| s.batch == first.batch && s.init == first.init)
        .map(|s| s.tokens)
        .fold(0.0, f64::max);
    let series = |sweep: &Sweep| {
        let (low, high) = sweep
            .points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), p| (lo.min(p.0), hi.max(p.0)));
        let b = &sweep.bottom;
        let at = |x: f64| b.y + 0.5 * b.curvature * (x - b.x) * (x - b.x);
        let line = (0..=24)
            .map(|i| low + (high - low) * f64::from(i) / 24.0)
            .filter(|x| (x - b.x).abs() <= 1.4)
            .map(|x| (x.exp(), at(x)))
            .collect();
        ChartSeries {
            name: format!("N = {}", si(sweep.params)),
            points: sweep
                .points
                .iter()
                .map(|(x, y)| ChartPoint { x: x.exp(), y: *y, interval: None })
                .collect(),
            line,
        }
    };
    let chosen: Vec<ChartSeries> = sweeps
        .iter()
        .filter(|s| s.batch == first.batch && s.init == first.init && same_level(s.tokens, longest))
        .map(series)
        .collect();
    (!chosen.is_empty()).then(|| Chart {
        title: format!("Loss against the learning rate at {} tokens.", si(longest)),
        caption: "A mark for every run; lines are parabolas in the logarithm of the rate through the points within a factor \
                  of four of the lowest."
            .to_owned(),
        x: ChartAxis { label: "peak learning rate".to_owned(), log: true },
        y: ChartAxis { label: "loss, nats per token".to_owned(), log: false },
        series: chosen,
    })
}

fn optima_chart(sweeps: &[Sweep]) -> Chart {
    let mut names: Vec<(String, f64, f64)> = Vec::new();
    for s in sweeps.iter().filter(|s| s.found()) {
        let key = (s.init.clone(), s.batch, s.tokens);
        if !names.iter().any(|k| k.0 == key.0 && k.1 == key.1 && same_level(k.2, key.2)) {
            names.push(key);
        }
    }
    let several = |of: fn(&(String, f64, f64)) -> String| {
        names.iter().map(of).collect::<std::collections::BTreeSet<_>>().len() > 1
    };
    let (inits, batches) = (several(|k| k.0.clone()), several(|k| k.1.to_string()));
    let series = |(init, batch, tokens): &(String, f64, f64)| {
        let mut name = format!("D = {}", si(*tokens));
        if batches {
            name += &format!(", B = {}", si(*batch));
        }
        if inits {
            name += &format!(", {init}");
        }
        let own = sweeps
            .iter()
            .filter(|s| s.found() && s.init == *init && s.batch == *batch && same_level(s.tokens, *tokens));
        let points: Vec<ChartPoint> =
            own.map(|s| ChartPoint { x: s.params, y: s.rate(), interval: s.interval() }).collect();
        let line = points.iter().map(|p| (p.x, p.y)).collect();
        ChartSeries { name, points, line }
    };
    Chart {
        title: "The best rate against size.".to_owned(),
        caption: "Bottoms of the parabolas; bars are their intervals of 95 % where the data bound both ends. Sweeps whose \
                  lowest point is at an end are left out."
            .to_owned(),
        x: ChartAxis { label: "parameters N".to_owned(), log: true },
        y: ChartAxis { label: "best peak learning rate".to_owned(), log: true },
        series: names.iter().map(series).collect(),
    }
}

fn optima_table(sweeps: &[Sweep]) -> Grid {
    let row = |s: &Sweep| {
        let ends = match (s.found(), s.interval()) {
            (false, _) => "not found: the lowest point is at an end".to_owned(),
            (true, Some((lo, hi))) => format!("{lo:.1e} to {hi:.1e}"),
            (true, None) => "not bounded on both sides".to_owned(),
        };
        vec![
            format!("{} {}", si(s.params), s.init).trim_end().to_owned(),
            si(s.tokens),
            si(s.batch),
            if s.found() { format!("{:.2e}", s.rate()) } else { "–".to_owned() },
            ends,
            format!("{:.4}", s.bottom.y),
            count(s.points.len(), "run"),
        ]
    };
    Grid {
        caption: "The best rate of each sweep".to_owned(),
        columns: ["N", "D", "B", "best rate", "interval", "loss there", "sweep"].map(str::to_owned).to_vec(),
        rows: sweeps.iter().map(row).collect(),
    }
}

fn claims(laws: &Exponents) -> Vec<Verdict> {
    let exponent = |claim: &str, source: &str, found: &Option<Estimate>, published: f64| {
        let (ruling, why) = match found {
            Some(e) if e.ends.is_none() => (Ruling::CannotTell, "one size has no interval".to_owned()),
            Some(e) if e.holds(published) => match e.holds(0.0) {
                true => {
                    (Ruling::CannotTell, "its interval holds the published exponent, and zero too".to_owned())
                }
                false => {
                    (Ruling::Reproduced, "its interval holds the published exponent and not zero".to_owned())
                }
            },
            Some(_) => (Ruling::NotReproduced, "its interval excludes the published exponent".to_owned()),
            None => {
                (Ruling::CannotTell, "too few sweeps have their best rate inside what was tried".to_owned())
            }
        };
        verdict(claim, source, maybe(found.as_ref(), 2), ruling, why)
    };
    let source = "Li et al. 2025, arXiv 2503.04715, for 60 M to 1 B parameters";
    let mut verdicts = vec![
        exponent("The best rate falls as N^−0.713", source, &laws.size, STEP_LAW.0),
        exponent("The best rate rises with tokens as D^0.307", source, &laws.length, STEP_LAW.1),
        exponent(
            "The best rate falls as one over the width",
            "Yang et al. 2022, arXiv 2203.03466: μP scales Adam's rate so",
            &laws.width,
            -1.0,
        ),
    ];
    if laws.batch.is_some() {
        verdicts.push(exponent(
            "The best rate rises as the square root of the batch",
            "Malladi et al. 2022, arXiv 2205.10287, for Adam",
            &laws.batch,
            0.5,
        ));
    }
    verdicts
}

/// Whether a run has the rule's own rate, or the multiple nearest to it, at the smallest batch that was tried.
pub(super) fn is_base(study: &Study, run: &RunSpec) -> bool {
    let smallest = study.runs.iter().filter_map(|r| r.arm_number("batch")).fold(f64::INFINITY, f64::min);
    let from_one = |run: &RunSpec| run.arm_number("rate").map_or(f64::INFINITY, |rate| rate.ln().abs());
    let nearest = study.runs.iter().map(from_one).fold(f64::INFINITY, f64::min);
    let init = |run: &RunSpec| run.arm.get("init").cloned();
    run.arm_number("batch") == Some(smallest) && from_one(run) == nearest && init(run) == init(&study.runs[0])
}
