//! What f32 keeps, in plain rows.

use super::super::dims::{Dims, LOGITS_BYTES, Needs, align, take, take_ref, views};
use super::super::gradient::partial_len_of_block;
use super::super::sums;
use super::backward::task_rows;
use isoflop_kernels::attention;

/// Rows that go through an MLP together, so that its hidden layer stays in the cache.
pub(crate) const ROWS: usize = 128;

/// Space for a model of these dimensions.
pub(crate) fn needs(s: &Dims) -> Needs {
    let (c, t) = (s.width, s.length);
    let fitting = LOGITS_BYTES / (4 * s.logits_stride * s.sequences);
    // Even passes: a rest of a few positions would cost a whole pass over the head's weights and gradient.
    let passes = t.div_ceil((fitting / 8 * 8).max(8));
    let positions = if fitting >= t { t } else { t.div_ceil(passes).next_multiple_of(8).min(t) };
    let block = partial_len_of_block(s, |m| task_rows(m, s.threads));
    Needs {
        end: KeptEnd::elements(s),
        block: KeptBlock::elements(s),
        work: Work::elements(s),
        scratch: s.x + align(ROWS * c) + align(ROWS * s.inner),
        heads: align(attention::scratch_len(t, c / s.heads)),
        positions,
        logits: positions * s.logits_stride,
        partial: (s.groups() - 1) * block,
    }
}

views! {
    /// What one block's forward keeps of a sequence besides its input. `mid[T,C]` is the residual stream after
    /// attention, `hidden[T,F]` the MLP before GELU; `stats` are `(mean, rstd)` of the norms.
    KeptBlock / KeptBlockMut { stats1, qkv, attended, lse, mid, stats2, hidden } sizes(s) {
        stats1: s.length * 2, qkv: s.length * 3 * s.width, attended: s.length * s.width,
        lse: s.heads * s.length, mid: s.length * s.width, stats2: s.length * 2, hidden: s.length * s.inner,
    }
    /// The end of the stack: the last norm's statistics and the normed rows the head multiplies.
    KeptEnd / KeptEndMut { stats, normed } sizes(s) {
        stats: s.length * 2, normed: s.length * s.width,
    }
    /// What one layer's backward leaves: [`super::super::dims::Common`] and the operands of the weights' gradients.
    Work / WorkMut { dx0, dx1, sums, dmid, dqkv, norm1, norm2, dhidden, active } sizes(s) {
        dx0: s.length * s.width, dx1: s.length * s.width, sums: sums::elements(s.width, s.inner),
        dmid: s.length * s.width, dqkv: s.length * 3 * s.width,
        norm1: s.length * s.width, norm2: s.length * s.width, dhidden: s.length * s.inner,
        active: s.length * s.inner,
    }
}

/// A thread's own space: `rows[T,C]` and the inside of an MLP for [`ROWS`] rows.
pub(crate) struct ScratchMut<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) norm: &'a mut [f32],
    pub(crate) active: &'a mut [f32],
}

impl<'a> ScratchMut<'a> {
    pub(crate) fn of(s: &Dims, mut rest: &'a mut [f32]) -> Self {
        Self {
            rows: take(&mut rest, s.length * s.width),
            norm: take(&mut rest, ROWS * s.width),
            active: take(&mut rest, ROWS * s.inner),
        }
    }
}
