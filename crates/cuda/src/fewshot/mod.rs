//! Networks of images on graphics cards: the backbone of `isoflop_nn::conv` forward and backward in f32, its optimiser,
//! and features for what stands behind it, which stays on the processor.
//!
//! Cards share the images of each pass. Batch norm sees all of them: shares of its sums are exchanged at every norm, by
//! way of the host, and joined in the order of the cards on each. Gradients are added in that order too, once a step.

mod card;
mod kernels;
mod sizes;

use crate::device::{AbsentCards, Cuda};
use crate::driver::DriverError;
use crate::images;
use card::{Card, Input};
use isoflop_kernels::Pool;
use isoflop_nn::conv::config::Unit;
use isoflop_nn::conv::{
    Architecture, Backbone, ConvError, ConvOptions, FewShotConfig, FewShotEngine, Kept, Norm,
};
use isoflop_nn::engine::{Buffer as GroupBuffer, Group, StepSums};
use isoflop_nn::{EngineError, MemoryPlan, Precision};
use sizes::{Parts, Sizes};
use std::ops::Range;
use std::rc::Rc;

impl Cuda {
    /// Bytes of each card that an engine of [`Cuda::few_shot`] will take.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub fn few_shot_plan(
        &self,
        config: &FewShotConfig,
        options: &ConvOptions,
    ) -> Result<MemoryPlan, ConvError> {
        Ok(Sizes::new(config, options, self.cards().len())?.plan())
    }

    /// An engine with fresh weights, a function of the options' seed: the same as on the processor.
    ///
    /// # Errors
    /// An impossible network or batch, too little memory, the driver's.
    pub fn few_shot(
        &self,
        config: &FewShotConfig,
        options: &ConvOptions,
    ) -> Result<FewShotEngine, EngineError> {
        Ok(FewShotEngine::on(Box::new(Cards::new(self, config, options)?), config, options))
    }
}

impl AbsentCards {
    /// Bytes of each card that an engine for such images would take.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub fn few_shot_plan(
        &self,
        config: &FewShotConfig,
        options: &ConvOptions,
    ) -> Result<MemoryPlan, ConvError> {
        Ok(Sizes::new(config, options, self.count())?.plan())
    }
}

/// A network on one card or several.
struct Cards {
    sizes: Rc<Sizes>,
    cards: Vec<Card>,
    pool: Pool,
    /// Of the last pass.
    features: Vec<f32>,
    parts: Parts,
    norm: Norm,
    /// Steps made.
    step: u64,
    /// The gradient of all cards, where it was added up; then the first card has it and the others nothing.
    joined: Option<Vec<f32>>,
    /// A call failed: what the cards hold is no step's state any more.
    torn: bool,
}

fn device(error: &DriverError) -> EngineError {
    match error.is_lost() {
        true => EngineError::Lost(error.to_string()),
        false => EngineError::Device(error.to_string()),
    }
}

fn setting(error: ConvError) -> EngineError {
    EngineError::Device(error.to_string())
}

impl Cards {
    fn new(cuda: &Cuda, config: &FewShotConfig, options: &ConvOptions) -> Result<Self, EngineError> {
        let sizes = Rc::new(Sizes::new(config, options, cuda.cards().len()).map_err(setting)?);
        let free = cuda.free().map_err(|e| device(&e))?;
        if sizes.total() > free {
            return Err(EngineError::Device(format!(
                "the network needs {} bytes of the card's memory, {free} are free\nhint: choose a smaller \
                 pretrain.batch, episodes.per_pass, width or side; `isoflop fewshot plan` says what fits",
                sizes.total()
            )));
        }
        let image = images::image(Precision::F32, cuda.cards()[0].capability);
        let make = |(index, card): (usize, &crate::Card)| {
            Card::new(cuda.driver(), (card.number, index), &image, &sizes)
        };
        let cards = cuda.cards().iter().enumerate().map(make).collect::<Result<Vec<_>, _>>();
        let cards = cards.map_err(|e| device(&e))?;
        let pool = Pool::new(options.threads.max(1))
            .map_err(|e| EngineError::Device(format!("threads could not be started: {e}")))?;
        let mut net = Self {
            cards,
            pool,
            features: Vec::new(),
            parts: Parts::default(),
            norm: config.norm,
            step: 0,
            joined: None,
            torn: false,
            sizes,
        };
        let (layout, channels) = (&net.sizes.network.parameters, net.sizes.network.channels);
        let mut weights = vec![0.0; layout.len];
        layout.start(options.seed, &mut weights);
        net.write(Kept::Weights, &weights)?;
        net.write(Kept::RunningVariance, &vec![1.0; channels])?;
        Ok(net)
    }

    /// Remembers that a call failed.
    fn note<T>(&mut self, result: Result<T, DriverError>) -> Result<T, EngineError> {
        self.torn |= result.is_err();
        result.map_err(|e| device(&e))
    }

    fn usable(&self) -> Result<(), EngineError> {
        match self.torn {
            false => Ok(()),
            true => Err(EngineError::Lost("a card failed; its state is the last checkpoint's".to_owned())),
        }
    }

    /// Images of a batch, and the share of each card: in order, as equal as can be.
    fn set_batch(&mut self, images: &[f32]) -> Result<(), EngineError> {
        self.usable()?;
        let (each, cards) = (self.sizes.network.input, self.cards.len());
        let (count, most) = (images.len() / each, self.sizes.images * cards);
        if count == 0 || !images.len().is_multiple_of(each) || count > most {
            return Err(setting(ConvError::Batch { found: images.len(), most, each }));
        }
        let share = |card: usize| card * count / cards..(card + 1) * count / cards;
        let mut upload = || {
            for (index, card) in self.cards.iter_mut().enumerate() {
                let own = share(index);
                card.count = own.len();
                let pixels = &images[own.start * each..own.end * each];
                card.stream
                    .upload(card.part(self.sizes.input, 0..pixels.len()), bytemuck::cast_slice(pixels))?;
            }
            Ok(())
        };
        let result = upload();
        self.note(result)
    }

    /// The shares of channels' sums of the batch, told to the cards where it is another number of images.
    fn set_parts(&mut self) -> Result<(), DriverError> {
        let images: Vec<usize> = self.cards.iter().map(|card| card.count).collect();
        let parts = Parts::new(&self.sizes.network, &images);
        if parts != self.parts {
            for card in &self.cards {
                let to = card.part(self.sizes.part_rows, 0..parts.rows.len());
                card.stream.upload(to, bytemuck::cast_slice(&parts.rows))?;
            }
            self.parts = parts;
        }
        Ok(())
    }

    /// Gives every card the shares of all.
    fn exchange(&self, unit: &Unit) -> Result<(), DriverError> {
        if self.cards.len() == 1 {
            return Ok(());
        }
        let count = self.parts.of_unit[unit.index].len();
        let each = 2 * unit.shape.outputs;
        let mut all = vec![0f32; count * each];
        for (card, own) in self.cards.iter().zip(&self.parts.own) {
            let own = &own[unit.index];
            let to = &mut all[own.start * each..own.end * each];
            card.stream.download(card.shares(unit, own), bytemuck::cast_slice_mut(to))?;
        }
        for card in &self.cards {
            card.stream.upload(card.shares(unit, &(0..count)), bytemuck::cast_slice(&all))?;
        }
        Ok(())
    }

    fn walk(&mut self, norm: Norm) -> Result<(), DriverError> {
        self.set_parts()?;
        let network = &self.sizes.network;
        for (b, block) in network.blocks.iter().enumerate() {
            let inner = (1..block.main.len()).map(|i| (&block.main[i], Input::Inner(&block.main[i - 1])));
            let outer = block.shortcut.iter().map(|unit| (unit, Input::Block(b)));
            for (unit, input) in [(&block.main[0], Input::Block(b))].into_iter().chain(inner).chain(outer) {
                for card in &self.cards {
                    card.convolve(unit, input)?;
                    if norm == Norm::Batch {
                        card.moments(unit, &self.parts)?;
                    }
                }
                if norm == Norm::Batch {
                    self.exchange(unit)?;
                }
                for card in &self.cards {
                    card.factors(unit, &self.parts, norm)?;
                }
            }
            for card in &self.cards {
                card.end_block(b, block)?;
            }
        }
        for card in &self.cards {
            card.features()?;
        }
        Ok(())
    }

    /// The features of all cards' shares.
    fn download_features(&self, out: &mut [f32]) -> Result<(), DriverError> {
        let mut rest = out;
        for card in &self.cards {
            let (own, others) = rest.split_at_mut(card.count * self.sizes.network.features);
            card.stream
                .download(card.part(self.sizes.features, 0..own.len()), bytemuck::cast_slice_mut(own))?;
            rest = others;
        }
        Ok(())
    }

    /// From `d` of a unit to its norm's gradients and the factors of the pass to its input.
    fn norm_gradients(&self, unit: &Unit) -> Result<(), DriverError> {
        for card in &self.cards {
            card.sums(unit, &self.parts)?;
        }
        self.exchange(unit)?;
        for card in &self.cards {
            card.norm_gradients(unit, &self.parts, self.norm)?;
        }
        Ok(())
    }

    fn walk_back(&mut self, dfeatures: &[f32], first: bool) -> Result<(), DriverError> {
        let (network, d) = (&self.sizes.network, self.sizes.network.features);
        let mut rest = dfeatures;
        for card in &self.cards {
            if first {
                card.stream.clear(card.at(self.sizes.gradients))?;
            }
            let (own, others) = rest.split_at(card.count * d);
            card.stream.upload(card.part(self.sizes.dfeatures, 0..own.len()), bytemuck::cast_slice(own))?;
            rest = others;
            card.spread()?;
        }
        for (b, block) in network.blocks.iter().enumerate().rev() {
            for card in &self.cards {
                card.enter_block(b, block)?;
            }
            if let Some(unit) = &block.shortcut {
                self.norm_gradients(unit)?;
                for card in &self.cards {
                    card.norm_back(unit)?;
                    card.weight_gradient(unit, Input::Block(b))?;
                    if b > 0 {
                        card.back(unit, Input::Block(b), false)?;
                    }
                }
            }
            for i in (0..block.main.len()).rev() {
                let unit = &block.main[i];
                self.norm_gradients(unit)?;
                let input = if i > 0 { Input::Inner(&block.main[i - 1]) } else { Input::Block(b) };
                for card in &self.cards {
                    card.norm_back(unit)?;
                    card.weight_gradient(unit, input)?;
                    if i > 0 || b > 0 {
                        card.back(unit, input, i == 0 && block.shortcut.is_some())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn download(
        &self,
        card: usize,
        span: Range<usize>,
        of: crate::sizes::Buffer,
    ) -> Result<Vec<f32>, DriverError> {
        let (card, mut values) = (&self.cards[card], vec![0f32; span.len()]);
        card.stream.download(card.part(of, span), bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// The gradient of all cards on the first, and nothing on the others, so that more may be added.
    fn gather(&mut self) -> Result<(), DriverError> {
        if self.cards.len() == 1 || self.joined.is_some() {
            return Ok(());
        }
        let (len, gradients) = (self.sizes.network.parameters.len, self.sizes.gradients);
        let mut sum = self.download(0, 0..len, gradients)?;
        for card in 1..self.cards.len() {
            let more = self.download(card, 0..len, gradients)?;
            sum.iter_mut().zip(more).for_each(|(sum, g)| *sum += g);
            self.cards[card].stream.clear(self.cards[card].at(gradients))?;
        }
        let first = &self.cards[0];
        first.stream.upload(first.at(gradients), bytemuck::cast_slice(&sum))?;
        self.joined = Some(sum);
        Ok(())
    }

    fn squares_now(&mut self) -> Result<f64, DriverError> {
        self.gather()?;
        let (card, mut norm) = (&self.cards[0], crate::abi::StepNorm::default());
        card.squares()?;
        card.stream.download(card.at(self.sizes.norm), bytemuck::bytes_of_mut(&mut norm))?;
        Ok(norm.squares)
    }

    fn update_now(&mut self, lr: f64, scale: f64) -> Result<(), DriverError> {
        self.gather()?;
        let gradients = self.sizes.gradients;
        if let Some(sum) = self.joined.take() {
            for card in &self.cards[1..] {
                card.stream.upload(card.at(gradients), bytemuck::cast_slice(&sum))?;
            }
        }
        for card in &self.cards {
            card.update(lr, scale, self.step + 1)?;
        }
        // What fails on a card fails in the step it belongs to.
        self.cards.iter().try_for_each(|card| card.stream.synchronize())
    }

    fn buffer(&self, what: Kept) -> crate::sizes::Buffer {
        match what {
            Kept::Weights => self.sizes.weights,
            Kept::RunningMean => self.sizes.running[0],
            Kept::RunningVariance => self.sizes.running[1],
            Kept::Moment(index) => self.sizes.moments[index],
        }
    }
}

impl Backbone for Cards {
    fn network(&self) -> &Architecture {
        &self.sizes.network
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn forward(&mut self, images: &[f32], norm: Norm) -> Result<&[f32], EngineError> {
        self.set_batch(images)?;
        self.norm = norm;
        let walked = self.walk(norm);
        self.note(walked)?;
        let mut features = std::mem::take(&mut self.features);
        features.resize(images.len() / self.sizes.network.input * self.sizes.network.features, 0.0);
        let read = self.download_features(&mut features);
        self.features = features;
        self.note(read)?;
        Ok(&self.features)
    }

    fn backward(&mut self, _images: &[f32], dfeatures: &[f32], first: bool) -> Result<(), EngineError> {
        self.usable()?;
        self.joined = None;
        let result = self.walk_back(dfeatures, first);
        self.note(result)
    }

    fn embed(&mut self, images: &[f32], out: &mut [f32]) -> Result<(), EngineError> {
        let (each, d) = (self.sizes.network.input, self.sizes.network.features);
        let (count, most) = (images.len() / each, self.sizes.images * self.cards.len());
        if images.len() != count * each || out.len() != count * d {
            return Err(setting(ConvError::Batch { found: images.len(), most: out.len() / d, each }));
        }
        for (images, out) in images.chunks(most * each).zip(out.chunks_mut(most * d)) {
            self.set_batch(images)?;
            let result = self.walk(Norm::Running).and_then(|()| self.download_features(out));
            self.note(result)?;
        }
        Ok(())
    }

    fn squares(&mut self) -> Result<f64, EngineError> {
        if self.sizes.config.frozen {
            return Ok(0.0);
        }
        self.usable()?;
        let result = self.squares_now();
        self.note(result)
    }

    fn join(&mut self, sums: &mut StepSums, group: &mut dyn Group) -> Result<(), EngineError> {
        if group.size() == 1 || self.sizes.config.frozen {
            return sums.join(GroupBuffer::Host(&mut []), group);
        }
        self.usable()?;
        let gathered = self.gather();
        self.note(gathered)?;
        let (len, gradients) = (self.sizes.network.parameters.len, self.sizes.gradients);
        let read = self.download(0, 0..len, gradients);
        let mut sum = self.note(read)?;
        sums.join(GroupBuffer::Host(&mut sum), group)?;
        let card = &self.cards[0];
        let written = card.stream.upload(card.at(gradients), bytemuck::cast_slice(&sum));
        self.note(written)?;
        self.joined = (self.cards.len() > 1).then_some(sum);
        Ok(())
    }

    fn update(&mut self, lr: f64, scale: f64) -> Result<(), EngineError> {
        if self.sizes.config.frozen {
            return Ok(());
        }
        self.usable()?;
        let result = self.update_now(lr, scale);
        self.note(result)?;
        self.step += 1;
        Ok(())
    }

    fn read(&self, what: Kept, out: &mut [f32]) -> Result<(), EngineError> {
        self.usable()?;
        let values = self.download(0, 0..out.len(), self.buffer(what)).map_err(|e| device(&e))?;
        out.copy_from_slice(&values);
        Ok(())
    }

    fn write(&mut self, what: Kept, values: &[f32]) -> Result<(), EngineError> {
        self.usable()?;
        let buffer = self.buffer(what);
        let write = || {
            for card in &self.cards {
                card.stream.upload(card.part(buffer, 0..values.len()), bytemuck::cast_slice(values))?;
            }
            Ok(())
        };
        let result = write();
        self.note(result)
    }

    fn go_on_after(&mut self, steps: u64) -> Result<(), EngineError> {
        self.step = steps;
        self.joined = None;
        let clear =
            || self.cards.iter().try_for_each(|card| card.stream.clear(card.at(self.sizes.gradients)));
        let result = clear();
        self.note(result)
    }

    fn on_processor(&self) -> bool {
        false
    }

    fn memory(&self) -> MemoryPlan {
        self.sizes.plan()
    }
}
