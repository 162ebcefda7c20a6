//! Which runs a series consists of: models, lengths in tokens, seeds, learning rates.

use super::raw::{RawStudy, quantity_text};
use super::resolve::{Base, Notes};
use super::{mix, recipe};
use crate::error::UserError;
use crate::gpt;
use crate::train::program::decay_steps;
use isoflop_base::ModelShape;
use isoflop_base::recipe::*;
use isoflop_base::study::*;
use isoflop_base::units::{parse_count, parse_whole, si, whole};

/// Optimiser steps a point needs at least.
pub const LEAST_STEPS: u64 = 10;

/// How much a series trains, before it is known for which model.
enum Amount {
    Tokens(Vec<f64>),
    PerParam(Vec<f64>),
    Flops(Vec<f64>),
}

/// The keys of an amount; a study has one of them.
const AMOUNTS: [&str; 4] = ["series.tokens", "series.epochs", "series.tokens_per_param", "series.flops"];

fn amount(raw: &RawStudy, train_tokens: u64) -> Result<Amount, UserError> {
    let given: Vec<&str> = AMOUNTS.into_iter().filter(|k| raw.entries.contains_key(*k)).collect();
    let list = |key: &str| -> Result<Vec<f64>, UserError> {
        match raw.entries.get(key).map(|e| &e.value) {
            Some(toml::Value::Array(_)) => Ok(raw.parsed_list(key, parse_count)?.unwrap_or_default()),
            _ => Ok(raw.parsed(key, parse_count)?.into_iter().collect()),
        }
    };
    let positive =
        |key: &str, values: Vec<f64>| match values.iter().all(|v| *v > 0.0) && !values.is_empty() {
            true => raw.no_repeats(key, &values).map(|()| values),
            false => Err(UserError::new(format!("{}: must be above zero", raw.place(key)))
                .hint("write tokens = \"12M\"")),
        };
    match given.as_slice() {
        ["series.tokens"] => Ok(Amount::Tokens(positive("series.tokens", list("series.tokens")?)?)),
        ["series.epochs"] => {
            let epochs = positive("series.epochs", list("series.epochs")?)?;
            Ok(Amount::Tokens(epochs.iter().map(|e| e * train_tokens as f64).collect()))
        }
        ["series.tokens_per_param"] => {
            let ratio = positive("series.tokens_per_param", list("series.tokens_per_param")?)?;
            Ok(Amount::PerParam(ratio))
        }
        ["series.flops"] => Ok(Amount::Flops(positive("series.flops", list("series.flops")?)?)),
        [] => Err(UserError::new(format!("{}: [series] does not say how long to train", raw.file))
            .hint("write one of tokens = \"12M\", epochs = 1, tokens_per_param = 20, flops = [\"1e13\"]")),
        several => Err(UserError::new(format!("{}: {} exclude each other", raw.file, several.join(", ")))
            .hint("keep one of tokens, epochs, tokens_per_param, flops")),
    }
}

/// A grid of models, lengths and seeds, in training order: smaller models first, a size's extra seeds right after it.
///
/// # Errors
/// Lengths that finish no schedule, branches outside of their run, seeds of models that are not there.
pub fn runs(
    raw: &RawStudy,
    base: &Base,
    models: &[ModelShape],
    notes: &mut Notes,
) -> Result<Vec<RunSpec>, UserError> {
    let amount = amount(raw, base.data.train_tokens)?;
    let branches = branches(raw, base)?;
    let seeds = seeds(raw)?;
    let extra = extra_seeds(raw, models)?;
    raw.no_repeats("series.seeds", &seeds)?;
    raw.no_repeats("series.branches", &branches)?;
    for (shape, more) in &extra {
        let all: Vec<u64> = seeds.iter().chain(more).copied().collect();
        raw.no_repeats("series.extra_seeds", &all)
            .map_err(|e| UserError::from_error(format!("{shape}: {e}")))?;
    }
    let lr = learning_rate(raw, notes)?;
    let mut runs = Vec::new();
    for &shape in models {
        let mut ends = match &amount {
            Amount::Tokens(tokens) => tokens.clone(),
            Amount::PerParam(ratios) => ratios.iter().map(|r| r * shape.params() as f64).collect(),
            Amount::Flops(flops) => {
                let per_token = gpt::flops_per_token(shape, base.vocab, base.context);
                flops.iter().map(|c| c / per_token).collect()
            }
        };
        let longest = ends.iter().copied().fold(0.0, f64::max);
        if let Some(beyond) = branches.iter().find(|b| **b >= longest) {
            return Err(UserError::new(format!(
                "{}: a branch at {} tokens does not lie inside the run of {}",
                raw.place("series.branches"),
                si(*beyond),
                si(longest)
            ))
            .hint("branches end before the run does"));
        }
        ends.extend(&branches);
        if base.arm.rate.is_some() {
            // Arms of large batches have fewer points: those with too few steps are left out.
            ends.retain(|tokens| *tokens >= (LEAST_STEPS * base.train.batch_tokens) as f64);
            if ends.is_empty() {
                continue;
            }
        }
        let steps = whole_steps(raw, base, shape, &ends)?;
        let more = extra.iter().filter(|(s, _)| *s == shape).flat_map(|(_, seeds)| seeds);
        let series = seeds.iter().map(|s| (*s, Role::Series));
        for (seed, role) in series.chain(more.map(|s| (*s, Role::SeedSpread))) {
            let rate = base.arm.rate.unwrap_or(1.0) * lr.of(shape);
            let run = base.run(shape, rate, seed, steps.clone(), role);
            if runs.iter().any(|r: &RunSpec| r.id == run.id) {
                continue;
            }
            split_unless_wsd(run, &mut runs)?;
        }
    }
    note_epochs(&runs, notes);
    Ok(runs)
}

/// Tokens at which decayed side branches end.
fn branches(raw: &RawStudy, base: &Base) -> Result<Vec<f64>, UserError> {
    let branches = raw.parsed_list("series.branches", parse_count)?.unwrap_or_default();
    if !branches.is_empty() && base.train.schedule != ScheduleKind::Wsd {
        return Err(UserError::new(format!(
            "{}: branches need schedule = \"wsd\", this is \"{}\"",
            raw.place("series.branches"),
            base.train.schedule.word()
        ))
        .hint("remove branches, or list several tokens to train a run for each"));
    }
    Ok(branches)
}

/// The seeds of a series, at least one.
///
/// # Errors
/// An empty list, or a seed that is no whole number.
pub fn seeds(raw: &RawStudy) -> Result<Vec<u64>, UserError> {
    let seeds = raw.parsed_list("series.seeds", parse_whole)?.unwrap_or_else(|| vec![1]);
    if seeds.is_empty() {
        return Err(
            UserError::new(format!("{}: no seed", raw.place("series.seeds"))).hint("write seeds = [1]")
        );
    }
    Ok(seeds)
}

/// Only WSD gives several points from one trunk; other schedules train a run for each length.
///
/// # Errors
/// A mix that no run of its length can have.
pub fn split_unless_wsd(mut run: RunSpec, runs: &mut Vec<RunSpec>) -> Result<(), UserError> {
    if run.train.schedule == ScheduleKind::Wsd || run.ends.len() == 1 {
        mix::settle(&mut run)?;
        runs.push(run);
        return Ok(());
    }
    for &end in &run.ends {
        let id = format!("{}-D{}", run.id, run.tokens_at(end));
        let mut one = RunSpec { id, ends: vec![end], ..run.clone() };
        one.train.warmup_steps = one.train.warmup.steps(end);
        mix::settle(&mut one)?;
        runs.push(one);
    }
    Ok(())
}

/// Where a study says how long to train.
fn amount_place(raw: &RawStudy) -> String {
    let given = AMOUNTS.iter().find(|k| raw.entries.contains_key(**k));
    raw.place(given.unwrap_or(&AMOUNTS[0]))
}

/// Ends in whole optimiser steps, ascending, rounded down so that no point sees more than it was promised.
///
/// # Errors
/// A point too short to finish a schedule.
pub fn whole_steps(
    raw: &RawStudy,
    base: &Base,
    shape: ModelShape,
    tokens: &[f64],
) -> Result<Vec<u64>, UserError> {
    let train = &base.train;
    let batch = train.batch_tokens as f64;
    let within = |t: &f64| whole(*t).and(whole(t / batch));
    let mut steps = tokens
        .iter()
        .map(|t| {
            within(t).ok_or_else(|| {
                UserError::new(format!("{}: {shape} would train on {t:.3e} tokens", amount_place(raw)))
                    .hint("choose at most 9e15 tokens")
            })
        })
        .collect::<Result<Vec<u64>, _>>()?;
    steps.sort_unstable();
    steps.dedup();
    let first = steps[0];
    if first < LEAST_STEPS {
        return Err(UserError::new(format!(
            "{}: {shape} would end after {first} optimiser steps, which finishes no schedule",
            amount_place(raw)
        ))
        .hint(format!("train at least {} tokens, or use smaller batches", si(LEAST_STEPS as f64 * batch))));
    }
    if train.schedule == ScheduleKind::Wsd {
        let warmup = train.warmup.steps(*steps.last().expect("not empty"));
        let fork = first - decay_steps(train.decay, first);
        if warmup > fork {
            return Err(UserError::new(format!(
                "{}: {shape} warms up over {warmup} steps, but its first branch forks at step {fork}",
                raw.place("train.warmup")
            ))
            .hint("lower warmup, or put the first branch later"));
        }
    } else if let Some(end) = steps.iter().find(|end| train.warmup.steps(**end) >= **end) {
        return Err(UserError::new(format!(
            "{}: {shape} ends after {end} steps, before its warm-up of {} does",
            raw.place("train.warmup"),
            train.warmup.steps(*end)
        ))
        .hint("lower warmup, e.g. 5%"));
    }
    Ok(steps)
}

/// `auto`, `auto*0.5` (the rule's rate times a factor, for sweeps), or a rate for every size.
pub enum Rate {
    Rule(f64),
    Fixed(f64),
}

impl Rate {
    /// The peak rate of a model.
    pub fn of(&self, shape: ModelShape) -> f64 {
        match self {
            Self::Rule(factor) => factor * recipe::auto_lr(shape),
            Self::Fixed(lr) => *lr,
        }
    }
}

/// What `train.lr` says.
///
/// # Errors
/// Neither a rate nor `auto` with a factor.
pub fn learning_rate(raw: &RawStudy, notes: &mut Notes) -> Result<Rate, UserError> {
    let text = raw.quantity("train.lr")?;
    let factor =
        text.as_deref().and_then(|t| t.strip_prefix("auto")).map(|t| t.trim().trim_start_matches(['*', '×']));
    let factor: f64 = match (text.as_deref(), factor) {
        (None, _) => 1.0,
        (Some(_), Some(times)) => {
            times.trim().parse().ok().filter(|f: &f64| *f > 0.0 && f.is_finite()).ok_or_else(|| {
                UserError::new(format!("{}: `{times}` is no factor", raw.place("train.lr")))
                    .hint("write lr = \"auto\", \"auto*0.5\", or a rate such as 3e-3")
            })?
        }
        (Some(_), None) => {
            let range = "a rate above 0, e.g. 3e-3";
            return raw.number("train.lr", 0.0, |v| v > 0.0 && v.is_finite(), range).map(Rate::Fixed);
        }
    };
    let value =
        if factor == 1.0 { recipe::LR_RULE.to_owned() } else { format!("{factor}·{}", recipe::LR_RULE) };
    notes.add("train.lr", value, recipe::LR_REASON, false);
    Ok(Rate::Rule(factor))
}

fn extra_seeds(raw: &RawStudy, models: &[ModelShape]) -> Result<Vec<(ModelShape, Vec<u64>)>, UserError> {
    let key = "series.extra_seeds";
    let Some(entry) = raw.entries.get(key) else { return Ok(Vec::new()) };
    let wrong = |what: String| {
        UserError::new(format!("{}: {what}", raw.place(key)))
            .hint("write extra_seeds = { \"L2-d32-h2\" = [2, 3] } with models of this series")
    };
    let toml::Value::Table(table) = &entry.value else { return Err(wrong("should be a table".into())) };
    let mut out = Vec::new();
    for (model, seeds) in table {
        let shape: ModelShape = model.parse().map_err(|e| wrong(format!("{e}")))?;
        if !models.contains(&shape) {
            return Err(wrong(format!("{shape} is not among the models")));
        }
        let toml::Value::Array(seeds) = seeds else {
            return Err(wrong(format!("seeds of {shape} should be a list")));
        };
        let one = |v: &toml::Value| {
            quantity_text(v)
                .and_then(|t| parse_whole(&t).ok())
                .ok_or_else(|| wrong(format!("a seed of {shape} is no whole number")))
        };
        out.push((shape, seeds.iter().map(one).collect::<Result<_, _>>()?));
    }
    Ok(out)
}

/// Says so when text is read more than once.
pub fn note_epochs(runs: &[RunSpec], notes: &mut Notes) {
    let Some(longest) = runs.iter().max_by_key(|run| run.tokens_at(run.end())) else { return };
    if longest.data.mix.is_some() {
        mix::note(longest, notes);
        return;
    }
    let (tokens, split) = (longest.tokens_at(longest.end()) as f64, longest.data.train_tokens as f64);
    let epochs = tokens / split;
    if epochs > 1.0 {
        let reason = format!(
            "{} tokens over a training split of {}: the text is repeated, losses are not those of fresh data",
            si(tokens),
            si(split)
        );
        notes.add("series.epochs", format!("{epochs:.2}"), &reason, false);
    }
}
