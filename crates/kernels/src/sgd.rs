//! Stochastic gradient descent with Nesterov's momentum and L2 decay, as `torch.optim.SGD` computes it.

use crate::Real;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Velocities below this become zero, lest they decay into denormals.
const VELOCITY_FLOOR: f32 = 1e-30;

/// What one step does to each element.
#[derive(Debug, Clone, Copy)]
pub struct Step<T = f32> {
    /// Learning rate.
    pub lr: T,
    /// Decay μ of the velocity.
    pub momentum: T,
    /// Whether the gradient is taken where the velocity leads (Sutskever et al. 2013), as in PyTorch's `nesterov=True`.
    pub nesterov: bool,
    /// L2 decay λ: λ·w is added to the gradient.
    pub weight_decay: T,
    /// Factor on the gradient.
    pub gradient_scale: T,
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// One step on weights `w` with gradients `g` and velocities `v`, which start at zero.
    pub fn update<T: Real>(step: &Step<T>, w: &mut [T], g: &[T], v: &mut [T]) {
        for i in 0..w.len() {
            let d = g[i] * step.gradient_scale + step.weight_decay * w[i];
            v[i] = step.momentum * v[i] + d;
            w[i] = w[i] - step.lr * if step.nesterov { d + step.momentum * v[i] } else { v[i] };
        }
    }
}

/// One step on weights `w` with gradients `g` and velocities `v`, all of one length; velocities start at zero.
pub fn update(set: KernelSet, step: &Step, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    assert!(w.len() == g.len() && w.len() == v.len());
    if set == KernelSet::Naive {
        return naive::update(step, w, g, v);
    }
    dispatch!(set, update_simd(step: &Step, w: &mut [f32], g: &[f32], v: &mut [f32]));
}

#[inline(always)]
unsafe fn update_simd<S: Simd>(step: &Step, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    // SAFETY: i + count ≤ the common length.
    unsafe {
        let (rate, momentum) = (S::splat(-step.lr), S::splat(step.momentum));
        let (decay, scale) = (S::splat(step.weight_decay), S::splat(step.gradient_scale));
        let floor = S::splat(VELOCITY_FLOOR);
        sweep!(S, w.len(), |i, count| {
            let (pw, pv) = (w.as_mut_ptr().add(i), v.as_mut_ptr().add(i));
            let (weight, g) = (load_n::<S>(pw, count), load_n::<S>(g.as_ptr().add(i), count));
            let d = S::fma(decay, weight, S::mul(g, scale));
            let velocity = S::flush(S::fma(momentum, load_n::<S>(pv, count), d), floor);
            let way = if step.nesterov { S::fma(momentum, velocity, d) } else { velocity };
            store_n::<S>(pv, velocity, count);
            store_n::<S>(pw, S::fma(rate, way, weight), count);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        let n = 53;
        let wave = |k: f64| -> Vec<f64> { (0..n).map(|i| (i as f64 * k).sin()).collect() };
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        for nesterov in [false, true] {
            let (mut w, g, mut v) = (wave(0.3), wave(1.1), wave(0.7));
            let before = (narrow(&w), narrow(&g), narrow(&v));
            let step = Step { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 5e-4, gradient_scale: 0.7 };
            let narrow_step =
                Step { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 5e-4, gradient_scale: 0.7 };
            for _ in 0..3 {
                naive::update::<f64>(&step, &mut w, &g, &mut v);
            }
            for set in KernelSet::runnable() {
                let (mut fw, fg, mut fv) = before.clone();
                for _ in 0..3 {
                    update(set, &narrow_step, &mut fw, &fg, &mut fv);
                }
                for (fast, exact) in fw.iter().zip(&w).chain(fv.iter().zip(&v)) {
                    assert!((f64::from(*fast) - exact).abs() < 2e-6, "{set:?} {fast} {exact}");
                }
            }
        }
    }

    #[test]
    fn velocities_of_silent_weights_reach_zero_and_not_denormals() {
        let step = Step { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.0, gradient_scale: 1.0 };
        for set in KernelSet::runnable().filter(|&s| s != KernelSet::Naive) {
            let (mut w, g, mut v) = ([1f32; 9], [0f32; 9], [1e-3f32; 9]);
            for _ in 0..1000 {
                update(set, &step, &mut w, &g, &mut v);
                assert!(v.iter().all(|x| *x == 0.0 || x.is_normal()));
            }
            assert!(v.iter().all(|x| *x == 0.0), "{set:?}");
        }
    }
}
