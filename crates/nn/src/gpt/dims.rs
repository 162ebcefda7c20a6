//! The dimensions of a model in training, and buffers cut by them: what the forms of the walk compute their needs from.

use super::sums;
use crate::{EngineOptions, GptConfig};

/// Most bytes of logits in memory, whatever the batch.
pub(super) const LOGITS_BYTES: usize = 64 << 20;
pub(super) const ALIGN: usize = 16;

/// Buffers are cut at cache lines.
pub(super) fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Tokens summed before a gradient is touched, at least: with fewer, reading and writing it costs more than the
/// products.
const GROUP_TOKENS: usize = 1024;
/// So many partial gradients have a place.
const MOST_GROUPS: usize = 8;

/// Dimensions, from which everything else follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dims {
    pub(crate) layers: usize,
    /// C.
    pub(crate) width: usize,
    /// F, the width of an MLP's hidden layer.
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    /// V.
    pub(crate) vocab: usize,
    /// T, at most.
    pub(crate) length: usize,
    /// B, at most.
    pub(crate) sequences: usize,
    pub(crate) threads: usize,
    /// One layer's residual stream of a sequence.
    pub(crate) x: usize,
    /// Distance between rows of logits: no power of two, lest rows fall on each other in L1.
    pub(crate) logits_stride: usize,
}

impl Dims {
    pub(crate) fn new(config: &GptConfig, options: &EngineOptions, threads: usize) -> Self {
        Self {
            layers: config.shape.n_layer,
            width: config.shape.d_model,
            inner: config.inner(),
            heads: config.shape.n_head,
            vocab: config.vocab,
            length: config.context,
            sequences: options.micro_batch,
            threads,
            x: align(config.context * config.shape.d_model),
            logits_stride: align(config.vocab) + ALIGN,
        }
    }

    /// Rows and columns of a block's weights; those whose gradients take the longest first.
    pub(crate) fn matrices(&self) -> [(usize, usize); 4] {
        let (c, f) = (self.width, self.inner);
        [(c, f), (c, 3 * c), (f, c), (c, c)]
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
}

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
    ($(
        $(#[$doc:meta])*
        $owner:ident / $owner_mut:ident { $($field:ident),* $(,)? } sizes($self:ident) {
            $($name:ident: $len:expr),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[allow(dead_code, reason = "some parts are only written, some only read")]
            pub(crate) struct $owner<'a> { $(pub(crate) $field: &'a [f32]),* }
            $(#[$doc])*
            pub(crate) struct $owner_mut<'a> { $(pub(crate) $field: &'a mut [f32]),* }
            #[allow(dead_code, reason = "some structs are only written, some only read")]
            impl<'a> $owner<'a> {
                pub(crate) fn of($self: &Dims, mut rest: &'a [f32]) -> Self {
                    $(let $name = take_ref(&mut rest, $len);)*
                    let _ = rest;
                    Self { $($field),* }
                }
                /// Elements, each part in whole cache lines.
                pub(crate) fn elements($self: &Dims) -> usize {
                    0 $(+ align($len))*
                }
            }
            impl<'a> $owner_mut<'a> {
                pub(crate) fn of($self: &Dims, mut rest: &'a mut [f32]) -> Self {
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
