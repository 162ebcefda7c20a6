//! Softmax cross-entropy over rows of logits, forward and backward in one go.
//!
//! `loss = ln Σ exp(l) − l[target]`, in nats; `dlogits = (softmax(l) − onehot(target))·scale`, written over the logits.

use crate::Real;
use crate::math::{exp, ln};
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Plain loops.
pub mod naive {
    use super::*;

    /// `losses[R]` and, in place of `logits[R,V]` (rows perhaps further apart), their gradient times `scale`.
    pub fn forward_backward<T: Real>(
        logits: &mut [T],
        vocab: usize,
        targets: &[u32],
        scale: T,
        losses: &mut [T],
    ) {
        let stride = logits.len() / targets.len();
        for ((row, &target), loss) in logits.chunks_exact_mut(stride).zip(targets).zip(losses) {
            let row = &mut row[..vocab];
            let max = row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a });
            let mut sum = T::default();
            row.iter().for_each(|&l| sum += (l - max).exp());
            *loss = sum.ln() + max - row[target as usize];
            for (j, l) in row.iter_mut().enumerate() {
                let p = (*l - max).exp() / sum;
                *l = (p - T::of(f64::from(u8::from(j == target as usize)))) * scale;
            }
        }
    }
}

/// `losses[R]` in nats and, in place of `logits[R,V]`, their gradient times `scale`. Targets lie below V.
///
/// Rows are `logits.len() / R ≥ V` apart; what lies between them is left alone.
pub fn forward_backward(
    set: KernelSet,
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    scale: f32,
    losses: &mut [f32],
) {
    assert!(
        !targets.is_empty() && losses.len() == targets.len() && logits.len().is_multiple_of(targets.len())
    );
    assert!(vocab > 0 && logits.len() / targets.len() >= vocab, "rows are shorter than the vocabulary");
    assert!(targets.iter().all(|&t| (t as usize) < vocab), "a target lies beyond the vocabulary");
    if set == KernelSet::Naive {
        return naive::forward_backward(logits, vocab, targets, scale, losses);
    }
    dispatch!(
        set,
        rows_simd(logits: &mut [f32], vocab: usize, targets: &[u32], scale: f32, losses: &mut [f32])
    );
}

/// `losses[R]` in nats of `logits[R,V]`, which are spoilt.
pub fn forward(set: KernelSet, logits: &mut [f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    forward_backward(set, logits, vocab, targets, 0.0, losses);
}

#[inline(always)]
unsafe fn rows_simd<S: Simd>(logits: &mut [f32], v: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
    let stride = logits.len() / targets.len();
    for ((row, &target), loss) in logits.chunks_exact_mut(stride).zip(targets).zip(losses) {
        let row = &mut row[..v];
        let at_target = row[target as usize];
        // SAFETY: every access is to the first v elements of the row.
        unsafe {
            let p = row.as_mut_ptr();
            let mut top = S::splat(f32::NEG_INFINITY);
            // x·0 is zero unless x is infinite or no number; maxima and the clamped exponential would hide those.
            let (mut poison, zero) = (S::splat(0.0), S::splat(0.0));
            sweep!(S, v, |i, count| {
                poison = S::fma(load_n::<S>(p.add(i), count), zero, poison);
            });
            let finite = S::sum(poison) == 0.0;
            let whole = v - v % S::LANES;
            sweep!(S, whole, |i, count| {
                top = S::max(top, load_n::<S>(p.add(i), count));
            });
            // The tail one by one: lanes beyond the row would count as logits of zero.
            let mut max = S::max_lane(top);
            for i in whole..v {
                max = max.max(*p.add(i));
            }
            let mut sums = S::splat(0.0);
            sweep!(S, whole, |i, count| {
                let e = exp::<S>(S::sub(load_n::<S>(p.add(i), count), S::splat(max)));
                sums = S::add(sums, e);
                store_n::<S>(p.add(i), e, count);
            });
            let mut sum = S::sum(sums);
            if whole < v {
                let e = exp::<S>(S::sub(S::load_first(p.add(whole), v - whole), S::splat(max)));
                S::store_first(p.add(whole), e, v - whole);
                for i in whole..v {
                    sum += *p.add(i);
                }
            }
            *loss = if finite { ln(sum) + max - at_target } else { f32::NAN };
            let factor = S::splat(scale / sum);
            sweep!(S, v, |i, count| {
                store_n::<S>(p.add(i), S::mul(load_n::<S>(p.add(i), count), factor), count);
            });
        }
        row[target as usize] -= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        for (rows, v) in [(1, 1), (3, 5), (2, 16), (4, 61), (3, 256)] {
            let logits: Vec<f64> = (0..rows * v).map(|i| (i as f64 * 1.7).sin() * 6.0).collect();
            let targets: Vec<u32> = (0..rows).map(|r| ((r * 31) % v) as u32).collect();
            let (mut exact, mut exact_losses) = (logits.clone(), vec![0.0; rows]);
            naive::forward_backward(&mut exact, v, &targets, 0.25, &mut exact_losses);
            for set in KernelSet::runnable() {
                let mut fast: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
                let mut losses = vec![0f32; rows];
                forward_backward(set, &mut fast, v, &targets, 0.25, &mut losses);
                for (f, e) in fast.iter().zip(&exact).chain(losses.iter().zip(&exact_losses)) {
                    assert!((f64::from(*f) - e).abs() < 3e-6, "{set:?} V {v}: {f} {e}");
                }
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_is_seen() {
        for set in KernelSet::runnable() {
            let mut logits = [1e4f32, -1e4, 0.0];
            let mut loss = [0f32];
            forward_backward(set, &mut logits, 3, &[1], 1.0, &mut loss);
            assert!((loss[0] - 2e4).abs() < 1.0, "{set:?} {loss:?}");
            assert!(logits.iter().all(|x| x.is_finite()));
            for bad in [f32::NAN, f32::INFINITY] {
                for at in 0..3 {
                    let mut logits = [0.5f32; 3];
                    logits[at] = bad;
                    forward(set, &mut logits, 3, &[1], &mut loss);
                    assert!(!loss[0].is_finite(), "{set:?} hid {bad} at {at}");
                }
            }
        }
    }
}
