//! A run to be trained and what it is trained on: its program, its batches, its energy counters, its points.

use super::evaluate::HeldOut;
use super::program::Program;
use super::resume::{At, Cost};
use crate::error::UserError;
use crate::stop::Stop;
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::{Measured, Point, PointKind};
use isoflop_data::{Corpus, DataError, Sampler};
use isoflop_meter::EnergyMeter;
use isoflop_nn::{GptConfig, TokenBatch};
use std::cell::RefCell;
use std::time::Instant;

/// A run to be trained, and what it is trained on.
pub struct Job<'a> {
    pub study: &'a Study,
    pub spec: &'a RunSpec,
    pub program: Program,
    pub config: GptConfig,
    /// Exact training FLOPs per token.
    pub flops_per_token: f64,
    pub corpus: &'a Corpus,
    pub sampler: Sampler,
    pub stop: &'a Stop,
    energy: RefCell<EnergyReading>,
}

/// The energy counters and what they showed at the end of the last step.
struct EnergyReading {
    meter: EnergyMeter,
    joules: Measured<f64>,
}

impl<'a> Job<'a> {
    /// Sets a run up: its program and its stream of batches.
    pub fn new(
        study: &'a Study,
        spec: &'a RunSpec,
        config: GptConfig,
        flops_per_token: f64,
        corpus: &'a Corpus,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let program = Program::new(spec, &study.train);
        let sampler = Sampler::new(corpus.train.len(), study.train.context, spec.seed)
            .map_err(UserError::from_error)?;
        let mut meter = EnergyMeter::open(&isoflop_meter::System::real());
        let joules = meter.joules();
        let energy = RefCell::new(EnergyReading { meter, joules });
        Ok(Self { study, spec, program, config, flops_per_token, corpus, sampler, stop, energy })
    }

    /// Seconds since `started`, joules since the last call.
    pub(super) fn cost_since(&self, started: Instant) -> Cost {
        let mut energy = self.energy.borrow_mut();
        let now = energy.meter.joules();
        let before = std::mem::replace(&mut energy.joules, now.clone());
        let joules = before.value().zip(now.value()).map(|(before, now)| now - before);
        Cost { seconds: started.elapsed().as_secs_f64(), joules }
    }

    /// Energy along a path, or why there is none.
    pub(super) fn energy(&self, cost: Cost) -> Measured<f64> {
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
    pub fn batch(&self, step: u64) -> anyhow::Result<Vec<TokenBatch>> {
        let micro = self.study.train.micro_batch;
        let first = step * self.sequences();
        (0..self.sequences())
            .step_by(micro)
            .map(|offset| self.sampler.batch(&*self.corpus.train, first + offset, micro))
            .collect::<Result<_, DataError>>()
            .map_err(|e| UserError::from_error(e).into())
    }

    /// The finished point a run has come to.
    pub(super) fn point(&self, at: &At, kind: PointKind, held_out: HeldOut) -> Point {
        let (study, spec, train) = (self.study, self.spec, &self.study.train);
        let tokens = study.tokens_at(at.step);
        let rows = at.step * self.sequences();
        let per_byte = study.data.bytes_per_token.map(|bytes| held_out.loss / std::f64::consts::LN_2 / bytes);
        Point {
            run: spec.id.clone(),
            kind,
            shape: spec.shape,
            params: spec.shape.params(),
            params_total: spec.shape.params_total(study.data.vocab, train.context),
            tokens,
            flops: tokens as f64 * self.flops_per_token,
            flops_6nd: 6.0 * spec.shape.params() as f64 * tokens as f64,
            loss: held_out.loss,
            loss_se: held_out.se,
            bits_per_byte: per_byte,
            epochs: self.sampler.epochs(rows),
            unique_tokens: self.sampler.unique_tokens(rows),
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
            energy_j: self.energy(at.path_cost),
            blocks: held_out.blocks,
        }
    }
}
