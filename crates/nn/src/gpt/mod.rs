//! GPT-2 on a CPU: the model of [`crate::reference`](mod@crate::reference) in an order that suits caches and threads.
//!
//! Forward by sequence ([`forward`]), backward by layer ([`backward`]), the step in three passes ([`update`]). All
//! memory is allocated once, in the sizes of [`sizes`]; results do not depend on the number of threads.

mod backward;
mod forward;
mod sizes;
mod update;

use crate::engine::{
    BatchStats, Engine, EngineError, MemoryUse, NoisePair, Reduce, SequenceLoss, TokenBatch, Update,
};
use crate::layout::{FIRST_MOMENT, SECOND_MOMENT};
use crate::plan::MemoryPlan;
use crate::{AdamWConfig, EngineOptions, GptConfig, Optimizer, Precision, init};
use backward::{WeightGradient, add_sums, block_weights};
use forward::Model;
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_kernels::{AlignedBuffer, Chunks, Pool, cross_entropy, rows};
pub(crate) use sizes::Sizes;
use sizes::{KeptEnd, Pack, Work, WorkMut};
use std::sync::atomic::AtomicU64;

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
    first: AlignedBuffer,
    second: AlignedBuffer,
    packs: Vec<Pack>,
    kept: AlignedBuffer,
    work: AlignedBuffer,
    logits: AlignedBuffer,
    losses: AlignedBuffer,
    scratch: AlignedBuffer,
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
        let unsupported = |what: &str, hint| EngineError::Unsupported { what: what.to_owned(), hint };
        if options.precision != Precision::F32 {
            return Err(unsupported("bf16 precision yet", "use precision = \"f32\" or \"auto\""));
        }
        if options.optimizer != Optimizer::AdamW {
            return Err(unsupported("8-bit moments yet", "use optimizer = \"adamw\""));
        }
        if let Err(why) = options.kernels.supported() {
            return Err(
                isoflop_kernels::KernelError::Unsupported { name: options.kernels.name(), why }.into()
            );
        }
        let sizes = Sizes::new(config, options);
        let pool = Pool::new(options.threads).map_err(EngineError::Threads)?;
        let len = sizes.layout.len;
        let pack = |&spec: &sizes::PackSpec| Pack { spec, data: AlignedBuffer::zeroed(spec.len()) };
        let mut engine = Self {
            config: *config,
            adamw: *adamw,
            options: *options,
            pool,
            weights: AlignedBuffer::zeroed(len),
            gradients: AlignedBuffer::zeroed(len),
            first: AlignedBuffer::zeroed(len),
            second: AlignedBuffer::zeroed(len),
            packs: sizes.packs.iter().map(pack).collect(),
            kept: AlignedBuffer::zeroed(sizes.kept.total * sizes.sequences),
            work: AlignedBuffer::zeroed(sizes.work.total * sizes.sequences),
            logits: AlignedBuffer::zeroed(sizes.logits_rows * sizes.logits_stride),
            losses: AlignedBuffer::zeroed(sizes.sequences * sizes.length),
            scratch: AlignedBuffer::zeroed(sizes.scratch * sizes.threads),
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

    /// The model's shape.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Layout and values of the weights.
    pub fn weights(&self) -> (&crate::layout::Layout, &[f32]) {
        (&self.sizes.layout, &self.weights)
    }

    /// The gradients accumulated so far.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    fn repack(&mut self) {
        update::pack_all(&self.pool, &self.sizes.layout, &self.weights, &mut self.packs);
    }

    /// Runs the forward pass of every sequence, up to the rows the head multiplies.
    fn forward(&mut self, batch: &TokenBatch) {
        let model = Model {
            set: self.options.kernels,
            sizes: &self.sizes,
            weights: &self.weights,
            packs: &self.packs,
        };
        let kept = Chunks::new(&mut self.kept, self.sizes.kept.total);
        let scratch = Chunks::new(&mut self.scratch, self.sizes.scratch);
        self.pool.run(batch.sequences(), |s, thread| {
            model.forward(batch.inputs(s), &mut kept.hold(s), &mut scratch.hold(thread));
        });
    }

    /// The head by ranges of positions whose logits fit their space: losses, and with `scale` also gradients of the
    /// normed rows (into `work.dx1`) and of the embedding.
    fn head(&mut self, batch: &TokenBatch, scale: Option<f32>) {
        let (sizes, set, t) = (&self.sizes, self.options.kernels, batch.length());
        let model = Model { set, sizes, weights: &self.weights, packs: &self.packs };
        let (c, v, stride, most) = (sizes.width, sizes.vocab, sizes.logits_stride, sizes.logits_rows_each());
        let kept: &[f32] = &self.kept;
        let end = |s: usize| -> KeptEnd<'_> { sizes.kept_end(&kept[s * sizes.kept.total..]) };
        for from in (0..t).step_by(most) {
            let n = most.min(t - from);
            let rows = from * c..(from + n) * c;
            {
                let logits = Chunks::new(&mut self.logits, most * stride);
                let losses = Chunks::new(&mut self.losses, sizes.length);
                let work = Chunks::new(&mut self.work, sizes.work.total);
                self.pool.run(batch.sequences(), |s, _| {
                    let (mut logits, mut losses) = (logits.hold(s), losses.hold(s));
                    let logits = &mut logits[..n * stride];
                    model.logits(&end(s).normed[rows.clone()], logits);
                    let (targets, losses) = (&batch.targets(s)[from..from + n], &mut losses[from..from + n]);
                    cross_entropy::forward_backward(set, logits, v, targets, scale.unwrap_or(0.0), losses);
                    if scale.is_some() {
                        let mut work = work.hold(s);
                        let (work, _) = WorkMut::of(sizes, &mut work);
                        model.head_backward(logits, &mut work.dx1[rows.clone()]);
                    }
                });
            }
            if scale.is_some() {
                let logits: &[f32] = &self.logits;
                let dwte = sizes.layout.of_mut(&mut self.gradients, sizes.layout.wte);
                let gradient = WeightGradient::new(dwte, v, c);
                self.pool.run(gradient.tasks(), |task, _| {
                    gradient.run(set, task, batch.sequences(), stride, |s| {
                        (&logits[s * most * stride..(s * most + n) * stride], &end(s).normed[rows.clone()], n)
                    });
                });
            }
        }
    }

    /// Blocks from last to first, then the embeddings.
    fn backward(&mut self, batch: &TokenBatch) {
        let (sizes, t, sequences) = (&self.sizes, batch.length(), batch.sequences());
        let model = Model { set: self.options.kernels, sizes, weights: &self.weights, packs: &self.packs };
        let zeros: &[f32] = &self.zeros;
        let share = sizes.kept.total;
        {
            let work = Chunks::new(&mut self.work, sizes.work.total);
            let kept = &self.kept;
            self.pool.run(sequences, |s, _| {
                model.end_backward(t, &kept[s * share..][..share], &mut work.hold(s), zeros);
            });
        }
        let mut flip = false;
        for layer in (0..sizes.layers).rev() {
            {
                let work = Chunks::new(&mut self.work, sizes.work.total);
                let kept = Chunks::new(&mut self.kept, share);
                let scratch = Chunks::new(&mut self.scratch, sizes.scratch);
                self.pool.run(sequences, |s, thread| {
                    let (mut kept, mut work, mut scratch) =
                        (kept.hold(s), work.hold(s), scratch.hold(thread));
                    // The last layer's place still holds what its forward left.
                    if sizes.blocks_share() && layer + 1 < sizes.layers {
                        model.recompute(layer, t, &mut kept, &mut work, flip, &mut scratch);
                    }
                    let input = (sizes.kept_x(&kept, layer), &sizes.kept_block(&kept, layer));
                    model.block_backward(layer, t, input, &mut work, flip, &mut scratch);
                });
            }
            let (kept, work) = (&self.kept, &self.work);
            block_weights(&model, &self.pool, layer, (sequences, t), kept, work, flip, &mut self.gradients);
            for s in 0..sequences {
                let work = Work::of(sizes, &self.work[s * sizes.work.total..]);
                add_sums(
                    &sizes.layout,
                    &sizes.layout.blocks[layer],
                    sizes.width,
                    work.sums,
                    &mut self.gradients,
                );
            }
            flip = !flip;
        }
        for s in 0..sequences {
            let work = Work::of(sizes, &self.work[s * sizes.work.total..]);
            let dx = if flip { work.dx1 } else { work.dx0 };
            embedding_backward(sizes, batch.inputs(s), dx, work.sums, &mut self.gradients);
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
        let (sizes, c) = (&self.sizes, self.sizes.width);
        let model = Model { set: self.options.kernels, sizes, weights: &self.weights, packs: &self.packs };
        let normed = sizes.kept_end(&self.kept).normed;
        let last = (tokens.len() - 1) * c;
        model.logits(&normed[last..last + c], &mut self.logits[..sizes.logits_stride]);
        Ok(self.logits[..sizes.vocab].to_vec())
    }

    fn write(&self, sink: &mut dyn TensorSink, prefix: &str, buffer: &[f32]) -> Result<(), EngineError> {
        for tensor in &self.sizes.layout.tensors {
            let values = &buffer[tensor.range()];
            sink.write(&format!("{prefix}{}", tensor.name), bytemuck::cast_slice(values))?;
        }
        Ok(())
    }
}

impl Model<'_> {
    /// `dnormed[R,C] = dlogits[R,V]·wte`.
    fn head_backward(&self, dlogits: &[f32], dnormed: &mut [f32]) {
        use isoflop_kernels::matmul::{Init, Left, multiply};
        let s = self.sizes;
        let left = Left::rows(dlogits, s.logits_stride);
        let n = dlogits.len() / s.logits_stride;
        multiply(self.set, (n, s.width, s.vocab), left, self.head_transposed(), dnormed, s.width, Init::Zero);
    }
}

/// Adds a sequence's gradients of the embeddings `dx[T,C]` and of the last norm.
fn embedding_backward(sizes: &Sizes, tokens: &[u32], dx: &[f32], sums: &[f32], gradients: &mut [f32]) {
    let (layout, c) = (&sizes.layout, sizes.width);
    let dwte = layout.of_mut(gradients, layout.wte);
    for (&token, dx) in tokens.iter().zip(dx.chunks_exact(c)) {
        let row = token as usize * c;
        rows::add_assign(dx, &mut dwte[row..row + c]);
    }
    let used = tokens.len() * c;
    rows::add_assign(&dx[..used], &mut layout.of_mut(gradients, layout.wpe)[..used]);
    rows::add_assign(&sums[13 * c..14 * c], layout.of_mut(gradients, layout.lnf_w));
    rows::add_assign(&sums[14 * c..15 * c], layout.of_mut(gradients, layout.lnf_b));
}

impl Engine for CpuGpt {
    type Batch = TokenBatch;

    fn accumulate(&mut self, batch: &TokenBatch, scale: f32) -> Result<BatchStats, EngineError> {
        batch.check(self.sizes.vocab, self.sizes.length, self.sizes.sequences)?;
        let tokens = (batch.sequences() * batch.length()) as u64;
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
        sink.begin(&self.sizes.layout.specs())?;
        self.write(sink, "", &self.weights)?;
        self.write(sink, FIRST_MOMENT, &self.first)?;
        self.write(sink, SECOND_MOMENT, &self.second)?;
        Ok(sink.counter("step", self.step)?)
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        let tensors = &self.sizes.layout.tensors;
        let moments = source.has(TensorGroup::Optimizer, &format!("{FIRST_MOMENT}{}", tensors[0].name));
        for tensor in tensors {
            let r = tensor.range();
            source.read_f32(TensorGroup::Model, &tensor.name, &tensor.shape, &mut self.weights[r.clone()])?;
            for (prefix, buffer) in [(FIRST_MOMENT, &mut self.first), (SECOND_MOMENT, &mut self.second)] {
                let out = &mut buffer[r.clone()];
                if moments {
                    let name = format!("{prefix}{}", tensor.name);
                    source.read_f32(TensorGroup::Optimizer, &name, &tensor.shape, out)?;
                } else {
                    out.fill(0.0);
                }
            }
        }
        self.step = if moments {
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
