//! The dynamic 8-bit map (Dettmers et al. 2021, arXiv 2110.02861, §1.3): 256 values in −1..1 whose spacing shrinks
//! tenfold with each decade towards zero, so that one byte spans seven orders of magnitude.
//!
//! Decade d = 0..7 holds the middles of N equal cells of 10^(d−6)·[0.1, 1]: N = 2^d of each sign in the signed map,
//! N = 2^(d+1) in the unsigned one; 0 and 1 complete both. Bit for bit the tables of bitsandbytes 0.50.2,
//! `create_dynamic_map(signed, max_exponent_bits=7, total_bits=8)`, so the signed map reaches +1 but only −0.993.
//!
//! The code nearest to x comes from the bits of x: a *bin* is all numbers that share the sign-less top bits of their
//! f32 (exponent and 6 or 7 bits of mantissa), narrow enough to hold at most one midpoint between neighbouring
//! values. A bin's entry holds the code below the midpoint and, under it, the number whose sum with the remaining low
//! bits of x carries into the code just if x lies above the midpoint: a look-up, an addition, a shift.

use crate::set::KernelSet;

/// Decades of the map.
const DECADES: usize = 7;
const POWERS: [f32; DECADES] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// Bits of 1.0, the largest magnitude there is.
const ONE: u32 = 0x3f80_0000;

/// Boundary `i` of `cells` equal cells of [0.1, 1], as `torch.linspace` computes it: from the nearer end, rounded
/// once. The products are exact in f64.
const fn boundary(i: usize, cells: usize) -> f32 {
    let step = (1.0f32 - 0.1f32) / cells as f32;
    if i < cells.div_ceil(2) {
        (0.1f32 as f64 + step as f64 * i as f64) as f32
    } else {
        (1.0 - step as f64 * (cells - i) as f64) as f32
    }
}

/// The `N = first_cells·2^d` values of each decade d in rising order, from index `at`.
const fn fill(mut values: [f32; 256], mut at: usize, first_cells: usize) -> [f32; 256] {
    let mut decade = 0;
    while decade < DECADES {
        let cells = first_cells << decade;
        let mut i = 0;
        while i < cells {
            let middle = (boundary(i, cells) + boundary(i + 1, cells)) / 2.0;
            values[at] = POWERS[decade] * middle;
            at += 1;
            i += 1;
        }
        decade += 1;
    }
    values
}

const fn signed_values() -> [f32; 256] {
    let mut values = fill([0.0; 256], SIGNED_ZERO as usize + 1, 1);
    let mut i = 0;
    while i < SIGNED_ZERO as usize {
        values[i] = -values[2 * SIGNED_ZERO as usize - i];
        i += 1;
    }
    values[255] = 1.0;
    values
}

const fn unsigned_values() -> [f32; 256] {
    let mut values = fill([0.0; 256], UNSIGNED_ZERO as usize + 1, 2);
    values[255] = 1.0;
    values
}

/// The code of 0 in [`SIGNED`].
pub const SIGNED_ZERO: u8 = 127;
/// The code of 0 in [`UNSIGNED`].
pub const UNSIGNED_ZERO: u8 = 0;
/// Values of the codes of first moments, rising: −0.993 … 0 … 1.
pub static SIGNED: [f32; 256] = signed_values();
/// Values of the codes of second moments, rising: 0 … 1.
pub static UNSIGNED: [f32; 256] = unsigned_values();

/// Plain loops.
pub mod naive {
    /// The code whose value is nearest to `x`; of two equally near the one nearer zero.
    pub fn nearest(values: &[f32; 256], x: f64) -> u8 {
        let mut best = 0;
        for code in 1..256 {
            let (new, old) = (f64::from(values[code]), f64::from(values[best]));
            let (far_new, far_old) = ((x - new).abs(), (x - old).abs());
            if far_new < far_old || far_new == far_old && new.abs() < old.abs() {
                best = code;
            }
        }
        best as u8
    }
}

/// Bins of the magnitudes from just below the smallest midpoint up to 1.
struct Bins<const N: usize> {
    entries: [u32; N],
    /// Low bits of an f32 that do not choose the bin.
    low_bits: u32,
    /// Magnitudes are raised to this: the start of bin 0, which lies below every midpoint.
    smallest: u32,
}

impl<const N: usize> Bins<N> {
    /// Bins over the values `values[zero]` = 0, … , `values[255]` = 1; codes count from `zero`.
    const fn new(values: &[f32; 256], zero: usize, low_bits: u32) -> Self {
        let smallest = ONE - ((N as u32 - 1) << low_bits);
        let mut entries = [0; N];
        let (mut bin, mut below) = (0, zero);
        while bin < N {
            let start = smallest + ((bin as u32) << low_bits);
            // The largest number not above the midpoint between `below` and the next value, cut to the bin.
            let mut last = u32::MAX;
            if below < 255 {
                let middle = (values[below] as f64 + values[below + 1] as f64) / 2.0;
                let rounded = middle as f32;
                last = rounded.to_bits() - (rounded as f64 > middle) as u32;
            }
            assert!(last >= start, "a bin holds two midpoints");
            if last - start >= 1 << low_bits {
                entries[bin] = ((below - zero) as u32) << low_bits;
            } else {
                // Low bits above `last − start` carry.
                entries[bin] = ((below - zero) as u32) << low_bits | (((1 << low_bits) - 1) - (last - start));
                below += 1;
            }
            bin += 1;
        }
        Self { entries, low_bits, smallest }
    }

    /// Steps from zero to the value nearest to |x|; whatever is not a magnitude up to 1 counts as 1.
    #[inline(always)]
    fn steps(&self, x: f32) -> u32 {
        let bits = (x.to_bits() & 0x7fff_ffff).max(self.smallest).min(ONE);
        let (bin, low) = ((bits - self.smallest) >> self.low_bits, bits & ((1 << self.low_bits) - 1));
        (self.entries[bin as usize] + low) >> self.low_bits
    }
}
/// 22 octaves of 64 bins, and the one of 1.
static SIGNED_BINS: Bins<1409> = Bins::new(&SIGNED, SIGNED_ZERO as usize, 17);
/// 23 octaves of 128 bins, and the one of 1.
static UNSIGNED_BINS: Bins<2945> = Bins::new(&UNSIGNED, UNSIGNED_ZERO as usize, 16);

/// The code of [`SIGNED`] nearest to `x` in −1..=1; of two equally near the one nearer zero.
#[inline(always)]
pub fn signed_code(x: f32) -> u8 {
    let steps = SIGNED_BINS.steps(x);
    let zero = u32::from(SIGNED_ZERO);
    // There is no −1: its code is that of −0.993.
    (if x.is_sign_negative() { zero - steps.min(zero) } else { zero + steps }) as u8
}

/// The code of [`UNSIGNED`] nearest to `x` in 0..=1, ties towards zero; but only 0 itself gets the code of 0.
#[inline(always)]
pub fn unsigned_code(x: f32) -> u8 {
    (UNSIGNED_BINS.steps(x)).max(u32::from(x != 0.0)) as u8
}

/// x = values[codes]·scale, of one length.
pub fn widen(set: KernelSet, values: &[f32; 256], codes: &[u8], scale: f32, x: &mut [f32]) {
    assert!(codes.len() == x.len());
    let done = match set {
        // SAFETY: the feature was found just now, or the arm is not taken; the lengths are equal.
        #[cfg(target_arch = "x86_64")]
        KernelSet::Avx512 if set.supported().is_ok() => unsafe { avx512::widen(values, codes, scale, x) },
        _ => 0,
    };
    for (x, code) in x[done..].iter_mut().zip(&codes[done..]) {
        *x = values[usize::from(*code)] * scale;
    }
}

/// codes = those of [`SIGNED`] nearest to x·inverse_scale, of one length.
pub fn narrow_signed(set: KernelSet, x: &[f32], inverse_scale: f32, codes: &mut [u8]) {
    assert!(codes.len() == x.len());
    let done = match set {
        // SAFETY: as in `widen`.
        #[cfg(target_arch = "x86_64")]
        KernelSet::Avx512 if set.supported().is_ok() => unsafe { avx512::narrow_signed(x, inverse_scale, codes) },
        _ => 0,
    };
    for (c, x) in codes[done..].iter_mut().zip(&x[done..]) {
        *c = signed_code(x * inverse_scale);
    }
}

/// codes = those of [`UNSIGNED`] nearest to x·inverse_scale as [`unsigned_code`] says, of one length.
pub fn narrow_unsigned(set: KernelSet, x: &[f32], inverse_scale: f32, codes: &mut [u8]) {
    assert!(codes.len() == x.len());
    let done = match set {
        // SAFETY: as in `widen`.
        #[cfg(target_arch = "x86_64")]
        KernelSet::Avx512 if set.supported().is_ok() => unsafe { avx512::narrow_unsigned(x, inverse_scale, codes) },
        _ => 0,
    };
    for (c, x) in codes[done..].iter_mut().zip(&x[done..]) {
        *c = unsigned_code(x * inverse_scale);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::*;
    use std::arch::x86_64::*;

    const LANES: usize = 16;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn widen(values: &[f32; 256], codes: &[u8], scale: f32, x: &mut [f32]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(scale);
        for i in (0..whole).step_by(LANES) {
            unsafe {
                let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().add(i).cast()));
                let value = _mm512_i32gather_ps::<4>(codes, values.as_ptr());
                _mm512_storeu_ps(x.as_mut_ptr().add(i), _mm512_mul_ps(value, scale));
            }
        }
        whole
    }

    /// [`Bins::steps`].
    #[inline(always)]
    unsafe fn steps<const N: usize, const LOW: u32>(bins: &Bins<N>, bits: __m512i) -> __m512i {
        unsafe {
            let smallest = _mm512_set1_epi32(bins.smallest as i32);
            let bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fff_ffff));
            let bits = _mm512_min_epu32(_mm512_max_epu32(bits, smallest), _mm512_set1_epi32(ONE as i32));
            let bin = _mm512_srli_epi32::<LOW>(_mm512_sub_epi32(bits, smallest));
            let low = _mm512_and_si512(bits, _mm512_set1_epi32((1 << LOW) - 1));
            let entry = _mm512_i32gather_epi32::<4>(bin, bins.entries.as_ptr().cast());
            _mm512_srli_epi32::<LOW>(_mm512_add_epi32(entry, low))
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn narrow_signed(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(inverse_scale);
        let zero = _mm512_set1_epi32(i32::from(SIGNED_ZERO));
        for i in (0..whole).step_by(LANES) {
            unsafe {
                let bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(i)), scale));
                let steps = steps::<1409, 17>(&SIGNED_BINS, bits);
                let negative = _mm512_cmplt_epi32_mask(bits, _mm512_setzero_si512());
                let up = _mm512_add_epi32(zero, steps);
                let code = _mm512_mask_sub_epi32(up, negative, zero, _mm512_min_epi32(steps, zero));
                _mm_storeu_si128(codes.as_mut_ptr().add(i).cast(), _mm512_cvtepi32_epi8(code));
            }
        }
        whole
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn narrow_unsigned(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(inverse_scale);
        for i in (0..whole).step_by(LANES) {
            unsafe {
                let x = _mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(i)), scale);
                let steps = steps::<2945, 16>(&UNSIGNED_BINS, _mm512_castps_si512(x));
                let some = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_ps());
                let code = _mm512_mask_max_epi32(steps, some, steps, _mm512_set1_epi32(1));
                _mm_storeu_si128(codes.as_mut_ptr().add(i).cast(), _mm512_cvtepi32_epi8(code));
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// FNV-1a over the little-endian bytes.
    fn hash(values: &[f32; 256]) -> u64 {
        let bytes = values.iter().flat_map(|x| x.to_bits().to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// bitsandbytes 0.50.2 with torch 2.15.0 on x86-64: `create_dynamic_map(signed=s)` for both `s`, `t.tolist()`, each
    /// number packed by `struct.pack('<f', x)`, FNV-1a over the bytes.
    #[test]
    fn tables_are_those_of_bitsandbytes_bit_for_bit() {
        let signed = [
            (0, 0xbf7e_3333u32),
            (31, 0xbf0e_999a),
            (63, 0xbddb_3334),
            (64, 0xbdc9_eb85),
            (126, 0xb513_a3b7),
            (127, 0),
            (128, 0x3513_a3b7),
            (130, 0x3702_05ff),
            (160, 0x3c68_f5c3),
            (200, 0x3e6f_3333),
            (254, 0x3f7e_3333),
            (255, 0x3f80_0000),
        ];
        let unsigned = [
            (0, 0u32),
            (1, 0x34ae_7baa),
            (2, 0x3550_0998),
            (31, 0x3a95_8106),
            (63, 0x3c2f_5c2a),
            (95, 0x3d64_28f7),
            (126, 0x3dcb_5c29),
            (160, 0x3eab_cccc),
            (200, 0x3f1d_e666),
            (254, 0x3f7f_199a),
            (255, 0x3f80_0000),
        ];
        for (code, bits) in signed {
            assert_eq!(SIGNED[code].to_bits(), bits, "signed {code}");
        }
        for (code, bits) in unsigned {
            assert_eq!(UNSIGNED[code].to_bits(), bits, "unsigned {code}");
        }
        assert_eq!((hash(&SIGNED), hash(&UNSIGNED)), (0xd677_f22a_9666_5bc4, 0x4381_1b16_730a_873e));
    }

    fn check(x: f32) {
        assert_eq!(signed_code(x), naive::nearest(&SIGNED, f64::from(x)), "signed {x:e}");
        assert_eq!(signed_code(-x), naive::nearest(&SIGNED, -f64::from(x)), "signed −{x:e}");
        let nearest = naive::nearest(&UNSIGNED, f64::from(x));
        let floored = if x > 0.0 { nearest.max(1) } else { nearest };
        assert_eq!(unsigned_code(x), floored, "unsigned {x:e}");
    }

    #[test]
    fn every_value_has_its_own_code() {
        for code in 0..=255u8 {
            assert_eq!(signed_code(SIGNED[usize::from(code)]), code);
            assert_eq!(unsigned_code(UNSIGNED[usize::from(code)]), code);
        }
        assert!(SIGNED.is_sorted() && UNSIGNED.is_sorted());
    }

    #[test]
    fn nearest_to_within_the_last_bit_at_every_midpoint_and_every_bin() {
        let middles = |values: &[f32; 256]| -> Vec<u32> {
            values.windows(2).map(|v| ((v[0].abs() + v[1].abs()) / 2.0).to_bits()).collect()
        };
        let bins = (0..2945u32).map(|bin| ONE - (bin << 16));
        for bits in middles(&SIGNED).into_iter().chain(middles(&UNSIGNED)).chain(bins) {
            for near in bits.saturating_sub(2)..=(bits + 2).min(ONE) {
                check(f32::from_bits(near));
            }
        }
        [0.0, 1e-45, 1e-38, 1e-10, 1.0].into_iter().for_each(check);
    }

    #[test]
    fn what_is_no_magnitude_has_some_code() {
        for x in [f32::NAN, -f32::NAN, f32::INFINITY, 1.000_000_1, f32::MAX] {
            assert_eq!(unsigned_code(x), 255);
            assert_eq!(signed_code(x), if x.is_sign_negative() { 0 } else { 255 });
        }
        assert_eq!(signed_code(f32::NEG_INFINITY), 0);
        assert_eq!(signed_code(-0.0), SIGNED_ZERO);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn the_code_is_the_nearest(bits in 0x3380_0000u32..=ONE) {
            check(f32::from_bits(bits));
        }
    }
}
