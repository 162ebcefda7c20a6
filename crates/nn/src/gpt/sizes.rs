//! How many elements each buffer of an engine has, and how a sequence's share of it is divided.
//!
//! Everything a sequence needs lies in one chunk of `kept` (what the forward leaves for the backward) and one of
//! `work` (what one layer's backward leaves for its weight gradients), so that a task holds its sequence and nothing else:
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

use super::moments::MomentSizes;
use super::{plain, sums, tiled};
use crate::engine::MemoryPlan;
use crate::layout::Layout;
use crate::{EngineOptions, GptConfig, Precision, Recompute};
use isoflop_kernels::{AlignedBuffer, matmul, tiles};

/// Most bytes of logits in memory, whatever the batch.
pub(super) const LOGITS_BYTES: usize = 64 << 20;
pub(super) const ALIGN: usize = 16;

/// Buffers are cut at cache lines.
pub(super) fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

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

/// Rows and columns of a block's weights; those whose gradients take the longest first.
pub(crate) fn matrices(width: usize, inner: usize) -> [(usize, usize); 4] {
    [(width, inner), (width, 3 * width), (inner, width), (width, width)]
}

/// Tokens summed before a gradient is touched, at least: with fewer, reading and writing it costs more than the products.
const GROUP_TOKENS: usize = 1024;
/// So many partial gradients have a place.
const MOST_GROUPS: usize = 8;

/// Elements of f32 a precision needs; bf16 counts as half of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// The end of the stack, per sequence.
    pub(crate) end: usize,
    /// What a block keeps, per sequence.
    pub(crate) block: usize,
    /// What a layer's backward leaves, per sequence.
    pub(crate) work: usize,
    /// Space of a thread.
    pub(crate) scratch: usize,
    /// Space of a thread for a head's attention, its own or another's.
    pub(crate) heads: usize,
    /// Positions of each sequence whose gradients of logits are in memory at once.
    pub(crate) positions: usize,
    /// Those gradients, per sequence.
    pub(crate) logits: usize,
    /// Partial weight gradients of a block, of all groups of sequences but the first.
    pub(crate) partial: usize,
}

/// Everything an engine allocates.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) layout: Layout,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    /// Width of an MLP's hidden layer.
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) vocab: usize,
    pub(crate) length: usize,
    pub(crate) sequences: usize,
    pub(crate) threads: usize,
    pub(crate) packs: Vec<PackSpec>,
    /// All packs together, in f32.
    pub(crate) packed: usize,
    pub(crate) needs: Needs,
    pub(crate) moments: MomentSizes,
    /// One layer's residual stream.
    pub(crate) x: usize,
    /// What the forward leaves of a sequence.
    pub(crate) kept: usize,
    /// From one layer's place to the next: 0 if they share one.
    block_stride: usize,
    /// Distance between rows of logits: no power of two, lest rows fall on each other in L1.
    pub(crate) logits_stride: usize,
}

impl Sizes {
    pub(crate) fn new(config: &GptConfig, options: &EngineOptions, threads: usize) -> Self {
        let layout = Layout::new(config);
        let (c, t, v, f) = (config.shape.d_model, config.context, config.vocab, config.inner());
        let (mut packs, mut packed) = (Vec::new(), 0);
        let mut pack = |tensor, k, n, transposed| {
            let len = match options.precision {
                Precision::F32 => matmul::packed_len(k, n),
                Precision::Bf16 => tiles::len(k, n) / 2,
            };
            packs.push(PackSpec { tensor, k, n, transposed, offset: packed, len });
            packed += align(len);
        };
        for block in &layout.blocks {
            for (tensor, k, n) in
                [(block.qkv_w, c, 3 * c), (block.proj_w, c, c), (block.fc_w, c, f), (block.out_w, f, c)]
            {
                pack(tensor, k, n, false);
                pack(tensor, n, k, true);
            }
        }
        pack(layout.head, c, v, true);
        pack(layout.head, v, c, false);
        let mut sizes = Self {
            layers: config.shape.n_layer,
            width: c,
            inner: f,
            heads: config.shape.n_head,
            vocab: v,
            length: t,
            sequences: options.micro_batch,
            threads,
            packs,
            packed,
            moments: MomentSizes::new(&layout, options.optimizer),
            needs: Needs {
                end: 0,
                block: 0,
                work: 0,
                scratch: 0,
                heads: 0,
                positions: 0,
                logits: 0,
                partial: 0,
            },
            x: align(t * c),
            kept: 0,
            block_stride: 0,
            logits_stride: align(v) + ALIGN,
            layout,
        };
        sizes.needs = match options.precision {
            Precision::F32 => plain::needs(&sizes),
            Precision::Bf16 => tiled::needs(&sizes),
        };
        let places = match options.recompute {
            Recompute::None => sizes.layers,
            Recompute::Block => 1,
        };
        sizes.block_stride = if places > 1 { sizes.needs.block } else { 0 };
        sizes.kept = (sizes.layers + 1) * sizes.x + sizes.needs.end + places * sizes.needs.block;
        sizes
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

    /// Sequences whose contributions to a weight gradient are summed by themselves, before those of the next group: a
    /// thread then reads again what it wrote, and what crosses between caches is a partial gradient, not activations.
    /// Enough tokens that the gradient is the smaller of the two. A matter of shapes alone, as bits must not depend on
    /// threads.
    pub(crate) fn group(&self) -> usize {
        let tokens = GROUP_TOKENS.max(4 * self.width);
        tokens.div_ceil(self.length).max(self.sequences.div_ceil(MOST_GROUPS))
    }

    /// Groups of a full batch.
    pub(crate) fn groups(&self) -> usize {
        self.sequences.div_ceil(self.group())
    }

    /// Whether a layer's place is used again by the next, so that its backward must fill it anew.
    pub(crate) fn blocks_share(&self) -> bool {
        self.block_stride == 0 && self.layers > 1
    }
}

/// Takes the first `len` elements (rounded up to whole cache lines) off `rest`.
pub(super) fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(align(len));
    *rest = tail;
    &mut head[..len]
}

pub(super) fn take_ref<'a>(rest: &mut &'a [f32], len: usize) -> &'a [f32] {
    let (head, tail) = rest.split_at(align(len));
    *rest = tail;
    &head[..len]
}

/// Structs of slices, shared and exclusive, cut one behind the other from a buffer.
macro_rules! views {
    ($($(#[$doc:meta])* $owner:ident / $owner_mut:ident { $($field:ident),* $(,)? } sizes($self:ident) { $($name:ident: $len:expr),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[allow(dead_code, reason = "some parts are only written, some only read")]
            pub(crate) struct $owner<'a> { $(pub(crate) $field: &'a [f32]),* }
            $(#[$doc])*
            pub(crate) struct $owner_mut<'a> { $(pub(crate) $field: &'a mut [f32]),* }
            #[allow(dead_code, reason = "some structs are only written, some only read")]
            impl<'a> $owner<'a> {
                pub(crate) fn of($self: &Sizes, mut rest: &'a [f32]) -> Self {
                    $(let $name = take_ref(&mut rest, $len);)*
                    let _ = rest;
                    Self { $($field),* }
                }
                /// Elements, each part in whole cache lines.
                pub(crate) fn elements($self: &Sizes) -> usize {
                    0 $(+ align($len))*
                }
            }
            impl<'a> $owner_mut<'a> {
                pub(crate) fn of($self: &Sizes, mut rest: &'a mut [f32]) -> Self {
                    $(let $name = take(&mut rest, $len);)*
                    let _ = rest;
                    Self { $($field),* }
                }
            }
        )*
    };
}
pub(super) use views;

views! {
    /// The beginning of `work` in either precision. `dx0` and `dx1`, gradients of the residual stream, change places
    /// from layer to layer; `sums` are the sequence's own [`super::sums::Sums`].
    Common / CommonMut { dx0, dx1, sums } sizes(s) {
        dx0: s.length * s.width, dx1: s.length * s.width, sums: sums::elements(s.width, s.inner),
    }
}
