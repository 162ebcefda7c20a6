//! What the three approaches say of where compute is best spent, as a section of the page.

use super::words::{self, counts};
use isoflop_base::units::si;
use isoflop_laws::LawDocument;
use isoflop_laws::document::{Allocation, Optimum};
use isoflop_report::{Answer, Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Section};

/// Approaches of the section by their id in a law document, with the words for them, in the order of Hoffmann et al.
const APPROACHES: [(&str, &str); 3] = [
    ("envelope", "envelope of the runs"),
    ("parabola", "parabola per budget"),
    ("surface", "fitted L(N, D)"),
];

/// Corners of a drawn line.
const CORNERS: usize = 2;

/// Where the largest budget is best spent.
pub(super) fn answer(laws: &LawDocument) -> Option<Answer> {
    let found = approaches(laws);
    let last = *budgets(&found).last()?;
    let sizes = found.iter().map(|f| f.allocation.at(last).n);
    let (lo, hi) = sizes.fold((f64::INFINITY, 0.0f64), |(lo, hi), n| (lo.min(n), hi.max(n)));
    let sizes = if lo < hi { format!("{} to {}", si(lo), si(hi)) } else { si(lo) };
    let approaches = match found.len() {
        1 => "by the one approach that found its lowest loss",
        2 => "by two approaches",
        _ => "by three approaches",
    };
    let title = format!("{last:.0e} FLOP are best spent on a model of {sizes} parameters, {approaches}");
    words::answer(title, best(&found, last))
}

fn approaches(laws: &LawDocument) -> Vec<Found<'_>> {
    let found = APPROACHES.iter().filter_map(|(id, words)| {
        let allocation = laws.allocation.iter().find(|a| a.approach == *id)?;
        Some(Found { words, allocation })
    });
    found.collect()
}

/// The section of an isoFLOP study.
pub(super) fn section(laws: &LawDocument) -> Section {
    let mut section = Section {
        id: "budget".to_owned(),
        title: "Where a budget is best spent".to_owned(),
        ..Section::default()
    };
    let found = approaches(laws);
    let budgets = budgets(&found);
    let [first, .., last] = budgets[..] else {
        section.paragraphs.push(
            "Nothing can be said yet: no approach found the lowest loss of two budgets inside the sizes tried."
                .to_owned(),
        );
        return section;
    };
    section.paragraphs.push(agreement(&found, last));
    section.paragraphs.push(exponents(&found, laws));
    section.charts.push(chart(&found, &budgets, first, 10.0 * last));
    section.tables.push(Grid {
        caption: "The best size grows as N_opt ∝ C^a, the best number of tokens as D_opt ∝ C^b".to_owned(),
        columns: ["approach", "a", "b", "interval by"].map(str::to_owned).to_vec(),
        rows: found.iter().map(Found::exponent_row).collect(),
    });
    section.tables.extend(found.iter().map(|f| f.optima(&budgets, last)));
    section
}

/// Budgets that were tried: those of the approaches that go budget by budget.
fn budgets(found: &[Found<'_>]) -> Vec<f64> {
    let by_budget = found.iter().find(|f| f.allocation.approach != "envelope");
    by_budget.map(|f| f.allocation.optima.iter().map(|o| o.c).collect()).unwrap_or_default()
}

/// An approach and what it found.
struct Found<'a> {
    words: &'static str,
    allocation: &'a Allocation,
}

impl Found<'_> {
    /// `24.1 k parameters (12.0 k to 48.0 k) on 2.00 M tokens (…)` at a budget, on the approach's line.
    fn at(&self, c: f64) -> String {
        let at = self.allocation.at(c);
        format!(
            "{} parameters{} on {} tokens{}",
            si(at.n),
            counts(self.allocation.n_interval(c)),
            si(at.d),
            counts(self.allocation.d_interval(c))
        )
    }

    fn exponent(&self) -> String {
        let a = &self.allocation.a;
        match (a.lo, a.hi) {
            (Some(lo), Some(hi)) => format!("{:.2} ({lo:.2} to {hi:.2})", a.value),
            _ => format!("{:.2} (no interval)", a.value),
        }
    }

    fn exponent_row(&self) -> Vec<String> {
        let a = self.allocation;
        vec![self.words.to_owned(), self.exponent(), format!("{:.2}", a.b), a.interval_method.clone()]
    }

    /// N and D at every budget and at ten times the largest: what the approach found there, else its line.
    fn optima(&self, budgets: &[f64], last: f64) -> Grid {
        let tried = budgets.iter().map(|c| {
            let own = self.own(*c);
            let place = match own {
                Some(o) if o.interior => "between the sizes tried",
                Some(_) => "at the edge: a bound only",
                None => "on the line",
            };
            self.row(own.copied().unwrap_or_else(|| self.allocation.at(*c)), place)
        });
        let beyond = self.row(self.allocation.at(10.0 * last), "beyond what was tried");
        Grid {
            caption: format!("By the {}", self.words),
            columns: ["FLOP", "N_opt", "interval on the line", "D_opt", "loss", "lowest point"]
                .map(str::to_owned)
                .to_vec(),
            rows: tried.chain([beyond]).collect(),
        }
    }

    fn own(&self, c: f64) -> Option<&Optimum> {
        let budget_by_budget = self.allocation.approach != "envelope";
        self.allocation.optima.iter().find(|o| budget_by_budget && o.c == c)
    }

    fn row(&self, o: Optimum, place: &str) -> Vec<String> {
        let interval = self.allocation.n_interval(o.c);
        vec![
            format!("{:.2e}", o.c),
            si(o.n),
            interval.map_or_else(|| "none".to_owned(), |(lo, hi)| format!("{} to {}", si(lo), si(hi))),
            si(o.d),
            o.loss.map_or_else(|| "–".to_owned(), |l| format!("{l:.3}")),
            place.to_owned(),
        ]
    }

    fn series(&self, from: f64, to: f64) -> ChartSeries {
        let a = self.allocation;
        let point = |o: &Optimum| ChartPoint { x: o.c, y: o.n, interval: a.n_interval(o.c) };
        let points = if a.approach == "envelope" { reigns(&a.optima) } else { a.optima.clone() };
        let line = (0..CORNERS).map(|i| {
            let c = from * (to / from).powf(i as f64 / (CORNERS - 1) as f64);
            (c, a.at(c).n)
        });
        ChartSeries {
            name: format!("{}: a = {}", self.words, self.exponent()),
            points: points.iter().filter(|o| o.interior).map(point).collect(),
            line: line.collect(),
        }
    }
}

/// The envelope's sizes, each in the middle of the budgets where it is lowest.
fn reigns(optima: &[Optimum]) -> Vec<Optimum> {
    optima
        .chunk_by(|a, b| a.n == b.n)
        .map(|reign| Optimum { c: (reign[0].c * reign[reign.len() - 1].c).sqrt(), ..reign[reign.len() / 2] })
        .collect()
}

fn best(found: &[Found<'_>], last: f64) -> String {
    let at = |c: f64| {
        found.iter().map(|f| format!("{} by the {}", f.at(c), f.words)).collect::<Vec<_>>().join("; ")
    };
    format!(
        "{last:.2e} FLOP, the largest budget tried, are best spent on {}. \
         Ten times as many, beyond what was tried: {}.",
        at(last),
        at(10.0 * last)
    )
}

fn agreement(found: &[Found<'_>], last: f64) -> String {
    let known: Vec<(&str, (f64, f64))> =
        found.iter().filter_map(|f| Some((f.words, f.allocation.n_interval(last)?))).collect();
    if known.len() < 2 {
        return "Whether the approaches agree cannot be told: fewer than two of them have an interval."
            .to_owned();
    }
    let mut apart = Vec::new();
    for (i, (a, x)) in known.iter().enumerate() {
        for (b, y) in &known[i + 1..] {
            if x.1 < y.0 || y.1 < x.0 {
                apart.push(format!("the {a} and the {b}"));
            }
        }
    }
    let without = match found.len() - known.len() {
        0 => String::new(),
        k => format!(" ({k} more without an interval)"),
    };
    if apart.is_empty() {
        let count = if known.len() == 3 { "three" } else { "two" };
        format!(
            "At the largest budget the intervals of {count} approaches overlap{without}: the data \
             do not tell them apart."
        )
    } else {
        format!(
            "At the largest budget the approaches disagree{without}: no overlap of {}.",
            apart.join(", nor of ")
        )
    }
}

fn exponents(found: &[Found<'_>], laws: &LawDocument) -> String {
    let own: Vec<String> = found.iter().map(|f| format!("{} by the {}", f.exponent(), f.words)).collect();
    let rule = laws.allocation.iter().find(|a| a.approach == "parametric").map_or_else(String::new, |a| {
        let formula = Found { words: "", allocation: a };
        format!(" With C counted as 6ND the fitted L(N, D) gives a = β/(α + β) = {}.", formula.exponent())
    });
    format!(
        "The best size grows as compute to the power a: {}. Kaplan et al. 2020 found 0.73, Hoffmann et al. 2022 \
         about 0.50, for models thousands of times larger and on other text: with sizes this small, few steps and a head \
         that takes a large share of the FLOPs, a is a property of this grid and its recipe, not of language models.{rule}",
        own.join(", ")
    )
}

fn chart(found: &[Found<'_>], budgets: &[f64], first: f64, to: f64) -> Chart {
    Chart {
        title: "The best size at each budget.".to_owned(),
        caption: format!(
            "Marks: where each approach finds the lowest loss of the {} budgets tried (the envelope: in the \
             middle of the budgets at which a size is lowest); bars: intervals of the line there; lines: N_opt = G·C^a, \
             drawn to ten times the largest budget. The valleys themselves are drawn under “Size and data together”.",
            budgets.len()
        ),
        x: ChartAxis { label: "training compute C, FLOP".to_owned(), log: true },
        y: ChartAxis { label: "best size N, parameters".to_owned(), log: true },
        series: found.iter().map(|f| f.series(first, to)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_laws::document::{LineSpread, ParamEstimate};

    fn made(approach: &str, coefficient: f64, spread: Option<f64>) -> Allocation {
        let optimum = |c: f64, interior| Optimum {
            c,
            n: coefficient * c.sqrt(),
            d: 1e6,
            interior,
            ..Optimum::default()
        };
        let around = |variance| LineSpread { coefficient: variance, quantile: 2.0, ..LineSpread::default() };
        Allocation {
            approach: approach.to_owned(),
            a: ParamEstimate {
                value: 0.5,
                lo: spread.map(|_| 0.41),
                hi: spread.map(|_| 0.63),
                ..ParamEstimate::default()
            },
            ln_coefficient: coefficient.ln(),
            b: 0.5,
            optima: vec![optimum(1e12, true), optimum(4e12, false)],
            spread_n: spread.map(around),
            interval_method: "made up".to_owned(),
            ..Allocation::default()
        }
    }

    fn of(allocation: Vec<Allocation>) -> Section {
        section(&LawDocument { allocation, ..LawDocument::default() })
    }

    #[test]
    fn the_section_says_the_numbers_of_the_document() {
        // ln 2 / 2 as a standard error: a factor of two either way.
        let factor_two = (0.5 * 2f64.ln()).powi(2);
        let parabola = made("parabola", 0.02, Some(factor_two));
        let both = vec![parabola.clone(), made("surface", 0.025, Some(factor_two))];
        let said = answer(&LawDocument { allocation: both.clone(), ..LawDocument::default() }).unwrap();
        assert_eq!(
            said.title,
            "4e12 FLOP are best spent on a model of 40.0 k to 50.0 k parameters, by two approaches"
        );
        let first = &said.words[0];
        let found = of(both);
        let start =
            "4.00e12 FLOP, the largest budget tried, are best spent on 40.0 k parameters (20.0 k to 80.0 k)";
        assert!(first.starts_with(start), "{first}");
        assert!(first.contains("126 k parameters (63.2 k to 253 k)"), "{first}");
        assert!(
            found.paragraphs[0].contains("intervals of two approaches overlap"),
            "{:?}",
            found.paragraphs
        );
        assert!(
            found.paragraphs[1].contains("0.50 (0.41 to 0.63) by the parabola per budget"),
            "{:?}",
            found.paragraphs
        );
        let table = &found.tables[1];
        assert_eq!(table.rows.len(), 3);
        assert_eq!(table.rows[0][1], "20.0 k");
        assert!(table.rows[1].last().unwrap().starts_with("at the edge"), "{table:?}");
        let drawn = &found.charts[0].series[0];
        assert_eq!(drawn.points.len(), 1, "an optimum at the edge is a bound, no point");
        assert!((drawn.line[1].0 - 4e13).abs() < 1e6 && drawn.points[0].interval.is_some());
        let far = of(vec![parabola, made("surface", 0.5, Some(factor_two))]);
        assert!(far.paragraphs[0].contains("disagree"), "{:?}", far.paragraphs);
    }

    #[test]
    fn what_is_not_known_is_said() {
        let allocation = vec![made("parabola", 0.02, None)];
        let said = answer(&LawDocument { allocation: allocation.clone(), ..LawDocument::default() }).unwrap();
        assert!(said.words[0].contains("(no interval)"), "{said:?}");
        let found = of(allocation);
        assert!(found.paragraphs[0].contains("cannot be told"), "{:?}", found.paragraphs);
        assert!(of(Vec::new()).paragraphs[0].starts_with("Nothing can be said yet"));
    }
}
