//! The map by vectors of AVX-512 and AVX2: the same codes and numbers as the plain loops, bit for bit.
//!
//! With AVX-512, a code's value comes out of sixteen registers by permutation, and the nearest code out of
//! arithmetic: within a decade, cells have one width, so that code = ⌊slope·x + offset⌋. The piece (a decade, or one of
//! the ends) follows from the octave of x and one comparison with an exact threshold. Only where ⌊·⌋ is in doubt,
//! at 1 vector in 130, the bins are asked instead. On an AMD EPYC with AVX-512: 0.30 ns (signed) and 0.26 ns (unsigned)
//! an element, 0.46 ns by gathering from the bins; widening 0.23 ns, 0.44 ns by gathering, 0.28 ns one by one.

use super::{Bins, ONE, POWERS, SIGNED, SIGNED_BINS, SIGNED_ZERO, UNSIGNED, UNSIGNED_BINS, UNSIGNED_ZERO};
use std::arch::x86_64::*;

/// The exponent field of 2⁻²³, below every threshold. From here to that of 1 there are 24, modulo 32 the numbers
/// 8..=31; that of 0 is 0 and that of NaN and infinity 255, modulo 32 like that of 1.
const FIRST_EXPONENT: u32 = 127 - 23;
const MAGNITUDE: i32 = 0x7fff_ffff;
/// Cells from a whole number within which ⌊slope·x + offset⌋ is in doubt. The error of slope·x + offset is at most
/// 4e-5: half a unit in the last place of 255 (8e-6), of slope times 142 (9e-6), of the table's values (1.4e-5).
const DOUBT: f32 = 1.0 / 4096.0;

/// The steps from zero as a function of magnitude: 0, seven decades, the last code.
struct Pieces {
    /// By exponent modulo 32: above this the piece after `first` begins; infinity where none does.
    threshold: [f32; 32],
    /// By exponent modulo 32: the piece at the start of the octave.
    first: [i32; 32],
    slope: [f32; 16],
    /// Less [`DOUBT`].
    offset: [f32; 16],
    /// The last step of each piece.
    last: [i32; 16],
}

impl Pieces {
    const fn new(values: &[f32; 256], zero: usize, first_cells: usize) -> Self {
        let mut pieces = Self {
            threshold: [f32::INFINITY; 32],
            first: [0; 32],
            slope: [0.0; 16],
            offset: [0.5 - DOUBT; 16],
            last: [0; 16],
        };
        let mut decade = 0;
        while decade < POWERS.len() {
            let cells = (first_cells << decade) as f64;
            let start = pieces.last[decade] as f64 + 1.0;
            pieces.slope[decade + 1] = (cells / 0.9 / POWERS[decade] as f64) as f32;
            pieces.offset[decade + 1] = (start - cells / 9.0 - DOUBT as f64) as f32;
            pieces.last[decade + 1] = pieces.last[decade] + cells as i32;
            decade += 1;
        }
        let end = decade + 1;
        pieces.last[end] = pieces.last[decade] + 1;
        pieces.offset[end] = pieces.last[end] as f32 + 0.5 - DOUBT;
        let (mut exponent, mut piece) = (FIRST_EXPONENT, 0);
        while exponent <= ONE >> 23 {
            let octave = exponent as usize % 32;
            pieces.first[octave] = piece as i32;
            if piece < end {
                let threshold = super::midpoint(values, zero + pieces.last[piece] as usize);
                if threshold.to_bits() < (exponent + 1) << 23 {
                    pieces.threshold[octave] = threshold;
                    piece += 1;
                }
            }
            exponent += 1;
        }
        pieces
    }
}
static SIGNED_PIECES: Pieces = Pieces::new(&SIGNED, SIGNED_ZERO as usize, 1);
static UNSIGNED_PIECES: Pieces = Pieces::new(&UNSIGNED, UNSIGNED_ZERO as usize, 2);

/// Sixteen lanes; each function does the whole vectors of its slices and returns how many elements those are.
///
/// # Safety
/// All: the processor has AVX-512F, and the slices are of one length.
pub(super) mod avx512 {
    use super::*;

    const LANES: usize = 16;

    /// `x = values[codes]·scale`.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn widen(
        values: &[f32; 256],
        codes: &[u8],
        scale: f32,
        x: &mut [f32],
    ) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(scale);
        // SAFETY: 16 × 16 values; i + 16 ≤ the common length.
        unsafe {
            let table: [__m512; 16] = std::array::from_fn(|k| _mm512_loadu_ps(values.as_ptr().add(k * 16)));
            for i in (0..whole).step_by(LANES) {
                let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().add(i).cast()));
                // Bits 0–4 choose within a pair of registers, bits 5, 6, 7 among the pairs.
                let of = |k: usize| _mm512_permutex2var_ps(table[2 * k], codes, table[2 * k + 1]);
                let [bit5, bit6, bit7] =
                    [32, 64, 128].map(|bit| _mm512_test_epi32_mask(codes, _mm512_set1_epi32(bit)));
                let pair = |k: usize| _mm512_mask_blend_ps(bit5, of(k), of(k + 1));
                let quad = |k: usize| _mm512_mask_blend_ps(bit6, pair(k), pair(k + 2));
                let value = _mm512_mask_blend_ps(bit7, quad(0), quad(4));
                _mm512_storeu_ps(x.as_mut_ptr().add(i), _mm512_mul_ps(value, scale));
            }
        }
        whole
    }

    /// Largest bits of a magnitude.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn largest(x: &[f32]) -> (u32, usize) {
        let whole = x.len() / LANES * LANES;
        let mut largest = _mm512_setzero_si512();
        for i in (0..whole).step_by(LANES) {
            // SAFETY: i + 16 ≤ the length.
            let bits = unsafe { _mm512_loadu_si512(x.as_ptr().add(i).cast()) };
            largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, _mm512_set1_epi32(MAGNITUDE)));
        }
        (_mm512_reduce_max_epu32(largest), whole)
    }

    /// The tables of [`Pieces`] in registers.
    struct Registers<'a, const N: usize, const LOW: u32> {
        bins: &'a Bins<N>,
        threshold: [__m512; 2],
        first: [__m512i; 2],
        slope: __m512,
        offset: __m512,
        last: __m512i,
    }

    impl<'a, const N: usize, const LOW: u32> Registers<'a, N, LOW> {
        #[inline(always)]
        unsafe fn new(pieces: &Pieces, bins: &'a Bins<N>) -> Self {
            assert!(bins.low_bits == LOW);
            // SAFETY: 32 elements in `threshold` and `first`, 16 in the others.
            unsafe {
                let (threshold, first) = (pieces.threshold.as_ptr(), pieces.first.as_ptr());
                Self {
                    bins,
                    threshold: [_mm512_loadu_ps(threshold), _mm512_loadu_ps(threshold.add(16))],
                    first: [_mm512_loadu_si512(first.cast()), _mm512_loadu_si512(first.add(16).cast())],
                    slope: _mm512_loadu_ps(pieces.slope.as_ptr()),
                    offset: _mm512_loadu_ps(pieces.offset.as_ptr()),
                    last: _mm512_loadu_si512(pieces.last.as_ptr().cast()),
                }
            }
        }

        /// [`Bins::steps`] for bits of 0 or a magnitude from 2⁻²³ to just above 1, or what is not finite.
        #[inline(always)]
        unsafe fn steps(&self, bits: __m512i) -> __m512i {
            // SAFETY: no memory is touched but in `asked`.
            unsafe {
                let (x, exponent) = (_mm512_castsi512_ps(bits), _mm512_srli_epi32::<23>(bits));
                // Permutations look at the low bits of an index alone.
                let threshold = _mm512_permutex2var_ps(self.threshold[0], exponent, self.threshold[1]);
                let first = _mm512_permutex2var_epi32(self.first[0], exponent, self.first[1]);
                let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, threshold);
                let piece = _mm512_mask_add_epi32(first, above, first, _mm512_set1_epi32(1));
                let slope = _mm512_permutexvar_ps(piece, self.slope);
                let low = _mm512_fmadd_ps(x, slope, _mm512_permutexvar_ps(piece, self.offset));
                let high = _mm512_add_ps(low, _mm512_set1_ps(2.0 * DOUBT));
                let (low, high) = (_mm512_cvttps_epi32(low), _mm512_cvttps_epi32(high));
                if _mm512_cmpneq_epi32_mask(low, high) != 0 {
                    return self.asked(bits);
                }
                // What is not finite was converted to 2³¹ and becomes the last code.
                _mm512_min_epu32(low, _mm512_permutexvar_epi32(piece, self.last))
            }
        }

        /// The same from the bins.
        #[inline(always)]
        unsafe fn asked(&self, bits: __m512i) -> __m512i {
            // SAFETY: magnitudes are clamped to the bins, so that the bin is in 0..N.
            unsafe {
                let smallest = _mm512_set1_epi32(self.bins.smallest as i32);
                let bits = _mm512_and_si512(bits, _mm512_set1_epi32(MAGNITUDE));
                let bits = _mm512_min_epu32(_mm512_max_epu32(bits, smallest), _mm512_set1_epi32(ONE as i32));
                let bin = _mm512_srli_epi32::<LOW>(_mm512_sub_epi32(bits, smallest));
                let low = _mm512_and_si512(bits, _mm512_set1_epi32((1 << LOW) - 1));
                let entry = _mm512_i32gather_epi32::<4>(bin, self.bins.entries.as_ptr().cast());
                _mm512_srli_epi32::<LOW>(_mm512_add_epi32(entry, low))
            }
        }
    }

    /// [`super::super::signed_code`] of x·inverse_scale.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn narrow_signed(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(inverse_scale);
        let zero = _mm512_set1_epi32(i32::from(SIGNED_ZERO));
        let smallest = _mm512_set1_epi32((FIRST_EXPONENT << 23) as i32);
        // SAFETY: the tables are whole; i + 16 ≤ the common length.
        unsafe {
            let tables = Registers::<_, 17>::new(&SIGNED_PIECES, &SIGNED_BINS);
            for i in (0..whole).step_by(LANES) {
                let bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(i)), scale));
                let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(MAGNITUDE));
                let steps = tables.steps(_mm512_max_epu32(magnitude, smallest));
                let negative = _mm512_cmplt_epi32_mask(bits, _mm512_setzero_si512());
                let up = _mm512_add_epi32(zero, steps);
                let code = _mm512_mask_sub_epi32(up, negative, zero, _mm512_min_epi32(steps, zero));
                _mm_storeu_si128(codes.as_mut_ptr().add(i).cast(), _mm512_cvtepi32_epi8(code));
            }
        }
        whole
    }

    /// [`super::super::unsigned_code`] of x·inverse_scale.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn narrow_unsigned(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm512_set1_ps(inverse_scale);
        let least = _mm512_set1_epi32(super::super::midpoint(&UNSIGNED, 0).to_bits() as i32 + 1);
        // SAFETY: as in `narrow_signed`.
        unsafe {
            let tables = Registers::<_, 16>::new(&UNSIGNED_PIECES, &UNSIGNED_BINS);
            for i in (0..whole).step_by(LANES) {
                let bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(i)), scale));
                // What is not 0 is raised to the least number of code 1.
                let some = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(MAGNITUDE));
                let code = tables.steps(_mm512_maskz_max_epu32(some, bits, least));
                _mm_storeu_si128(codes.as_mut_ptr().add(i).cast(), _mm512_cvtepi32_epi8(code));
            }
        }
        whole
    }
}

/// Eight lanes; as [`avx512`], but the codes always come from the bins.
///
/// # Safety
/// All: the processor has AVX2, and the slices are of one length.
pub(super) mod avx2 {
    use super::*;

    const LANES: usize = 8;

    /// [`Bins::steps`].
    #[inline(always)]
    unsafe fn steps<const N: usize, const LOW: i32>(bins: &Bins<N>, bits: __m256i) -> __m256i {
        assert!(bins.low_bits == LOW as u32);
        // SAFETY: magnitudes are clamped to the bins.
        unsafe {
            let smallest = _mm256_set1_epi32(bins.smallest as i32);
            let bits = _mm256_and_si256(bits, _mm256_set1_epi32(MAGNITUDE));
            let bits = _mm256_min_epi32(_mm256_max_epi32(bits, smallest), _mm256_set1_epi32(ONE as i32));
            let bin = _mm256_srli_epi32::<LOW>(_mm256_sub_epi32(bits, smallest));
            let low = _mm256_and_si256(bits, _mm256_set1_epi32((1 << LOW) - 1));
            let entry = _mm256_i32gather_epi32::<4>(bins.entries.as_ptr().cast(), bin);
            _mm256_srli_epi32::<LOW>(_mm256_add_epi32(entry, low))
        }
    }

    /// The low bytes of eight numbers in 0..=255.
    #[inline(always)]
    unsafe fn store(codes: *mut u8, x: __m256i) {
        // SAFETY: the caller's: eight bytes.
        unsafe {
            let words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storel_epi64(codes.cast(), _mm_packus_epi16(words, words));
        }
    }

    /// [`super::super::signed_code`] of x·inverse_scale.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn narrow_signed(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm256_set1_ps(inverse_scale);
        let zero = _mm256_set1_epi32(i32::from(SIGNED_ZERO));
        // SAFETY: i + 8 ≤ the common length.
        unsafe {
            for i in (0..whole).step_by(LANES) {
                let bits = _mm256_castps_si256(_mm256_mul_ps(_mm256_loadu_ps(x.as_ptr().add(i)), scale));
                let steps = steps::<_, 17>(&SIGNED_BINS, bits);
                let negative = _mm256_srai_epi32::<31>(bits);
                let down = _mm256_sub_epi32(zero, _mm256_min_epi32(steps, zero));
                let code = _mm256_blendv_epi8(_mm256_add_epi32(zero, steps), down, negative);
                store(codes.as_mut_ptr().add(i), code);
            }
        }
        whole
    }

    /// [`super::super::unsigned_code`] of x·inverse_scale.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn narrow_unsigned(x: &[f32], inverse_scale: f32, codes: &mut [u8]) -> usize {
        let whole = x.len() / LANES * LANES;
        let scale = _mm256_set1_ps(inverse_scale);
        // SAFETY: i + 8 ≤ the common length.
        unsafe {
            for i in (0..whole).step_by(LANES) {
                let x = _mm256_mul_ps(_mm256_loadu_ps(x.as_ptr().add(i)), scale);
                let steps = steps::<_, 16>(&UNSIGNED_BINS, _mm256_castps_si256(x));
                let some = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_NEQ_UQ>(x, _mm256_setzero_ps()));
                // `some` is 0 or −1: the least code is 0 or 1.
                let code = _mm256_max_epi32(steps, _mm256_sub_epi32(_mm256_setzero_si256(), some));
                store(codes.as_mut_ptr().add(i), code);
            }
        }
        whole
    }

    /// Largest bits of a magnitude.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn largest(x: &[f32]) -> (u32, usize) {
        let whole = x.len() / LANES * LANES;
        let mut largest = _mm256_setzero_si256();
        for i in (0..whole).step_by(LANES) {
            // SAFETY: i + 8 ≤ the length.
            let bits = unsafe { _mm256_loadu_si256(x.as_ptr().add(i).cast()) };
            largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, _mm256_set1_epi32(MAGNITUDE)));
        }
        let mut lanes = [0u32; LANES];
        // SAFETY: eight lanes of four bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), largest) };
        (lanes.into_iter().fold(0, u32::max), whole)
    }
}
