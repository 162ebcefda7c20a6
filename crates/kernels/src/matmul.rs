//! Matrix product, the one kernel everything else leans on: `c[M,N] = init + a[M,K] · b[K,N]`.
//!
//! The right operand is read in panels of [`PANEL`] columns, the left one element at a time:
//!
//! ```text
//!   b, row-major:  panel_stride = 32, k_stride = N      b, packed:  panel_stride = 32·K, k_stride = 32
//!
//!        ┌─32─┬─32─┬─                                        ┌─32─┐
//!    k ↓ │ p0 │ p1 │ …   row k+1 is N elements on        k ↓ │ p0 │  row k+1 follows row k at once
//!        │    │    │                                         │    │
//!        └────┴────┴─                                        ├────┤  then the next panel, the last one
//!                                                            │ p1 │  padded with zeros
//! ```
//!
//! Inside, a block of up to 12 rows by two vectors of columns stays in registers while K runs.

use crate::Real;
use crate::lent::Lent;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n};
use std::mem::MaybeUninit;

/// Columns of one panel of a packed right operand.
pub const PANEL: usize = 32;

/// Rows of the right operand that are multiplied before C is touched again: 256 × 512 floats stay in L2.
const K_BLOCK: usize = 256;
const N_BLOCK: usize = 512;
/// So many are not divided.
const MOST_DEPTH: usize = K_BLOCK * 3 / 2;
/// Columns from which copying the left operand pays.
const COPY_FROM: usize = 96;
/// Rows of the largest register block, and the space of each when copied.
const MOST_ROWS: usize = 12;
const ROW_SPACE: usize = MOST_DEPTH + 16;

/// The left operand: element (i, k) is `data[i·row_stride + k·k_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a, T = f32> {
    /// The elements.
    pub data: &'a [T],
    /// Distance between rows of the product.
    pub row_stride: usize,
    /// Distance between steps of k.
    pub k_stride: usize,
}

/// The right operand: element (k, j) is `data[(j/32)·panel_stride + k·k_stride + j%32]`.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a, T = f32> {
    /// The elements.
    pub data: &'a [T],
    /// Distance between panels of 32 columns.
    pub panel_stride: usize,
    /// Distance between steps of k.
    pub k_stride: usize,
}

/// What the product is added to.
#[derive(Debug, Clone, Copy)]
pub enum Init<'a, T = f32> {
    /// Nothing.
    Zero,
    /// What `c` holds.
    Accumulate,
    /// A row `[N]` added to every row of the product.
    Bias(&'a [T]),
}

impl<'a, T> Left<'a, T> {
    /// `a[M,K]`, rows `row_stride` apart.
    pub fn rows(data: &'a [T], row_stride: usize) -> Self {
        Self { data, row_stride, k_stride: 1 }
    }
    /// `aᵀ` of a matrix `a[K,M]` whose rows are `k_stride` apart.
    pub fn transposed(data: &'a [T], k_stride: usize) -> Self {
        Self { data, row_stride: 1, k_stride }
    }
}

impl<'a, T> Right<'a, T> {
    /// `b[K,N]`, rows `k_stride` apart.
    pub fn rows(data: &'a [T], k_stride: usize) -> Self {
        Self { data, panel_stride: PANEL, k_stride }
    }
    /// What [`pack`] or [`pack_transposed`] made of a matrix with `k` rows.
    pub fn packed(data: &'a [T], k: usize) -> Self {
        Self { data, panel_stride: PANEL * k, k_stride: PANEL }
    }
    fn index(&self, k: usize, j: usize) -> usize {
        (j / PANEL) * self.panel_stride + k * self.k_stride + j % PANEL
    }
}

/// Elements of a packed `[K,N]` operand.
pub fn packed_len(k: usize, n: usize) -> usize {
    n.next_multiple_of(PANEL) * k
}

/// Packs panel `panel` of `w[K,N]` (row-major): `out[K,32]`, columns beyond N zero.
pub fn pack(w: &[f32], k: usize, n: usize, panel: usize, out: &mut [f32]) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    for (row, out) in w.chunks_exact(n).zip(out.chunks_exact_mut(PANEL)).take(k) {
        out[..width].copy_from_slice(&row[first..first + width]);
        out[width..].fill(0.0);
    }
}

/// Packs panel `panel` of `wᵀ` for `w[N,K]` (row-major): `out[K,32]`, columns beyond N zero.
pub fn pack_transposed(w: &[f32], k: usize, n: usize, panel: usize, out: &mut [f32]) {
    let first = panel * PANEL;
    let width = PANEL.min(n - first);
    assert!(w.len() >= n * k && out.len() >= k * PANEL);
    if width < PANEL {
        out[..k * PANEL].fill(0.0);
    }
    for (j, row) in w[first * k..(first + width) * k].chunks_exact(k).enumerate() {
        for (x, out) in row.iter().zip(out.chunks_exact_mut(PANEL)) {
            out[j] = *x;
        }
    }
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// `c[M,N] = init + a[M,K] · b[K,N]`, rows of `c` being `c_stride` apart.
    pub fn multiply<T: Real>(
        (m, n, k): (usize, usize, usize),
        a: Left<'_, T>,
        b: Right<'_, T>,
        c: &mut [T],
        c_stride: usize,
        init: Init<'_, T>,
    ) {
        for i in 0..m {
            for j in 0..n {
                let mut sum = match init {
                    Init::Zero => T::default(),
                    Init::Accumulate => c[i * c_stride + j],
                    Init::Bias(row) => row[j],
                };
                for p in 0..k {
                    sum += a.data[i * a.row_stride + p * a.k_stride] * b.data[b.index(p, j)];
                }
                c[i * c_stride + j] = sum;
            }
        }
    }
}

/// `c[M,N] = init + a[M,K] · b[K,N]`, rows of `c` being `c_stride` apart.
///
/// Panics if an operand is too short for its strides.
pub fn multiply(
    set: KernelSet,
    dims: (usize, usize, usize),
    a: Left<'_>,
    b: Right<'_>,
    c: &mut [f32],
    c_stride: usize,
    init: Init<'_>,
) {
    if set == KernelSet::Naive {
        check(dims, &a, &b, c.len(), c_stride, &init);
        return naive::multiply(dims, a, b, c, c_stride, init);
    }
    // SAFETY: c is this call's own.
    unsafe { multiply_lent(set, dims, a, b, Lent::new(c), c_stride, init) }
}

fn check(
    (m, n, k): (usize, usize, usize),
    a: &Left<'_>,
    b: &Right<'_>,
    c_len: usize,
    c_stride: usize,
    init: &Init<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_stride >= n && c_len > (m - 1) * c_stride + n - 1, "c is shorter than its shape");
    if k > 0 {
        assert!(a.data.len() > (m - 1) * a.row_stride + (k - 1) * a.k_stride, "a is shorter than its shape");
        assert!(b.data.len() > b.index(k - 1, n - 1), "b is shorter than its shape");
        // In row-major order the last element of an earlier panel may lie beyond the last of the last one.
        assert!(
            n <= PANEL || b.data.len() > b.index(k - 1, (n - 1) / PANEL * PANEL - 1),
            "b is shorter than its shape"
        );
    }
    if let Init::Bias(row) = init {
        assert!(row.len() >= n, "the bias is shorter than a row");
    }
}

/// The same into what others write too, of which `c[M,N]` is the caller's.
///
/// # Safety
/// Nobody else has an element of `c[M,N]`; `set` is not [`KernelSet::Naive`].
pub(crate) unsafe fn multiply_lent(
    set: KernelSet,
    dims: (usize, usize, usize),
    a: Left<'_>,
    b: Right<'_>,
    c: Lent<'_, f32>,
    c_stride: usize,
    init: Init<'_>,
) {
    check(dims, &a, &b, c.len(), c_stride, &init);
    let (m, n, k) = dims;
    if m == 0 || n == 0 {
        return;
    }
    split(m.div_ceil(MOST_ROWS), |part, _| {
        let (first, end) = (part.start * MOST_ROWS, m.min(part.end * MOST_ROWS));
        let a = Left { data: &a.data[(first * a.row_stride).min(a.data.len())..], ..a };
        let (dims, c) = ((end - first, n, k), c.from(first * c_stride));
        dispatch!(
            set,
            blocked(
                dims: (usize, usize, usize),
                a: Left<'_>,
                b: Right<'_>,
                c: Lent<'_, f32>,
                c_stride: usize,
                init: Init<'_>,
            )
        );
    });
}

/// How a register block starts.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    Load,
    Row(*const f32),
}

/// A block of rows of the left operand, copied: read again for every panel, in a stride that no two rows share in L1.
#[repr(C, align(64))]
struct Copied([MaybeUninit<f32>; MOST_ROWS * ROW_SPACE]);

/// # Safety
/// As [`Simd`]; lengths as [`check`] asserts; nobody else has an element of c.
#[inline(always)]
unsafe fn blocked<S: Simd>(
    (m, n, k): (usize, usize, usize),
    a: Left<'_>,
    b: Right<'_>,
    c: Lent<'_, f32>,
    c_stride: usize,
    init: Init<'_>,
) {
    let k_block = if k <= MOST_DEPTH { k } else { K_BLOCK };
    let mut copied = Copied([MaybeUninit::uninit(); MOST_ROWS * ROW_SPACE]);
    let copied = copied.0.as_mut_ptr().cast::<f32>();
    let copy = n >= COPY_FROM && a.k_stride == 1;
    let mut k0 = 0;
    loop {
        let depth = (k - k0).min(k_block);
        for n0 in (0..n).step_by(N_BLOCK) {
            let n1 = n.min(n0 + N_BLOCK);
            let mut i = 0;
            while i < m {
                let rows = block_rows::<S>(m - i);
                let pa = a.data.as_ptr().wrapping_add(i * a.row_stride + k0 * a.k_stride);
                if copy {
                    for r in 0..rows {
                        // SAFETY: `depth` ≤ MOST_DEPTH elements of row i + r from k0, inside by the asserts of
                        // `check`; r < MOST_ROWS.
                        unsafe {
                            let (from, to) = (pa.add(r * a.row_stride), copied.add(r * ROW_SPACE));
                            std::ptr::copy_nonoverlapping(from, to, depth);
                        }
                    }
                }
                let mut j = n0;
                while j < n1 {
                    let cols = (n1 - j).min(2 * S::LANES);
                    let start = match init {
                        _ if k0 > 0 => Start::Load,
                        Init::Zero => Start::Zero,
                        Init::Accumulate => Start::Load,
                        // SAFETY: the row has n > j elements.
                        Init::Bias(row) => Start::Row(unsafe { row.as_ptr().add(j) }),
                    };
                    // SAFETY: i < m, j < n, k0 ≤ k: the pointers lie inside, and the block reads and writes only
                    // `rows` rows, `cols` columns and `depth` steps from there, inside by the asserts of `check`.
                    unsafe {
                        let pb = b.data.as_ptr().wrapping_add(b.index(k0, j));
                        let pc = c.pointer(i * c_stride + j);
                        if copy {
                            let args = (
                                depth,
                                copied.cast_const(),
                                ROW_SPACE,
                                1,
                                pb,
                                b.k_stride,
                                pc,
                                c_stride,
                                cols,
                                start,
                            );
                            rows_of_block::<S>(rows, args);
                        } else {
                            let args = (
                                depth,
                                pa,
                                a.row_stride,
                                a.k_stride,
                                pb,
                                b.k_stride,
                                pc,
                                c_stride,
                                cols,
                                start,
                            );
                            rows_of_block::<S>(rows, args);
                        }
                    }
                    j += cols;
                }
                i += rows;
            }
        }
        k0 += depth;
        if k0 >= k {
            break;
        }
    }
}

/// # Safety
/// As [`columns`].
#[inline(always)]
pub(crate) unsafe fn rows_of_block<S: Simd>(rows: usize, args: BlockArgs) {
    // SAFETY: as above.
    unsafe {
        match rows {
            12 => columns::<S, 12>(args),
            8 => columns::<S, 8>(args),
            6 => columns::<S, 6>(args),
            4 => columns::<S, 4>(args),
            2 => columns::<S, 2>(args),
            _ => columns::<S, 1>(args),
        }
    }
}

/// Rows of the next block when `left` remain.
#[inline(always)]
pub(crate) fn block_rows<S: Simd>(left: usize) -> usize {
    match left {
        r if r >= 12 && S::MAX_ROWS >= 12 => 12,
        r if r >= 8 && S::MAX_ROWS >= 12 => 8,
        r if r >= 6 && (6..12).contains(&S::MAX_ROWS) => 6,
        r if r >= 4 && S::MAX_ROWS >= 4 => 4,
        r if r >= 2 => 2,
        _ => 1,
    }
}

/// Depth, the left operand with its strides of rows and k, the right one with that of k, C with that of rows, columns.
pub(crate) type BlockArgs =
    (usize, *const f32, usize, usize, *const f32, usize, *mut f32, usize, usize, Start);

/// Chooses one or two vectors of columns, whole or partial.
///
/// # Safety
/// As [`Simd`]; the pointers must be valid for the block's rows, columns and depth.
#[inline(always)]
unsafe fn columns<S: Simd, const ROWS: usize>(args: BlockArgs) {
    let cols = args.8;
    // SAFETY: as `block`.
    unsafe {
        if cols == 2 * S::LANES {
            block::<S, ROWS, 2, false>(args);
        } else if cols > S::LANES {
            block::<S, ROWS, 2, true>(args);
        } else if cols == S::LANES {
            block::<S, ROWS, 1, false>(args);
        } else {
            block::<S, ROWS, 1, true>(args);
        }
    }
}

/// `ROWS` × `VECTORS` vectors of C in registers while K runs.
///
/// # Safety
/// As [`Simd`]; the pointers must be valid for the block's rows, columns and depth.
#[inline(always)]
unsafe fn block<S: Simd, const ROWS: usize, const VECTORS: usize, const PARTIAL: bool>(args: BlockArgs) {
    let (depth, mut a, row_stride, k_stride, mut b, b_stride, c, c_stride, cols, start) = args;
    let lanes = |v: usize| if PARTIAL { (cols - v * S::LANES).min(S::LANES) } else { S::LANES };
    unsafe {
        let mut acc = [[S::splat(0.0); VECTORS]; ROWS];
        match start {
            Start::Zero => {}
            Start::Load => {
                for r in 0..ROWS {
                    for v in 0..VECTORS {
                        acc[r][v] = load_n::<S>(c.add(r * c_stride + v * S::LANES), lanes(v));
                    }
                }
            }
            Start::Row(row) => {
                for v in 0..VECTORS {
                    let x = load_n::<S>(row.add(v * S::LANES), lanes(v));
                    for r in 0..ROWS {
                        acc[r][v] = x;
                    }
                }
            }
        }
        for _ in 0..depth {
            let mut y = [S::splat(0.0); VECTORS];
            for v in 0..VECTORS {
                y[v] = load_n::<S>(b.add(v * S::LANES), lanes(v));
            }
            for r in 0..ROWS {
                let x = S::splat(*a.add(r * row_stride));
                for v in 0..VECTORS {
                    acc[r][v] = S::fma(x, y[v], acc[r][v]);
                }
            }
            a = a.wrapping_add(k_stride);
            b = b.wrapping_add(b_stride);
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                store_n::<S>(c.add(r * c_stride + v * S::LANES), acc[r][v], lanes(v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// |fast − naive in f64| ≤ (K + 2)·ε·Σ|a||b|, the bound of a dot product in any order.
    fn check(
        set: KernelSet,
        m: usize,
        n: usize,
        k: usize,
        transposed: bool,
        packed: bool,
        init: u8,
        pad: usize,
    ) {
        let a_stride = if transposed { m } else { k } + pad;
        let a = values(1, a_stride * if transposed { k } else { m } + 1);
        let a = &a[1..]; // unaligned on purpose
        let b_rows = values(2, k * n);
        let bias = values(3, n);
        let c_stride = n + pad;
        let mut c = values(4, m * c_stride);
        let before = c.clone();
        let mut panels = vec![0f32; packed_len(k, n)];
        for (p, out) in panels.chunks_exact_mut((PANEL * k).max(1)).enumerate() {
            pack(&b_rows, k, n, p, out);
        }
        let left = if transposed { Left::transposed(a, a_stride) } else { Left::rows(a, a_stride) };
        let right = if packed { Right::packed(&panels, k) } else { Right::rows(&b_rows, n) };
        let start = [Init::Zero, Init::Accumulate, Init::Bias(&bias)][init as usize];
        multiply(set, (m, n, k), left, right, &mut c, c_stride, start);
        for i in 0..m {
            for j in 0..n {
                let (mut exact, mut scale) = match init {
                    0 => (0.0, 0.0),
                    1 => (f64::from(before[i * c_stride + j]), 1.0),
                    _ => (f64::from(bias[j]), 1.0),
                };
                for p in 0..k {
                    let product =
                        f64::from(a[i * left.row_stride + p * left.k_stride]) * f64::from(b_rows[p * n + j]);
                    exact += product;
                    scale += product.abs();
                }
                let error = (f64::from(c[i * c_stride + j]) - exact).abs();
                let bound = (k as f64 + 2.0) * f64::from(f32::EPSILON) * scale;
                assert!(error <= bound, "{set:?} {m}x{n}x{k} at {i},{j}: error {error:e} above {bound:e}");
            }
            let (row, old) = (&c[i * c_stride..], &before[i * c_stride..]);
            assert_eq!(row[n..n + pad], old[n..n + pad], "{set:?} wrote beyond the row");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn every_set_agrees_with_the_exact_product(
            m in 1usize..40, n in 1usize..100, k in 1usize..70,
            transposed: bool, packed: bool, init in 0u8..3, pad in 0usize..3,
        ) {
            for set in KernelSet::runnable() {
                check(set, m, n, k, transposed, packed, init, pad);
            }
        }
    }

    #[test]
    fn blocks_of_k_and_n_join() {
        for set in KernelSet::runnable().filter(|&s| s != KernelSet::Naive) {
            for init in 0..3 {
                check(set, 13, 517, 700, false, true, init, 1);
                check(set, 13, 517, 385, true, false, init, 0);
            }
        }
    }

    #[test]
    fn packing_a_transpose_is_packing_the_transposed() {
        let (k, n) = (7, 45);
        let w = values(5, n * k);
        let t: Vec<f32> = (0..k * n).map(|i| w[(i % n) * k + i / n]).collect();
        for panel in 0..n.div_ceil(PANEL) {
            let (mut x, mut y) = (vec![9f32; k * PANEL], vec![9f32; k * PANEL]);
            pack(&t, k, n, panel, &mut x);
            pack_transposed(&w, k, n, panel, &mut y);
            assert_eq!(x, y);
        }
    }

    #[test]
    #[should_panic(expected = "a is shorter")]
    fn short_operands_are_refused() {
        let mut c = [0f32; 4];
        multiply(
            KernelSet::detect(),
            (2, 2, 2),
            Left::rows(&[0.0; 3], 2),
            Right::rows(&[0.0; 4], 2),
            &mut c,
            2,
            Init::Zero,
        );
    }
}
