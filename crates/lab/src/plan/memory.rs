//! Whether a study's engines fit into memory, counted before anything is allocated, and the smallest change that makes
//! them fit.

use crate::error::UserError;
use crate::gpt;
use isoflop_base::study::Study;
use isoflop_base::units::bytes;
use isoflop_base::{Measured, ModelShape};
use isoflop_nn::engine::DeviceFacts;
use isoflop_nn::{EngineOptions, GptConfig, Optimizer, Precision, Recompute};

/// Bytes this process may still take; `None` where the system does not say.
pub fn available() -> Option<u64> {
    let memory = isoflop_meter::System::real().memory();
    let free = memory.available.value().copied();
    let limit = memory.limit.value().copied();
    free.into_iter().chain(limit).min()
}

/// Bytes the engines of a study may take: of the memory of this machine, or of that of its cards.
pub fn available_to(study: &Study) -> Option<u64> {
    let run = study.runs.first()?;
    gpt::device(run, &study.machine).ok()?.available()
}

/// Refuses a study whose largest engine needs more than `available` bytes.
///
/// # Errors
/// A [`UserError`] naming the model, its bytes, and the smallest change that fits.
pub fn check(study: &Study, available: u64) -> anyhow::Result<()> {
    let Some((shape, needed)) = largest(study)? else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    let problem = format!("{shape} needs {} of memory, {} are free", bytes(needed), bytes(available));
    let run = study.runs.iter().find(|run| run.gpt().shape == shape).expect("the largest is one of them");
    let (device, options) = (gpt::device(run, &study.machine)?, gpt::options(run));
    let facts = device.facts();
    let configs: Vec<_> = study.runs.iter().map(|run| gpt::config(run.gpt())).collect();
    let one = |config: &GptConfig, options: &EngineOptions| device.plan(config, options).total();
    let most = |options: &EngineOptions| configs.iter().map(|c| one(c, options)).max().unwrap_or(0);
    let hint = match smallest_change(&options, &facts, available, &most) {
        Some((changes, total)) => format!("{} fits with {}", sets(&changes), bytes(total)),
        None => {
            let fitting = configs.iter().rev().find_map(|config| {
                let needed = one(config, &options);
                if needed <= available {
                    return Some((config.shape, String::new()));
                }
                let (changes, _) = smallest_change(&options, &facts, available, &|o| one(config, o))?;
                Some((config.shape, format!(", with {}", sets(&changes))))
            });
            match fitting {
                Some((shape, how)) => format!("the largest model of the series that fits is {shape}{how}"),
                None => "no model of the series fits; choose smaller ones, or a shorter context".to_owned(),
            }
        }
    };
    Err(UserError::new(problem).hint(hint).into())
}

/// Changes as overrides of a study's keys.
fn sets(changes: &[Change]) -> String {
    changes.iter().map(|change| change.set()).collect::<Vec<_>>().join(" ")
}

/// Bytes of the engine that takes most, for the account of what it took.
pub fn planned(study: &Study) -> Measured<u64> {
    match largest(study) {
        Ok(Some((_, bytes))) => Measured::measured(bytes),
        Ok(None) => Measured::missing("there is no run"),
        Err(e) => Measured::missing(format!("{e:#}")),
    }
}

/// The engine with the most bytes.
fn largest(study: &Study) -> anyhow::Result<Option<(ModelShape, u64)>> {
    let mut worst = None;
    for run in &study.runs {
        let needed = gpt::memory_plan(run, &study.machine)?.total();
        if worst.is_none_or(|(_, most)| needed > most) {
            worst = Some((run.gpt().shape, needed));
        }
    }
    Ok(worst)
}

/// A change of how a model is trained that takes less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Fewer sequences at once: for a study the same batch, its sums in another order.
    MicroBatch(usize),
    /// Blocks computed again: more time, the same bits.
    Recompute,
    /// 8-bit moments: another optimiser.
    Adam8bit,
    /// Other operands of products.
    Precision(Precision),
}

impl Change {
    /// As an override of a study's key.
    fn set(self) -> String {
        match self {
            Self::MicroBatch(n) => format!("--set train.micro_batch={n}"),
            Self::Recompute => "--set train.recompute=block".to_owned(),
            Self::Adam8bit => "--set train.optimizer=adamw8bit".to_owned(),
            Self::Precision(precision) => format!("--set train.precision={}", precision.word()),
        }
    }
}

/// The first changes under which `total` is at most `available`, and that total: a smaller micro-batch before
/// recomputation before 8-bit moments before another precision, each alone before together with those before it.
pub fn smallest_change(
    options: &EngineOptions,
    facts: &DeviceFacts,
    available: u64,
    total: &dyn Fn(&EngineOptions) -> u64,
) -> Option<(Vec<Change>, u64)> {
    let now = options.micro_batch;
    let others = facts.precisions.iter().copied().filter(|p| *p != options.precision);
    let precisions = std::iter::once(None).chain(others.map(Some));
    let choices = |open: bool| if open { [false, true].as_slice() } else { &[false] };
    for precision in precisions {
        for &eight in choices(options.optimizer == Optimizer::AdamW) {
            for &block in choices(options.recompute == Recompute::None) {
                for micro_batch in (1..=now).rev().filter(|n| now.is_multiple_of(*n)) {
                    let mut changed = EngineOptions { micro_batch, ..*options };
                    let mut changes = Vec::new();
                    if micro_batch != now {
                        changes.push(Change::MicroBatch(micro_batch));
                    }
                    if block {
                        changed.recompute = Recompute::Block;
                        changes.push(Change::Recompute);
                    }
                    if eight {
                        changed.optimizer = Optimizer::AdamW8bit;
                        changes.push(Change::Adam8bit);
                    }
                    if let Some(precision) = precision {
                        changed.precision = precision;
                        changes.push(Change::Precision(precision));
                    }
                    let needed = total(&changed);
                    if needed <= available {
                        return Some((changes, needed));
                    }
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::raw::RawStudy;
    use crate::study::resolve::Machine;
    use isoflop_base::study::TrainSpec;

    fn study(train: &str) -> Study {
        let text = format!(
            "[series]\nmodels = [\"L2-d24-h2\", \"L4-d112-h7\"]\ntokens = \"1M\"\n[train]\nbatch_tokens = 4096\n{train}"
        );
        let machine = Machine { kernels: "naive".to_owned(), threads: 1, bf16: false, bf16_loses: None };
        let raw = RawStudy::parse("t.toml", &text, &[]).unwrap();
        let corpus = isoflop_data::builtin().unwrap();
        crate::open::resolve(&raw, &corpus, &machine).unwrap()
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told_the_smallest_change() {
        let study = study("");
        let (shape, needed) = largest(&study).unwrap().unwrap();
        assert_eq!(shape.to_string(), "L4-d112-h7");
        assert!(check(&study, needed).is_ok());
        let refused = check(&study, needed - 1).unwrap_err().to_string();
        for part in ["L4-d112-h7 needs ", " are free", "hint: --set train.micro_batch=8 fits with "] {
            assert!(refused.contains(part), "`{part}` is not in {refused}");
        }
        let refused = check(&study, 1000).unwrap_err().to_string();
        assert!(refused.contains("no model of the series fits"), "{refused}");
    }

    /// What the largest engine of a study takes with these changes to its recipe.
    fn needed(study: &Study, change: fn(&mut TrainSpec)) -> u64 {
        let mut changed = study.clone();
        changed.runs.iter_mut().for_each(|run| change(&mut run.train));
        largest(&changed).unwrap().unwrap().1
    }

    #[test]
    fn each_change_is_named_where_no_smaller_one_fits() {
        let study = study("");
        let one = needed(&study, |t| t.micro_batch = 1);
        let both = needed(&study, |t| (t.micro_batch, t.recompute) = (1, Recompute::Block));
        let eight = needed(&study, |t| {
            (t.micro_batch, t.recompute) = (1, Recompute::Block);
            t.optimizer = Optimizer::AdamW8bit;
        });
        assert!(eight < both && both < one, "{eight} {both} {one}");
        for (available, hint) in [
            (one, "hint: --set train.micro_batch=1 fits"),
            (one - 1, "train.recompute=block fits"),
            (both, "hint: --set train.micro_batch=1 --set train.recompute=block fits"),
            (both - 1, "--set train.optimizer=adamw8bit fits"),
            (eight, "train.micro_batch=1 --set train.recompute=block --set train.optimizer=adamw8bit fits"),
            (eight - 1, "the largest model of the series that fits is L2-d24-h2, with --set"),
        ] {
            let refused = check(&study, available).unwrap_err().to_string();
            assert!(refused.contains(hint), "{available}: `{hint}` is not in {refused}");
        }
    }

    #[test]
    fn what_is_named_fits() {
        let study = study("");
        let run = study.runs.last().unwrap();
        let (device, options) = (gpt::device(run, &study.machine).unwrap(), gpt::options(run));
        let config = gpt::config(run.gpt());
        let total = |options: &EngineOptions| device.plan(&config, options).total();
        let now = total(&options);
        for available in (now / 8..now).step_by(now as usize / 40) {
            if let Some((changes, needed)) = smallest_change(&options, &device.facts(), available, &total) {
                assert!(!changes.is_empty() && needed <= available, "{changes:?}: {needed} of {available}");
            }
        }
    }
}
