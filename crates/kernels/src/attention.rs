//! Causal self-attention of one head over one sequence, forward and backward, without a T×T matrix in memory.
//!
//! Scores are made and used in strips of [`STRIP`] queries by all their keys. The forward keeps the log-sum-exp of
//! each row; the backward makes the strip again from it (Dao et al. 2022, arXiv 2205.14135):
//!
//! ```text
//!   s = q·kᵀ/√S     p = exp(s − lse)     o = p·v                          (j ≤ i only)
//!   dv = pᵀ·do      dp = do·vᵀ           ds = p∘(dp − D)/√S, D = rowsum(do∘o)
//!   dq = ds·k       dk = dsᵀ·q
//! ```

pub mod naive;

use crate::chunks::Chunks;
use crate::lent::Lent;
use crate::math::{exp2, ln};
use crate::matmul::{Init, Left, Right, multiply, multiply_lent};
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Queries whose scores are in memory at once.
pub const STRIP: usize = 32;

/// Where one head of one sequence lies: `qkv[T,3C]` and `out[T,C]`, the head's columns starting at `head·S`.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Positions.
    pub length: usize,
    /// Channels C.
    pub width: usize,
    /// Width S of a head.
    pub head_width: usize,
    /// Which head.
    pub head: usize,
    /// What scores are divided by: √S unless the model says otherwise.
    pub divisor: f64,
}

/// All heads of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Positions.
    pub length: usize,
    /// Channels C, a multiple of the heads.
    pub width: usize,
    /// How many.
    pub count: usize,
    /// See [`Head::divisor`].
    pub divisor: f64,
}

impl Heads {
    /// One of them.
    pub fn head(self, index: usize) -> Head {
        Head {
            length: self.length,
            width: self.width,
            head_width: self.width / self.count,
            head: index,
            divisor: self.divisor,
        }
    }
}

impl Head {
    /// A head whose scores are divided by √S.
    pub fn new(length: usize, width: usize, head_width: usize, head: usize) -> Self {
        Self { length, width, head_width, head, divisor: (head_width as f64).sqrt() }
    }

    fn scale(&self) -> f64 {
        1.0 / self.divisor
    }
    pub(crate) fn q(&self) -> usize {
        self.head * self.head_width
    }
    pub(crate) fn k(&self) -> usize {
        self.width + self.q()
    }
    pub(crate) fn v(&self) -> usize {
        2 * self.width + self.q()
    }
    /// Distance between rows of a strip: odd in cache lines, so that rows do not fall on each other in L1.
    fn strip_stride(length: usize) -> usize {
        length.next_multiple_of(32) + 16
    }
}

/// Elements of scratch space [`forward`] and [`backward`] need for sequences up to `length`.
pub fn scratch_len(length: usize, head_width: usize) -> usize {
    let stride = Head::strip_stride(length);
    2 * head_width * stride + 2 * STRIP * stride + length
}

fn check(head: Head, qkv: &[f32], out: usize, lse: &[f32], scratch: &[f32]) {
    let t = head.length;
    assert!(t > 0 && head.head_width > 0 && (head.head + 1) * head.head_width <= head.width);
    assert!(qkv.len() >= t * 3 * head.width && out >= t * head.width && lse.len() >= t);
    assert!(scratch.len() >= scratch_len(t, head.head_width), "scratch space is too small");
}

/// `turned[S, stride] = x[T, S]ᵀ`, the rows of x being `row_stride` apart.
fn transpose(x: &[f32], row_stride: usize, length: usize, width: usize, turned: &mut [f32], stride: usize) {
    for t in 0..length {
        for (s, &x) in x[t * row_stride..t * row_stride + width].iter().enumerate() {
            turned[s * stride + t] = x;
        }
    }
}

/// Writes the head's columns of `out[T,C]` from `qkv[T,3C]`, and `lse[T]`.
pub fn forward(
    set: KernelSet,
    head: Head,
    qkv: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
    scratch: &mut [f32],
) {
    check(head, qkv, out.len(), lse, scratch);
    if set == KernelSet::Naive {
        return naive::forward(head, qkv, out, lse);
    }
    // SAFETY: `out` is this call's own.
    unsafe { forward_head(set, head, qkv, Lent::new(out), lse, scratch) }
}

/// All heads of a sequence: `out[T,C]`, and each head's part of `lse`, of T elements or more. A thread's `spaces` have
/// [`scratch_len`] elements.
pub fn forward_heads(
    set: KernelSet,
    heads: Heads,
    qkv: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
    spaces: &Chunks<'_>,
) {
    let each = lse.len() / heads.count;
    if set == KernelSet::Naive {
        for (index, lse) in lse.chunks_exact_mut(each).enumerate() {
            naive::forward(heads.head(index), qkv, out, lse);
        }
        return;
    }
    let (out, lse) = (Lent::new(out), Lent::new(lse));
    split(heads.count, |part, thread| {
        let mut space = spaces.hold(thread);
        for index in part {
            // SAFETY: the head's own.
            let lse = unsafe { lse.at(index * each, each) };
            check(heads.head(index), qkv, out.len(), lse, &space);
            // SAFETY: the head is this part's own.
            unsafe { forward_head(set, heads.head(index), qkv, out, lse, &mut space) }
        }
    });
}

/// # Safety
/// Operands checked; nobody else has the head's columns of `out`.
unsafe fn forward_head(
    set: KernelSet,
    head: Head,
    qkv: &[f32],
    out: Lent<'_, f32>,
    lse: &mut [f32],
    scratch: &mut [f32],
) {
    let (t, c, s) = (head.length, head.width, head.head_width);
    let stride = Head::strip_stride(t);
    let (turned, scratch) = scratch.split_at_mut(s * stride);
    let strip = &mut scratch[..STRIP * stride];
    transpose(&qkv[head.k()..], 3 * c, t, s, turned, stride);
    for first in (0..t).step_by(STRIP) {
        let rows = STRIP.min(t - first);
        let keys = first + rows;
        let q = Left::rows(&qkv[first * 3 * c + head.q()..], 3 * c);
        multiply(set, (rows, keys, s), q, Right::rows(turned, stride), strip, stride, Init::Zero);
        let mut inverse_sums = [0f32; STRIP];
        let inverse = &mut inverse_sums[..rows];
        softmax(set, first, keys, head.scale() as f32, strip, stride, &mut lse[first..keys], inverse);
        let o = out.from(first * c + head.q());
        let (p, v) = (Left::rows(strip, stride), Right::rows(&qkv[head.v()..], 3 * c));
        // SAFETY: the head's columns.
        unsafe { multiply_lent(set, (rows, s, keys), p, v, o, c, Init::Zero) }
        for (row, &inverse) in inverse.iter().enumerate() {
            // SAFETY: as above.
            unsafe { o.at(row * c, s) }.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

/// Rows of scores become exp(s·scale − max), zero beyond the diagonal; `lse` and 1/Σ of each row.
fn softmax(
    set: KernelSet,
    first: usize,
    keys: usize,
    scale: f32,
    strip: &mut [f32],
    stride: usize,
    lse: &mut [f32],
    inverse: &mut [f32],
) {
    assert!(keys <= stride && strip.len() >= lse.len() * stride && lse.len() == inverse.len());
    assert!(first + lse.len() <= keys);
    dispatch!(
        set,
        softmax_simd(
            first: usize,
            keys: usize,
            scale: f32,
            strip: &mut [f32],
            stride: usize,
            lse: &mut [f32],
            inverse: &mut [f32],
        )
    );
}

#[inline(always)]
unsafe fn softmax_simd<S: Simd>(
    first: usize,
    keys: usize,
    scale: f32,
    strip: &mut [f32],
    stride: usize,
    lse: &mut [f32],
    inverse: &mut [f32],
) {
    for (i, (lse, inverse)) in lse.iter_mut().zip(inverse).enumerate() {
        let row = &mut strip[i * stride..i * stride + keys];
        let seen = first + i + 1;
        // SAFETY: seen ≤ keys, the length of the row.
        unsafe {
            let p = row.as_mut_ptr();
            let whole = seen - seen % S::LANES;
            let mut top = S::splat(f32::NEG_INFINITY);
            sweep!(S, whole, |j, count| {
                top = S::max(load_n::<S>(p.add(j), count), top);
            });
            let mut max = S::max_lane(top);
            for &x in &row[whole..seen] {
                max = max.max(x);
            }
            // Maxima pass over what is no number; the exponential keeps it.
            let factor = scale * std::f32::consts::LOG2_E;
            let (factor, shift) = (S::splat(factor), S::splat(-max * factor));
            let mut sums = S::splat(0.0);
            sweep!(S, whole, |j, count| {
                let e = exp2::<S>(S::fma(load_n::<S>(p.add(j), count), factor, shift));
                sums = S::add(sums, e);
                store_n::<S>(p.add(j), e, count);
            });
            let mut sum = S::sum(sums);
            if whole < seen {
                let e = exp2::<S>(S::fma(S::load_first(p.add(whole), seen - whole), factor, shift));
                S::store_first(p.add(whole), e, seen - whole);
                for &x in &row[whole..seen] {
                    sum += x;
                }
            }
            row[seen..].fill(0.0);
            *lse = max * scale + ln(sum);
            *inverse = 1.0 / sum;
        }
    }
}

/// Writes the head's columns of `dqkv[T,3C]` from `dout[T,C]`; `out` and `lse` are what [`forward`] made.
pub fn backward(
    set: KernelSet,
    head: Head,
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    scratch: &mut [f32],
) {
    check(head, qkv, out.len(), lse, scratch);
    check_gradients(head, dout, dqkv);
    if set == KernelSet::Naive {
        return naive::backward(head, qkv, out, lse, dout, dqkv);
    }
    // SAFETY: `dqkv` is this call's own.
    unsafe { backward_head(set, head, Known { qkv, out, lse, dout }, Lent::new(dqkv), scratch) }
}

/// All heads of a sequence; see [`backward`] and [`forward_heads`].
pub fn backward_heads(
    set: KernelSet,
    heads: Heads,
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
    spaces: &Chunks<'_>,
) {
    check_gradients(heads.head(0), dout, dqkv);
    let each = lse.len() / heads.count;
    if set == KernelSet::Naive {
        for (index, lse) in lse.chunks_exact(each).enumerate() {
            naive::backward(heads.head(index), qkv, out, lse, dout, dqkv);
        }
        return;
    }
    let dqkv = Lent::new(dqkv);
    split(heads.count, |part, thread| {
        let mut space = spaces.hold(thread);
        for index in part {
            let lse = &lse[index * each..][..each];
            check(heads.head(index), qkv, out.len(), lse, &space);
            // SAFETY: the head is this part's own.
            unsafe {
                backward_head(set, heads.head(index), Known { qkv, out, lse, dout }, dqkv, &mut space);
            }
        }
    });
}

/// What a backward reads.
#[derive(Clone, Copy)]
struct Known<'a> {
    qkv: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
}

fn check_gradients(head: Head, dout: &[f32], dqkv: &[f32]) {
    assert!(dout.len() >= head.length * head.width && dqkv.len() >= head.length * 3 * head.width);
}

/// # Safety
/// Operands checked; nobody else has the head's columns of `dqkv`.
unsafe fn backward_head(
    set: KernelSet,
    head: Head,
    Known { qkv, out, lse, dout }: Known<'_>,
    dqkv: Lent<'_, f32>,
    scratch: &mut [f32],
) {
    let (t, c, s) = (head.length, head.width, head.head_width);
    let stride = Head::strip_stride(t);
    let (keys_turned, scratch) = scratch.split_at_mut(s * stride);
    let (values_turned, scratch) = scratch.split_at_mut(s * stride);
    let (p, scratch) = scratch.split_at_mut(STRIP * stride);
    let (ds, scratch) = scratch.split_at_mut(STRIP * stride);
    let dot = &mut scratch[..t];
    transpose(&qkv[head.k()..], 3 * c, t, s, keys_turned, stride);
    transpose(&qkv[head.v()..], 3 * c, t, s, values_turned, stride);
    row_dots(set, head, out, dout, dot);
    for at in (0..t).map(|i| i * 3 * c) {
        // SAFETY: the head's columns.
        unsafe {
            dqkv.at(at + head.k(), s).fill(0.0);
            dqkv.at(at + head.v(), s).fill(0.0);
        }
    }
    for first in (0..t).step_by(STRIP) {
        let rows = STRIP.min(t - first);
        let keys = first + rows;
        let at_q = first * 3 * c + head.q();
        let strip_dout = &dout[first * c + head.q()..];
        let q = Left::rows(&qkv[at_q..], 3 * c);
        multiply(set, (rows, keys, s), q, Right::rows(keys_turned, stride), p, stride, Init::Zero);
        let right = Right::rows(values_turned, stride);
        multiply(set, (rows, keys, s), Left::rows(strip_dout, c), right, ds, stride, Init::Zero);
        scores_backward(
            set,
            first,
            keys,
            head.scale() as f32,
            p,
            ds,
            stride,
            &lse[first..keys],
            &dot[first..keys],
        );
        let queries = Right::rows(&qkv[at_q..], 3 * c);
        let into = [(&*p, Right::rows(strip_dout, c), head.v()), (&*ds, queries, head.k())];
        for (left, right, to) in into.map(|(left, right, to)| (Left::transposed(left, stride), right, to)) {
            // SAFETY: the head's columns.
            unsafe {
                multiply_lent(set, (keys, s, rows), left, right, dqkv.from(to), 3 * c, Init::Accumulate);
            }
        }
        let (left, right) = (Left::rows(ds, stride), Right::rows(&qkv[head.k()..], 3 * c));
        // SAFETY: as above.
        unsafe { multiply_lent(set, (rows, s, keys), left, right, dqkv.from(at_q), 3 * c, Init::Zero) }
    }
}

/// `dot[T] = rowsum(dout ∘ out)` over the head's columns.
fn row_dots(set: KernelSet, head: Head, out: &[f32], dout: &[f32], dot: &mut [f32]) {
    assert!(dot.len() <= head.length && (head.head + 1) * head.head_width <= head.width);
    assert!(out.len() >= head.length * head.width && dout.len() >= head.length * head.width);
    dispatch!(set, row_dots_simd(head: Head, out: &[f32], dout: &[f32], dot: &mut [f32]));
}

#[inline(always)]
unsafe fn row_dots_simd<S: Simd>(head: Head, out: &[f32], dout: &[f32], dot: &mut [f32]) {
    for (i, dot) in dot.iter_mut().enumerate() {
        let at = i * head.width + head.q();
        // SAFETY: the head's columns of row i lie inside both matrices.
        unsafe {
            let (x, y) = (out.as_ptr().add(at), dout.as_ptr().add(at));
            let mut sum = S::splat(0.0);
            sweep!(S, head.head_width, |s, count| {
                sum = S::fma(load_n::<S>(x.add(s), count), load_n::<S>(y.add(s), count), sum);
            });
            *dot = S::sum(sum);
        }
    }
}

/// `p` holds scores and becomes probabilities; `ds` holds dp and becomes p∘(dp − D)·scale; zero beyond the diagonal.
fn scores_backward(
    set: KernelSet,
    first: usize,
    keys: usize,
    scale: f32,
    p: &mut [f32],
    ds: &mut [f32],
    stride: usize,
    lse: &[f32],
    dot: &[f32],
) {
    assert!(keys <= stride && first + lse.len() <= keys && lse.len() == dot.len());
    assert!(p.len() >= lse.len() * stride && ds.len() >= lse.len() * stride);
    dispatch!(
        set,
        scores_simd(
            first: usize,
            keys: usize,
            scale: f32,
            p: &mut [f32],
            ds: &mut [f32],
            stride: usize,
            lse: &[f32],
            dot: &[f32],
        )
    );
}

#[inline(always)]
unsafe fn scores_simd<S: Simd>(
    first: usize,
    keys: usize,
    scale: f32,
    p: &mut [f32],
    ds: &mut [f32],
    stride: usize,
    lse: &[f32],
    dot: &[f32],
) {
    for i in 0..lse.len() {
        let row = i * stride..i * stride + keys;
        let (p, ds) = (&mut p[row.clone()], &mut ds[row]);
        let seen = first + i + 1;
        // SAFETY: seen ≤ keys, the length of both rows.
        unsafe {
            let (pp, pd) = (p.as_mut_ptr(), ds.as_mut_ptr());
            let log2_e = std::f32::consts::LOG2_E;
            let (factor, shift) = (S::splat(scale * log2_e), S::splat(-lse[i] * log2_e));
            let (scale, d) = (S::splat(scale), S::splat(dot[i]));
            sweep!(S, seen, |j, count| {
                let e = exp2::<S>(S::fma(load_n::<S>(pp.add(j), count), factor, shift));
                let slope = S::mul(S::mul(e, S::sub(load_n::<S>(pd.add(j), count), d)), scale);
                store_n::<S>(pp.add(j), e, count);
                store_n::<S>(pd.add(j), slope, count);
            });
        }
        p[seen..].fill(0.0);
        ds[seen..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, step: f64) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * step).sin() * 1.5).collect()
    }

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        for (t, heads, s) in [(1, 1, 1), (5, 2, 3), (33, 1, 16), (64, 2, 12), (70, 3, 16), (129, 1, 40)] {
            let c = heads * s;
            let (qkv, dout) = (wave(t * 3 * c, 0.77), wave(t * c, 1.37));
            let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let (mut out, mut lse, mut dqkv) = (vec![0.0; t * c], vec![0.0; heads * t], vec![0.0; t * 3 * c]);
            let head = |h| Head::new(t, c, s, h);
            for h in 0..heads {
                let lse = &mut lse[h * t..(h + 1) * t];
                naive::forward(head(h), &qkv, &mut out, lse);
                naive::backward(head(h), &qkv, &out, lse, &dout, &mut dqkv);
            }
            for set in KernelSet::runnable() {
                let (fqkv, fdout) = (narrow(&qkv), narrow(&dout));
                let (mut fout, mut flse) = (vec![9f32; t * c], vec![9f32; heads * t]);
                let mut fdqkv = vec![9f32; t * 3 * c];
                let mut scratch = vec![f32::NAN; scratch_len(t, s)];
                for h in 0..heads {
                    let lse = &mut flse[h * t..(h + 1) * t];
                    forward(set, head(h), &fqkv, &mut fout, lse, &mut scratch);
                    backward(set, head(h), &fqkv, &fout, lse, &fdout, &mut fdqkv, &mut scratch);
                }
                for (name, fast, exact) in
                    [("out", &fout, &out), ("lse", &flse, &lse), ("dqkv", &fdqkv, &dqkv)]
                {
                    for (i, (f, e)) in fast.iter().zip(exact).enumerate() {
                        assert!(
                            (f64::from(*f) - e).abs() < 2e-5 * (1.0 + e.abs()),
                            "{set:?} T {t} S {s} {name}[{i}]: {f} {e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn backward_is_the_limit_of_differences() {
        let (t, s, h) = (5, 3, 1e-6);
        let head = Head::new(t, s, s, 0);
        let (qkv, dout) = (wave(t * 3 * s, 0.77), wave(t * s, 1.37));
        let loss = |qkv: &[f64]| -> f64 {
            let (mut out, mut lse) = (vec![0.0; t * s], vec![0.0; t]);
            naive::forward(head, qkv, &mut out, &mut lse);
            out.iter().zip(&dout).map(|(o, d)| o * d).sum()
        };
        let (mut out, mut lse, mut dqkv) = (vec![0.0; t * s], vec![0.0; t], vec![0.0; t * 3 * s]);
        naive::forward(head, &qkv, &mut out, &mut lse);
        naive::backward(head, &qkv, &out, &lse, &dout, &mut dqkv);
        for i in 0..qkv.len() {
            let mut x = qkv.clone();
            x[i] += h;
            let up = loss(&x);
            x[i] -= 2.0 * h;
            assert!(((up - loss(&x)) / (2.0 * h) - dqkv[i]).abs() < 1e-8, "element {i}");
        }
    }

    #[test]
    fn a_score_that_is_no_number_is_seen() {
        let (t, s) = (40, 8);
        let head = Head::new(t, s, s, 0);
        for set in KernelSet::runnable() {
            let mut qkv: Vec<f32> = wave(t * 3 * s, 0.3).iter().map(|&x| x as f32).collect();
            qkv[35 * 3 * s] = f32::NAN;
            let (mut out, mut lse) = (vec![0f32; t * s], vec![0f32; t]);
            forward(set, head, &qkv, &mut out, &mut lse, &mut vec![0f32; scratch_len(t, s)]);
            assert!(out[35 * s..36 * s].iter().all(|x| x.is_nan()), "{set:?}");
            assert!(out[..35 * s].iter().all(|x| x.is_finite()), "{set:?}");
        }
    }
}
