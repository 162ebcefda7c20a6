//! The walk in bf16: operands of products are cells (see [`isoflop_kernels::tiles`]), all else is f32.
//!
//! The forward writes each value in the order its product reads; the backward brings what the forward kept into the
//! orders the weights' gradients read. GELU's slope is kept, rounded, so that no exponential is computed twice.

mod backward;
mod forward;
mod head;
mod sizes;

use super::form::{At, Form, HeadBuffers};
use super::model::Model;
use super::sizes::{Pack, PackSpec};
use crate::engine::TokenBatch;
use isoflop_kernels::tiles::{Cells, SIDE, convert};
use isoflop_kernels::{KernelSet, Pool};
pub(crate) use sizes::needs;

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

/// A packed weight as right operand.
fn right(pack: &Pack) -> Cells<'_> {
    Cells::whole(narrow(&pack.data), pack.spec.k)
}

impl Form for Tiled {
    fn block(
        model: &Model<'_>,
        layer: usize,
        x: &[f32],
        place: &mut [f32],
        next: &mut [f32],
        scratch: &mut [f32],
    ) {
        forward::block(model, layer, x, place, next, scratch);
    }

    fn last_norm(model: &Model<'_>, x: &[f32], end: &mut [f32], scratch: &mut [f32]) {
        forward::last_norm(model, x, end, scratch);
    }

    fn head(model: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>) {
        head::head(model, batch, scale, buffers);
    }

    fn last_logits(model: &Model<'_>, t: usize, kept: &[f32], scratch: &mut [f32], logits: &mut [f32]) {
        head::last_logits(model, t, kept, scratch, logits);
    }

    fn block_backward(model: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], scratch: &mut [f32]) {
        backward::block(model, at, kept, work, scratch);
    }

    fn block_weights(
        model: &Model<'_>,
        pool: &Pool,
        at: At,
        sequences: usize,
        _: &[f32],
        work: &[f32],
        gradients: &mut [f32],
    ) {
        backward::weights(model, pool, at, sequences, work, gradients);
    }

    fn pack(set: KernelSet, spec: &PackSpec, w: &[f32], block: usize, out: &mut [f32]) {
        let (first, count) = (block * SIDE, SIDE.min(spec.n - block * SIDE));
        if spec.transposed {
            convert::right_transposed(set, &w[first * spec.k..], (count, spec.k), spec.k, narrow_mut(out));
        } else {
            convert::right(set, &w[first..], (spec.k, count), spec.n, narrow_mut(out));
        }
    }
}
