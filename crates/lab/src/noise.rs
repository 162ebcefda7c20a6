//! The simple noise scale of a run's gradients (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).
//!
//! A batch of B tokens has E|G_B|² = |G|² + tr Σ / B. Two sizes measured at the same step give unbiased estimates of
//! both, and B_simple = tr Σ / |G|² tokens: the batch at which noise and signal are alike. A ratio of means is less
//! biased than a mean of ratios, so the estimates are averaged over the pairs first.

use isoflop_base::{CurveRow, Measured, NoisePairs};
use serde::Serialize;

/// What the pairs of a run say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoiseScale {
    /// B_simple in tokens, over all pairs.
    pub tokens: Measured<f64>,
    /// B_simple in tokens over the later half of the rows with pairs: it grows as the loss falls.
    pub later_tokens: Measured<f64>,
    /// Means over all pairs.
    pub pairs: Option<NoisePairs>,
}

/// The noise scale of a run's rows.
pub fn noise_scale(rows: &[CurveRow]) -> NoiseScale {
    let pairs: Vec<NoisePairs> = rows.iter().filter_map(|row| row.noise).collect();
    let mean = |pairs: &[NoisePairs]| pairs.iter().copied().reduce(NoisePairs::with);
    let (all, later) = (mean(&pairs), mean(&pairs[pairs.len() / 2..]));
    NoiseScale { tokens: b_simple(all), later_tokens: b_simple(later), pairs: all }
}

fn b_simple(pairs: Option<NoisePairs>) -> Measured<f64> {
    let Some(pairs) = pairs else {
        return Measured::missing("one micro-batch a step, or none of the logged steps was measured");
    };
    let (small, big) = (pairs.small_tokens as f64, pairs.big_tokens as f64);
    if small >= big {
        return Measured::missing("the small batch is no smaller than the big one");
    }
    match pairs.scale_tokens() {
        Some(scale) => {
            let how = format!("{} pairs of |G|², batches of {} and {} tokens", pairs.pairs, small, big);
            Measured::estimated(scale, how)
        }
        None => Measured::missing(format!(
            "{} pairs are too few to tell the gradient from its noise",
            pairs.pairs
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose pairs have these norms, for a true |G|² and tr Σ.
    fn row(signal: f64, trace: f64, wobble: f64) -> CurveRow {
        let sq = |tokens: u64, wobble: f64| signal + trace / tokens as f64 + wobble;
        CurveRow {
            run: "a".to_owned(),
            segment: "trunk".to_owned(),
            step: 1,
            tokens: 1,
            flops: 1.0,
            train_loss: 1.0,
            val_loss: None,
            lr: 0.1,
            grad_norm: 1.0,
            decayed: false,
            tokens_per_s: None,
            data_wait: None,
            skipped: None,
            noise: Some(NoisePairs {
                pairs: 1,
                small_tokens: 100,
                small_sq: sq(100, wobble),
                big_tokens: 800,
                big_sq: sq(800, 0.0),
            }),
        }
    }

    #[test]
    fn the_ratio_is_taken_after_the_means() {
        // Errors of single pairs that cancel in the mean would not in a mean of ratios.
        let rows: Vec<_> = [0.1, -0.1, 0.2, -0.2].iter().map(|w| row(0.5, 600.0, *w)).collect();
        let scale = noise_scale(&rows);
        assert!((scale.tokens.value().unwrap() - 1200.0).abs() < 1e-6, "{scale:?}");
        assert_eq!(scale.pairs.unwrap().pairs, 4);
    }

    #[test]
    fn the_later_half_stands_alone() {
        let rows = [row(1.0, 100.0, 0.0), row(1.0, 100.0, 0.0), row(0.1, 100.0, 0.0), row(0.1, 100.0, 0.0)];
        let later = noise_scale(&rows).later_tokens;
        assert!((later.value().unwrap() - 1000.0).abs() < 1e-6, "{later:?}");
    }

    #[test]
    fn what_cannot_be_told_is_missing() {
        let none = CurveRow { noise: None, ..row(1.0, 1.0, 0.0) };
        assert!(
            matches!(noise_scale(&[none]).tokens, Measured::Missing { reason } if reason.contains("one micro-batch"))
        );
        let noise_alone = row(0.0, 100.0, 2.0);
        assert!(noise_scale(&[noise_alone]).tokens.value().is_none(), "|G|² came out below zero");
    }
}
