//! How often text can be read again: runs on few unique tokens beside runs on fresh text of the same size, length and
//! seed.

use super::compare::{Unit, at, curve, is_clean, levels, units};
use crate::kinds::words::{self, LEVEL, interval, list, maybe, verdict};
use crate::kinds::{Findings, Found};
use isoflop_base::study::RunSpec;
use isoflop_base::units::si;
use isoflop_laws::FitRecord;
use isoflop_laws::arms::{Estimate, mean, slope};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};

/// Muennighoff et al. 2023, arXiv:2305.16264.
const R_STAR: f64 = 15.39;
/// Epochs up to which they find repeats to be nearly as good as fresh text.
const NEARLY_FRESH: f64 = 4.0;
/// A loss this much above that of fresh text is no longer nearly as good: 1 %, in ln L.
const NEARLY: f64 = 0.01;

/// The excess of ln L over fresh text at one number of epochs.
struct Excess {
    epochs: f64,
    all: Estimate,
    by_size: Vec<(u64, Estimate)>,
    /// N and excess of each unit.
    units: Vec<(u64, f64)>,
}

/// The section on repetition and its claims; nothing where the study has no such arms.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let unique = uniques(found);
    if unique.is_empty() {
        return Findings::default();
    }
    let excess = excess(found, &unique);
    let law = law(found);
    let mut section = Section {
        id: "repeat".to_owned(),
        title: "How often text can be read again".to_owned(),
        ..Section::default()
    };
    if excess.is_empty() {
        section.paragraphs.push(
            "Nothing can be said yet: no finished run on few unique tokens has a finished run on fresh text beside it."
                .to_owned(),
        );
        return Findings { sections: vec![section], ..Findings::default() };
    }
    let turns = turns(found, &unique);
    section.paragraphs.push(turns_in_words(&turns));
    section.paragraphs.extend(decays(found, &unique));
    section.charts.push(chart(&excess));
    section.tables.push(excess_table(&excess));
    section.tables.push(turn_table(&turns));
    let verdicts = claims(&excess, law.as_ref(), &turns);
    let answer = words::answer(title(&excess), answer(found, &excess, law.as_ref()));
    Findings { answer, sections: vec![section], verdicts }
}

/// Numbers of unique tokens, ascending.
fn uniques(found: &Found<'_>) -> Vec<f64> {
    levels(found, |f| f.run.arm_number("unique"))
}

fn is_of(run: &RunSpec, unique: f64) -> bool {
    run.arm_number("unique") == Some(unique) && !run.arm.contains_key("weight_decay")
}

/// The excess over fresh text by epochs, of all units and by size; each unit once by its mean.
fn excess(found: &Found<'_>, unique: &[f64]) -> Vec<Excess> {
    let mut cells: Vec<(f64, Unit, f64)> = Vec::new();
    for unit in units(found) {
        let fresh = curve(found, unit, is_clean);
        for &u in unique {
            for (tokens, loss) in curve(found, unit, |run| is_of(run, u)) {
                // A trunk's few steps more or less are no other number of epochs.
                let epochs = (tokens / u * 100.0).round() / 100.0;
                if epochs > 1.05
                    && let Some(clean) = at(&fresh, tokens)
                {
                    cells.push((epochs, unit, loss.ln() - clean.ln()));
                }
            }
        }
    }
    let mut epochs: Vec<f64> = cells.iter().map(|c| c.0).collect();
    epochs.sort_by(f64::total_cmp);
    epochs.dedup_by(|b, a| (*b / *a - 1.0).abs() < 0.05);
    let of_units = |e: f64, keep: &dyn Fn(Unit) -> bool| -> Vec<(u64, f64)> {
        let near: Vec<&(f64, Unit, f64)> =
            cells.iter().filter(|c| (c.0 / e - 1.0).abs() < 0.05 && keep(c.1)).collect();
        let mut own: Vec<Unit> = near.iter().map(|c| c.1).collect();
        own.sort_unstable();
        own.dedup();
        let of_unit = |unit: &Unit| {
            let all: Vec<f64> = near.iter().filter(|c| c.1 == *unit).map(|c| c.2).collect();
            (unit.params, all.iter().sum::<f64>() / all.len() as f64)
        };
        own.iter().map(of_unit).collect()
    };
    let of = |e: f64, keep: &dyn Fn(Unit) -> bool| {
        mean(&of_units(e, keep).into_iter().map(|(_, x)| x).collect::<Vec<_>>(), LEVEL)
    };
    let mut sizes: Vec<u64> = cells.iter().map(|c| c.1.params).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let row = |epochs: f64| {
        let by_size = sizes.iter().filter_map(|n| Some((*n, of(epochs, &|unit| unit.params == *n)?)));
        let units = of_units(epochs, &|_| true);
        Some(Excess { epochs, all: of(epochs, &|_| true)?, by_size: by_size.collect(), units })
    };
    epochs.into_iter().filter_map(row).collect()
}

/// The law of effective data, fitted to fresh and repeated runs.
fn law(found: &Found<'_>) -> Option<FitRecord> {
    let mut table = found.table(|run| !run.arm.contains_key("weight_decay"));
    for row in &mut table.rows {
        // What a run can have seen at the most: the law's U is what there is, not what was seen by then.
        let run = found.study.runs.iter().find(|run| run.id == row.run)?;
        let all = run.arm_number("unique").unwrap_or(run.data.train_tokens as f64);
        row.extra.insert("unique_tokens".to_owned(), row.d?.min(all));
    }
    let options = found.options_of("repeat");
    let document = isoflop_laws::fit(&table, &options).ok()?;
    document.fits.into_iter().find(|fit| fit.variant == "data")
}

/// R*, and its interval where it is identified.
fn r_star(law: Option<&FitRecord>) -> Option<(f64, Option<(f64, f64)>)> {
    let law = law?;
    let estimate = law.params.get("R_star_D")?;
    let identified = law.identified.get("R_star_D").copied().unwrap_or(false);
    Some((estimate.value, estimate.lo.zip(estimate.hi).filter(|_| identified)))
}

/// R* in words: one far beyond the repeats that were tried says that nothing is lost by repeating.
fn best_value(r_star: f64) -> String {
    if r_star > 1e4 { "no loss of worth".to_owned() } else { format!("{r_star:.1}") }
}

/// How often text can be read, in one sentence.
fn title(excess: &[Excess]) -> String {
    let times = |e: &Excess| format!("{:.0}", e.epochs);
    let cost = |e: &Excess| format!("{:.1} %", 100.0 * e.all.value.exp_m1());
    let fresh = excess.iter().take_while(|e| e.all.is_below(NEARLY)).last();
    // One that is above by luck is followed by others that are not.
    let costly = excess.iter().rev().take_while(|e| e.all.is_above(0.0)).last();
    let most = excess.last().expect("not empty");
    match (fresh, costly) {
        (Some(fresh), Some(costly)) => {
            let last = match most.epochs > costly.epochs {
                true => format!(", {} times {}", times(most), cost(most)),
                false => String::new(),
            };
            format!(
                "Text read {} times is fresh to within 1 %; read {} times it costs {} of loss{last}",
                times(fresh),
                times(costly),
                cost(costly)
            )
        }
        (Some(fresh), None) if fresh.epochs < most.epochs => format!(
            "Text read {} times is fresh to within 1 %; what more costs, to {} times, cannot be told from nothing",
            times(fresh),
            times(most)
        ),
        (Some(fresh), None) => format!("Text read {} times is fresh to within 1 %", times(fresh)),
        (None, Some(costly)) => format!("Text read {} times costs {} of loss", times(costly), cost(costly)),
        (None, None) => {
            format!("What reading text {} times costs cannot be told from nothing", times(most))
        }
    }
}

fn answer(found: &Found<'_>, excess: &[Excess], law: Option<&FitRecord>) -> String {
    let percent = |e: &Estimate| interval(&e.map(|x| 100.0 * (x.exp() - 1.0)), 1);
    let one = |e: &Excess| format!("{} % after {:.0} epochs", percent(&e.all), e.epochs);
    let worth = match r_star(law) {
        Some((value, Some((lo, hi)))) => format!(
            "In the law of effective data a repeated token has lost 63 % of its worth after R* = {value:.1} repeats \
             ({lo:.1} to {hi:.1}); the published value is {R_STAR}."
        ),
        Some((value, None)) => format!(
            "R* of the law of effective data is not identified here (best value {}; published {R_STAR}).",
            best_value(value)
        ),
        None => "The law of effective data could not be fitted.".to_owned(),
    };
    format!(
        "Read again instead of fresh text, the loss of held-out text is higher by {}. {worth} (Intervals of 95 % over sizes \
         and seeds: {} of them.)",
        list(&excess.iter().map(one).collect::<Vec<_>>()),
        units(found).len()
    )
}

/// Where a size's held-out loss is lowest on so many unique tokens.
struct Turn {
    params: u64,
    unique: f64,
    /// Epochs at the lowest loss, and whether a longer run was worse.
    epochs: f64,
    turned: bool,
    seeds: usize,
}

/// Mean of the seeds, by size and unique tokens.
fn turns(found: &Found<'_>, unique: &[f64]) -> Vec<Turn> {
    let units = units(found);
    let mut sizes: Vec<u64> = units.iter().map(|u| u.params).collect();
    sizes.dedup();
    let mut out = Vec::new();
    for &u in unique {
        for &params in &sizes {
            let curves: Vec<Vec<(f64, f64)>> = units
                .iter()
                .filter(|unit| unit.params == params)
                .map(|unit| curve(found, *unit, |run| is_of(run, u)))
                .filter(|c| !c.is_empty())
                .collect();
            let Some(first) = curves.first() else { continue };
            let average = |tokens: f64| {
                let all: Vec<f64> = curves.iter().filter_map(|c| at(c, tokens)).collect();
                (all.len() == curves.len()).then(|| all.iter().sum::<f64>() / all.len() as f64)
            };
            let means: Vec<(f64, f64)> = first.iter().filter_map(|(d, _)| Some((*d, average(*d)?))).collect();
            let Some(lowest) = means.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            let turned = means.last().is_some_and(|last| last.0 > lowest.0);
            out.push(Turn { params, unique: u, epochs: lowest.0 / u, turned, seeds: curves.len() });
        }
    }
    out
}

fn turns_in_words(turns: &[Turn]) -> String {
    let turned: Vec<&Turn> = turns.iter().filter(|t| t.turned).collect();
    if turned.is_empty() {
        return "Held-out loss fell to the last point of every run: nowhere did repetition make it turn up."
            .to_owned();
    }
    let one = |t: &&Turn| {
        format!("after {:.0} epochs of {} tokens at N = {}", t.epochs, si(t.unique), si(t.params as f64))
    };
    format!("Held-out loss is lowest, and turns up, {}.", list(&turned.iter().map(one).collect::<Vec<_>>()))
}

/// Whether another weight decay helps against repetition.
fn decays(found: &Found<'_>, unique: &[f64]) -> Option<String> {
    let fewest = *unique.first()?;
    let decays = levels(found, |f| f.arm_number("weight_decay"));
    let longest = levels(found, |f| Some(f.point.tokens as f64)).last().copied()?;
    let one = |decay: &f64| {
        let mut difference = Vec::new();
        for unit in units(found) {
            let with = curve(found, unit, |run| {
                run.arm_number("unique") == Some(fewest) && run.arm_number("weight_decay") == Some(*decay)
            });
            let without = curve(found, unit, |run| is_of(run, fewest));
            difference.extend(at(&with, longest).zip(at(&without, longest)).map(|(a, b)| a - b));
        }
        let change = mean(&difference, LEVEL)?;
        let says = match (change.is_below(0.0), change.is_above(0.0)) {
            (true, _) => "it helps",
            (_, true) => "it harms",
            _ => "no effect is seen",
        };
        Some(format!("a weight decay of {decay} changes the loss by {} nats, {says}", interval(&change, 4)))
    };
    let parts: Vec<String> = decays.iter().filter_map(one).collect();
    (!parts.is_empty())
        .then(|| format!("At {:.0} epochs of {} tokens {}.", longest / fewest, si(fewest), list(&parts)))
}

fn chart(excess: &[Excess]) -> Chart {
    let percent = |e: &Estimate| e.map(|x| 100.0 * (x.exp() - 1.0));
    let mut sizes: Vec<u64> = excess.iter().flat_map(|e| e.by_size.iter().map(|(n, _)| *n)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let series = |n: &u64| {
        let points: Vec<ChartPoint> = excess
            .iter()
            .filter_map(|e| {
                let own = percent(&e.by_size.iter().find(|(m, _)| m == n)?.1);
                Some(ChartPoint { x: e.epochs, y: own.value, interval: None })
            })
            .collect();
        let line = points.iter().map(|p| (p.x, p.y)).collect();
        ChartSeries { name: format!("N = {}", si(*n as f64)), points, line }
    };
    let all = |e: &Excess| {
        let own = percent(&e.all);
        ChartPoint { x: e.epochs, y: own.value, interval: own.ends }
    };
    let all = ChartSeries {
        name: "all sizes, 95 %".to_owned(),
        points: excess.iter().map(all).collect(),
        line: Vec::new(),
    };
    Chart {
        title: "What repetition costs.".to_owned(),
        caption: "Loss above that of the run of the same size, length and seed on fresh text, against passes over the unique \
                  tokens; means over seeds and numbers of unique tokens. Lines join a size's means, which have no bars: two \
                  seeds bound nothing."
            .to_owned(),
        x: ChartAxis { label: "epochs".to_owned(), log: true },
        y: ChartAxis { label: "loss above fresh text, %".to_owned(), log: false },
        series: std::iter::once(all).chain(sizes.iter().map(series)).collect(),
    }
}

fn excess_table(excess: &[Excess]) -> Grid {
    let percent = |e: &Estimate| interval(&e.map(|x| 100.0 * (x.exp() - 1.0)), 2);
    let sizes: Vec<u64> =
        excess.last().map(|e| e.by_size.iter().map(|(n, _)| *n).collect()).unwrap_or_default();
    let mut columns = vec!["epochs".to_owned(), "all sizes".to_owned()];
    columns.extend(sizes.iter().map(|n| format!("N = {}", si(*n as f64))));
    let row = |e: &Excess| {
        let mut cells = vec![format!("{:.1}", e.epochs), percent(&e.all)];
        cells.extend(sizes.iter().map(|n| {
            let own = e.by_size.iter().find(|(m, _)| m == n);
            own.map_or_else(|| "–".to_owned(), |(_, e)| percent(e))
        }));
        cells
    };
    Grid {
        caption: "Loss above that on fresh text, % (95 % over sizes and seeds)".to_owned(),
        columns,
        rows: excess.iter().map(row).collect(),
    }
}

fn turn_table(turns: &[Turn]) -> Grid {
    let row = |t: &Turn| {
        vec![
            si(t.params as f64),
            si(t.unique),
            format!("{:.0}", t.epochs),
            if t.turned { "then turns up" } else { "still falling at the end" }.to_owned(),
            t.seeds.to_string(),
        ]
    };
    Grid {
        caption: "Where held-out loss is lowest".to_owned(),
        columns: ["N", "unique tokens", "epochs at the lowest loss", "and then", "seeds"]
            .map(str::to_owned)
            .to_vec(),
        rows: turns.iter().map(row).collect(),
    }
}

fn claims(excess: &[Excess], law: Option<&FitRecord>, turns: &[Turn]) -> Vec<Verdict> {
    let source = "Muennighoff et al. 2023, arXiv 2305.16264";
    let mut verdicts = Vec::new();
    if let Some(e) = excess
        .iter()
        .min_by(|a, b| (a.epochs / NEARLY_FRESH).ln().abs().total_cmp(&(b.epochs / NEARLY_FRESH).ln().abs()))
    {
        let (ruling, why) = match () {
            () if e.all.is_below(NEARLY) => (Ruling::Reproduced, "the interval lies below 1 %"),
            () if e.all.is_above(NEARLY) => (Ruling::NotReproduced, "the interval lies above 1 %"),
            () => (Ruling::CannotTell, "the interval holds 1 %, or there is none"),
        };
        verdicts.push(verdict(
            "Up to four epochs are nearly as good as fresh text",
            source,
            format!("ln L higher by {} after {:.1} epochs", interval(&e.all, 4), e.epochs),
            ruling,
            why,
        ));
    }
    let (measured, ruling, why) = match r_star(law) {
        Some((value, Some((lo, hi)))) => {
            let inside = (lo..=hi).contains(&R_STAR);
            let why = if inside { "its interval holds it" } else { "its interval excludes it" };
            let ruling = if inside { Ruling::Reproduced } else { Ruling::NotReproduced };
            (format!("R* = {value:.1} ({lo:.1} to {hi:.1})"), ruling, why)
        }
        Some((value, None)) => {
            (format!("R*: {}", best_value(value)), Ruling::CannotTell, "R* is not identified")
        }
        None => ("–".to_owned(), Ruling::CannotTell, "the law could not be fitted"),
    };
    verdicts.push(verdict("Repeats lose their worth with R* of about 15.4", source, measured, ruling, why));
    verdicts.push(larger_sooner(excess, turns));
    verdicts
}

/// That larger models suffer sooner: the excess at the most epochs grows with the size.
fn larger_sooner(excess: &[Excess], turns: &[Turn]) -> Verdict {
    let last = excess.last();
    let (x, y): (Vec<f64>, Vec<f64>) = last
        .map(|e| e.units.iter().map(|(n, excess)| ((*n as f64).ln(), *excess)).unzip())
        .unwrap_or_default();
    let found = slope(&x, &y, LEVEL);
    let turned = turns.iter().filter(|t| t.turned).count();
    let (ruling, why) = match found {
        Some(e) if e.is_above(0.0) => (Ruling::Reproduced, "the excess grows with the size"),
        Some(e) if e.is_below(0.0) => (Ruling::NotReproduced, "the excess falls with the size"),
        _ => (Ruling::CannotTell, "its slope over sizes holds zero, or there are too few sizes"),
    };
    verdict(
        "Larger models suffer sooner from repetition",
        "Hernandez et al. 2022, arXiv 2205.10487; Lovelace et al. 2026, arXiv 2605.01640",
        format!(
            "slope of the excess of ln L on ln N at {:.0} epochs: {}; {turned} of {} curves turn up",
            last.map_or(0.0, |e| e.epochs),
            maybe(found.as_ref(), 4),
            turns.len()
        ),
        ruling,
        why,
    )
}
