//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as `torch.optim.AdamW` computes it, and the gradient's norm.

use crate::Real;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Gradients below this count as zero and moments below [`MOMENT_FLOOR`] become zero: their squares would be
/// denormal, which some processors compute a hundred times slower.
const GRADIENT_FLOOR: f32 = 1e-18;
const MOMENT_FLOOR: f32 = 1e-36;
/// Elements whose squares are added in f32 before f64 takes over.
const SUM_BLOCK: usize = 1024;

/// What one step does to each element.
#[derive(Debug, Clone, Copy)]
pub struct Step<T = f32> {
    /// Learning rate.
    pub lr: T,
    /// Decay of the first moment.
    pub beta1: T,
    /// Decay of the second moment.
    pub beta2: T,
    /// Added to the root of the second moment.
    pub eps: T,
    /// Decoupled weight decay.
    pub weight_decay: T,
    /// 1 − β1^t.
    pub correction1: T,
    /// √(1 − β2^t).
    pub correction2_root: T,
    /// Factor on the gradient: the clipping.
    pub gradient_scale: T,
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// Σ g².
    pub fn sum_of_squares<T: Real>(g: &[T]) -> f64 {
        g.iter().map(|g| g.to_f64() * g.to_f64()).sum()
    }

    /// One step on weights `w` with gradients `g`, first moments `m`, second moments `v`.
    pub fn update<T: Real>(step: &Step<T>, w: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
        let one = T::of(1.0);
        for i in 0..w.len() {
            let g = g[i] * step.gradient_scale;
            m[i] = step.beta1 * m[i] + (one - step.beta1) * g;
            v[i] = step.beta2 * v[i] + (one - step.beta2) * g * g;
            let root = v[i].sqrt() / step.correction2_root + step.eps;
            w[i] = w[i] * (one - step.lr * step.weight_decay) - step.lr / step.correction1 * m[i] / root;
        }
    }
}

/// Σ g² in a fixed order; not finite if any g is not (or its square overflows).
pub fn sum_of_squares(set: KernelSet, g: &[f32]) -> f64 {
    if set == KernelSet::Naive {
        return naive::sum_of_squares(g);
    }
    g.chunks(SUM_BLOCK)
        .map(|g| {
            let sum: f32 = dispatch!(set, squares_simd(g: &[f32]) -> f32);
            f64::from(sum)
        })
        .sum()
}

#[inline(always)]
unsafe fn squares_simd<S: Simd>(g: &[f32]) -> f32 {
    // SAFETY: i + count ≤ the length.
    unsafe {
        let (mut sum, floor) = (S::splat(0.0), S::splat(GRADIENT_FLOOR));
        sweep!(S, g.len(), |i, count| {
            let x = S::flush(load_n::<S>(g.as_ptr().add(i), count), floor);
            sum = S::fma(x, x, sum);
        });
        S::sum(sum)
    }
}

/// One step on weights `w` with gradients `g`, first moments `m`, second moments `v`, all of one length.
pub fn update(set: KernelSet, step: &Step, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(w.len() == g.len() && w.len() == m.len() && w.len() == v.len());
    if set == KernelSet::Naive {
        return naive::update(step, w, g, m, v);
    }
    dispatch!(set, update_simd(step: &Step, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]));
}

#[inline(always)]
unsafe fn update_simd<S: Simd>(step: &Step, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    // SAFETY: i + count ≤ the common length.
    unsafe {
        let scale = S::splat(step.gradient_scale);
        let (beta1, rest1) = (S::splat(step.beta1), S::splat(1.0 - step.beta1));
        let (beta2, rest2) = (S::splat(step.beta2), S::splat(1.0 - step.beta2));
        let inverse_root = S::splat(1.0 / step.correction2_root);
        let rate = S::splat(-step.lr / step.correction1);
        let keep = S::splat(1.0 - step.lr * step.weight_decay);
        let (eps, tiny, floor) = (S::splat(step.eps), S::splat(MOMENT_FLOOR), S::splat(GRADIENT_FLOOR));
        sweep!(S, w.len(), |i, count| {
            let (pw, pm, pv) = (w.as_mut_ptr().add(i), m.as_mut_ptr().add(i), v.as_mut_ptr().add(i));
            let g = S::mul(S::flush(load_n::<S>(g.as_ptr().add(i), count), floor), scale);
            let first = S::fma(beta1, load_n::<S>(pm, count), S::mul(rest1, g));
            let first = S::flush(first, tiny);
            let second = S::fma(beta2, load_n::<S>(pv, count), S::mul(rest2, S::mul(g, g)));
            let second = S::flush(second, tiny);
            let root = S::fma(S::sqrt(second), inverse_root, eps);
            let moved = S::fma(rate, S::div(first, root), S::mul(load_n::<S>(pw, count), keep));
            store_n::<S>(pm, first, count);
            store_n::<S>(pv, second, count);
            store_n::<S>(pw, moved, count);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        let step = Step {
            lr: 3e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            correction1: 0.271,
            correction2_root: 0.38,
            gradient_scale: 0.7,
        };
        let n = 53;
        let init = |k: f64| -> Vec<f64> { (0..n).map(|i| (i as f64 * k).sin()).collect() };
        let (mut w, g, mut m) = (init(0.3), init(1.1), init(0.7));
        let mut v: Vec<f64> = init(0.2).iter().map(|x| x * x + 1e-3).collect();
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let before = (narrow(&w), narrow(&g), narrow(&m), narrow(&v));
        let exact_step = Step::<f64> {
            lr: f64::from(step.lr),
            beta1: f64::from(step.beta1),
            beta2: f64::from(step.beta2),
            eps: f64::from(step.eps),
            weight_decay: f64::from(step.weight_decay),
            correction1: f64::from(step.correction1),
            correction2_root: f64::from(step.correction2_root),
            gradient_scale: f64::from(step.gradient_scale),
        };
        naive::update(&exact_step, &mut w, &g, &mut m, &mut v);
        for set in KernelSet::runnable() {
            let (mut fw, fg, mut fm, mut fv) = before.clone();
            update(set, &step, &mut fw, &fg, &mut fm, &mut fv);
            for (fast, exact) in [(&fw, &w), (&fm, &m), (&fv, &v)] {
                for (f, e) in fast.iter().zip(exact) {
                    assert!((f64::from(*f) - e).abs() < 1e-6, "{set:?}");
                }
            }
            let norm = sum_of_squares(set, &fg);
            assert!((norm - naive::sum_of_squares(&g)).abs() < 1e-5, "{set:?}");
        }
    }

    #[test]
    fn non_finite_gradients_show_in_the_norm() {
        for set in KernelSet::runnable() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 1, 17, 2000] {
                    let mut g = vec![0.1f32; 2001];
                    g[at] = bad;
                    assert!(!sum_of_squares(set, &g).is_finite(), "{set:?} hid {bad} at {at}");
                }
            }
        }
    }

    #[test]
    fn moments_of_silent_weights_reach_zero_and_not_denormals() {
        let step = Step {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            correction1: 1.0,
            correction2_root: 1.0,
            gradient_scale: 1.0,
        };
        for set in KernelSet::runnable().filter(|&s| s != KernelSet::Naive) {
            let (mut w, g, mut m, mut v) = ([1f32; 9], [1e-30f32; 9], [1e-3f32; 9], [1e-6f32; 9]);
            for _ in 0..3000 {
                update(set, &step, &mut w, &g, &mut m, &mut v);
                assert!(m.iter().chain(&v).all(|x| *x == 0.0 || x.is_normal()));
            }
            assert!(m.iter().chain(&v).all(|x| *x == 0.0), "{set:?}");
        }
    }
}
