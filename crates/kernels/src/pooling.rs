//! Pooling of images `[H,W,C]`: the largest of each 2×2 window with stride 2, and the mean over all pixels.
//!
//! An odd last row or column belongs to no window, as in PyTorch. Backward, a window's gradient goes to its largest
//! element, the first in reading order if several are equal.

use crate::Real;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// Plain loops.
pub mod naive {
    use super::*;

    /// The four elements of the window of (y, x, channel), in reading order.
    fn window((width, c): (usize, usize), y: usize, x: usize, channel: usize) -> [usize; 4] {
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| ((2 * y + a) * width + 2 * x + b) * c + channel)
    }

    /// `y[H/2,W/2,C]`, the largest of each window of `x[H,W,C]`.
    pub fn max_forward<T: Real>((h, w, c): (usize, usize, usize), x: &[T], y: &mut [T]) {
        for (i, y) in y.iter_mut().enumerate().take((h / 2) * (w / 2) * c) {
            let at = window((w, c), i / c / (w / 2), i / c % (w / 2), i % c);
            *y = at[1..].iter().fold(x[at[0]], |most, &at| if x[at] > most { x[at] } else { most });
        }
    }

    /// `dx[H,W,C]` (overwritten) from `dy[H/2,W/2,C]`.
    pub fn max_backward<T: Real>((h, w, c): (usize, usize, usize), x: &[T], dy: &[T], dx: &mut [T]) {
        dx.fill(T::default());
        for (i, &dy) in dy.iter().enumerate().take((h / 2) * (w / 2) * c) {
            let at = window((w, c), i / c / (w / 2), i / c % (w / 2), i % c);
            let most = at[1..].iter().fold(at[0], |most, &at| if x[at] > x[most] { at } else { most });
            dx[most] = dy;
        }
    }

    /// `y[C]`, the mean over the pixels of `x[P,C]`.
    pub fn mean_forward<T: Real>(x: &[T], y: &mut [T]) {
        let c = y.len();
        let pixels = T::of((x.len() / c) as f64);
        y.fill(T::default());
        for row in x.chunks_exact(c) {
            row.iter().zip(y.iter_mut()).for_each(|(x, y)| *y += *x);
        }
        y.iter_mut().for_each(|y| *y = *y / pixels);
    }

    /// `dx[P,C] = dy[C]/P`.
    pub fn mean_backward<T: Real>(dy: &[T], dx: &mut [T]) {
        let pixels = T::of((dx.len() / dy.len()) as f64);
        for row in dx.chunks_exact_mut(dy.len()) {
            row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = *dy / pixels);
        }
    }
}

/// `y[H/2,W/2,C]`, the largest of each 2×2 window of `x[H,W,C]`.
pub fn max_forward(set: KernelSet, (h, w, c): (usize, usize, usize), x: &[f32], y: &mut [f32]) {
    assert!(x.len() == h * w * c && y.len() == (h / 2) * (w / 2) * c, "images do not fit their shape");
    if set == KernelSet::Naive {
        return naive::max_forward((h, w, c), x, y);
    }
    dispatch!(set, max_forward_simd(w: usize, c: usize, x: &[f32], y: &mut [f32]));
}

/// `dx[H,W,C]` (overwritten) from `dy[H/2,W/2,C]` and the input `x[H,W,C]` of [`max_forward`].
pub fn max_backward(set: KernelSet, (h, w, c): (usize, usize, usize), x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == h * w * c && dx.len() == x.len(), "images do not fit their shape");
    assert!(dy.len() == (h / 2) * (w / 2) * c, "images do not fit their shape");
    if set == KernelSet::Naive {
        return naive::max_backward((h, w, c), x, dy, dx);
    }
    if h % 2 == 1 {
        dx[(h - 1) * w * c..].fill(0.0);
    }
    dispatch!(set, max_backward_simd(w: usize, c: usize, x: &[f32], dy: &[f32], dx: &mut [f32]));
}

#[inline(always)]
unsafe fn max_forward_simd<S: Simd>(w: usize, c: usize, x: &[f32], y: &mut [f32]) {
    let half = w / 2;
    if half == 0 {
        return;
    }
    for (x, y) in x.chunks_exact(2 * w * c).zip(y.chunks_exact_mut(half * c)) {
        for (col, y) in y.chunks_exact_mut(c).enumerate() {
            sweep!(S, c, |i, count| {
                // SAFETY: two rows of w ≥ 2·col + 2 pixels of c ≥ i + count channels.
                unsafe {
                    let p = x.as_ptr().add(2 * col * c + i);
                    let at = |offset: usize| load_n::<S>(p.add(offset), count);
                    let (above, below) = (S::max(at(0), at(c)), S::max(at(w * c), at((w + 1) * c)));
                    store_n::<S>(y.as_mut_ptr().add(i), S::max(above, below), count);
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn max_backward_simd<S: Simd>(w: usize, c: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let half = w / 2;
    if half == 0 {
        return dx.fill(0.0);
    }
    let rows = x.chunks_exact(2 * w * c).zip(dy.chunks_exact(half * c)).zip(dx.chunks_exact_mut(2 * w * c));
    for ((x, dy), dx) in rows {
        if w % 2 == 1 {
            dx[(w - 1) * c..w * c].fill(0.0);
            dx[(2 * w - 1) * c..].fill(0.0);
        }
        for (col, dy) in dy.chunks_exact(c).enumerate() {
            sweep!(S, c, |i, count| {
                // SAFETY: two rows of w ≥ 2·col + 2 pixels of c ≥ i + count channels.
                unsafe {
                    let (from, to) = (x.as_ptr().add(2 * col * c + i), dx.as_mut_ptr().add(2 * col * c + i));
                    let offsets = [0, c, w * c, (w + 1) * c];
                    let x = offsets.map(|offset| load_n::<S>(from.add(offset), count));
                    let most = S::max(S::max(x[0], x[1]), S::max(x[2], x[3]));
                    let mut left = load_n::<S>(dy.as_ptr().add(i), count);
                    for k in 0..4 {
                        // What is smaller than the largest gets nothing; the first that is not gets all.
                        let own = S::if_positive(S::sub(most, x[k]), S::splat(0.0), left);
                        store_n::<S>(to.add(offsets[k]), own, count);
                        left = S::sub(left, own);
                    }
                }
            });
        }
    }
}

/// `y[C]`, the mean over the pixels of `x[P,C]`, added in order.
pub fn mean_forward(set: KernelSet, x: &[f32], y: &mut [f32]) {
    assert!(!y.is_empty() && !x.is_empty() && x.len().is_multiple_of(y.len()), "x is no whole pixels");
    if set == KernelSet::Naive {
        return naive::mean_forward(x, y);
    }
    crate::rows::column_sums(set, x, y);
    let pixels = (x.len() / y.len()) as f32;
    y.iter_mut().for_each(|y| *y /= pixels);
}

/// `dx[P,C] = dy[C]/P`.
pub fn mean_backward(dy: &[f32], dx: &mut [f32]) {
    assert!(!dy.is_empty() && dx.len().is_multiple_of(dy.len()), "dx is no whole pixels");
    naive::mean_backward(dy, dx);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(seed: u32, len: usize) -> Vec<f32> {
        // Few distinct values, so that windows hold equal elements.
        (0..len as u32).map(|i| ((seed ^ i).wrapping_mul(2_654_435_761) >> 29) as f32 - 3.0).collect()
    }

    proptest! {
        #[test]
        fn every_set_is_plain_loops_to_the_bit(h in 1usize..8, w in 1usize..8, c in 1usize..40, seed in any::<u32>()) {
            let (x, dy) = (values(seed, h * w * c), values(!seed, (h / 2) * (w / 2) * c));
            let (mut y, mut dx) = (vec![9f32; dy.len()], vec![9f32; x.len()]);
            naive::max_forward((h, w, c), &x, &mut y);
            naive::max_backward((h, w, c), &x, &dy, &mut dx);
            for set in KernelSet::runnable() {
                let (mut fast_y, mut fast_dx) = (vec![7f32; y.len()], vec![7f32; x.len()]);
                max_forward(set, (h, w, c), &x, &mut fast_y);
                max_backward(set, (h, w, c), &x, &dy, &mut fast_dx);
                prop_assert_eq!(&fast_y, &y, "{:?}", set);
                prop_assert_eq!(&fast_dx, &dx, "{:?}", set);
                let (mut mean, mut fast) = (vec![0f32; c], vec![5f32; c]);
                naive::mean_forward(&x, &mut mean);
                mean_forward(set, &x, &mut fast);
                prop_assert_eq!(&fast, &mean, "{:?}", set);
            }
        }
    }

    #[test]
    fn the_mean_s_gradient_is_spread_evenly() {
        let mut dx = [0f32; 8];
        mean_backward(&[4.0, -2.0], &mut dx);
        assert_eq!(dx, [1.0, -0.5, 1.0, -0.5, 1.0, -0.5, 1.0, -0.5]);
    }
}
