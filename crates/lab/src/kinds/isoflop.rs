//! `isoflop`: the best model size for a budget of compute. Every model is trained to every budget it suits; three
//! approaches then say where the loss is lowest (Hoffmann et al. 2022, arXiv:2203.15556): the envelope of all
//! points, a parabola per budget, and L(N, D) fitted to all.

use super::{Findings, Found, Kind};
use crate::error::UserError;
use crate::gpt;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Base, Notes};
use crate::study::{arms, series};
use isoflop_base::ModelShape;
use isoflop_base::study::{Role, RunSpec};
use isoflop_base::units::parse_count;

/// Sizes a budget needs for a valley to have a bottom.
const LEAST_SIZES: usize = 3;

pub(super) struct Isoflop;

impl Kind for Isoflop {
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError> {
        arms::only(raw, "isoflop", &[])?;
        let models = resolve::models(raw)?;
        let budgets = budgets(raw)?;
        let range = ratio_range(raw)?;
        let seeds = series::seeds(raw)?;
        let rate = series::learning_rate(raw, notes)?;
        let mut sizes = vec![0usize; budgets.len()];
        let mut runs = Vec::new();
        for shape in models {
            let ends = ends(base, shape, &budgets, range, &mut sizes);
            if ends.is_empty() {
                let reason =
                    "no budget suits it: its tokens per parameter lie outside of the range everywhere";
                notes.add("series.models", format!("without {shape}"), reason, false);
                continue;
            }
            let ends = series::whole_steps(raw, base, shape, &ends)?;
            for &seed in &seeds {
                let run = base.run(shape, rate.of(shape), seed, ends.clone(), Role::Series);
                series::split_unless_wsd(run, &mut runs)?;
            }
        }
        if let Some((budget, count)) = budgets.iter().zip(&sizes).find(|(_, count)| **count < LEAST_SIZES) {
            return Err(UserError::new(format!(
                "{}: {count} models suit the budget of {budget:.2e} FLOPs, a valley needs {LEAST_SIZES}",
                raw.place("series.flops")
            ))
            .hint("add models around it, drop the budget, or widen tokens_per_param = [least, most]"));
        }
        series::note_epochs(&runs, notes);
        Ok(runs)
    }

    fn findings(&self, found: &Found<'_>) -> Findings {
        let sections = found.laws.map(super::allocation::section).into_iter().collect();
        let answer = found.laws.and_then(super::allocation::answer);
        Findings { answer, sections, ..Findings::default() }
    }
}

fn budgets(raw: &RawStudy) -> Result<Vec<f64>, UserError> {
    let mut budgets = raw.parsed_list("series.flops", parse_count)?.unwrap_or_default();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    if budgets.is_empty() || budgets[0] <= 0.0 {
        return Err(UserError::new(format!(
            "{}: an isoflop study needs budgets above zero",
            raw.place("series.flops")
        ))
        .hint("write flops = [\"1e12\", \"3e12\", \"1e13\"] under [series]"));
    }
    for key in ["series.tokens", "series.epochs", "series.branches", "series.extra_seeds"] {
        if raw.entries.contains_key(key) {
            return Err(UserError::new(format!(
                "{}: lengths of an isoflop study follow from its budgets",
                raw.place(key)
            ))
            .hint("remove it, or make it a study of kind = \"scaling\""));
        }
    }
    Ok(budgets)
}

/// Tokens per parameter that a model may be trained to: `[least, most]`.
fn ratio_range(raw: &RawStudy) -> Result<(f64, f64), UserError> {
    let key = "series.tokens_per_param";
    if !raw.entries.contains_key(key) {
        return Ok((0.0, f64::INFINITY));
    }
    let range = raw.parsed_list(key, parse_count);
    match range.as_ref().map(Option::as_deref) {
        Ok(Some([least, most])) if 0.0 < *least && least < most => Ok((*least, *most)),
        _ => Err(UserError::new(format!("{}: should be two numbers, the smaller first", raw.place(key)))
            .hint("write tokens_per_param = [2, 500]")),
    }
}

/// Tokens at which a model has used up each budget that suits it; counts it among the sizes of those budgets.
fn ends(
    base: &Base,
    shape: ModelShape,
    budgets: &[f64],
    (least, most): (f64, f64),
    sizes: &mut [usize],
) -> Vec<f64> {
    let per_token = gpt::flops_per_token(shape, base.vocab, base.context);
    let shortest = (series::LEAST_STEPS * base.train.batch_tokens) as f64;
    let mut ends = Vec::new();
    for (budget, sizes) in budgets.iter().zip(sizes) {
        let tokens = budget / per_token;
        let ratio = tokens / shape.params() as f64;
        if ratio >= least && ratio <= most && tokens >= shortest {
            ends.push(tokens);
            *sizes += 1;
        }
    }
    ends
}
