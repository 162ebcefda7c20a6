//! The training loop: data, accumulate, reduce, update, log, evaluate, save.
//!
//! Generic over the engine; it knows a device only through [`Engine`]. Everything it decides by (steps, rows of the
//! curve, evaluations) is a function of the step alone, so that a run which was interrupted anywhere and taken up again
//! is the run that was not: only measured seconds differ.

use super::evaluate::held_out;
use super::program::{Ending, Program, Segment};
use super::resume::{self, At, Cost, Stepped};
use crate::progress::Display;
use crate::signals::Stop;
use anyhow::Context as _;
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::{CurveRow, Measured, Point, PointKind, Status};
use isoflop_data::{Corpus, Sampler};
use isoflop_meter::EnergyMeter;
use isoflop_nn::{Engine, EngineError, GptConfig, SingleDevice, TokenBatch};
use isoflop_store::Run;
use std::cell::RefCell;
use std::time::Instant;

/// Rows of a training curve over the whole run, evaluations aside.
const CURVE_ROWS: u64 = 200;

/// A run to be trained, and what it is trained on.
pub(crate) struct Job<'a> {
    pub(crate) study: &'a Study,
    pub(crate) spec: &'a RunSpec,
    pub(crate) program: Program,
    pub(crate) config: GptConfig,
    /// Exact training FLOPs per token.
    pub(crate) flops_per_token: f64,
    pub(crate) corpus: &'a Corpus,
    pub(crate) sampler: Sampler,
    pub(crate) stop: &'a Stop,
    energy: RefCell<EnergyReading>,
}

/// The energy counters and what they showed at the end of the last step.
struct EnergyReading {
    meter: EnergyMeter,
    joules: Measured<f64>,
}

impl<'a> Job<'a> {
    /// Sets a run up: its program and its stream of batches.
    pub(crate) fn new(
        study: &'a Study,
        spec: &'a RunSpec,
        config: GptConfig,
        flops_per_token: f64,
        corpus: &'a Corpus,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let program = Program::new(spec, &study.train);
        let sampler = Sampler::new(corpus.train.len(), study.train.context, spec.seed)
            .map_err(crate::exit::UserError::from_error)?;
        let mut meter = EnergyMeter::open(&isoflop_meter::System::real());
        let joules = meter.joules();
        let energy = RefCell::new(EnergyReading { meter, joules });
        Ok(Self { study, spec, program, config, flops_per_token, corpus, sampler, stop, energy })
    }

    /// Seconds since `started`, joules since the last call.
    fn cost_since(&self, started: Instant) -> Cost {
        let mut energy = self.energy.borrow_mut();
        let now = energy.meter.joules();
        let before = std::mem::replace(&mut energy.joules, now.clone());
        let joules = before.value().zip(now.value()).map(|(before, now)| now - before);
        Cost { seconds: started.elapsed().as_secs_f64(), joules }
    }

    /// Energy along a path, or why there is none.
    fn energy(&self, cost: Cost) -> Measured<f64> {
        match (cost.joules, &self.energy.borrow().joules) {
            (Some(joules), _) => Measured::measured(joules),
            (None, Measured::Missing { reason }) => Measured::missing(reason.clone()),
            (None, _) => Measured::missing("the counters were not there over the whole run"),
        }
    }

    /// Sequences per optimiser step.
    fn sequences(&self) -> u64 {
        self.study.train.batch_tokens / self.study.train.context as u64
    }

    /// The micro-batches of a step: the same whoever asks and whenever.
    pub(crate) fn batch(&self, step: u64) -> anyhow::Result<Vec<TokenBatch>> {
        let (context, micro) = (self.study.train.context, self.study.train.micro_batch);
        let first = step * self.sequences();
        (0..self.sequences())
            .step_by(micro)
            .map(|offset| {
                let tokens = self.sampler.batch(&*self.corpus.train, first + offset, micro)?;
                Ok(TokenBatch::new(tokens, micro, context))
            })
            .collect::<Result<_, isoflop_data::DataError>>()
            .map_err(|e| crate::exit::UserError::from_error(e).into())
    }
}

/// How a run's training came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All points are finished.
    Done,
    /// Loss or gradient was not finite at this step; the engine's state is of no use any more.
    Diverged,
}

/// Trains a run from wherever it stands to its end. A signal saves it and comes back as [`crate::exit::Interrupted`].
pub(crate) fn train<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    run: &mut Run,
    display: &mut Display,
) -> anyhow::Result<Outcome> {
    let mut at = resume::take_up(job, engine, run, display)?;
    display.start_run(&job.spec.id, job.program.steps(), job.program.steps_before(at.segment, at.step));
    let outcome = execute(job, engine, run, &mut at, display);
    if matches!(&outcome, Err(error) if error.is::<crate::exit::Interrupted>()) {
        resume::save(job, engine, run, &at, None)?;
    }
    let outcome = outcome?;
    let status = match outcome {
        Outcome::Done => Status::Done,
        Outcome::Diverged => Status::Diverged { step: at.step, segment: segment_at(job, &at).name.clone() },
    };
    run.set_status(status)?;
    if outcome == Outcome::Done {
        resume::drop_scaffolding(run)?;
    }
    Ok(outcome)
}

fn segment_at<'j>(job: &'j Job<'_>, at: &At) -> &'j Segment {
    &job.program.segments[at.segment]
}

/// The run's program, segment by segment.
fn execute<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    run: &mut Run,
    at: &mut At,
    display: &mut Display,
) -> anyhow::Result<Outcome> {
    loop {
        if !at.segment_done {
            if steps(job, engine, run, at, display)? == Outcome::Diverged {
                return Ok(Outcome::Diverged);
            }
            finish_segment(job, engine, run, at, display)?;
        }
        if at.segment + 1 == job.program.segments.len() {
            return Ok(Outcome::Done);
        }
        resume::enter_next_segment(job, engine, run, at)?;
    }
}

/// The optimiser steps of one segment.
fn steps<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    run: &mut Run,
    at: &mut At,
    display: &mut Display,
) -> anyhow::Result<Outcome> {
    let segment = segment_at(job, at);
    let mut saved = Instant::now();
    log_and_evaluate(job, segment, engine, run, at)?; // what an interruption left undone
    while at.step < segment.end {
        let started = Instant::now();
        let lr = segment.schedule.lr(at.step);
        let batch = job.batch(at.step)?;
        let scale = 1.0 / batch.len() as f32;
        let mut loss = 0.0;
        for micro in &batch {
            job.stop.check()?;
            loss += engine.accumulate(micro, scale)?.loss / batch.len() as f64;
        }
        if !loss.is_finite() {
            return Ok(Outcome::Diverged);
        }
        engine.reduce(&mut SingleDevice)?;
        let update = match engine.update(lr as f32) {
            Err(EngineError::NonFinite { .. }) => return Ok(Outcome::Diverged),
            result => result?,
        };
        at.stepped(Stepped { loss, lr, grad_norm: update.grad_norm }, job.cost_since(started));
        log_and_evaluate(job, segment, engine, run, at)?;
        if at.step < segment.end && saved.elapsed().as_secs_f64() >= job.study.train.checkpoint_every_s {
            resume::save(job, engine, run, at, None)?;
            saved = Instant::now();
        }
        display.step(job.program.steps_before(at.segment, at.step), at.smooth_loss(), &segment.name);
    }
    Ok(Outcome::Done)
}

/// Writes the row of the last step if one is due there, with a held-out loss if that is due too. The last row of a
/// finished point waits for the point's own evaluation.
fn log_and_evaluate<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    segment: &Segment,
    engine: &mut E,
    run: &mut Run,
    at: &mut At,
) -> anyhow::Result<()> {
    let Some(last) = at.unlogged else { return Ok(()) };
    let at_end = at.step == segment.end;
    if at_end && matches!(segment.ending, Ending::Point(..)) {
        return Ok(());
    }
    let total = *job.spec.ends.last().expect("a run has an end");
    let evaluate_every = ((job.study.train.eval_every * total as f64).round() as u64).max(1);
    let evaluate = at.step.is_multiple_of(evaluate_every);
    if evaluate || at_end || at.step.is_multiple_of((total / CURVE_ROWS).max(1)) {
        let val_loss = match evaluate {
            true => Some(held_out(job, engine, job.study.train.curve_tokens)?.loss),
            false => None,
        };
        append_row(job, segment, run, at, last, val_loss)?;
    }
    at.unlogged = None;
    Ok(())
}

fn append_row(
    job: &Job<'_>,
    segment: &Segment,
    run: &mut Run,
    at: &mut At,
    last: Stepped,
    val_loss: Option<f64>,
) -> anyhow::Result<()> {
    let tokens = job.study.tokens_at(at.step);
    let row = CurveRow {
        run: job.spec.id.clone(),
        segment: segment.name.clone(),
        step: at.step,
        tokens,
        flops: tokens as f64 * job.flops_per_token,
        train_loss: last.loss,
        val_loss,
        lr: last.lr,
        grad_norm: last.grad_norm,
        decayed: segment.schedule.decayed(at.step - 1),
        tokens_per_s: at.take_speed(job.study.train.batch_tokens),
    };
    at.position += 1;
    run.append_curve(at.position, &row).context("writing the training curve")
}

/// What the end of a segment asks for: a fork is saved and its branch begins, a point is evaluated, recorded and saved.
fn finish_segment<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    run: &mut Run,
    at: &mut At,
    display: &mut Display,
) -> anyhow::Result<()> {
    let segment = segment_at(job, at);
    let label = match &segment.ending {
        Ending::Fork(label) => label,
        Ending::Point(kind, label) => {
            display.phase("evaluating");
            let held_out = held_out(job, engine, job.study.train.eval_tokens)?;
            if let Some(last) = at.unlogged.take() {
                append_row(job, segment, run, at, last, Some(held_out.loss))?;
            }
            let point = point(job, at, *kind, held_out);
            display.note(&format!(
                "{}  {:>6} tokens  loss {:.4} nats/token{}",
                point.run,
                isoflop_base::units::si(point.tokens as f64),
                point.loss,
                point.loss_se.map_or(String::new(), |se| format!(" ± {se:.4}")),
            ));
            at.position += 1;
            run.add_point(at.position, &point)?;
            label
        }
    };
    at.segment_done = true;
    resume::save(job, engine, run, at, Some(label))
}

fn point(job: &Job<'_>, at: &At, kind: PointKind, held_out: super::evaluate::HeldOut) -> Point {
    let (study, spec, train) = (job.study, job.spec, &job.study.train);
    let tokens = study.tokens_at(at.step);
    let rows = at.step * job.sequences();
    let per_byte = study.data.bytes_per_token.map(|bytes| held_out.loss / std::f64::consts::LN_2 / bytes);
    Point {
        run: spec.id.clone(),
        kind,
        shape: spec.shape,
        params: spec.shape.params(),
        params_total: spec.shape.params_total(study.data.vocab, train.context),
        tokens,
        flops: tokens as f64 * job.flops_per_token,
        flops_6nd: 6.0 * spec.shape.params() as f64 * tokens as f64,
        loss: held_out.loss,
        loss_se: held_out.se,
        bits_per_byte: per_byte,
        epochs: job.sampler.epochs(rows),
        unique_tokens: job.sampler.unique_tokens(rows),
        steps: at.step,
        batch_tokens: train.batch_tokens,
        lr: spec.lr,
        schedule: train.schedule.word().to_owned(),
        init: if train.init_from.is_some() { "checkpoint" } else { train.init.word() }.to_owned(),
        context: train.context,
        vocab: study.data.vocab,
        seed: spec.seed,
        precision: train.precision.word().to_owned(),
        kernels: train.kernels.clone(),
        seconds: Measured::measured(at.path_cost.seconds),
        tokens_per_s: match at.path_cost.seconds > 0.0 {
            true => Measured::measured(tokens as f64 / at.path_cost.seconds),
            false => Measured::missing("no time was measured"),
        },
        energy_j: job.energy(at.path_cost),
        blocks: held_out.blocks,
    }
}
