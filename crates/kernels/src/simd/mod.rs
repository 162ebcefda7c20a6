//! A vector of a few `f32` lanes, and what each processor makes of it.
//!
//! Methods are `unsafe` because a vector type may only be used inside a function compiled for its processor
//! feature (see `dispatch!`), and because pointers must be valid for the lanes they name.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;

/// Operations on vectors of `LANES` `f32`.
///
/// # Safety
/// Every method must be called inside code compiled for the type's processor feature. `load`/`store` need `LANES`
/// valid elements, the `_first` forms the first `n ≤ LANES` only.
#[expect(
    clippy::missing_safety_doc,
    reason = "one safety contract for all methods, in the trait's documentation"
)]
#[expect(missing_docs, reason = "the methods are the arithmetic their names say")]
pub trait Simd: Copy + 'static {
    type V: Copy;
    const LANES: usize;
    /// Rows of the largest block of the matrix product that stays in registers with two vectors a row.
    const MAX_ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for whole n in −126..=127.
    unsafe fn exp2_whole(n: Self::V) -> Self::V;
    /// Zero where |a| < `floor`, else a: keeps denormals out of the recurrences of the optimiser.
    unsafe fn flush(a: Self::V, floor: Self::V) -> Self::V;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(a: Self::V) -> f32;
    /// Largest lane.
    unsafe fn max_lane(a: Self::V) -> f32;
}

/// Calls `$full(offset)` for whole vectors and `$tail(offset, count)` for the rest of `0..$n`.
macro_rules! sweep {
    ($s:ty, $n:expr, |$i:ident, $count:ident| $body:block) => {{
        let n = $n;
        let mut $i = 0;
        while $i < n {
            let $count = (n - $i).min(<$s>::LANES);
            $body
            $i += <$s>::LANES;
        }
    }};
}
pub(crate) use sweep;

/// Loads `n ≤ LANES` elements; the common case of a whole vector avoids the mask.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn load_n<S: Simd>(p: *const f32, n: usize) -> S::V {
    unsafe { if n == S::LANES { S::load(p) } else { S::load_first(p, n) } }
}

/// Stores `n ≤ LANES` elements.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn store_n<S: Simd>(p: *mut f32, v: S::V, n: usize) {
    unsafe { if n == S::LANES { S::store(p, v) } else { S::store_first(p, v, n) } }
}
