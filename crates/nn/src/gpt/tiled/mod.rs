//! The walk in bf16: operands of products are cells (see [`isoflop_kernels::tiles`]), all else is f32.
//!
//! The forward writes each value in the order its product reads; the weights' gradients turn what the forward kept
//! while they need it. GELU's slope is kept, rounded, so that no exponential is computed twice.

mod backward;
mod forward;
mod head;
mod sizes;

use super::dims::{Dims, Needs};
use super::form::{Across, At, Form, HeadBuffers, Space, WeightBuffers};
use super::model::{Model, Pack};
use isoflop_base::TokenBatch;
use isoflop_kernels::tiles::product::Start;
use isoflop_kernels::tiles::{self, Cells, SIDE, cells, convert};
use isoflop_kernels::{KernelSet, Pool};

/// bf16 operands.
pub(crate) struct Tiled;

/// A buffer of f32 as twice as many bf16.
fn narrow(x: &[f32]) -> &[u16] {
    bytemuck::cast_slice(x)
}

/// A buffer of f32 as twice as many bf16.
fn narrow_mut(x: &mut [f32]) -> &mut [u16] {
    bytemuck::cast_slice_mut(x)
}

/// What a weight gradient is added to.
fn start(fresh: bool) -> Start {
    if fresh { Start::Zero } else { Start::Accumulate }
}

/// A packed weight as right operand.
fn right(pack: Pack<'_>) -> Cells<'_> {
    Cells::whole(narrow(pack.data), pack.spec.k)
}

impl Form for Tiled {
    fn needs(dims: &Dims) -> Needs {
        sizes::needs(dims)
    }

    fn packed_len(k: usize, n: usize) -> usize {
        tiles::len(k, n) / 2
    }

    fn rows_len(rows: usize) -> usize {
        rows.next_multiple_of(SIDE) * SIDE / 2
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
        forward::last_norm(model, x, end);
    }

    fn head(model: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>) {
        head::head(model, batch, scale, buffers);
    }

    fn last_logits(model: &Model<'_>, t: usize, kept: &[f32], scratch: &mut [f32], logits: &mut [f32]) {
        head::last_logits(model, t, kept, scratch, logits);
    }

    fn block_backward(model: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], space: Space<'_>) {
        backward::block(model, at, kept, work, space);
    }

    fn block_weights(model: &Model<'_>, pool: &Pool, at: At, sequences: usize, buffers: WeightBuffers<'_>) {
        backward::weights(model, pool, at, sequences, buffers);
    }

    fn pack(set: KernelSet, w: &[f32], columns: usize, mut across: Across<'_, '_>, along: &mut [f32]) {
        let rows = w.len() / columns;
        for panel in 0..cells(columns) {
            let (first, count) = (panel * SIDE, SIDE.min(columns - panel * SIDE));
            convert::right(set, &w[first..], (rows, count), columns, narrow_mut(across.panel(panel)));
        }
        convert::right_transposed(set, w, (rows, columns), columns, narrow_mut(along));
    }
}
