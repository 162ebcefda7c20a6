//! Where duplicates lie: the same repeated share as few passages often, or many rarely.

use super::compare::{at, curve, is_clean, levels, units};
use crate::kinds::words::{LEVEL, answer, interval, list, maybe, verdict};
use crate::kinds::{Findings, Found};
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, mean, slope};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Ruling, Section};

/// One number of copies.
struct Copies {
    copies: f64,
    /// ln L minus that of clean text of the same length.
    equal_total: Option<Estimate>,
    /// ln L minus that of clean text as long as the clean share.
    equal_clean: Option<Estimate>,
    /// By unit: (ln copies, ln L minus clean at equal total).
    cells: Vec<(f64, f64)>,
}

/// The section on duplicates; nothing where the study has no such arms.
pub(super) fn findings(found: &Found<'_>) -> Findings {
    let counts = levels(found, |f| f.arm_number("copies"));
    let Some(longest) = levels(found, |f| Some(f.point.tokens as f64)).last().copied() else {
        return Findings::default();
    };
    if counts.is_empty() {
        return Findings::default();
    }
    let share = levels(found, |f| f.arm("copies").and(f.arm_number("share"))).first().copied().unwrap_or(0.5);
    let arms: Vec<Copies> = counts.iter().map(|c| of(found, *c, share, longest)).collect();
    let (x, y): (Vec<f64>, Vec<f64>) = arms.iter().flat_map(|a| &a.cells).copied().unzip();
    let trend = slope(&x, &y, LEVEL);
    let percent = |e: &Estimate| interval(&e.map(|x| 100.0 * (x.exp() - 1.0)), 2);
    let parts: Vec<String> = arms
        .iter()
        .filter_map(|a| {
            Some(format!("{} % with {} copies of each", percent(a.equal_total.as_ref()?), a.copies))
        })
        .collect();
    let words = format!(
        "With {:.0} % of the rows repeating passages, the loss after {} tokens is above that of clean text of the same \
         length by {}. (Intervals of 95 % over sizes and seeds: {} of them.)",
        100.0 * share,
        si(longest),
        list(&parts),
        units(found).len(),
    );
    let section = Section {
        id: "duplicates".to_owned(),
        title: "Where duplicates lie".to_owned(),
        paragraphs: vec![format!(
            "From one number of copies to ten times as many the loss changes by {} %, by one slope over all of them.",
            maybe(trend.map(|t| t.map(|s| 100.0 * (s * std::f64::consts::LN_10).exp_m1())).as_ref(), 2),
        )],
        charts: vec![chart(&arms)],
        tables: vec![Grid {
            caption: "Loss above clean text, % (95 % over sizes and seeds)".to_owned(),
            columns: ["copies of each passage", "at equal total tokens", "at equal clean tokens", "units"]
                .map(str::to_owned)
                .to_vec(),
            rows: arms
                .iter()
                .map(|a| {
                    let cell = |e: &Option<Estimate>| e.as_ref().map_or_else(|| "–".to_owned(), percent);
                    vec![
                        a.copies.to_string(),
                        cell(&a.equal_total),
                        cell(&a.equal_clean),
                        a.cells.len().to_string(),
                    ]
                })
                .collect(),
        }],
    };
    let (ruling, why) = match trend {
        Some(t) if t.is_above(0.0) => (Ruling::Reproduced, "the loss rises with the number of copies"),
        Some(t) if t.is_below(0.0) => (Ruling::NotReproduced, "the loss falls with the number of copies"),
        _ => (Ruling::CannotTell, "the trend's interval holds zero, or there are too few runs"),
    };
    let claim = verdict(
        "The same repeated share harms more as few passages often than as many rarely",
        "after Hernandez et al. 2022, arXiv 2205.10487",
        format!("slope of ln L on ln copies: {}", maybe(trend.as_ref(), 4)),
        ruling,
        why,
    );
    Findings { answer: answer(title(&arms, share), words), sections: vec![section], verdicts: vec![claim] }
}

/// What the copies cost, in one sentence.
fn title(arms: &[Copies], share: f64) -> String {
    let cost = |a: &Copies| a.equal_total.filter(|e| e.is_above(0.0)).map(|e| 100.0 * e.value.exp_m1());
    let of = format!("{:.0} % duplicates", 100.0 * share);
    let unseen = arms.iter().take_while(|a| cost(a).is_none()).last();
    let costly = arms.iter().find_map(|a| Some((a.copies, cost(a)?)));
    match (costly, unseen) {
        (Some((copies, percent)), Some(unseen)) => format!(
            "{of} cost nothing that is seen up to {} copies of each passage, {percent:.0} % of loss at {copies}",
            unseen.copies
        ),
        (Some((copies, percent)), None) => {
            format!("{of} cost {percent:.0} % of loss at {copies} copies of each passage")
        }
        (None, _) => format!("{of} cost nothing that is seen"),
    }
}

fn of(found: &Found<'_>, copies: f64, share: f64, tokens: f64) -> Copies {
    let (mut total, mut clean) = (Vec::new(), Vec::new());
    for unit in units(found) {
        let with = curve(found, unit, |run| run.arm_number("copies") == Some(copies));
        let without = curve(found, unit, is_clean);
        let Some(loss) = at(&with, tokens) else { continue };
        total.extend(at(&without, tokens).map(|c| loss.ln() - c.ln()));
        clean.extend(at(&without, tokens * (1.0 - share)).map(|c| loss.ln() - c.ln()));
    }
    Copies {
        copies,
        equal_total: mean(&total, LEVEL),
        equal_clean: mean(&clean, LEVEL),
        cells: total.iter().map(|t| (copies.ln(), *t)).collect(),
    }
}

fn chart(arms: &[Copies]) -> Chart {
    let series = |name: &str, of: fn(&Copies) -> Option<Estimate>| ChartSeries {
        name: name.to_owned(),
        points: arms
            .iter()
            .filter_map(|a| {
                let e = of(a)?.map(|x| 100.0 * x.exp_m1());
                Some(ChartPoint { x: a.copies, y: e.value, interval: e.ends })
            })
            .collect(),
        line: Vec::new(),
    };
    Chart {
        title: "What duplicates cost, by how often each is read.".to_owned(),
        caption: "Below zero: better than clean text of that length. Bars are intervals of 95 % over sizes and seeds.".to_owned(),
        x: ChartAxis { label: "copies of each passage".to_owned(), log: true },
        y: ChartAxis { label: "loss above clean text, %".to_owned(), log: false },
        series: vec![
            series("beside clean text of the same length", |a| a.equal_total),
            series("beside clean text as long as the clean share", |a| a.equal_clean),
        ],
    }
}
