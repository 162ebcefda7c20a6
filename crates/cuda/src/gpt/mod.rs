//! GPT-2 and its optimiser on one card or several: the model of `isoflop_nn::reference`, in the passes of a
//! [`Replica`] on each.
//!
//! Each micro-batch is divided among the cards, sequences in order; with the last one of a step the gradients are
//! joined while the backward makes them ([`crate::exchange`]). Every card then makes the same update of its own copy.
//!
//! Nothing is allocated on a card after an engine is made, and nothing waits for one but what needs its answer: the
//! losses of a micro-batch are looked at two micro-batches later, or when the step ends.

mod state;
mod step;

use crate::device::Cuda;
use crate::driver::DriverError;
use crate::exchange::Exchange;
use crate::images;
use crate::replica::{Replica, SLOTS};
use crate::scaler::LossScaler;
use crate::sizes::{Buffer, Sizes};
use isoflop_base::{TensorSink, TensorSource, TokenBatch};
use isoflop_nn::engine::{
    Engine, EngineError, Group, LanguageModel, MemoryPlan, Outcome, SequenceLoss, StepSums, Update,
    check_batch,
};
use isoflop_nn::gpt::NOISE_EVERY;
use isoflop_nn::layout::Layout;
use isoflop_nn::{EngineOptions, GptConfig, Precision, init};
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// GPT-2 and its optimiser on graphics cards.
#[derive(Debug)]
pub struct CudaGpt {
    config: GptConfig,
    options: EngineOptions,
    sizes: Rc<Sizes>,
    /// Saving reads the cards' memory by their queues.
    replicas: RefCell<Vec<Replica>>,
    exchange: Option<Exchange>,
    scaler: Option<LossScaler>,
    /// Optimiser steps made.
    step: u64,
    sums: StepSums,
    /// Micro-batches of this step so far.
    micro_batches: usize,
    /// Losses on their way home, by slot: the sequences of each card and their length.
    sent: [Option<Sent>; SLOTS],
    /// Whether the cards' gradients are the joined one.
    joined: bool,
    /// Whether |g|² of the first micro-batch waits on the cards, and what its mean over them is divided by.
    small_waits: bool,
    state: State,
}

/// Losses on their way: the sequences of each card, and their length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    shares: Vec<Range<usize>>,
    length: usize,
}

/// Whether the cards hold what the counters say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// They do.
    Whole,
    /// Card `number` is lost; the others hold the last step's weights.
    Lost { number: usize },
    /// A step was under way when a card was lost.
    Torn,
}

fn device(error: &DriverError) -> EngineError {
    EngineError::Device(error.to_string())
}

impl CudaGpt {
    /// A model with fresh weights, a function of the seed.
    pub(crate) fn new(
        cuda: &Cuda,
        config: &GptConfig,
        options: &EngineOptions,
        seed: u64,
    ) -> Result<Self, EngineError> {
        let sizes = Rc::new(Sizes::new(config, options, cuda.cards().len()));
        let free = cuda.free().map_err(|e| device(&e))?;
        if sizes.total() > free {
            return Err(EngineError::Device(format!(
                "{} needs {} bytes of the card's memory, {free} are free\nhint: choose a smaller micro-batch, \
                 recompute = \"block\" or optimizer = \"adamw8bit\"; `isoflop plan` says what fits",
                config.shape,
                sizes.total()
            )));
        }
        let make = || -> Result<(Vec<Replica>, Option<Exchange>), DriverError> {
            let image = images::image(options.precision, cuda.cards()[0].capability);
            let replicas = cuda
                .cards()
                .iter()
                .map(|card| Replica::new(cuda.driver(), card.number, &image, &sizes))
                .collect::<Result<Vec<_>, _>>()?;
            let exchange = match replicas.len() {
                1 => None,
                _ => Some(Exchange::new(&replicas, &sizes)?),
            };
            Ok((replicas, exchange))
        };
        let (replicas, exchange) = make().map_err(|e| device(&e))?;
        let engine = Self {
            config: *config,
            options: *options,
            replicas: RefCell::new(replicas),
            exchange,
            scaler: (options.precision == Precision::Fp16).then(LossScaler::default),
            step: 0,
            sums: StepSums::default(),
            micro_batches: 0,
            sent: [const { None }; SLOTS],
            joined: false,
            small_waits: false,
            state: State::Whole,
            sizes,
        };
        let mut weights = vec![0f32; engine.sizes.layout.len];
        init::weights(config, &engine.sizes.layout, seed, &mut weights);
        engine.upload_weights(&weights).map_err(|e| device(&e))?;
        Ok(engine)
    }

    /// The model's shape.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Layout of weights and gradients.
    pub fn layout(&self) -> &Layout {
        &self.sizes.layout
    }

    /// Whether cards copy to each other without the host; `None` of one card.
    pub fn by_peers(&self) -> Option<bool> {
        self.exchange.as_ref().map(Exchange::by_peers)
    }

    /// The loss scale, in fp16.
    pub fn loss_scale(&self) -> Option<f32> {
        self.scaler.map(|scaler| scaler.scale())
    }

    /// The weights of card `card`, waited for.
    ///
    /// # Errors
    /// The driver's.
    pub fn weights_of(&self, card: usize) -> Result<Vec<f32>, EngineError> {
        self.read(card, self.sizes.weights)
    }

    /// The gradients on card `card`, times the loss scale in fp16, waited for.
    ///
    /// # Errors
    /// The driver's.
    pub fn gradients_of(&self, card: usize) -> Result<Vec<f32>, EngineError> {
        self.read(card, self.sizes.gradients)
    }

    fn read(&self, card: usize, buffer: Buffer) -> Result<Vec<f32>, EngineError> {
        let mut values = vec![0f32; buffer.bytes as usize / 4];
        let replica = &self.replicas.borrow()[card];
        let read = replica.stream.download(replica.at(buffer), bytemuck::cast_slice_mut(&mut values));
        read.map_err(|e| device(&e))?;
        Ok(values)
    }

    fn upload_weights(&self, weights: &[f32]) -> Result<(), DriverError> {
        for replica in self.replicas.borrow().iter() {
            replica.stream.upload(replica.at(self.sizes.weights), bytemuck::cast_slice(weights))?;
            replica.cast_weights()?;
        }
        Ok(())
    }

    /// The sequences of a batch that each card computes: in order, as equal as can be.
    fn shares(&self, sequences: usize) -> Vec<Range<usize>> {
        let cards = self.replicas.borrow().len();
        (0..cards).map(|card| card * sequences / cards..(card + 1) * sequences / cards).collect()
    }

    /// Remembers what an error says of the cards. `updating`: some may have moved their weights already.
    fn note<T>(&mut self, result: Result<T, DriverError>, updating: bool) -> Result<T, EngineError> {
        result.map_err(|error| {
            if error.is_lost() {
                let number = match &error {
                    DriverError::Card { card, .. } | DriverError::Stuck { card } => *card,
                    _ => 0,
                };
                let of_number = |replica: &Replica| replica.context.number() == number;
                let lost = self.replicas.borrow().iter().position(of_number).unwrap_or(0);
                self.state = match (&self.state, updating) {
                    // A second card: which weights are whole is not known any more.
                    (State::Whole, false) => State::Lost { number: lost },
                    (State::Lost { number }, false) if *number == lost => State::Lost { number: lost },
                    _ => State::Torn,
                };
                return EngineError::Lost(error.to_string());
            }
            device(&error)
        })
    }

    /// A card that holds what the counters say.
    fn whole(&self) -> Result<usize, EngineError> {
        let cards = self.replicas.borrow().len();
        let torn = || EngineError::Lost("no card holds a whole state any more".to_owned());
        match self.state {
            State::Whole => Ok(0),
            State::Lost { number } => (0..cards).find(|card| *card != number).ok_or_else(torn),
            State::Torn => Err(torn()),
        }
    }

    fn usable(&self) -> Result<(), EngineError> {
        match self.state {
            State::Whole => Ok(()),
            _ => Err(EngineError::Lost("a card was lost; make the engine anew".to_owned())),
        }
    }

    /// Whether this step measures a pair of gradient norms.
    fn estimates_noise(&self) -> bool {
        self.step.is_multiple_of(NOISE_EVERY)
    }

    /// Takes in what the cards have of this step: losses, the small batch's norm, one gradient on all of them.
    fn gather(&mut self) -> Result<(), EngineError> {
        let cards = self.collect_all().and_then(|()| self.collect_small()).and_then(|()| self.join_cards());
        self.note(cards, false)
    }

    /// Begins a new step.
    fn begin_step(&mut self) {
        self.micro_batches = 0;
        self.joined = false;
        self.small_waits = false;
        self.sent = [const { None }; SLOTS];
        self.sums = StepSums::default();
    }

    /// The step as it is told: applied, skipped, or not finite.
    fn decide(&mut self, sums: &StepSums, squares: f64, finite: bool) -> Result<Update, EngineError> {
        let loss = sums.mean_loss()?;
        let outcome = if finite {
            self.step += 1;
            if let Some(scaler) = &mut self.scaler {
                scaler.applied();
            }
            Outcome::Applied
        } else {
            let lowered = self.scaler.as_mut().and_then(LossScaler::overflowed);
            let what = "the gradient norm";
            Outcome::Skipped { scale: lowered.ok_or(EngineError::NonFinite { what })? }
        };
        let (norm, noise) = match finite {
            true => (squares.sqrt(), sums.noise(squares).filter(|pair| pair.small_squared.is_finite())),
            false => (f64::INFINITY, None),
        };
        Ok(Update { loss, tokens: sums.tokens, grad_norm: norm, noise, outcome })
    }
}

impl Engine for CudaGpt {
    type Batch = TokenBatch;

    fn accumulate(&mut self, batch: &TokenBatch, scale: f32) -> Result<(), EngineError> {
        self.usable()?;
        check_batch(batch, self.config.vocab, self.config.context, self.options.micro_batch)?;
        let result = self.accumulate_on_cards(batch, scale);
        self.note(result, false)
    }

    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        self.usable()?;
        self.gather()?;
        if group.size() == 1 {
            return Ok(());
        }
        if self.sums.small_squared.is_none() && self.estimates_noise() {
            // One micro-batch a rank: what a rank has is the small batch.
            let squares = self.squares_now();
            self.sums.small_squared = Some(self.note(squares, false)?);
            self.sums.small_tokens = self.sums.tokens;
        }
        self.join_group(group)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        self.usable()?;
        self.gather()?;
        let sums = self.sums;
        if sums.tokens == 0 {
            // Nothing was accumulated: what lies there belongs to the step before.
            let result = self.clear_all_gradients();
            self.note(result, false)?;
        }
        if let Err(error) = sums.mean_loss() {
            self.begin_step();
            return Err(error);
        }
        let result = self.update_on_cards(lr);
        let (squares, finite) = self.note(result, true)?;
        self.begin_step();
        self.decide(&sums, squares, finite)
    }

    fn evaluate(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        self.usable()?;
        check_batch(batch, self.config.vocab, self.config.context, self.options.micro_batch)?;
        let result = self.evaluate_on_cards(batch, each);
        self.note(result, false)
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        self.save_to(sink)
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        self.load_from(source)
    }

    fn memory(&self) -> MemoryPlan {
        self.sizes.plan()
    }
}

impl LanguageModel for CudaGpt {
    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.usable()?;
        if tokens.is_empty() {
            return Err(EngineError::Batch { found: (1, 0), most: (1, self.config.context) });
        }
        let mut row = tokens.to_vec();
        row.push(0);
        let batch = TokenBatch::new(row, 1, tokens.len());
        check_batch(&batch, self.config.vocab, self.config.context, 1)?;
        let slot = self.micro_batches % SLOTS;
        let collected = self.collect(slot);
        self.note(collected, false)?;
        let replica = &mut self.replicas.get_mut()[0];
        let logits = replica
            .set_batch(&batch, 0..1, slot)
            .and_then(|()| replica.forward())
            .and_then(|()| replica.last_logits());
        self.note(logits, false)
    }
}
