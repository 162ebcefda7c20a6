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

use super::Shape;
use crate::matmul::{Init, Left, PANEL, Right, multiply};
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Multiplications of a tile.
const PLANES: usize = 16;
/// Floats between planes beyond their own: without them all 16 would fall on each other in L1.
const PAD: usize = 80;
/// Floats of a block's planes, in and out.
const BLOCK: usize = 96 * 1024;
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
        (BLOCK / (PLANES * (self.inputs + self.outputs))).clamp(FEWEST_TILES, MOST_TILES)
    }
    /// Floats from one plane of `channels` channels to the next.
    fn plane(&self, channels: usize) -> usize {
        self.tiles_at_once() * channels + PAD
    }
    /// Zeros that stand for pixels outside, and the planes of both sides.
    fn block(&self) -> [usize; 3] {
        let zeros = self.inputs.max(self.outputs).next_multiple_of(PANEL);
        [zeros, PLANES * self.plane(self.inputs), PLANES * self.plane(self.outputs)]
    }
}

/// Floats of scratch that [`forward`] needs.
pub(super) fn forward_scratch(shape: Shape) -> usize {
    shape.block().iter().sum()
}

/// Floats of scratch that [`weight_gradient`] needs: beside the same, the sums of all planes.
pub(super) fn gradient_scratch(shape: Shape) -> usize {
    forward_scratch(shape) + PLANES * shape.inputs * shape.outputs
}

/// Floats of one panel of a pack.
pub(super) fn panel_len(shape: Shape) -> usize {
    PLANES * shape.inputs * PANEL
}

/// One panel of G·g·Gᵀ, `out[16,I,32]`; `row(tap, i, out)` writes up to 32 elements of row i of that tap.
pub(super) fn pack(inputs: usize, out: &mut [f32], row: impl Fn(usize, usize, &mut [f32; PANEL])) {
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
                out[((a * 4 + b) * inputs + i) * PANEL..][..PANEL].copy_from_slice(along);
            }
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
    x: &[f32],
    packed: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (n, m) = (shape.inputs, shape.outputs);
    let tiles = x.len() / (shape.pixels() * n) * shape.tiles();
    let [zeros, v, sums] = cut(scratch, shape.block());
    let planes = [shape.plane(n), shape.plane(m)];
    for first in (0..tiles).step_by(shape.tiles_at_once()) {
        let count = shape.tiles_at_once().min(tiles - first);
        input(set, shape, (first, count), x, zeros, v);
        for k in 0..PLANES {
            let left = Left::rows(&v[k * planes[0]..], n);
            let right =
                Right { data: &packed[k * n * PANEL..], panel_stride: panel_len(shape), k_stride: PANEL };
            let sums = &mut sums[k * planes[1]..][..count * m];
            multiply(set, (count, m, n), left, right, sums, m, Init::Zero);
        }
        output(set, shape, (first, count), sums, y);
    }
}

/// `dw[3,3,I,O] += Σ over pixels of x[neighbour,i]·dy[p,o]` over all images. Lengths were checked.
pub(super) fn weight_gradient(
    set: KernelSet,
    shape: Shape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let (n, m) = (shape.inputs, shape.outputs);
    let tiles = x.len() / (shape.pixels() * n) * shape.tiles();
    let (block, sums) = scratch.split_at_mut(forward_scratch(shape));
    let sums = &mut sums[..PLANES * n * m];
    let [zeros, v, d] = cut(block, shape.block());
    let planes = [shape.plane(n), shape.plane(m)];
    for first in (0..tiles).step_by(shape.tiles_at_once()) {
        let count = shape.tiles_at_once().min(tiles - first);
        input(set, shape, (first, count), x, zeros, v);
        output_gradient(set, shape, (first, count), dy, zeros, d);
        let init = if first == 0 { Init::Zero } else { Init::Accumulate };
        for (k, sums) in sums.chunks_exact_mut(n * m).enumerate() {
            let left = Left::transposed(&v[k * planes[0]..], n);
            let right = Right::rows(&d[k * planes[1]..], m);
            multiply(set, (n, m, count), left, right, sums, m, init);
        }
    }
    dispatch!(set.with_vectors(), windows_simd(sums: &[f32], dw: &mut [f32]));
}

/// The parts of a scratch, the first one of zeros.
fn cut(scratch: &mut [f32], [zeros, first, second]: [usize; 3]) -> [&mut [f32]; 3] {
    let (zeros, rest) = scratch.split_at_mut(zeros);
    let (first, rest) = rest.split_at_mut(first);
    zeros.fill(0.0);
    [zeros, first, &mut rest[..second]]
}

/// The N×N pixels of a tile, from `before` pixels before it on: where each lies in `x` with `c` channels, or zeros.
#[inline(always)]
fn pixels<const N: usize>(
    shape: Shape,
    tile: usize,
    before: usize,
    (x, c): (&[f32], usize),
    zeros: &[f32],
) -> [[*const f32; N]; N] {
    let (h, w) = (shape.height, shape.width);
    let (image, tile) = (tile / shape.tiles(), tile % shape.tiles());
    let (row, col) = (2 * (tile / shape.tiles_across()), 2 * (tile % shape.tiles_across()));
    let mut at = [[zeros[..c].as_ptr(); N]; N];
    // Loops, for closures over arrays are not inlined here.
    for a in 0..N {
        let y = (row + a).wrapping_sub(before);
        for b in 0..N {
            let column = (col + b).wrapping_sub(before);
            if y < h && column < w {
                at[a][b] = x[((image * h + y) * w + column) * c..][..c].as_ptr();
            }
        }
    }
    at
}

/// `v[16,T,I] = Bᵀ·d·B` of `count` tiles from `first` on.
fn input(set: KernelSet, shape: Shape, tiles: (usize, usize), x: &[f32], zeros: &[f32], v: &mut [f32]) {
    dispatch!(
        set.with_vectors(),
        input_simd(shape: Shape, tiles: (usize, usize), x: &[f32], zeros: &[f32], v: &mut [f32])
    );
}

/// Bᵀ times four vectors.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn differences<S: Simd>(d: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: registers only.
    unsafe { [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[1], d[3])] }
}

#[inline(always)]
unsafe fn input_simd<S: Simd>(
    shape: Shape,
    (first, count): (usize, usize),
    x: &[f32],
    zeros: &[f32],
    v: &mut [f32],
) {
    let n = shape.inputs;
    let plane = shape.plane(n);
    assert!(v.len() >= PLANES * plane && count * n <= plane);
    for t in 0..count {
        let from = pixels::<4>(shape, first + t, 1, (x, n), zeros);
        sweep!(S, n, |i, lanes| {
            // SAFETY: each pixel has n ≥ i + lanes channels; a plane has count rows of n floats.
            unsafe {
                let mut rows = [[S::splat(0.0); 4]; 4];
                for b in 0..4 {
                    let at = |a: usize| load_n::<S>(from[a][b].add(i), lanes);
                    let column = differences::<S>([at(0), at(1), at(2), at(3)]);
                    for a in 0..4 {
                        rows[a][b] = column[a];
                    }
                }
                let to = v.as_mut_ptr().add(t * n + i);
                for a in 0..4 {
                    let row = differences::<S>(rows[a]);
                    for b in 0..4 {
                        store_n::<S>(to.add((a * 4 + b) * plane), row[b], lanes);
                    }
                }
            }
        });
    }
}

/// `y = Aᵀ·sums·A` of `count` tiles from `first` on, `sums[16,T,O]`.
fn output(set: KernelSet, shape: Shape, tiles: (usize, usize), sums: &[f32], y: &mut [f32]) {
    dispatch!(
        set.with_vectors(),
        output_simd(shape: Shape, tiles: (usize, usize), sums: &[f32], y: &mut [f32])
    );
}

#[inline(always)]
unsafe fn output_simd<S: Simd>(shape: Shape, (first, count): (usize, usize), sums: &[f32], y: &mut [f32]) {
    let (h, w, m) = (shape.height, shape.width, shape.outputs);
    let plane = shape.plane(m);
    assert!(sums.len() >= PLANES * plane && count * m <= plane);
    for t in 0..count {
        let (image, tile) = ((first + t) / shape.tiles(), (first + t) % shape.tiles());
        let (row, col) = (2 * (tile / shape.tiles_across()), 2 * (tile % shape.tiles_across()));
        let (rows, cols) = ((h - row).min(2), (w - col).min(2));
        let start = ((image * h + row) * w + col) * m;
        let y = &mut y[start..start + ((rows - 1) * w + cols) * m];
        sweep!(S, m, |i, lanes| {
            // SAFETY: a plane has count rows of m ≥ i + lanes floats; y ends with the tile's last pixel.
            unsafe {
                let from = sums.as_ptr().add(t * m + i);
                let mut halves = [[S::splat(0.0); 4]; 2];
                for b in 0..4 {
                    let at = |a: usize| load_n::<S>(from.add((a * 4 + b) * plane), lanes);
                    let (second, third) = (at(1), at(2));
                    halves[0][b] = S::add(at(0), S::add(second, third));
                    halves[1][b] = S::sub(S::sub(second, third), at(3));
                }
                for a in 0..2 {
                    if a == rows {
                        break;
                    }
                    let [first, second, third, fourth] = halves[a];
                    let to = y.as_mut_ptr().add(a * w * m + i);
                    store_n::<S>(to, S::add(first, S::add(second, third)), lanes);
                    if cols > 1 {
                        store_n::<S>(to.add(m), S::sub(S::sub(second, third), fourth), lanes);
                    }
                }
            }
        });
    }
}

/// `d[16,T,O] = A·dy·Aᵀ` of `count` tiles from `first` on.
fn output_gradient(
    set: KernelSet,
    shape: Shape,
    tiles: (usize, usize),
    dy: &[f32],
    zeros: &[f32],
    d: &mut [f32],
) {
    dispatch!(
        set.with_vectors(),
        output_gradient_simd(shape: Shape, tiles: (usize, usize), dy: &[f32], zeros: &[f32], d: &mut [f32])
    );
}

/// A times two vectors.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn spread<S: Simd>([a, b]: [S::V; 2]) -> [S::V; 4] {
    // SAFETY: registers only.
    unsafe { [a, S::add(a, b), S::sub(a, b), S::sub(S::splat(0.0), b)] }
}

#[inline(always)]
unsafe fn output_gradient_simd<S: Simd>(
    shape: Shape,
    (first, count): (usize, usize),
    dy: &[f32],
    zeros: &[f32],
    d: &mut [f32],
) {
    let m = shape.outputs;
    let plane = shape.plane(m);
    assert!(d.len() >= PLANES * plane && count * m <= plane);
    for t in 0..count {
        let from = pixels::<2>(shape, first + t, 0, (dy, m), zeros);
        sweep!(S, m, |i, lanes| {
            // SAFETY: each pixel has m ≥ i + lanes channels; a plane has count rows of m floats.
            unsafe {
                let at = |a: usize, b: usize| load_n::<S>(from[a][b].add(i), lanes);
                let (left, right) = (spread::<S>([at(0, 0), at(1, 0)]), spread::<S>([at(0, 1), at(1, 1)]));
                let to = d.as_mut_ptr().add(t * m + i);
                for a in 0..4 {
                    let row = spread::<S>([left[a], right[a]]);
                    for b in 0..4 {
                        store_n::<S>(to.add((a * 4 + b) * plane), row[b], lanes);
                    }
                }
            }
        });
    }
}

/// Gᵀ times four vectors.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn joined<S: Simd>(u: [S::V; 4]) -> [S::V; 3] {
    // SAFETY: registers only.
    unsafe {
        let half = S::splat(0.5);
        let (sum, difference) = (S::mul(half, S::add(u[1], u[2])), S::mul(half, S::sub(u[1], u[2])));
        [S::add(u[0], sum), difference, S::add(sum, u[3])]
    }
}

/// `dw[3,3,I·O] += Gᵀ·sums·G` of `sums[16,I·O]`.
#[inline(always)]
unsafe fn windows_simd<S: Simd>(sums: &[f32], dw: &mut [f32]) {
    let len = dw.len() / 9;
    assert!(dw.len() == 9 * len && sums.len() == PLANES * len);
    sweep!(S, len, |i, lanes| {
        // SAFETY: i + lanes ≤ the length of a plane and of a tap.
        unsafe {
            let mut rows = [[S::splat(0.0); 4]; 3];
            for b in 0..4 {
                let at = |a: usize| load_n::<S>(sums.as_ptr().add((a * 4 + b) * len + i), lanes);
                let column = joined::<S>([at(0), at(1), at(2), at(3)]);
                for a in 0..3 {
                    rows[a][b] = column[a];
                }
            }
            for a in 0..3 {
                let row = joined::<S>(rows[a]);
                for b in 0..3 {
                    let to = dw.as_mut_ptr().add((a * 3 + b) * len + i);
                    store_n::<S>(to, S::add(load_n::<S>(to, lanes), row[b]), lanes);
                }
            }
        }
    });
}
