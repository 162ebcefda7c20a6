//! What a study will cost, said before it runs: parameters, tokens, exact FLOPs, memory, and the time they should take
//! at a speed measured here and now.

use crate::gpt;
use crate::plan::memory;
use crate::stop::Stop;
use crate::train::program::Program;
use isoflop_base::study::{MachineSpec, Resolution, RunSpec, Study};
use isoflop_base::units::{bytes, duration, si};
use isoflop_base::{Measured, ModelShape, Status};
use isoflop_data::{Corpus, Sampler};
use isoflop_nn::{Engine as _, SingleDevice};
use isoflop_store::Store;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// Seconds for which each size is timed.
const TIMING_S: f64 = 0.3;
/// A size whose micro-batch should take longer than this is not timed but extrapolated.
const TOO_LONG_S: f64 = 3.0;
/// A held-out token costs a forward pass, a third of a training token.
const EVALUATION_SHARE: f64 = 1.0 / 3.0;

/// Training speed of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    pub shape: ModelShape,
    pub tokens_per_s: Measured<f64>,
}

/// One run's cost.
#[derive(Debug, Clone, Serialize)]
pub struct PlanRow {
    pub run: String,
    pub shape: ModelShape,
    pub params: u64,
    pub params_total: u64,
    /// Tokens at the end of each finished point.
    pub points_tokens: Vec<u64>,
    /// Tokens trained on in all, branches included.
    pub tokens_executed: u64,
    /// Tokens per optimiser step.
    pub batch_tokens: u64,
    pub lr: f64,
    /// Exact training FLOPs, branches included.
    pub flops: f64,
    /// Exact FLOPs over 6ND.
    pub flops_over_6nd: f64,
    pub tokens_per_s: Measured<f64>,
    pub seconds: Measured<f64>,
    pub memory_bytes: u64,
    /// Checkpoints on disk at the most: weights and moments of every point and fork, and the rolling two.
    pub disk_bytes: u64,
}

/// What one size consists of.
#[derive(Debug, Clone, Serialize)]
pub struct ShapePlan {
    pub shape: ModelShape,
    /// Parameters by group.
    pub params: Vec<(&'static str, u64)>,
    /// Exact training FLOPs per token by product: forward, backward.
    pub flops_per_token: Vec<(&'static str, f64, f64)>,
    /// Bytes of memory by group.
    pub memory: Vec<(&'static str, u64)>,
}

/// The cost of a study.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub schema: &'static str,
    pub study: String,
    pub rows: Vec<PlanRow>,
    pub flops: f64,
    pub seconds: Measured<f64>,
    pub peak_memory_bytes: u64,
    pub disk_bytes: u64,
    pub shapes: Vec<ShapePlan>,
    pub resolutions: Vec<Resolution>,
}

/// Times each size of a study for a moment on its own batches; of sizes that are trained already in `store_root`,
/// what that took. Nothing of it enters a run.
pub fn time_sizes(
    study: &Study,
    corpus: &Corpus,
    store_root: &Path,
    stop: &Stop,
) -> anyhow::Result<Vec<Speed>> {
    let store = Store::open_existing(store_root).ok();
    let mut speeds: Vec<Speed> = Vec::new();
    let mut flops_per_s: Option<f64> = None;
    for run in study.one_of_each_model() {
        let flops = gpt::run_flops_per_token(run);
        let planned = gpt::memory_plan(run, &study.machine).map(|plan| plan.total());
        let too_big =
            memory::available_to(study).is_some_and(|free| planned.is_ok_and(|needed| needed > free));
        let micro_tokens = (run.train.micro_batch * run.gpt().context) as f64;
        let tokens_per_s = match flops_per_s {
            Some(rate) if too_big || micro_tokens * flops / rate > TOO_LONG_S => {
                Measured::estimated(rate / flops, "the FLOP/s of the largest size that was timed")
            }
            None if too_big => Measured::missing("it does not fit into memory"),
            _ => match store.as_ref().and_then(|store| trained_speed(study, run, store)) {
                Some(before) => Measured::measured(before),
                None => Measured::measured(time_one(run, &study.machine, corpus, stop)?),
            },
        };
        flops_per_s = tokens_per_s.value().map(|t| t * flops).or(flops_per_s);
        speeds.push(Speed { shape: run.gpt().shape, tokens_per_s });
    }
    Ok(speeds)
}

/// The speed of a size all of whose runs are done.
fn trained_speed(study: &Study, of: &RunSpec, store: &Store) -> Option<f64> {
    let mut speed = None;
    for spec in study.runs.iter().filter(|r| r.model == of.model) {
        let view = store.read_run(&spec.id).ok()?;
        if view.status().ok()? != Status::Done {
            return None;
        }
        speed = view.points().ok()?.last().and_then(|p| p.tokens_per_s.value().copied());
    }
    speed
}

/// Tokens per second of whole optimiser steps; a batch of many micro-batches is timed by its first few.
fn time_one(run: &RunSpec, machine: &MachineSpec, corpus: &Corpus, stop: &Stop) -> anyhow::Result<f64> {
    let (train, context) = (&run.train, run.gpt().context);
    let mut engine = gpt::engine(run, machine)?;
    let sampler =
        Sampler::new(corpus.train.len(), context, 0).map_err(crate::error::UserError::from_error)?;
    let per_step = (train.batch_tokens / context as u64) as usize / train.micro_batch;
    let (mut row, mut tokens, mut started) = (0, 0u64, None::<Instant>);
    loop {
        for micro in 0..per_step {
            stop.check()?;
            let rows = sampler
                .batch(&*corpus.train, row, train.micro_batch)
                .map_err(crate::error::UserError::from_error)?;
            row += train.micro_batch as u64;
            engine.accumulate(&rows, 1.0 / per_step as f32)?;
            tokens += rows.predicted();
            let elapsed = started.map_or(0.0, |s: Instant| s.elapsed().as_secs_f64());
            if micro > 0 && elapsed > TIMING_S {
                break;
            }
        }
        engine.reduce(&mut SingleDevice)?;
        engine.update(1e-6)?;
        match started {
            // The first step warms caches, pages and threads.
            None => (tokens, started) = (0, Some(Instant::now())),
            Some(since) if since.elapsed().as_secs_f64() >= TIMING_S => {
                return Ok(tokens as f64 / since.elapsed().as_secs_f64());
            }
            Some(_) => {}
        }
    }
}

/// The cost of a study at these speeds.
pub fn plan(study: &Study, speeds: &[Speed]) -> anyhow::Result<Plan> {
    let rows: Vec<PlanRow> =
        study.runs.iter().map(|run| plan_row(study, run, speeds)).collect::<anyhow::Result<_>>()?;
    let total: Option<f64> = rows.iter().map(|r| r.seconds.value().copied()).sum();
    Ok(Plan {
        schema: "isoflop.plan/1",
        study: study.name.clone(),
        flops: rows.iter().map(|r| r.flops).sum(),
        seconds: match total {
            Some(seconds) => Measured::estimated(seconds, "a quick timing of each size"),
            None => Measured::missing("not every size was timed"),
        },
        disk_bytes: rows.iter().map(|r| r.disk_bytes).sum(),
        shapes: shape_plans(study)?,
        peak_memory_bytes: rows.iter().map(|r| r.memory_bytes).max().unwrap_or(0),
        rows,
        resolutions: study.resolutions.clone(),
    })
}

fn plan_row(study: &Study, run: &RunSpec, speeds: &[Speed]) -> anyhow::Result<PlanRow> {
    let train = &run.train;
    let per_token = gpt::run_flops_per_token(run);
    let tokens_executed = run.tokens_at(Program::new(run).steps());
    let evaluations = (tokens_executed as f64 / run.tokens_at(run.end()) as f64 / train.eval_every).ceil();
    let evaluated =
        run.ends.len() as f64 * train.eval_tokens as f64 + evaluations * train.curve_tokens as f64;
    let work = tokens_executed as f64 + EVALUATION_SHARE * evaluated;
    let speed = speeds.iter().find(|s| s.shape == run.gpt().shape);
    let tokens_per_s = speed.map_or_else(|| Measured::missing("not timed"), |s| s.tokens_per_s.clone());
    let seconds = match tokens_per_s.value() {
        Some(rate) => Measured::estimated(work / rate, "a quick timing"),
        None => Measured::missing("not timed"),
    };
    Ok(PlanRow {
        run: run.id.clone(),
        shape: run.gpt().shape,
        params: run.model.params(),
        params_total: run.model.params_total(),
        points_tokens: run.tokens().collect(),
        tokens_executed,
        batch_tokens: train.batch_tokens,
        lr: train.lr,
        flops: per_token * tokens_executed as f64,
        flops_over_6nd: per_token / (6.0 * run.model.params() as f64),
        tokens_per_s,
        seconds,
        memory_bytes: gpt::memory_plan(run, &study.machine)?.total(),
        disk_bytes: gpt::checkpoint_bytes(run) * (2 * run.ends.len() as u64 + 2),
    })
}

fn shape_plans(study: &Study) -> anyhow::Result<Vec<ShapePlan>> {
    let one = |run: &RunSpec| -> anyhow::Result<ShapePlan> {
        let config = gpt::config(run.gpt());
        let (vocab, context) = (config.vocab as u64, config.context as u64);
        let (l, d) = (config.shape.n_layer as u64, config.shape.d_model as u64);
        let terms = isoflop_nn::ledger::terms(&config);
        Ok(ShapePlan {
            shape: config.shape,
            params: vec![
                ("token embedding and head", vocab * d),
                ("positions", context * d),
                ("attention matrices", 4 * l * d * d),
                ("mlp matrices", 8 * l * d * d),
                ("biases", 9 * l * d),
                ("norms", 4 * l * d + 2 * d),
            ],
            flops_per_token: terms.iter().map(|t| (t.name, t.forward, t.backward)).collect(),
            memory: gpt::memory_plan(run, &study.machine)?.groups,
        })
    };
    study.one_of_each_model().into_iter().map(one).collect()
}

impl Plan {
    /// The plan as a table for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let width = self.rows.iter().map(|r| r.run.len()).max().unwrap_or(3);
        let _ = writeln!(
            out,
            "{:width$}  {:>9} {:>9}  {:>22}  {:>9} {:>6}  {:>8}  {:>10} {:>9} {:>10}",
            "run", "N", "all", "points at tokens", "FLOPs", "/6ND", "lr", "tok/s", "time", "memory"
        );
        for row in &self.rows {
            let points: Vec<String> =
                row.points_tokens.iter().map(|t| si(*t as f64).replace(' ', "")).collect();
            let _ = writeln!(
                out,
                "{:width$}  {:>9} {:>9}  {:>22}  {:>9.2e} {:>6.2}  {:>8.2e}  {:>10} {:>9} {:>10}",
                row.run,
                si(row.params as f64),
                si(row.params_total as f64),
                points.join(" "),
                row.flops,
                row.flops_over_6nd,
                row.lr,
                row.tokens_per_s.value().map_or("–".to_owned(), |v| si(*v)),
                row.seconds.value().map_or("–".to_owned(), |v| duration(*v)),
                bytes(row.memory_bytes)
            );
        }
        let time = self.seconds.value().map_or("not timed".to_owned(), |v| format!("about {}", duration(*v)));
        let _ = writeln!(
            out,
            "{} runs, {:.3e} FLOPs exactly counted, {time}, at most {} of memory for the engine, {} of disk",
            self.rows.len(),
            self.flops,
            bytes(self.peak_memory_bytes),
            bytes(self.disk_bytes)
        );
        for r in &self.resolutions {
            let _ = writeln!(out, "  {} = {}: {}", r.key, r.value, r.reason);
        }
        out
    }

    /// What the largest size consists of: parameters, FLOPs and bytes.
    pub fn breakdown(&self) -> String {
        let Some(largest) = self.shapes.last() else { return String::new() };
        let mut out = format!("\n{} in parts\n", largest.shape);
        for (name, count) in &largest.params {
            let _ = writeln!(out, "  {name:38} {:>10} parameters", si(*count as f64));
        }
        for (name, forward, backward) in &largest.flops_per_token {
            let _ = writeln!(out, "  {name:38} {:>10} FLOPs per token", si(forward + backward));
        }
        for (name, count) in &largest.memory {
            let _ = writeln!(out, "  {name:38} {:>10} of memory", bytes(*count));
        }
        out
    }
}
