//! How many elements each buffer of an engine has, and how a sequence's share of it is divided.
//!
//! Everything a sequence needs lies in one chunk of `kept` (what the forward leaves for the backward) and one of
//! `work` (what one layer's backward leaves for its weight gradients), so that a task holds its sequence and nothing else:
//!
//! ```text
//!   kept:  ┌ streams ───────────┬ end ─────────────┬ layer 0 ───────────────────────────────────────┬ layer 1 … ┐
//!          │ x of every layer,  │ stats  normed    │ stats1  qkv  attended  lse  mid  stats2  hidden │           │
//!          │ x of the end       │                  │                                                │           │
//!          └────────────────────┴──────────────────┴────────────────────────────────────────────────┴───────────┘
//!          with `recompute = "block"` one layer's place serves all: the backward fills it again from the layer's x
//!   work:    dx  dx'  dmid  dqkv  norm1  norm2  dhidden  active  partial sums of small gradients
//! ```

use crate::layout::Layout;
use crate::{EngineOptions, GptConfig, Recompute};
use isoflop_kernels::{AlignedBuffer, attention, matmul};

/// Rows that go through an MLP together, so that its hidden layer stays in the cache.
pub(crate) const ROWS: usize = 64;
/// Most bytes of logits in memory, whatever the batch.
const LOGITS_BYTES: usize = 64 << 20;
const ALIGN: usize = 16;

fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// A weight matrix as the right operand of a product.
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
}

impl PackSpec {
    pub(crate) fn len(&self) -> usize {
        matmul::packed_len(self.k, self.n)
    }
}

/// A packed weight matrix.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) spec: PackSpec,
    pub(crate) data: AlignedBuffer,
}

/// Which matrix of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix {
    Qkv = 0,
    Proj = 1,
    Fc = 2,
    Out = 3,
}

/// Elements per sequence of what the forward keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptSizes {
    /// One layer's residual stream.
    pub(crate) x: usize,
    /// Where the layers' own places begin.
    blocks: usize,
    /// From one layer's place to the next: 0 if they share one.
    block_stride: usize,
    pub(crate) total: usize,
}

/// Elements per sequence of what one layer's backward leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkSizes {
    pub(crate) total: usize,
}

/// Everything an engine allocates.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) layout: Layout,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) vocab: usize,
    pub(crate) length: usize,
    pub(crate) sequences: usize,
    pub(crate) threads: usize,
    pub(crate) packs: Vec<PackSpec>,
    pub(crate) kept: KeptSizes,
    pub(crate) work: WorkSizes,
    /// Rows of logits in memory, all sequences together; a multiple of `sequences`.
    pub(crate) logits_rows: usize,
    pub(crate) logits_stride: usize,
    /// Per thread.
    pub(crate) scratch: usize,
}

impl Sizes {
    pub(crate) fn new(config: &GptConfig, options: &EngineOptions) -> Self {
        let layout = Layout::new(config);
        let (c, t, h, v) = (config.shape.d_model, config.context, config.shape.n_head, config.vocab);
        let mut packs = Vec::new();
        for block in &layout.blocks {
            for (tensor, k, n) in [
                (block.qkv_w, c, 3 * c),
                (block.proj_w, c, c),
                (block.fc_w, c, 4 * c),
                (block.out_w, 4 * c, c),
            ] {
                packs.push(PackSpec { tensor, k, n, transposed: false });
                packs.push(PackSpec { tensor, k: n, n: k, transposed: true });
            }
        }
        packs.push(PackSpec { tensor: layout.wte, k: c, n: v, transposed: true });
        packs.push(PackSpec { tensor: layout.wte, k: v, n: c, transposed: false });
        let (x, stats) = (align(t * c), align(t * 2));
        let block = stats + align(t * 3 * c) + x + align(h * t) + x + stats + align(t * 4 * c);
        let blocks = (config.shape.n_layer + 1) * x + stats + x;
        let (block_stride, places) = match options.recompute {
            Recompute::None => (block, config.shape.n_layer),
            Recompute::Block => (0, 1),
        };
        let kept = KeptSizes { x, blocks, block_stride, total: blocks + places * block };
        let work =
            WorkSizes { total: 3 * x + align(t * 3 * c) + 2 * x + 2 * align(t * 4 * c) + align(15 * c) };
        // A stride that is no power of two keeps rows from falling on each other in L1.
        let logits_stride = align(v) + ALIGN;
        let sequences = options.micro_batch;
        let fitting = LOGITS_BYTES / (4 * logits_stride * sequences);
        let rows_each = if fitting >= t { t } else { (fitting / 8 * 8).clamp(8.min(t), t) };
        Self {
            layers: config.shape.n_layer,
            width: c,
            heads: h,
            vocab: v,
            length: t,
            sequences,
            threads: options.threads,
            packs,
            kept,
            work,
            logits_rows: rows_each * sequences,
            logits_stride,
            scratch: x + align(ROWS * c) + align(ROWS * 4 * c) + align(attention::scratch_len(t, c / h)),
            layout,
        }
    }

    /// Rows of logits each sequence has room for.
    pub(crate) fn logits_rows_each(&self) -> usize {
        self.logits_rows / self.sequences
    }
}

/// Takes the first `len` elements (rounded up to whole cache lines) off `rest`.
pub(crate) fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(align(len));
    *rest = tail;
    &mut head[..len]
}

fn take_ref<'a>(rest: &mut &'a [f32], len: usize) -> &'a [f32] {
    let (head, tail) = rest.split_at(align(len));
    *rest = tail;
    &head[..len]
}

macro_rules! views {
    ($($(#[$doc:meta])* $owner:ident / $owner_mut:ident { $($field:ident),* $(,)? } sizes($self:ident) { $($name:ident: $len:expr),* $(,)? })*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $owner<'a> { $(pub(crate) $field: &'a [f32]),* }
            $(#[$doc])*
            pub(crate) struct $owner_mut<'a> { $(pub(crate) $field: &'a mut [f32]),* }
            impl<'a> $owner<'a> {
                pub(crate) fn of($self: &Sizes, mut rest: &'a [f32]) -> Self {
                    $(let $name = take_ref(&mut rest, $len);)*
                    Self { $($field),* }
                }
            }
            impl<'a> $owner_mut<'a> {
                /// The view, and what follows it.
                pub(crate) fn of($self: &Sizes, mut rest: &'a mut [f32]) -> (Self, &'a mut [f32]) {
                    $(let $name = take(&mut rest, $len);)*
                    (Self { $($field),* }, rest)
                }
            }
        )*
    };
}

views! {
    /// What one block's forward keeps of a sequence besides its input. `mid[T,C]` is the residual stream after attention,
    /// `hidden[T,4C]` the MLP before GELU; `stats` are `(mean, rstd)` of the norms.
    KeptBlock / KeptBlockMut { stats1, qkv, attended, lse, mid, stats2, hidden } sizes(s) {
        stats1: s.length * 2, qkv: s.length * 3 * s.width, attended: s.length * s.width,
        lse: s.heads * s.length, mid: s.length * s.width, stats2: s.length * 2, hidden: s.length * 4 * s.width,
    }
    /// The end of the stack: the last norm's statistics and the normed rows the head multiplies.
    KeptEnd / KeptEndMut { stats, normed } sizes(s) {
        stats: s.length * 2, normed: s.length * s.width,
    }
    /// What one layer's backward leaves. `dx0` and `dx1` change places from layer to layer; `sums` are the small
    /// gradients of this sequence alone: ln1 w b, ln2 w b (C each), qkv b (3C), proj b, fc b (4C), out b, lnf w b.
    Work / WorkMut { dx0, dx1, dmid, dqkv, norm1, norm2, dhidden, active, sums } sizes(s) {
        dx0: s.length * s.width, dx1: s.length * s.width, dmid: s.length * s.width, dqkv: s.length * 3 * s.width,
        norm1: s.length * s.width, norm2: s.length * s.width, dhidden: s.length * 4 * s.width,
        active: s.length * 4 * s.width, sums: 15 * s.width,
    }
}

/// A thread's own space: `rows[T,C]`, the inside of an MLP for [`ROWS`] rows, and attention's.
pub(crate) struct ScratchMut<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) norm: &'a mut [f32],
    pub(crate) active: &'a mut [f32],
    pub(crate) attention: &'a mut [f32],
}

impl<'a> ScratchMut<'a> {
    pub(crate) fn of(s: &Sizes, mut rest: &'a mut [f32]) -> Self {
        Self {
            rows: take(&mut rest, s.length * s.width),
            norm: take(&mut rest, ROWS * s.width),
            active: take(&mut rest, ROWS * 4 * s.width),
            attention: take(&mut rest, attention::scratch_len(s.length, s.width / s.heads)),
        }
    }
}

impl Sizes {
    /// The input `x[T,C]` of layer `layer` in a sequence's share of `kept`; `layers` is the end of the stack.
    pub(crate) fn kept_x<'a>(&self, kept: &'a [f32], layer: usize) -> &'a [f32] {
        &kept[layer * self.kept.x..][..self.length * self.width]
    }

    /// What block `layer` keeps besides.
    pub(crate) fn kept_block<'a>(&self, kept: &'a [f32], layer: usize) -> KeptBlock<'a> {
        KeptBlock::of(self, &kept[self.block_at(layer)..])
    }

    /// The end of the stack.
    pub(crate) fn kept_end<'a>(&self, kept: &'a [f32]) -> KeptEnd<'a> {
        KeptEnd::of(self, &kept[(self.layers + 1) * self.kept.x..])
    }

    /// The inputs of all layers and of the end, and everything behind them, from which [`Self::block_in`] and
    /// [`Self::end_in`] take their part.
    pub(crate) fn split_streams<'a>(&self, kept: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        kept.split_at_mut((self.layers + 1) * self.kept.x)
    }

    /// Block `layer` in what lies behind the streams.
    pub(crate) fn block_in<'a>(&self, behind: &'a mut [f32], layer: usize) -> KeptBlockMut<'a> {
        KeptBlockMut::of(self, &mut behind[self.block_at(layer) - (self.layers + 1) * self.kept.x..]).0
    }

    /// The end of the stack in what lies behind the streams.
    pub(crate) fn end_in<'a>(&self, behind: &'a mut [f32]) -> KeptEndMut<'a> {
        KeptEndMut::of(self, behind).0
    }

    /// Whether a layer's place is used again by the next, so that its backward must fill it anew.
    pub(crate) fn blocks_share(&self) -> bool {
        self.kept.block_stride == 0 && self.layers > 1
    }

    fn block_at(&self, layer: usize) -> usize {
        self.kept.blocks + layer * self.kept.block_stride
    }
}
