//! Every floating-point operation of a model's training, under named conventions; the formulas stand in
//! `base::ledger`, where tables of points find them too.

use crate::GptConfig;
use isoflop_base::ledger::{Ledger, Part};

pub use isoflop_base::ledger::Convention;

/// One kind of product.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// What it computes.
    pub name: &'static str,
    /// Operations per token, forward.
    pub forward: f64,
    /// Operations per token, backward: twice the forward.
    pub backward: f64,
}

/// The sizes a model's operations are counted from.
fn ledger(config: &GptConfig) -> Ledger {
    Ledger { inner: config.inner(), ..Ledger::new(config.shape, config.vocab, config.context) }
}

/// The `Exact` convention, product by product, per token of a full context.
pub fn terms(config: &GptConfig) -> Vec<Term> {
    let of = |part| ledger(config).forward(Convention::Exact, part);
    let term = |name, forward| Term { name, forward, backward: 2.0 * forward };
    vec![
        term("attention: q, k, v", 0.75 * of(Part::Attention)),
        term("attention: scores and values (causal)", of(Part::Scores)),
        term("attention: projection", 0.25 * of(Part::Attention)),
        term("mlp", of(Part::Mlp)),
        term("head", of(Part::Head)),
    ]
}

/// Operations of the forward pass per token of a full context.
pub fn forward_flops_per_token(config: &GptConfig, convention: Convention) -> f64 {
    Part::ALL.iter().map(|part| ledger(config).forward(convention, *part)).sum()
}

/// Operations of forward and backward per token of a full context.
pub fn training_flops_per_token(config: &GptConfig, convention: Convention) -> f64 {
    ledger(config).total(convention)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(shape: &str, vocab: usize, context: usize) -> GptConfig {
        GptConfig::new(shape.parse().unwrap(), vocab, context)
    }

    #[test]
    fn exact_over_6nd_of_the_built_in_series() {
        let series = [
            ("L2-d24-h2", 2.33),
            ("L2-d32-h2", 2.00),
            ("L2-d48-h3", 1.67),
            ("L3-d64-h4", 1.44),
            ("L4-d80-h5", 1.33),
            ("L4-d112-h7", 1.24),
            ("L5-d160-h10", 1.16),
        ];
        for (shape, ratio) in series {
            let c = config(shape, 256, 256);
            let found = training_flops_per_token(&c, Convention::Exact) / (6.0 * c.shape.params() as f64);
            assert!((found - ratio).abs() < 0.006, "{shape}: {found}");
        }
    }

    #[test]
    fn gpt2_small_under_the_published_formulas() {
        let c = config("L12-d768-h12", 50_257, 1024);
        // nanoGPT counts neither the lookup nor the softmax, and all scores: 291,648,307,200 per sequence.
        let (l, d, t, v) = (12.0, 768.0, 1024.0, 50_257.0);
        let nanogpt = t * (l * (24.0 * d * d + 4.0 * t * d) + 2.0 * d * v);
        assert_eq!(nanogpt, 291_648_307_200.0);
        let exact = t * forward_flops_per_token(&c, Convention::Exact);
        assert_eq!(nanogpt - exact, t * l * 2.0 * t * d, "the causal half");
        let lookup_and_softmax = t * (2.0 * v * d + l * 3.0 * 12.0 * t);
        assert_eq!(t * forward_flops_per_token(&c, Convention::Chinchilla), nanogpt + lookup_and_softmax);
    }

    #[test]
    fn palm_of_gpt2_small() {
        // 875,062,886,400 per sequence, where N leaves out positions, biases, but holds the norms' weights.
        let c = config("L12-d768-h12", 50_257, 1024);
        let norms = (2.0 * 12.0 + 1.0) * 768.0;
        let with_norms = 1024.0 * (training_flops_per_token(&c, Convention::Palm) + 6.0 * norms);
        assert_eq!(with_norms, 875_062_886_400.0);
    }
}
