//! The training loop: data, accumulate, reduce, update, log, evaluate, save.
//!
//! Generic over the engine: a device is known only through [`Engine`]. Whatever the loop decides by (steps, rows of the
//! curve, evaluations) is a function of the step alone, so that a run which was interrupted anywhere and taken up again
//! is the run that was not: only measured seconds and joules differ.

use super::evaluate::held_out;
use super::job::Job;
use super::program::{Ending, Segment};
use super::resume::{self, At, Stepped};
use crate::error::Stopped;
use crate::record::{Event, Recorder as _, RunRecorder};
use anyhow::Context as _;
use isoflop_base::{CurveRow, NoisePairs, PointKind, Status};
use isoflop_nn::engine::NoisePair;
use isoflop_nn::{Engine, EngineError, SingleDevice, TokenBatch};
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

/// Trains a run from wherever it stands to its end. A signal saves it and comes back as [`Stopped`].
pub fn train<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    recorder: &mut RunRecorder<'_>,
) -> anyhow::Result<Outcome> {
    let at = resume::take_up(job, engine, recorder)?;
    recorder.record(&Event::RunBegins {
        run: &job.spec.id,
        steps: job.program.steps(),
        done: job.program.steps_before(at.segment, at.step),
    })?;
    let mut training = Training { job, engine, recorder, at };
    let outcome = training.execute();
    if matches!(&outcome, Err(error) if error.is::<Stopped>()) {
        training.save(None)?;
    }
    let outcome = outcome?;
    let status = match outcome {
        Outcome::Done => Status::Done,
        Outcome::Diverged => {
            Status::Diverged { step: training.at.step, segment: training.segment().name.clone() }
        }
    };
    training.recorder.run.set_status(status)?;
    if outcome == Outcome::Done {
        resume::drop_scaffolding(training.recorder.run)?;
    }
    Ok(outcome)
}

/// A run in training.
struct Training<'t, 'j, 'r, E> {
    job: &'t Job<'j>,
    engine: &'t mut E,
    recorder: &'t mut RunRecorder<'r>,
    at: At,
}

impl<'t, E: Engine<Batch = TokenBatch>> Training<'t, '_, '_, E> {
    fn segment(&self) -> &'t Segment {
        &self.job.program.segments[self.at.segment]
    }

    /// The run's program, segment by segment.
    fn execute(&mut self) -> anyhow::Result<Outcome> {
        loop {
            if !self.at.segment_done {
                if self.steps()? == Outcome::Diverged {
                    return Ok(Outcome::Diverged);
                }
                self.finish_segment()?;
            }
            if self.at.segment + 1 == self.job.program.segments.len() {
                return Ok(Outcome::Done);
            }
            resume::enter_next_segment(self.job, self.engine, self.recorder.run, &mut self.at)?;
        }
    }

    /// The optimiser steps of one segment.
    fn steps(&mut self) -> anyhow::Result<Outcome> {
        let segment = self.segment();
        let mut saved = Instant::now();
        self.log_and_evaluate()?; // what an interruption left undone
        while self.at.step < segment.end {
            let started = Instant::now();
            let lr = segment.schedule.lr(self.at.step);
            let batch = self.job.batch(self.at.step)?;
            for micro in &batch {
                self.job.stop.check()?;
                self.engine.accumulate(micro, 1.0 / batch.len() as f32)?;
            }
            self.engine.reduce(&mut SingleDevice)?;
            let update = match self.engine.update(lr as f32) {
                Err(EngineError::NonFinite { .. }) => return Ok(Outcome::Diverged),
                update => update?,
            };
            let stepped = Stepped { loss: update.loss, lr, grad_norm: update.grad_norm };
            self.at.stepped(stepped, self.job.cost_since(started));
            if let Some(pair) = update.noise {
                self.at.saw_noise(one(pair));
            }
            self.log_and_evaluate()?;
            let due = saved.elapsed().as_secs_f64() >= self.job.study.train.checkpoint_every_s;
            if due && self.at.step < segment.end {
                self.save(None)?;
                saved = Instant::now();
            }
            let executed = self.job.program.steps_before(self.at.segment, self.at.step);
            let loss = self.at.smooth_loss();
            self.recorder.record(&Event::Stepped { executed, segment: &segment.name, loss })?;
        }
        Ok(Outcome::Done)
    }

    /// Writes the row of the last step if one is due there, with a held-out loss if that is due too. The last row of a
    /// finished point waits for the point's own evaluation.
    fn log_and_evaluate(&mut self) -> anyhow::Result<()> {
        let (train, segment) = (&self.job.study.train, self.segment());
        let at_end = self.at.step == segment.end;
        if self.at.unlogged.is_none() || (at_end && matches!(segment.ending, Ending::Point(..))) {
            return Ok(());
        }
        let total = *self.job.spec.ends.last().expect("a run has an end");
        let every = |steps: f64| self.at.step.is_multiple_of((steps.round() as u64).max(1));
        let evaluate = every(train.eval_every * total as f64);
        if evaluate || at_end || every(total as f64 / CURVE_ROWS as f64) {
            let val_loss = match evaluate {
                true => Some(held_out(self.job, self.engine, train.curve_tokens)?.loss),
                false => None,
            };
            self.append_row(val_loss)?;
        }
        self.at.unlogged = None;
        Ok(())
    }

    /// Appends the row of the last step, if it has none yet.
    fn append_row(&mut self, val_loss: Option<f64>) -> anyhow::Result<()> {
        let Some(last) = self.at.unlogged.take() else { return Ok(()) };
        let segment = self.segment();
        let tokens = self.job.study.tokens_at(self.at.step);
        let row = CurveRow {
            run: self.job.spec.id.clone(),
            segment: segment.name.clone(),
            step: self.at.step,
            tokens,
            flops: tokens as f64 * self.job.flops_per_token,
            train_loss: last.loss,
            val_loss,
            lr: last.lr,
            grad_norm: last.grad_norm,
            decayed: segment.schedule.decayed(self.at.step - 1),
            tokens_per_s: self.at.take_speed(self.job.study.train.batch_tokens),
            noise: self.at.take_noise(),
        };
        self.at.position += 1;
        self.recorder.record(&Event::Row(self.at.position, &row)).context("writing the training curve")
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
        self.at.segment_done = true;
        self.save(Some(label))
    }

    fn record_point(&mut self, kind: PointKind) -> anyhow::Result<()> {
        self.recorder.record(&Event::Evaluating)?;
        let held_out = held_out(self.job, self.engine, self.job.study.train.eval_tokens)?;
        self.append_row(Some(held_out.loss))?;
        let point = self.job.point(&self.at, kind, held_out);
        self.at.position += 1;
        self.recorder.record(&Event::Point(self.at.position, &point))
    }

    fn save(&mut self, pinned: Option<&str>) -> anyhow::Result<()> {
        resume::save(self.job, self.engine, self.recorder.run, &self.at, pinned)
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
