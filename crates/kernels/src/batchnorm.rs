//! Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) of rows `x[R,C]`, the pixels of a batch of images:
//! y = (x − mean)·rstd·w + b with the mean and the variance of a channel over all R rows, rstd = 1/√(variance + ε).
//!
//! Backward, with x̂ = (x − mean)·rstd:
//! dx = rstd·w·(dy − mean(dy) − x̂·mean(dy·x̂)), dw = Σ dy·x̂, db = Σ dy over rows.
//!
//! The rows of a batch are divided into parts (images), one task each: [`moments`] and [`sums`] make each part's share
//! in f64, [`Moments::join`] joins shares in a fixed order, [`normalise`] and [`backward`] go through the parts
//! again. The running statistics are PyTorch's: `running += momentum·(batch − running)`, with the unbiased variance.

use crate::Real;
use crate::leaky_relu::leaky;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// PyTorch's default ε.
pub const EPSILON: f64 = 1e-5;
/// PyTorch's default momentum of the running statistics.
pub const MOMENTUM: f64 = 0.1;
/// Rows whose sum is taken in f32 before f64 takes over.
const SUM_BLOCK: usize = 64;

/// Plain loops over a whole batch.
pub mod naive {
    use super::*;

    /// `mean[C]` and the biased `variance[C]` of `x[R,C]`.
    pub fn statistics<T: Real>(x: &[T], mean: &mut [T], variance: &mut [T]) {
        let (c, rows) = (mean.len(), T::of((x.len() / mean.len()) as f64));
        for i in 0..c {
            let column = || x[i..].iter().step_by(c);
            let mut sum = T::default();
            column().for_each(|&x| sum += x);
            mean[i] = sum / rows;
            sum = T::default();
            column().for_each(|&x| sum += (x - mean[i]) * (x - mean[i]));
            variance[i] = sum / rows;
        }
    }

    /// `y[R,C] = (x − mean)·w/√(variance + ε) + b`.
    pub fn forward<T: Real>(x: &[T], mean: &[T], variance: &[T], w: &[T], b: &[T], y: &mut [T]) {
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            let i = i % w.len();
            *y = (*x - mean[i]) / (variance[i] + T::of(EPSILON)).sqrt() * w[i] + b[i];
        }
    }

    /// `dx[R,C]`, `dw[C]`, `db[C]` (overwritten). If the statistics are constants, not the batch's own (`fixed`),
    /// dx is only rstd·w·dy.
    pub fn backward<T: Real>(
        x: &[T],
        (mean, variance): (&[T], &[T]),
        w: &[T],
        dy: &[T],
        fixed: bool,
        dx: &mut [T],
        (dw, db): (&mut [T], &mut [T]),
    ) {
        let (c, rows) = (w.len(), T::of((x.len() / w.len()) as f64));
        dw.fill(T::default());
        db.fill(T::default());
        let rstd = |i: usize| T::of(1.0) / (variance[i] + T::of(EPSILON)).sqrt();
        for (at, &dy) in dy.iter().enumerate() {
            let i = at % c;
            dw[i] += dy * (x[at] - mean[i]) * rstd(i);
            db[i] += dy;
        }
        for (at, dx) in dx.iter_mut().enumerate() {
            let i = at % c;
            let hat = (x[at] - mean[i]) * rstd(i);
            let centre = if fixed { T::default() } else { (db[i] + hat * dw[i]) / rows };
            *dx = rstd(i) * w[i] * (dy[at] - centre);
        }
    }
}

/// What is known of the rows of some channels: their number, mean and squared deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// Rows.
    pub rows: f64,
    /// Mean.
    pub mean: f64,
    /// Σ (x − mean)².
    pub squares: f64,
}

impl Moments {
    /// Joins what is known of two sets of rows (Chan, Golub & LeVeque 1979).
    pub fn join(self, other: Self) -> Self {
        let rows = self.rows + other.rows;
        if rows == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        Self {
            rows,
            mean: self.mean + apart * other.rows / rows,
            squares: self.squares + other.squares + apart * apart * self.rows * other.rows / rows,
        }
    }

    /// The biased variance, what the batch is normalised with.
    pub fn variance(&self) -> f64 {
        self.squares / self.rows
    }

    /// The unbiased one, what the running variance is made of; of a single row NaN, as in PyTorch.
    pub fn unbiased_variance(&self) -> f64 {
        self.squares / (self.rows - 1.0)
    }
}

/// The statistics of the rows `x[R,C]`: of each channel `(mean, Σ (x − mean)²)` in `out[C,2]`.
pub fn moments(set: KernelSet, x: &[f32], out: &mut [f64]) {
    let c = out.len() / 2;
    assert!(c > 0 && out.len() == 2 * c && !x.is_empty() && x.len().is_multiple_of(c), "x is no whole rows");
    if set == KernelSet::Naive {
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (mut mean, mut variance) = (vec![0.0; c], vec![0.0; c]);
        naive::statistics(&x, &mut mean, &mut variance);
        for (i, out) in out.chunks_exact_mut(2).enumerate() {
            out.copy_from_slice(&[mean[i], variance[i] * (x.len() / c) as f64]);
        }
        return;
    }
    dispatch!(set, moments_simd(x: &[f32], out: &mut [f64]));
}

/// Adds a vector of sums to the f64 of `count` channels, `stride` apart.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn add_lanes<S: Simd>(v: S::V, to: &mut [f64], stride: usize, count: usize) {
    let mut lanes = [0f32; 16];
    // SAFETY: no set has more than 16 lanes.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    for (lane, to) in lanes.iter().zip(to.iter_mut().step_by(stride)).take(count) {
        *to += f64::from(*lane);
    }
}

#[inline(always)]
unsafe fn moments_simd<S: Simd>(x: &[f32], out: &mut [f64]) {
    let c = out.len() / 2;
    let rows = x.len() / c;
    out.fill(0.0);
    sweep!(S, c, |i, count| {
        // SAFETY: channels i..i + count of each row.
        unsafe {
            let at = |r: usize| load_n::<S>(x.as_ptr().add(r * c + i), count);
            for first in (0..rows).step_by(SUM_BLOCK) {
                let mut sum = S::splat(0.0);
                for r in first..rows.min(first + SUM_BLOCK) {
                    sum = S::add(sum, at(r));
                }
                add_lanes::<S>(sum, &mut out[2 * i..], 2, count);
            }
            // Deviations from the mean as f32 has it; what that leaves out is put right below.
            let mut lanes = [0f32; 16];
            for (lane, out) in lanes.iter_mut().zip(out[2 * i..].chunks_exact_mut(2)).take(count) {
                out[0] /= rows as f64;
                *lane = out[0] as f32;
            }
            let mean = S::load(lanes.as_ptr());
            for first in (0..rows).step_by(SUM_BLOCK) {
                let mut sum = S::splat(0.0);
                for r in first..rows.min(first + SUM_BLOCK) {
                    let d = S::sub(at(r), mean);
                    sum = S::fma(d, d, sum);
                }
                add_lanes::<S>(sum, &mut out[2 * i + 1..], 2, count);
            }
            for (lane, out) in lanes.iter().zip(out[2 * i..].chunks_exact_mut(2)).take(count) {
                let apart = out[0] - f64::from(*lane);
                out[1] = (out[1] - rows as f64 * apart * apart).max(0.0);
            }
        }
    });
}

/// One channel's factor and summand: y = x·scale + shift.
pub fn scale_and_shift(mean: f64, variance: f64, w: f32, b: f32) -> (f32, f32) {
    let scale = f64::from(w) / (variance + EPSILON).sqrt();
    (scale as f32, (f64::from(b) - mean * scale) as f32)
}

/// Rows and what each channel is multiplied with and raised by: `x[R,C]`, `scale[C]`, `shift[C]`.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a> {
    /// The rows.
    pub x: &'a [f32],
    /// Factors.
    pub scale: &'a [f32],
    /// Summands.
    pub shift: &'a [f32],
}

impl Normed<'_> {
    fn check(&self, len: usize) {
        let c = self.scale.len();
        let fits = c > 0 && self.shift.len() == c && len.is_multiple_of(c) && self.x.len() == len;
        assert!(fits, "rows do not fit their channels");
    }
}

/// `y[R,C] = leaky(x·scale + shift)`, and with a second operand the activation of the sum of both: what a residual
/// block ends with. A slope of 1 leaves the activation out.
pub fn normalise(set: KernelSet, a: Normed<'_>, b: Option<Normed<'_>>, slope: f32, y: &mut [f32]) {
    a.check(y.len());
    if let Some(b) = b {
        b.check(y.len());
        assert_eq!(a.scale.len(), b.scale.len());
    }
    dispatch!(
        set.with_vectors(),
        normalise_simd(a: Normed<'_>, b: Option<Normed<'_>>, slope: f32, y: &mut [f32])
    );
}

#[inline(always)]
unsafe fn normalise_simd<S: Simd>(a: Normed<'_>, b: Option<Normed<'_>>, slope: f32, y: &mut [f32]) {
    let c = a.scale.len();
    // SAFETY: channels i..i + count of row r of each operand; the lengths were compared.
    unsafe {
        let slope = S::splat(slope);
        let value = |of: &Normed<'_>, r: usize, i: usize, count: usize, more: S::V| {
            let x = load_n::<S>(of.x.as_ptr().add(r * c + i), count);
            let scale = load_n::<S>(of.scale.as_ptr().add(i), count);
            S::fma(x, scale, S::add(more, load_n::<S>(of.shift.as_ptr().add(i), count)))
        };
        for r in 0..y.len() / c {
            sweep!(S, c, |i, count| {
                let first = match &b {
                    Some(b) => value(b, r, i, count, S::splat(0.0)),
                    None => S::splat(0.0),
                };
                let v = leaky::<S>(slope, value(&a, r, i, count, first));
                store_n::<S>(y.as_mut_ptr().add(r * c + i), v, count);
            });
        }
    }
}

/// A part's share of the sums of the backward pass: of each channel `(Σ d, Σ d·x̂)` in `out[C,2]`, for `x[R,C]`,
/// `d[R,C]`, `mean[C]`, `rstd[C]`.
pub fn sums(set: KernelSet, x: &[f32], d: &[f32], mean: &[f32], rstd: &[f32], out: &mut [f64]) {
    let c = mean.len();
    assert!(
        c > 0 && rstd.len() == c && out.len() == 2 * c && x.len() == d.len() && x.len().is_multiple_of(c)
    );
    dispatch!(
        set.with_vectors(),
        sums_simd(x: &[f32], d: &[f32], mean: &[f32], rstd: &[f32], out: &mut [f64])
    );
}

#[inline(always)]
unsafe fn sums_simd<S: Simd>(x: &[f32], d: &[f32], mean: &[f32], rstd: &[f32], out: &mut [f64]) {
    let c = mean.len();
    let rows = x.len() / c;
    out.fill(0.0);
    sweep!(S, c, |i, count| {
        // SAFETY: channels i..i + count of each row.
        unsafe {
            let (mean, rstd) =
                (load_n::<S>(mean.as_ptr().add(i), count), load_n::<S>(rstd.as_ptr().add(i), count));
            for first in (0..rows).step_by(SUM_BLOCK) {
                let (mut sum, mut dot) = (S::splat(0.0), S::splat(0.0));
                for r in first..rows.min(first + SUM_BLOCK) {
                    let d = load_n::<S>(d.as_ptr().add(r * c + i), count);
                    let x = load_n::<S>(x.as_ptr().add(r * c + i), count);
                    sum = S::add(sum, d);
                    dot = S::fma(d, S::mul(S::sub(x, mean), rstd), dot);
                }
                add_lanes::<S>(sum, &mut out[2 * i..], 2, count);
                add_lanes::<S>(dot, &mut out[2 * i + 1..], 2, count);
            }
        }
    });
}

/// One channel's share in dx = scale·d + by_x·x + rest, the formula above multiplied out: `(by_x, rest)`. With constant
/// statistics both are zero.
pub fn centring(mean: f64, rstd: f64, scale: f64, mean_d: f64, mean_dot: f64) -> (f32, f32) {
    let by_x = -scale * mean_dot * rstd;
    (by_x as f32, (-scale * mean_d - by_x * mean) as f32)
}

/// `x[R,C] = scale·d + by_x·x + rest`, each of the three per channel: the gradient takes the place of the input, which
/// nobody needs any more.
pub fn backward(set: KernelSet, x: &mut [f32], d: &[f32], scale: &[f32], by_x: &[f32], rest: &[f32]) {
    let c = scale.len();
    assert!(c > 0 && by_x.len() == c && rest.len() == c && x.len().is_multiple_of(c) && x.len() == d.len());
    dispatch!(
        set.with_vectors(),
        backward_simd(x: &mut [f32], d: &[f32], scale: &[f32], by_x: &[f32], rest: &[f32])
    );
}

#[inline(always)]
unsafe fn backward_simd<S: Simd>(x: &mut [f32], d: &[f32], scale: &[f32], by_x: &[f32], rest: &[f32]) {
    let c = scale.len();
    for r in 0..x.len() / c {
        sweep!(S, c, |i, count| {
            // SAFETY: channels i..i + count of row r; the lengths were compared.
            unsafe {
                let at = |p: &[f32], j: usize| load_n::<S>(p.as_ptr().add(j), count);
                let centred = S::fma(at(x, r * c + i), at(by_x, i), at(rest, i));
                let v = S::fma(at(d, r * c + i), at(scale, i), centred);
                store_n::<S>(x.as_mut_ptr().add(r * c + i), v, count);
            }
        });
    }
}

#[cfg(test)]
mod tests;
