//! GELU in its tanh form, as GPT-2 has it: g(x) = ½x(1 + tanh u), u = √(2/π)(x + 0.044715 x³).
//!
//! Since ½(1 + tanh u) = σ(2u), one exponential gives both g = x·σ(2u) and
//! g' = σ(2u) + x·σ(2u)(1 − σ(2u))·2u', u' = √(2/π)(1 + 3·0.044715 x²).

use crate::Real;
use crate::lent::Lent;
use crate::math::{exp2, exp2_coarse};
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

/// Elements that a part of a pass has at least.
const GRAIN: usize = 2048;

/// Plain loops.
pub mod naive {
    use super::*;

    /// `y = gelu(x)`.
    pub fn forward<T: Real>(x: &[T], y: &mut [T]) {
        for (&x, y) in x.iter().zip(y) {
            let u = T::of(SQRT_2_OVER_PI) * (x + T::of(CUBIC) * x * x * x);
            *y = T::of(0.5) * x * (T::of(1.0) + u.tanh());
        }
    }

    /// `y = gelu(x)` again, and `d ← d · gelu'(x)`.
    pub fn backward<T: Real>(x: &[T], y: &mut [T], d: &mut [T]) {
        forward(x, y);
        for (&x, d) in x.iter().zip(d) {
            let u = T::of(SQRT_2_OVER_PI) * (x + T::of(CUBIC) * x * x * x);
            let du = T::of(SQRT_2_OVER_PI) * (T::of(1.0) + T::of(3.0 * CUBIC) * x * x);
            let t = u.tanh();
            let slope = T::of(0.5) * (T::of(1.0) + t) + T::of(0.5) * x * (T::of(1.0) - t * t) * du;
            *d = *d * slope;
        }
    }
}

/// `y = gelu(x)`.
pub fn forward(set: KernelSet, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    if set == KernelSet::Naive {
        return naive::forward(x, y);
    }
    let (n, y) = (x.len(), Lent::new(y));
    split(n.div_ceil(GRAIN), |p, _| {
        let at = p.start * GRAIN..n.min(p.end * GRAIN);
        // SAFETY: the part's own elements.
        let (x, y) = (&x[at.clone()], unsafe { y.at(at.start, at.len()) });
        dispatch!(set, forward_simd(x: &[f32], y: &mut [f32]));
    });
}

/// `y = gelu(x)` again (the product that needs it comes later than its forward), and `d ← d · gelu'(x)`.
pub fn backward(set: KernelSet, x: &[f32], y: &mut [f32], d: &mut [f32]) {
    assert!(x.len() == y.len() && x.len() == d.len());
    if set == KernelSet::Naive {
        return naive::backward(x, y, d);
    }
    let (n, y, d) = (x.len(), Lent::new(y), Lent::new(d));
    split(n.div_ceil(GRAIN), |p, _| {
        let at = p.start * GRAIN..n.min(p.end * GRAIN);
        // SAFETY: the part's own elements.
        let (y, d) = unsafe { (y.at(at.start, at.len()), d.at(at.start, at.len())) };
        let x = &x[at];
        dispatch!(set, backward_simd(x: &[f32], y: &mut [f32], d: &mut [f32]));
    });
}

/// σ(2u) for each lane, and x²; `COARSE` to 1e-4, for what is rounded to bf16.
#[inline(always)]
unsafe fn gate<S: Simd, const COARSE: bool>(x: S::V) -> (S::V, S::V) {
    // SAFETY: registers only.
    unsafe {
        let square = S::mul(x, x);
        // −2u·log2 e; beyond 126 the gate is 0 anyway, and a Newton step from 1/∞ would make NaN of ∞·0.
        const SLOPE: f64 = -2.0 * SQRT_2_OVER_PI * std::f64::consts::LOG2_E;
        let y = S::mul(x, S::fma(square, S::splat((SLOPE * CUBIC) as f32), S::splat(SLOPE as f32)));
        let y = S::min(S::splat(126.0), y);
        let e = if COARSE { exp2_coarse::<S, false>(y) } else { exp2::<S>(y) };
        // The fourteen bits of an estimate without a Newton step are too few even for bf16: a product of one that lies
        // near the middle between two neighbours is rounded to the wrong one.
        (S::reciprocal(S::add(S::splat(1.0), e)), square)
    }
}

/// g and g' of each lane; `COARSE` to 1e-4, for what is rounded to bf16.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn value_and_slope<S: Simd, const COARSE: bool>(x: S::V) -> (S::V, S::V) {
    // SAFETY: registers only.
    unsafe {
        let (s, square) = gate::<S, COARSE>(x);
        let g = S::mul(x, s);
        let two_du = S::fma(
            square,
            S::splat((6.0 * SQRT_2_OVER_PI * CUBIC) as f32),
            S::splat((2.0 * SQRT_2_OVER_PI) as f32),
        );
        // g' = s + g(1 − s)·2u'
        (g, S::fma(S::mul(g, S::sub(S::splat(1.0), s)), two_du, s))
    }
}

#[inline(always)]
unsafe fn forward_simd<S: Simd>(x: &[f32], y: &mut [f32]) {
    sweep!(S, x.len(), |i, count| {
        // SAFETY: i + count ≤ the common length.
        unsafe {
            let v = load_n::<S>(x.as_ptr().add(i), count);
            store_n::<S>(y.as_mut_ptr().add(i), S::mul(v, gate::<S, false>(v).0), count);
        }
    });
}

#[inline(always)]
unsafe fn backward_simd<S: Simd>(x: &[f32], y: &mut [f32], d: &mut [f32]) {
    sweep!(S, x.len(), |i, count| {
        // SAFETY: i + count ≤ the common length.
        unsafe {
            let v = load_n::<S>(x.as_ptr().add(i), count);
            let (g, slope) = value_and_slope::<S, false>(v);
            store_n::<S>(y.as_mut_ptr().add(i), g, count);
            let p = d.as_mut_ptr().add(i);
            store_n::<S>(p, S::mul(load_n::<S>(p, count), slope), count);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_agrees_with_the_formula_in_f64() {
        let x: Vec<f32> =
            (0..4001).map(|i| -10.0 + i as f32 * 0.005).chain([-1e4, -50.0, 50.0, 1e4]).collect();
        let x64: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (mut y64, mut d64) = (vec![0.0; x.len()], vec![1.5; x.len()]);
        naive::backward(&x64, &mut y64, &mut d64);
        for set in KernelSet::runnable() {
            let (mut y, mut again, mut d) = (vec![0f32; x.len()], vec![0f32; x.len()], vec![1.5f32; x.len()]);
            forward(set, &x, &mut y);
            backward(set, &x, &mut again, &mut d);
            assert_eq!(y, again);
            for i in 0..x.len() {
                assert!(
                    (f64::from(y[i]) - y64[i]).abs() < 1e-6 * (1.0 + x64[i].abs()),
                    "{set:?} gelu({})",
                    x[i]
                );
                assert!(
                    (f64::from(d[i]) - d64[i]).abs() < 4e-6,
                    "{set:?} gelu'({}) {} {}",
                    x[i],
                    d[i],
                    d64[i]
                );
            }
        }
    }

    #[inline(always)]
    unsafe fn coarse<S: Simd>(x: &[f32], y: &mut [f32], d: &mut [f32]) {
        sweep!(S, x.len(), |i, count| {
            // SAFETY: i + count ≤ the common length.
            unsafe {
                let (g, slope) = value_and_slope::<S, true>(load_n::<S>(x.as_ptr().add(i), count));
                store_n::<S>(y.as_mut_ptr().add(i), g, count);
                store_n::<S>(d.as_mut_ptr().add(i), slope, count);
            }
        });
    }

    #[test]
    fn coarse_values_are_a_fraction_of_a_bf16_off_and_finite_everywhere() {
        let x: Vec<f32> =
            (0..4001).map(|i| -10.0 + i as f32 * 0.005).chain([-1e9, -1e4, -50.0, 50.0, 1e4, 1e9]).collect();
        let x64: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (mut y64, mut d64) = (vec![0.0; x.len()], vec![1.0; x.len()]);
        naive::backward(&x64, &mut y64, &mut d64);
        for set in KernelSet::runnable().filter(|&set| set != KernelSet::Naive) {
            let (mut y, mut d) = (vec![0f32; x.len()], vec![0f32; x.len()]);
            let (from, value, slope): (&[f32], &mut [f32], &mut [f32]) = (&x, &mut y, &mut d);
            dispatch!(set, coarse(from: &[f32], value: &mut [f32], slope: &mut [f32]));
            for i in 0..x.len() {
                let (value, slope) = (f64::from(y[i]), f64::from(d[i]));
                // bf16 is 2⁻⁹ = 2e-3 of a value wide to either side.
                assert!(
                    (value - y64[i]).abs() < 1e-4 * (y64[i].abs() + 1e-2),
                    "{set:?} gelu({}) = {value}",
                    x[i]
                );
                assert!((slope - d64[i]).abs() < 4e-4, "{set:?} gelu'({}) = {slope}, not {}", x[i], d64[i]);
            }
        }
    }

    #[test]
    fn the_derivative_is_the_limit_of_differences() {
        for i in -60..60 {
            let (x, h) = (f64::from(i) * 0.1, 1e-5);
            let (mut y, mut d) = ([0.0], [1.0]);
            naive::backward(&[x], &mut y, &mut d);
            let (mut up, mut down) = ([0.0], [0.0]);
            naive::forward(&[x + h], &mut up);
            naive::forward(&[x - h], &mut down);
            assert!(((up[0] - down[0]) / (2.0 * h) - d[0]).abs() < 1e-9);
        }
    }
}
