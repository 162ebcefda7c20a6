//! Convolutions as products of bf16 operands in [cells](crate::tiles), summed in f32: the twins of the parent's passes
//! over patches. Images, outputs and gradients are f32 as everywhere; what is multiplied is rounded once.

use super::winograd::put_right;
use super::{GRADIENT_PIXELS, Pixels, Shape, gather};
use crate::matmul::PANEL;
use crate::set::KernelSet;
use crate::tiles::{CELL, Cells, SIDE, convert, len, product};
use std::ops::Range;

/// Floats in which an operand `[rows, columns]` fits.
fn floats(rows: usize, columns: usize) -> usize {
    len(rows, columns) / 2
}

/// Floats of patches `[pixels, D]` and of their cells.
pub(super) fn forward_scratch(shape: Shape, pixels: usize) -> usize {
    (pixels * shape.depth()).next_multiple_of(SIDE) + floats(pixels, shape.depth())
}

/// Floats of what [`weight_gradient`] needs: patches, their cells, these turned, and the cells of dy. A patch's place
/// also takes a pixel's gradients, or a whole pixel, while they are f32.
pub(super) fn gradient_scratch(shape: Shape, rows: usize) -> usize {
    own(shape, rows)
        + floats(GRADIENT_PIXELS, rows)
        + floats(rows, GRADIENT_PIXELS)
        + floats(GRADIENT_PIXELS, shape.outputs)
}

fn own(shape: Shape, rows: usize) -> usize {
    GRADIENT_PIXELS * rows.max(shape.outputs).max(if shape.side == 1 { shape.inputs } else { 0 })
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
    x: Pixels<'_>,
    first: usize,
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (depth, outputs) = (shape.depth(), shape.outputs);
    let count = y.len() / outputs;
    let (patches, left) = scratch.split_at_mut((count * depth).next_multiple_of(SIDE));
    let rows = if shape.side == 1 {
        x.slice(first * depth..(first + count) * depth).read(set, patches)
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
    x: Pixels<'_>,
    dy: Pixels<'_>,
    rows: Range<usize>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (inputs, outputs, pixels) = (shape.inputs, shape.outputs, x.len() / shape.inputs);
    let (patches, scratch) = scratch.split_at_mut(own(shape, rows.len()));
    let (left, scratch) = scratch.split_at_mut(floats(GRADIENT_PIXELS, rows.len()));
    let (turned, right) = scratch.split_at_mut(floats(rows.len(), GRADIENT_PIXELS));
    let [left, turned, right] = [left, turned, right].map(bytemuck::cast_slice_mut::<f32, u16>);
    for first in (0..pixels).step_by(GRADIENT_PIXELS) {
        let count = GRADIENT_PIXELS.min(pixels - first);
        let d = dy.slice(first * outputs..(first + count) * outputs).read(set, patches);
        convert::right(set, d, (count, outputs), outputs, right);
        let (own, stride) = if shape.side == 1 {
            let x = x.slice(first * inputs..(first + count) * inputs).read(set, patches);
            (&x[rows.start..], inputs)
        } else {
            gather(set, shape, x, first, rows.clone(), &mut patches[..count * rows.len()]);
            (&*patches, rows.len())
        };
        convert::left(set, own, (count, rows.len()), stride, left);
        let operand = |_| (Cells::whole(left, rows.len()), Cells::whole(right, count), count);
        let start = product::Start::Accumulate;
        product::weight_gradient(set, (rows.len(), outputs), 0..rows.len(), 1, operand, turned, start, dw);
    }
}
