//! The training loop: batches, accumulate, reduce, update, log, evaluate, save.
//!
//! Generic over the task: a family of models is known only through [`Task`], a device only through
//! [`Engine`]. Whatever the loop decides by (steps, rows of the curve, evaluations) is a function of the step alone, so
//! that a run which was interrupted anywhere and taken up again is the run that was not: only measured seconds and
//! joules differ.

use super::checkpoint;
use super::laps::{Activity, Laps};
use super::point::Finished;
use super::program::{Ending, Program, Segment};
use super::state::{Place, Stepped};
use crate::error::Stopped;
use crate::instruments::Meters;
use crate::record::{Event, Recorder as _, RunRecorder};
use crate::stop::{Stop, StopReason};
use crate::task::{Scoring, Task};
use anyhow::Context as _;
use isoflop_base::study::RunSpec;
use isoflop_base::{Cost, CurveRow, NoisePairs, PointKind, Precision, Status};
use isoflop_nn::engine::{NoisePair, Outcome as Moved};
use isoflop_nn::{Engine, EngineError, SingleDevice};
use std::time::Instant;

/// Rows of a training curve over the whole run, evaluations aside.
const CURVE_ROWS: u64 = 200;

/// How a run's training came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All points are finished.
    Done,
    /// Loss or gradient was not finite at this step; the engine's state is of no use any more.
    Diverged,
}

/// A run to be trained: what is asked of the loop.
pub struct Job<'a> {
    /// The run.
    pub spec: &'a RunSpec,
    /// Its segments.
    pub program: Program,
    /// Seconds between two checkpoints.
    pub checkpoint_every_s: f64,
    /// Asked between two pieces of work.
    pub stop: &'a Stop,
    /// What measures it.
    pub meters: Meters,
}

/// Trains a run from wherever it stands to its end. A stop saves it and comes back as [`Stopped`].
///
/// # Errors
/// [`Stopped`]; a store that cannot be written; data or checkpoints that cannot be read.
pub fn train<T: Task>(
    job: &Job<'_>,
    task: &mut T,
    engine: &mut T::Engine,
    recorder: &mut RunRecorder<'_>,
) -> anyhow::Result<Outcome> {
    train_after(Cost::NOTHING, job, task, engine, recorder)
}

/// The same after work that the run's operations hold and that was done before its loop, at this cost.
///
/// # Errors
/// As [`train`].
pub fn train_after<T: Task>(
    before: Cost,
    job: &Job<'_>,
    task: &mut T,
    engine: &mut T::Engine,
    recorder: &mut RunRecorder<'_>,
) -> anyhow::Result<Outcome> {
    let laps = Laps::begin(job.meters.energy.clone(), Activity::Checkpoints);
    let place = checkpoint::take_up(job, task, engine, recorder)?;
    recorder.record(&Event::RunBegins {
        run: &job.spec.id,
        steps: job.program.steps(),
        done: job.program.steps_before(place.segment, place.step),
    })?;
    let mut training = Training { job, task, engine, recorder, place, laps };
    training.place.spent.charge(Activity::Training, before);
    training.place.charge((Activity::Training, before));
    let outcome = match training.execute() {
        // Weights that the last step ruined show where they are scored next.
        Err(e) if matches!(e.downcast_ref(), Some(EngineError::NonFinite { .. })) => Ok(Outcome::Diverged),
        outcome => outcome,
    };
    if let Err(Some(Stopped(reason))) = outcome.as_ref().map_err(|error| error.downcast_ref::<Stopped>()) {
        let reason = reason.clone();
        training.save(None)?;
        // A signal is nobody's verdict on the run; a limit or an alarm is.
        if !matches!(reason, StopReason::Signal(_)) {
            training.recorder.run.set_status(Status::Stopped { reason: reason.to_string() })?;
        }
    }
    if let Err(Some(EngineError::Lost(_))) = outcome.as_ref().map_err(|error| error.downcast_ref()) {
        training.salvage()?;
    }
    let outcome = outcome?;
    let status = match outcome {
        Outcome::Done => Status::Done,
        Outcome::Diverged => {
            Status::Diverged { step: training.place.step, segment: training.segment().name.clone() }
        }
    };
    training.turn_to(Activity::Checkpoints);
    training.recorder.run.set_cost(training.place.total_cost)?;
    if outcome == Outcome::Done {
        // Before the status says so: of a run that is done nothing is left to do, wherever a process ends.
        checkpoint::drop_scaffolding(training.recorder.run, &job.program)?;
    }
    training.recorder.run.set_status(status)?;
    Ok(outcome)
}

/// A run in training.
struct Training<'t, 'j, 'r, T: Task> {
    job: &'t Job<'j>,
    task: &'t mut T,
    engine: &'t mut T::Engine,
    recorder: &'t mut RunRecorder<'r>,
    place: Place,
    laps: Laps,
}

impl<'t, T: Task> Training<'t, '_, '_, T> {
    fn segment(&self) -> &'t Segment {
        &self.job.program.segments[self.place.segment]
    }

    /// From here on time and energy are this activity's.
    fn turn_to(&mut self, activity: Activity) {
        let lap = self.laps.turn_to(activity, &mut self.place.spent);
        self.place.charge(lap);
    }

    /// The run's program, segment by segment.
    fn execute(&mut self) -> anyhow::Result<Outcome> {
        loop {
            if !self.place.segment_done {
                self.turn_to(Activity::Training);
                if self.steps()? == Outcome::Diverged {
                    return Ok(Outcome::Diverged);
                }
                self.finish_segment()?;
            }
            if self.place.segment + 1 == self.job.program.segments.len() {
                return Ok(Outcome::Done);
            }
            self.turn_to(Activity::Checkpoints);
            checkpoint::enter_next_segment::<T>(self.job, self.engine, self.recorder.run, &mut self.place)?;
        }
    }

    /// The optimiser steps of one segment.
    fn steps(&mut self) -> anyhow::Result<Outcome> {
        let segment = self.segment();
        let mut saved = Instant::now();
        self.log_and_evaluate()?; // what an interruption left undone
        while self.place.step < segment.end {
            if self.job.stop.is_held() {
                self.turn_to(Activity::Held);
                self.job.stop.wait_while_held();
                self.turn_to(Activity::Training);
            }
            if self.step(segment)? == Outcome::Diverged {
                return Ok(Outcome::Diverged);
            }
            self.log_and_evaluate()?;
            let due = saved.elapsed().as_secs_f64() >= self.job.checkpoint_every_s;
            if due && self.place.step < segment.end {
                self.save(None)?;
                self.turn_to(Activity::Training);
                saved = Instant::now();
            }
            let executed = self.job.program.steps_before(self.place.segment, self.place.step);
            let loss = self.place.smooth_loss();
            self.recorder.record(&Event::Stepped { executed, segment: &segment.name, loss })?;
        }
        Ok(Outcome::Done)
    }

    /// One optimiser step.
    fn step(&mut self, segment: &Segment) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let lr = segment.schedule.lr(self.place.step);
        let waited = self.task.waited_s();
        let batches = segment.step_at(self.place.step);
        let count = batches.end - batches.start;
        let batch = self.task.micro_batches(batches)?;
        for micro in batch {
            self.job.stop.check()?;
            self.engine.accumulate(micro, 1.0 / batch.len() as f32)?;
        }
        let waited = self.task.waited_s() - waited;
        self.engine.reduce(&mut SingleDevice)?;
        let update = match self.engine.update(lr as f32) {
            Err(EngineError::NonFinite { .. }) => return Ok(Outcome::Diverged),
            update => update?,
        };
        self.heed(update.outcome, update.grad_norm)?;
        let stepped = Stepped { loss: update.loss, lr, grad_norm: self.place.grad_norm };
        self.place.stepped(stepped, count, started.elapsed().as_secs_f64(), waited);
        if let Some(pair) = update.noise {
            self.place.saw_noise(one(pair));
        }
        Ok(Outcome::Done)
    }

    /// A step that was made has a norm; one that was skipped is told, counted, and goes on: its batch is consumed.
    fn heed(&mut self, outcome: Moved, grad_norm: f64) -> anyhow::Result<()> {
        match outcome {
            Moved::Applied => self.place.grad_norm = grad_norm,
            Moved::Skipped { scale } => {
                self.place.skipped += 1;
                let (run, step) = (&self.job.spec.id, self.place.step + 1);
                self.recorder.note(&format!(
                    "{run}: step {step} was skipped, its gradients overflowed in fp16; the loss scale is now {scale}"
                ))?;
            }
        }
        Ok(())
    }

    /// A device was lost. What is left of it may hold the state before the step: then that is saved, and whoever reads
    /// the error learns where the same command goes on; else the last checkpoint stands.
    fn salvage(&mut self) -> anyhow::Result<()> {
        let run = self.job.spec.id.clone();
        let words = match self.save(None) {
            Ok(()) => format!("{run}: saved at step {} from a device that is left", self.place.step),
            Err(_) => format!("{run}: no device is left to save from; the last checkpoint stands"),
        };
        self.recorder.note(&words)
    }

    /// Writes the row of the last step if one is due there, with a held-out loss if that is due too. The last row of a
    /// finished point waits for the point's own evaluation.
    fn log_and_evaluate(&mut self) -> anyhow::Result<()> {
        let segment = self.segment();
        let at_end = self.place.step == segment.end;
        if self.place.unlogged.is_none() || (at_end && matches!(segment.ending, Ending::Point(..))) {
            return Ok(());
        }
        let total = self.job.spec.end();
        // A step that takes several batches may pass over what it is counted by.
        let before = segment.step_before(self.place.step);
        let every = |steps: f64| {
            let steps = (steps.round() as u64).max(1);
            self.place.step / steps > before / steps
        };
        let evaluate = every(self.job.spec.train.eval_every * total as f64);
        if evaluate || at_end || every(total as f64 / CURVE_ROWS as f64) {
            let val_loss = match evaluate {
                true => {
                    self.turn_to(Activity::Evaluation);
                    let score = self.task.score(self.engine, Scoring::Curve, self.job.stop)?;
                    self.turn_to(Activity::Training);
                    Some(score.loss)
                }
                false => None,
            };
            self.append_row(val_loss)?;
        }
        self.place.unlogged = None;
        Ok(())
    }

    /// Appends the row of the last step, if it has none yet.
    fn append_row(&mut self, val_loss: Option<f64>) -> anyhow::Result<()> {
        let Some(last) = self.place.unlogged.take() else { return Ok(()) };
        let segment = self.segment();
        let seen = self.task.seen(self.place.step);
        let interval = self.place.take_interval();
        let row = CurveRow {
            run: self.job.spec.id.clone(),
            segment: segment.name.clone(),
            step: self.place.step,
            tokens: seen.samples,
            flops: seen.flops,
            train_loss: last.loss,
            val_loss,
            lr: last.lr,
            grad_norm: last.grad_norm,
            decayed: segment.schedule.decayed(self.place.step - 1),
            tokens_per_s: interval.tokens_per_s(self.job.spec.train.batch_tokens),
            data_wait: interval.data_wait(),
            skipped: (self.job.spec.train.precision == Precision::Fp16).then_some(self.place.skipped),
            noise: self.place.take_noise(),
        };
        self.place.position += 1;
        self.recorder.record(&Event::Row(self.place.position, &row)).context("writing the training curve")
    }

    /// What the end of a segment asks for: a fork is saved and its branch begins, a point is evaluated, recorded and
    /// saved.
    fn finish_segment(&mut self) -> anyhow::Result<()> {
        let label = match &self.segment().ending {
            Ending::Fork(label) => label,
            Ending::Point(kind, label) => {
                self.record_point(*kind)?;
                label
            }
        };
        self.place.segment_done = true;
        self.save(Some(label))
    }

    fn record_point(&mut self, kind: PointKind) -> anyhow::Result<()> {
        self.turn_to(Activity::Evaluation);
        self.recorder.record(&Event::Evaluating)?;
        let score = self.task.score(self.engine, Scoring::Point, self.job.stop)?;
        let held_out = self.task.score_others(self.engine, self.job.stop)?;
        self.append_row(Some(score.loss))?;
        let (steps, cost) = (self.place.step, self.place.path_cost);
        let (seen, energy_j) = (self.task.seen(steps), self.laps.energy(cost));
        let sources = self.task.sources(steps);
        let peak_flops_per_s = self.job.meters.peak_flops_per_s.clone();
        let finished =
            Finished { kind, steps, seen, score, cost, energy_j, peak_flops_per_s, sources, held_out };
        let point = finished.point(self.job.spec);
        self.place.position += 1;
        self.recorder.record(&Event::Point(self.place.position, &point))
    }

    fn save(&mut self, pinned: Option<&str>) -> anyhow::Result<()> {
        self.turn_to(Activity::Checkpoints);
        checkpoint::save(self.job, self.task, self.engine, self.recorder.run, &self.place, pinned)
    }
}

/// The pair of one step.
fn one(pair: NoisePair) -> NoisePairs {
    NoisePairs {
        pairs: 1,
        small_tokens: pair.small_tokens,
        small_sq: pair.small_squared,
        big_tokens: pair.big_tokens,
        big_sq: pair.big_squared,
    }
}
