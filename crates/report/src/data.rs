//! The rows all figures share, whichever way they came: finished points with their size and token class.

use crate::numbers;
use isoflop_laws::{LawDocument, Table};

/// How many colours a palette is cut into at most; more sizes than this share neighbours' colours.
const MAX_COLOURS: usize = 16;

/// One finished point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Obs {
    pub(crate) n: Option<f64>,
    pub(crate) d: Option<f64>,
    pub(crate) c: Option<f64>,
    pub(crate) loss: f64,
    pub(crate) se: Option<f64>,
    pub(crate) run: String,
    pub(crate) seed: Option<u64>,
}

/// All finished points and the classes they fall into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    pub(crate) obs: Vec<Obs>,
    /// Distinct N, ascending.
    pub(crate) sizes: Vec<f64>,
    /// Distinct D, ascending.
    pub(crate) tokens: Vec<f64>,
    /// Distinct C, ascending.
    pub(crate) budgets: Vec<f64>,
    pub(crate) loss_unit: String,
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite() && *v > 0.0)
}

impl Data {
    /// Rows with a loss that can be drawn.
    pub(crate) fn of(table: &Table) -> Self {
        let obs: Vec<Obs> = table
            .rows
            .iter()
            .filter(|r| r.loss.is_finite() && r.loss > 0.0)
            .map(|r| Obs {
                n: positive(r.n),
                d: positive(r.d),
                c: positive(r.c),
                loss: r.loss,
                se: positive(r.loss_se),
                run: r.run.clone(),
                seed: r.seed,
            })
            .collect();
        let levels = |value: fn(&Obs) -> Option<f64>| {
            let mut all: Vec<f64> = obs.iter().filter_map(value).collect();
            all.sort_by(f64::total_cmp);
            all.dedup_by(|b, a| same(*a, *b));
            all
        };
        Self {
            sizes: levels(|o| o.n),
            tokens: levels(|o| o.d),
            budgets: levels(|o| o.c),
            loss_unit: table.loss_unit.clone(),
            obs,
        }
    }

    /// Number of size colours and of token colours.
    pub(crate) fn colours(&self) -> (usize, usize) {
        (self.sizes.len().min(MAX_COLOURS), self.tokens.len().min(MAX_COLOURS))
    }

    /// Class that colours by size: `s3`.
    pub(crate) fn size_class(&self, n: Option<f64>) -> String {
        class('s', &self.sizes, n)
    }

    /// Class that colours by token count: `d1`.
    pub(crate) fn token_class(&self, d: Option<f64>) -> String {
        class('d', &self.tokens, d)
    }

    /// Index of a token count, which also picks its mark.
    pub(crate) fn token_index(&self, d: Option<f64>) -> usize {
        d.and_then(|d| nearest(&self.tokens, d)).unwrap_or(0)
    }

    /// Whether the table is a grid: several sizes, each at few token counts that the sizes share.
    pub(crate) fn is_grid(&self) -> bool {
        self.sizes.len() >= 2 && !self.tokens.is_empty() && self.tokens.len() <= 8
    }

    /// What hovering over a point says.
    pub(crate) fn tip(&self, o: &Obs) -> String {
        let mut parts = Vec::new();
        if !o.run.is_empty() {
            parts.push(o.run.clone());
        }
        for (name, value) in [("N", o.n), ("D", o.d)] {
            if let Some(value) = value {
                parts.push(format!("{name} = {}", numbers::count(value)));
            }
        }
        if let Some(c) = o.c {
            parts.push(format!("C = {} FLOP", numbers::scientific(c)));
        }
        let se = o.se.map(|se| format!(" ± {} (s.e.)", numbers::fixed(se, 4))).unwrap_or_default();
        parts.push(format!("loss {}{se}", numbers::fixed(o.loss, 4)));
        parts.join("\n")
    }
}

fn class(letter: char, levels: &[f64], value: Option<f64>) -> String {
    let index = value.and_then(|v| nearest(levels, v)).unwrap_or(0);
    let index =
        if levels.len() > MAX_COLOURS { index * (MAX_COLOURS - 1) / (levels.len() - 1) } else { index };
    format!("{letter}{index}")
}

fn nearest(levels: &[f64], value: f64) -> Option<usize> {
    levels
        .iter()
        .enumerate()
        .min_by(|a, b| (a.1 / value).ln().abs().total_cmp(&(b.1 / value).ln().abs()))
        .map(|(i, _)| i)
}

/// Two counts that differ by less than 0.5 % are the same level.
pub(crate) fn same(a: f64, b: f64) -> bool {
    isoflop_laws::table::same_level(a, b)
}

/// The drawable part of a fitted law at one place: value and confidence band of the law.
pub(crate) fn law_at(
    fit: &isoflop_laws::FitRecord,
    n: Option<f64>,
    d: Option<f64>,
    c: Option<f64>,
) -> Option<(f64, Option<(f64, f64)>)> {
    let value = |name: &str| match name {
        "n" => n,
        "d" => d.or_else(|| fit.condition.get("tokens").copied()),
        "c" => c,
        _ => None,
    };
    let band = isoflop_laws::forecast::evaluate(fit, &value)?;
    let drawable = |v: f64| v.is_finite() && v > 0.0;
    if !drawable(band.value) {
        return None;
    }
    let ends = band.lo.zip(band.hi).filter(|(lo, hi)| drawable(*lo) && drawable(*hi));
    Some((band.value, ends))
}

/// Fits of one form and variant, in the document's order.
pub(crate) fn fits<'a>(
    laws: Option<&'a LawDocument>,
    form: &'a str,
    variant: &'a str,
) -> impl Iterator<Item = &'a isoflop_laws::FitRecord> {
    laws.into_iter().flat_map(|l| &l.fits).filter(move |f| f.form == form && f.variant == variant)
}
