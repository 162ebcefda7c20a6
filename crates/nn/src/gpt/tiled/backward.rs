//! Backward through one block, in cells of bf16: each sequence's activations, then the weights' gradients.
//!
//! A weight gradient is cut into blocks of rows, each summed over the tokens of a group of sequences in order by one
//! task, which turns the columns of the inputs it needs; then the groups are joined ([`Gradient`]). No buffer per
//! thread but what is turned, and the same bits for any number of threads.

use super::super::form::{At, Space, WeightBuffers};
use super::super::gradient::{Gradient, sum_by_groups};
use super::super::model::Model;
use super::super::sizes::Matrix;
use super::super::sums::Sums;
use super::sizes::{KeptBlock, ScratchMut, Work, WorkMut, task_rows};
use super::{narrow, narrow_mut, right, start};
use isoflop_kernels::tiles::{Cells, attention, convert, product};
use isoflop_kernels::{Chunks, Pool, layernorm};

/// See [`super::Form::block_backward`].
pub(super) fn block(m: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], space: Space<'_>) {
    let At { layer, t, flip, .. } = at;
    let (s, set, c, f, index) = (m.sizes, m.set, m.sizes.width, m.sizes.inner, m.sizes.layout.blocks[layer]);
    let (x, k) = (&s.kept_x(kept, layer)[..t * c], KeptBlock::of(s, s.block(kept, layer)));
    let (work, Space { own, heads }) = (WorkMut::of(s, work), space);
    let space = ScratchMut::of(s, own);
    let (dout, din) = if flip { (work.dx1, work.dx0) } else { (work.dx0, work.dx1) };
    let (dout, din) = (&dout[..t * c], &mut din[..t * c]);
    let (drows, dmid) = (&mut space.drows[..t * c], &mut space.dmid[..t * c]);
    let (wide, left) = (narrow_mut(space.wide), narrow_mut(space.left));
    let sums = Sums::of(work.sums, c, f);

    // out = mid + gelu(hidden)·Wout + b;  hidden = norm2·Wfc + b
    convert::left_and_right(set, dout, (t, c), c, left, narrow_mut(work.dout), sums.out_b);
    let w = right(m.pack_transposed(layer, Matrix::Out));
    let (slope, dhidden) = (narrow(k.slope), narrow_mut(work.dhidden));
    product::gelu_backward(set, (t, f, c), Cells::whole(left, c), w, slope, wide, dhidden, sums.fc_b);
    let w = right(m.pack_transposed(layer, Matrix::Fc));
    product::rows(set, (t, c, f), Cells::whole(wide, f), w, None, None, drows, c);
    let (w, stats) = (m.weight(index.ln2_w), &k.stats2[..2 * t]);
    layernorm::backward(set, &k.mid[..t * c], stats, w, drows, dout, dmid, sums.ln2_w, sums.ln2_b);

    // mid = x + attended·Wproj + b;  qkv = norm1·Wqkv + b
    convert::left_and_right(set, dmid, (t, c), c, left, narrow_mut(work.dmid), sums.proj_b);
    let w = right(m.pack_transposed(layer, Matrix::Proj));
    product::rows(set, (t, c, c), Cells::whole(left, c), w, None, None, drows, c);
    let (layer_heads, qkv, attended) = (m.attention_heads(layer, t), narrow(k.qkv), narrow(k.attended));
    attention::backward_heads(set, layer_heads, qkv, attended, k.shifts, drows, wide, sums.qkv_b, heads);
    convert::interleave(set, wide, (t, 3 * c), narrow_mut(work.dqkv));
    let w = right(m.pack_transposed(layer, Matrix::Qkv));
    product::rows(set, (t, c, 3 * c), Cells::whole(wide, 3 * c), w, None, None, drows, c);
    let (w, stats) = (m.weight(index.ln1_w), &k.stats1[..2 * t]);
    layernorm::backward(set, x, stats, w, drows, dmid, din, sums.ln1_w, sums.ln1_b);
}

/// See [`super::Form::block_weights`].
pub(super) fn weights(m: &Model<'_>, pool: &Pool, at: At, sequences: usize, buffers: WeightBuffers<'_>) {
    let (s, set, At { layer, t, fresh, .. }) = (m.sizes, m.set, at);
    let WeightBuffers { kept, work, scratch, partial, gradients } = buffers;
    let scratch = Chunks::new(scratch, s.needs.scratch);
    let list = Gradient::of_block(s, layer, gradients, partial, |_| task_rows(s));
    sum_by_groups(pool, &list, (sequences, s.group()), fresh, |share, dw, thread| {
        let Gradient { m, n, rows, .. } = list[share.which];
        let operand = |index: usize| {
            let sequence = share.sequences.start + index;
            let k = KeptBlock::of(s, s.block(&kept[sequence * s.kept..], layer));
            let w = Work::of(s, &work[sequence * s.needs.work..]);
            let (left, right) =
                [(k.norm2, w.dhidden), (k.norm1, w.dqkv), (k.active, w.dout), (k.attended, w.dmid)]
                    [share.which];
            (Cells::whole(narrow(left), m), Cells::whole(narrow(right), t), t)
        };
        let (stretches, mut space) = (share.sequences.len(), scratch.hold(thread));
        let (space, start) = (narrow_mut(&mut space), start(share.fresh));
        let rows = share.block * rows..m.min((share.block + 1) * rows);
        product::weight_gradient(set, (m, n), rows, stretches, operand, space, start, dw);
    });
}
