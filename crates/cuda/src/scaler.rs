//! Dynamic loss scaling for fp16 (Micikevicius et al. 2018, arXiv 1710.03740, §3.2), with the constants of PyTorch's
//! `GradScaler`: gradients that would vanish below 6e-8 are kept by a factor that grows until one overflows.

use isoflop_base::{TensorError, TensorSink, TensorSource};

/// The first scale.
const FIRST: f32 = 65_536.0;
/// Steps in a row without overflow after which the scale doubles.
const GROW_AFTER: u64 = 2000;
/// The largest scale: beyond it one token's gradient of a logit no longer fits.
const MOST: f32 = 16_777_216.0;
/// The smallest: below it no gradient is too large for fp16 that is finite in f32, so an overflow is a divergence.
const LEAST: f32 = 1.0;

const SCALE: &str = "loss_scale_bits";
const GOOD: &str = "loss_scale_good_steps";

/// A loss scale and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossScaler {
    scale: f32,
    /// Steps since it last changed.
    good: u64,
}

impl Default for LossScaler {
    fn default() -> Self {
        Self { scale: FIRST, good: 0 }
    }
}

impl LossScaler {
    /// What losses are multiplied with; a power of two, so that dividing by it again loses nothing.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// A step was made.
    pub(crate) fn applied(&mut self) {
        self.good += 1;
        if self.good >= GROW_AFTER {
            *self = Self { scale: (2.0 * self.scale).min(MOST), good: 0 };
        }
    }

    /// A gradient overflowed: the scale from now on, or `None` if it cannot come down any more.
    pub(crate) fn overflowed(&mut self) -> Option<f32> {
        if self.scale <= LEAST {
            return None;
        }
        *self = Self { scale: self.scale / 2.0, good: 0 };
        Some(self.scale)
    }

    /// Writes it.
    pub(crate) fn save(&self, sink: &mut dyn TensorSink) -> Result<(), TensorError> {
        sink.counter(SCALE, u64::from(self.scale.to_bits()))?;
        sink.counter(GOOD, self.good)
    }

    /// Takes it back; a source without one begins anew.
    pub(crate) fn load(source: &dyn TensorSource) -> Self {
        let saved = source.counter(SCALE).map(|bits| f32::from_bits(bits as u32));
        match saved.filter(|scale| (LEAST..=MOST).contains(scale)) {
            Some(scale) => Self { scale, good: source.counter(GOOD).unwrap_or(0) },
            None => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_an_overflow_and_doubles_after_many_steps_without() {
        let mut scaler = LossScaler::default();
        assert_eq!(scaler.overflowed(), Some(32_768.0));
        for _ in 1..GROW_AFTER {
            scaler.applied();
        }
        assert_eq!(scaler.scale(), 32_768.0);
        scaler.applied();
        assert_eq!(scaler, LossScaler { scale: 65_536.0, good: 0 });
        scaler.applied();
        assert_eq!(scaler.overflowed(), Some(32_768.0));
        assert_eq!(scaler.good, 0, "counting begins anew");
    }

    #[test]
    fn it_stays_between_its_bounds() {
        let mut scaler = LossScaler::default();
        let lowered = std::iter::from_fn(|| scaler.overflowed()).count();
        assert_eq!((lowered, scaler.scale()), (16, 1.0), "then it is a divergence");
        for _ in 0..40 * GROW_AFTER {
            scaler.applied();
        }
        assert_eq!(scaler.scale(), MOST);
    }
}
