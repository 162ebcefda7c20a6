//! Floating-point operations of a GPT's training, part by part, under the four conventions of the literature.
//!
//! A multiply and an add are two operations. Element-wise work (norms, GELU, optimiser) is left out, as everywhere in
//! the literature. Letters: `L` layers, `d` width, `T` context, `V` vocabulary, `H` heads, `F` width of the MLP.
//!
//! Per token of a full context, forward:
//!
//! | part | Kaplan | Chinchilla | PaLM | exact |
//! |---|---|---|---|---|
//! | embedding | – | 2·V·d | – | – |
//! | attention (q, k, v, projection) | 8·L·d² | 8·L·d² | 8·L·d² | 8·L·d² |
//! | scores (and their sums of values) | – | L·(4·T·d + 3·H·T) | 4·L·T·d | 2·L·T·d |
//! | MLP | 16·L·d² | 16·L·d² | 16·L·d² | 4·L·d·F |
//! | head | – | 2·V·d | 2·V·d | 2·V·d |
//!
//! Backward is twice the forward.

use crate::{ModelShape, Point};
use serde::{Deserialize, Serialize};

/// How to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// 6·N with N = 12·L·d²: blocks only (Kaplan et al. 2020, arXiv 2001.08361, §2.1).
    Kaplan,
    /// Embedding lookup, all scores and softmax included (Hoffmann et al. 2022, arXiv 2203.15556, appendix F).
    Chinchilla,
    /// 6·N + 12·L·d·T with N all parameters but positions (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    Palm,
    /// As executed: products of blocks and head, causal scores halved, nothing for the lookup.
    Exact,
}

/// What the operations are spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The lookup of the tokens, where it is counted as a product.
    Embedding,
    /// The matrices of attention: queries, keys, values, projection.
    Attention,
    /// Scores, softmax where it is counted, and the weighted sums of values: what grows with the context.
    Scores,
    /// The two matrices of the MLP.
    Mlp,
    /// The product with the vocabulary.
    Head,
}

impl Convention {
    /// All of them, in the order of their tables.
    pub const ALL: [Self; 4] = [Self::Kaplan, Self::Chinchilla, Self::Palm, Self::Exact];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kaplan => "Kaplan (6N)",
            Self::Chinchilla => "Chinchilla",
            Self::Palm => "PaLM",
            Self::Exact => "exact",
        }
    }
}

impl Part {
    /// All of them, in the order of a forward pass.
    pub const ALL: [Self; 5] = [Self::Embedding, Self::Attention, Self::Scores, Self::Mlp, Self::Head];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Scores => "scores",
            Self::Mlp => "mlp",
            Self::Head => "head",
        }
    }
}

/// The sizes that operations are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Layers, width, heads.
    pub shape: ModelShape,
    /// Vocabulary V.
    pub vocab: usize,
    /// Context T.
    pub context: usize,
    /// Width F of the MLP's hidden layer; the conventions of the literature take it as 4·d.
    pub inner: usize,
}

impl Ledger {
    /// Of a GPT whose MLP is four times as wide as its residual stream, as all of a series are.
    pub fn new(shape: ModelShape, vocab: usize, context: usize) -> Self {
        Self { shape, vocab, context, inner: 4 * shape.d_model }
    }

    /// Operations of a part in the forward pass, per token of a full context.
    pub fn forward(&self, convention: Convention, part: Part) -> f64 {
        let (l, d, h) = (self.shape.n_layer as f64, self.shape.d_model as f64, self.shape.n_head as f64);
        let (t, v, inner) = (self.context as f64, self.vocab as f64, self.inner as f64);
        match (part, convention) {
            (Part::Embedding, Convention::Chinchilla) => 2.0 * v * d,
            (Part::Embedding, _) => 0.0,
            (Part::Attention, _) => 8.0 * l * d * d,
            (Part::Scores, Convention::Kaplan) => 0.0,
            (Part::Scores, Convention::Chinchilla) => l * (4.0 * t * d + 3.0 * h * t),
            (Part::Scores, Convention::Palm) => 4.0 * l * d * t,
            // Causal: a token looks at half of the context on average.
            (Part::Scores, Convention::Exact) => 2.0 * l * d * t,
            (Part::Mlp, Convention::Exact) => 4.0 * l * d * inner,
            (Part::Mlp, _) => 16.0 * l * d * d,
            (Part::Head, Convention::Kaplan) => 0.0,
            (Part::Head, _) => 2.0 * v * d,
        }
    }

    /// Operations of a part in training, forward and backward, per token of a full context.
    pub fn training(&self, convention: Convention, part: Part) -> f64 {
        3.0 * self.forward(convention, part)
    }

    /// Operations of all parts in training, per token of a full context.
    pub fn total(&self, convention: Convention) -> f64 {
        Part::ALL.iter().map(|part| self.training(convention, *part)).sum()
    }
}

impl Point {
    /// What its operations are counted from; `None` for what is no GPT.
    pub fn ledger(&self) -> Option<Ledger> {
        Some(Ledger::new(self.shape?, self.vocab?, self.context?))
    }

    /// Operations of a part in all of its training; `None` for what is no GPT.
    pub fn flops_of(&self, convention: Convention, part: Part) -> Option<f64> {
        Some(self.ledger()?.training(convention, part) * self.tokens as f64)
    }

    /// Operations of its training under a convention; `None` for what is no GPT.
    pub fn flops_by(&self, convention: Convention) -> Option<f64> {
        Some(self.ledger()?.total(convention) * self.tokens as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_published_formulas() {
        // nanoGPT's and llm.c's GPT-2 small: 124,439,808 parameters, of which 12·12·768² in the matrices of the blocks.
        let (l, d, t, v, h) = (12.0, 768.0, 1024.0, 50_257.0, 12.0);
        let ledger = Ledger::new("L12-d768-h12".parse().unwrap(), 50_257, 1024);
        let n = 12.0 * l * d * d;
        for (convention, per_token) in [
            (Convention::Kaplan, 6.0 * n),
            (
                Convention::Chinchilla,
                3.0 * (2.0 * v * d + l * (24.0 * d * d + 4.0 * t * d + 3.0 * h * t) + 2.0 * d * v),
            ),
            (Convention::Palm, 6.0 * (n + v * d) + 12.0 * l * d * t),
            (Convention::Exact, 6.0 * (n + v * d + l * d * t)),
        ] {
            assert_eq!(ledger.total(convention), per_token, "{convention:?}");
        }
        assert_eq!(ledger.forward(Convention::Exact, Part::Attention), l * 2.0 * 4.0 * d * d);
        assert_eq!(ledger.training(Convention::Exact, Part::Head), 6.0 * v * d);
    }

    #[test]
    fn only_the_exact_count_knows_another_width_of_the_mlp() {
        let narrow = Ledger { inner: 64, ..Ledger::new("L2-d32-h2".parse().unwrap(), 256, 256) };
        assert_eq!(narrow.forward(Convention::Exact, Part::Mlp), 2.0 * 4.0 * 32.0 * 64.0);
        assert_eq!(narrow.forward(Convention::Palm, Part::Mlp), 2.0 * 16.0 * 32.0 * 32.0);
    }
}
