//! GPT-2 and its optimiser on one card or several: the model of `isoflop_nn::reference`, in the passes of a
//! [`Replica`] on each.
//!
//! Each micro-batch is divided among the cards, sequences in order; with the last one of a step the gradients are joined
//! while the backward makes them ([`crate::exchange`]). Every card then makes the same update of its own copy.
//!
//! Nothing is allocated on a card after an engine is made, and nothing waits for one but what needs its answer: the
//! losses of a micro-batch are looked at two micro-batches later, or when the step ends.

use crate::device::Cuda;
use crate::driver::{DriverError, Span};
use crate::exchange::Exchange;
use crate::images;
use crate::replica::{NormOf, Replica, SLOTS};
use crate::scaler::LossScaler;
use crate::sizes::{Buffer, Sizes};
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{TensorError, TensorSink, TensorSource, TokenBatch};
use isoflop_nn::engine::{
    Buffer as GroupBuffer, Engine, EngineError, Group, LanguageModel, MemoryPlan, Outcome, SequenceLoss,
    StepSums, Update, check_batch,
};
use isoflop_nn::gpt::NOISE_EVERY;
use isoflop_nn::gpt::moments::{Moment, MomentSizes, saved};
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
            let image = images::image(options.precision);
            let replicas = cuda
                .cards()
                .iter()
                .map(|card| Replica::new(cuda.driver(), card.number, image, &sizes))
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
                    DriverError::Card { card, .. } => *card,
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

    /// Takes the losses of a slot into the step's sums, once they are here.
    fn collect(&mut self, slot: usize) -> Result<(), DriverError> {
        if let Some(sent) = self.sent[slot].take() {
            let mut sum = 0.0;
            each_loss(self.replicas.get_mut(), &sent, slot, &mut |loss| sum += loss.sum)?;
            self.sums.loss += sum;
        }
        Ok(())
    }

    fn collect_all(&mut self) -> Result<(), DriverError> {
        for offset in 0..SLOTS {
            // The older first: sums are made in the order of the micro-batches.
            self.collect((self.micro_batches + offset) % SLOTS)?;
        }
        Ok(())
    }

    fn accumulate_on_cards(&mut self, batch: &TokenBatch, scale: f32) -> Result<(), DriverError> {
        let (tokens, first) = (batch.predicted(), self.sums.tokens == 0);
        let slot = self.micro_batches % SLOTS;
        self.collect(slot)?;
        let shares = self.shares(batch.sequences());
        let (cards, equal) = (shares.len(), shares.iter().all(|s| s.len() == shares[0].len()));
        let noise = first && equal && self.estimates_noise() && (scale < 1.0 || cards > 1);
        // Micro-batches are of equal weight: the last one's share completes the whole.
        let last = (self.micro_batches + 1) as f32 * scale > 1.0 - 0.5 * scale;
        let loss_scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let per_token = scale * loss_scale / tokens as f32;
        let layers = self.sizes.layout.blocks.len();
        let replicas = self.replicas.get_mut();
        for (index, (replica, share)) in replicas.iter_mut().zip(&shares).enumerate() {
            replica.set_batch(batch, share.clone(), slot)?;
            // A gradient that was joined is every card's already; it stays on the first and is added to there.
            let again = self.joined && index > 0;
            if first || again {
                replica.clear_gradients()?;
            }
            replica.forward()?;
            replica.head(Some((per_token, !first && !again)))?;
            replica.send_losses(slot)?;
        }
        let add = |index: usize| !(first || self.joined && index > 0);
        let mut overlapped = self.exchange.as_mut().filter(|_| last && !noise);
        let mut next = 0;
        for layer in (0..layers).rev() {
            for (index, replica) in replicas.iter().enumerate() {
                replica.block_backward(layer, add(index))?;
            }
            if let Some(exchange) = &mut overlapped {
                let ready = self.sizes.layout.tensors[self.sizes.layout.blocks[layer].ln1_w].offset;
                while next < exchange.buckets() && exchange.start(next) >= ready {
                    exchange.join(replicas, &self.sizes, next)?;
                    next += 1;
                }
            }
        }
        for replica in replicas.iter() {
            replica.embed_backward()?;
        }
        if let Some(exchange) = &mut overlapped {
            for bucket in next..exchange.buckets() {
                exchange.join(replicas, &self.sizes, bucket)?;
            }
            exchange.finish(replicas)?;
        }
        self.joined = overlapped.is_some();
        if noise {
            let inverse = cards as f64 / (f64::from(scale) * f64::from(loss_scale));
            for replica in replicas.iter() {
                replica.norm(NormOf::SmallBatch, inverse, 0.0)?;
            }
            self.small_waits = true;
            self.sums.small_tokens = tokens / cards as u64;
        }
        self.sent[slot] = Some(Sent { shares, length: batch.length() });
        self.micro_batches += 1;
        self.sums.tokens += tokens;
        Ok(())
    }

    /// The gradients of all cards are the joined one.
    fn join_cards(&mut self) -> Result<(), DriverError> {
        let replicas = self.replicas.get_mut();
        if let Some(exchange) = self.exchange.as_mut().filter(|_| !self.joined && self.sums.tokens > 0) {
            for bucket in 0..exchange.buckets() {
                exchange.join(replicas, &self.sizes, bucket)?;
            }
            exchange.finish(replicas)?;
            self.joined = true;
        }
        Ok(())
    }

    /// The mean over cards of the small batch's |g|², which waits for them.
    fn collect_small(&mut self) -> Result<(), DriverError> {
        if !std::mem::take(&mut self.small_waits) {
            return Ok(());
        }
        let replicas = self.replicas.get_mut();
        let mut sum = 0.0;
        for replica in replicas.iter_mut() {
            replica.send_norms()?;
            sum += replica.norm_sent(NormOf::SmallBatch)?.squares;
        }
        self.sums.small_squared = Some(sum / replicas.len() as f64);
        Ok(())
    }

    /// The gradient of other processes joined with this one's, by way of the host.
    fn join_group(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        let span = |replica: &Replica| -> Span { replica.at(self.sizes.gradients) };
        let mut gradient = vec![0f32; self.sizes.layout.len];
        let mut read = || {
            let replica = &self.replicas.borrow()[0];
            replica.stream.download(span(replica), bytemuck::cast_slice_mut(&mut gradient))
        };
        let result = read();
        self.note(result, false)?;
        self.sums.join(GroupBuffer::Host(&mut gradient), group)?;
        let write = || {
            for replica in self.replicas.borrow().iter() {
                replica.stream.upload(replica.at(self.sizes.gradients), bytemuck::cast_slice(&gradient))?;
            }
            Ok(())
        };
        let result = write();
        self.note(result, false)
    }

    /// |g|² of the whole gradient on the first card, without the loss scale; waits for it.
    fn squares_now(&mut self) -> Result<f64, DriverError> {
        let inverse = 1.0 / f64::from(self.scaler.map_or(1.0, |scaler| scaler.scale()));
        let replica = &mut self.replicas.get_mut()[0];
        replica.norm(NormOf::SmallBatch, inverse, 0.0)?;
        replica.send_norms()?;
        Ok(replica.norm_sent(NormOf::SmallBatch)?.squares)
    }

    /// The norm and the update on every card; the squared norm, and whether it was finite.
    fn update_on_cards(&mut self, lr: f32) -> Result<(f64, bool), DriverError> {
        let inverse = 1.0 / f64::from(self.scaler.map_or(1.0, |scaler| scaler.scale()));
        let (clip, t) = (self.options.adamw.clip, self.step + 1);
        let replicas = self.replicas.get_mut();
        for replica in replicas.iter_mut() {
            replica.norm(NormOf::Step, inverse, clip)?;
            // Does nothing where the norm is not finite.
            replica.adamw(lr, t)?;
            replica.send_norms()?;
        }
        let mut first = None;
        for replica in replicas.iter_mut() {
            let norm = replica.norm_sent(NormOf::Step)?;
            first.get_or_insert((norm.squares, norm.finite != 0));
        }
        Ok(first.expect("an engine has a card"))
    }

    fn clear_all_gradients(&mut self) -> Result<(), DriverError> {
        for replica in self.replicas.get_mut().iter() {
            replica.stream.clear(replica.at(self.sizes.gradients))?;
        }
        Ok(())
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

    fn evaluate_on_cards(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), DriverError> {
        // A slot whose losses have been taken.
        let slot = self.micro_batches % SLOTS;
        self.collect(slot)?;
        let sent = Sent { shares: self.shares(batch.sequences()), length: batch.length() };
        let replicas = self.replicas.get_mut();
        for (replica, share) in replicas.iter_mut().zip(&sent.shares) {
            replica.set_batch(batch, share.clone(), slot)?;
            replica.forward()?;
            replica.head(None)?;
            replica.send_losses(slot)?;
        }
        each_loss(replicas, &sent, slot, each)
    }
}

/// Losses of the sequences of a batch, in order, once they are here.
fn each_loss(
    replicas: &mut [Replica],
    sent: &Sent,
    slot: usize,
    each: &mut dyn FnMut(SequenceLoss),
) -> Result<(), DriverError> {
    for (replica, share) in replicas.iter_mut().zip(&sent.shares) {
        if share.is_empty() {
            continue;
        }
        let losses = replica.losses(slot)?;
        for (row, index) in losses.chunks_exact(sent.length).zip(share.clone()) {
            let sum = row.iter().map(|&loss| f64::from(loss)).sum();
            each(SequenceLoss { index, sum, tokens: sent.length as u64 });
        }
    }
    Ok(())
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
        let cards = self.collect_all().and_then(|()| self.collect_small()).and_then(|()| self.join_cards());
        self.note(cards, false)?;
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
        let cards = self.collect_all().and_then(|()| self.collect_small()).and_then(|()| self.join_cards());
        self.note(cards, false)?;
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
        let card = self.whole()?;
        let (layout, sizes) = (&self.sizes.layout, self.moment_sizes());
        sink.begin(&[layout.specs(), sizes.specs(layout)].concat())?;
        let weights = self.read(card, self.sizes.weights)?;
        for tensor in &layout.tensors {
            sink.write(&tensor.name, bytemuck::cast_slice(&weights[tensor.range()]))?;
        }
        drop(weights);
        for (index, moment) in Moment::pair(&sizes).iter_mut().enumerate() {
            self.download_moment(card, index, moment).map_err(|e| device(&e))?;
            moment.save(layout, &sizes, sink)?;
        }
        sink.counter("step", self.step)?;
        if let Some(scaler) = &self.scaler {
            scaler.save(sink)?;
        }
        Ok(())
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        self.usable()?;
        let (layout, sizes) = (&self.sizes.layout, self.moment_sizes());
        let mut weights = vec![0f32; layout.len];
        for tensor in &layout.tensors {
            let out = &mut weights[tensor.range()];
            source.read_f32(TensorGroup::Model, &tensor.name, &tensor.shape, out)?;
        }
        let saved = saved(layout, source);
        let step = match saved {
            true => {
                source.counter("step").ok_or_else(|| TensorError::Missing("counter `step`".to_owned()))?
            }
            false => 0,
        };
        let mut moments = Moment::pair(&sizes);
        for moment in moments.iter_mut().filter(|_| saved) {
            moment.load(layout, &sizes, source)?;
        }
        self.upload_weights(&weights).map_err(|e| device(&e))?;
        for (index, moment) in moments.iter_mut().enumerate() {
            self.upload_moment(index, moment).map_err(|e| device(&e))?;
        }
        self.clear_all_gradients().map_err(|e| device(&e))?;
        self.begin_step();
        self.step = step;
        if self.scaler.is_some() {
            self.scaler = Some(if saved { LossScaler::load(source) } else { LossScaler::default() });
        }
        Ok(())
    }

    fn memory(&self) -> MemoryPlan {
        self.sizes.plan()
    }
}

impl CudaGpt {
    fn moment_sizes(&self) -> MomentSizes {
        MomentSizes::new(&self.sizes.layout, self.options.optimizer)
    }

    fn download_moment(&self, card: usize, index: usize, moment: &mut Moment) -> Result<(), DriverError> {
        let (replica, parts) = (&self.replicas.borrow()[card], moment.parts());
        let Sizes { moments, codes, scales, .. } = &*self.sizes;
        let read = |buffer: Buffer, to: &mut [u8]| replica.stream.download(replica.at(buffer), to);
        read(moments[index], bytemuck::cast_slice_mut(parts.wide))?;
        read(codes[index], parts.codes)?;
        read(scales[index], bytemuck::cast_slice_mut(parts.scales))
    }

    fn upload_moment(&self, index: usize, moment: &mut Moment) -> Result<(), DriverError> {
        let parts = moment.parts();
        let Sizes { moments, codes, scales, .. } = &*self.sizes;
        for replica in self.replicas.borrow().iter() {
            let write = |buffer: Buffer, from: &[u8]| replica.stream.upload(replica.at(buffer), from);
            write(moments[index], bytemuck::cast_slice(parts.wide))?;
            write(codes[index], parts.codes)?;
            write(scales[index], bytemuck::cast_slice(parts.scales))?;
        }
        Ok(())
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
