//! Leaky ReLU: y = x where x > 0, else slope·x; ReLU with slope 0.
//!
//! Backward, dx = dy where x > 0, else slope·dy. For slopes ≥ 0 the output is positive exactly where the input is, so
//! that either says which.

use crate::Real;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Plain loops.
pub mod naive {
    use super::*;

    /// `x ← leaky(x)`.
    pub fn forward<T: Real>(slope: T, x: &mut [T]) {
        x.iter_mut().for_each(|x| *x = if *x > T::default() { *x } else { slope * *x });
    }

    /// `d ← d·leaky'`, where `y` is the activation's input or output.
    pub fn backward<T: Real>(slope: T, y: &[T], d: &mut [T]) {
        for (y, d) in y.iter().zip(d) {
            *d = if *y > T::default() { *d } else { slope * *d };
        }
    }
}

/// `x ← leaky(x)`.
pub fn forward(set: KernelSet, slope: f32, x: &mut [f32]) {
    if set == KernelSet::Naive {
        return naive::forward(slope, x);
    }
    dispatch!(set, forward_simd(slope: f32, x: &mut [f32]));
}

/// `d ← d·leaky'`, where `y` is the activation's input or output.
pub fn backward(set: KernelSet, slope: f32, y: &[f32], d: &mut [f32]) {
    assert_eq!(y.len(), d.len());
    if set == KernelSet::Naive {
        return naive::backward(slope, y, d);
    }
    dispatch!(set, backward_simd(slope: f32, y: &[f32], d: &mut [f32]));
}

/// Each lane's activation.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn leaky<S: Simd>(slope: S::V, x: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe { S::if_positive(x, x, S::mul(slope, x)) }
}

#[inline(always)]
unsafe fn forward_simd<S: Simd>(slope: f32, x: &mut [f32]) {
    // SAFETY: i + count ≤ the length.
    unsafe {
        let slope = S::splat(slope);
        sweep!(S, x.len(), |i, count| {
            let p = x.as_mut_ptr().add(i);
            store_n::<S>(p, leaky::<S>(slope, load_n::<S>(p, count)), count);
        });
    }
}

#[inline(always)]
unsafe fn backward_simd<S: Simd>(slope: f32, y: &[f32], d: &mut [f32]) {
    // SAFETY: i + count ≤ the common length.
    unsafe {
        let slope = S::splat(slope);
        sweep!(S, d.len(), |i, count| {
            let p = d.as_mut_ptr().add(i);
            let (y, d) = (load_n::<S>(y.as_ptr().add(i), count), load_n::<S>(p, count));
            store_n::<S>(p, S::if_positive(y, d, S::mul(slope, d)), count);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_plain_loops_to_the_bit() {
        for n in [0, 1, 7, 16, 33] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7).sin() * f32::from(i % 5 != 0)).collect();
            for slope in [0.0, 0.1] {
                let (mut y, mut d) = (x.clone(), vec![1.5; n]);
                naive::forward(slope, &mut y);
                naive::backward(slope, &x, &mut d);
                for set in KernelSet::runnable() {
                    let (mut fast_y, mut by_input, mut by_output) = (x.clone(), vec![1.5; n], vec![1.5; n]);
                    forward(set, slope, &mut fast_y);
                    backward(set, slope, &x, &mut by_input);
                    backward(set, slope, &fast_y, &mut by_output);
                    assert_eq!((&fast_y, &by_input, &by_output), (&y, &d, &d), "{set:?} {n} {slope}");
                }
            }
        }
    }
}
