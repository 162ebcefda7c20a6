//! Initial weights: a function of (seed, tensor, element), so that no order of evaluation can change them.

use crate::GptConfig;
use crate::layout::{Layout, Start};
use isoflop_base::bits::SplitMix64;

/// A number's bits mixed: the first of the stream it seeds.
pub(crate) fn mix(x: u64) -> u64 {
    SplitMix64(x).next_u64()
}

/// A standard normal for (key, index): Box and Muller's transform of two hashed uniforms.
pub(crate) fn normal(key: u64, index: u64) -> f64 {
    let bits = mix(key ^ mix(index));
    let u1 = ((bits >> 11) as f64 + 1.0) / (1u64 << 53) as f64; // in (0, 1]
    let u2 = (mix(bits) >> 11) as f64 / (1u64 << 53) as f64;
    libm::sqrt(-2.0 * libm::log(u1)) * libm::cos(2.0 * std::f64::consts::PI * u2)
}

/// Fills a flat buffer of weights.
pub fn weights(config: &GptConfig, layout: &Layout, seed: u64, weights: &mut [f32]) {
    let std = config.initializer_range();
    let residual = std / libm::sqrt(2.0 * config.shape.n_layer as f64);
    for (number, tensor) in layout.tensors.iter().enumerate() {
        let key = mix(seed ^ mix(number as u64 + 1));
        let out = &mut weights[tensor.range()];
        match tensor.start {
            Start::Zero => out.fill(0.0),
            Start::One => out.fill(1.0),
            Start::Normal | Start::Residual => {
                let scale = if tensor.start == Start::Normal { std } else { residual };
                for (i, w) in out.iter_mut().enumerate() {
                    *w = (scale * normal(key, i as u64)) as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_their_standard_deviation_and_depend_on_the_seed() {
        let config = GptConfig::new("L2-d64-h2".parse().unwrap(), 256, 64);
        let layout = Layout::new(&config);
        let make = |seed| {
            let mut w = vec![0f32; layout.len];
            weights(&config, &layout, seed, &mut w);
            w
        };
        let (a, b) = (make(1), make(2));
        assert_eq!(a, make(1));
        assert_ne!(a, b);
        let moments = |x: &[f32]| {
            let n = x.len() as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            (mean, (x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
        };
        let expected = 0.02 * (768.0f64 / 64.0).sqrt();
        let (mean, std) = moments(layout.of(&a, layout.blocks[0].qkv_w));
        assert!(mean.abs() < 0.003 && (std / expected - 1.0).abs() < 0.03, "{mean} {std}");
        let (_, std) = moments(layout.of(&a, layout.blocks[1].out_w));
        assert!((std / (expected / 2.0) - 1.0).abs() < 0.03, "{std}");
        // Tensors of one shape start differently.
        assert_ne!(layout.of(&a, layout.blocks[0].qkv_w), layout.of(&a, layout.blocks[1].qkv_w));
    }
}
