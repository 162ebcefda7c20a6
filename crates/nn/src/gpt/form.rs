//! What the two forms of the walk must each bring: [`super::plain`] in rows of f32, [`super::tiled`] in cells of bf16.

use super::dims::{Dims, Needs};
use super::model::Model;
use isoflop_base::TokenBatch;
use isoflop_kernels::pieces::Part;
use isoflop_kernels::{Chunks, KernelSet, Pool};

/// What the head reads and writes: everybody's shares.
pub(crate) struct HeadBuffers<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) kept: &'a [f32],
    pub(crate) work: &'a mut [f32],
    pub(crate) logits: &'a mut [f32],
    pub(crate) losses: &'a mut [f32],
    pub(crate) scratch: &'a mut [f32],
    pub(crate) partial: &'a mut [f32],
    pub(crate) gradients: &'a mut [f32],
    /// Whether the gradients hold nothing yet: what is there is overwritten, not added to.
    pub(crate) fresh: bool,
}

/// What weights' gradients are made of: everybody's shares.
pub(crate) struct WeightBuffers<'a> {
    pub(crate) kept: &'a [f32],
    pub(crate) work: &'a [f32],
    pub(crate) scratch: &'a mut [f32],
    pub(crate) partial: &'a mut [f32],
    pub(crate) gradients: &'a mut [f32],
}

/// Where a thread computes.
pub(crate) struct Space<'a> {
    /// Its own, `needs.scratch` elements.
    pub(crate) own: &'a mut [f32],
    /// Every thread's for a head, `needs.heads` elements each: heads are shared with threads that have nothing to do.
    pub(crate) heads: &'a Chunks<'a>,
}

impl Space<'_> {
    /// The same for a while.
    pub(crate) fn again(&mut self) -> Space<'_> {
        Space { own: self.own, heads: self.heads }
    }
}

/// Where the backward stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Which block.
    pub(crate) layer: usize,
    /// Positions.
    pub(crate) t: usize,
    /// Whether `dx1` holds the gradient of the block's output, else `dx0`.
    pub(crate) flip: bool,
    /// See [`HeadBuffers::fresh`].
    pub(crate) fresh: bool,
}

/// A form of the walk. `kept`, `work` and `space` are a sequence's and a thread's shares unless said otherwise.
pub(crate) trait Form {
    /// Elements of f32 a model of these dimensions needs.
    fn needs(dims: &Dims) -> Needs;

    /// Elements of f32 that a packed right operand `[K,N]` takes.
    fn packed_len(k: usize, n: usize) -> usize;

    /// Elements of f32 that `rows` rows of an operand take in a panel of 32 columns.
    fn rows_len(rows: usize) -> usize;

    /// One block: `next[T,C] = x + attention + mlp`, and in `place` what its backward needs.
    fn block(
        model: &Model<'_>,
        layer: usize,
        x: &[f32],
        place: &mut [f32],
        next: &mut [f32],
        space: Space<'_>,
    );

    /// The normed rows the head multiplies, and the norm's statistics, into the end of the stack.
    fn last_norm(model: &Model<'_>, x: &[f32], end: &mut [f32]);

    /// Losses of the whole batch; with `scale` also the gradients of the normed rows (into `dx1`) and of the embedding.
    fn head(model: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>);

    /// Logits of the last of `t` positions, one row.
    fn last_logits(model: &Model<'_>, t: usize, kept: &[f32], scratch: &mut [f32], logits: &mut [f32]);

    /// One block: from the gradient of its output to that of its input, leaving in `work` what its weights need.
    fn block_backward(model: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], space: Space<'_>);

    /// The four weight gradients of a block.
    fn block_weights(model: &Model<'_>, pool: &Pool, at: At, sequences: usize, buffers: WeightBuffers<'_>);

    /// Packs up to 32 rows `w[R,C]` of a weight: into each panel of 32 columns of the right operand W (`across` gives
    /// the rows' place in a panel), and as 32 columns of the right operand Wᵀ (`along`).
    fn pack(set: KernelSet, w: &[f32], columns: usize, across: Across<'_, '_>, along: &mut [f32]);
}

/// The place of some rows in each panel of a pack.
pub(crate) struct Across<'a, 'b> {
    pub(crate) part: &'a mut Part<'b, f32>,
    /// First element of the rows in a panel's share of the part.
    pub(crate) from: usize,
    pub(crate) len: usize,
}

impl Across<'_, '_> {
    /// In panel `index`.
    pub(crate) fn panel(&mut self, index: usize) -> &mut [f32] {
        &mut self.part.run(index)[self.from..][..self.len]
    }
}
