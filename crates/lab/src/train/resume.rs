//! Where a run stands, how that is saved, and how it is taken up again.
//!
//! A checkpoint holds the engine's tensors and [`At`]; together they are all that decides what comes next.

use super::job::Job;
use crate::record::{Recorder as _, RunRecorder};
use anyhow::Context as _;
use isoflop_base::NoisePairs;
use isoflop_base::tensor::WeightsOnly;
use isoflop_nn::{Engine, TokenBatch};
use isoflop_store::{Checkpoint, Run};
use serde::{Deserialize, Serialize};

/// Version of `state.json`.
const STATE_SCHEMA: &str = "isoflop.state/1";

/// What a step left to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    /// Mean loss of the batch, nats per token.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
}

/// What training cost; measured, so outside of what must be equal after an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of optimiser steps.
    pub seconds: f64,
    /// Joules over them; `None` once a reading was missing.
    pub joules: Option<f64>,
}

impl Cost {
    const NOTHING: Self = Self { seconds: 0.0, joules: Some(0.0) };

    fn add(&mut self, more: Cost) {
        self.seconds += more.seconds;
        self.joules = self.joules.zip(more.joules).map(|(a, b)| a + b);
    }
}

/// Where a run stands in its program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct At {
    schema: String,
    /// Things done so far (steps, rows, points): grows with each, also where the step goes back to a fork.
    pub position: u64,
    /// Index of the segment.
    pub segment: usize,
    /// Optimiser steps from the start along the path that led here.
    pub step: u64,
    /// The segment's ending has been dealt with; the next one is to be entered.
    pub segment_done: bool,
    /// The last step, while its row is not written.
    pub unlogged: Option<Stepped>,
    /// Smoothed training loss and its weight, for the progress line.
    smooth: (f64, f64),
    /// Cost along the path.
    pub path_cost: Cost,
    /// Cost in all, branches included.
    total_cost: Cost,
    /// Steps and seconds since the last row.
    since_row: (u64, f64),
    /// Pairs of gradient norms since the last row.
    #[serde(default)]
    noise: Option<NoisePairs>,
}

impl At {
    fn start() -> Self {
        Self {
            schema: STATE_SCHEMA.to_owned(),
            position: 0,
            segment: 0,
            step: 0,
            segment_done: false,
            unlogged: None,
            smooth: (0.0, 0.0),
            path_cost: Cost::NOTHING,
            total_cost: Cost::NOTHING,
            since_row: (0, 0.0),
            noise: None,
        }
    }

    /// One optimiser step was done.
    pub fn stepped(&mut self, step: Stepped, cost: Cost) {
        self.position += 1;
        self.step += 1;
        self.smooth = (0.95 * self.smooth.0 + 0.05 * step.loss, 0.95 * self.smooth.1 + 0.05);
        self.unlogged = Some(step);
        self.path_cost.add(cost);
        self.total_cost.add(cost);
        self.since_row = (self.since_row.0 + 1, self.since_row.1 + cost.seconds);
    }

    /// A step measured the gradient of a small and a big batch.
    pub fn saw_noise(&mut self, pair: NoisePairs) {
        self.noise = Some(self.noise.map_or(pair, |before| before.with(pair)));
    }

    /// Means over the pairs since the last row.
    pub fn take_noise(&mut self) -> Option<NoisePairs> {
        self.noise.take()
    }

    /// Mean training loss over about the last twenty steps.
    pub fn smooth_loss(&self) -> f64 {
        if self.smooth.1 > 0.0 { self.smooth.0 / self.smooth.1 } else { f64::NAN }
    }

    /// Tokens per second since the last row.
    pub fn take_speed(&mut self, batch_tokens: u64) -> Option<f64> {
        let (steps, seconds) = std::mem::take(&mut self.since_row);
        (steps > 0 && seconds > 0.0).then(|| (steps * batch_tokens) as f64 / seconds)
    }
}

/// Saves engine and place; under `pinned` label it stays, else it is one of the rolling two.
pub fn save<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &E,
    run: &mut Run,
    at: &At,
    pinned: Option<&str>,
) -> anyhow::Result<()> {
    let label = pinned.map_or_else(|| format!("at-{}", at.position), str::to_owned);
    let mut write = || -> anyhow::Result<()> {
        let mut writer = run.begin_checkpoint(&label, at.position)?;
        if pinned.is_some() {
            writer.pin();
        }
        engine.save(&mut writer)?;
        if let Some(tokenizer) = job.corpus.tokenizer_json() {
            writer.add_text("tokenizer.json", &tokenizer)?;
        }
        writer.finish(&serde_json::to_value(at)?, &crate::hf_config::config_json(&job.config))?;
        Ok(())
    };
    write().with_context(|| format!("saving checkpoint {label} of {}", job.spec.id))
}

/// Deletes what only an unfinished run needs: forks and rolling checkpoints. The finished points' own stay.
pub fn drop_scaffolding(run: &mut Run) -> anyhow::Result<()> {
    for info in run.checkpoints()?.complete {
        if !info.label.starts_with("point-") {
            run.remove_checkpoint(&info.label)?;
        }
    }
    Ok(())
}

/// Steps into the segment after the one that is done: a branch goes on from the fork just saved, the trunk returns to it.
pub fn enter_next_segment<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    run: &Run,
    at: &mut At,
) -> anyhow::Result<()> {
    let next = at.segment + 1;
    if let Some(label) = &job.program.segments[next].from_fork {
        let mut fork = run.open_checkpoint(label)?;
        let there = read_state(&fork)?;
        engine.load(&mut fork).with_context(|| format!("returning to {label}"))?;
        *at = At { position: at.position, total_cost: at.total_cost, ..there };
    }
    at.segment = next;
    at.segment_done = false;
    Ok(())
}

fn read_state(checkpoint: &Checkpoint) -> anyhow::Result<At> {
    let at: At = serde_json::from_value(checkpoint.state().clone())
        .with_context(|| format!("state.json of checkpoint {} cannot be read", checkpoint.label()))?;
    anyhow::ensure!(
        at.schema == STATE_SCHEMA,
        "checkpoint {} was written by another version ({})\nhint: finish the run with that version, or use another --store",
        checkpoint.label(),
        at.schema
    );
    Ok(at)
}

/// Brings engine and logs to the newest place that can be gone on from: the newest checkpoint that verifies and whose
/// fork does too, else the very beginning.
pub fn take_up<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    recorder: &mut RunRecorder<'_>,
) -> anyhow::Result<At> {
    let found = recorder.run.checkpoints()?;
    for damaged in &found.damaged {
        recorder.note(&format!(
            "{}: checkpoint {} is damaged ({}), going on from the one before",
            job.spec.id, damaged.label, damaged.why
        ))?;
    }
    let mut resumed = None;
    for info in &found.complete {
        match usable(job, recorder.run, &info.label) {
            Ok(pair) => {
                resumed = Some(pair);
                break;
            }
            Err(why) => {
                recorder.note(&format!("{}: {why:#}\n  going on from the checkpoint before", job.spec.id))?
            }
        }
    }
    let Some((mut checkpoint, at)) = resumed else {
        recorder.run.cut_back(0)?;
        if let Some(dir) = &job.study.train.init_from {
            start_from(job, engine, dir)?;
        }
        return Ok(At::start());
    };
    engine.load(&mut checkpoint).with_context(|| format!("loading checkpoint {}", checkpoint.label()))?;
    recorder.run.cut_back(at.position)?;
    recorder.note(&format!(
        "{}: going on from step {} of {}",
        job.spec.id,
        at.step,
        job.spec.ends.last().unwrap_or(&0)
    ))?;
    Ok(at)
}

/// A checkpoint that verifies, with its place in the program, if what that place needs later is there too.
fn usable(job: &Job<'_>, run: &Run, label: &str) -> anyhow::Result<(Checkpoint, At)> {
    let checkpoint = run.open_checkpoint(label)?;
    let at = read_state(&checkpoint)?;
    anyhow::ensure!(at.segment < job.program.segments.len(), "{label} is beyond the run's program");
    if let Some(fork) = job.program.segments.get(at.segment + 1).and_then(|next| next.from_fork.as_ref()) {
        run.open_checkpoint(fork).with_context(|| format!("{label} needs {fork} later"))?;
    }
    Ok((checkpoint, at))
}

/// Weights of any GPT-2 directory as initial values; its optimiser's state, if any, is left behind.
fn start_from<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    dir: &std::path::Path,
) -> anyhow::Result<()> {
    let mut checkpoint = Checkpoint::open_dir(dir).map_err(crate::error::UserError::from_error)?;
    crate::hf_config::check_matches(&checkpoint, &job.config)?;
    engine
        .load(&mut WeightsOnly(&mut checkpoint))
        .with_context(|| format!("train.init_from: loading {}", dir.display()))
}
