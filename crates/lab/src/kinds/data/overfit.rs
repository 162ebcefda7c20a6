//! How much text a size needs: how far the best loss on U unique tokens, over all its epochs, stays above that on fresh
//! text, against U/N^0.74 (Kaplan et al. 2020, arXiv:2001.08361, eq. 4.3 and 4.4: to stay within about 2 % a model
//! wants D ≥ 5·10³·N^0.74 tokens).

use super::compare::{at, curve, is_clean, levels, units};
use crate::kinds::words::{LEVEL, verdict};
use crate::kinds::{Findings, Found};
use isoflop_base::study::RunSpec;
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, regression};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section};

/// Kaplan's exponent and coefficient.
const EXPONENT: f64 = 0.74;
const COEFFICIENT: f64 = 5e3;
/// The overfitting at which they hold.
const ALLOWED: f64 = 0.02;

/// One size and seed on so many unique tokens.
struct Cell {
    params: f64,
    unique: f64,
    seed: u64,
    /// Best ln L over the epochs minus ln L on fresh text at the largest length.
    excess: f64,
}

impl Cell {
    /// U/N^0.74.
    fn per_size(&self) -> f64 {
        self.unique / self.params.powf(EXPONENT)
    }
}

/// The section on overfitting and its claim; nothing where the study has no arms of few unique tokens.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let cells = cells(found);
    if cells.is_empty() {
        return Findings::default();
    }
    let needed = needed(&cells);
    let words = match &needed {
        Some(c) => format!(
            "To stay within {:.0} % of the loss on fresh text a model of N parameters needs {} · N^0.74 unique tokens here, \
             whatever the number of epochs, by a straight line through the logarithms; Kaplan et al. 2020 say 5·10³.",
            100.0 * ALLOWED,
            coefficient(c)
        ),
        None => "How much text a size needs cannot be said: the excess differs too little, or is nowhere above zero.".to_owned(),
    };
    let section = Section {
        id: "overfit".to_owned(),
        title: "How much text a size needs".to_owned(),
        paragraphs: vec![words],
        charts: vec![chart(&cells)],
        tables: vec![table(&cells)],
    };
    let (ruling, why) = match &needed {
        Some(c) if c.ends.is_none() => (Ruling::CannotTell, "too few arms for an interval"),
        Some(c) if c.is_above(COEFFICIENT.ln()) => (Ruling::NotReproduced, "more text is needed here"),
        Some(c) if c.is_below(COEFFICIENT.ln()) => {
            (Ruling::Reproduced, "it is enough: the interval of what is needed lies below it")
        }
        Some(_) => (Ruling::Reproduced, "its interval holds the published coefficient"),
        None => (Ruling::CannotTell, "no law of the excess could be fitted"),
    };
    let claim = verdict(
        "With D ≥ 5·10³·N^0.74 unique tokens overfitting stays within 2 %",
        "Kaplan et al. 2020, arXiv 2001.08361, eq. 4.4",
        format!("needed here: {} · N^0.74", needed.as_ref().map_or_else(|| "–".to_owned(), coefficient)),
        ruling,
        why,
    );
    Findings { answer: None, sections: vec![section], verdicts: vec![claim] }
}

/// e to the estimate, with its interval.
fn coefficient(ln: &Estimate) -> String {
    match ln.ends {
        Some((lo, hi)) => format!("{} ({} to {})", si(ln.value.exp()), si(lo.exp()), si(hi.exp())),
        None => format!("{} (no interval)", si(ln.value.exp())),
    }
}

fn cells(found: &Found<'_>) -> Vec<Cell> {
    let Some(longest) = levels(found, |f| Some(f.point.tokens as f64)).last().copied() else {
        return Vec::new();
    };
    let unique_of = |run: &RunSpec| run.arm_number("unique");
    let mut out = Vec::new();
    for unit in units(found) {
        let Some(fresh) = at(&curve(found, unit, is_clean), longest) else { continue };
        for unique in levels(found, |f| unique_of(f.run)) {
            let own = curve(found, unit, |run| {
                unique_of(run) == Some(unique) && !run.arm.contains_key("weight_decay")
            });
            let best = own.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            if best.is_finite() && at(&own, longest).is_some() {
                let excess = best.ln() - fresh.ln();
                out.push(Cell { params: unit.params as f64, unique, seed: unit.seed, excess });
            }
        }
    }
    out
}

/// ln of U/N^0.74 at which the excess is what is allowed, by the line of it on ln excess.
fn needed(cells: &[Cell]) -> Option<Estimate> {
    let own: Vec<&Cell> = cells.iter().filter(|c| c.excess > 1e-4).collect();
    let x: Vec<Vec<f64>> = own.iter().map(|c| vec![1.0, c.excess.ln() - ALLOWED.ln()]).collect();
    let y: Vec<f64> = own.iter().map(|c| c.per_size().ln()).collect();
    let line = regression(&x, &y, LEVEL).filter(|_| own.len() > 2)?;
    // More text must overfit less, or the line means nothing.
    line[1].is_below(0.0).then_some(line[0])
}

fn chart(cells: &[Cell]) -> Chart {
    let mut sizes: Vec<f64> = cells.iter().map(|c| c.params).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let series = |n: &f64| ChartSeries {
        name: format!("N = {}", si(*n)),
        points: cells
            .iter()
            .filter(|c| c.params == *n)
            .map(|c| ChartPoint { x: c.per_size(), y: 100.0 * c.excess.exp_m1(), interval: None })
            .collect(),
        line: Vec::new(),
    };
    Chart {
        title: "Overfitting against unique tokens per N^0.74.".to_owned(),
        caption: "Best loss over all epochs above that on fresh text at the largest length, a mark for each size, seed and \
                  number of unique tokens; where sizes fall on one curve, Kaplan's exponent holds."
            .to_owned(),
        x: ChartAxis { label: "unique tokens U / N^0.74".to_owned(), log: true },
        y: ChartAxis { label: "best loss above fresh text, %".to_owned(), log: false },
        series: sizes.iter().map(series).collect(),
    }
}

fn table(cells: &[Cell]) -> Grid {
    let row = |c: &Cell| {
        vec![
            si(c.params),
            si(c.unique),
            c.seed.to_string(),
            si(c.per_size()),
            format!("{:.2} %", 100.0 * c.excess.exp_m1()),
        ]
    };
    Grid {
        caption: "Best loss over the epochs above that on fresh text".to_owned(),
        columns: ["N", "unique tokens", "seed", "U / N^0.74", "excess"].map(str::to_owned).to_vec(),
        rows: cells.iter().map(row).collect(),
    }
}
