//! What the page says of junk: words, pictures, tables.

use super::{Exponent, Kind, lengths, shares};
use crate::kinds::Found;
use crate::kinds::words::{count, interval, list, maybe};
use isoflop_base::units::si;
use isoflop_laws::arms::Estimate;
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries, Grid};

/// A g between these, with its whole interval, is that of junk that wastes its own tokens and no more.
const ITS_OWN: (f64, f64) = (0.8, 1.25);

/// What the kinds cost beside the tokens they take.
pub(super) fn title(kinds: &[Kind]) -> String {
    let wastes =
        |k: &Kind| k.g.is_some_and(|g| g.holds(1.0) || g.is_above(ITS_OWN.0) && g.is_below(ITS_OWN.1));
    let of = |keep: &dyn Fn(&Kind) -> bool| -> Vec<String> {
        kinds.iter().filter(|k| keep(k)).map(|k| spoken(&k.name).to_owned()).collect()
    };
    let parts: Vec<String> = [
        ("more than its own tokens", of(&|k| k.harms() && !wastes(k))),
        ("just its own tokens", of(&wastes)),
        ("fewer than its own tokens", of(&|k| k.g.is_some_and(|g| g.is_below(1.0)) && !wastes(k))),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| format!("{what} as {}", list(&names)))
    .collect();
    if parts.is_empty() {
        return "What junk costs cannot be told from these runs".to_owned();
    }
    format!("Junk costs {}", parts.join(", "))
}

pub(super) fn answer(found: &Found<'_>, kinds: &[Kind]) -> String {
    let share = shares(found).first().copied().unwrap_or(0.5);
    let percent = 100.0 * share;
    let shortest = lengths(found).first().copied().unwrap_or(0.0);
    let left = |kind: &Kind| {
        let words = match kind.left(share).map(|left| (left.value, left.ends)) {
            Some((left, Some((lo, hi)))) => format!("{left:.0} ({lo:.0} to {hi:.0})"),
            Some((left, None)) => format!("{left:.0}"),
            None => match kind.above {
                Some(g) => format!("fewer than {:.0}", 100.0 * (1.0 - share).powf(g)),
                None => format!("too few to say (even {} clean tokens teach more)", si(shortest)),
            },
        };
        format!("{words} where it is {}", spoken(&kind.name))
    };
    let parts: Vec<String> = kinds.iter().map(left).collect();
    let clean = 100.0 * (1.0 - share);
    let seeds = found.seeds();
    format!(
        "Of 100 tokens of which {percent:.0} are junk, the model is left with what this many clean ones would have taught \
         it: {}. If junk only wasted the tokens it takes, {clean:.0} would be left; fewer means that it harms, more that \
         something is learnt from it. ({}, intervals of 95 % over sizes and seeds.)",
        list(&parts),
        count(seeds, "seed"),
    )
}

pub(super) fn spoken(kind: &str) -> &str {
    match kind {
        "repeated" => "one passage repeated",
        "words-shuffled" => "words in another order",
        "characters-shuffled" => "characters in another order",
        "uniform-symbols" => "symbols at random",
        "uniform-ascii" => "printable characters at random",
        "base64" => "base64",
        "markup" => "empty markup",
        other => other,
    }
}

/// The largest share up to which the exponent stays inside the clean one's interval.
pub(super) fn unbent(kind: &Kind, clean: Option<&Estimate>) -> Option<f64> {
    let inside = |e: &&Exponent| clean.zip(e.alpha).is_some_and(|(clean, alpha)| clean.holds(alpha.value));
    kind.exponents.iter().take_while(inside).last().map(|e| e.share)
}

pub(super) fn exponents_in_words(kinds: &[Kind], clean: Option<&Estimate>) -> String {
    let Some(clean) = clean else {
        return "Whether the exponent stays cannot be said: the clean runs are of too few sizes.".to_owned();
    };
    let one = |kind: &Kind| {
        let words = match unbent(kind, Some(clean)) {
            Some(share) => {
                format!("up to {:.4} %", 100.0 * share).replace(".0000", "").replace("000 %", " %")
            }
            None => "at no share that was tried".to_owned(),
        };
        format!("{} {words}", spoken(&kind.name))
    };
    format!(
        "Does the line of loss against size keep its slope? Without junk it falls as N^−α with α = {}. At equal total \
         tokens α stays inside this interval with {}. The table has the paired change of α at each share, which is the \
         sharper question: its interval excludes zero where the line bends. Fewer effective tokens bend it by themselves, as \
         they do without junk: at equal D_eff that is taken out.",
        interval(clean, 3),
        list(&kinds.iter().map(one).collect::<Vec<_>>())
    )
}

pub(super) fn sizes_in_words(kinds: &[Kind]) -> String {
    let one = |kind: &Kind| {
        let per = kind.g_on_size?;
        let per_tenfold = per.map(|s| s * std::f64::consts::LN_10);
        let says = match (per.is_above(0.0), per.is_below(0.0)) {
            (true, _) => "larger models suffer more",
            (_, true) => "larger models suffer less",
            _ => "no difference between sizes is seen",
        };
        Some(format!("{}: {} for ten times the size, {says}", spoken(&kind.name), interval(&per_tenfold, 2)))
    };
    let parts: Vec<String> = kinds.iter().filter_map(one).collect();
    if parts.is_empty() {
        return "Whether one g serves all sizes cannot be said: one size was tried.".to_owned();
    }
    format!("Does one g serve all sizes? Change of g: {}.", parts.join("; "))
}

pub(super) fn worth_chart(kinds: &[Kind]) -> Chart {
    let series = |kind: &Kind| {
        let point = |(share, g): &(f64, Option<Estimate>)| {
            let left = g.as_ref()?.map(|g| (1.0 - share).powf(g));
            Some(ChartPoint { x: 1.0 - share, y: left.value, interval: left.ends })
        };
        let line = kind.g.map_or_else(Vec::new, |g| {
            let last = kind.by_share.last().map_or(0.5, |(share, _)| *share);
            (0..=20)
                .map(|i| (1.0 - last) * (1.0 / (1.0 - last)).powf(f64::from(i) / 20.0))
                .map(|clean| (clean, clean.powf(g.value)))
                .collect()
        });
        ChartSeries {
            name: format!("{}: g {}", spoken(&kind.name), kind.g_words()),
            points: kind.by_share.iter().filter_map(point).collect(),
            line,
        }
    };
    Chart {
        title: "What is left of the tokens.".to_owned(),
        caption: "Clean tokens that reach the same loss, as a share of all tokens, against the share that was clean: each \
                  run beside the clean run of its size and seed. Lines: (1 − q)^g. On the diagonal, g = 1, junk only \
                  wastes the tokens it takes; below it, junk harms."
            .to_owned(),
        x: ChartAxis { label: "share of clean tokens, 1 − q".to_owned(), log: true },
        y: ChartAxis { label: "effective share of the tokens".to_owned(), log: true },
        series: kinds.iter().map(series).collect(),
    }
}

pub(super) fn exponent_chart(kinds: &[Kind], clean: Option<&Estimate>) -> Chart {
    let mut series: Vec<ChartSeries> = kinds
        .iter()
        .map(|kind| ChartSeries {
            name: spoken(&kind.name).to_owned(),
            points: kind
                .exponents
                .iter()
                .filter_map(|e| {
                    let alpha = e.alpha?;
                    Some(ChartPoint { x: e.share, y: alpha.value, interval: alpha.ends })
                })
                .collect(),
            line: Vec::new(),
        })
        .collect();
    if let Some(clean) = clean {
        let last = kinds.iter().flat_map(|k| &k.exponents).map(|e| e.share).fold(0.5, f64::max);
        series.insert(
            0,
            ChartSeries {
                name: "without junk".to_owned(),
                points: vec![ChartPoint { x: 0.0, y: clean.value, interval: clean.ends }],
                line: vec![(0.0, clean.value), (last, clean.value)],
            },
        );
    }
    Chart {
        title: "The exponent of loss against size.".to_owned(),
        caption: "α of L ∝ N^−α at the largest number of total tokens, for each share of junk; bars are intervals of 95 % \
                  of the slope, which sizes and seeds both enter."
            .to_owned(),
        x: ChartAxis { label: "share of junk q".to_owned(), log: false },
        y: ChartAxis { label: "exponent α".to_owned(), log: false },
        series,
    }
}

pub(super) fn worth_table(kinds: &[Kind]) -> Grid {
    let shares: Vec<f64> = kinds[0].by_share.iter().map(|(share, _)| *share).collect();
    let mut columns = vec!["junk".to_owned(), "g, paired".to_owned(), "g, fitted law".to_owned()];
    columns.extend(shares.iter().map(|q| format!("g at q = {q}")));
    columns.push("loss at equal clean tokens, largest q".to_owned());
    columns.push("beyond the curve".to_owned());
    let row = |kind: &Kind| {
        let mut cells = vec![spoken(&kind.name).to_owned(), kind.g_words(), maybe(kind.fitted.as_ref(), 2)];
        cells.extend(kind.by_share.iter().map(|(_, g)| maybe(g.as_ref(), 2)));
        cells.push(kind.excess.last().map_or_else(
            || "–".to_owned(),
            |(_, e)| format!("{} %", interval(&e.map(|x| 100.0 * (x.exp() - 1.0)), 1)),
        ));
        cells.push(kind.beyond.to_string());
        cells
    };
    Grid {
        caption: "g by kind of junk: 0 does no harm, 1 wastes its own tokens, more does harm".to_owned(),
        columns,
        rows: kinds.iter().map(row).collect(),
    }
}

pub(super) fn exponent_table(kinds: &[Kind], clean: Option<&Estimate>) -> Grid {
    let mut rows = vec![vec![
        "none".to_owned(),
        "0".to_owned(),
        maybe(clean, 4),
        "0".to_owned(),
        "0".to_owned(),
        "0".to_owned(),
    ]];
    for kind in kinds {
        rows.extend(kind.exponents.iter().map(|e| {
            vec![
                spoken(&kind.name).to_owned(),
                e.share.to_string(),
                maybe(e.alpha.as_ref(), 4),
                maybe(e.equal_total.as_ref(), 4),
                maybe(e.equal_clean.as_ref(), 4),
                maybe(e.equal_worth.as_ref(), 4),
            ]
        }));
    }
    Grid {
        caption: "The exponent, and its change beside the clean runs of the same sizes and seeds".to_owned(),
        columns: [
            "junk",
            "q",
            "α",
            "change at equal total tokens",
            "at equal clean tokens",
            "at equal D_eff",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
    }
}

pub(super) fn forecast_table(kinds: &[Kind]) -> Option<Grid> {
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .flat_map(|kind| {
            kind.forecasts.iter().map(|(form, rms)| {
                vec![spoken(&kind.name).to_owned(), (*form).to_owned(), format!("{:.2} %", 100.0 * rms)]
            })
        })
        .collect();
    (!rows.is_empty()).then(|| Grid {
        caption: "Which law forecasts the largest share from the smaller ones, best first".to_owned(),
        columns: ["junk", "tokens (and parameters) that count", "error of the loss, rms"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}
