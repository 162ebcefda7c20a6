//! Whether a study's engines fit into memory, counted before anything is allocated, and the smallest change that makes
//! them fit.

use crate::executor;
use crate::exit::UserError;
use isoflop_base::ModelShape;
use isoflop_base::study::{RecomputeName, Study};
use isoflop_base::units::bytes;

/// Bytes this process may still take; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let memory = isoflop_meter::System::real().memory();
    let free = memory.available.value().copied();
    let limit = memory.limit.value().copied();
    free.into_iter().chain(limit).min()
}

/// Refuses a study whose largest engine needs more than `available` bytes.
///
/// # Errors
/// A [`UserError`] naming the model, its bytes, and the smallest change that fits.
pub(crate) fn check(study: &Study, available: u64) -> anyhow::Result<()> {
    let Some((shape, needed)) = largest(study)? else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    let problem = format!("{shape} needs {} of memory, {} are free", bytes(needed), bytes(available));
    let hint = match smallest_change(study, available)? {
        Some((change, total)) => format!("{change} fits with {}", bytes(total)),
        None => match fitting_models(study, available)?.last() {
            Some(shape) => format!("the largest model of the series that fits is {shape}"),
            None => "no model of the series fits; choose smaller ones, or a shorter context".to_owned(),
        },
    };
    Err(UserError::new(problem).hint(hint).into())
}

/// The engine with the most bytes.
fn largest(study: &Study) -> anyhow::Result<Option<(ModelShape, u64)>> {
    let mut worst = None;
    for run in &study.runs {
        let needed = executor::planned_bytes(study, run.shape)?;
        if worst.is_none_or(|(_, most)| needed > most) {
            worst = Some((run.shape, needed));
        }
    }
    Ok(worst)
}

/// The first of these that fits: a smaller micro-batch (same batch, other order of sums), recomputation, both.
fn smallest_change(study: &Study, available: u64) -> anyhow::Result<Option<(String, u64)>> {
    let now = study.train.micro_batch;
    let smaller: Vec<usize> = (1..now).rev().filter(|n| now.is_multiple_of(*n)).collect();
    let micro = |n: usize| format!("--set train.micro_batch={n}");
    let recompute = "--set train.recompute=block";
    let mut changes: Vec<(String, usize, bool)> = smaller.iter().map(|n| (micro(*n), *n, false)).collect();
    changes.push((recompute.to_owned(), now, true));
    changes.extend(smaller.iter().map(|n| (format!("{} {recompute}", micro(*n)), *n, true)));
    for (words, micro_batch, block) in changes {
        let mut changed = study.clone();
        changed.train.micro_batch = micro_batch;
        if block {
            changed.train.recompute = RecomputeName::Block;
        }
        if let Some((_, total)) = largest(&changed)?.filter(|(_, total)| *total <= available) {
            return Ok(Some((words, total)));
        }
    }
    Ok(None)
}

/// Models that fit as the study stands, ascending.
fn fitting_models(study: &Study, available: u64) -> anyhow::Result<Vec<ModelShape>> {
    let mut fitting = Vec::new();
    for run in &study.runs {
        if executor::planned_bytes(study, run.shape)? <= available {
            fitting.push(run.shape);
        }
    }
    Ok(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::raw::RawStudy;
    use crate::study::resolve::{Machine, resolve};

    fn study(train: &str) -> Study {
        let text = format!(
            "[series]\nmodels = [\"L2-d24-h2\", \"L4-d112-h7\"]\ntokens = \"1M\"\n[train]\nbatch_tokens = 4096\n{train}"
        );
        let machine = Machine { kernels: "naive".to_owned(), threads: 1, bf16: false };
        let raw = RawStudy::parse("t.toml", &text, &[]).unwrap();
        let corpus = isoflop_data::builtin().unwrap();
        resolve(&raw, &corpus, &machine, executor::flops_per_token).unwrap()
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told_the_smallest_change() {
        let study = study("");
        let (shape, needed) = largest(&study).unwrap().unwrap();
        assert_eq!(shape.to_string(), "L4-d112-h7");
        assert!(check(&study, needed).is_ok());
        let hint = |available: u64| check(&study, available).unwrap_err().to_string();
        assert!(hint(needed - 1).contains("train.micro_batch=8 fits"), "{}", hint(needed - 1));
        let (_, smallest) = {
            let mut least = study.clone();
            least.train.micro_batch = 1;
            largest(&least).unwrap().unwrap()
        };
        assert!(hint(smallest).contains("train.micro_batch=1 fits"), "{}", hint(smallest));
        assert!(hint(1000).contains("no model of the series fits"), "{}", hint(1000));
    }
}
