//! The transforms of tiles: pixels in, planes out, and back. Planes are rows of f32, or left cells of bf16.

use super::super::Shape;
use super::super::pixels::{Element, Pixels};
use super::PLANES;
use crate::lent::Lent;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};
use crate::tiles::{CELL, SIDE, cells};

/// Some tiles of all, and the rows that a plane is given for them: those beyond the tiles are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) rows: usize,
}

/// Which channels of a pixel are read: as many as the shape has, from `first` on, of `stride` that lie there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels {
    pub(super) first: usize,
    pub(super) stride: usize,
}

impl Tiles {
    /// The tile of a row, if there is one.
    #[inline(always)]
    fn of(self, row: usize) -> Option<usize> {
        (row < self.count).then_some(self.first + row)
    }
}

/// Where a transform leaves its planes.
trait Planes: Copy {
    /// Stores `lanes` channels from `i` on of row `t` of a plane.
    ///
    /// # Safety
    /// As [`Simd`]; the planes have such a row and channel.
    unsafe fn put<S: Simd>(self, plane: usize, at: (usize, usize), v: S::V, lanes: usize);
}

/// `[16,T,C]` in f32, planes `apart` floats apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: Lent<'a, f32>,
    apart: usize,
    channels: usize,
}

impl Planes for Rows<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(self, plane: usize, (t, i): (usize, usize), v: S::V, lanes: usize) {
        // SAFETY: as the caller's.
        unsafe { store_n::<S>(self.data.pointer(plane * self.apart + t * self.channels + i), v, lanes) }
    }
}

/// 16 left operands `[T,C]`, `apart` elements apart, rows of cells `wide` cells long. What is beyond C in a cell's row
/// was cleared before, but for the lanes of one vector.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: Lent<'a, u16>,
    apart: usize,
    wide: usize,
}

impl Planes for Left<'_> {
    #[inline(always)]
    unsafe fn put<S: Simd>(self, plane: usize, (t, i): (usize, usize), v: S::V, _lanes: usize) {
        let cell = (t / SIDE * self.wide + i / SIDE) * CELL;
        // SAFETY: a row of a cell has whole vectors, for their lanes divide 32; lanes beyond the valid ones are zeros.
        unsafe { S::store_bf16(self.data.pointer(plane * self.apart + cell + t % SIDE * SIDE + i % SIDE), v) }
    }
}

/// The N×N pixels of a tile, from `before` pixels before it on: where each lies in `x` with `c` channels, or zeros.
#[inline(always)]
fn pixels<E: Element, const N: usize>(
    shape: Shape,
    tile: Option<usize>,
    before: usize,
    (x, c, of): (&[E], usize, Channels),
    zeros: &[E],
) -> [[*const E; N]; N] {
    let mut at = [[zeros[..c].as_ptr(); N]; N];
    let Some(tile) = tile else { return at };
    let (h, w) = (shape.height, shape.width);
    let (image, tile) = (tile / shape.tiles(), tile % shape.tiles());
    let (row, col) = (2 * (tile / shape.tiles_across()), 2 * (tile % shape.tiles_across()));
    // Loops, for closures over arrays are not inlined here.
    for a in 0..N {
        let y = (row + a).wrapping_sub(before);
        for b in 0..N {
            let column = (col + b).wrapping_sub(before);
            if y < h && column < w {
                let pixel = ((image * h + y) * w + column) * of.stride + of.first;
                at[a][b] = x[pixel..][..c].as_ptr();
            }
        }
    }
    at
}

/// Which way tiles go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `Bᵀ·d·B` of what the convolution reads, a shape's channels in.
    Input,
    /// `A·dy·Aᵀ` of the gradient of what it gave, a shape's channels out.
    Gradient,
}

/// The planes `[16,T,C]` of some tiles, in rows or, of a shape in bf16, in left cells. Of those what is beyond C in a
/// row was cleared before, and stays so.
pub(super) fn transform(
    set: KernelSet,
    side: Side,
    shape: Shape,
    tiles: Tiles,
    of: Channels,
    x: Pixels<'_>,
    zeros: &[f32],
    planes: &mut [f32],
) {
    let set = set.with_vectors();
    let channels = match side {
        Side::Input => shape.inputs,
        Side::Gradient => shape.outputs,
    };
    match x {
        Pixels::F32(x) if !shape.bf16 => {
            let to = rows(shape, tiles, channels, planes);
            dispatch!(
                set,
                planes_simd[f32, Rows<'_>](
                    side: Side, shape: Shape, tiles: Tiles, of: Channels, x: &[f32], zeros: &[f32], to: Rows<'_>,
                )
            );
        }
        Pixels::F32(x) => {
            let to = left(shape, tiles, channels, planes);
            dispatch!(
                set,
                planes_simd[f32, Left<'_>](
                    side: Side, shape: Shape, tiles: Tiles, of: Channels, x: &[f32], zeros: &[f32], to: Left<'_>,
                )
            );
        }
        Pixels::Bf16(x) => {
            let (to, zeros) = (left(shape, tiles, channels, planes), bytemuck::cast_slice(zeros));
            dispatch!(
                set,
                planes_simd[u16, Left<'_>](
                    side: Side, shape: Shape, tiles: Tiles, of: Channels, x: &[u16], zeros: &[u16], to: Left<'_>,
                )
            );
        }
    }
}

#[inline(always)]
unsafe fn planes_simd<S: Simd, E: Element, P: Planes>(
    side: Side,
    shape: Shape,
    tiles: Tiles,
    of: Channels,
    x: &[E],
    zeros: &[E],
    to: P,
) {
    // SAFETY: as the caller's, who made planes for these tiles.
    unsafe {
        match side {
            Side::Input => input_simd::<S, E, P>(shape, tiles, of, x, zeros, to),
            Side::Gradient => gradient_simd::<S, E, P>(shape, tiles, of, x, zeros, to),
        }
    }
}

fn rows<'a>(shape: Shape, tiles: Tiles, channels: usize, planes: &'a mut [f32]) -> Rows<'a> {
    let apart = shape.plane(channels);
    assert!(planes.len() >= PLANES * apart && tiles.rows * channels <= apart);
    Rows { data: Lent::new(planes), apart, channels }
}

fn left<'a>(shape: Shape, tiles: Tiles, channels: usize, planes: &'a mut [f32]) -> Left<'a> {
    let planes: &mut [u16] = bytemuck::cast_slice_mut(planes);
    let (apart, wide) = (shape.cell_plane(channels), cells(channels));
    assert!(planes.len() >= PLANES * apart && cells(tiles.rows) * wide * CELL <= apart);
    Left { data: Lent::new(planes), apart, wide }
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
unsafe fn input_simd<S: Simd, E: Element, P: Planes>(
    shape: Shape,
    tiles: Tiles,
    of: Channels,
    x: &[E],
    zeros: &[E],
    to: P,
) {
    let n = shape.inputs;
    for t in 0..tiles.rows {
        let from = pixels::<E, 4>(shape, tiles.of(t), 1, (x, n, of), zeros);
        sweep!(S, n, |i, lanes| {
            // SAFETY: each pixel has n ≥ i + lanes channels; the planes have these rows.
            unsafe {
                let mut rows = [[S::splat(0.0); 4]; 4];
                for b in 0..4 {
                    let at = |a: usize| E::load::<S>(from[a][b].add(i), lanes);
                    let column = differences::<S>([at(0), at(1), at(2), at(3)]);
                    for a in 0..4 {
                        rows[a][b] = column[a];
                    }
                }
                for a in 0..4 {
                    let row = differences::<S>(rows[a]);
                    for b in 0..4 {
                        to.put::<S>(a * 4 + b, (t, i), row[b], lanes);
                    }
                }
            }
        });
    }
}

/// `y = Aᵀ·sums·A` of some tiles, `sums[16,T,O]` in rows.
pub(super) fn output(set: KernelSet, shape: Shape, tiles: Tiles, sums: &[f32], y: &mut [f32]) {
    dispatch!(set.with_vectors(), output_simd(shape: Shape, tiles: Tiles, sums: &[f32], y: &mut [f32]));
}

#[inline(always)]
unsafe fn output_simd<S: Simd>(shape: Shape, tiles: Tiles, sums: &[f32], y: &mut [f32]) {
    let (h, w, m) = (shape.height, shape.width, shape.outputs);
    let plane = shape.plane(m);
    assert!(sums.len() >= PLANES * plane && tiles.count * m <= plane);
    for t in 0..tiles.count {
        let (image, tile) = ((tiles.first + t) / shape.tiles(), (tiles.first + t) % shape.tiles());
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
unsafe fn gradient_simd<S: Simd, E: Element, P: Planes>(
    shape: Shape,
    tiles: Tiles,
    of: Channels,
    dy: &[E],
    zeros: &[E],
    to: P,
) {
    let m = shape.outputs;
    for t in 0..tiles.rows {
        let from = pixels::<E, 2>(shape, tiles.of(t), 0, (dy, m, of), zeros);
        sweep!(S, m, |i, lanes| {
            // SAFETY: each pixel has m ≥ i + lanes channels; the planes have these rows.
            unsafe {
                let at = |a: usize, b: usize| E::load::<S>(from[a][b].add(i), lanes);
                let (left, right) = (spread::<S>([at(0, 0), at(1, 0)]), spread::<S>([at(0, 1), at(1, 1)]));
                for a in 0..4 {
                    let row = spread::<S>([left[a], right[a]]);
                    for b in 0..4 {
                        to.put::<S>(a * 4 + b, (t, i), row[b], lanes);
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
pub(super) fn windows(set: KernelSet, sums: &[f32], dw: &mut [f32]) {
    dispatch!(set.with_vectors(), windows_simd(sums: &[f32], dw: &mut [f32]));
}

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
