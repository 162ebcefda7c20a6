//! Winograd's F(2×2, 3×3): convolutions 3×3 with 16 multiplications for four pixels of the output instead of 36
//! (Winograd 1980; Lavin & Gray 2015, arXiv 1509.09308).
//!
//! A *tile* is 2×2 pixels of the output and the 4×4 pixels `d` of the input that they see. With a window `g`:
//!
//! ```text
//!   y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A          dg = Gᵀ[(A·dy·Aᵀ) ⊙ (Bᵀ·d·B)]G
//! ```
//!
//! Each of the 16 *planes* of ⊙ is, over all channels and `T` tiles, a matrix product. Tiles are numbered over all
//! images and go through in blocks whose planes stay in L2:
//!
//! ```text
//!   x ──Bᵀ·B──▶ 16 × [T,I] ── · [I,O] ──▶ 16 × [T,O] ──Aᵀ·A──▶ y
//! ```
//!
//! Sums and differences of inputs and of weights are rounded before they are multiplied, but nine times fewer products
//! are added one after the other: against f64 the error is 0.6 to 1.1 times the direct product's (figures in
//! `DECISIONS.md`).

use super::{Pixels, Shape};
use crate::bf16;
use crate::matmul::{Init, Left, PANEL, Right, multiply};
use crate::set::KernelSet;
use crate::tiles::{CELL, Cells, SIDE, cells, convert, product};
use std::ops::Range;
use transforms::{Channels, Side, Tiles, transform};

mod transforms;

/// Multiplications of a tile.
const PLANES: usize = 16;
/// Floats between planes beyond their own: without them all 16 would fall on each other in L1.
const PAD: usize = 80;
/// Floats of a block's planes, in and out.
const BLOCK: usize = 96 * 1024;
/// u16 between planes of cells beyond their own, for the same reason.
const CELL_PAD: usize = 5 * SIDE;
/// Tiles of a block: with fewer the weights would be read too often, with more nothing is won.
const FEWEST_TILES: usize = 24;
const MOST_TILES: usize = 96;

/// Bᵀ.
#[rustfmt::skip]
pub const INPUT: [[f64; 4]; 4] = [
    [1.0,  0.0, -1.0,  0.0],
    [0.0,  1.0,  1.0,  0.0],
    [0.0, -1.0,  1.0,  0.0],
    [0.0,  1.0,  0.0, -1.0],
];
/// G.
pub const WINDOW: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
/// Aᵀ.
pub const OUTPUT: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]];

/// Plain loops.
pub mod naive {
    use super::*;
    use crate::Real;

    /// `m·x·mᵀ` with each element of m mapped by `map`.
    fn sandwich<T: Real, const N: usize, const M: usize>(
        map: fn(f64) -> f64,
        m: [[f64; N]; M],
        x: [[T; N]; N],
    ) -> [[T; M]; M] {
        let mut out = [[T::default(); M]; M];
        for (a, b) in (0..M).flat_map(|a| (0..M).map(move |b| (a, b))) {
            for (i, j) in (0..N).flat_map(|i| (0..N).map(move |j| (i, j))) {
                out[a][b] += T::of(map(m[a][i])) * x[i][j] * T::of(map(m[b][j]));
            }
        }
        out
    }

    fn transposed<const N: usize, const M: usize>(m: [[f64; N]; M]) -> [[f64; M]; N] {
        std::array::from_fn(|i| std::array::from_fn(|j| m[j][i]))
    }

    /// Calls `f` with each tile of an image: the pixels of a square of N×N that begins `before` pixels before it.
    fn tiles<const N: usize>(shape: Shape, before: usize, mut f: impl FnMut([[Option<usize>; N]; N])) {
        let (h, w) = (shape.height, shape.width);
        for (y, x) in (0..h).step_by(2).flat_map(|y| (0..w).step_by(2).map(move |x| (y, x))) {
            f(std::array::from_fn(|a| {
                std::array::from_fn(|b| {
                    let inside =
                        (before..h + before).contains(&(y + a)) && (before..w + before).contains(&(x + b));
                    inside.then(|| (y + a - before) * w + x + b - before)
                })
            }));
        }
    }

    fn square<T: Real, const N: usize>(
        at: [[Option<usize>; N]; N],
        x: &[T],
        (c, i): (usize, usize),
    ) -> [[T; N]; N] {
        at.map(|row| row.map(|pixel| pixel.map_or(T::default(), |pixel| x[pixel * c + i])))
    }

    /// `y[P,O] = x[P,I] * w[3,3,I,O]` for one image.
    pub fn forward<T: Real>(shape: Shape, x: &[T], w: &[T], y: &mut [T]) {
        forward_with(|m| m, shape, x, w, y);
    }

    /// The same with the elements of all matrices mapped: with their absolute values, what errors are measured by.
    pub(crate) fn forward_with<T: Real>(map: fn(f64) -> f64, shape: Shape, x: &[T], w: &[T], y: &mut [T]) {
        let (n, m) = (shape.inputs, shape.outputs);
        let window = |i: usize, o: usize| {
            let at = |a: usize, b: usize| w[((a * 3 + b) * n + i) * m + o];
            std::array::from_fn(|a| std::array::from_fn(|b| at(a, b)))
        };
        let mut inputs = Vec::new();
        tiles::<4>(shape, 1, |at| inputs.push(at));
        let mut outputs = Vec::new();
        tiles::<2>(shape, 0, |at| outputs.push(at));
        for o in 0..m {
            let mut sums = vec![[[T::default(); 4]; 4]; inputs.len()];
            for i in 0..n {
                let u = sandwich(map, WINDOW, window(i, o));
                for (sums, at) in sums.iter_mut().zip(&inputs) {
                    let v = sandwich(map, INPUT, square(*at, x, (n, i)));
                    for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                        sums[a][b] += u[a][b] * v[a][b];
                    }
                }
            }
            for (sums, at) in sums.iter().zip(&outputs) {
                let tile = sandwich(map, OUTPUT, *sums);
                for (at, tile) in at.iter().flatten().zip(tile.iter().flatten()) {
                    if let Some(pixel) = at {
                        y[pixel * m + o] = *tile;
                    }
                }
            }
        }
    }

    /// `dw[3,3,I,O] += Σ over pixels of x[neighbour,i]·dy[p,o]` for one image.
    pub fn weight_gradient<T: Real>(shape: Shape, x: &[T], dy: &[T], dw: &mut [T]) {
        weight_gradient_with(|m| m, shape, x, dy, dw);
    }

    /// As [`forward_with`].
    pub(crate) fn weight_gradient_with<T: Real>(
        map: fn(f64) -> f64,
        shape: Shape,
        x: &[T],
        dy: &[T],
        dw: &mut [T],
    ) {
        let (n, m) = (shape.inputs, shape.outputs);
        let mut outputs = Vec::new();
        tiles::<2>(shape, 0, |at| outputs.push(at));
        for (i, o) in (0..n).flat_map(|i| (0..m).map(move |o| (i, o))) {
            let (mut sums, mut tile) = ([[T::default(); 4]; 4], 0);
            tiles::<4>(shape, 1, |at| {
                let v = sandwich(map, INPUT, square(at, x, (n, i)));
                let dm = sandwich(map, transposed(OUTPUT), square(outputs[tile], dy, (m, o)));
                for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                    sums[a][b] += v[a][b] * dm[a][b];
                }
                tile += 1;
            });
            let dg = sandwich(map, transposed(WINDOW), sums);
            for (tap, dg) in dg.iter().flatten().enumerate() {
                dw[(tap * n + i) * m + o] += *dg;
            }
        }
    }
}

impl Shape {
    fn tiles_across(&self) -> usize {
        self.width.div_ceil(2)
    }
    fn tiles(&self) -> usize {
        self.height.div_ceil(2) * self.tiles_across()
    }
    fn tiles_at_once(&self) -> usize {
        let (inputs, most) =
            if self.bf16 { (self.inputs / 2, MOST_TILES / SIDE) } else { (self.inputs, MOST_TILES) };
        let tiles = BLOCK / (PLANES * (inputs + self.outputs));
        if self.bf16 { (tiles / SIDE).clamp(1, most) * SIDE } else { tiles.clamp(FEWEST_TILES, most) }
    }
    /// Floats from one plane of `channels` channels to the next.
    fn plane(&self, channels: usize) -> usize {
        self.tiles_at_once() * channels + PAD
    }
    /// Elements from one plane of `channels` channels in cells to the next.
    fn cell_plane(&self, channels: usize) -> usize {
        cells(self.tiles_at_once()) * cells(channels) * CELL + CELL_PAD
    }
    /// Zeros that stand for pixels outside.
    fn zeros(&self) -> usize {
        self.inputs.max(self.outputs).next_multiple_of(PANEL)
    }
    /// Floats of the planes of `channels` channels that are operands of products.
    fn operands(&self, channels: usize) -> usize {
        PLANES * if self.bf16 { self.cell_plane(channels) / 2 } else { self.plane(channels) }
    }
    /// Zeros, planes in, planes out: what [`forward`] needs.
    fn forward_parts(&self) -> [usize; 3] {
        [self.zeros(), self.operands(self.inputs), PLANES * self.plane(self.outputs)]
    }
    /// Zeros, planes of both sides, the sums of all planes; and in bf16 a plane of each side in another order.
    fn gradient_parts(&self) -> [usize; 6] {
        let sums = PLANES * self.inputs * self.outputs;
        let turned = |channels: usize| if self.bf16 { self.cell_plane(channels) / 2 } else { 0 };
        let [first, second] = [self.inputs, self.outputs];
        [self.zeros(), self.operands(first), self.operands(second), sums, turned(first), turned(second)]
    }
}

/// Floats of scratch that [`forward`] needs.
pub(super) fn forward_scratch(shape: Shape) -> usize {
    shape.forward_parts().iter().sum()
}

/// Floats of scratch that [`weight_gradient`] needs.
pub(super) fn gradient_scratch(shape: Shape) -> usize {
    shape.gradient_parts().iter().sum()
}

/// Floats of one panel of a pack.
pub(super) fn panel_len(shape: Shape) -> usize {
    PLANES * if shape.bf16 { cells(shape.inputs) * CELL / 2 } else { shape.inputs * PANEL }
}

/// One panel of G·g·Gᵀ, `out[16,I,32]`, or 16 times the right cells of as much; `row(tap, i, out)` writes up to 32
/// elements of row i of that tap.
pub(super) fn pack(shape: Shape, out: &mut [f32], row: impl Fn(usize, usize, &mut [f32; PANEL])) {
    let inputs = shape.inputs;
    if shape.bf16 && !inputs.is_multiple_of(SIDE) {
        out.fill(0.0);
    }
    for i in 0..inputs {
        let mut g = [[[0f32; PANEL]; 3]; 3];
        for (tap, g) in g.iter_mut().flatten().enumerate() {
            row(tap, i, g);
        }
        let mut rows = [[[0f32; PANEL]; 3]; 4];
        for b in 0..3 {
            let along = half_sums([&g[0][b], &g[1][b], &g[2][b]]);
            along.into_iter().enumerate().for_each(|(a, along)| rows[a][b] = along);
        }
        for (a, row) in rows.iter().enumerate() {
            let along = half_sums([&row[0], &row[1], &row[2]]);
            for (b, along) in along.iter().enumerate() {
                let plane = a * 4 + b;
                if shape.bf16 {
                    let out: &mut [u16] = bytemuck::cast_slice_mut(out);
                    let cell = (plane * cells(inputs) + i / SIDE) * CELL;
                    put_right(&mut out[cell..cell + CELL], i % SIDE, along);
                } else {
                    out[(plane * inputs + i) * PANEL..][..PANEL].copy_from_slice(along);
                }
            }
        }
    }
}

/// Row k of a right cell.
pub(super) fn put_right(cell: &mut [u16], k: usize, row: &[f32; PANEL]) {
    for (half, row) in row.chunks_exact(16).enumerate() {
        let to = &mut cell[half * 512 + k / 2 * 32 + k % 2..][..31];
        for (j, &x) in row.iter().enumerate() {
            to[2 * j] = bf16::round(x);
        }
    }
}

/// G·g.
fn half_sums(g: [&[f32; PANEL]; 3]) -> [[f32; PANEL]; 4] {
    let mut out = [*g[0], [0.0; PANEL], [0.0; PANEL], *g[2]];
    for j in 0..PANEL {
        let ends = g[0][j] + g[2][j];
        out[1][j] = 0.5 * (ends + g[1][j]);
        out[2][j] = 0.5 * (ends - g[1][j]);
    }
    out
}

/// `y[G,P,O] = x[G,P,I] * w`, w as all panels of [`pack`]. Lengths were checked.
pub(super) fn forward(
    set: KernelSet,
    shape: Shape,
    x: Pixels<'_>,
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (n, m) = (shape.inputs, shape.outputs);
    let [zeros, v, sums] = cut(scratch, shape.forward_parts());
    clear_padding(shape, n, v);
    let of = Channels { first: 0, stride: n };
    for tiles in blocks(shape, x.len() / n) {
        transform(set, Side::Input, shape, tiles, of, x, zeros, v);
        for k in 0..PLANES {
            let sums = &mut sums[k * shape.plane(m)..][..tiles.count * m];
            let dims = (tiles.count, m, n);
            if shape.bf16 {
                let left = Cells::whole(&bytemuck::cast_slice(v)[k * shape.cell_plane(n)..], n);
                let packed = &bytemuck::cast_slice(packed)[k * cells(n) * CELL..];
                let right = Cells { data: packed, stride: PLANES * cells(n) };
                product::rows(set, dims, left, right, None, None, sums, m);
            } else {
                let left = Left::rows(&v[k * shape.plane(n)..], n);
                let packed = &packed[k * n * PANEL..];
                let right = Right { data: packed, panel_stride: panel_len(shape), k_stride: PANEL };
                multiply(set, dims, left, right, sums, m, Init::Zero);
            }
        }
        transforms::output(set, shape, tiles, sums, y);
    }
}

/// Of `dw[3,3,I,O] += Σ over pixels of x[neighbour,i]·dy[p,o]` over all images the channels `inputs` and `outputs`,
/// `dw[3,3,I',O']`. Lengths were checked.
pub(super) fn weight_gradient(
    set: KernelSet,
    shape: Shape,
    (inputs, outputs): (Range<usize>, Range<usize>),
    x: Pixels<'_>,
    dy: Pixels<'_>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let of_x = Channels { first: inputs.start, stride: shape.inputs };
    let of_dy = Channels { first: outputs.start, stride: shape.outputs };
    let pixels = x.len() / shape.inputs;
    let (n, m) = (inputs.len(), outputs.len());
    let shape = Shape { inputs: n, outputs: m, ..shape };
    let [zeros, v, d, sums, turned, paired] = cut(scratch, shape.gradient_parts());
    clear_padding(shape, n, v);
    clear_padding(shape, m, d);
    for tiles in blocks(shape, pixels) {
        transform(set, Side::Input, shape, tiles, of_x, x, zeros, v);
        transform(set, Side::Gradient, shape, tiles, of_dy, dy, zeros, d);
        for (k, sums) in sums.chunks_exact_mut(n * m).enumerate() {
            if shape.bf16 {
                let left = Cells::whole(&bytemuck::cast_slice(v)[k * shape.cell_plane(n)..], n);
                let d = &bytemuck::cast_slice(d)[k * shape.cell_plane(m)..];
                let (turned, paired) = (bytemuck::cast_slice_mut(turned), bytemuck::cast_slice_mut(paired));
                convert::interleave(set, d, (tiles.rows, m), paired);
                let right = Cells::whole(paired, tiles.rows);
                let start = if tiles.first == 0 { product::Start::Zero } else { product::Start::Accumulate };
                let operand = |_| (left, right, tiles.rows);
                product::weight_gradient(set, (n, m), 0..n, 1, operand, turned, start, sums);
            } else {
                let left = Left::transposed(&v[k * shape.plane(n)..], n);
                let right = Right::rows(&d[k * shape.plane(m)..], m);
                let init = if tiles.first == 0 { Init::Zero } else { Init::Accumulate };
                multiply(set, (n, m, tiles.count), left, right, sums, m, init);
            }
        }
    }
    transforms::windows(set, sums, dw);
}

/// All tiles of images of so many pixels, some at once. In bf16 they are steps of a product's k, and fill whole cells.
fn blocks(shape: Shape, pixels: usize) -> impl Iterator<Item = Tiles> {
    let (most, all) = (shape.tiles_at_once(), pixels / shape.pixels() * shape.tiles());
    (0..all).step_by(most).map(move |first| {
        let count = most.min(all - first);
        Tiles { first, count, rows: if shape.bf16 { count.next_multiple_of(SIDE) } else { count } }
    })
}

/// Clears what planes of cells have beyond their channels: a product reads whole cells, and no transform writes there.
fn clear_padding(shape: Shape, channels: usize, planes: &mut [f32]) {
    if shape.bf16 && !channels.is_multiple_of(SIDE) {
        planes.fill(0.0);
    }
}

/// The parts of a scratch, the first one of zeros.
fn cut<const N: usize>(mut scratch: &mut [f32], parts: [usize; N]) -> [&mut [f32]; N] {
    let parts =
        parts.map(|len| scratch.split_off_mut(..len).expect("the scratch was planned for these parts"));
    parts[0].fill(0.0);
    parts
}
