//! How many elements each buffer of an engine has, and how a sequence's share of it is divided.
//!
//! Everything a sequence needs lies in one chunk of `kept` (what the forward leaves for the backward) and one of
//! `work` (what one layer's backward leaves for its weight gradients), so that a task holds its sequence and nothing
//! else:
//!
//! ```text
//!   kept:  ┌ streams ────────────┬ end ───────────┬ layer 0 ──────────────────────────┬ layer 1 … ┐
//!          │ x of every layer,   │ stats, normed  │ what the block's backward needs   │           │
//!          │ x of the end, f32   │                │                                   │           │
//!          └─────────────────────┴────────────────┴───────────────────────────────────┴───────────┘
//!          with `recompute = "block"` one layer's place serves all: the backward fills it again from the layer's x
//! ```
//!
//! What the places hold depends on the precision: [`super::plain`] and [`super::tiled`] say it.

use super::dims::{Dims, Needs, align};
use super::moments::MomentSizes;
use crate::engine::MemoryPlan;
use crate::layout::Layout;
use crate::{EngineOptions, GptConfig, Recompute};
use isoflop_kernels::AlignedBuffer;
use std::ops::Deref;

/// A weight matrix as the right operand of a product: panels of 32 columns, f32 or cells of bf16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackSpec {
    /// Which tensor.
    pub(crate) tensor: usize,
    /// Rows of the operand.
    pub(crate) k: usize,
    /// Columns of the operand.
    pub(crate) n: usize,
    /// Whether the operand is the tensor's transpose.
    pub(crate) transposed: bool,
    /// Where it begins among all packs, in f32.
    pub(crate) offset: usize,
    /// Its length, in f32.
    pub(crate) len: usize,
}

/// Which matrix of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix {
    Qkv = 0,
    Proj = 1,
    Fc = 2,
    Out = 3,
}

/// Everything an engine allocates.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) dims: Dims,
    pub(crate) layout: Layout,
    pub(crate) packs: Vec<PackSpec>,
    /// All packs together, in f32.
    pub(crate) packed: usize,
    pub(crate) needs: Needs,
    pub(crate) moments: MomentSizes,
    /// What the forward leaves of a sequence.
    pub(crate) kept: usize,
    /// From one layer's place to the next: 0 if they share one.
    block_stride: usize,
}

impl Deref for Sizes {
    type Target = Dims;

    fn deref(&self) -> &Dims {
        &self.dims
    }
}

impl Sizes {
    /// The sizes of a model, of whose form are known what it needs and how long an operand `[K,N]` is when packed, in
    /// f32.
    pub(crate) fn new(
        config: &GptConfig,
        options: &EngineOptions,
        dims: Dims,
        needs: Needs,
        packed_len: fn(usize, usize) -> usize,
    ) -> Self {
        let layout = Layout::new(config);
        let Dims { width: c, inner: f, vocab: v, .. } = dims;
        let (mut packs, mut packed) = (Vec::new(), 0);
        let mut pack = |tensor, k, n, transposed| {
            let len = packed_len(k, n);
            packs.push(PackSpec { tensor, k, n, transposed, offset: packed, len });
            packed += align(len);
        };
        for block in &layout.blocks {
            let matrices =
                [(block.qkv_w, c, 3 * c), (block.proj_w, c, c), (block.fc_w, c, f), (block.out_w, f, c)];
            for (tensor, k, n) in matrices {
                pack(tensor, k, n, false);
                pack(tensor, n, k, true);
            }
        }
        pack(layout.head, c, v, true);
        pack(layout.head, v, c, false);
        let places = match options.recompute {
            Recompute::None => dims.layers,
            Recompute::Block => 1,
        };
        Self {
            moments: MomentSizes::new(&layout, options.optimizer),
            kept: (dims.layers + 1) * dims.x + needs.end + places * needs.block,
            block_stride: if places > 1 { needs.block } else { 0 },
            dims,
            layout,
            packs,
            packed,
            needs,
        }
    }

    /// Bytes of every buffer of an engine, by what it holds.
    pub(crate) fn plan(&self) -> MemoryPlan {
        let bytes = |len: usize| AlignedBuffer::bytes(len) as u64;
        let zeros = bytes(self.length * self.width);
        let scratch = bytes(self.needs.scratch * self.threads) + bytes(self.needs.heads * self.threads);
        let groups = vec![
            ("weights", bytes(self.layout.len)),
            ("gradients", bytes(self.layout.len)),
            ("moments", self.moments.bytes()),
            ("packed weights", bytes(self.packed)),
            ("activations", bytes(self.kept * self.sequences)),
            ("backward", bytes(self.needs.work * self.sequences) + bytes(self.needs.partial)),
            ("logits", bytes(self.needs.logits * self.sequences) + bytes(self.sequences * self.length)),
            ("scratch", scratch + zeros),
        ];
        MemoryPlan { groups }
    }

    /// The input `x[T,C]` of layer `layer` in a sequence's share of `kept`; `layers` is the end of the stack.
    pub(crate) fn kept_x<'a>(&self, kept: &'a [f32], layer: usize) -> &'a [f32] {
        &kept[layer * self.x..][..self.length * self.width]
    }

    /// The end of the stack.
    pub(crate) fn end<'a>(&self, kept: &'a [f32]) -> &'a [f32] {
        &kept[(self.layers + 1) * self.x..][..self.needs.end]
    }

    /// What block `layer` keeps besides its input.
    pub(crate) fn block<'a>(&self, kept: &'a [f32], layer: usize) -> &'a [f32] {
        &kept[(self.layers + 1) * self.x + self.needs.end + layer * self.block_stride..][..self.needs.block]
    }

    /// The inputs of all layers and of the end, and everything behind them, from which [`Self::block_in`] and
    /// [`Self::end_in`] take their part.
    pub(crate) fn split_streams<'a>(&self, kept: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        kept.split_at_mut((self.layers + 1) * self.x)
    }

    /// The end of the stack in what lies behind the streams.
    pub(crate) fn end_in<'a>(&self, behind: &'a mut [f32]) -> &'a mut [f32] {
        &mut behind[..self.needs.end]
    }

    /// Block `layer` in what lies behind the streams.
    pub(crate) fn block_in<'a>(&self, behind: &'a mut [f32], layer: usize) -> &'a mut [f32] {
        &mut behind[self.needs.end + layer * self.block_stride..][..self.needs.block]
    }

    /// Whether a layer's place is used again by the next, so that its backward must fill it anew.
    pub(crate) fn blocks_share(&self) -> bool {
        self.block_stride == 0 && self.layers > 1
    }
}
