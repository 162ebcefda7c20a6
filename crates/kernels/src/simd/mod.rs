//! A vector of a few `f32` lanes, and what each processor makes of it.
//!
//! Methods are `unsafe` because a vector type may only be used inside a function compiled for its processor
//! feature (see `dispatch!`), and because pointers must be valid for the lanes they name.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use crate::bf16;
#[cfg(target_arch = "x86_64")]
pub(crate) use amx::request as request_amx;
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::{Amx, Avx512, Avx512Bf16};
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
    /// 1/a within an ulp or two, for a from 1 to 2¹²⁶.
    #[inline(always)]
    unsafe fn reciprocal(a: Self::V) -> Self::V {
        unsafe { Self::div(Self::splat(1.0), a) }
    }
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
    /// a where x > 0, else b; b where x is NaN.
    unsafe fn if_positive(x: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(a: Self::V) -> f32;
    /// Largest lane.
    unsafe fn max_lane(a: Self::V) -> f32;

    /// Stores `LANES` values rounded to bf16.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        let mut lanes = [0f32; 16];
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for (i, x) in lanes.into_iter().enumerate().take(Self::LANES) {
                *p.add(i) = bf16::round(x);
            }
        }
    }
    /// Stores `2·LANES` values rounded to bf16.
    #[inline(always)]
    unsafe fn store_bf16_line(p: *mut u16, first: Self::V, second: Self::V) {
        unsafe {
            Self::store_bf16(p, first);
            Self::store_bf16(p.add(Self::LANES), second);
        }
    }
    /// Stores `even[0], odd[0], even[1], odd[1], …` rounded to bf16.
    #[inline(always)]
    unsafe fn store_bf16_pairs(p: *mut u16, even: Self::V, odd: Self::V) {
        let mut lanes = [[0f32; 16]; 2];
        unsafe {
            Self::store(lanes[0].as_mut_ptr(), even);
            Self::store(lanes[1].as_mut_ptr(), odd);
            for i in 0..Self::LANES {
                *p.add(2 * i) = bf16::round(lanes[0][i]);
                *p.add(2 * i + 1) = bf16::round(lanes[1][i]);
            }
        }
    }
    /// Stores two rows of `LANES` values rounded to bf16.
    #[inline(always)]
    unsafe fn store_bf16_rows(rows: [*mut u16; 2], even: Self::V, odd: Self::V) {
        unsafe {
            Self::store_bf16(rows[0], even);
            Self::store_bf16(rows[1], odd);
        }
    }
    /// Both orders at once.
    #[inline(always)]
    unsafe fn store_bf16_rows_and_pairs(rows: [*mut u16; 2], pairs: *mut u16, even: Self::V, odd: Self::V) {
        unsafe {
            Self::store_bf16_rows(rows, even, odd);
            Self::store_bf16_pairs(pairs, even, odd);
        }
    }
    /// `LANES` bf16, widened.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        let mut lanes = [0f32; 16];
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
                *lane = bf16::widen(*p.add(i));
            }
            Self::load(lanes.as_ptr())
        }
    }
    /// 16 pairs of bf16, widened: the even elements, then the odd ones.
    #[inline(always)]
    unsafe fn widen_pairs(p: *const u16) -> [[f32; 16]; 2] {
        let mut lanes = [[0f32; 16]; 2];
        for i in 0..16 {
            unsafe {
                lanes[0][i] = bf16::widen(*p.add(2 * i));
                lanes[1][i] = bf16::widen(*p.add(2 * i + 1));
            }
        }
        lanes
    }
    /// Whether [`Simd::fraction`] is an instruction, and [`Simd::scale2`] rounds n down.
    const TAKES_FRACTIONS: bool = false;
    /// a − ⌊a⌋, where `TAKES_FRACTIONS`.
    #[inline(always)]
    unsafe fn fraction(a: Self::V) -> Self::V {
        a
    }
    /// p·2^n for whole n in −126..=127 and p from 0.7 to 1.5.
    #[inline(always)]
    unsafe fn scale2(p: Self::V, n: Self::V) -> Self::V {
        unsafe { Self::mul(p, Self::exp2_whole(n)) }
    }
    /// From a left cell of bf16 to the right cell of the same elements: each two rows side by side.
    #[inline(always)]
    unsafe fn interleave(from: &[u16; 1024], to: &mut [u16; 1024]) {
        for pair in 0..16 {
            let (even, odd) = from[pair * 64..pair * 64 + 64].split_at(32);
            for half in 0..2 {
                let to = &mut to[half * 512 + pair * 32..][..32];
                for i in 0..16 {
                    to[2 * i] = even[half * 16 + i];
                    to[2 * i + 1] = odd[half * 16 + i];
                }
            }
        }
    }
    /// From a left cell of bf16 to the left cell of its transpose.
    #[inline(always)]
    unsafe fn turn(from: &[u16; 1024], to: &mut [u16; 1024]) {
        let mut paired = [0u16; 1024];
        unsafe {
            Self::interleave(from, &mut paired);
            for half in [0, 512] {
                Self::transpose(paired.as_ptr().add(half).cast(), to.as_mut_ptr().add(half).cast(), 16);
            }
        }
    }
    /// Turns 16×16 words of 32 bits, rows of 16 to rows `stride` apart.
    #[inline(always)]
    unsafe fn transpose(from: *const u32, to: *mut u32, stride: usize) {
        for i in 0..16 {
            for j in 0..16 {
                unsafe { to.add(j * stride + i).write_unaligned(from.add(i * 16 + j).read_unaligned()) }
            }
        }
    }
    /// What must happen before the first [`Simd::block`] of a region, on the thread that runs it.
    #[inline(always)]
    unsafe fn enter() {}
    /// What must happen after the last.
    #[inline(always)]
    unsafe fn leave() {}
    /// A 32×32 block of a product of bf16 cells (see [`crate::tiles`]): `c[32,32] = Σ over segments of a·b`.
    ///
    /// The default is the twin of the matrix units: every operand widened, products in f32, k in order.
    ///
    /// # Safety
    /// Each segment points to `size.depth.div_ceil(32)` cells on either side, `c` to 1,024 floats.
    #[inline(always)]
    unsafe fn block(segments: &[Segment], size: BlockSize, c: *mut f32) {
        unsafe { block_in_f32::<Self>(segments, size, c) }
    }
    /// [`Simd::block`] added to what the rows of `c` hold.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn block_add(segments: &[Segment], size: BlockSize, c: *mut f32) {
        let mut sums = [0f32; 1024];
        unsafe {
            Self::block(segments, size, sums.as_mut_ptr());
            for at in (0..size.rows * 32).step_by(Self::LANES) {
                let sum = Self::add(Self::load(c.add(at)), Self::load(sums.as_ptr().add(at)));
                Self::store(c.add(at), sum);
            }
        }
    }
    /// Whether blocks are a unit's own business, beside which vectors go on, and may be stored to rows anywhere.
    const MATRIX_UNIT: bool = false;
    /// [`Simd::block`] of operands that lie far, which asks for what `ahead` names; rows of c are `stride` floats
    /// apart: 32, unless there is a `MATRIX_UNIT`.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn block_ahead(segments: &[Segment], size: BlockSize, c: *mut f32, stride: usize, ahead: Ahead) {
        let _ = (stride, ahead);
        unsafe { Self::block(segments, size, c) }
    }
}

/// What will be needed later, as a hint: 512 bytes with each cell's step, `apart` from each other, from `offset` behind
/// each segment's right operand on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ahead {
    /// Bytes, modulo the address space.
    pub offset: usize,
    /// Bytes.
    pub apart: usize,
}

/// One stretch of k: the left operand's cells of 32 rows, the right operand's of 32 columns.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Segment {
    /// First cell of the left operand.
    pub a: *const u16,
    /// First cell of the right operand.
    pub b: *const u16,
}

/// How much of a block matters; the rest of `c` may or may not be written.
#[derive(Debug, Clone, Copy)]
pub struct BlockSize {
    /// Rows, 1 to 32.
    pub rows: usize,
    /// Columns, 1 to 32.
    pub cols: usize,
    /// Steps of k in each segment.
    pub depth: usize,
}

/// [`Simd::block`] for processors without a bf16 product: 4 rows by 16 columns at a time.
#[inline(always)]
unsafe fn block_in_f32<S: Simd>(segments: &[Segment], size: BlockSize, c: *mut f32) {
    const ROWS: usize = 4;
    let vectors = 16 / S::LANES;
    for half in 0..size.cols.div_ceil(16) {
        for first in (0..size.rows).step_by(ROWS) {
            // SAFETY: a cell has 32 rows, so `first + 3 < 32`; 16 / LANES ≤ 4 vectors.
            unsafe {
                let mut acc = [[S::splat(0.0); 4]; ROWS];
                for segment in segments {
                    for pair in 0..size.depth.div_ceil(2) {
                        let a = segment.a.add(pair / 16 * 1024 + first * 32 + pair % 16 * 2);
                        let b = segment.b.add(pair / 16 * 1024 + half * 512 + pair % 16 * 32);
                        let lanes = S::widen_pairs(b);
                        for r in 0..ROWS {
                            for odd in 0..2 {
                                let x = S::splat(bf16::widen(*a.add(r * 32 + odd)));
                                for v in 0..vectors {
                                    let y = S::load(lanes[odd].as_ptr().add(v * S::LANES));
                                    acc[r][v] = S::fma(x, y, acc[r][v]);
                                }
                            }
                        }
                    }
                }
                for r in 0..ROWS {
                    for v in 0..vectors {
                        S::store(c.add((first + r) * 32 + half * 16 + v * S::LANES), acc[r][v]);
                    }
                }
            }
        }
    }
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

/// Asks for the cache line of `p`, which need not be readable.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of every x86-64 processor; a hint, which never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelSet;
    use crate::set::dispatch;

    /// Every move of bf16 against `bf16::round` and `bf16::widen`, on 16 even and 16 odd values.
    #[inline(always)]
    unsafe fn check_bf16<S: Simd>(even: &[f32; 16], odd: &[f32; 16]) {
        let (mut rows, mut both_rows, mut single) = ([[0u16; 16]; 2], [[0u16; 16]; 2], [0u16; 16]);
        let (mut pairs, mut both_pairs, mut wide) = ([0u16; 32], [0u16; 32], [0f32; 16]);
        for i in (0..16).step_by(S::LANES) {
            // SAFETY: i + LANES ≤ 16, and pairs are twice as many.
            let at =
                |rows: &mut [[u16; 16]; 2]| rows.each_mut().map(|row| unsafe { row.as_mut_ptr().add(i) });
            unsafe {
                let (e, o) = (S::load(even.as_ptr().add(i)), S::load(odd.as_ptr().add(i)));
                S::store_bf16(single.as_mut_ptr().add(i), e);
                S::store_bf16_rows(at(&mut rows), e, o);
                S::store_bf16_pairs(pairs.as_mut_ptr().add(2 * i), e, o);
                S::store_bf16_rows_and_pairs(at(&mut both_rows), both_pairs.as_mut_ptr().add(2 * i), e, o);
                S::store(wide.as_mut_ptr().add(i), S::load_bf16(single.as_ptr().add(i)));
            }
        }
        // SAFETY: 16 pairs.
        let [wide_even, wide_odd] = unsafe { S::widen_pairs(pairs.as_ptr()) };
        let bits = |x: f32| (x.to_bits(), x.is_nan());
        for i in 0..16 {
            let (e, o) = (bf16::round(even[i]), bf16::round(odd[i]));
            let what = (even[i], odd[i]);
            assert_eq!((single[i], rows[0][i], rows[1][i]), (e, e, o), "{what:?}");
            assert_eq!((pairs[2 * i], pairs[2 * i + 1]), (e, o), "{what:?}");
            assert_eq!(bits(wide[i]), bits(bf16::widen(e)), "{what:?}");
            assert_eq!(bits(wide_even[i]), bits(bf16::widen(e)), "{what:?}");
            assert_eq!(bits(wide_odd[i]), bits(bf16::widen(o)), "{what:?}");
        }
        assert_eq!((both_rows, both_pairs), (rows, pairs));
    }

    #[test]
    fn every_set_moves_bf16_as_plain_loops_do() {
        // No denormals: `vcvtneps2bf16` makes zeros of them.
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
        // Ties to either side, their neighbours, NaNs whose set bits are all in the half that goes.
        let patterns = [
            0x3f80_7fff,
            0x3f80_8000,
            0x3f80_8001,
            0x3f81_7fff,
            0x3f81_8000,
            0x3f81_8001,
            0x7f80_0001,
            0xff80_0001u32,
        ];
        let odd: [f32; 16] =
            std::array::from_fn(|i| if i < 8 { special[i] } else { f32::from_bits(patterns[i - 8]) });
        let even = std::array::from_fn(|i| -odd[15 - i]);
        for set in KernelSet::runnable() {
            let (even, odd) = (&even, &odd);
            dispatch!(set, check_bf16(even: &[f32; 16], odd: &[f32; 16]));
        }
    }

    /// The first `n` elements, for every n.
    #[inline(always)]
    unsafe fn check_partial<S: Simd>(x: &[f32; 16]) {
        for n in 0..=S::LANES {
            let (mut whole, mut part) = ([9f32; 16], [9f32; 16]);
            let first: Box<[f32]> = x[..n].into();
            // SAFETY: n elements are read and written, and LANES ≤ 16.
            unsafe {
                let v = S::load_first(first.as_ptr(), n);
                S::store(whole.as_mut_ptr(), v);
                S::store_first(part.as_mut_ptr(), S::load(x.as_ptr()), n);
            }
            for i in 0..16 {
                let beyond = if i < S::LANES { 0.0 } else { 9.0 };
                assert_eq!(whole[i], if i < n { x[i] } else { beyond }, "load {n}");
                assert_eq!(part[i], if i < n { x[i] } else { 9.0 }, "store {n}");
            }
        }
    }

    #[test]
    fn partial_vectors_are_the_first_elements_and_zeros() {
        let x: [f32; 16] = std::array::from_fn(|i| i as f32 + 1.0);
        for set in KernelSet::runnable() {
            let x = &x;
            dispatch!(set, check_partial(x: &[f32; 16]));
        }
    }
}
