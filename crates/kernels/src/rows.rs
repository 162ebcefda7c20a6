//! Operations on the rows of a matrix that are too small to deserve a room: sums, biases, scatter and gather.

use crate::Real;
use crate::lent::Lent;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Rows or columns that a part of a pass has at least.
const GRAIN: usize = 16;

/// Plain loops.
pub mod naive {
    use super::*;

    /// `out[R,C] = x[R,C] + bias[C]`.
    pub fn add_bias<T: Real>(x: &[T], bias: &[T], out: &mut [T]) {
        for (x, out) in x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
            for ((x, b), out) in x.iter().zip(bias).zip(out) {
                *out = *x + *b;
            }
        }
    }

    /// `sums[C] = Σ over rows of x[R,C]`.
    pub fn column_sums<T: Real>(x: &[T], sums: &mut [T]) {
        sums.fill(T::default());
        for row in x.chunks_exact(sums.len()) {
            for (x, sum) in row.iter().zip(sums.iter_mut()) {
                *sum += *x;
            }
        }
    }
}

/// `out[R,C] = x[R,C] + bias[C]`.
pub fn add_bias(set: KernelSet, x: &[f32], bias: &[f32], out: &mut [f32]) {
    assert!(x.len() == out.len() && !bias.is_empty() && x.len().is_multiple_of(bias.len()));
    if set == KernelSet::Naive {
        return naive::add_bias(x, bias, out);
    }
    let (c, rows, out) = (bias.len(), x.len() / bias.len(), Lent::new(out));
    split(rows.div_ceil(GRAIN), |p, _| {
        let at = p.start * GRAIN * c..rows.min(p.end * GRAIN) * c;
        // SAFETY: the part's own rows.
        let (x, out) = (&x[at.clone()], unsafe { out.at(at.start, at.len()) });
        dispatch!(set, add_bias_simd(x: &[f32], bias: &[f32], out: &mut [f32]));
    });
}

#[inline(always)]
unsafe fn add_bias_simd<S: Simd>(x: &[f32], bias: &[f32], out: &mut [f32]) {
    let c = bias.len();
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        sweep!(S, c, |i, count| {
            // SAFETY: i + count ≤ c, the length of all three.
            unsafe {
                let sum =
                    S::add(load_n::<S>(x.as_ptr().add(i), count), load_n::<S>(bias.as_ptr().add(i), count));
                store_n::<S>(out.as_mut_ptr().add(i), sum, count);
            }
        });
    }
}

/// `sums[C] = Σ over rows of x[R,C]`, rows in order.
pub fn column_sums(set: KernelSet, x: &[f32], sums: &mut [f32]) {
    assert!(!sums.is_empty() && x.len().is_multiple_of(sums.len()));
    if set == KernelSet::Naive {
        return naive::column_sums(x, sums);
    }
    let (c, sums) = (sums.len(), Lent::new(sums));
    split(c.div_ceil(GRAIN), |p, _| {
        let own = p.start * GRAIN..c.min(p.end * GRAIN);
        // SAFETY: the part's own columns.
        let (first, sums) = (own.start, unsafe { sums.at(own.start, own.len()) });
        dispatch!(set, column_sums_simd(x: &[f32], c: usize, first: usize, sums: &mut [f32]));
    });
}

#[inline(always)]
unsafe fn column_sums_simd<S: Simd>(x: &[f32], c: usize, first: usize, sums: &mut [f32]) {
    let rows = x.len() / c;
    sweep!(S, sums.len(), |i, count| {
        // SAFETY: column first + i of each of the rows; first + i + count ≤ c.
        unsafe {
            let mut sum = S::splat(0.0);
            for r in 0..rows {
                sum = S::add(sum, load_n::<S>(x.as_ptr().add(r * c + first + i), count));
            }
            store_n::<S>(sums.as_mut_ptr().add(i), sum, count);
        }
    });
}

/// `sum[n] += x[n]`.
pub fn add_assign(x: &[f32], sum: &mut [f32]) {
    assert_eq!(x.len(), sum.len());
    for (x, sum) in x.iter().zip(sum) {
        *sum += *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_plain_loops() {
        for set in KernelSet::runnable() {
            for (rows, c) in [(1, 1), (3, 7), (5, 16), (4, 24), (9, 33)] {
                let x: Vec<f32> = (0..rows * c).map(|i| (i as f32 * 0.37).sin()).collect();
                let bias: Vec<f32> = (0..c).map(|i| i as f32).collect();
                let (mut fast, mut slow) = (vec![0f32; rows * c], vec![0f32; rows * c]);
                add_bias(set, &x, &bias, &mut fast);
                naive::add_bias(&x, &bias, &mut slow);
                assert_eq!(fast, slow);
                let (mut fast, mut slow) = (vec![9f32; c], vec![9f32; c]);
                column_sums(set, &x, &mut fast);
                naive::column_sums(&x, &mut slow);
                for (f, s) in fast.iter().zip(&slow) {
                    assert!((f - s).abs() < 1e-5, "{set:?}");
                }
            }
        }
    }
}
