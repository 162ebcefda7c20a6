//! Convolution with stride 1 and an output as large as the input: 3×3 with a border of zeros, or 1×1.
//!
//! Letters: `G` images, `H × W` pixels of which `P = H·W`, `I` channels in, `O` channels out, `s` the side of the
//! window. Images are `[G,P,I]`, channels last; weights are `[s,s,I,O]`, a matrix of `D = s·s·I` rows
//! ([`Shape::depth`]).
//!
//! All three passes are matrix products whose left operand is the *patches* of an image, `[P,D]`: for each pixel the
//! window around it, row after row. They are made for some hundred pixels at a time and stay in L2:
//!
//! ```text
//!   y = patches(x)·w          dx = patches(dy)·w'          dw = patches(x)ᵀ·dy
//! ```
//!
//! where w' is w turned by half a turn, I and O exchanged: `w'[a,b,o,i] = w[s−1−a, s−1−b, i, o]`, so that the gradient
//! of the input is [`forward`] with another pack.
//!
//! Where [`Shape::multiplies_less`], [`winograd`] makes the same with 2.25 times fewer multiplications.

use crate::matmul::{Init, Left, PANEL, Right, multiply, pack_transposed};
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, store_n, sweep};
use crate::weight_gradient::{Rows, accumulate};
use crate::{Real, matmul};
use pixels::Element;
pub use pixels::Pixels;
use std::ops::Range;

mod cells;
pub mod pixels;
pub mod thin;
pub mod winograd;

/// Floats of patches that are made at once, if that is at least [`FEWEST_PIXELS`] pixels.
const PATCHES: usize = 128 * 1024;
/// Pixels at once: with fewer the weights would be read too often, with more nothing is won.
const FEWEST_PIXELS: usize = 96;
const MOST_PIXELS: usize = 384;
/// Pixels at once in a gradient of weights: what `weight_gradient` multiplies in one go.
const GRADIENT_PIXELS: usize = 128;

/// Fewest channels on both sides for [`winograd`].
const FEWEST_CHANNELS: usize = 16;
/// Smallest image for it: of smaller ones tiles are mostly border, and gradients of windows are often exactly zero,
/// which sums and differences would turn into noise that AdamW divides by its own size.
const SMALLEST: usize = 5;

/// What one convolution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of pixels H.
    pub height: usize,
    /// Pixels in a row W.
    pub width: usize,
    /// Channels in, I.
    pub inputs: usize,
    /// Channels out, O.
    pub outputs: usize,
    /// Side s of the window: 1 or 3.
    pub side: usize,
    /// Whether what is multiplied is rounded to bf16; sums, and all that goes in and out, are f32 either way. Windows
    /// over a few channels are multiplied in f32 all the same.
    pub bf16: bool,
}

/// What a shape is computed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// Transforms of tiles: fewer multiplications.
    Winograd,
    /// Pixels broadcast from a framed image.
    Thin,
    /// Patches as cells of bf16.
    Cells,
    /// Patches as rows of f32.
    Patches,
}

impl Shape {
    fn path(&self) -> Path {
        match self.bf16 {
            _ if self.multiplies_less() => Path::Winograd,
            _ if self.is_thin() => Path::Thin,
            true => Path::Cells,
            false => Path::Patches,
        }
    }

    /// Images that `x` holds. Panics if these are no whole ones.
    fn images(&self, x: Pixels<'_>) -> usize {
        self.check();
        let each = self.pixels() * self.inputs;
        assert!(x.len().is_multiple_of(each), "x is no whole images");
        x.len() / each
    }

    /// Pixels of an image, P.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Rows of the weights as a matrix, D = s·s·I.
    pub fn depth(&self) -> usize {
        self.side * self.side * self.inputs
    }

    /// Elements of the weights.
    pub fn weights(&self) -> usize {
        self.depth() * self.outputs
    }

    /// The convolution that brings gradients back: channels exchanged.
    pub fn turned(&self) -> Self {
        Self { inputs: self.outputs, outputs: self.inputs, ..*self }
    }

    /// Whether Winograd's transform is used: a window of 3×3, enough channels that products outweigh it, an image that
    /// is not all border. The same for the [`Shape::turned`] one.
    pub fn multiplies_less(&self) -> bool {
        self.side == 3
            && self.inputs.min(self.outputs) >= FEWEST_CHANNELS
            && self.height.min(self.width) >= SMALLEST
    }

    /// Whether the window is 3×3 over so few channels in that no patches are made.
    pub fn is_thin(&self) -> bool {
        self.side == 3 && self.inputs <= thin::MOST_CHANNELS
    }

    /// Pixels whose patches are made at once.
    fn tile(&self) -> usize {
        (PATCHES / self.depth()).clamp(FEWEST_PIXELS, MOST_PIXELS)
    }

    /// Floats of scratch that [`forward`] needs.
    pub fn forward_scratch(&self) -> usize {
        match self.path() {
            Path::Winograd => winograd::forward_scratch(*self),
            Path::Thin => thin::frame_len(*self),
            Path::Cells => cells::forward_scratch(*self, self.tile()),
            Path::Patches if self.side == 1 => 0,
            Path::Patches => self.tile() * self.depth(),
        }
    }

    /// Floats of scratch that [`weight_gradient`] needs for `rows` rows of dw.
    pub fn gradient_scratch(&self, rows: usize) -> usize {
        match self.side {
            _ if self.bf16 => cells::gradient_scratch(*self, rows),
            1 => 0,
            _ => GRADIENT_PIXELS * rows,
        }
    }

    /// Floats of scratch that [`whole_weight_gradient`] needs.
    pub fn whole_gradient_scratch(&self) -> usize {
        match self.path() {
            Path::Winograd => winograd::gradient_scratch(*self),
            Path::Thin => thin::gradient_scratch(*self),
            Path::Cells | Path::Patches => self.gradient_scratch(self.depth()),
        }
    }

    /// Floats of scratch that [`block_weight_gradient`] needs for so many channels in and out.
    pub fn block_gradient_scratch(&self, inputs: usize, outputs: usize) -> usize {
        winograd::gradient_scratch(Self { inputs, outputs, ..*self })
    }

    /// Panels of the pack of [`forward`].
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Floats of one panel.
    pub fn panel_len(&self) -> usize {
        match self.path() {
            Path::Winograd => winograd::panel_len(*self),
            Path::Cells => cells::panel_len(*self),
            Path::Thin | Path::Patches => self.depth() * PANEL,
        }
    }

    fn check(&self) {
        assert!(self.side == 1 || self.side == 3, "windows are 1×1 or 3×3");
        assert!(self.height > 0 && self.width > 0 && self.inputs > 0 && self.outputs > 0);
    }
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// Calls `f(pixel, tap, neighbour)` for each pixel and each place of its window that lies inside the image.
    fn taps(shape: Shape, mut f: impl FnMut(usize, usize, usize)) {
        let (h, w, s) = (shape.height, shape.width, shape.side);
        let border = s / 2;
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            for (a, b) in (0..s).flat_map(|a| (0..s).map(move |b| (a, b))) {
                let inside =
                    (border..h + border).contains(&(y + a)) && (border..w + border).contains(&(x + b));
                if inside {
                    f(y * w + x, a * s + b, (y + a - border) * w + x + b - border);
                }
            }
        }
    }

    /// `y[P,O] = x[P,I] * w[s,s,I,O]` for one image.
    pub fn forward<T: Real>(shape: Shape, x: &[T], w: &[T], y: &mut [T]) {
        let (n, m) = (shape.inputs, shape.outputs);
        y.fill(T::default());
        taps(shape, |pixel, tap, from| {
            for i in 0..n {
                for o in 0..m {
                    y[pixel * m + o] += x[from * n + i] * w[(tap * n + i) * m + o];
                }
            }
        });
    }

    /// `dx[P,I]` of one image (overwritten): `dx[q,i] = Σ over pixels that see q of dy[p,o]·w[tap,i,o]`.
    pub fn input_gradient<T: Real>(shape: Shape, dy: &[T], w: &[T], dx: &mut [T]) {
        let (n, m) = (shape.inputs, shape.outputs);
        dx.fill(T::default());
        taps(shape, |pixel, tap, from| {
            for i in 0..n {
                for o in 0..m {
                    dx[from * n + i] += dy[pixel * m + o] * w[(tap * n + i) * m + o];
                }
            }
        });
    }

    /// `dw[s,s,I,O] += Σ over pixels of x[neighbour,i]·dy[p,o]` for one image.
    pub fn weight_gradient<T: Real>(shape: Shape, x: &[T], dy: &[T], dw: &mut [T]) {
        let (n, m) = (shape.inputs, shape.outputs);
        taps(shape, |pixel, tap, from| {
            for i in 0..n {
                for o in 0..m {
                    dw[(tap * n + i) * m + o] += x[from * n + i] * dy[pixel * m + o];
                }
            }
        });
    }
}

/// Panel `panel` of `w[s,s,I,O]` as [`forward`] reads it: `out[D,32]`, or Winograd's planes `out[16,I,32]`; in bf16 the
/// right cells of as much.
pub fn pack(shape: Shape, w: &[f32], panel: usize, out: &mut [f32]) {
    assert!(w.len() == shape.weights() && out.len() == shape.panel_len());
    let (n, m) = (shape.inputs, shape.outputs);
    let first = panel * PANEL;
    let width = PANEL.min(m - first);
    let row = |k: usize, row: &mut [f32; PANEL]| row[..width].copy_from_slice(&w[k * m + first..][..width]);
    match shape.path() {
        Path::Winograd => winograd::pack(shape, out, |tap, i, out| row(tap * n + i, out)),
        Path::Cells => cells::pack(shape, out, row),
        Path::Thin | Path::Patches => matmul::pack(w, shape.depth(), m, panel, out),
    }
}

/// Panel `panel` of the turned weights, for [`forward`] with [`Shape::turned`]: `out[s·s·O,32]` or `out[16,O,32]`, 32
/// channels in.
pub fn pack_turned(shape: Shape, w: &[f32], panel: usize, out: &mut [f32]) {
    let turned = shape.turned();
    assert!(w.len() == shape.weights() && out.len() == turned.panel_len());
    let taps = shape.side * shape.side;
    let (n, m) = (shape.inputs, shape.outputs);
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    let row = |tap: usize, o: usize, row: &mut [f32; PANEL]| {
        let column = w[((taps - 1 - tap) * n + first) * m + o..].iter().step_by(m);
        row[..width].iter_mut().zip(column).for_each(|(to, from)| *to = *from);
    };
    match turned.path() {
        Path::Winograd => winograd::pack(turned, out, row),
        Path::Cells => cells::pack(turned, out, |k, out| row(k / m, k % m, out)),
        Path::Thin | Path::Patches => {
            for (tap, out) in out.chunks_exact_mut(m * PANEL).enumerate() {
                pack_transposed(&w[(taps - 1 - tap) * n * m..], m, n, panel, out);
            }
        }
    }
}

/// `y[G,P,O] = x[G,P,I] * w`, w as all panels of [`pack`]; with those of [`pack_turned`] and [`Shape::turned`], the
/// gradient of the input from that of the output. Rows of an element's sum are added in the order of w.
///
/// `scratch` has at least [`Shape::forward_scratch`] floats. Panics if a slice does not fit the shape.
pub fn forward<'a>(
    set: KernelSet,
    shape: Shape,
    x: impl Into<Pixels<'a>>,
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let x = x.into();
    let pixels = shape.images(x) * shape.pixels();
    assert!(y.len() == pixels * shape.outputs, "y does not fit x");
    assert!(packed.len() == shape.panels() * shape.panel_len(), "the weights do not fit the shape");
    let tile = shape.tile() * shape.outputs;
    match shape.path() {
        Path::Winograd => winograd::forward(set, shape, x, packed, y, scratch),
        Path::Thin => thin::forward(set, shape, x, packed, y, scratch),
        Path::Cells => {
            for (number, y) in y.chunks_mut(tile).enumerate() {
                cells::forward(set, shape, x, number * shape.tile(), packed, y, scratch);
            }
        }
        Path::Patches => forward_patches(set, shape, in_f32(x), packed, y, scratch),
    }
}

fn forward_patches(
    set: KernelSet,
    shape: Shape,
    x: &[f32],
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (depth, outputs, tile) = (shape.depth(), shape.outputs, shape.tile());
    let weights = Right::packed(packed, depth);
    if shape.side == 1 {
        let dims = (y.len() / outputs, outputs, depth);
        return multiply(set, dims, Left::rows(x, depth), weights, y, outputs, Init::Zero);
    }
    for (number, y) in y.chunks_mut(tile * outputs).enumerate() {
        let count = y.len() / outputs;
        let patches = &mut scratch[..count * depth];
        gather(set, shape, Pixels::F32(x), number * tile, 0..depth, patches);
        multiply(set, (count, outputs, depth), Left::rows(patches, depth), weights, y, outputs, Init::Zero);
    }
}

/// Rows `rows` of the weights' gradient over all images: `dw[rows,O] += (patches(x)ᵀ·dy)[rows,O]`, `x[G,P,I]`,
/// `dy[G,P,O]`. Images and pixels are added in order, whatever rows a call is given.
///
/// `scratch` has at least [`Shape::gradient_scratch`] floats. Panics if a slice does not fit the shape.
pub fn weight_gradient<'a>(
    set: KernelSet,
    shape: Shape,
    x: impl Into<Pixels<'a>>,
    dy: impl Into<Pixels<'a>>,
    rows: Range<usize>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (x, dy) = (x.into(), dy.into());
    let (outputs, pixels) = (shape.outputs, shape.images(x) * shape.pixels());
    assert!(dy.len() == pixels * outputs, "dy does not fit x");
    assert!(rows.end <= shape.depth() && dw.len() == rows.len() * outputs, "dw does not fit its rows");
    if rows.is_empty() {
        return;
    }
    if shape.bf16 {
        return cells::weight_gradient(set, shape, x, dy, rows, dw, scratch);
    }
    let (x, dy) = (in_f32(x), in_f32(dy));
    let dims = (rows.len(), outputs);
    if shape.side == 1 {
        let operands = |_| {
            let left = Rows { data: &x[rows.start..], stride: shape.inputs };
            (left, Rows { data: dy, stride: outputs }, pixels)
        };
        return accumulate(set, dims, 1, operands, dw);
    }
    for first in (0..pixels).step_by(GRADIENT_PIXELS) {
        let count = GRADIENT_PIXELS.min(pixels - first);
        let patches = &mut scratch[..count * rows.len()];
        gather(set, shape, Pixels::F32(x), first, rows.clone(), patches);
        let (patches, dy) = (&*patches, &dy[first * outputs..]);
        let operands =
            |_| (Rows { data: patches, stride: rows.len() }, Rows { data: dy, stride: outputs }, count);
        accumulate(set, dims, 1, operands, dw);
    }
}

/// The whole gradient of the weights over all images, `dw[s,s,I,O] += patches(x)ᵀ·dy`, by Winograd's transform where
/// [`Shape::multiplies_less`]; images and pixels in order.
///
/// `scratch` has at least [`Shape::whole_gradient_scratch`] floats. Panics if a slice does not fit the shape.
pub fn whole_weight_gradient<'a>(
    set: KernelSet,
    shape: Shape,
    x: impl Into<Pixels<'a>>,
    dy: impl Into<Pixels<'a>>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (x, dy) = (x.into(), dy.into());
    let images = shape.images(x);
    assert!(dy.len() == images * shape.pixels() * shape.outputs, "dy does not fit x");
    assert!(dw.len() == shape.weights(), "dw does not fit the shape");
    let all = (0..shape.inputs, 0..shape.outputs);
    match shape.path() {
        _ if images == 0 => {}
        Path::Winograd => winograd::weight_gradient(set, shape, all, x, dy, dw, scratch),
        Path::Thin => thin::weight_gradient(set, shape, x, dy, dw, scratch),
        Path::Cells | Path::Patches => {
            weight_gradient(set, shape, x, dy, 0..shape.depth(), dw, scratch);
        }
    }
}

/// Of the same the part between some channels in and some out, `dw[3,3,I',O']`: for gradients too large for each task
/// to have all of them. Only where [`Shape::multiplies_less`].
///
/// `scratch` has at least [`Shape::block_gradient_scratch`] floats. Panics if a slice does not fit.
pub fn block_weight_gradient<'a>(
    set: KernelSet,
    shape: Shape,
    (inputs, outputs): (Range<usize>, Range<usize>),
    x: impl Into<Pixels<'a>>,
    dy: impl Into<Pixels<'a>>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (x, dy) = (x.into(), dy.into());
    assert!(shape.multiplies_less(), "only Winograd's transform has blocks of channels");
    let images = shape.images(x);
    assert!(images > 0, "x is no whole images");
    assert!(dy.len() == images * shape.pixels() * shape.outputs, "dy does not fit x");
    assert!(inputs.end <= shape.inputs && outputs.end <= shape.outputs, "channels that are not there");
    assert!(dw.len() == 9 * inputs.len() * outputs.len() && !dw.is_empty(), "dw does not fit its channels");
    winograd::weight_gradient(set, shape, (inputs, outputs), x, dy, dw, scratch);
}

/// What a shape in f32 reads.
fn in_f32(x: Pixels<'_>) -> &[f32] {
    match x {
        Pixels::F32(x) => x,
        Pixels::Bf16(_) => panic!("a convolution in f32 reads f32"),
    }
}

/// Columns `columns` of the patches of the pixels from `first` on, counted over all images:
/// `patches[…, columns] = x[window]`, zero beyond an image's border.
fn gather(
    set: KernelSet,
    shape: Shape,
    x: Pixels<'_>,
    first: usize,
    columns: Range<usize>,
    patches: &mut [f32],
) {
    let set = set.with_vectors();
    match x {
        Pixels::F32(x) => dispatch!(
            set,
            gather_simd[f32](shape: Shape, x: &[f32], first: usize, columns: Range<usize>, patches: &mut [f32])
        ),
        Pixels::Bf16(x) => dispatch!(
            set,
            gather_simd[u16](shape: Shape, x: &[u16], first: usize, columns: Range<usize>, patches: &mut [f32])
        ),
    }
}

#[inline(always)]
unsafe fn gather_simd<S: Simd, E: Element>(
    shape: Shape,
    x: &[E],
    first: usize,
    columns: Range<usize>,
    patches: &mut [f32],
) {
    let (h, w, n) = (shape.height, shape.width, shape.inputs);
    // A row of the window is 3·I floats that lie side by side in the image.
    let window = shape.side * n;
    for (index, patch) in patches.chunks_exact_mut(columns.len()).enumerate() {
        let pixel = first + index;
        let (image, row, col) = (pixel / (h * w), pixel / w % h, pixel % w);
        let mut to = 0;
        for a in columns.start / window..columns.end.div_ceil(window) {
            let own =
                columns.start.max(a * window) - a * window..columns.end.min((a + 1) * window) - a * window;
            let out = &mut patch[to..to + own.len()];
            to += own.len();
            if row + a < 1 || row + a > h {
                out.fill(0.0);
                continue;
            }
            // Of the window's row, what the image has: all but a pixel at the left or right border.
            let inside = own.start.max(if col == 0 { n } else { 0 })..own.end.min(if col + 1 == w {
                window - n
            } else {
                window
            });
            if inside.is_empty() {
                out.fill(0.0);
                continue;
            }
            let base = (image * h + row + a - 1) * w + col;
            let from = &x[base * n + inside.start - n..base * n + inside.end - n];
            out[..inside.start - own.start].fill(0.0);
            out[inside.end - own.start..].fill(0.0);
            let out = &mut out[inside.start - own.start..inside.end - own.start];
            sweep!(S, out.len(), |i, count| {
                // SAFETY: i + count ≤ the common length of both slices.
                unsafe {
                    store_n::<S>(out.as_mut_ptr().add(i), E::load::<S>(from.as_ptr().add(i), count), count);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
