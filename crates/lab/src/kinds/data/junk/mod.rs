//! How much junk a law takes. Everything is paired: a run with junk is compared with the clean run of its size and
//! seed, which read the same clean rows in the same order from the same initial values.
//!
//! - What is left of D tokens of which a share q is junk: the clean tokens that reach the same loss, D_eff, read off
//!   the clean curve. g = ln(D_eff/D)/ln(1 − q): 0 if junk does no harm, 1 if it only wastes the tokens it takes, more
//!   if it does harm beyond them.
//! - The exponent: ln L with junk minus ln L without, against ln N. Its slope is how far α_N falls; zero is a constant
//!   offset on log-log axes.
//! - The forms: which law of (N, D, q), fitted without the largest share, forecasts it best.

mod claims;
mod page;
mod tags;

use crate::kinds::data::compare::{Unit, at, curve, is_clean, levels, units, values};
use crate::kinds::words::{LEAST_STEPS, LEVEL, answer, maybe};
use crate::kinds::{Findings, Found};
use isoflop_base::study::RunSpec;
use isoflop_laws::arms::{Estimate, Reached, interpolate, mean, reaches, slope};
use isoflop_laws::evaluate;
use isoflop_report::Section;
use std::collections::BTreeMap;

/// A slope known worse than to this share of the clean exponent tells neither a bend nor its absence.
const TELLS: f64 = 0.5;

/// What was found of one kind of junk.
struct Kind {
    name: String,
    /// g of all units.
    g: Option<Estimate>,
    /// g by share.
    by_share: Vec<(f64, Option<Estimate>)>,
    /// Slope of g on ln N.
    g_on_size: Option<Estimate>,
    /// By share: α at the largest length, and how far it is from the clean one, at equal total and equal clean tokens.
    exponents: Vec<Exponent>,
    /// Points of lengths at which the loss of some is above that of the shortest clean point: g cannot be read off.
    beyond: usize,
    /// What g is above, where at some length every loss is above that of the shortest clean point.
    above: Option<f64>,
    /// g of the law fitted to all rows.
    fitted: Option<Estimate>,
    /// Root mean square error of ln L at the largest share, by form.
    forecasts: Vec<(&'static str, f64)>,
    /// Loss over clean loss at equal clean tokens, by share.
    excess: Vec<(f64, Estimate)>,
}

struct Exponent {
    share: f64,
    alpha: Option<Estimate>,
    equal_total: Option<Estimate>,
    equal_clean: Option<Estimate>,
    /// Beside clean runs of D(1 − q)^g tokens, g that of the kind.
    equal_worth: Option<Estimate>,
}

/// The section on junk and its claims; nothing where the study has no such arms.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let names: Vec<String> = values(found, "junk").into_iter().filter(|name| name != "none").collect();
    let kinds: Vec<Kind> = names.iter().map(|name| Kind::of(found, name)).filter(Kind::is_there).collect();
    if names.is_empty() {
        return Findings::default();
    }
    let clean = clean_exponent(found);
    let mut section = Section {
        id: "junk".to_owned(),
        title: "How much junk the law takes".to_owned(),
        ..Section::default()
    };
    if kinds.is_empty() {
        section.paragraphs.push(
            "Nothing can be said yet: no finished run with junk has a finished clean run of its size and seed."
                .to_owned(),
        );
        return Findings { sections: vec![section], ..Findings::default() };
    }
    section.paragraphs.push(page::exponents_in_words(&kinds, clean.as_ref()));
    section.paragraphs.push(page::sizes_in_words(&kinds));
    section.charts.push(page::worth_chart(&kinds));
    section.charts.push(page::exponent_chart(&kinds, clean.as_ref()));
    section.tables.push(page::worth_table(&kinds));
    section.tables.push(page::exponent_table(&kinds, clean.as_ref()));
    section.tables.extend(page::forecast_table(&kinds));
    let tags = tags::tags(found);
    section.tables.extend(tags::table(&tags));
    let verdicts = claims::claims(&kinds, clean.as_ref());
    let mut answer = answer(page::title(&kinds), page::answer(found, &kinds));
    if let Some(answer) = &mut answer {
        answer.words.extend(tags::in_words(&tags));
    }
    Findings { answer, sections: vec![section], verdicts }
}

fn is_kind(run: &RunSpec, kind: &str, share: f64) -> bool {
    run.arm.get("junk").is_some_and(|k| k == kind)
        && !run.arm.contains_key("tag")
        && run.junk_share().is_some_and(|q| (q - share).abs() < 1e-9)
}

fn shares(found: &Found<'_>) -> Vec<f64> {
    levels(found, |f| f.run.junk_share().filter(|q| *q > 0.0))
}

/// Lengths with enough steps, ascending.
fn lengths(found: &Found<'_>) -> Vec<f64> {
    levels(found, |f| (f.point.steps >= LEAST_STEPS).then_some(f.point.tokens as f64))
}

impl Kind {
    fn of(found: &Found<'_>, name: &str) -> Self {
        let (units, shares, lengths) = (units(found), shares(found), lengths(found));
        let (mut beyond, mut above) = (0, None::<f64>);
        let mut local: Vec<(Unit, f64, f64)> = Vec::new();
        for &share in &shares {
            for &tokens in &lengths {
                let of_unit = |unit: &Unit| {
                    let loss = at(&curve(found, *unit, |run| is_kind(run, name, share)), tokens)?;
                    Some((*unit, reaches(&curve(found, *unit, is_clean), loss)?))
                };
                let reached: Vec<(Unit, Reached)> = units.iter().filter_map(of_unit).collect();
                // A length is taken for all units or for none, lest those with good luck be chosen.
                let is_before = |(_, r): &(Unit, Reached)| matches!(r, Reached::Before(_));
                if reached.iter().any(is_before) {
                    if reached.iter().all(is_before) {
                        let bound = (lengths[0] / tokens).ln() / (1.0 - share).ln();
                        above = Some(above.map_or(bound, |known| bound.max(known)));
                    }
                    beyond += reached.len();
                    continue;
                }
                local.extend(reached.into_iter().map(|(unit, r)| match r {
                    Reached::At(worth) => (unit, share, (worth / tokens).ln() / (1.0 - share).ln()),
                    // As good as clean text of this length, or better.
                    Reached::Before(_) | Reached::After(_) => (unit, share, 0.0),
                }));
            }
        }
        let of_units = |keep: &dyn Fn(f64) -> bool| -> Vec<(Unit, f64)> {
            let mut by: BTreeMap<Unit, Vec<f64>> = BTreeMap::new();
            for (unit, _, g) in local.iter().filter(|(_, share, _)| keep(*share)) {
                by.entry(*unit).or_default().push(*g);
            }
            by.into_iter().map(|(unit, gs)| (unit, gs.iter().sum::<f64>() / gs.len() as f64)).collect()
        };
        let value = |of: &[(Unit, f64)]| mean(&of.iter().map(|(_, g)| *g).collect::<Vec<_>>(), LEVEL);
        let all = of_units(&|_| true);
        let (x, y): (Vec<f64>, Vec<f64>) =
            all.iter().map(|(unit, g)| ((unit.params as f64).ln(), *g)).unzip();
        let longest = lengths.last().copied().unwrap_or(0.0);
        let g = value(&all);
        Self {
            name: name.to_owned(),
            g,
            by_share: shares.iter().map(|q| (*q, value(&of_units(&|share| share == *q)))).collect(),
            g_on_size: slope(&x, &y, LEVEL),
            exponents: shares.iter().map(|share| Exponent::of(found, name, *share, longest, g)).collect(),
            beyond,
            above,
            fitted: fitted(found, name),
            forecasts: forecasts(found, name, &shares),
            excess: shares.iter().filter_map(|q| Some((*q, excess(found, name, *q, longest)?))).collect(),
        }
    }

    /// Whether there is a run of it with a clean one beside it.
    fn is_there(&self) -> bool {
        self.g.is_some() || self.beyond > 0
    }

    /// Whether it costs more than the tokens it takes.
    fn harms(&self) -> bool {
        self.g.is_some_and(|g| g.is_above(1.0)) || self.g.is_none() && self.above.is_some_and(|g| g > 1.0)
    }

    /// g with its interval, or what it is above.
    fn g_words(&self) -> String {
        match (&self.g, self.above) {
            (None, Some(above)) => format!("above {above:.1}"),
            (g, _) => maybe(g.as_ref(), 2),
        }
    }

    /// Of 100 tokens, how many are left by g at a share.
    fn left(&self, share: f64) -> Option<Estimate> {
        self.g.map(|g| g.map(|g| 100.0 * (1.0 - share).powf(g)))
    }
}

impl Exponent {
    fn of(found: &Found<'_>, kind: &str, share: f64, tokens: f64, g: Option<Estimate>) -> Self {
        let (mut alpha, mut total, mut clean, mut worth) = (vec![], vec![], vec![], vec![]);
        let worth_tokens = g.map_or(f64::NAN, |g| tokens * (1.0 - share).powf(g.value));
        for unit in units(found) {
            let with = curve(found, unit, |run| is_kind(run, kind, share));
            let without = curve(found, unit, is_clean);
            let size = (unit.params as f64).ln();
            let Some(loss) = at(&with, tokens) else { continue };
            alpha.push((size, loss.ln()));
            let beside = |other: Option<f64>| other.map(|other| (size, loss.ln() - other.ln()));
            total.extend(beside(at(&without, tokens)));
            clean.extend(beside(at(&without, tokens * (1.0 - share))));
            worth.extend(beside(interpolate(&without, worth_tokens)));
        }
        let falls = |cells: Vec<(f64, f64)>| {
            let (x, y): (Vec<f64>, Vec<f64>) = cells.into_iter().unzip();
            slope(&x, &y, LEVEL).map(|s| s.map(|v| -v))
        };
        Self {
            share,
            alpha: falls(alpha),
            equal_total: falls(total),
            equal_clean: falls(clean),
            equal_worth: falls(worth),
        }
    }
}

/// α of ln L on ln N over the clean runs at the largest length.
fn clean_exponent(found: &Found<'_>) -> Option<Estimate> {
    let longest = *lengths(found).last()?;
    let of_unit =
        |unit: Unit| Some(((unit.params as f64).ln(), at(&curve(found, unit, is_clean), longest)?.ln()));
    let (x, y): (Vec<f64>, Vec<f64>) = units(found).into_iter().filter_map(of_unit).unzip();
    slope(&x, &y, LEVEL).map(|s| s.map(|v| -v))
}

/// ln L with junk minus without at equal clean tokens, over sizes and seeds.
fn excess(found: &Found<'_>, kind: &str, share: f64, tokens: f64) -> Option<Estimate> {
    let of_unit = |unit: &Unit| {
        let with = at(&curve(found, *unit, |run| is_kind(run, kind, share)), tokens)?;
        Some(with.ln() - at(&curve(found, *unit, is_clean), tokens * (1.0 - share))?.ln())
    };
    mean(&units(found).iter().filter_map(of_unit).collect::<Vec<_>>(), LEVEL)
}

/// g of L(N, D, q) fitted to clean runs and those of a kind.
fn fitted(found: &Found<'_>, kind: &str) -> Option<Estimate> {
    let of_kind = |run: &RunSpec| run.junk_share().is_some_and(|share| is_kind(run, kind, share));
    let table = found.table(|run| is_clean(run) || of_kind(run));
    let document = isoflop_laws::fit(&table, &found.options_of("junk")).ok()?;
    let fit = document.fits.iter().find(|fit| fit.variant == "sizes")?;
    let g = fit.params.get("g")?;
    Some(Estimate { value: g.value, ends: g.lo.zip(g.hi), units: fit.runs_used })
}

/// How well each law of (N, D, q), fitted without the largest share, forecasts it.
fn forecasts(found: &Found<'_>, kind: &str, shares: &[f64]) -> Vec<(&'static str, f64)> {
    let [.., last] = shares else { return Vec::new() };
    if shares.len() < 2 {
        return Vec::new();
    }
    let of_kind = |run: &RunSpec, q: f64| is_kind(run, kind, q);
    let known = found
        .table(|run| is_clean(run) || shares[..shares.len() - 1].iter().any(|share| of_kind(run, *share)));
    let target = found.table(|run| of_kind(run, *last));
    let Ok(document) = isoflop_laws::fit(&known, &found.options_of("junk")) else { return Vec::new() };
    let names = [
        ("sizes", "D(1 − q)^g"),
        ("offset", "D(1 − q), and a constant times q"),
        ("sizes and data", "N(1 − q)^h and D(1 − q)^g"),
    ];
    let error = |predict: &dyn Fn(&isoflop_laws::Row) -> Option<f64>| {
        let errors: Option<Vec<f64>> =
            target.rows.iter().map(|row| Some((row.loss / predict(row)?).ln())).collect();
        let errors = errors.filter(|e| !e.is_empty())?;
        Some((errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt())
    };
    let mut out = Vec::new();
    for (variant, words) in names {
        let fit = document.fits.iter().find(|fit| fit.variant == variant);
        let of_row = |row: &isoflop_laws::Row| {
            fit.and_then(|fit| evaluate(fit, &|name| row.get(name))).map(|band| band.value)
        };
        out.extend(error(&of_row).map(|rms| (words, rms)));
    }
    // Two laws without a parameter for junk: the clean arm's, asked at all tokens and at the clean ones.
    let clean = found.table(is_clean);
    let options = found.options_of("l_nd_chinchilla");
    if let Ok(document) = isoflop_laws::fit(&clean, &options)
        && let Some(fit) = document.fits.iter().find(|fit| fit.form == "l_nd_chinchilla")
    {
        for (words, left) in [("D(1 − q): only the clean tokens count", 1.0), ("D: junk does no harm", 0.0)]
        {
            let of_row = |row: &isoflop_laws::Row| {
                let tokens = row.d? * (1.0 - row.get("junk")?).powf(left);
                evaluate(fit, &|name| if name == "d" { Some(tokens) } else { row.get(name) })
                    .map(|band| band.value)
            };
            out.extend(error(&of_row).map(|rms| (words, rms)));
        }
    }
    out.sort_by(|a, b| a.1.total_cmp(&b.1));
    out
}
