//! Weight gradients: products whose k runs over the tokens of several sequences, some rows of the result at a time.

use super::super::convert::{cell, cell_mut, prefetch};
use super::super::{CELL, Cells, SIDE, cells};
use super::{Dims, Sums, lanes};
use crate::lent::Lent;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Ahead, BlockSize, Segment, Simd, load_n, store_n};
use std::ops::Range;

/// Most stretches of k summed before the sums touch memory.
const SEGMENTS: usize = 16;

/// Elements of space that [`weight_gradient`] needs for `rows` rows of a gradient and so many stretches up to
/// `longest`: the turned cells of a block of rows, for each of them.
pub fn turned_len(rows: usize, stretches: usize, longest: usize) -> usize {
    cells(rows) * (stretches * cells(longest)).min(cells(longest).max(TURNED / SIDE)) * CELL
}

/// Steps of k whose left cells are turned at once, if they are whole stretches: they stay in L2.
const TURNED: usize = 4096;

/// What a weight gradient is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: what was there is overwritten.
    Zero,
    /// What is there.
    Accumulate,
}

/// Rows `rows` of `dw[M,N] = start + Σ over stretches of xᵀ·dy`, the first of them a multiple of 32; `dw` begins with
/// it. The right operand is read once for all of them.
///
/// `operand(s)` gives stretch s: the left operand `x[K,M]`, whose columns are turned here, in `space` of
/// [`turned_len`]; the right operand `dy[K,N]`; K.
pub fn weight_gradient<'a>(
    set: KernelSet,
    (m, n): (usize, usize),
    rows: Range<usize>,
    stretches: usize,
    operand: impl Fn(usize) -> (Cells<'a>, Cells<'a>, usize),
    space: &mut [u16],
    start: Start,
    dw: &mut [f32],
) {
    assert!(rows.start.is_multiple_of(SIDE) && rows.end <= m, "the rows are some blocks of the gradient's");
    assert!(dw.len() >= rows.len() * n, "dw is shorter than its shape");
    let blocks = rows.start / SIDE..cells(rows.end);
    let (mut first, mut start) = (0, start);
    while first < stretches {
        let (_, _, depth) = operand(first);
        let mut list = [(Cells { data: &[], stride: 0 }, Cells { data: &[], stride: 0 }); SEGMENTS];
        let most = SEGMENTS.min(TURNED / depth.next_multiple_of(SIDE)).max(1);
        let mut count = 0;
        while count < most && first + count < stretches {
            let (x, dy, k) = operand(first + count);
            if k != depth {
                break;
            }
            assert!(k > 0 && n > 0, "no dimension is empty");
            // One block of positions after the other, each of which has these columns.
            x.check(cells(k), blocks.end * SIDE);
            dy.check(cells(n), k);
            list[count] = (x, dy);
            count += 1;
        }
        assert!(space.len() >= blocks.len() * count * cells(depth) * CELL, "the space is too small");
        let (operands, blocks) = (&list[..count], blocks.clone());
        dispatch!(
            set.with_vectors(),
            turn_blocks(
                depth: usize,
                blocks: Range<usize>,
                operands: &[(Cells<'_>, Cells<'_>)],
                space: &mut [u16],
            )
        );
        let (dims, turned, out) = ((rows.len(), n, depth), &*space, Lent::new(dw));
        split(cells(n), |part, _| {
            dispatch!(
                set.with_vectors(),
                gradient_simd(
                    dims: Dims,
                    part: Range<usize>,
                    operands: &[(Cells<'_>, Cells<'_>)],
                    turned: &[u16],
                    start: Start,
                    out: Lent<'_, f32>,
                )
            );
        });
        first += count;
        start = Start::Accumulate;
    }
}

/// Columns `blocks` of every left operand's cells, turned: those of the first block, of all operands, then the next's.
#[inline(always)]
unsafe fn turn_blocks<S: Simd>(
    depth: usize,
    blocks: Range<usize>,
    operands: &[(Cells<'_>, Cells<'_>)],
    space: &mut [u16],
) {
    let deep = cells(depth);
    for (index, (x, _)) in operands.iter().enumerate() {
        for r in 0..deep {
            for (above, block) in blocks.clone().enumerate() {
                prefetch(x.data, (r + 3) * x.stride + block);
                let to = cell_mut(space, (above * operands.len() + index) * deep + r);
                // SAFETY: as the caller's.
                unsafe { S::turn(cell(x.data, r * x.stride + block), to) }
            }
        }
    }
}

/// Blocks of columns `part` of `dw[rows, N]`.
#[inline(always)]
unsafe fn gradient_simd<S: Simd>(
    (rows, n, depth): Dims,
    part: Range<usize>,
    operands: &[(Cells<'_>, Cells<'_>)],
    turned: &[u16],
    start: Start,
    dw: Lent<'_, f32>,
) {
    let deep = cells(depth);
    let mut sums = Sums([0.0; CELL]);
    let mut segments = [Segment { a: std::ptr::null(), b: std::ptr::null() }; SEGMENTS];
    let segments = &mut segments[..operands.len()];
    // SAFETY: every operand and the space were checked against their shapes; rows of dw have n elements, cols ≤ n −
    // 32·j; these columns of dw are this part's own.
    unsafe {
        S::enter();
        for j in part {
            let cols = SIDE.min(n - j * SIDE);
            for above in 0..cells(rows) {
                for (index, (segment, (_, dy))) in segments.iter_mut().zip(operands).enumerate() {
                    let a = turned.as_ptr().add((above * operands.len() + index) * deep * CELL);
                    *segment = Segment { a, b: dy.block(j) };
                }
                let (first, rows) = (above * SIDE, SIDE.min(rows - above * SIDE));
                let size = BlockSize { rows, cols, depth };
                S::block_ahead(segments, size, sums.0.as_mut_ptr(), SIDE, Ahead::default());
                for r in 0..rows {
                    let row = dw.pointer((first + r) * n + j * SIDE);
                    lanes!(S, cols, |v, count| {
                        let sum = S::load(sums.0.as_ptr().add(r * SIDE + v));
                        let sum = match start {
                            Start::Zero => sum,
                            Start::Accumulate => S::add(load_n::<S>(row.add(v), count), sum),
                        };
                        store_n::<S>(row.add(v), sum, count);
                    });
                }
            }
        }
        S::leave();
    }
}
