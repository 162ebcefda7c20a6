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
//! bits of x carries into the code just if x lies above the midpoint: a look-up, an addition, a shift. The folder holds
//! the same for vectors.

#[cfg(target_arch = "x86_64")]
mod x86;

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

/// The largest number not above the midpoint between the values of codes `below` and `below + 1`, 0 or positive.
const fn midpoint(values: &[f32; 256], below: usize) -> f32 {
    let exact = (values[below] as f64 + values[below + 1] as f64) / 2.0;
    let rounded = exact as f32;
    f32::from_bits(rounded.to_bits() - (rounded as f64 > exact) as u32)
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
            let mut last = u32::MAX;
            if below < 255 {
                last = midpoint(values, below).to_bits();
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
    // −1 if negative: signs come at random, a branch would be mispredicted.
    let sign = x.to_bits() as i32 >> 31;
    let zero = i32::from(SIGNED_ZERO);
    // There is no −1: its code is that of −0.993.
    let steps = (SIGNED_BINS.steps(x) as i32).min(zero + 1 + sign);
    (zero + ((steps ^ sign) - sign)) as u8
}

/// The code of [`UNSIGNED`] nearest to `x` in 0..=1, ties towards zero; but only 0 itself gets the code of 0.
#[inline(always)]
pub fn unsigned_code(x: f32) -> u8 {
    (UNSIGNED_BINS.steps(x)).max(u32::from(x != 0.0)) as u8
}

/// Which vectors a kernel set may use here.
enum Width {
    One,
    #[cfg(target_arch = "x86_64")]
    Eight,
    #[cfg(target_arch = "x86_64")]
    Sixteen,
}

/// Sets beyond `Avx2` that this processor runs have AVX-512F, as is asked again.
fn width(set: KernelSet) -> Width {
    #[cfg(target_arch = "x86_64")]
    if !matches!(set, KernelSet::Naive | KernelSet::Portable) && set.supported().is_ok() {
        if set != KernelSet::Avx2 && is_x86_feature_detected!("avx512f") {
            return Width::Sixteen;
        }
        if is_x86_feature_detected!("avx2") {
            return Width::Eight;
        }
    }
    let _ = set;
    Width::One
}

/// Runs `$function` of the vectors of `$set`, if there are any; what is left is the caller's.
macro_rules! vectors {
    ($set:expr, $function:ident ( $($arg:expr),* ), otherwise $nothing:expr) => {
        match width($set) {
            // SAFETY: `width` found the feature; the caller compared the lengths.
            #[cfg(target_arch = "x86_64")]
            Width::Sixteen => unsafe { x86::avx512::$function($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Width::Eight => unsafe { x86::avx2::$function($($arg),*) },
            Width::One => $nothing,
        }
    };
}

/// `x = values[codes]·scale`, of one length.
pub fn widen(set: KernelSet, values: &[f32; 256], codes: &[u8], scale: f32, x: &mut [f32]) {
    assert!(codes.len() == x.len());
    let done = match width(set) {
        // SAFETY: `width` found the feature; the lengths are equal.
        #[cfg(target_arch = "x86_64")]
        Width::Sixteen => unsafe { x86::avx512::widen(values, codes, scale, x) },
        // A load from a table in the first cache beat a gather of sixteen.
        _ => 0,
    };
    for (x, code) in x[done..].iter_mut().zip(&codes[done..]) {
        *x = values[usize::from(*code)] * scale;
    }
}

/// max |x|; NaN if there is one.
pub fn largest_magnitude(set: KernelSet, x: &[f32]) -> f32 {
    let (largest, done) = vectors!(set, largest(x), otherwise(0, 0));
    // As whole numbers, magnitudes compare as they do as f32, and NaN is above all.
    f32::from_bits(x[done..].iter().fold(largest, |a, x| a.max(x.to_bits() & 0x7fff_ffff)))
}

/// codes = [`signed_code`] of x·inverse_scale, of one length; magnitudes above 1 but for rounding get some code.
pub fn narrow_signed(set: KernelSet, x: &[f32], inverse_scale: f32, codes: &mut [u8]) {
    assert!(codes.len() == x.len());
    let done = vectors!(set, narrow_signed(x, inverse_scale, codes), otherwise 0);
    for (c, x) in codes[done..].iter_mut().zip(&x[done..]) {
        *c = signed_code(x * inverse_scale);
    }
}

/// codes = [`unsigned_code`] of x·inverse_scale, of one length; above 1 but for rounding, or below 0, some code.
pub fn narrow_unsigned(set: KernelSet, x: &[f32], inverse_scale: f32, codes: &mut [u8]) {
    assert!(codes.len() == x.len());
    let done = vectors!(set, narrow_unsigned(x, inverse_scale, codes), otherwise 0);
    for (c, x) in codes[done..].iter_mut().zip(&x[done..]) {
        *c = unsigned_code(x * inverse_scale);
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

    /// Every set against one number at a time, which the tests above hold to the definition.
    fn check_sets(x: &[f32]) {
        let magnitudes: Vec<f32> = x.iter().map(|x| x.abs()).collect();
        for set in KernelSet::runnable() {
            let mut codes = vec![0; x.len()];
            narrow_signed(set, x, 1.0, &mut codes);
            let wrong = x.iter().zip(&codes).find(|&(x, c)| signed_code(*x) != *c);
            assert_eq!(wrong, None, "{set:?} signed");
            narrow_unsigned(set, &magnitudes, 1.0, &mut codes);
            let wrong = magnitudes.iter().zip(&codes).find(|&(x, c)| unsigned_code(*x) != *c);
            assert_eq!(wrong, None, "{set:?} unsigned");
        }
    }

    #[test]
    fn every_set_gives_the_codes_of_plain_loops() {
        let mut x: Vec<f32> = (0..2945u32).map(|bin| f32::from_bits(ONE - (bin << 16))).collect();
        for values in [&SIGNED, &UNSIGNED] {
            x.extend(values.windows(2).map(|v| (v[0].abs() + v[1].abs()) / 2.0));
        }
        let near = |&x: &f32| (-40..=40).map(move |d| f32::from_bits(x.to_bits().saturating_add_signed(d)));
        x = x.iter().flat_map(near).flat_map(|x| [x, -x]).collect();
        x.extend([f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-45]);
        check_sets(&x);
    }

    /// Run in release when the arithmetic changes.
    #[test]
    #[ignore = "all 200 million magnitudes: some ten seconds"]
    fn every_set_gives_the_codes_of_plain_loops_for_every_number() {
        let all: Vec<u32> = (ONE - (24 << 23)..=ONE).collect();
        for some in all.chunks(1 << 16) {
            let sign = (some[0] >> 16) << 31;
            check_sets(&some.iter().map(|bits| f32::from_bits(bits | sign)).collect::<Vec<f32>>());
        }
    }

    #[test]
    fn every_set_widens_alike_and_finds_the_largest() {
        let codes: Vec<u8> = (0..=255).chain(0..=70).collect();
        for set in KernelSet::runnable() {
            for values in [&SIGNED, &UNSIGNED] {
                let mut x = vec![0.0; codes.len()];
                widen(set, values, &codes, 0.3, &mut x);
                assert!(codes.iter().zip(&x).all(|(&c, &x)| x == values[usize::from(c)] * 0.3), "{set:?}");
            }
            for at in 0..37 {
                let mut x = [-1e-3f32; 37];
                x[at] = -2.0;
                assert_eq!(largest_magnitude(set, &x), 2.0, "{set:?} {at}");
                x[at] = f32::NAN;
                assert!(largest_magnitude(set, &x).is_nan(), "{set:?} {at}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn the_code_is_the_nearest(bits in 0x3380_0000u32..=ONE) {
            check(f32::from_bits(bits));
        }
    }
}
