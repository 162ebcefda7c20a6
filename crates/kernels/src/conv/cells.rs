//! Convolutions as products of bf16 operands in [cells](crate::tiles), summed in f32: the twins of the parent's passes
//! over patches. Images, outputs and gradients are f32 as everywhere; what is multiplied is rounded once.

use super::winograd::put_right;
use super::{GRADIENT_PIXELS, Shape, gather};
use crate::matmul::PANEL;
use crate::set::KernelSet;
use crate::tiles::{CELL, Cells, SIDE, convert, len, product};
use std::ops::Range;

/// Floats in which an operand `[rows, columns]` fits.
fn floats(rows: usize, columns: usize) -> usize {
    len(rows, columns) / 2
}

/// Floats of patches `[pixels, D]` and of their cells; a window of one pixel is its own patch.
pub(super) fn forward_scratch(shape: Shape, pixels: usize) -> usize {
    let patches = if shape.side == 1 { 0 } else { pixels * shape.depth() };
    patches.next_multiple_of(SIDE) + floats(pixels, shape.depth())
}

/// Floats of what [`weight_gradient`] needs: patches, their cells, these turned, and the cells of dy.
pub(super) fn gradient_scratch(shape: Shape, rows: usize) -> usize {
    let own = GRADIENT_PIXELS * rows;
    own + floats(GRADIENT_PIXELS, rows)
        + floats(rows, GRADIENT_PIXELS)
        + floats(GRADIENT_PIXELS, shape.outputs)
}

/// Floats of one panel of a pack.
pub(super) fn panel_len(shape: Shape) -> usize {
    floats(shape.depth(), PANEL)
}

/// One panel of the weights as right cells; `row(k, out)` writes up to 32 elements of row k.
pub(super) fn pack(shape: Shape, out: &mut [f32], row: impl Fn(usize, &mut [f32; PANEL])) {
    out.fill(0.0);
    let out: &mut [u16] = bytemuck::cast_slice_mut(out);
    for k in 0..shape.depth() {
        let mut values = [0f32; PANEL];
        row(k, &mut values);
        put_right(&mut out[k / SIDE * CELL..][..CELL], k % SIDE, &values);
    }
}

/// [`super::forward`] for the pixels from `first` on, as many as `y` has.
pub(super) fn forward(
    set: KernelSet,
    shape: Shape,
    x: &[f32],
    first: usize,
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (depth, outputs) = (shape.depth(), shape.outputs);
    let count = y.len() / outputs;
    let patches = if shape.side == 1 { 0 } else { count * depth };
    let (patches, left) = scratch.split_at_mut(patches.next_multiple_of(SIDE));
    let rows = if shape.side == 1 {
        &x[first * depth..(first + count) * depth]
    } else {
        gather(set, shape, x, first, 0..depth, &mut patches[..count * depth]);
        &*patches
    };
    let left: &mut [u16] = bytemuck::cast_slice_mut(left);
    convert::left(set, rows, (count, depth), depth, left);
    let right = Cells::whole(bytemuck::cast_slice(packed), depth);
    product::rows(set, (count, outputs, depth), Cells::whole(left, depth), right, None, None, y, outputs);
}

/// [`super::weight_gradient`]. Lengths were checked.
pub(super) fn weight_gradient(
    set: KernelSet,
    shape: Shape,
    x: &[f32],
    dy: &[f32],
    rows: Range<usize>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (outputs, pixels) = (shape.outputs, x.len() / shape.inputs);
    let (patches, scratch) = scratch.split_at_mut(GRADIENT_PIXELS * rows.len());
    let (left, scratch) = scratch.split_at_mut(floats(GRADIENT_PIXELS, rows.len()));
    let (turned, right) = scratch.split_at_mut(floats(rows.len(), GRADIENT_PIXELS));
    let [left, turned, right] = [left, turned, right].map(bytemuck::cast_slice_mut::<f32, u16>);
    for first in (0..pixels).step_by(GRADIENT_PIXELS) {
        let count = GRADIENT_PIXELS.min(pixels - first);
        let (own, stride) = if shape.side == 1 {
            (&x[first * shape.inputs + rows.start..], shape.inputs)
        } else {
            gather(set, shape, x, first, rows.clone(), &mut patches[..count * rows.len()]);
            (&*patches, rows.len())
        };
        convert::left(set, own, (count, rows.len()), stride, left);
        convert::right(set, &dy[first * outputs..], (count, outputs), outputs, right);
        let operand = |_| (Cells::whole(left, rows.len()), Cells::whole(right, count), count);
        let start = product::Start::Accumulate;
        product::weight_gradient(set, (rows.len(), outputs), 0..rows.len(), 1, operand, turned, start, dw);
    }
}
