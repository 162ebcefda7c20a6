//! A head's columns: out of the cells of a whole matrix, and back into them. A head of 32 or 64 columns is whole cells;
//! one of another width lies in parts of them.

use super::super::convert::{cell, cell_mut, prefetch, words_of_cell, words_simd};
use super::super::{CELL, Cells, SIDE, cells};
use crate::lent::Lent;
use crate::simd::{Simd, load_n, store_n};

/// Copies up to 32 elements, by halves of a cell's row: a call of `memcpy` would cost more than the copy.
#[inline(always)]
pub(super) fn copy(from: &[u16], to: &mut [u16]) {
    let (mut from, mut to) = (from.chunks_exact(16), to.chunks_exact_mut(16));
    for (from, to) in (&mut from).zip(&mut to) {
        let half: &[u16; 16] = from.try_into().expect("16 elements");
        to.copy_from_slice(half);
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to = *from;
    }
}

/// Columns `first..first + S` of the left operand `x[T,W]` as left operand `[T,S]`: themselves where they are whole
/// cells, else a copy in `space`.
#[inline(always)]
pub(super) fn columns<'a>(
    x: &'a [u16],
    wide: usize,
    first: usize,
    (length, width): (usize, usize),
    space: &'a mut [u16],
) -> Cells<'a> {
    if first.is_multiple_of(SIDE) && width.is_multiple_of(SIDE) {
        return Cells { data: &x[first / SIDE * CELL..], stride: wide };
    }
    let parts = cells(width);
    if width == 16 && first.is_multiple_of(16) {
        // One half of each row of a cell: copies of a length the compiler knows.
        for block in 0..cells(length) {
            let to = cell_mut(space, block);
            prefetch(x, (block + 3) * wide + first / SIDE);
            let from = cell(x, block * wide + first / SIDE);
            for r in 0..SIDE {
                let half: [u16; 16] = from[r * SIDE + first % SIDE..][..16].try_into().expect("16 elements");
                to[r * SIDE..][..16].copy_from_slice(&half);
                to[r * SIDE + 16..][..16].copy_from_slice(&[0; 16]);
            }
        }
        return Cells::whole(space, width);
    }
    for block in 0..cells(length) {
        for part in 0..parts {
            let to = cell_mut(space, block * parts + part);
            let (column, count) = (first + part * SIDE, SIDE.min(width - part * SIDE));
            // The columns lie in one cell or in two.
            let split = (SIDE - column % SIDE).min(count);
            prefetch(x, (block + 3) * wide + column / SIDE);
            let from = cell(x, block * wide + column / SIDE);
            let second = if split < count { cell(x, block * wide + column / SIDE + 1) } else { from };
            for r in 0..SIDE {
                let to: &mut [u16; SIDE] = (&mut to[r * SIDE..][..SIDE]).try_into().expect("32 elements");
                if count < SIDE {
                    *to = [0; SIDE];
                }
                copy(&from[r * SIDE + column % SIDE..][..split], &mut to[..split]);
                copy(&second[r * SIDE..][..count - split], &mut to[split..count]);
            }
        }
    }
    Cells::whole(space, width)
}

/// Zeros beyond column `width` of a left operand `[T,W]`: heads write their own columns, nobody else those.
#[inline(always)]
pub(super) unsafe fn clear_beyond(x: Lent<'_, u16>, length: usize, width: usize) {
    let (inside, wide) = (width % SIDE, cells(width));
    if inside > 0 {
        for row in 0..length.next_multiple_of(SIDE) {
            let last = (row / SIDE * wide + wide - 1) * CELL + row % SIDE * SIDE;
            // SAFETY: the caller has these columns alone.
            unsafe { x.at(last + inside, SIDE - inside) }.fill(0);
        }
    }
}

/// Each cell of the left operand `x[T,S]` as cell of the right operand xᵀ with k = S.
#[inline(always)]
pub(super) unsafe fn words_of_left<S: Simd>(x: Cells<'_>, (length, width): (usize, usize), out: &mut [u16]) {
    let len = cells(width) * CELL;
    for block in 0..cells(length) {
        // SAFETY: as the caller's.
        unsafe {
            words_simd::<S>(&x.data[block * x.stride * CELL..][..len], &mut out[block * len..][..len]);
        }
    }
}

/// A 64-byte aligned cell.
#[repr(C, align(64))]
pub(super) struct Pairs(pub(super) [u16; CELL]);

/// The first `rows` of sums `[S, 32]`, each lane times its factor, as left cell `[32, S]` whose other columns hold
/// anything.
#[inline(always)]
pub(super) unsafe fn turn_sums<S: Simd>(sums: &[f32], rows: usize, factors: &[f32], turned: &mut Pairs) {
    let mut pairs = Pairs([0; CELL]);
    // SAFETY: rows and lanes lie inside cells of 1,024 and factors of 32; a pair's second row may not be valid.
    unsafe {
        for x in (0..SIDE).step_by(S::LANES) {
            let factor = S::load(factors.as_ptr().add(x));
            for pair in 0..rows.div_ceil(2) {
                let from = sums.as_ptr().add(pair * 2 * SIDE + x);
                let even = S::mul(S::load(from), factor);
                let odd = S::mul(S::load(from.add(SIDE)), factor);
                let to = pairs.0.as_mut_ptr().add(x / 16 * 512 + pair * 32 + x % 16 * 2);
                S::store_bf16_pairs(to, even, odd);
            }
        }
        words_of_cell::<S>(&pairs.0, &mut turned.0);
    }
}

/// Copies `width` columns of a left cell's first `rows` rows to columns `first..` of row-block `block` of a left
/// operand `wide` cells wide; its other rows become zero there.
///
/// # Safety
/// Nobody else has these columns.
#[inline(always)]
pub(super) unsafe fn put_columns(
    from: &[u16; CELL],
    (block, rows): (usize, usize),
    first: usize,
    width: usize,
    wide: usize,
    to: Lent<'_, u16>,
) {
    let split = (SIDE - first % SIDE).min(width);
    for r in 0..SIDE {
        let at = |column: usize| (block * wide + column / SIDE) * CELL + r * SIDE + column % SIDE;
        let from = if r < rows { &from[r * SIDE..r * SIDE + width] } else { &[0; SIDE][..width] };
        // SAFETY: the caller's columns.
        unsafe {
            copy(&from[..split], to.at(at(first), split));
            if split < width {
                copy(&from[split..], to.at(at(first + split), width - split));
            }
        }
    }
}

/// Sums `[32, S]`, of which `rows` are valid, times a factor: rounded into columns `first..first + width` of row-block
/// `block` of a left operand `wide` cells wide, whose other rows become zero there; and added up in `totals`.
#[inline(always)]
pub(super) unsafe fn put_rows<S: Simd>(
    sums: &[f32],
    factor: f32,
    (block, rows): (usize, usize),
    (first, width): (usize, usize),
    wide: usize,
    to: Lent<'_, u16>,
    totals: Lent<'_, f32>,
) {
    // SAFETY: offsets lie inside cells; vectors that pass a cell's edge, or the columns, go through an array.
    unsafe {
        let factor = S::splat(factor);
        for x in (0..width).step_by(S::LANES) {
            let (column, count) = (first + x, S::LANES.min(width - x));
            let whole = count == S::LANES && column % SIDE + S::LANES <= SIDE;
            let cell = (block * wide + column / SIDE) * CELL;
            let mut total = S::splat(0.0);
            for r in 0..SIDE {
                let value = if r < rows {
                    S::mul(S::load(sums.as_ptr().add(r * SIDE + x)), factor)
                } else {
                    S::splat(0.0)
                };
                total = S::add(total, value);
                if whole {
                    let row = to.at(cell + r * SIDE + column % SIDE, S::LANES);
                    S::store_bf16(row.as_mut_ptr(), value);
                } else {
                    let mut lanes = [0u16; 16];
                    S::store_bf16(lanes.as_mut_ptr(), value);
                    for (i, &lane) in lanes[..count].iter().enumerate() {
                        let column = column + i;
                        let at = (block * wide + column / SIDE) * CELL + r * SIDE + column % SIDE;
                        to.at(at, 1)[0] = lane;
                    }
                }
            }
            let into = totals.at(column, count).as_mut_ptr();
            store_n::<S>(into, S::add(load_n::<S>(into, count), total), count);
        }
    }
}
