//! The walk through the model. Forward: one thread takes one sequence through the whole stack, so that its activations
//! stay in L2. Backward: layer by layer; within a layer first every sequence's activations, then the weights'
//! gradients. Threads left without a sequence help inside the kernels of the others ([`isoflop_kernels::pool::split`]).

use super::CpuGpt;
use super::dims::{Common, CommonMut};
use super::form::{At, Form, HeadBuffers, Space, WeightBuffers};
use super::model::Model;
use super::sums::{Sums, add_embeddings, add_sums};
use isoflop_base::TokenBatch;
use isoflop_kernels::{Chunks, layernorm};

impl CpuGpt {
    /// Runs the forward pass of every sequence, up to the rows the head multiplies.
    pub(super) fn forward_in<F: Form>(&mut self, batch: &TokenBatch) {
        let model = Model::of(self.set, &self.config, &self.sizes, &self.weights, &self.packs);
        let kept = Chunks::new(&mut self.kept, self.sizes.kept);
        let scratch = Chunks::new(&mut self.scratch, self.sizes.needs.scratch);
        let heads = Chunks::new(&mut self.heads, self.sizes.needs.heads);
        self.pool.run(batch.sequences(), |s, thread| {
            let space = Space { own: &mut scratch.hold(thread), heads: &heads };
            forward::<F>(&model, batch.inputs(s), &mut kept.hold(s), space);
        });
    }

    /// Losses; with `scale` also gradients of the normed rows and of the embedding.
    pub(super) fn head_in<F: Form>(&mut self, batch: &TokenBatch, scale: Option<f32>) {
        let model = Model::of(self.set, &self.config, &self.sizes, &self.weights, &self.packs);
        let buffers = HeadBuffers {
            pool: &self.pool,
            kept: &self.kept,
            work: &mut self.work,
            logits: &mut self.logits,
            losses: &mut self.losses,
            scratch: &mut self.scratch,
            partial: &mut self.partial_gradients,
            gradients: &mut self.gradients,
            fresh: self.sums.tokens == 0,
        };
        F::head(&model, batch, scale, buffers);
    }

    /// Logits of the last of the first sequence's `t` positions.
    pub(super) fn last_logits_in<F: Form>(&mut self, t: usize, logits: &mut [f32]) {
        let model = Model::of(self.set, &self.config, &self.sizes, &self.weights, &self.packs);
        F::last_logits(&model, t, &self.kept, &mut self.scratch, logits);
    }

    /// Blocks from last to first, then the embeddings.
    pub(super) fn backward_in<F: Form>(&mut self, batch: &TokenBatch) {
        let (sizes, t, sequences) = (&self.sizes, batch.length(), batch.sequences());
        let model = Model::of(self.set, &self.config, sizes, &self.weights, &self.packs);
        let (zeros, share): (&[f32], _) = (&self.zeros, sizes.kept);
        {
            let work = Chunks::new(&mut self.work, sizes.needs.work);
            let kept = &self.kept;
            self.pool.run(sequences, |s, _| {
                end_backward(&model, t, &kept[s * share..][..share], &mut work.hold(s), zeros);
            });
        }
        let (mut flip, fresh) = (false, self.sums.tokens == 0);
        for layer in (0..sizes.layers).rev() {
            let at = At { layer, t, flip, fresh };
            {
                let work = Chunks::new(&mut self.work, sizes.needs.work);
                let kept = Chunks::new(&mut self.kept, share);
                let scratch = Chunks::new(&mut self.scratch, sizes.needs.scratch);
                let heads = Chunks::new(&mut self.heads, sizes.needs.heads);
                self.pool.run(sequences, |s, thread| {
                    let (mut kept, mut work) = (kept.hold(s), work.hold(s));
                    let mut space = Space { own: &mut scratch.hold(thread), heads: &heads };
                    // The last layer's place still holds what its forward left.
                    if sizes.blocks_share() && layer + 1 < sizes.layers {
                        recompute::<F>(&model, at, &mut kept, &mut work, space.again());
                    }
                    F::block_backward(&model, at, &kept, &mut work, space);
                });
            }
            let buffers = WeightBuffers {
                kept: &self.kept,
                work: &self.work,
                scratch: &mut self.scratch,
                partial: &mut self.partial_gradients,
                gradients: &mut self.gradients,
            };
            F::block_weights(&model, &self.pool, at, sequences, buffers);
            for s in 0..sequences {
                let sums = Common::of(sizes, &self.work[s * sizes.needs.work..]).sums;
                add_sums(&sizes.layout, &sizes.layout.blocks[layer], sizes.width, sums, &mut self.gradients);
            }
            flip = !flip;
        }
        let work: &[f32] = &self.work;
        let of = |s: usize| {
            let work = Common::of(sizes, &work[s * sizes.needs.work..]);
            (if flip { work.dx1 } else { work.dx0 }, work.sums)
        };
        add_embeddings(&sizes.layout, sizes.width, &self.pool, batch, of, &mut self.gradients);
    }
}

/// Fills a sequence's share of `kept` from its tokens, up to the normed rows the head multiplies.
fn forward<F: Form>(model: &Model<'_>, tokens: &[u32], kept: &mut [f32], mut space: Space<'_>) {
    let s = model.sizes;
    let n = tokens.len() * s.width;
    let (streams, behind) = s.split_streams(kept);
    model.embed(tokens, &mut streams[..n]);
    for layer in 0..s.layers {
        let (before, after) = streams.split_at_mut((layer + 1) * s.x);
        F::block(
            model,
            layer,
            &before[layer * s.x..][..n],
            s.block_in(behind, layer),
            &mut after[..n],
            space.again(),
        );
    }
    F::last_norm(model, &streams[s.layers * s.x..][..n], s.end_in(behind));
}

/// The last norm: from `dx1`, the gradient of the normed rows, to `dx0`, that of the residual stream.
fn end_backward(model: &Model<'_>, t: usize, kept: &[f32], work: &mut [f32], zeros: &[f32]) {
    let (s, n) = (model.sizes, t * model.sizes.width);
    let work = CommonMut::of(s, work);
    let sums = Sums::of(work.sums, s.width, s.inner);
    layernorm::backward(
        model.set,
        &s.kept_x(kept, s.layers)[..n],
        // Either form's end begins with the norm's statistics.
        &s.end(kept)[..2 * t],
        model.weight(s.layout.lnf_w),
        &work.dx1[..n],
        &zeros[..n],
        &mut work.dx0[..n],
        sums.lnf_w,
        sums.lnf_b,
    );
}

/// Fills a block's place in `kept` again from its input, when it has been used by later layers since.
fn recompute<F: Form>(model: &Model<'_>, at: At, kept: &mut [f32], work: &mut [f32], space: Space<'_>) {
    let (s, n) = (model.sizes, at.t * model.sizes.width);
    let (streams, behind) = s.split_streams(kept);
    let x = &streams[at.layer * s.x..][..n];
    // The block's output is not needed again; it goes where the gradient of its input will be.
    let work = CommonMut::of(s, work);
    let unused = if at.flip { work.dx0 } else { work.dx1 };
    F::block(model, at.layer, x, s.block_in(behind, at.layer), &mut unused[..n], space);
}
