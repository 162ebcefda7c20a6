//! bf16: the upper half of an f32, rounded to nearest, ties to even. Values are kept as `u16`.

/// The nearest bf16; NaN stays NaN, what is beyond the largest becomes infinite.
#[inline(always)]
pub fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The f32 of the same value.
#[inline(always)]
pub fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        for (x, rounded) in [
            (1.0f32, 1.0f32),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.01 / 256.0, 1.0 + 2.0 / 256.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (-0.0, -0.0),
        ] {
            assert!(
                (widen(round(x)) - rounded).abs() <= rounded.abs() * 1e-6 || widen(round(x)) == rounded,
                "{x}"
            );
        }
        for bits in [0x7fc0_0000u32, 0x7fff_ffff, 0x7f80_0001, 0xffff_ffff] {
            assert!(widen(round(f32::from_bits(bits))).is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn every_bf16_is_itself() {
        for x in 0..=u16::MAX {
            let wide = widen(x);
            assert!(wide.is_nan() || round(wide) == x);
        }
    }
}
