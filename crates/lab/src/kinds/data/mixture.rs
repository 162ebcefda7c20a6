//! How sources are best mixed: the mixing law L = c + k·exp(Σ t_j·r_j) of each source's held-out loss (Ye et al. 2024,
//! arXiv:2403.16952) at every size and length, what it says of a mixture that it was not fitted to, and the weight at
//! which the mean of the losses is lowest.

use super::compare::levels;
use crate::kinds::words::{self, LEVEL, interval, list, maybe, verdict};
use crate::kinds::{Findings, Finished, Found};
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, mean};
use isoflop_laws::{FitRecord, Row, Table, evaluate};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section, Verdict};

/// Weights that are tried on the fitted laws.
const GRID: usize = 200;

/// The mixing law of one source's held-out loss.
struct SourceLaw {
    source: String,
    fit: FitRecord,
    /// (share of the first source, loss) of the runs it was fitted to.
    points: Vec<(f64, f64)>,
}

/// The laws of one size and seed at one length, a law for each source that is scored.
struct Cell {
    params: f64,
    tokens: f64,
    seed: u64,
    /// Of each source that is scored.
    laws: Vec<SourceLaw>,
    /// ln observed − ln predicted at held-out mixtures, over all sources.
    errors: Vec<f64>,
    /// Share of the first source at which the mean of the losses is lowest.
    best: f64,
}

/// The section on mixtures of two sources; nothing where the study has none.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let Some(mix) = found.study.runs.iter().find_map(|run| {
        run.arm.get("mix")?;
        run.data.mix.as_ref()
    }) else {
        return Findings::default();
    };
    let names: Vec<&str> = mix.sources.iter().map(|s| s.name.as_str()).collect();
    let mut section = Section {
        id: "mixture".to_owned(),
        title: "How the sources are best mixed".to_owned(),
        ..Section::default()
    };
    let [first, second] = names[..] else { return super::several::findings(found, &names, section) };
    let axis = format!("share_{first}");
    let cells = cells(found, |own, place| cell(found, own, &axis, place));
    if cells.is_empty() {
        section
            .paragraphs
            .push("Nothing can be said yet: a law needs four mixtures of one size and length.".to_owned());
        return Findings { sections: vec![section], ..Findings::default() };
    }
    section.charts.extend(chart(&cells, first));
    section.tables.push(table(&cells, first));
    let verdicts = claims(&cells);
    let title = match best(&cells) {
        Some(best) => {
            let share = interval(&best.map(|x| 100.0 * x), 0);
            format!("The mean of both losses is lowest with {share} % of {first}")
        }
        None => format!("How {first} and {second} are best mixed cannot be said"),
    };
    let answer = words::answer(title, answer(&cells, first, second));
    Findings { answer, sections: vec![section], verdicts }
}

/// Losses of a point by source.
pub(super) fn losses(f: &Finished<'_>) -> Vec<(String, f64)> {
    let Some(mix) = &f.run.data.mix else { return Vec::new() };
    let own = mix.held_out.first().map(|i| (mix.sources[*i].name.clone(), f.point.loss));
    own.into_iter().chain(f.point.held_out.iter().map(|l| (l.name.clone(), l.loss))).collect()
}

/// Size, length and seed.
pub(super) type Place = (f64, f64, u64);

/// What `cell` makes of the points of each size, length and seed.
pub(super) fn cells<'a, C>(found: &Found<'a>, cell: impl Fn(&[&Finished<'a>], Place) -> Option<C>) -> Vec<C> {
    let mut seeds: Vec<u64> = found.points.iter().map(|f| f.run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let mut out = Vec::new();
    for params in levels(found, |f| Some(f.point.params as f64)) {
        for tokens in levels(found, |f| Some(f.point.tokens as f64)) {
            for &seed in &seeds {
                let of_cell = |f: &&Finished<'_>| {
                    f.point.params as f64 == params
                        && isoflop_laws::table::same_level(f.point.tokens as f64, tokens)
                        && f.run.seed == seed
                };
                let own: Vec<&Finished<'a>> = found.points.iter().filter(of_cell).collect();
                out.extend(cell(&own, (params, tokens, seed)));
            }
        }
    }
    out
}

fn cell(found: &Found<'_>, own: &[&Finished<'_>], axis: &str, (params, tokens, seed): Place) -> Option<Cell> {
    let sources: Vec<String> = losses(own.first()?).into_iter().map(|(name, _)| name).collect();
    let options = found.options_of("mixture");
    let of_source = |source: &String, held_out: bool| -> Vec<(f64, f64)> {
        own.iter()
            .filter(|f| f.run.arm.contains_key("held_out") == held_out)
            .filter_map(|f| {
                let loss = losses(f).into_iter().find(|(name, _)| name == source)?.1;
                Some((f.arm_number(axis)?, loss))
            })
            .collect()
    };
    let mut laws = Vec::new();
    let mut errors = Vec::new();
    for source in &sources {
        let points = of_source(source, false);
        let rows = points.iter().enumerate().map(|(i, (share, loss))| {
            let mut row = Row::of(i + 1, params, tokens, *loss);
            row.extra.insert("p".to_owned(), *share);
            row
        });
        let table = Table { rows: rows.collect(), ..Table::default() };
        let fit = isoflop_laws::fit(&table, &options).ok()?.fits.into_iter().next()?;
        for (share, loss) in of_source(source, true) {
            errors.push(loss.ln() - at(&fit, share)?.ln());
        }
        laws.push(SourceLaw { source: source.clone(), fit, points });
    }
    let total = |share: f64| laws.iter().map(|law| at(&law.fit, share).unwrap_or(f64::INFINITY)).sum::<f64>();
    let shares = (0..=GRID).map(|i| i as f64 / GRID as f64);
    let best = shares.min_by(|a, b| total(*a).total_cmp(&total(*b)))?;
    Some(Cell { params, tokens, seed, laws, errors, best })
}

fn at(fit: &FitRecord, share: f64) -> Option<f64> {
    evaluate(fit, &|name| (name == "p").then_some(share)).map(|band| band.value)
}

/// The best share at the largest length, over sizes and seeds.
fn best(cells: &[Cell]) -> Option<Estimate> {
    let longest = cells.iter().map(|c| c.tokens).fold(0.0, f64::max);
    mean(&cells.iter().filter(|c| c.tokens == longest).map(|c| c.best).collect::<Vec<_>>(), LEVEL)
}

/// Error of ln L at held-out mixtures: the root of the mean square of each size and seed.
fn held_out(cells: &[Cell]) -> Vec<f64> {
    cells.iter().filter_map(|c| root_mean_square(&c.errors)).collect()
}

pub(super) fn root_mean_square(errors: &[f64]) -> Option<f64> {
    let squares: f64 = errors.iter().map(|e| e * e).sum();
    (!errors.is_empty()).then(|| (squares / errors.len() as f64).sqrt())
}

fn answer(cells: &[Cell], first: &str, second: &str) -> String {
    let errors = held_out(cells);
    let tested = match errors.is_empty() {
        true => "No mixture was held out to test the law.".to_owned(),
        false => format!(
            "A mixture it was not fitted to is predicted within {:.2} % on average, {:.2} % at the worst.",
            100.0 * errors.iter().sum::<f64>() / errors.len() as f64,
            100.0 * errors.iter().copied().fold(0.0, f64::max)
        ),
    };
    format!(
        "The mean of the losses of {first} and {second} is lowest at the largest length with {} % of {first} (95 %, over {} \
         sizes and seeds). {tested}",
        maybe(best(cells).map(|b| b.map(|x| 100.0 * x)).as_ref(), 0),
        best(cells).map_or(0, |b| b.units),
    )
}

/// The losses and laws of the largest size at the largest length, seed by seed.
fn chart(cells: &[Cell], first: &str) -> Option<Chart> {
    let size = cells.iter().map(|c| c.params).fold(0.0, f64::max);
    let longest = cells.iter().filter(|c| c.params == size).map(|c| c.tokens).fold(0.0, f64::max);
    let chosen: Vec<&Cell> = cells.iter().filter(|c| c.params == size && c.tokens == longest).collect();
    let several = chosen.len() > 1;
    let mut series = Vec::new();
    for cell in &chosen {
        for SourceLaw { source, fit, points } in &cell.laws {
            let line = (0..=20).map(|i| f64::from(i) / 20.0).filter_map(|p| Some((p, at(fit, p)?))).collect();
            series.push(ChartSeries {
                name: if several { format!("{source}, seed {}", cell.seed) } else { source.clone() },
                points: points.iter().map(|(x, y)| ChartPoint { x: *x, y: *y, interval: None }).collect(),
                line,
            });
        }
    }
    (!series.is_empty()).then(|| Chart {
        title: format!("Loss of each source's held-out text at N = {}, D = {}.", si(size), si(longest)),
        caption: "Marks: runs; lines: the mixing law fitted to them.".to_owned(),
        x: ChartAxis { label: format!("share of {first}"), log: false },
        y: ChartAxis { label: "loss, nats per token".to_owned(), log: false },
        series,
    })
}

fn table(cells: &[Cell], first: &str) -> Grid {
    let longest = cells.iter().map(|c| c.tokens).fold(0.0, f64::max);
    let row = |c: &Cell| {
        let rate = |SourceLaw { source, fit, .. }: &SourceLaw| {
            let k = fit.params.get("k")?;
            let ends = k.lo.zip(k.hi).map_or_else(String::new, |(lo, hi)| format!(" ({lo:.1} to {hi:.1})"));
            Some(format!("{source} {:.1}{ends}", k.value).replace('-', "−"))
        };
        let errors = held_out(std::slice::from_ref(c));
        vec![
            si(c.params),
            c.seed.to_string(),
            format!("{:.0} %", 100.0 * c.best),
            list(&c.laws.iter().filter_map(rate).collect::<Vec<_>>()),
            errors.first().map_or_else(|| "–".to_owned(), |e| format!("{:.2} %", 100.0 * e)),
        ]
    };
    Grid {
        caption: format!("The mixing law at {} tokens", si(longest)),
        columns: vec![
            "N".to_owned(),
            "seed".to_owned(),
            format!("best share of {first}"),
            format!("rate of each loss in the share of {first}"),
            "error at held-out mixtures".to_owned(),
        ],
        rows: cells.iter().filter(|c| c.tokens == longest).map(row).collect(),
    }
}

fn claims(cells: &[Cell]) -> Vec<Verdict> {
    let source = "Ye et al. 2024, arXiv 2403.16952";
    let errors = held_out(cells);
    let mut verdicts = Vec::new();
    if let Some(error) = mean(&errors, LEVEL) {
        let (ruling, why) = super::several::predicts(&error);
        verdicts.push(verdict(
            "The exponential mixing law predicts mixtures it was not fitted to",
            source,
            format!("error of the loss {} %", interval(&error.map(|e| 100.0 * e), 2)),
            ruling,
            why,
        ));
    }
    // Whether small models can choose the weights of larger ones.
    let longest = cells.iter().map(|c| c.tokens).fold(0.0, f64::max);
    let (x, y): (Vec<f64>, Vec<f64>) =
        cells.iter().filter(|c| c.tokens == longest).map(|c| (c.params.ln(), c.best)).unzip();
    let drift = isoflop_laws::arms::slope(&x, &y, LEVEL);
    let (ruling, why) = match drift {
        Some(d) if d.ends.is_none() => (Ruling::CannotTell, "too few runs for an interval"),
        Some(d) if d.is_above(0.0) || d.is_below(0.0) => {
            (Ruling::NotReproduced, "the best share moves with the size")
        }
        Some(d) if d.half_width().is_some_and(|h| h * std::f64::consts::LN_10 < 0.1) => {
            (Ruling::Reproduced, "it moves by less than ten points in ten times the size")
        }
        _ => (Ruling::CannotTell, "ten times the size could move it by more than ten points"),
    };
    verdicts.push(verdict(
        "The best weights of small models are those of larger ones",
        source,
        format!(
            "change for ten times the size: {}",
            maybe(drift.map(|d| d.map(|s| s * std::f64::consts::LN_10)).as_ref(), 2)
        ),
        ruling,
        why,
    ));
    verdicts
}
