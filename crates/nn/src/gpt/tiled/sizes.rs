//! What bf16 keeps. Operands are cells, counted here as half as many f32.

use super::super::dims::{Dims, LOGITS_BYTES, Needs, align, take, take_ref, views};
use super::super::gradient::{partial_len, partial_len_of_block};
use super::super::sums;
use isoflop_kernels::tiles::{SIDE, attention, cells, len, product};

/// Bytes of logits in f32 that a thread works on at once: about what stays in L2.
const STRIP_BYTES: usize = 1 << 20;
/// Rows of logits that share one reading of the embedding, at least: it may be far larger than any cache.
const STRIP_ROWS: usize = 64;

/// Gradients of logits that stay near a thread, in bytes.
const NEAR_BYTES: usize = 2 << 20;

/// Tokens summed before the embedding's gradient is touched again.
const HEAD_TOKENS: usize = 1024;

/// f32 that take the place of a bf16 operand `[rows, columns]`.
fn half(rows: usize, columns: usize) -> usize {
    len(rows, columns) / 2
}

/// Rows of logits a thread works on at once.
pub(super) fn strip_rows(s: &Dims) -> usize {
    let fitting = STRIP_BYTES / (4 * s.logits_stride) / SIDE * SIDE;
    fitting.clamp(STRIP_ROWS, 8 * SIDE).min(s.length.next_multiple_of(SIDE))
}

/// Rows of a weight's gradient that one task sums: four blocks where a right operand comes from afar, so that it comes
/// once for all of them; in small models it lies near anyway, and tasks would be too few.
pub(super) fn task_rows(s: &Dims) -> usize {
    if s.width < 128 { SIDE } else { 4 * SIDE }
}

/// Groups whose parts of the embedding's gradient are summed by themselves: as a block's, if the gradients of all
/// logits fit where they stay near, else one.
pub(super) fn head_groups(s: &Dims) -> usize {
    let bytes = 2 * s.sequences * len(s.length, s.vocab);
    if bytes <= NEAR_BYTES { s.groups() } else { 1 }
}

/// Space for a model of these dimensions.
pub(crate) fn needs(s: &Dims) -> Needs {
    // Gradients of logits lie in cells of 32 positions. No more of them than the embedding's gradient needs to be
    // fast: what waits in memory is written and read once more than what waits in a cache.
    let fitting = LOGITS_BYTES / (2 * s.sequences * cells(s.vocab) * SIDE) / SIDE * SIDE;
    let enough = (HEAD_TOKENS * head_groups(s)).div_ceil(s.sequences).next_multiple_of(SIDE);
    let positions = fitting.min(enough).clamp(SIDE, s.length.next_multiple_of(SIDE));
    let turned = product::turned_len(task_rows(s), s.group(), s.length).max(product::turned_len(
        SIDE,
        s.sequences,
        positions,
    )) / 2;
    let c = s.width;
    let block = partial_len_of_block(s, |_| task_rows(s));
    let partial = ((s.groups() - 1) * block).max((head_groups(s) - 1) * partial_len(s.vocab, c, SIDE));
    Needs {
        end: KeptEnd::elements(s),
        block: KeptBlock::elements(s),
        work: Work::elements(s),
        scratch: Scratch::elements(s).max(HeadScratch::elements(s)).max(turned),
        heads: align(attention::scratch_len(s.length, s.width / s.heads)),
        positions,
        logits: half(positions, s.vocab),
        partial,
    }
}

views! {
    /// What one block's forward keeps of a sequence besides its input. `norm1`, `qkv[T,3C]`, `attended`, `norm2`,
    /// `active` are left operands, `slope` is GELU's in their order; `mid[T,C]` is the residual stream after attention,
    /// `shifts` what attention's backward knows of each head's rows, `stats` are `(mean, rstd)`.
    KeptBlock / KeptBlockMut { stats1, norm1, qkv, attended, shifts, mid, stats2, norm2, active, slope } sizes(s) {
        stats1: s.length * 2, norm1: half(s.length, s.width), qkv: half(s.length, 3 * s.width),
        attended: half(s.length, s.width), shifts: s.heads * attention::stats_len(s.length), mid: s.length * s.width,
        stats2: s.length * 2, norm2: half(s.length, s.width), active: half(s.length, s.inner),
        slope: half(s.length, s.inner),
    }
    /// The end of the stack: the last norm's statistics and the normed rows, a left operand.
    KeptEnd / KeptEndMut { stats, normed } sizes(s) {
        stats: s.length * 2, normed: half(s.length, s.width),
    }
    /// What one layer's backward leaves: [`super::super::dims::Common`] and the gradients of the products' outputs as
    /// right operands (k = positions). While the head is computed, `dout` holds the normed rows as right operand.
    Work / WorkMut { dx0, dx1, sums, dqkv, dmid, dhidden, dout } sizes(s) {
        dx0: s.length * s.width, dx1: s.length * s.width, sums: sums::elements(s.width, s.inner),
        dqkv: half(s.length, 3 * s.width), dmid: half(s.length, s.width),
        dhidden: half(s.length, s.inner), dout: half(s.length, s.width),
    }
    /// A thread's own space in the backward. `drows[T,C]`, `dmid[T,C]` are f32; `wide` and `left` are left operands
    /// `[T,F]` or `[T,3C]`, and `[T,C]`. While weights' gradients are summed, all of it holds turned cells.
    Scratch / ScratchMut { drows, dmid, wide, left } sizes(s) {
        drows: s.length * s.width, dmid: s.length * s.width,
        wide: half(s.length, s.inner.max(3 * s.width)), left: half(s.length, s.width),
    }
    /// The same space while the head is computed: logits of a strip, each row's factor.
    HeadScratch / HeadScratchMut { logits, factors } sizes(s) {
        logits: strip_rows(s) * s.logits_stride, factors: strip_rows(s),
    }
}
