//! Four lanes: NEON.

use super::Simd;
use std::arch::aarch64::*;

/// A 128-bit vector.
#[derive(Debug, Clone, Copy)]
pub struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const MAX_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> float32x4_t {
        debug_assert!(n <= 4);
        // Cases, because a copy of n elements is a call, and a call in the loop of a product empties its registers.
        unsafe {
            let zero = vdup_n_f32(0.0);
            match n {
                0 => vdupq_n_f32(0.0),
                1 => vcombine_f32(vset_lane_f32::<0>(*p, zero), zero),
                2 => vcombine_f32(vld1_f32(p), zero),
                3 => vcombine_f32(vld1_f32(p), vset_lane_f32::<0>(*p.add(2), zero)),
                _ => vld1q_f32(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: float32x4_t, n: usize) {
        debug_assert!(n <= 4);
        unsafe {
            match n {
                0 => {}
                1 => *p = vgetq_lane_f32::<0>(v),
                2 => vst1_f32(p, vget_low_f32(v)),
                3 => {
                    vst1_f32(p, vget_low_f32(v));
                    *p.add(2) = vgetq_lane_f32::<2>(v);
                }
                _ => vst1q_f32(p, v),
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: float32x4_t) -> float32x4_t {
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: float32x4_t) -> float32x4_t {
        unsafe {
            let bits = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(bits))
        }
    }
    #[inline(always)]
    unsafe fn flush(a: float32x4_t, floor: float32x4_t) -> float32x4_t {
        unsafe {
            let small = vcltq_f32(vabsq_f32(a), floor);
            vbslq_f32(small, vdupq_n_f32(0.0), a)
        }
    }
    #[inline(always)]
    unsafe fn if_positive(x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcgtq_f32(x, vdupq_n_f32(0.0)), a, b) }
    }
    #[inline(always)]
    unsafe fn sum(a: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(a) }
    }
    #[inline(always)]
    unsafe fn max_lane(a: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(a) }
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: float32x4_t) {
        unsafe { vst1_u16(p, vshrn_n_u32::<16>(rounded(v))) }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(p: *mut u16, even: float32x4_t, odd: float32x4_t) {
        unsafe { vst1q_u16(p, vreinterpretq_u16_u32(vsriq_n_u32::<16>(rounded(odd), rounded(even)))) }
    }
    #[inline(always)]
    unsafe fn widen_pairs(p: *const u16) -> [[f32; 16]; 2] {
        let mut lanes = [[0f32; 16]; 2];
        unsafe {
            for i in (0..16).step_by(4) {
                let pairs = vreinterpretq_u32_u16(vld1q_u16(p.add(2 * i)));
                let (even, odd) = (vshlq_n_u32::<16>(pairs), vandq_u32(pairs, vdupq_n_u32(0xffff_0000)));
                vst1q_f32(lanes[0].as_mut_ptr().add(i), vreinterpretq_f32_u32(even));
                vst1q_f32(lanes[1].as_mut_ptr().add(i), vreinterpretq_f32_u32(odd));
            }
        }
        lanes
    }
    #[inline(always)]
    unsafe fn transpose(from: *const u32, to: *mut u32, stride: usize) {
        for i in (0..16).step_by(4) {
            for j in (0..16).step_by(4) {
                unsafe { transpose_4x4(from.add(i * 16 + j), to.add(j * stride + i), stride) }
            }
        }
    }
}

/// Each lane rounded to bf16 in its upper half; a NaN keeps a set bit there.
#[inline(always)]
unsafe fn rounded(v: float32x4_t) -> uint32x4_t {
    // SAFETY: registers only.
    unsafe {
        let bits = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let sum = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        vbslq_u32(vceqq_f32(v, v), sum, vorrq_u32(bits, vdupq_n_u32(0x0040_0000)))
    }
}

/// Four rows of four words, 16 apart, to four rows `stride` apart.
#[inline(always)]
unsafe fn transpose_4x4(from: *const u32, to: *mut u32, stride: usize) {
    // SAFETY: the caller's four rows of four words on either side; `vld1q` and `vst1q` need no alignment.
    unsafe {
        let mut x = [vdupq_n_u64(0); 4];
        for r in 0..4 {
            x[r] = vreinterpretq_u64_u32(vld1q_u32(from.add(16 * r)));
        }
        // Columns 0 and 1, then 2 and 3: of rows 0 and 2 in `even`, of rows 1 and 3 in `odd`.
        let even = [vtrn1q_u64(x[0], x[2]), vtrn2q_u64(x[0], x[2])];
        let odd = [vtrn1q_u64(x[1], x[3]), vtrn2q_u64(x[1], x[3])];
        for half in 0..2 {
            let (even, odd) = (vreinterpretq_u32_u64(even[half]), vreinterpretq_u32_u64(odd[half]));
            vst1q_u32(to.add(2 * half * stride), vtrn1q_u32(even, odd));
            vst1q_u32(to.add((2 * half + 1) * stride), vtrn2q_u32(even, odd));
        }
    }
}
