//! What the bytes of a text are, a bit for each: the questions a tokeniser's pattern asks of ASCII.
//!
//! A processor answers one of them for 16 bytes (SSE2, which every x86-64 has) or 64 (AVX-512BW) by a comparison and an
//! instruction that takes one bit of each byte. No compiler makes that of a loop: what it makes instead costs twice as
//! much, a tenth of all that encoding takes.

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// Of 64 bytes, bit `i` byte `i`'s. Of bytes beyond ASCII only `wide` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AsciiBits {
    /// A to Z, a to z.
    pub letters: u64,
    /// 0 to 9.
    pub numbers: u64,
    /// U+0009 to U+000D, and the space.
    pub white: u64,
    /// U+0020.
    pub spaces: u64,
    /// Apostrophes.
    pub quotes: u64,
    /// Parts of characters beyond ASCII.
    pub wide: u64,
}

/// `bits[i]` of the i-th 64 bytes of `bytes`.
///
/// # Panics
/// If `bytes` is not 64 bytes for each of `bits`.
pub fn ascii_bits(bytes: &[u8], bits: &mut [AsciiBits]) {
    assert_eq!(bytes.len(), BLOCK * bits.len(), "64 bytes for each word");
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has AVX-512BW, and with it AVX-512F.
            unsafe { x86::by_64(bytes, bits) };
        } else {
            // SAFETY: every x86-64 processor has SSE2.
            unsafe { x86::by_16(bytes, bits) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    naive::ascii_bits(bytes, bits);
}

/// The same in plain loops.
pub mod naive {
    use super::{AsciiBits, BLOCK};

    /// As [`super::ascii_bits`].
    pub fn ascii_bits(bytes: &[u8], bits: &mut [AsciiBits]) {
        for (block, bits) in bytes.chunks_exact(BLOCK).zip(bits) {
            *bits = AsciiBits::default();
            for (i, byte) in block.iter().enumerate() {
                let bit = |is: bool| u64::from(is) << i;
                bits.letters |= bit(byte.is_ascii_alphabetic());
                bits.numbers |= bit(byte.is_ascii_digit());
                bits.white |= bit(matches!(byte, b'\t'..=b'\r' | b' '));
                bits.spaces |= bit(*byte == b' ');
                bits.quotes |= bit(*byte == b'\'');
                bits.wide |= bit(!byte.is_ascii());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{AsciiBits, BLOCK};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn by_64(bytes: &[u8], bits: &mut [AsciiBits]) {
        let all = |byte: u8| _mm512_set1_epi8(byte as i8);
        for (block, bits) in bytes.chunks_exact(BLOCK).zip(bits) {
            // SAFETY: a block is 64 bytes; the load asks for no alignment.
            let here = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            let within = |bytes, first: u8, count: u8| {
                _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(first)), all(count))
            };
            let spaces = _mm512_cmpeq_epi8_mask(here, all(b' '));
            *bits = AsciiBits {
                letters: within(_mm512_or_si512(here, all(0x20)), b'a', 26),
                numbers: within(here, b'0', 10),
                white: within(here, b'\t', 5) | spaces,
                spaces,
                quotes: _mm512_cmpeq_epi8_mask(here, all(b'\'')),
                wide: _mm512_movepi8_mask(here),
            };
        }
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn by_16(bytes: &[u8], bits: &mut [AsciiBits]) {
        let all = |byte: u8| _mm_set1_epi8(byte as i8);
        for (block, bits) in bytes.chunks_exact(BLOCK).zip(bits) {
            *bits = AsciiBits::default();
            for (sixteen, shift) in block.chunks_exact(16).zip([0, 16, 32, 48]) {
                // SAFETY: sixteen bytes; the load asks for no alignment.
                let here = unsafe { _mm_loadu_si128(sixteen.as_ptr().cast()) };
                let word = |mask| u64::from(_mm_movemask_epi8(mask) as u16) << shift;
                // The first of them becomes the least that a signed byte can be: one comparison.
                let within = |bytes, first: u8, count: u8| {
                    let moved = _mm_add_epi8(bytes, all(0x80_u8.wrapping_sub(first)));
                    word(_mm_cmplt_epi8(moved, all(0x80 + count)))
                };
                let spaces = word(_mm_cmpeq_epi8(here, all(b' ')));
                bits.letters |= within(_mm_or_si128(here, all(0x20)), b'a', 26);
                bits.numbers |= within(here, b'0', 10);
                bits.white |= within(here, b'\t', 5) | spaces;
                bits.spaces |= spaces;
                bits.quotes |= word(_mm_cmpeq_epi8(here, all(b'\'')));
                bits.wide |= word(here);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_what_plain_loops_say() {
        for byte in 0..=255_u8 {
            for at in 0..2 * BLOCK {
                let mut bytes = [b'.'; 2 * BLOCK];
                bytes[at] = byte;
                bytes[(at + 37) % (2 * BLOCK)] = b' ';
                let mut expected = [AsciiBits::default(); 2];
                naive::ascii_bits(&bytes, &mut expected);
                let mut bits = expected.map(|_| AsciiBits { wide: 1, ..AsciiBits::default() });
                ascii_bits(&bytes, &mut bits);
                assert_eq!(bits, expected, "byte {byte} at {at}");
                #[cfg(target_arch = "x86_64")]
                {
                    let mut by_16 = bits.map(|_| AsciiBits { letters: 1, ..AsciiBits::default() });
                    // SAFETY: every x86-64 processor has SSE2.
                    unsafe { x86::by_16(&bytes, &mut by_16) };
                    assert_eq!(by_16, expected, "byte {byte} at {at}");
                }
            }
        }
    }
}
