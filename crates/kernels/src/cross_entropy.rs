//! Softmax cross-entropy over rows of logits, forward and backward in one go.
//!
//! `loss = ln Σ exp(l) − l[target]`, in nats; `dlogits = (softmax(l) − onehot(target))·scale`, written over the logits.

use crate::Real;
use crate::lent::Lent;
use crate::math::{exp2, ln};
use crate::pool::split;
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
    check(logits, vocab, targets, losses);
    if set == KernelSet::Naive {
        return naive::forward_backward(logits, vocab, targets, scale, losses);
    }
    let (stride, logits, losses) = (logits.len() / targets.len(), Lent::new(logits), Lent::new(losses));
    split(targets.len(), |r, _| {
        // SAFETY: the part's own rows.
        let (logits, losses) =
            unsafe { (logits.at(r.start * stride, r.len() * stride), losses.at(r.start, r.len())) };
        let targets = &targets[r];
        dispatch!(
            set,
            rows_simd(logits: &mut [f32], vocab: usize, targets: &[u32], scale: f32, losses: &mut [f32])
        );
    });
}

fn check(logits: &[f32], vocab: usize, targets: &[u32], losses: &[f32]) {
    assert!(
        !targets.is_empty() && losses.len() == targets.len() && logits.len().is_multiple_of(targets.len())
    );
    assert!(vocab > 0 && logits.len() / targets.len() >= vocab, "rows are shorter than the vocabulary");
    assert!(targets.iter().all(|&t| (t as usize) < vocab), "a target lies beyond the vocabulary");
}

/// `losses[R]` in nats of `logits[R,V]`, which are spoilt.
pub fn forward(set: KernelSet, logits: &mut [f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    forward_backward(set, logits, vocab, targets, 0.0, losses);
}

/// `losses[R]` of `logits[R,V]`, in whose place e^(l − max) − Σ·onehot remain: `factors[R]` (1/Σ) times these are the
/// gradients, so that whoever reads them next can multiply in passing.
pub fn exponentials(
    set: KernelSet,
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    losses: &mut [f32],
    factors: &mut [f32],
) {
    check(logits, vocab, targets, losses);
    assert_eq!(factors.len(), targets.len());
    let (set, stride, logits) = (set.with_vectors(), logits.len() / targets.len(), Lent::new(logits));
    let [losses, factors] = [losses, factors].map(Lent::new);
    split(targets.len(), |r, _| {
        // SAFETY: the part's own rows.
        let (logits, losses, factors) = unsafe {
            let logits = logits.at(r.start * stride, r.len() * stride);
            (logits, losses.at(r.start, r.len()), factors.at(r.start, r.len()))
        };
        let targets = &targets[r];
        dispatch!(
            set,
            exponentials_simd(
                logits: &mut [f32],
                vocab: usize,
                targets: &[u32],
                losses: &mut [f32],
                factors: &mut [f32],
            )
        );
    });
}

#[inline(always)]
unsafe fn exponentials_simd<S: Simd>(
    logits: &mut [f32],
    v: usize,
    targets: &[u32],
    losses: &mut [f32],
    factors: &mut [f32],
) {
    let stride = logits.len() / targets.len();
    let rows = logits.chunks_exact_mut(stride).zip(targets).zip(losses).zip(factors);
    for (((row, &target), loss), factor) in rows {
        // SAFETY: the row has v elements.
        let (nats, sum) = unsafe { row_simd::<S>(&mut row[..v], target) };
        (*loss, *factor) = (nats, 1.0 / sum);
    }
}

#[inline(always)]
unsafe fn rows_simd<S: Simd>(logits: &mut [f32], v: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
    let stride = logits.len() / targets.len();
    for ((row, &target), loss) in logits.chunks_exact_mut(stride).zip(targets).zip(losses) {
        let row = &mut row[..v];
        // SAFETY: every access is to the first v elements of the row.
        unsafe {
            let (nats, sum) = row_simd::<S>(row, target);
            *loss = nats;
            let (p, factor) = (row.as_mut_ptr(), S::splat(scale / sum));
            sweep!(S, v, |i, count| {
                store_n::<S>(p.add(i), S::mul(load_n::<S>(p.add(i), count), factor), count);
            });
        }
    }
}

/// One row of logits becomes e^(l − max) − Σ·onehot; the loss, and Σ. A logit that is NaN or infinite makes both NaN.
#[inline(always)]
unsafe fn row_simd<S: Simd>(row: &mut [f32], target: u32) -> (f32, f32) {
    let v = row.len();
    let at_target = row[target as usize];
    // SAFETY: every access is to the row's elements.
    unsafe {
        let p = row.as_mut_ptr();
        // Several maxima and sums at once: one alone waits for itself.
        let mut top = [S::splat(f32::NEG_INFINITY); 4];
        let whole = v - v % S::LANES;
        let fours = whole - whole % (4 * S::LANES);
        for i in (0..fours).step_by(4 * S::LANES) {
            for (k, top) in top.iter_mut().enumerate() {
                *top = S::max(S::load(p.add(i + k * S::LANES)), *top);
            }
        }
        for i in (fours..whole).step_by(S::LANES) {
            top[0] = S::max(S::load(p.add(i)), top[0]);
        }
        // The tail one by one: lanes beyond the row would count as logits of zero.
        let mut max = S::max_lane(S::max(S::max(top[0], top[1]), S::max(top[2], top[3])));
        for i in whole..v {
            max = max.max(*p.add(i));
        }
        let (shift, log2_e) = (S::splat(max), S::splat(std::f32::consts::LOG2_E));
        let power = |l: S::V| exp2::<S>(S::mul(S::sub(l, shift), log2_e));
        let mut sums = [S::splat(0.0); 2];
        let pairs = whole - whole % (2 * S::LANES);
        for i in (0..pairs).step_by(2 * S::LANES) {
            for (k, sum) in sums.iter_mut().enumerate() {
                let e = power(S::load(p.add(i + k * S::LANES)));
                *sum = S::add(*sum, e);
                S::store(p.add(i + k * S::LANES), e);
            }
        }
        for i in (pairs..whole).step_by(S::LANES) {
            let e = power(S::load(p.add(i)));
            sums[0] = S::add(sums[0], e);
            S::store(p.add(i), e);
        }
        let mut sum = S::sum(S::add(sums[0], sums[1]));
        if whole < v {
            S::store_first(p.add(whole), power(S::load_first(p.add(whole), v - whole)), v - whole);
            for i in whole..v {
                sum += *p.add(i);
            }
        }
        row[target as usize] -= sum;
        (ln(sum) + max - at_target, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        for (rows, v) in [(1, 1), (3, 5), (2, 16), (4, 61), (3, 256), (2, 333)] {
            let logits: Vec<f64> = (0..rows * v).map(|i| (i as f64 * 1.7).sin() * 6.0).collect();
            let targets: Vec<u32> = (0..rows).map(|r| ((r * 31) % v) as u32).collect();
            let (mut exact, mut exact_losses) = (logits.clone(), vec![0.0; rows]);
            naive::forward_backward(&mut exact, v, &targets, 0.25, &mut exact_losses);
            for set in KernelSet::runnable() {
                let mut fast: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
                let mut losses = vec![0f32; rows];
                forward_backward(set, &mut fast, v, &targets, 0.25, &mut losses);
                let mut parts: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
                let (mut same, mut factors) = (vec![0f32; rows], vec![0f32; rows]);
                exponentials(set, &mut parts, v, &targets, &mut same, &mut factors);
                for (i, e) in exact.iter().enumerate() {
                    let f = f64::from(parts[i]) * f64::from(factors[i / v]) * 0.25;
                    assert!((f - e).abs() < 3e-6, "{set:?} V {v}: {f} {e}");
                }
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
