//! What every task of a step may read.

use super::sizes::{Matrix, PackSpec, Sizes};
use crate::GptConfig;
use isoflop_kernels::KernelSet;
use isoflop_kernels::attention::Heads;

/// The weights, plain and packed.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) set: KernelSet,
    pub(crate) config: &'a GptConfig,
    pub(crate) sizes: &'a Sizes,
    pub(crate) weights: &'a [f32],
    pub(crate) packs: &'a [f32],
}

/// A packed weight matrix.
#[derive(Clone, Copy)]
pub(crate) struct Pack<'a> {
    pub(crate) spec: &'a PackSpec,
    pub(crate) data: &'a [f32],
}

impl<'a> Model<'a> {
    fn pack_at(&self, index: usize) -> Pack<'a> {
        let spec = &self.sizes.packs[index];
        Pack { spec, data: &self.packs[spec.offset..spec.offset + spec.len] }
    }

    pub(crate) fn of(
        set: KernelSet,
        config: &'a GptConfig,
        sizes: &'a Sizes,
        weights: &'a [f32],
        packs: &'a [f32],
    ) -> Self {
        Self { set, config, sizes, weights, packs }
    }

    /// A tensor as it is.
    pub(crate) fn weight(&self, index: usize) -> &'a [f32] {
        self.sizes.layout.of(self.weights, index)
    }

    /// A block's matrix W, packed as right operand.
    pub(crate) fn pack(&self, layer: usize, matrix: Matrix) -> Pack<'a> {
        self.pack_at(layer * 8 + matrix as usize * 2)
    }

    /// Wᵀ, packed as right operand.
    pub(crate) fn pack_transposed(&self, layer: usize, matrix: Matrix) -> Pack<'a> {
        self.pack_at(layer * 8 + matrix as usize * 2 + 1)
    }

    /// The head, transposed: `[C,V]`.
    pub(crate) fn pack_of_head(&self) -> Pack<'a> {
        self.pack_at(self.sizes.layers * 8)
    }

    /// The head `[V,C]`, for the way back.
    pub(crate) fn pack_of_head_transposed(&self) -> Pack<'a> {
        self.pack_at(self.sizes.layers * 8 + 1)
    }

    /// Where the heads of a sequence lie in a layer, and what their scores are divided by.
    pub(crate) fn attention_heads(&self, layer: usize, length: usize) -> Heads {
        let divisor = self.config.score_divisor(layer);
        Heads { length, width: self.sizes.width, count: self.sizes.heads, divisor }
    }

    /// What norms add to a variance.
    pub(crate) fn epsilon(&self) -> f32 {
        self.config.variant.norm_epsilon as f32
    }

    /// The residual stream's start `x[T,C]`: embedding of each token and of its position.
    pub(crate) fn embed(&self, tokens: &[u32], x: &mut [f32]) {
        let s = self.sizes;
        let c = s.width;
        let (wte, wpe) = (self.weight(s.layout.wte), self.weight(s.layout.wpe));
        for (position, &token) in tokens.iter().enumerate() {
            let (row, token) = (position * c, token as usize * c);
            for i in 0..c {
                x[row + i] = wte[token + i] + wpe[row + i];
            }
        }
    }
}
