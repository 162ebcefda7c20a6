//! Mixtures of three sources and more: the mixing law L = c + exp(b + Σ t_j·r_j) of each source's held-out loss (Ye et
//! al. 2024, arXiv:2403.16952), the mixture at which the mean of the losses is lowest, and what the laws say of
//! mixtures that they were not fitted to. Of two sources `mixture` draws more.

use super::mixture::{Place, cells, losses, root_mean_square};
use crate::kinds::words::{LEVEL, answer, interval, list, maybe, verdict};
use crate::kinds::{Findings, Finished, Found};
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, mean};
use isoflop_laws::{FitRecord, Row, Table, evaluate};
use isoflop_report::{Grid, Ruling, Section};

/// The laws of one size and seed at one length.
struct Cell {
    params: f64,
    tokens: f64,
    seed: u64,
    /// Shares at which the mean of the losses is lowest, in the order of the sources.
    best: Vec<f64>,
    /// ln observed − ln predicted at held-out mixtures, over all sources.
    errors: Vec<f64>,
}

/// The section on three sources and more, begun by `mixture`.
pub(super) fn findings(found: &Found<'_>, names: &[&str], mut section: Section) -> Findings {
    let cells = cells(found, |own, place| cell(found, names, own, place));
    let longest = cells.iter().map(|c| c.tokens).fold(0.0, f64::max);
    let last: Vec<&Cell> = cells.iter().filter(|c| c.tokens == longest).collect();
    if last.is_empty() {
        section.paragraphs.push(format!(
            "Nothing can be said yet: the law of {} sources needs {} mixtures of one size and length, in which every share \
             varies.",
            names.len(),
            names.len() + 2
        ));
        return Findings { sections: vec![section], ..Findings::default() };
    }
    let best = |i: usize| mean(&last.iter().map(|c| 100.0 * c.best[i]).collect::<Vec<_>>(), LEVEL);
    let parts: Vec<String> =
        (0..names.len()).map(|i| format!("{} {} %", names[i], maybe(best(i).as_ref(), 0))).collect();
    let words = format!(
        "The mean of the losses of all sources that are scored is lowest at {} tokens with {} (95 %, over {} sizes and \
         seeds).",
        si(longest),
        parts.join(", "),
        last.len()
    );
    let rounded: Vec<String> =
        (0..names.len()).filter_map(|i| Some(format!("{:.0} % {}", best(i)?.value, names[i]))).collect();
    let answer = answer(format!("The mean of the losses is lowest with {}", list(&rounded)), words);
    section.tables.push(Grid {
        caption: format!("The best mixture by size and seed at {} tokens", si(longest)),
        columns: ["N".to_owned(), "seed".to_owned()]
            .into_iter()
            .chain(names.iter().map(|name| format!("share of {name}")))
            .chain(["error at held-out mixtures".to_owned()])
            .collect(),
        rows: last
            .iter()
            .map(|c| {
                let shares = c.best.iter().map(|share| format!("{:.0} %", 100.0 * share));
                let error = root_mean_square(&c.errors)
                    .map_or_else(|| "–".to_owned(), |e| format!("{:.2} %", 100.0 * e));
                [si(c.params), c.seed.to_string()].into_iter().chain(shares).chain([error]).collect()
            })
            .collect(),
    });
    let errors: Vec<f64> = cells.iter().filter_map(|c| root_mean_square(&c.errors)).collect();
    let verdicts = mean(&errors, LEVEL).map(|error| {
        let (ruling, why) = predicts(&error);
        verdict(
            "The exponential mixing law predicts mixtures it was not fitted to",
            "Ye et al. 2024, arXiv 2403.16952",
            format!("error of the loss {} %", interval(&error.map(|e| 100.0 * e), 2)),
            ruling,
            why,
        )
    });
    Findings { answer, sections: vec![section], verdicts: verdicts.into_iter().collect() }
}

/// What an error of the loss says of the law.
pub(super) fn predicts(error: &Estimate) -> (Ruling, &'static str) {
    match () {
        () if error.is_below(0.01) => (Ruling::Reproduced, "the error's interval lies below 1 %"),
        () if error.is_above(0.01) => (Ruling::NotReproduced, "the error's interval lies above 1 %"),
        () => (Ruling::CannotTell, "the error's interval holds 1 %, or there is none"),
    }
}

fn cell(
    found: &Found<'_>,
    names: &[&str],
    own: &[&Finished<'_>],
    (params, tokens, seed): Place,
) -> Option<Cell> {
    let shares_of = |f: &Finished<'_>| -> Option<Vec<f64>> {
        names.iter().map(|name| f.arm_number(&format!("share_{name}"))).collect()
    };
    let options = found.options_of("mixture");
    let (mut fits, mut errors) = (Vec::new(), Vec::new());
    for source in losses(own.first()?).into_iter().map(|(name, _)| name) {
        let of_source = |held_out: bool| -> Vec<(Vec<f64>, f64)> {
            let chosen = own.iter().filter(|f| f.run.arm.contains_key("held_out") == held_out);
            let loss = |f: &Finished<'_>| losses(f).into_iter().find(|(name, _)| *name == source);
            chosen.filter_map(|f| Some((shares_of(f)?, loss(f)?.1))).collect()
        };
        let rows = of_source(false).into_iter().enumerate().map(|(i, (shares, loss))| {
            let mut row = Row::of(i + 1, 1.0, 1.0, loss);
            row.extra.extend(names.iter().map(|name| format!("share_{name}")).zip(shares));
            row
        });
        let table = Table { rows: rows.collect(), ..Table::default() };
        let fit = isoflop_laws::fit(&table, &options).ok()?.fits.into_iter().next()?;
        at(&fit, names, &vec![1.0 / names.len() as f64; names.len()])?;
        for (shares, loss) in of_source(true) {
            errors.push(loss.ln() - at(&fit, names, &shares)?.ln());
        }
        fits.push(fit);
    }
    let total =
        |shares: &[f64]| fits.iter().map(|fit| at(fit, names, shares).unwrap_or(f64::INFINITY)).sum::<f64>();
    Some(Cell { params, tokens, seed, best: lowest(names.len(), total), errors })
}

/// What a law says of a mixture. Its free shares are the sources' in the order of their names, the last one aside.
fn at(fit: &FitRecord, names: &[&str], shares: &[f64]) -> Option<f64> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|i| names[*i]);
    let value = |name: &str| {
        let number: usize = name.strip_prefix("share ")?.parse().ok()?;
        Some(shares[*order.get(number - 1)?])
    };
    evaluate(fit, &value).map(|band| band.value)
}

/// Where a convex function of shares is lowest: share is moved from one source to another while that lowers it, in
/// steps that are halved.
fn lowest(sources: usize, of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut shares = vec![1.0 / sources as f64; sources];
    let (mut value, mut step) = (of(&shares), 0.25);
    while step > 1e-3 {
        let mut moved = false;
        for from in 0..sources {
            for to in (0..sources).filter(|to| *to != from) {
                let part = shares[from].min(step);
                let mut other = shares.clone();
                other[from] -= part;
                other[to] += part;
                let there = of(&other);
                if part > 0.0 && there < value {
                    (shares, value, moved) = (other, there, true);
                }
            }
        }
        if !moved {
            step *= 0.5;
        }
    }
    shares
}
