//! Sixteen lanes: AVX-512F, the same with AVX512-BF16, and with the tiles of AMX.

use super::{Ahead, BlockSize, Segment, Simd, amx};
use std::arch::x86_64::*;

/// A 512-bit vector.
#[derive(Debug, Clone, Copy)]
pub struct Avx512;

/// The same; products of bf16 by `vdpbf16ps`.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16;

/// The same; products of bf16 by `tdpbf16ps`.
#[derive(Debug, Clone, Copy)]
pub struct Amx;

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// The arithmetic all three share.
macro_rules! sixteen_lanes {
    () => {
        type V = __m512;
        const LANES: usize = 16;
        const MAX_ROWS: usize = 12;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask(n), p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
            unsafe { _mm512_mask_storeu_ps(p, mask(n), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sqrt(a: __m512) -> __m512 {
            unsafe { _mm512_sqrt_ps(a) }
        }
        #[inline(always)]
        unsafe fn reciprocal(a: __m512) -> __m512 {
            // 14 bits, and a Newton step twice as many. A division takes three to four times as long.
            unsafe {
                let r = _mm512_rcp14_ps(a);
                _mm512_fmadd_ps(_mm512_fnmadd_ps(a, r, _mm512_set1_ps(1.0)), r, r)
            }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn round(a: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn exp2_whole(n: __m512) -> __m512 {
            unsafe {
                let bits = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits))
            }
        }
        #[inline(always)]
        unsafe fn flush(a: __m512, floor: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(a), floor), a) }
        }
        #[inline(always)]
        unsafe fn if_positive(x: __m512, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps()), a) }
        }
        #[inline(always)]
        unsafe fn sum(a: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(a) }
        }
        #[inline(always)]
        unsafe fn max_lane(a: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(a) }
        }

        #[inline(always)]
        unsafe fn scale2(p: __m512, n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(p, n) }
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16) -> __m512 {
            unsafe {
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
                    p.cast(),
                ))))
            }
        }
        #[inline(always)]
        unsafe fn transpose(from: *const u32, to: *mut u32, stride: usize) {
            unsafe { transpose(from, to, stride) }
        }
    };
}

/// Rounding by instruction, and moves of 16-bit elements, which need AVX-512BW; fractions, which need AVX-512DQ.
macro_rules! bf16_moves {
    () => {
        const TAKES_FRACTIONS: bool = true;
        #[inline(always)]
        unsafe fn fraction(a: __m512) -> __m512 {
            unsafe { _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn store_bf16_line(p: *mut u16, first: __m512, second: __m512) {
            unsafe { _mm512_storeu_si512(p.cast(), both(first, second)) }
        }
        #[inline(always)]
        unsafe fn interleave(from: &[u16; 1024], to: &mut [u16; 1024]) {
            unsafe { interleave(from.as_ptr(), to.as_mut_ptr()) }
        }
        #[inline(always)]
        unsafe fn turn(from: &[u16; 1024], to: &mut [u16; 1024]) {
            unsafe { turn(from.as_ptr(), to.as_mut_ptr()) }
        }
        #[inline(always)]
        unsafe fn store_bf16(p: *mut u16, v: __m512) {
            unsafe {
                _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)))
            }
        }
        #[inline(always)]
        unsafe fn store_bf16_pairs(p: *mut u16, even: __m512, odd: __m512) {
            unsafe { _mm512_storeu_si512(p.cast(), paired(both(even, odd))) }
        }
        #[inline(always)]
        unsafe fn store_bf16_rows(rows: [*mut u16; 2], even: __m512, odd: __m512) {
            unsafe { store_rows(rows, both(even, odd)) }
        }
        #[inline(always)]
        unsafe fn store_bf16_rows_and_pairs(rows: [*mut u16; 2], pairs: *mut u16, even: __m512, odd: __m512) {
            unsafe {
                let both = both(even, odd);
                store_rows(rows, both);
                _mm512_storeu_si512(pairs.cast(), paired(both));
            }
        }
    };
}

impl Simd for Avx512 {
    sixteen_lanes!();

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(v)))) }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(p: *mut u16, even: __m512, odd: __m512) {
        unsafe {
            let high = _mm512_and_si512(rounded(odd), _mm512_set1_epi32(0xffff_0000_u32 as i32));
            _mm512_storeu_si512(p.cast(), _mm512_or_si512(_mm512_srli_epi32::<16>(rounded(even)), high));
        }
    }
}

impl Simd for Avx512Bf16 {
    sixteen_lanes!();
    bf16_moves!();

    #[inline(always)]
    unsafe fn block(segments: &[Segment], size: BlockSize, c: *mut f32) {
        unsafe {
            if size.cols > 16 {
                rows_of_block::<2>(segments, size, c);
            } else {
                rows_of_block::<1>(segments, size, c);
            }
        }
    }
}

impl Simd for Amx {
    sixteen_lanes!();
    bf16_moves!();

    #[inline(always)]
    unsafe fn enter() {
        unsafe { amx::configure() }
    }
    #[inline(always)]
    unsafe fn leave() {
        unsafe { amx::release() }
    }
    #[inline(always)]
    unsafe fn block(segments: &[Segment], size: BlockSize, c: *mut f32) {
        unsafe { amx::block(segments, size, c) }
    }
    #[inline(always)]
    unsafe fn block_add(segments: &[Segment], size: BlockSize, c: *mut f32) {
        unsafe { amx::block_add(segments, size, c) }
    }
    const MATRIX_UNIT: bool = true;
    #[inline(always)]
    unsafe fn block_ahead(segments: &[Segment], size: BlockSize, c: *mut f32, stride: usize, ahead: Ahead) {
        unsafe { amx::block_ahead(segments, size, c, stride, ahead) }
    }
}

/// The even vector rounded, then the odd one.
#[inline(always)]
unsafe fn both(even: __m512, odd: __m512) -> __m512i {
    // SAFETY: registers only; both types are 64 bytes of any pattern.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even)) }
}

/// Its halves side by side, element by element.
#[inline(always)]
unsafe fn paired(both: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = i as u16;
            order[2 * i + 1] = 16 + i as u16;
            i += 1;
        }
        order
    };
    // SAFETY: 64 readable bytes.
    unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(ORDER.as_ptr().cast()), both) }
}

/// Its halves one below the other.
#[inline(always)]
unsafe fn store_rows(rows: [*mut u16; 2], both: __m512i) {
    // SAFETY: each pointer has 16 elements.
    unsafe {
        _mm256_storeu_si256(rows[0].cast(), _mm512_castsi512_si256(both));
        _mm256_storeu_si256(rows[1].cast(), _mm512_extracti64x4_epi64::<1>(both));
    }
}

/// Each lane rounded to bf16 in its upper half; a NaN keeps a set bit there.
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m512i {
    // SAFETY: registers only.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x0040_0000))
    }
}

/// A block in groups of rows that leave their sums in registers.
#[inline(always)]
unsafe fn rows_of_block<const HALVES: usize>(segments: &[Segment], size: BlockSize, c: *mut f32) {
    let mut first = 0;
    while first < size.rows {
        // SAFETY: a cell has 32 rows; groups of 12, 12 and 8, or 8 and 4, never pass them.
        first += unsafe {
            match size.rows - first {
                9.. if first <= 20 => group::<12, HALVES>(segments, size.depth, first, c),
                5.. => group::<8, HALVES>(segments, size.depth, first, c),
                _ => group::<4, HALVES>(segments, size.depth, first, c),
            }
        };
    }
}

#[inline(always)]
unsafe fn group<const ROWS: usize, const HALVES: usize>(
    segments: &[Segment],
    depth: usize,
    first: usize,
    c: *mut f32,
) -> usize {
    // SAFETY: a pair of k lies at dword 16·row + pair%16 of the left cell and row pair%16 of each right tile.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); HALVES]; ROWS];
        for segment in segments {
            let (mut a, mut b) = (segment.a.cast::<i32>().add(first * 16), segment.b);
            let mut pairs = depth.div_ceil(2);
            while pairs > 0 {
                let here = pairs.min(16);
                for p in 0..here {
                    let mut y = [_mm512_setzero_si512(); HALVES];
                    for h in 0..HALVES {
                        y[h] = _mm512_loadu_si512(b.add(h * 512 + p * 32).cast());
                    }
                    for r in 0..ROWS {
                        let x = _mm512_set1_epi32(a.add(r * 16 + p).read_unaligned());
                        for h in 0..HALVES {
                            acc[r][h] = _mm512_dpbf16_ps(
                                acc[r][h],
                                std::mem::transmute::<__m512i, __m512bh>(x),
                                std::mem::transmute::<__m512i, __m512bh>(y[h]),
                            );
                        }
                    }
                }
                pairs -= here;
                a = a.wrapping_add(512);
                b = b.wrapping_add(1024);
            }
        }
        for r in 0..ROWS {
            for h in 0..HALVES {
                _mm512_storeu_ps(c.add((first + r) * 32 + h * 16), acc[r][h]);
            }
        }
    }
    ROWS
}

/// See [`Simd::interleave`].
#[inline(always)]
unsafe fn interleave(from: *const u16, to: *mut u16) {
    // SAFETY: 32 rows of 64 bytes on either side.
    unsafe {
        for pair in 0..16 {
            for half in 0..2 {
                let wide = |row: usize| {
                    _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.add(row * 32 + half * 16).cast()))
                };
                let both = _mm512_or_si512(wide(2 * pair), _mm512_slli_epi32::<16>(wide(2 * pair + 1)));
                _mm512_storeu_si512(to.add(half * 512 + pair * 32).cast(), both);
            }
        }
    }
}

/// 128 bits from each of four places, as lanes of one vector: broadcasts under a mask need no shuffle unit, of which
/// processors have one where they have two or more to load and blend.
#[inline(always)]
unsafe fn lanes(p: *const u8, stride: usize) -> __m512i {
    // SAFETY: the caller's four times 16 bytes.
    unsafe {
        let x = _mm512_castsi128_si512(_mm_loadu_si128(p.cast()));
        let x = _mm512_mask_broadcast_i32x4(x, 0x00f0, _mm_loadu_si128(p.add(stride).cast()));
        let x = _mm512_mask_broadcast_i32x4(x, 0x0f00, _mm_loadu_si128(p.add(2 * stride).cast()));
        _mm512_mask_broadcast_i32x4(x, 0xf000, _mm_loadu_si128(p.add(3 * stride).cast()))
    }
}

/// See [`Simd::turn`]. Eight columns at a time: lanes of rows 0, 8, 16, 24 and so on, then 8×8 elements of 16 bits
/// turned in each lane by three rounds of exchanges.
#[inline(always)]
unsafe fn turn(from: *const u16, to: *mut u16) {
    // SAFETY: 32 rows of 64 bytes on either side.
    unsafe {
        for group in 0..4 {
            let mut x = [_mm512_setzero_si512(); 8];
            for (k, x) in x.iter_mut().enumerate() {
                *x = lanes(from.add(k * 32 + group * 8).cast(), 8 * 64);
            }
            let mut y = x;
            for i in 0..4 {
                y[2 * i] = _mm512_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
                y[2 * i + 1] = _mm512_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
            }
            for i in [0, 1, 4, 5] {
                let j = i / 4 * 4 + i % 2 * 2;
                x[j] = _mm512_unpacklo_epi32(y[i], y[i + 2]);
                x[j + 1] = _mm512_unpackhi_epi32(y[i], y[i + 2]);
            }
            for i in 0..4 {
                let to = to.add((group * 8 + 2 * i) * 32);
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi64(x[i], x[i + 4]));
                _mm512_storeu_si512(to.add(32).cast(), _mm512_unpackhi_epi64(x[i], x[i + 4]));
            }
        }
    }
}

/// See [`Simd::transpose`]; four columns at a time, as [`turn`] does eight.
#[inline(always)]
unsafe fn transpose(from: *const u32, to: *mut u32, stride: usize) {
    // SAFETY: 16 rows of 16 words on either side.
    unsafe {
        for group in 0..4 {
            let from = from.add(group * 4);
            let (a, b) = (lanes(from.cast(), 4 * 64), lanes(from.add(16).cast(), 4 * 64));
            let (c, d) = (lanes(from.add(32).cast(), 4 * 64), lanes(from.add(48).cast(), 4 * 64));
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (high_ab, high_cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            let rows = [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(high_ab, high_cd),
                _mm512_unpackhi_epi64(high_ab, high_cd),
            ];
            for (i, row) in rows.into_iter().enumerate() {
                _mm512_storeu_si512(to.add((group * 4 + i) * stride).cast(), row);
            }
        }
    }
}
