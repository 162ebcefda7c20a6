//! The gradient of a weight matrix from rows of f32: `dw[M,N] += Σ over sequences of left[T,M]ᵀ · right[T,N]`.
//!
//! Both operands lie with T going down, in strides that are often powers of two, and a task needs a few columns of
//! each row: read as they lie, rows fall on each other in every cache. So both are copied into the order the register
//! blocks read, on the stack:
//!
//! ```text
//!   left, 192 columns of 128 rows, once per 512 columns of dw     right, a panel of two vectors of columns at a time
//!   ┌ rows 0–11 of dw ┬ rows 12–23 ┬ …   element (i, t) of a      ┌ panel p ─────┬ panel p + 1 ─┐
//!   │ t = 0: 12       │            │     group at t·12 + i        │ t by t       │ copied while │
//!   │ t = 1: 12       │            │                              │ in use, L1   │ p is in use  │
//!   └─────────────────┴────────────┴     stays in L2              └──────────────┴──────────────┘
//! ```
//!
//! Each element of dw is summed over sequences and positions in order, whatever part of dw a call is given.

use crate::Real;
use crate::matmul::{BlockArgs, Start, block_rows, rows_of_block};
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, prefetch};
use std::mem::MaybeUninit;

/// Rows of dw whose left operand is copied at once: what a task should be given, if there is enough for all threads.
pub const ROWS: usize = 192;
/// Columns of dw that stay in L2 while all sequences are added.
const COLUMNS: usize = 512;
/// Positions at once: two panels of so many rows share a first cache of 48 KiB with a group of the left operand.
const DEPTH: usize = 128;
/// Widest panel: two vectors of 16 lanes.
const WIDEST: usize = 32;
/// Space of one row of the left operand: not `DEPTH`, lest groups of rows fall on each other in L1.
const ROW_SPACE: usize = DEPTH + 4;

/// Rows of f32 `[T, …]`, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T = f32> {
    /// The elements, from the first column that counts.
    pub data: &'a [T],
    /// Distance between rows.
    pub stride: usize,
}

impl<'a, T> Rows<'a, T> {
    fn from(self, t: usize, column: usize) -> Self {
        Self { data: &self.data[t * self.stride + column..], ..self }
    }
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// `dw[M,N] += left[T,M]ᵀ · right[T,N]`.
    pub fn accumulate<T: Real>(
        (m, n, t): (usize, usize, usize),
        left: Rows<'_, T>,
        right: Rows<'_, T>,
        dw: &mut [T],
    ) {
        for i in 0..m {
            for j in 0..n {
                for t in 0..t {
                    dw[i * n + j] += left.data[t * left.stride + i] * right.data[t * right.stride + j];
                }
            }
        }
    }
}

/// `dw[M,N] += Σ over sequences of left[T,M]ᵀ · right[T,N]`, where `operands(sequence)` gives left, right and T.
///
/// Panics if an operand is too short for its strides.
pub fn accumulate<'a>(
    set: KernelSet,
    (m, n): (usize, usize),
    sequences: usize,
    operands: impl Fn(usize) -> (Rows<'a>, Rows<'a>, usize),
    dw: &mut [f32],
) {
    assert!(dw.len() >= m * n, "dw is shorter than its shape");
    for i in (0..m).step_by(ROWS) {
        let rows = ROWS.min(m - i);
        for j in (0..n).step_by(COLUMNS) {
            let cols = COLUMNS.min(n - j);
            for sequence in 0..sequences {
                let (left, right, t) = operands(sequence);
                for (operand, width) in [(left, m), (right, n)] {
                    let long = t == 0 || operand.data.len() >= (t - 1) * operand.stride + width;
                    assert!(long, "an operand is shorter than its shape");
                }
                if set == KernelSet::Naive {
                    if (i, j) == (0, 0) {
                        naive::accumulate((m, n, t), left, right, dw);
                    }
                    continue;
                }
                for first in (0..t).step_by(DEPTH) {
                    let dims = (rows, cols, DEPTH.min(t - first));
                    let (left, right) = (left.from(first, i), right.from(first, j));
                    let dw = &mut dw[i * n + j..];
                    dispatch!(
                        set,
                        tile(
                            dims: (usize, usize, usize),
                            left: Rows<'_>,
                            right: Rows<'_>,
                            dw: &mut [f32],
                            n: usize,
                        )
                    );
                }
            }
        }
    }
}

#[repr(C, align(64))]
struct Space {
    left: [f32; ROWS * ROW_SPACE],
    right: [[f32; WIDEST * DEPTH]; 2],
}

/// # Safety
/// As [`Simd`]; at most `ROWS` rows, `DEPTH` positions; lengths as [`accumulate`] asserts.
#[inline(always)]
unsafe fn tile<S: Simd>(
    (m, n, depth): (usize, usize, usize),
    left: Rows<'_>,
    right: Rows<'_>,
    dw: &mut [f32],
    dw_stride: usize,
) {
    let width = 2 * S::LANES;
    let mut space = MaybeUninit::<Space>::uninit();
    let space = space.as_mut_ptr();
    // SAFETY: addresses of parts of `space`, of which nothing is read before it is written.
    let (packed, panels) =
        unsafe { ((&raw mut (*space).left).cast::<f32>(), (&raw mut (*space).right).cast::<f32>()) };
    let panel = |index: usize| panels.wrapping_add(index % 2 * (WIDEST * DEPTH));

    // SAFETY: groups of rows end at m ≤ ROWS, each has ROW_SPACE ≥ depth elements a row; positions end at `depth`;
    // columns at n.
    unsafe {
        let mut i = 0;
        while i < m {
            let rows = block_rows::<S>(m - i);
            let groups = if rows == S::MAX_ROWS { (m - i) / rows } else { 1 };
            let (from, to) = (left.data.as_ptr().add(i), packed.add(i * ROW_SPACE));
            match rows {
                12 => copy_groups::<12>(from, left.stride, groups, depth, to),
                8 => copy_groups::<8>(from, left.stride, groups, depth, to),
                6 => copy_groups::<6>(from, left.stride, groups, depth, to),
                4 => copy_groups::<4>(from, left.stride, groups, depth, to),
                2 => copy_groups::<2>(from, left.stride, groups, depth, to),
                _ => copy_groups::<1>(from, left.stride, groups, depth, to),
            }
            i += groups * rows;
        }
        copy_panel::<S>(right, 0, n, 0..depth, panel(0));
        for (index, j) in (0..n).step_by(width).enumerate() {
            let (here, there, next) = (panel(index), panel(index + 1), j + width);
            let mut i = 0;
            while i < m {
                let rows = block_rows::<S>(m - i);
                // This block's share of the next panel: asked for before the block, copied after it.
                let share = depth * i / m..depth * (i + rows) / m;
                if next < n {
                    for t in share.clone() {
                        let p = right.data.as_ptr().wrapping_add(t * right.stride + next);
                        for line in (0..width).step_by(16) {
                            prefetch(p.wrapping_add(line));
                        }
                    }
                }
                let (i1, j1) = if i + rows < m { (i + rows, j) } else { (0, next) };
                if j1 < n {
                    for r in i1..m.min(i1 + S::MAX_ROWS) {
                        let p = dw.as_ptr().wrapping_add(r * dw_stride + j1);
                        for line in (0..width).step_by(16) {
                            prefetch(p.wrapping_add(line));
                        }
                    }
                }
                let args: BlockArgs = (
                    depth,
                    packed.add(i * ROW_SPACE),
                    1,
                    rows,
                    here,
                    width,
                    dw.as_mut_ptr().add(i * dw_stride + j),
                    dw_stride,
                    width.min(n - j),
                    Start::Load,
                );
                rows_of_block::<S>(rows, args);
                if next < n {
                    copy_panel::<S>(right, next, n, share, there);
                }
                i += rows;
            }
        }
    }
}

/// `to[group, t, ROWS] = from[t, group·ROWS ..]`.
///
/// # Safety
/// `from` must be valid for `depth` rows of `groups · ROWS` elements, `to` for `groups · ROWS · ROW_SPACE`.
#[inline(always)]
unsafe fn copy_groups<const ROWS: usize>(
    from: *const f32,
    stride: usize,
    groups: usize,
    depth: usize,
    to: *mut f32,
) {
    for t in 0..depth {
        for group in 0..groups {
            // SAFETY: as above.
            unsafe {
                let from = from.add(t * stride + group * ROWS).cast::<[f32; ROWS]>();
                let to = to.add(group * ROWS * ROW_SPACE + t * ROWS).cast::<[f32; ROWS]>();
                to.write_unaligned(from.read_unaligned());
            }
        }
    }
}

/// Rows `positions` of a panel from column `j` of `n`; what lies beyond is not written, for nobody reads it.
///
/// # Safety
/// As [`Simd`]; `from` must have the rows, `to` two vectors for each.
#[inline(always)]
unsafe fn copy_panel<S: Simd>(
    from: Rows<'_>,
    j: usize,
    n: usize,
    positions: std::ops::Range<usize>,
    to: *mut f32,
) {
    let width = 2 * S::LANES;
    // SAFETY: as above; a row has n columns.
    unsafe {
        for t in positions {
            let (from, to) = (from.data.as_ptr().add(t * from.stride + j), to.add(t * width));
            if n - j >= width {
                let (a, b) = (S::load(from), S::load(from.add(S::LANES)));
                S::store(to, a);
                S::store(to.add(S::LANES), b);
            } else {
                std::ptr::copy_nonoverlapping(from, to, n - j);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(seed: u32, len: usize) -> Vec<f32> {
        (0..len as u32)
            .map(|i| ((i + seed * 7919).wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0)
            .collect()
    }

    /// |fast − naive in f64| ≤ (T + 1)·ε·Σ|left||right| over all T of all sequences, the bound of a sum in any order;
    /// and the same bits when dw is cut into rows.
    fn check(set: KernelSet, (m, n): (usize, usize), lengths: &[usize], pad: usize) {
        let (left_stride, right_stride) = (m + pad, n + 2 * pad);
        let operands: Vec<_> = lengths
            .iter()
            .zip(0..)
            .map(|(&t, seed)| (values(seed, t * left_stride), values(seed + 50, t * right_stride), t))
            .collect();
        let start = values(99, m * n);
        let mut dw = start.clone();
        let from = |first: usize| {
            let operands = &operands;
            move |s: usize| {
                let (left, right, t) = &operands[s];
                let left = &left[first.min(left.len())..];
                (
                    Rows { data: left, stride: left_stride },
                    Rows { data: &right[..], stride: right_stride },
                    *t,
                )
            }
        };
        accumulate(set, (m, n), lengths.len(), from(0), &mut dw);

        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let size = |x: &[f32]| x.iter().map(|&x| f64::from(x.abs())).collect::<Vec<_>>();
        let (mut exact, mut scale) = (wide(&start), size(&start));
        for (left, right, t) in &operands {
            let sum = |left: Vec<f64>, right: Vec<f64>, dw: &mut [f64]| {
                let left = Rows { data: &left[..], stride: left_stride };
                let right = Rows { data: &right[..], stride: right_stride };
                naive::accumulate((m, n, *t), left, right, dw);
            };
            sum(wide(left), wide(right), &mut exact);
            sum(size(left), size(right), &mut scale);
        }
        let depth = lengths.iter().sum::<usize>() as f64 + 1.0;
        for (i, (fast, exact)) in dw.iter().zip(&exact).enumerate() {
            let (error, bound) =
                ((f64::from(*fast) - exact).abs(), depth * f64::from(f32::EPSILON) * scale[i]);
            assert!(error <= bound, "{set:?} {m}x{n} over {lengths:?} at {i}: {error:e} above {bound:e}");
        }

        let mut cut = start;
        for (part, dw) in cut.chunks_mut(n * 7).enumerate() {
            accumulate(set, (dw.len() / n, n), lengths.len(), from(part * 7), dw);
        }
        assert!(cut == dw, "{set:?} {m}x{n}: rows depend on how they are cut");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_set_agrees_with_the_exact_sum(
            m in 1usize..60, n in 1usize..100, lengths in prop::collection::vec(0usize..40, 0..4), pad in 0usize..3,
        ) {
            for set in KernelSet::runnable() {
                check(set, (m, n), &lengths, pad);
            }
        }
    }

    #[test]
    fn tiles_of_rows_columns_and_positions_join() {
        for set in KernelSet::runnable() {
            check(set, (ROWS + 13, 47), &[DEPTH + 3, 5], 1);
            check(set, (9, COLUMNS + 21), &[2 * DEPTH], 0);
        }
    }

    #[test]
    #[should_panic(expected = "shorter than its shape")]
    fn a_short_operand_is_refused() {
        let (left, right) = ([0.0; 11], [0.0; 8]);
        let operands = |_| (Rows { data: &left[..], stride: 3 }, Rows { data: &right[..], stride: 2 }, 4);
        accumulate(KernelSet::Portable, (3, 2), 1, operands, &mut [0.0; 6]);
    }
}
