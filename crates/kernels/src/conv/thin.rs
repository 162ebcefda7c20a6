//! Windows 3×3 over a few channels, such as the first ones over an image: `D = 9·I` is too short for patches to be
//! worth their copies. Pixels are broadcast from the image itself, in f32 whatever the precision.
//!
//! An image is copied once into a frame of zeros, `[H+2, W+2, I]`; element e of a patch then lies the same number of
//! floats behind a pixel's first one, wherever the pixel is:
//!
//! ```text
//!   y[p,o] = Σ over e of frame[p + offset(e)]·w[e,o]        dw[e,o] += Σ over p of frame[p + offset(e)]·dy[p,o]
//! ```

use super::{Pixels, Shape, pixels};
use crate::matmul::PANEL;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n};
use std::ops::Range;

/// Most channels in.
pub(super) const MOST_CHANNELS: usize = 4;
/// Elements of a patch whose sums over pixels are kept in registers, times two vectors of outputs.
const ELEMENTS: usize = 9;
/// Pixels whose gradients stay in the cache while all sums are made of them, about.
const STRIP: usize = 512;

/// Floats of a frame.
pub fn frame_len(shape: Shape) -> usize {
    (shape.height + 2) * (shape.width + 2) * shape.inputs
}

/// Floats that [`weight_gradient`] needs: a frame, and the gradients of a strip where they are kept in bf16.
pub(super) fn gradient_scratch(shape: Shape) -> usize {
    let strip = if shape.bf16 { strip(shape) * shape.width * shape.outputs } else { 0 };
    frame_len(shape) + strip
}

/// Rows of pixels of a strip.
fn strip(shape: Shape) -> usize {
    (STRIP / shape.width).max(1)
}

/// Where the elements of a patch lie behind its first one.
fn offsets(shape: Shape) -> [usize; 9 * MOST_CHANNELS] {
    let (n, row) = (shape.inputs, (shape.width + 2) * shape.inputs);
    std::array::from_fn(|e| e / (3 * n) * row + e % (3 * n))
}

/// Copies an image `[P,I]` into its frame. Panics if a slice does not fit the shape.
pub fn frame<'a>(set: KernelSet, shape: Shape, image: impl Into<Pixels<'a>>, frame: &mut [f32]) {
    let image = image.into();
    assert!(image.len() == shape.pixels() * shape.inputs && frame.len() == frame_len(shape));
    let (n, wide) = (shape.inputs, shape.width * shape.inputs);
    frame.fill(0.0);
    let rows = frame.chunks_exact_mut(wide + 2 * n).skip(1);
    for (row, to) in rows.enumerate().take(shape.height) {
        let to = &mut to[n..n + wide];
        match image.slice(row * wide..(row + 1) * wide) {
            Pixels::F32(from) => to.copy_from_slice(from),
            Pixels::Bf16(from) => pixels::widen(set, from, to),
        }
    }
}

/// `y[G,P,O] = x[G,P,I] * w`, w as panels `[D,32]`. Lengths were checked.
pub(super) fn forward(
    set: KernelSet,
    shape: Shape,
    x: Pixels<'_>,
    packed: &[f32],
    y: &mut [f32],
    space: &mut [f32],
) {
    let (space, each) = (&mut space[..frame_len(shape)], shape.pixels() * shape.inputs);
    for (image, y) in y.chunks_exact_mut(shape.pixels() * shape.outputs).enumerate() {
        frame(set, shape, x.slice(image * each..(image + 1) * each), space);
        rows(set, shape, space, 0..shape.height, packed, y);
    }
}

/// Some rows of pixels of one image's output from its frame, `y[rows·W,O]`; w as all panels of [`super::pack`].
///
/// Panics if the shape is not thin, or a slice does not fit it.
pub fn rows(set: KernelSet, shape: Shape, frame: &[f32], rows: Range<usize>, packed: &[f32], y: &mut [f32]) {
    assert!(shape.is_thin() && rows.end <= shape.height && frame.len() == frame_len(shape));
    assert!(y.len() == rows.len() * shape.width * shape.outputs);
    assert!(packed.len() == shape.panels() * shape.panel_len());
    dispatch!(
        set.with_vectors(),
        rows_simd(shape: Shape, frame: &[f32], rows: Range<usize>, packed: &[f32], y: &mut [f32])
    );
}

#[inline(always)]
unsafe fn rows_simd<S: Simd>(shape: Shape, frame: &[f32], rows: Range<usize>, packed: &[f32], y: &mut [f32]) {
    let (n, m, w, depth) = (shape.inputs, shape.outputs, shape.width, shape.depth());
    let offsets = &offsets(shape)[..depth];
    // Of 32 registers eight pixels take 16 for their two vectors of outputs, eight for themselves; of 16 half as many.
    let many = if S::LANES == 8 { 4 } else { 8 };
    for row in rows.clone() {
        for o in (0..m).step_by(2 * S::LANES) {
            // SAFETY: column o of a panel, for panels have whole pairs of vectors; pixels of one row of the image,
            // whose patches end inside the frame.
            unsafe {
                let weights = packed.as_ptr().add(o / PANEL * depth * PANEL + o % PANEL);
                let mut col = 0;
                while col < w {
                    let from = frame.as_ptr().add((row * (w + 2) + col) * n);
                    let to = y.as_mut_ptr().add(((row - rows.start) * w + col) * m + o);
                    let left = w - col;
                    col += if left >= 8 && many == 8 {
                        pixels::<S, 8>(from, n, offsets, weights, to, (m, m - o))
                    } else if left >= 4 {
                        pixels::<S, 4>(from, n, offsets, weights, to, (m, m - o))
                    } else {
                        pixels::<S, 1>(from, n, offsets, weights, to, (m, m - o))
                    };
                }
            }
        }
    }
}

/// Two vectors of outputs of P pixels beside each other; returns P. Of `stride` floats of a pixel of y, `rest` follow.
///
/// # Safety
/// As [`Simd`]; pointers as the caller says.
#[inline(always)]
unsafe fn pixels<S: Simd, const P: usize>(
    from: *const f32,
    n: usize,
    offsets: &[usize],
    weights: *const f32,
    to: *mut f32,
    (stride, rest): (usize, usize),
) -> usize {
    // SAFETY: as the caller's.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; P];
        for (e, offset) in offsets.iter().enumerate() {
            let w = [S::load(weights.add(e * PANEL)), S::load(weights.add(e * PANEL + S::LANES))];
            for p in 0..P {
                let x = S::splat(*from.add(offset + p * n));
                sums[p] = [S::fma(x, w[0], sums[p][0]), S::fma(x, w[1], sums[p][1])];
            }
        }
        for p in 0..P {
            for v in 0..2 {
                let at = v * S::LANES;
                if at < rest {
                    store_n::<S>(to.add(p * stride + at), sums[p][v], S::LANES.min(rest - at));
                }
            }
        }
    }
    P
}

/// `dw[D,O] += Σ over images and pixels of patch·dy`, in their order. Lengths were checked.
pub(super) fn weight_gradient(
    set: KernelSet,
    shape: Shape,
    x: Pixels<'_>,
    dy: Pixels<'_>,
    dw: &mut [f32],
    space: &mut [f32],
) {
    let (space, wide) = space.split_at_mut(frame_len(shape));
    let [from, to] = [shape.inputs, shape.outputs].map(|channels| shape.pixels() * channels);
    let (strip, row) = (strip(shape), shape.width * shape.outputs);
    for image in 0..x.len() / from {
        frame(set, shape, x.slice(image * from..(image + 1) * from), space);
        let dy = dy.slice(image * to..(image + 1) * to);
        for first in (0..shape.height).step_by(strip) {
            let rows = first..shape.height.min(first + strip);
            let dy = dy.slice(rows.start * row..rows.end * row).read(set, wide);
            rows_gradient(set, shape, space, rows, dy, dw);
        }
    }
}

/// `dw[D,O] +=` what some rows of pixels of one image add to it, from its frame and `dy[rows·W,O]`.
///
/// Panics if the shape is not thin, or a slice does not fit it.
pub fn rows_gradient(
    set: KernelSet,
    shape: Shape,
    frame: &[f32],
    rows: Range<usize>,
    dy: &[f32],
    dw: &mut [f32],
) {
    assert!(shape.is_thin() && rows.end <= shape.height && frame.len() == frame_len(shape));
    assert!(dy.len() == rows.len() * shape.width * shape.outputs && dw.len() == shape.weights());
    dispatch!(
        set.with_vectors(),
        gradient_simd(shape: Shape, frame: &[f32], rows: Range<usize>, dy: &[f32], dw: &mut [f32])
    );
}

#[inline(always)]
unsafe fn gradient_simd<S: Simd>(
    shape: Shape,
    frame: &[f32],
    rows: Range<usize>,
    dy: &[f32],
    dw: &mut [f32],
) {
    let (n, m, w, depth) = (shape.inputs, shape.outputs, shape.width, shape.depth());
    let offsets = &offsets(shape)[..depth];
    for o in (0..m).step_by(2 * S::LANES) {
        let counts = [(m - o).min(S::LANES), (m - o).saturating_sub(S::LANES).min(S::LANES)];
        for (block, offsets) in offsets.chunks_exact(ELEMENTS).enumerate() {
            // SAFETY: pixels of these rows, whose patches end inside the frame; outputs below m, of which counts are
            // left; a pixel's second vector is read where it has one.
            unsafe {
                let mut sums = [[S::splat(0.0); 2]; ELEMENTS];
                for row in rows.clone() {
                    for col in 0..w {
                        let d = dy.as_ptr().add(((row - rows.start) * w + col) * m + o);
                        let d = [load_n::<S>(d, counts[0]), second::<S>(d, counts[1])];
                        let from = frame.as_ptr().add((row * (w + 2) + col) * n);
                        for e in 0..ELEMENTS {
                            let x = S::splat(*from.add(offsets[e]));
                            sums[e] = [S::fma(x, d[0], sums[e][0]), S::fma(x, d[1], sums[e][1])];
                        }
                    }
                }
                for e in 0..ELEMENTS {
                    for v in 0..2 {
                        if counts[v] > 0 {
                            let to = dw.as_mut_ptr().add((block * ELEMENTS + e) * m + o + v * S::LANES);
                            let sum = S::add(load_n::<S>(to, counts[v]), sums[e][v]);
                            store_n::<S>(to, sum, counts[v]);
                        }
                    }
                }
            }
        }
    }
}

/// The vector behind the one at `p`, of which `count` lanes are left.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn second<S: Simd>(p: *const f32, count: usize) -> S::V {
    // SAFETY: reads `count` elements that the caller says are there.
    unsafe { if count == 0 { S::splat(0.0) } else { load_n::<S>(p.add(S::LANES), count) } }
}
