//! From rows of f32 to cells of bf16, and from one order of cells to another.

use super::{CELL, Cells, SIDE, cells, len};
use crate::lent::Lent;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n};
use std::ops::Range;

/// Plain loops.
pub mod naive {
    use super::*;
    use crate::bf16;

    /// Where element (i, k) of a left operand lies.
    pub fn left_index(i: usize, k: usize, depth: usize) -> usize {
        (i / SIDE * cells(depth) + k / SIDE) * CELL + i % SIDE * SIDE + k % SIDE
    }

    /// Where element (k, j) of a right operand lies.
    pub fn right_index(k: usize, j: usize, depth: usize) -> usize {
        let cell = (j / SIDE * cells(depth) + k / SIDE) * CELL;
        cell + j % SIDE / 16 * 512 + k % SIDE / 2 * 32 + j % 16 * 2 + k % 2
    }

    /// `x[R,C]`, rows `stride` apart, as left operand.
    pub fn left(x: &[f32], (rows, columns): (usize, usize), stride: usize, out: &mut [u16]) {
        out.fill(0);
        for r in 0..rows {
            for c in 0..columns {
                out[left_index(r, c, columns)] = bf16::round(x[r * stride + c]);
            }
        }
    }

    /// `x[R,C]`, rows `stride` apart, as right operand with k = R.
    pub fn right(x: &[f32], (rows, columns): (usize, usize), stride: usize, out: &mut [u16]) {
        out.fill(0);
        for r in 0..rows {
            for c in 0..columns {
                out[right_index(r, c, rows)] = bf16::round(x[r * stride + c]);
            }
        }
    }
}

fn check_rows(x: &[f32], (rows, columns): (usize, usize), stride: usize) {
    assert!(rows > 0 && columns > 0 && stride >= columns, "rows[{rows},{columns}], {stride} apart");
    assert!(x.len() >= (rows - 1) * stride + columns, "x is shorter than its shape");
}

/// `x[R,C]`, rows `stride` apart, as left operand.
pub fn left(set: KernelSet, x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16]) {
    check_rows(x, shape, stride);
    assert!(out.len() >= len(shape.0, shape.1), "the left operand is shorter than its shape");
    dispatch!(
        set.with_vectors(),
        left_simd(x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16])
    );
}

/// The same, each row times its factor.
pub fn left_scaled(
    set: KernelSet,
    x: &[f32],
    shape: (usize, usize),
    stride: usize,
    factors: &[f32],
    out: &mut [u16],
) {
    check_rows(x, shape, stride);
    assert!(out.len() >= len(shape.0, shape.1), "the left operand is shorter than its shape");
    assert!(factors.len() >= shape.0, "each row has a factor");
    let (block, out) = (cells(shape.1) * CELL, Lent::new(out));
    split(cells(shape.0), |part, _| {
        let (first, end) = (part.start * SIDE, shape.0.min(part.end * SIDE));
        let (x, factors, shape) = (&x[first * stride..], &factors[first..end], (end - first, shape.1));
        // SAFETY: the part's own blocks of rows.
        let out = unsafe { out.at(part.start * block, part.len() * block) };
        dispatch!(
            set.with_vectors(),
            scaled_simd(x: &[f32], shape: (usize, usize), stride: usize, factors: &[f32], out: &mut [u16])
        );
    });
}

/// `x[R,C]`, rows `stride` apart, as right operand with k = R.
pub fn right(set: KernelSet, x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16]) {
    check_rows(x, shape, stride);
    assert!(out.len() >= len(shape.0, shape.1), "the right operand is shorter than its shape");
    dispatch!(
        set.with_vectors(),
        right_simd(x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16])
    );
}

/// `x[R,C]`, rows `stride` apart, as left operand and as right operand with k = R, and the sums of its columns.
pub fn left_and_right(
    set: KernelSet,
    x: &[f32],
    shape: (usize, usize),
    stride: usize,
    left: &mut [u16],
    right: &mut [u16],
    sums: &mut [f32],
) {
    check_rows(x, shape, stride);
    let len = len(shape.0, shape.1);
    assert!(left.len() >= len && right.len() >= len, "an operand is shorter than its shape");
    assert!(sums.len() >= shape.1, "the sums are shorter than a row");
    let ([left, right], sums) = ([left, right].map(Lent::new), Lent::new(sums));
    // A part is some columns, whose sums are its own.
    split(cells(shape.1), |part, _| {
        dispatch!(
            set.with_vectors(),
            both_simd(
                x: &[f32],
                shape: (usize, usize),
                part: Range<usize>,
                stride: usize,
                left: Lent<'_, u16>,
                right: Lent<'_, u16>,
                sums: Lent<'_, f32>,
            )
        );
    });
}

#[inline(always)]
unsafe fn both_simd<S: Simd>(
    x: &[f32],
    (rows, columns): (usize, usize),
    part: Range<usize>,
    stride: usize,
    left: Lent<'_, u16>,
    right: Lent<'_, u16>,
    sums: Lent<'_, f32>,
) {
    let (deep, wide) = (cells(rows), cells(columns));
    let own = part.start * SIDE..columns.min(part.end * SIDE);
    // SAFETY: the part's own columns.
    let sums = unsafe { sums.at(own.start, own.len()) };
    sums.fill(0.0);
    for block in 0..deep {
        let here = SIDE.min(rows - block * SIDE);
        for panel in part.clone() {
            let count = SIDE.min(columns - panel * SIDE);
            let from = &x[block * SIDE * stride + panel * SIDE..];
            // SAFETY: cells of the part's own columns.
            let (left, right) = unsafe {
                (left.at((block * wide + panel) * CELL, CELL), right.at((panel * deep + block) * CELL, CELL))
            };
            for v in (0..SIDE).step_by(S::LANES) {
                // SAFETY: pairs of rows and lanes lie inside cells; of x and the sums only valid elements are touched.
                unsafe {
                    let mut sum = S::splat(0.0);
                    let row = |r: usize| {
                        if r < here { lanes_of::<S>(&from[r * stride..], v, count) } else { S::splat(0.0) }
                    };
                    for pair in 0..SIDE / 2 {
                        let (even, odd) = (row(2 * pair), row(2 * pair + 1));
                        sum = S::add(sum, S::add(even, odd));
                        let rows = [2 * pair, 2 * pair + 1].map(|r| left.as_mut_ptr().add(r * SIDE + v));
                        let to = right.as_mut_ptr().add(v / 16 * 512 + pair * 32 + v % 16 * 2);
                        S::store_bf16_rows_and_pairs(rows, to, even, odd);
                    }
                    if v < count {
                        let at = panel * SIDE + v - own.start;
                        let (n, p) = (S::LANES.min(count - v), sums.as_mut_ptr().add(at));
                        store_n::<S>(p, S::add(load_n::<S>(p, n), sum), n);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn left_simd<S: Simd>(x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16]) {
    // SAFETY: as the caller's.
    unsafe { left_with::<S>(x, shape, stride, out, |_, v| v) }
}

#[inline(always)]
unsafe fn scaled_simd<S: Simd>(
    x: &[f32],
    shape: (usize, usize),
    stride: usize,
    factors: &[f32],
    out: &mut [u16],
) {
    // SAFETY: as the caller's.
    unsafe { left_with::<S>(x, shape, stride, out, |row, v| S::mul(v, S::splat(factors[row]))) }
}

#[inline(always)]
unsafe fn left_with<S: Simd>(
    x: &[f32],
    (rows, columns): (usize, usize),
    stride: usize,
    out: &mut [u16],
    then: impl Fn(usize, S::V) -> S::V,
) {
    let wide = cells(columns);
    for r in 0..rows.next_multiple_of(SIDE) {
        let out = &mut out[r / SIDE * wide * CELL..];
        for cell in 0..wide {
            let row = &mut out[cell * CELL + r % SIDE * SIDE..][..SIDE];
            if r >= rows {
                row.fill(0);
                continue;
            }
            let x = &x[r * stride + cell * SIDE..];
            let count = SIDE.min(columns - cell * SIDE);
            for i in (0..SIDE).step_by(S::LANES) {
                // SAFETY: i + LANES ≤ 32, the length of `row`; of x only the first `count` elements are read.
                unsafe { S::store_bf16(row.as_mut_ptr().add(i), then(r, lanes_of::<S>(x, i, count))) }
            }
        }
    }
}

/// Elements `i..i + LANES` of the first `count` of `x`, zeros beyond.
#[inline(always)]
pub(super) unsafe fn lanes_of<S: Simd>(x: &[f32], i: usize, count: usize) -> S::V {
    // SAFETY: reads below `count`, which the caller knows to lie inside x.
    unsafe {
        if i >= count { S::splat(0.0) } else { load_n::<S>(x.as_ptr().add(i), (count - i).min(S::LANES)) }
    }
}

#[inline(always)]
unsafe fn right_simd<S: Simd>(x: &[f32], (rows, columns): (usize, usize), stride: usize, out: &mut [u16]) {
    let deep = cells(rows);
    for cell in 0..cells(columns) {
        let count = SIDE.min(columns - cell * SIDE);
        for r in (0..rows.next_multiple_of(SIDE)).step_by(2) {
            let to = (cell * deep + r / SIDE) * CELL + r % SIDE / 2 * 32;
            let out = &mut out[to..to + 512 + 32];
            for i in (0..SIDE).step_by(S::LANES) {
                // SAFETY: a tile's row of 16 pairs from i/16·512 + i%16·2 ends inside `out`; x as above.
                unsafe {
                    let zero = S::splat(0.0);
                    let row = |r: usize| {
                        if r < rows { lanes_of::<S>(&x[r * stride + cell * SIDE..], i, count) } else { zero }
                    };
                    S::store_bf16_pairs(out.as_mut_ptr().add(i / 16 * 512 + i % 16 * 2), row(r), row(r + 1));
                }
            }
        }
    }
}

/// From left `x[R,C]` to right x, k = R.
pub fn interleave(set: KernelSet, x: &[u16], shape: (usize, usize), out: &mut [u16]) {
    check_cells(x, shape, out);
    let (x, deep, out) = (Cells::whole(x, shape.1), cells(shape.0), Lent::new(out));
    split(cells(shape.1), |part, _| {
        let (columns, x) = (shape.1.min(part.end * SIDE) - part.start * SIDE, x.from_k(part.start * SIDE));
        let shape = (shape.0, columns);
        // SAFETY: a panel's cells lie behind each other, and the panels are the part's own.
        let out = unsafe { out.at(part.start * deep * CELL, part.len() * deep * CELL) };
        dispatch!(set.with_vectors(), interleave_simd(x: Cells<'_>, shape: (usize, usize), out: &mut [u16]));
    });
}

/// From left `x[R,C]` to left `xᵀ[C,R]`, whose blocks of rows are `stride` ≥ R/32 cells apart: kernels call what is
/// behind it.
#[cfg(test)]
fn turn(set: KernelSet, x: &[u16], shape: (usize, usize), out: &mut [u16], stride: usize) {
    let (deep, wide) = (cells(shape.0), cells(shape.1));
    assert!(x.len() >= deep * wide * CELL, "an operand is shorter than its shape");
    assert!(
        deep > 0 && wide > 0 && stride >= deep && out.len() >= ((wide - 1) * stride + deep) * CELL,
        "an operand is shorter than its shape"
    );
    let x = Cells::whole(x, shape.1);
    dispatch!(
        set.with_vectors(),
        turn_simd(x: Cells<'_>, shape: (usize, usize), out: &mut [u16], stride: usize)
    );
}

/// `x[N,K]`, rows `stride` apart, as right operand xᵀ with k = K.
pub fn right_transposed(set: KernelSet, x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16]) {
    check_rows(x, shape, stride);
    assert!(out.len() >= len(shape.0, shape.1), "the right operand is shorter than its shape");
    dispatch!(
        set.with_vectors(),
        right_transposed_simd(x: &[f32], shape: (usize, usize), stride: usize, out: &mut [u16])
    );
}

#[inline(always)]
unsafe fn right_transposed_simd<S: Simd>(
    x: &[f32],
    (rows, columns): (usize, usize),
    stride: usize,
    out: &mut [u16],
) {
    let wide = cells(columns);
    let mut loose = [0u16; CELL];
    for r in 0..cells(rows) {
        for c in 0..wide {
            let count = (SIDE.min(rows - r * SIDE), SIDE.min(columns - c * SIDE));
            // SAFETY: as the caller's; the cell's elements lie inside x as `check_rows` saw.
            unsafe {
                left_simd::<S>(&x[r * SIDE * stride + c * SIDE..], count, stride, &mut loose);
                words_of_cell::<S>(&loose, cell_mut(out, r * wide + c));
            }
        }
    }
}

/// From left `x[N,K]` to right `xᵀ[K,N]`, or back; also in place of each other's cells, one by one. As [`turn`].
#[cfg(test)]
fn transpose_words(set: KernelSet, x: &[u16], out: &mut [u16]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(CELL), "whole cells");
    dispatch!(set.with_vectors(), words_simd(x: &[u16], out: &mut [u16]));
}

fn check_cells(x: &[u16], (rows, columns): (usize, usize), out: &[u16]) {
    let len = len(rows, columns);
    assert!(x.len() >= len && out.len() >= len, "an operand is shorter than its shape");
}

#[inline(always)]
pub(super) unsafe fn interleave_simd<S: Simd>(
    x: Cells<'_>,
    (rows, columns): (usize, usize),
    out: &mut [u16],
) {
    let (deep, wide) = (cells(rows), cells(columns));
    for r in 0..deep {
        for c in 0..wide {
            // SAFETY: as the caller's.
            unsafe { S::interleave(cell(x.data, r * x.stride + c), cell_mut(out, c * deep + r)) }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn turn_simd<S: Simd>(
    x: Cells<'_>,
    (rows, columns): (usize, usize),
    out: &mut [u16],
    stride: usize,
) {
    let (deep, wide) = (cells(rows), cells(columns));
    for r in 0..deep {
        for c in 0..wide {
            // SAFETY: as the caller's.
            unsafe { S::turn(cell(x.data, r * x.stride + c), cell_mut(out, c * stride + r)) }
        }
    }
}

/// Each tile's 16×16 words turned.
#[inline(always)]
pub(super) unsafe fn words_of_cell<S: Simd>(x: &[u16; CELL], out: &mut [u16; CELL]) {
    for half in 0..2 {
        // SAFETY: half a cell is 256 words, and u16 pairs may be read as words wherever they lie on this path:
        // cells are 64-byte aligned slices of aligned buffers, or arrays whose alignment the unaligned loads of
        // every implementation do not rely on.
        unsafe {
            let (from, to) = (x.as_ptr().add(half * 512), out.as_mut_ptr().add(half * 512));
            S::transpose(from.cast(), to.cast(), 16);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn words_simd<S: Simd>(x: &[u16], out: &mut [u16]) {
    for i in 0..x.len() / CELL {
        // SAFETY: as the caller's.
        unsafe { words_of_cell::<S>(cell(x, i), cell_mut(out, i)) }
    }
}

/// Asks for a cell that will be read soon, if there is one: cells of one column lie too far apart for the processor to
/// guess the next.
#[inline(always)]
pub(super) fn prefetch(x: &[u16], index: usize) {
    if let Some(cell) = x.get(index * CELL..(index + 1) * CELL) {
        cell.chunks_exact(SIDE).for_each(|line| crate::simd::prefetch(line.as_ptr().cast()));
    }
}

/// Cell `index`.
#[inline(always)]
pub(super) fn cell(x: &[u16], index: usize) -> &[u16; CELL] {
    x[index * CELL..(index + 1) * CELL].try_into().expect("a cell has 1,024 elements")
}

/// Cell `index`.
#[inline(always)]
pub(super) fn cell_mut(x: &mut [u16], index: usize) -> &mut [u16; CELL] {
    (&mut x[index * CELL..(index + 1) * CELL]).try_into().expect("a cell has 1,024 elements")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_cells_hold_the_same_values() {
        for (rows, columns) in [(1, 1), (32, 32), (5, 40), (50, 24), (70, 33), (64, 112)] {
            let stride = columns + 3;
            let x: Vec<f32> = (0..rows * stride).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
            let turned: Vec<f32> = (0..rows * columns).map(|i| x[i % rows * stride + i / rows]).collect();
            let n = len(rows, columns);
            let (mut exact_left, mut exact_right) = (vec![9; n], vec![9; n]);
            naive::left(&x, (rows, columns), stride, &mut exact_left);
            naive::right(&x, (rows, columns), stride, &mut exact_right);
            let (mut left_turned, mut right_turned) = (vec![9; n], vec![9; n]);
            naive::left(&turned, (columns, rows), rows, &mut left_turned);
            naive::right(&turned, (columns, rows), rows, &mut right_turned);
            for set in KernelSet::runnable() {
                let (mut a, mut b) = (vec![9; n], vec![9; n]);
                left(set, &x, (rows, columns), stride, &mut a);
                assert!(a == exact_left, "{set:?} left {rows}×{columns}");
                let doubled: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
                left_scaled(set, &doubled, (rows, columns), stride, &vec![0.5; rows], &mut a);
                assert!(a == exact_left, "{set:?} left scaled {rows}×{columns}");
                right(set, &x, (rows, columns), stride, &mut b);
                assert!(b == exact_right, "{set:?} right {rows}×{columns}");
                let mut sums = vec![9.0; columns];
                a.fill(9);
                b.fill(9);
                left_and_right(set, &x, (rows, columns), stride, &mut a, &mut b, &mut sums);
                assert!(a == exact_left && b == exact_right, "{set:?} both {rows}×{columns}");
                for (c, &sum) in sums.iter().enumerate() {
                    let exact: f64 = (0..rows).map(|r| f64::from(x[r * stride + c])).sum();
                    assert!((f64::from(sum) - exact).abs() < 1e-4, "{set:?} sum {c} of {rows}×{columns}");
                }
                interleave(set, &exact_left, (rows, columns), &mut b);
                assert!(b == exact_right, "{set:?} interleave {rows}×{columns}");
                turn(set, &exact_left, (rows, columns), &mut b, cells(rows));
                assert!(b == left_turned, "{set:?} turn {rows}×{columns}");
                right_transposed(set, &x, (rows, columns), stride, &mut b);
                assert!(b == right_turned, "{set:?} right transposed {rows}×{columns}");
                transpose_words(set, &exact_left, &mut b);
                assert!(b == right_turned, "{set:?} words {rows}×{columns}");
                transpose_words(set, &right_turned, &mut b);
                assert!(b == exact_left, "{set:?} words back {rows}×{columns}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "shorter than its shape")]
    fn short_operands_are_refused() {
        left(KernelSet::detect(), &[0.0; 10], (2, 6), 6, &mut [0; CELL]);
    }
}
