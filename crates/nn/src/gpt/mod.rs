//! GPT-2 on a CPU: the model of [`crate::reference`](mod@crate::reference) in an order that suits caches and threads.
//!
//! Forward by sequence, backward by layer ([`walk`]), the step in three passes ([`update`]). The walk is the same in
//! both precisions, its blocks are not: [`plain`] and [`tiled`]. All memory is allocated once, in the sizes of
//! [`sizes`]; results do not depend on the number of threads.

mod form;
mod gradient;
mod model;
mod moments;
mod plain;
mod sizes;
mod sums;
mod tiled;
mod update;
mod walk;

use crate::engine::{
    BatchStats, Engine, EngineError, MemoryUse, NoisePair, Reduce, SequenceLoss, TokenBatch, Update,
};
use crate::plan::MemoryPlan;
use crate::{AdamWConfig, EngineOptions, GptConfig, Optimizer, Precision, init};
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_kernels::{AlignedBuffer, Pool};
use moments::Moment;
use plain::Plain;
pub(crate) use sizes::Sizes;
use std::sync::atomic::AtomicU64;
use tiled::Tiled;
use update::Division;

/// Steps between two estimates of the noise scale.
const NOISE_EVERY: u64 = 10;

/// GPT-2 and its optimiser on the CPU.
#[derive(Debug)]
pub struct CpuGpt {
    config: GptConfig,
    adamw: AdamWConfig,
    options: EngineOptions,
    sizes: Sizes,
    pool: Pool,
    weights: AlignedBuffer,
    gradients: AlignedBuffer,
    moments: [Moment; 2],
    packs: AlignedBuffer,
    division: Division,
    kept: AlignedBuffer,
    work: AlignedBuffer,
    logits: AlignedBuffer,
    losses: AlignedBuffer,
    scratch: AlignedBuffer,
    heads: AlignedBuffer,
    partial_gradients: AlignedBuffer,
    zeros: AlignedBuffer,
    partial: Vec<AtomicU64>,
    /// Optimiser steps made.
    step: u64,
    /// Tokens accumulated since the last step.
    tokens: u64,
    /// |G|² of the step's first micro-batch and its tokens, when this step estimates the noise.
    small: Option<(f64, u64)>,
    loss_finite: bool,
}

impl CpuGpt {
    /// A model with fresh weights, a function of the seed.
    pub fn new(
        config: &GptConfig,
        adamw: &AdamWConfig,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        if let Err(why) = options.kernels.supported() {
            return Err(
                isoflop_kernels::KernelError::Unsupported { name: options.kernels.name(), why }.into()
            );
        }
        let sizes = Sizes::new(config, options);
        let pool = Pool::new(options.threads).map_err(EngineError::Threads)?;
        let len = sizes.layout.len;
        let mut engine = Self {
            config: *config,
            adamw: *adamw,
            options: *options,
            pool,
            weights: AlignedBuffer::zeroed(len),
            gradients: AlignedBuffer::zeroed(len),
            moments: Moment::pair(&sizes.moments),
            packs: AlignedBuffer::zeroed(sizes.packed),
            division: Division::new(&sizes, options.precision),
            kept: AlignedBuffer::zeroed(sizes.kept * sizes.sequences),
            work: AlignedBuffer::zeroed(sizes.needs.work * sizes.sequences),
            logits: AlignedBuffer::zeroed(sizes.needs.logits * sizes.sequences),
            losses: AlignedBuffer::zeroed(sizes.sequences * sizes.length),
            scratch: AlignedBuffer::zeroed(sizes.needs.scratch * sizes.threads),
            heads: AlignedBuffer::zeroed(sizes.needs.heads * sizes.threads),
            partial_gradients: AlignedBuffer::zeroed(sizes.needs.partial),
            zeros: AlignedBuffer::zeroed(sizes.length * sizes.width),
            partial: (0..len.div_ceil(update::BLOCK)).map(|_| AtomicU64::new(0)).collect(),
            step: 0,
            tokens: 0,
            small: None,
            loss_finite: true,
            sizes,
        };
        init::weights(config, &engine.sizes.layout, options.seed, &mut engine.weights);
        engine.repack();
        Ok(engine)
    }

    /// Bytes [`CpuGpt::new`] will allocate, by group.
    pub fn plan(config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        MemoryPlan::new(config, options)
    }

    /// The optimiser whose moments a checkpoint of this model holds, if it holds any.
    pub fn saved_optimizer(config: &GptConfig, source: &dyn TensorSource) -> Option<Optimizer> {
        moments::saved(&crate::layout::Layout::new(config), source)
    }

    /// The model's shape.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Layout and values of the weights.
    pub fn weights(&self) -> (&crate::layout::Layout, &[f32]) {
        (&self.sizes.layout, &self.weights)
    }

    /// The gradients accumulated since the last update, if any: after it they hold what it used.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    fn forward(&mut self, batch: &TokenBatch) {
        match self.options.precision {
            Precision::F32 => self.forward_in::<Plain>(batch),
            Precision::Bf16 => self.forward_in::<Tiled>(batch),
        }
    }

    fn head(&mut self, batch: &TokenBatch, scale: Option<f32>) {
        match self.options.precision {
            Precision::F32 => self.head_in::<Plain>(batch, scale),
            Precision::Bf16 => self.head_in::<Tiled>(batch, scale),
        }
    }

    fn backward(&mut self, batch: &TokenBatch) {
        match self.options.precision {
            Precision::F32 => self.backward_in::<Plain>(batch),
            Precision::Bf16 => self.backward_in::<Tiled>(batch),
        }
    }

    /// Logits `[V]` for the token after `tokens` (1 to context of them).
    pub fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::Batch { found: (1, 0), most: (1, self.sizes.length) });
        }
        let mut row = tokens.to_vec();
        row.push(0);
        let batch = TokenBatch::new(row, 1, tokens.len());
        batch.check(self.sizes.vocab, self.sizes.length, 1)?;
        self.forward(&batch);
        let mut logits = vec![0.0; self.sizes.logits_stride];
        match self.options.precision {
            Precision::F32 => self.last_logits_in::<Plain>(tokens.len(), &mut logits),
            Precision::Bf16 => self.last_logits_in::<Tiled>(tokens.len(), &mut logits),
        }
        logits.truncate(self.sizes.vocab);
        Ok(logits)
    }
}

impl Engine for CpuGpt {
    type Batch = TokenBatch;

    fn accumulate(&mut self, batch: &TokenBatch, scale: f32) -> Result<BatchStats, EngineError> {
        batch.check(self.sizes.vocab, self.sizes.length, self.sizes.sequences)?;
        let tokens = (batch.sequences() * batch.length()) as u64;
        if self.tokens == 0 {
            // Matrices are overwritten by what is summed first; what is only ever added to must start at zero.
            self.sizes.layout.clear_added(&mut self.gradients);
        }
        self.forward(batch);
        self.head(batch, Some(scale / tokens as f32));
        self.backward(batch);
        let mut sum = 0.0;
        self.each_loss(batch, &mut |loss| sum += loss.sum);
        let loss = sum / tokens as f64;
        self.loss_finite &= loss.is_finite();
        if self.tokens == 0 && scale < 1.0 && self.step.is_multiple_of(NOISE_EVERY) {
            let squares =
                update::sum_of_squares(self.options.kernels, &self.pool, &self.gradients, &self.partial);
            self.small = Some((squares / f64::from(scale).powi(2), tokens));
        }
        self.tokens += tokens;
        Ok(BatchStats { loss, tokens })
    }

    fn reduce(&mut self, group: &mut dyn Reduce) -> Result<(), EngineError> {
        group.average(&mut self.gradients)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        let (small, tokens) = (self.small.take(), std::mem::take(&mut self.tokens));
        if tokens == 0 {
            // Nothing was accumulated: what lies there belongs to the step before.
            self.gradients.fill(0.0);
        }
        let norm = match self.checked_norm() {
            Ok(norm) => norm,
            Err(error) => {
                self.gradients.fill(0.0);
                self.loss_finite = true;
                return Err(error);
            }
        };
        // The constant is `torch.nn.utils.clip_grad_norm_`'s.
        let clip = if self.adamw.clip > 0.0 { (self.adamw.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.step += 1;
        self.apply(lr, clip);
        let noise = small.map(|(small_squared, small_tokens)| NoisePair {
            small_squared,
            small_tokens,
            big_squared: norm * norm,
            big_tokens: tokens,
        });
        Ok(Update { grad_norm: norm, clipped: clip < 1.0, noise })
    }

    fn evaluate(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        batch.check(self.sizes.vocab, self.sizes.length, self.sizes.sequences)?;
        self.forward(batch);
        self.head(batch, None);
        self.each_loss(batch, each);
        Ok(())
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let (layout, sizes) = (&self.sizes.layout, &self.sizes.moments);
        let mut specs = layout.specs();
        self.moments.iter().for_each(|moment| specs.extend(moment.specs(layout, sizes)));
        sink.begin(&specs)?;
        for tensor in &layout.tensors {
            sink.write(&tensor.name, bytemuck::cast_slice(&self.weights[tensor.range()]))?;
        }
        for moment in &self.moments {
            moment.save(layout, sizes, sink)?;
        }
        Ok(sink.counter("step", self.step)?)
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        let (layout, sizes) = (&self.sizes.layout, &self.sizes.moments);
        for tensor in &layout.tensors {
            let out = &mut self.weights[tensor.range()];
            source.read_f32(TensorGroup::Model, &tensor.name, &tensor.shape, out)?;
        }
        let saved = moments::saved(layout, source).is_some();
        for moment in &mut self.moments {
            if saved {
                moment.load(layout, sizes, source)?;
            } else {
                moment.clear();
            }
        }
        self.step = if saved {
            source.counter("step").ok_or_else(|| TensorError::Missing("counter `step`".to_owned()))?
        } else {
            0
        };
        self.gradients.fill(0.0);
        (self.tokens, self.small, self.loss_finite) = (0, None, true);
        self.repack();
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryPlan::of(&self.sizes).into()
    }
}

impl CpuGpt {
    fn each_loss(&self, batch: &TokenBatch, each: &mut dyn FnMut(SequenceLoss)) {
        for index in 0..batch.sequences() {
            let row = &self.losses[index * self.sizes.length..][..batch.length()];
            let sum = row.iter().map(|&loss| f64::from(loss)).sum();
            each(SequenceLoss { index, sum, tokens: batch.length() as u64 });
        }
    }
}
