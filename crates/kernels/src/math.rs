//! Our own 2^y and ln: the same bits on every system, since libm differs between them.

use crate::simd::Simd;

/// Below this 2^y would be denormal.
const EXP2_LOWEST: f32 = -126.0;

/// 2^y for each lane, y at most 127 and clamped to at least −126; relative error at most 3e-7. NaN stays NaN.
///
/// y = n + r, |r| ≤ ½, then the polynomial of degree 5 closest to 2^r in relative error (fitted by exchange; 7.5e-8).
///
/// # Safety
/// As [`Simd`]; y must be at most 127.
#[inline(always)]
pub(crate) unsafe fn exp2<S: Simd>(y: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe {
        // The operands' order keeps NaN: x86 returns the second if either is none.
        let y = S::max(S::splat(EXP2_LOWEST), y);
        let n = S::round(y);
        let r = S::sub(y, n);
        let mut p = S::splat(1.327_647e-3);
        for c in [9.675_541e-3, 5.550_713_3e-2, 2.402_212e-1, 6.931_469_7e-1, 1.0] {
            p = S::fma(p, r, S::splat(c));
        }
        S::scale2(p, n)
    }
}

/// 2^y of what is rounded to bf16 afterwards, y at most 127 and clamped to at least −126: relative error at most 3e-6
/// (`FINE`) or 8e-5 where a processor takes fractions by instruction, else [`exp2`]. NaN stays NaN.
///
/// y = n + r, 0 ≤ r < 1, then a polynomial of degree 4 or 3 closest to 2^r; the scaling rounds y down to n by itself.
///
/// # Safety
/// As [`exp2`].
#[inline(always)]
pub(crate) unsafe fn exp2_coarse<S: Simd, const FINE: bool>(y: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe {
        if !S::TAKES_FRACTIONS {
            return exp2::<S>(y);
        }
        let y = S::max(S::splat(EXP2_LOWEST), y);
        let r = S::fraction(y);
        let p = if FINE {
            let mut p = S::splat(1.353_416_8e-2);
            for c in [5.201_146e-2, 2.414_427_6e-1, 6.930_038_4e-1, 1.000_002_6] {
                p = S::fma(p, r, S::splat(c));
            }
            p
        } else {
            let mut p = S::splat(7.802_452e-2);
            for c in [2.260_671_6e-1, 6.958_335_5e-1, 9.999_252e-1] {
                p = S::fma(p, r, S::splat(c));
            }
            p
        };
        S::scale2(p, y)
    }
}

/// Natural logarithm of a positive normal `f32`, computed in f64 with only basic operations; error below 1e-9.
///
/// x = 2^e·m with m in [√½, √2); ln m = 2 artanh((m−1)/(m+1)) by its series to the 15th power.
pub fn ln(x: f32) -> f32 {
    if x <= 0.0 || !x.is_finite() {
        return if x == 0.0 {
            f32::NEG_INFINITY
        } else if x == f32::INFINITY {
            x
        } else {
            f32::NAN
        };
    }
    let bits = f64::from(x).to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let mut series = 1.0 / 15.0;
    for k in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0f64] {
        series = series * z2 + 1.0 / k;
    }
    (2.0 * z * series + exponent as f64 * std::f64::consts::LN_2) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelSet;
    use crate::set::dispatch;

    #[inline(always)]
    unsafe fn exp2_into<S: Simd>(x: &[f32], y: &mut [f32]) {
        crate::simd::sweep!(S, x.len(), |i, count| {
            unsafe {
                let v = exp2::<S>(crate::simd::load_n::<S>(x.as_ptr().add(i), count));
                crate::simd::store_n::<S>(y.as_mut_ptr().add(i), v, count);
            }
        });
    }

    #[test]
    fn exp2_is_within_its_stated_error_and_keeps_nan() {
        let x: Vec<f32> = (0..100_001).map(|i| -126.0 + i as f32 * (250.0 / 100_000.0)).collect();
        for set in KernelSet::runnable().filter(|&s| s != KernelSet::Naive) {
            let mut y = vec![0f32; x.len()];
            let (xs, out): (&[f32], &mut [f32]) = (&x, &mut y);
            dispatch!(set, exp2_into(xs: &[f32], out: &mut [f32]));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp2();
                assert!((f64::from(y) / exact - 1.0).abs() < 3e-7, "{set:?} 2^{x} = {y}, exactly {exact}");
            }
            let (odd, mut y) = ([f32::NAN, -1e30, f32::NEG_INFINITY, -126.4], [0f32; 4]);
            let (xs, out): (&[f32], &mut [f32]) = (&odd, &mut y);
            dispatch!(set, exp2_into(xs: &[f32], out: &mut [f32]));
            assert!(y[0].is_nan() && y[1..].iter().all(|y| y.is_normal() && *y < 1e-37), "{set:?} {y:?}");
        }
    }

    #[inline(always)]
    unsafe fn coarse_into<S: Simd, const FINE: bool>(x: &[f32], y: &mut [f32]) {
        crate::simd::sweep!(S, x.len(), |i, count| {
            unsafe {
                let v = exp2_coarse::<S, FINE>(crate::simd::load_n::<S>(x.as_ptr().add(i), count));
                crate::simd::store_n::<S>(y.as_mut_ptr().add(i), v, count);
            }
        });
    }
    #[inline(always)]
    unsafe fn fine<S: Simd>(x: &[f32], y: &mut [f32]) {
        unsafe { coarse_into::<S, true>(x, y) }
    }
    #[inline(always)]
    unsafe fn coarse<S: Simd>(x: &[f32], y: &mut [f32]) {
        unsafe { coarse_into::<S, false>(x, y) }
    }

    #[test]
    fn coarse_exponentials_are_within_their_stated_errors_and_keep_nan() {
        // Whole numbers too, where the fraction jumps.
        let steps = (0..100_001).map(|i| -126.0 + i as f32 * (253.0 / 100_000.0));
        let x: Vec<f32> = steps.chain((-126..=127).map(|n| n as f32)).map(|y| y.min(127.0)).collect();
        for set in KernelSet::runnable().filter(|&s| s != KernelSet::Naive) {
            for (bound, is_fine) in [(3e-6, true), (8e-5, false)] {
                let run = |xs: &[f32], out: &mut [f32]| {
                    if is_fine {
                        dispatch!(set, fine(xs: &[f32], out: &mut [f32]));
                    } else {
                        dispatch!(set, coarse(xs: &[f32], out: &mut [f32]));
                    }
                };
                let mut y = vec![0f32; x.len()];
                run(&x, &mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    let exact = f64::from(x).exp2();
                    assert!(
                        (f64::from(y) / exact - 1.0).abs() < bound,
                        "{set:?} 2^{x} = {y}, exactly {exact}"
                    );
                }
                let mut y = [0f32; 4];
                run(&[f32::NAN, -1e30, f32::NEG_INFINITY, -126.4], &mut y);
                assert!(y[0].is_nan() && y[1..].iter().all(|y| y.is_finite() && *y < 1e-37), "{set:?} {y:?}");
            }
        }
    }

    #[test]
    fn ln_is_within_its_stated_error() {
        for i in 0..200_000 {
            let x = f32::from_bits(0x0080_0000 + i * 10_000);
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 1e-9 + exact.abs() * 6e-8, "{x}");
        }
        assert!(ln(-1.0).is_nan());
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
    }
}
