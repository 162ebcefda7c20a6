//! The walk in f32: operands of products are plain rows, weights panels of 32 columns.

mod backward;
mod forward;
mod head;
mod sizes;

use super::dims::{Dims, Needs};
use super::form::{Across, At, Form, HeadBuffers, Space, WeightBuffers};
use super::model::Model;
use isoflop_base::TokenBatch;
use isoflop_kernels::{KernelSet, Pool, layernorm, matmul};
use sizes::{KeptEnd, KeptEndMut};

/// f32 throughout.
pub(crate) struct Plain;

impl Form for Plain {
    fn needs(dims: &Dims) -> Needs {
        sizes::needs(dims)
    }

    fn packed_len(k: usize, n: usize) -> usize {
        matmul::packed_len(k, n)
    }

    fn rows_len(rows: usize) -> usize {
        rows * matmul::PANEL
    }

    fn block(
        model: &Model<'_>,
        layer: usize,
        x: &[f32],
        place: &mut [f32],
        next: &mut [f32],
        space: Space<'_>,
    ) {
        forward::block(model, layer, x, place, next, space);
    }

    fn last_norm(model: &Model<'_>, x: &[f32], end: &mut [f32]) {
        let (s, layout) = (model.sizes, &model.sizes.layout);
        let end = KeptEndMut::of(s, end);
        let (w, b) = (model.weight(layout.lnf_w), model.weight(layout.lnf_b));
        layernorm::forward(
            model.set,
            model.epsilon(),
            x,
            w,
            b,
            &mut end.normed[..x.len()],
            &mut end.stats[..x.len() / s.width * 2],
        );
    }

    fn head(model: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>) {
        head::head(model, batch, scale, buffers);
    }

    fn last_logits(model: &Model<'_>, t: usize, kept: &[f32], _: &mut [f32], logits: &mut [f32]) {
        let s = model.sizes;
        let last = (t - 1) * s.width;
        forward::logits(model, &KeptEnd::of(s, s.end(kept)).normed[last..last + s.width], logits);
    }

    fn block_backward(model: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], space: Space<'_>) {
        backward::block(model, at, kept, work, space);
    }

    fn block_weights(model: &Model<'_>, pool: &Pool, at: At, sequences: usize, buffers: WeightBuffers<'_>) {
        backward::weights(model, pool, at, sequences, buffers);
    }

    fn pack(_: KernelSet, w: &[f32], columns: usize, mut across: Across<'_, '_>, along: &mut [f32]) {
        let rows = w.len() / columns;
        for panel in 0..columns.div_ceil(matmul::PANEL) {
            matmul::pack(w, rows, columns, panel, across.panel(panel));
        }
        matmul::pack_transposed(w, columns, rows, 0, along);
    }
}
