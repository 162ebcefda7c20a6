//! GPT-2 on a CPU: the model of [`crate::reference`](mod@crate::reference) in an order that suits caches and threads.
//!
//! Forward by sequence, backward by layer ([`walk`]), the step in two passes ([`update`]). The walk is the same in
//! both precisions, its blocks are not: [`plain`] and [`tiled`]. All memory is allocated once, in the sizes of
//! [`mod@sizes`]; results do not depend on the number of threads.

/// Calls `$body` with `$form` standing for the form of a precision: the one place where a precision becomes code.
macro_rules! in_form {
    ($precision:expr, $form:ident => $body:expr) => {
        match $precision {
            crate::Precision::F32 => {
                type $form = crate::gpt::plain::Plain;
                $body
            }
            // fp16 has the same sizes; no engine is made in it.
            crate::Precision::Bf16 | crate::Precision::Fp16 => {
                type $form = crate::gpt::tiled::Tiled;
                $body
            }
        }
    };
}

mod dims;
mod form;
mod gradient;
mod model;
pub mod moments;
mod plain;
mod sizes;
mod sums;
mod tiled;
mod update;
mod walk;

use crate::engine::{
    Buffer, Engine, EngineError, Group, LanguageModel, MemoryPlan, Outcome, SequenceLoss, StepSums, Update,
    check_batch,
};
use crate::layout::Layout;
use crate::{Activation, Cpu, EngineOptions, GptConfig, Optimizer, Precision, init};
use dims::Dims;
use form::Form as _;
use isoflop_base::TokenBatch;
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_kernels::{AlignedBuffer, KernelError, KernelSet, Pool};
use moments::{Moment, MomentSizes};
use sizes::Sizes;
use std::sync::atomic::AtomicU64;
use update::Division;

/// Steps between two estimates of the noise scale.
pub const NOISE_EVERY: u64 = 10;

/// GPT-2 and its optimiser on the CPU.
#[derive(Debug)]
pub struct CpuGpt {
    config: GptConfig,
    set: KernelSet,
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
    /// What was accumulated since the last step besides the gradient.
    sums: StepSums,
}

fn sizes(cpu: &Cpu, config: &GptConfig, options: &EngineOptions) -> Sizes {
    let dims = Dims::new(config, options, cpu.threads);
    in_form!(options.precision, F => Sizes::new(config, options, dims, F::needs(&dims), F::packed_len))
}

/// Bytes of the tensors in a checkpoint: weights, and moments as the optimiser keeps them.
pub fn checkpoint_bytes(config: &GptConfig, optimizer: Optimizer) -> u64 {
    let layout = Layout::new(config);
    let moments = MomentSizes::new(&layout, optimizer).specs(&layout);
    layout.specs().iter().chain(&moments).map(|spec| spec.bytes() as u64).sum()
}

impl CpuGpt {
    /// A model with fresh weights, a function of the seed.
    pub(crate) fn new(
        cpu: &Cpu,
        config: &GptConfig,
        options: &EngineOptions,
        seed: u64,
    ) -> Result<Self, EngineError> {
        if let Err(why) = cpu.kernels.supported() {
            let error = KernelError::Unsupported { name: cpu.kernels.name(), why };
            return Err(EngineError::Device(error.to_string()));
        }
        if options.precision == Precision::Fp16 {
            let what = "fp16 is not computed on a processor\nhint: use bf16 or f32, or a graphics card";
            return Err(EngineError::Device(what.to_owned()));
        }
        if options.precision == Precision::Bf16 && config.variant.activation != Activation::GeluTanh {
            let what = "in bf16 the CPU computes GELU in its tanh form alone\nhint: use f32 for this model";
            return Err(EngineError::Device(what.to_owned()));
        }
        let sizes = sizes(cpu, config, options);
        let pool = Pool::new(cpu.threads)
            .map_err(|error| EngineError::Device(format!("threads could not be started: {error}")))?;
        let len = sizes.layout.len;
        let mut engine = Self {
            config: *config,
            set: cpu.kernels,
            options: *options,
            pool,
            weights: AlignedBuffer::zeroed(len),
            gradients: AlignedBuffer::zeroed(len),
            moments: Moment::pair(&sizes.moments),
            packs: AlignedBuffer::zeroed(sizes.packed),
            division: in_form!(options.precision, F => Division::new::<F>(&sizes)),
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
            sums: StepSums::default(),
            sizes,
        };
        init::weights(config, &engine.sizes.layout, seed, &mut engine.weights);
        engine.repack();
        Ok(engine)
    }

    /// Bytes [`CpuGpt::new`] will allocate, by group.
    pub(crate) fn plan(cpu: &Cpu, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        sizes(cpu, config, options).plan()
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
        in_form!(self.options.precision, F => self.forward_in::<F>(batch));
    }

    fn head(&mut self, batch: &TokenBatch, scale: Option<f32>) {
        in_form!(self.options.precision, F => self.head_in::<F>(batch, scale));
    }

    fn backward(&mut self, batch: &TokenBatch) {
        in_form!(self.options.precision, F => self.backward_in::<F>(batch));
    }
}

impl LanguageModel for CpuGpt {
    fn next_token_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::Batch { found: (1, 0), most: (1, self.sizes.length) });
        }
        let mut row = tokens.to_vec();
        row.push(0);
        let batch = TokenBatch::new(row, 1, tokens.len());
        check_batch(&batch, self.sizes.vocab, self.sizes.length, 1)?;
        self.forward(&batch);
        let mut logits = vec![0.0; self.sizes.logits_stride];
        in_form!(self.options.precision, F => self.last_logits_in::<F>(tokens.len(), &mut logits));
        logits.truncate(self.sizes.vocab);
        Ok(logits)
    }
}

impl Engine for CpuGpt {
    type Batch = TokenBatch;

    fn accumulate(&mut self, batch: &TokenBatch, scale: f32) -> Result<(), EngineError> {
        check_batch(batch, self.sizes.vocab, self.sizes.length, self.sizes.sequences)?;
        let (tokens, first) = (batch.predicted(), self.sums.tokens == 0);
        if first {
            // Matrices are overwritten by what is summed first; what is only ever added to must start at zero.
            self.sizes.layout.clear_added(&mut self.gradients);
        }
        self.forward(batch);
        self.head(batch, Some(scale / tokens as f32));
        self.backward(batch);
        let mut sum = 0.0;
        self.each_loss(batch, &mut |loss| sum += loss.sum);
        if first && scale < 1.0 && self.estimates_noise() {
            self.sums.small_squared = Some(self.squares() / f64::from(scale).powi(2));
            self.sums.small_tokens = tokens;
        }
        self.sums.loss += sum;
        self.sums.tokens += tokens;
        Ok(())
    }

    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        if group.size() > 1 && self.sums.small_squared.is_none() && self.estimates_noise() {
            // One micro-batch a rank: what a rank has is the small batch.
            self.sums.small_squared = Some(self.squares());
            self.sums.small_tokens = self.sums.tokens;
        }
        self.sums.join(Buffer::Host(&mut self.gradients), group)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        let sums = std::mem::take(&mut self.sums);
        if sums.tokens == 0 {
            // Nothing was accumulated: what lies there belongs to the step before.
            self.gradients.fill(0.0);
        }
        let squares = self.squares();
        let (loss, norm) = match (sums.mean_loss(), squares.is_finite()) {
            (Ok(loss), true) => (loss, squares.sqrt()),
            (loss, _) => {
                self.gradients.fill(0.0);
                return Err(loss.err().unwrap_or(EngineError::NonFinite { what: "the gradient norm" }));
            }
        };
        // The constant is `torch.nn.utils.clip_grad_norm_`'s.
        let most = self.options.adamw.clip;
        let clip = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.step += 1;
        self.apply(lr, clip);
        let noise = sums.noise(norm * norm);
        Ok(Update { loss, tokens: sums.tokens, grad_norm: norm, noise, outcome: Outcome::Applied })
    }

    fn evaluate(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        check_batch(batch, self.sizes.vocab, self.sizes.length, self.sizes.sequences)?;
        self.forward(batch);
        self.head(batch, None);
        self.each_loss(batch, each);
        Ok(())
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let (layout, sizes) = (&self.sizes.layout, &self.sizes.moments);
        sink.begin(&[layout.specs(), sizes.specs(layout)].concat())?;
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
        let saved = moments::saved(layout, source);
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
        self.sums = StepSums::default();
        self.repack();
        Ok(())
    }

    fn memory(&self) -> MemoryPlan {
        self.sizes.plan()
    }
}

impl CpuGpt {
    /// Whether this step measures a pair of gradient norms.
    fn estimates_noise(&self) -> bool {
        self.step.is_multiple_of(NOISE_EVERY)
    }

    /// |g|² of the gradients as they are.
    fn squares(&self) -> f64 {
        update::sum_of_squares(self.set, &self.pool, &self.gradients, &self.partial)
    }

    fn each_loss(&self, batch: &TokenBatch, each: &mut dyn FnMut(SequenceLoss)) {
        for index in 0..batch.sequences() {
            let row = &self.losses[index * self.sizes.length..][..batch.length()];
            let sum = row.iter().map(|&loss| f64::from(loss)).sum();
            each(SequenceLoss { index, sum, tokens: batch.length() as u64 });
        }
    }
}
