//! Text from a model: one token after the other, drawn at a temperature from a stream that is a function of the seed.

use crate::stop::Stop;
use isoflop_base::bits::SplitMix64;
use isoflop_nn::LanguageModel;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Tokens to add.
    pub length: usize,
    /// 0 takes the likeliest token; 1 the model's own distribution.
    pub temperature: f64,
    /// Same seed, same text.
    pub seed: u64,
}

/// Continues `prompt` (at least one token); the context slides where the text outgrows it.
pub fn generate(
    engine: &mut impl LanguageModel,
    context: usize,
    prompt: &[u32],
    draw: Draw,
    stop: &Stop,
) -> anyhow::Result<Vec<u32>> {
    let mut tokens = prompt.to_vec();
    let mut random = SplitMix64(draw.seed);
    for _ in 0..draw.length {
        stop.check()?;
        let logits = engine.next_token_logits(&tokens[tokens.len().saturating_sub(context)..])?;
        tokens.push(pick(&logits, draw.temperature, &mut random));
    }
    Ok(tokens.split_off(prompt.len()))
}

/// A token with probability proportional to exp(logit / temperature).
fn pick(logits: &[f32], temperature: f64, random: &mut SplitMix64) -> u32 {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
    if temperature <= 0.0 {
        return best as u32;
    }
    let weight = |logit: f32| libm::exp(f64::from(logit - logits[best]) / temperature);
    let mut left = random.unit() * logits.iter().map(|l| weight(*l)).sum::<f64>();
    for (token, logit) in logits.iter().enumerate() {
        left -= weight(*logit);
        if left < 0.0 {
            return token as u32;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let logits = [0.0, 1.0f32, -100.0];
        let mut random = SplitMix64(7);
        let ones = (0..20_000).filter(|_| pick(&logits, 1.0, &mut random) == 1).count() as f64 / 20_000.0;
        let expected = std::f64::consts::E / (1.0 + std::f64::consts::E);
        // Standard error 0.0031.
        assert!((ones - expected).abs() < 0.013, "{ones}");
        assert_eq!(pick(&logits, 0.0, &mut random), 1);
    }
}
