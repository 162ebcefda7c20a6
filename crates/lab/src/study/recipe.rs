//! The rules behind `auto`: each in one place, each with its reason in words.

use isoflop_base::ModelShape;

/// Peak learning rate of AdamW times the width, under width-scaled initialisation and batches of 2,048 tokens, nats per
/// byte on the built-in corpus. DECISIONS.md has the sweeps at three sizes it comes from.
pub const LR_TIMES_WIDTH: f64 = 0.32;

/// Below width 32 the best rate rises no further.
pub const LR_HIGHEST: f64 = 1e-2;

/// The rule in words, as the report prints it.
pub const LR_RULE: &str = "0.32/d, at most 1e-2";

/// Why that rule, in words.
pub const LR_REASON: &str = "in sweeps on the built-in corpus AdamW's best rate fell about as one over the width, from 1e-2 at width 24";

/// Peak learning rate for a model: the least of `LR_HIGHEST` and `LR_TIMES_WIDTH / d`.
pub fn auto_lr(shape: ModelShape) -> f64 {
    LR_HIGHEST.min(LR_TIMES_WIDTH / shape.d_model as f64)
}

/// Bytes of activations that a micro-batch chosen by `auto` may keep.
const MICRO_BATCH_BYTES: u64 = 1 << 30;

/// Sequences per forward and backward: the largest divisor of the batch whose activations stay under 1 GiB.
///
/// A token keeps about 16 vectors of width d per block (inputs of norms and products, the four-fold hidden layer twice)
/// and its logits; all in f32.
pub fn auto_micro_batch(shape: ModelShape, vocab: usize, context: usize, sequences: usize) -> usize {
    let per_token = 4 * (16 * shape.n_layer * shape.d_model + vocab.min(8192)) as u64;
    let per_sequence = per_token * context as u64;
    let most = (MICRO_BATCH_BYTES / per_sequence).clamp(1, sequences as u64) as usize;
    (1..=most).rev().find(|n| sequences.is_multiple_of(*n)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_with_the_width() {
        let lr = |s: &str| auto_lr(s.parse().unwrap());
        assert_eq!(lr("L2-d24-h2"), 1e-2);
        assert_eq!(lr("L2-d32-h2"), 1e-2);
        assert!((lr("L4-d128-h4") - 2.5e-3).abs() < 1e-12);
    }

    #[test]
    fn micro_batches_divide_the_batch_and_stay_small() {
        let auto = |s: &str, v, t, b| auto_micro_batch(s.parse().unwrap(), v, t, b);
        assert_eq!(auto("L2-d32-h2", 256, 256, 8), 8);
        assert_eq!(auto("L12-d768-h12", 50_257, 1024, 32), 1);
        assert_eq!(auto("L6-d256-h8", 256, 256, 512), 32);
    }
}
