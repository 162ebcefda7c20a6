//! The law forming: what is finished, fitted by the code that draws the report, and drawn further to the sizes that are
//! still to come.

use isoflop_base::units::si;
use isoflop_base::{Point, Status};
use isoflop_lab::collect;
use isoflop_laws::forecast::{Target, evaluate, forecast};
use isoflop_laws::table::same_level;
use isoflop_laws::{FitRecord, LawDocument, Options, Table};
use isoflop_store::{Collected, Store};
use serde::Serialize;
use std::time::Instant;

/// Places at which a line is drawn.
const SAMPLES: usize = 41;
/// How far beyond the largest size a line is drawn, where nothing larger is planned.
const BEYOND: f64 = 2.0;
/// Lines of a figure at most.
const MOST_LINES: usize = 12;

/// What is asked of the fit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The study's name.
    pub study: String,
    /// Runs the laws are of.
    pub runs: Vec<String>,
    /// N and D of what is planned and not finished, the largest last.
    pub planned: Vec<(f64, f64)>,
}

/// The law of a study so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Law {
    /// Loss against N, D and C.
    pub figures: Vec<Figure>,
    /// The exponents and the forecast in words.
    pub words: Vec<String>,
    /// Why there is no law yet.
    pub why: Option<String>,
    /// Points that were fitted.
    pub points: usize,
    /// Seconds the fit took.
    pub took_s: f64,
    /// What losses are in.
    pub unit: String,
    /// The next run's loss before it is there.
    pub forecast: Option<Ahead>,
}

/// Loss against one quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `n`, `d` or `c`.
    pub against: &'static str,
    /// One for each level of the other quantity.
    pub groups: Vec<Group>,
}

/// Points at one level, with the law through them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// `D = 3.00 M`.
    pub name: String,
    /// The other quantity.
    pub level: f64,
    /// The fitted exponent with its interval.
    pub exponent: Option<String>,
    /// Finished points.
    pub points: Vec<Mark>,
    /// x, law, its band, and the band of one new run; what does not exist is null.
    pub line: Vec<[Option<f64>; 6]>,
}

/// A finished point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Where it stands.
    pub x: f64,
    /// Its loss.
    pub y: f64,
    /// Its standard error.
    pub se: Option<f64>,
    /// Its run.
    pub run: String,
}

/// A forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ahead {
    /// Parameters.
    pub n: f64,
    /// Tokens.
    pub d: f64,
    /// Loss.
    pub loss: f64,
    /// Interval of one new run.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
}

/// Which quantity loss is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Params,
    Tokens,
    Compute,
}

/// Reads the runs' points and fits them. Takes as long as a fit does; `None` without a store.
pub fn fit(root: &std::path::Path, asked: &Asked) -> Option<Law> {
    let began = Instant::now();
    let store = Store::open_existing(root).ok()?;
    let collected = store.collect_begun(&asked.runs).ok()?;
    let mut law = of(collected, &asked.planned);
    law.took_s = began.elapsed().as_secs_f64();
    Some(law)
}

/// The law of what runs have left.
pub fn of(collected: Collected, planned: &[(f64, f64)]) -> Law {
    // One thread, so that a fit takes no more than one core from a run.
    let options = Options { threads: 1, ..Options::default() };
    let points = finished(&collected);
    let (document, why) = collect::laws_so_far(collected, &options);
    let table = Table::from_points(points.iter().map(|point| (point, &Status::Done)));
    let unit = document.fits.first().map_or_else(|| table.loss_unit.clone(), |fit| fit.loss_unit.clone());
    let mut law = Law {
        points: points.len(),
        why: why.map(|e| e.to_string().lines().next().unwrap_or_default().to_owned()),
        unit: if unit.is_empty() { "nats per token".to_owned() } else { unit },
        figures: figures(&points, &document, planned),
        ..Law::default()
    };
    law.forecast = ahead(&table, planned, &options);
    law.words = words(&document, law.forecast.as_ref());
    law
}

/// Finished points whose runs did not come to a bad end.
fn finished(collected: &Collected) -> Vec<Point> {
    let sound = |status: &Status| !matches!(status, Status::Diverged { .. } | Status::Failed { .. });
    let runs = collected.runs.iter().filter(|run| sound(&run.status));
    runs.flat_map(|run| run.points.iter().cloned()).collect()
}

fn figures(points: &[Point], laws: &LawDocument, planned: &[(f64, f64)]) -> Vec<Figure> {
    let figure = |against: Against| {
        let groups = groups(points, laws, against, planned);
        (!groups.is_empty()).then(|| Figure { against: against.word(), groups })
    };
    [Against::Params, Against::Tokens, Against::Compute].into_iter().filter_map(figure).collect()
}

impl Against {
    fn word(self) -> &'static str {
        match self {
            Self::Params => "n",
            Self::Tokens => "d",
            Self::Compute => "c",
        }
    }

    fn x(self, point: &Point) -> f64 {
        match self {
            Self::Params => point.params as f64,
            Self::Tokens => point.tokens as f64,
            Self::Compute => point.flops,
        }
    }

    /// The quantity that is the same along a line.
    fn level(self, point: &Point) -> f64 {
        match self {
            Self::Params => point.tokens as f64,
            Self::Tokens => point.params as f64,
            Self::Compute => 0.0,
        }
    }

    fn fit(self, laws: &LawDocument, level: f64) -> Option<&FitRecord> {
        let (form, key) = match self {
            Self::Params => ("l_n", "tokens"),
            Self::Tokens => ("l_d", "params"),
            Self::Compute => ("l_c", ""),
        };
        laws.fits.iter().find(|fit| {
            fit.form == form
                && fit.variant == "pure"
                && (key.is_empty() || fit.condition.get(key).is_none_or(|at| same_level(*at, level)))
        })
    }

    /// The largest x to come.
    fn planned(self, planned: &[(f64, f64)]) -> f64 {
        let x = |(n, d): &(f64, f64)| match self {
            Self::Params => *n,
            Self::Tokens => *d,
            Self::Compute => 6.0 * n * d,
        };
        planned.iter().map(x).fold(0.0, f64::max)
    }
}

/// Points by the level of the other quantity, each with its law.
fn groups(points: &[Point], laws: &LawDocument, against: Against, planned: &[(f64, f64)]) -> Vec<Group> {
    let mut levels: Vec<f64> = points.iter().map(|point| against.level(point)).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup_by(|b, a| *a == *b || same_level(*a, *b));
    let all = || points.iter().map(|point| against.x(point)).filter(|x| *x > 0.0);
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(0.0, f64::max);
    let high = against.planned(planned).max(high * BEYOND);
    let at =
        |level: f64, point: &&Point| against.level(point) == level || same_level(against.level(point), level);
    let mut groups: Vec<Group> = levels
        .into_iter()
        .map(|level| {
            let marks = points.iter().filter(|point| at(level, point)).map(|point| Mark {
                x: against.x(point),
                y: point.loss,
                se: point.loss_se,
                run: point.run.clone(),
            });
            let fit = against.fit(laws, level);
            let name = match against {
                Against::Params => format!("D = {}", si(level)),
                Against::Tokens => format!("N = {}", si(level)),
                Against::Compute => "finished points".to_owned(),
            };
            Group {
                name,
                level,
                exponent: fit.and_then(exponent),
                points: marks.collect(),
                line: fit.map(|fit| line(fit, against, level, low, high)).unwrap_or_default(),
            }
        })
        .collect();
    // Of very many levels, those with most points are drawn.
    if groups.len() > MOST_LINES {
        let mut counts: Vec<usize> = groups.iter().map(|g| g.points.len()).collect();
        counts.sort_by(|a, b| b.cmp(a));
        let least = counts[MOST_LINES - 1];
        groups.retain(|group| group.points.len() >= least);
        groups.truncate(MOST_LINES);
    }
    groups
}

/// The law from the smallest to the largest x, evenly on a logarithmic axis.
fn line(fit: &FitRecord, against: Against, level: f64, low: f64, high: f64) -> Vec<[Option<f64>; 6]> {
    let step = (high / low).ln() / (SAMPLES - 1) as f64;
    let at = |i: usize| low * (step * i as f64).exp();
    let value = |x: f64| {
        let of = |name: &str| match (name, against) {
            ("n", Against::Params) | ("d", Against::Tokens) | ("c", Against::Compute) => Some(x),
            ("n", Against::Tokens) | ("d", Against::Params) => Some(level),
            _ => None,
        };
        let band = evaluate(fit, &of)?;
        Some([Some(x), Some(band.value), band.lo, band.hi, band.run_lo, band.run_hi])
    };
    (0..SAMPLES).map(at).filter(|x| x.is_finite()).filter_map(value).collect()
}

fn exponent(fit: &FitRecord) -> Option<String> {
    let (name, estimate) =
        fit.params.iter().find(|(name, _)| name.starts_with("alpha") || name.starts_with("beta"))?;
    let ends = match (estimate.lo, estimate.hi) {
        (Some(lo), Some(hi)) => format!(" ({lo:.3} to {hi:.3})"),
        _ => String::new(),
    };
    Some(format!("{name} {:.3}{ends}", estimate.value))
}

/// The largest of what is to come, forecast.
fn ahead(table: &Table, planned: &[(f64, f64)], options: &Options) -> Option<Ahead> {
    let (n, d) = *planned.last()?;
    let of = forecast(table, &[Target { n, d }], options).ok()?.pop()?;
    of.loss.is_finite().then_some(Ahead { n, d, loss: of.loss, lo: of.lo, hi: of.hi })
}

fn words(laws: &LawDocument, ahead: Option<&Ahead>) -> Vec<String> {
    let joint = laws.fits.iter().find(|fit| fit.form == "l_nd_chinchilla");
    let mut out: Vec<String> = joint
        .map(|fit| {
            let params: Vec<String> = fit
                .params
                .iter()
                .map(|(name, p)| match (p.lo, p.hi) {
                    (Some(lo), Some(hi)) => format!("{name} {:.3} ({lo:.3} to {hi:.3})", p.value),
                    _ => format!("{name} {:.3}", p.value),
                })
                .collect();
            format!("{}: {}", fit.formula, params.join(", "))
        })
        .into_iter()
        .collect();
    if let Some(a) = ahead {
        let ends = match (a.lo, a.hi) {
            (Some(lo), Some(hi)) => format!(" ({lo:.4} to {hi:.4})"),
            _ => String::new(),
        };
        out.push(format!("forecast for N = {}, D = {}: {:.4}{ends}", si(a.n), si(a.d), a.loss));
    }
    out
}
