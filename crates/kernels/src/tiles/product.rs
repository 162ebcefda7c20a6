//! Products of cells with what follows them done while a block of 32×32 sums is in L1.
//!
//! Every entry point is `out = epilogue(a[M,K] · b[K,N])`, `a` a left and `b` a right operand. Values that become
//! operands again are written as cells, zeros beyond M and N.

use super::{CELL, Cells, SIDE, cells, len};
use crate::gelu;
use crate::lent::Lent;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Ahead, BlockSize, Segment, Simd, load_n, store_n};
use std::ops::Range;

mod gradient;

pub use gradient::{Start, turned_len, weight_gradient};

/// M, N, K.
pub type Dims = (usize, usize, usize);

/// Plain loops: the twin of every product here, before its epilogue.
pub mod naive {
    use super::super::convert::naive::{left_index, right_index};
    use super::*;
    use crate::bf16::widen;

    /// `c[M,N] = a·b` in f64.
    pub fn multiply((m, n, k): Dims, a: &[u16], b: &[u16]) -> Vec<f64> {
        let element = |i, j| {
            let product =
                |p| f64::from(widen(a[left_index(i, p, k)])) * f64::from(widen(b[right_index(p, j, k)]));
            (0..k).map(product).sum()
        };
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }
}

/// What is done with a block of sums.
trait Epilogue: Copy {
    /// Whether it adds up what lies above each other, so that a column of blocks belongs to one part.
    const SUMS_COLUMNS: bool = false;

    /// Sums `c[32,32]`, of which `rows`×`cols` at (i, j) of the product are valid.
    ///
    /// # Safety
    /// As [`Simd`]; only with dimensions the entry point has checked, and by one thread for a block (or a column of
    /// them) at a time.
    unsafe fn block<S: Simd>(self, at: (usize, usize), size: (usize, usize), c: &[f32; CELL]);

    /// Where sums go if nothing is done with them, and the distance of rows there: a unit may store a whole block
    /// itself.
    #[inline(always)]
    fn untouched(self, _at: (usize, usize)) -> Option<(*mut f32, usize)> {
        None
    }
}

/// Whether a part of a product is some rows of its blocks, all columns, or the other way about: the operand that fits a
/// nearer cache is walked inside.
fn rows_inside<E: Epilogue>((m, n, _): Dims) -> bool {
    E::SUMS_COLUMNS || cells(m) <= cells(n)
}

/// Parts that can be computed apart.
fn parts<E: Epilogue>(dims: Dims) -> usize {
    if rows_inside::<E>(dims) { cells(dims.1) } else { cells(dims.0) }
}

/// 64-byte aligned sums.
#[repr(C, align(64))]
struct Sums([f32; CELL]);

/// Walks the blocks of some [`parts`]. What follows a block is done after the next one has been asked for: a matrix
/// unit multiplies while the vector unit works on what it left. The next panel of the operand that stays is asked for
/// in quarters, with the first blocks of the one before it.
///
/// # Safety
/// As [`Simd`]; operands checked against `dims`; nobody else has these parts.
#[inline(always)]
unsafe fn walk<S: Simd, E: Epilogue>(
    (m, n, k): Dims,
    part: Range<usize>,
    a: Cells<'_>,
    b: Cells<'_>,
    epilogue: E,
) {
    let rows_inside = rows_inside::<E>((m, n, k));
    let inside = if rows_inside { cells(m) } else { cells(n) };
    let (first, end) = (part.start * inside, part.end * inside);
    let at = |step: usize| {
        let (outer, inner) = (step / inside, step % inside);
        if rows_inside { (inner, outer) } else { (outer, inner) }
    };
    let size = |(i, j): (usize, usize)| (SIDE.min(m - i * SIDE), SIDE.min(n - j * SIDE));
    let mut sums = [Sums([0.0; CELL]), Sums([0.0; CELL])];
    let mut stored = false;
    // SAFETY: `enter` and `leave` enclose all blocks; cells as checked by the entry point; a whole block that is stored
    // where it belongs lies inside the output.
    unsafe {
        S::enter();
        for step in first..=end {
            let before = stored;
            if step < end {
                let (i, j) = at(step);
                let (rows, cols) = size((i, j));
                let segments = [Segment { a: a.block(i), b: b.block(j) }];
                let (outer, inner) = (step / inside, step % inside);
                let ahead = if inner < QUARTERS && outer + 1 < part.end {
                    let next = if rows_inside { b.block(j + 1) } else { a.block(i + 1) };
                    let from = next.addr() + inner * cells(k) * (2 * CELL / QUARTERS);
                    Ahead { offset: from.wrapping_sub(segments[0].b.addr()), apart: 2 * CELL / QUARTERS }
                } else {
                    Ahead::default()
                };
                let block = BlockSize { rows, cols, depth: k };
                let whole = S::MATRIX_UNIT && rows == SIDE && cols == SIDE;
                stored = false;
                match epilogue.untouched((i * SIDE, j * SIDE)) {
                    Some((c, stride)) if whole => {
                        S::block_ahead(&segments, block, c, stride, ahead);
                        stored = true;
                    }
                    _ => S::block_ahead(&segments, block, sums[step % 2].0.as_mut_ptr(), SIDE, ahead),
                }
            }
            if step > first && !before {
                let (i, j) = at(step - 1);
                epilogue.block::<S>((i * SIDE, j * SIDE), size((i, j)), &sums[(step - 1) % 2].0);
            }
        }
        S::leave();
    }
}

/// Parts in which a panel is asked for: 512 bytes of each of its cells with one block.
const QUARTERS: usize = 4;

fn check((m, n, k): Dims, a: &Cells<'_>, b: &Cells<'_>) {
    assert!(m > 0 && n > 0 && k > 0, "no dimension is empty");
    a.check(cells(m), k);
    b.check(cells(n), k);
}

/// Calls `$body` for each vector of a row of `$cols` columns: offset, valid lanes.
macro_rules! lanes {
    ($s:ty, $cols:expr, |$i:ident, $count:ident| $body:block) => {
        let mut $i = 0;
        while $i < $cols {
            let $count = ($cols - $i).min(<$s>::LANES);
            $body
            $i += <$s>::LANES;
        }
    };
}
use lanes;

/// Calls `$body` for each two vectors of sums `$c[32,32]` with their bias added: where they lie, the two. A macro,
/// since a closure would keep intrinsics from being inlined.
macro_rules! whole_cell {
    ($s:ty, $bias:expr, $j:expr, $c:expr, |$to:ident, $a:ident, $b:ident| $body:block) => {
        for v in (0..SIDE).step_by(2 * <$s>::LANES) {
            // SAFETY: whole rows of whole cells; the bias has all columns.
            unsafe {
                let bias = $bias.two::<$s>($j + v);
                for $to in (v..CELL).step_by(SIDE) {
                    let $a = <$s>::add(<$s>::load($c.as_ptr().add($to)), bias[0]);
                    let $b = <$s>::add(<$s>::load($c.as_ptr().add($to + <$s>::LANES)), bias[1]);
                    $body
                }
            }
        }
    };
}

/// One row `[N]` or nothing; `at` the columns from j on.
#[derive(Debug, Clone, Copy)]
struct Bias<'a>(Option<&'a [f32]>);

impl Bias<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, j: usize, count: usize) -> S::V {
        // SAFETY: j + count ≤ N, which the entry point compared with the bias.
        unsafe {
            match self.0 {
                Some(bias) => load_n::<S>(bias.as_ptr().add(j), count),
                None => S::splat(0.0),
            }
        }
    }

    /// Two whole vectors from j on.
    #[inline(always)]
    unsafe fn two<S: Simd>(&self, j: usize) -> [S::V; 2] {
        // SAFETY: as `at`.
        unsafe { [self.at::<S>(j, S::LANES), self.at::<S>(j + S::LANES, S::LANES)] }
    }
}

/// `c[M,N] = a·b (+ bias[N]) (+ residual[M,N])` in f32, rows of both `stride` apart.
pub fn rows(
    set: KernelSet,
    dims: Dims,
    a: Cells<'_>,
    b: Cells<'_>,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    c: &mut [f32],
    stride: usize,
) {
    check(dims, &a, &b);
    let last = (dims.0 - 1) * stride + dims.1;
    assert!(stride >= dims.1 && c.len() >= last, "c is shorter than its shape");
    assert!(residual.is_none_or(|r| r.len() >= last) && bias.is_none_or(|b| b.len() >= dims.1));
    let epilogue = Rows { bias: Bias(bias), residual, c: Lent::new(c), stride };
    split(parts::<Rows<'_>>(dims), |part, _| {
        dispatch!(
            set.with_vectors(),
            walk[Rows<'_>](dims: Dims, part: Range<usize>, a: Cells<'_>, b: Cells<'_>, epilogue: Rows<'_>)
        );
    });
}

#[derive(Clone, Copy)]
struct Rows<'a> {
    bias: Bias<'a>,
    residual: Option<&'a [f32]>,
    c: Lent<'a, f32>,
    stride: usize,
}

impl Epilogue for Rows<'_> {
    #[inline(always)]
    fn untouched(self, (i, j): (usize, usize)) -> Option<(*mut f32, usize)> {
        let plain = self.bias.0.is_none() && self.residual.is_none();
        plain.then(|| (self.c.pointer(i * self.stride + j), self.stride))
    }

    #[inline(always)]
    unsafe fn block<S: Simd>(self, (i, j): (usize, usize), (rows, cols): (usize, usize), c: &[f32; CELL]) {
        if cols == SIDE {
            for v in (0..SIDE).step_by(2 * S::LANES) {
                // SAFETY: `rows` rows of 32 columns inside matrices the entry point checked.
                unsafe {
                    let bias = self.bias.two::<S>(j + v);
                    for r in 0..rows {
                        let at = (i + r) * self.stride + j + v;
                        for h in 0..2 {
                            let mut sum =
                                S::add(S::load(c.as_ptr().add(r * SIDE + v + h * S::LANES)), bias[h]);
                            if let Some(residual) = self.residual {
                                sum = S::add(sum, S::load(residual.as_ptr().add(at + h * S::LANES)));
                            }
                            S::store(self.c.pointer(at + h * S::LANES), sum);
                        }
                    }
                }
            }
            return;
        }
        for r in 0..rows {
            let at = (i + r) * self.stride + j;
            lanes!(S, cols, |v, count| {
                // SAFETY: row i + r < M and columns below N of matrices the entry point checked.
                unsafe {
                    let mut sum =
                        S::add(S::load(c.as_ptr().add(r * SIDE + v)), self.bias.at::<S>(j + v, count));
                    if let Some(residual) = self.residual {
                        sum = S::add(sum, load_n::<S>(residual.as_ptr().add(at + v), count));
                    }
                    store_n::<S>(self.c.pointer(at + v), sum, count);
                }
            });
        }
    }
}

/// `hidden = a·b + bias[N]`; `active = gelu(hidden)` and `slope = gelu'(hidden)`, both in the order of left cells.
pub fn gelu(
    set: KernelSet,
    dims: Dims,
    a: Cells<'_>,
    b: Cells<'_>,
    bias: &[f32],
    active: &mut [u16],
    slope: &mut [u16],
) {
    check(dims, &a, &b);
    let len = len(dims.0, dims.1);
    assert!(active.len() >= len && slope.len() >= len, "an output is shorter than its shape");
    assert!(bias.len() >= dims.1, "the bias is shorter than a row");
    let (active, slope) = (Lent::new(active), Lent::new(slope));
    let epilogue = Gelu { bias: Bias(Some(bias)), active, slope, wide: cells(dims.1) };
    split(parts::<Gelu<'_>>(dims), |part, _| {
        dispatch!(
            set.with_vectors(),
            walk[Gelu<'_>](dims: Dims, part: Range<usize>, a: Cells<'_>, b: Cells<'_>, epilogue: Gelu<'_>)
        );
    });
}

#[derive(Clone, Copy)]
struct Gelu<'a> {
    bias: Bias<'a>,
    active: Lent<'a, u16>,
    slope: Lent<'a, u16>,
    wide: usize,
}

impl Epilogue for Gelu<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd>(self, (i, j): (usize, usize), (rows, cols): (usize, usize), c: &[f32; CELL]) {
        let at = (i / SIDE * self.wide + j / SIDE) * CELL;
        // SAFETY: the block's own cells.
        let (active, slope) = unsafe { (self.active.at(at, CELL), self.slope.at(at, CELL)) };
        if rows == SIDE && cols == SIDE {
            whole_cell!(S, self.bias, j, c, |to, a, b| {
                let (a, b) = (gelu::value_and_slope::<S, true>(a), gelu::value_and_slope::<S, true>(b));
                S::store_bf16_line(active.as_mut_ptr().add(to), a.0, b.0);
                S::store_bf16_line(slope.as_mut_ptr().add(to), a.1, b.1);
            });
            return;
        }
        for r in 0..rows {
            for v in (0..SIDE).step_by(S::LANES) {
                let to = r * SIDE + v;
                // SAFETY: `to + LANES` ≤ 1,024. Columns beyond N hold sums of zeros and no bias: gelu(0) = 0, and
                // their slope meets a gradient of zero.
                unsafe {
                    let valid = cols.saturating_sub(v).min(S::LANES);
                    let (g, d) = if valid == 0 {
                        (S::splat(0.0), S::splat(0.0))
                    } else {
                        let x = S::add(S::load(c.as_ptr().add(to)), self.bias.at::<S>(j + v, valid));
                        gelu::value_and_slope::<S, true>(x)
                    };
                    S::store_bf16(active.as_mut_ptr().add(to), g);
                    S::store_bf16(slope.as_mut_ptr().add(to), d);
                }
            }
        }
        active[rows * SIDE..].fill(0);
        slope[rows * SIDE..].fill(0);
    }
}

/// `d[M,N] = (a·b) ∘ slope`, as left operand and as right operand with k = M, and the sums of its columns.
pub fn gelu_backward(
    set: KernelSet,
    dims: Dims,
    a: Cells<'_>,
    b: Cells<'_>,
    slope: &[u16],
    left: &mut [u16],
    right: &mut [u16],
    sums: &mut [f32],
) {
    check(dims, &a, &b);
    let len = len(dims.0, dims.1);
    assert!(
        slope.len() >= len && left.len() >= len && right.len() >= len,
        "an operand is shorter than its shape"
    );
    assert!(sums.len() >= dims.1, "the sums are shorter than a row");
    sums[..dims.1].fill(0.0);
    let [left, right] = [left, right].map(Lent::new);
    let sums = Lent::new(sums);
    let epilogue = GeluBackward { slope, left, right, sums, wide: cells(dims.1), deep: cells(dims.0) };
    split(parts::<GeluBackward<'_>>(dims), |part, _| {
        dispatch!(
            set.with_vectors(),
            walk[GeluBackward<'_>](
                dims: Dims, part: Range<usize>, a: Cells<'_>, b: Cells<'_>, epilogue: GeluBackward<'_>
            )
        );
    });
}

#[derive(Clone, Copy)]
struct GeluBackward<'a> {
    slope: &'a [u16],
    left: Lent<'a, u16>,
    right: Lent<'a, u16>,
    sums: Lent<'a, f32>,
    wide: usize,
    deep: usize,
}

impl Epilogue for GeluBackward<'_> {
    const SUMS_COLUMNS: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd>(self, (i, j): (usize, usize), (rows, cols): (usize, usize), c: &[f32; CELL]) {
        let at = (i / SIDE * self.wide + j / SIDE) * CELL;
        let slope = &self.slope[at..at + CELL];
        // SAFETY: the block's own cells.
        let left = unsafe { self.left.at(at, CELL) };
        let at = (j / SIDE * self.deep + i / SIDE) * CELL;
        // SAFETY: as above.
        let right = unsafe { self.right.at(at, CELL) };
        for v in (0..SIDE).step_by(S::LANES) {
            let valid = cols.saturating_sub(v).min(S::LANES);
            // SAFETY: r·32 + v + LANES ≤ 1,024 in cells and sums of that length; the columns' sums have N elements.
            unsafe {
                let mut sum = S::splat(0.0);
                let row = |r: usize| {
                    if r < rows && valid > 0 {
                        let to = r * SIDE + v;
                        S::mul(S::load(c.as_ptr().add(to)), S::load_bf16(slope.as_ptr().add(to)))
                    } else {
                        S::splat(0.0)
                    }
                };
                for pair in 0..16 {
                    let (even, odd) = (row(2 * pair), row(2 * pair + 1));
                    sum = S::add(sum, S::add(even, odd));
                    let rows = [2 * pair, 2 * pair + 1].map(|r| left.as_mut_ptr().add(r * SIDE + v));
                    let to = right.as_mut_ptr().add(v / 16 * 512 + pair * 32 + v % 16 * 2);
                    S::store_bf16_rows_and_pairs(rows, to, even, odd);
                }
                if valid > 0 {
                    let p = self.sums.pointer(j + v);
                    store_n::<S>(p, S::add(load_n::<S>(p, valid), sum), valid);
                }
            }
        }
    }
}

/// `c[M,N] = a·b + bias[N]` as left operand.
pub fn left(set: KernelSet, dims: Dims, a: Cells<'_>, b: Cells<'_>, bias: &[f32], c: &mut [u16]) {
    check(dims, &a, &b);
    assert!(c.len() >= len(dims.0, dims.1), "c is shorter than its shape");
    assert!(bias.len() >= dims.1, "the bias is shorter than a row");
    let epilogue = Left { bias: Bias(Some(bias)), c: Lent::new(c), wide: cells(dims.1) };
    split(parts::<Left<'_>>(dims), |part, _| {
        dispatch!(
            set.with_vectors(),
            walk[Left<'_>](dims: Dims, part: Range<usize>, a: Cells<'_>, b: Cells<'_>, epilogue: Left<'_>)
        );
    });
}

#[derive(Clone, Copy)]
struct Left<'a> {
    bias: Bias<'a>,
    c: Lent<'a, u16>,
    wide: usize,
}

impl Epilogue for Left<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd>(self, (i, j): (usize, usize), (rows, cols): (usize, usize), c: &[f32; CELL]) {
        let at = (i / SIDE * self.wide + j / SIDE) * CELL;
        // SAFETY: the block's own cell.
        let out = unsafe { self.c.at(at, CELL) };
        if rows == SIDE && cols == SIDE {
            whole_cell!(S, self.bias, j, c, |to, a, b| {
                S::store_bf16_line(out.as_mut_ptr().add(to), a, b);
            });
            return;
        }
        for r in 0..rows {
            for v in (0..SIDE).step_by(S::LANES) {
                let to = r * SIDE + v;
                // SAFETY: `to + LANES` ≤ 1,024. A half block may leave the sums of its other columns unwritten.
                unsafe {
                    let sum = if v < cols {
                        let bias = self.bias.at::<S>(j + v, S::LANES.min(cols - v));
                        S::add(S::load(c.as_ptr().add(to)), bias)
                    } else {
                        S::splat(0.0)
                    };
                    S::store_bf16(out.as_mut_ptr().add(to), sum);
                }
            }
        }
        out[rows * SIDE..].fill(0);
    }
}
