//! Backward through one block, in cells of bf16: each sequence's activations, then the weights' gradients.
//!
//! A weight gradient is cut into blocks of 32 rows, each summed over the tokens of a group of sequences in order by one
//! task, which turns the columns of the inputs it needs; then the groups are joined ([`Gradient`]). No buffer per thread
//! but what is turned, and the same bits for any number of threads.

use super::super::form::{At, Space, WeightBuffers};
use super::super::model::Model;
use super::super::sizes::{MATRICES, Matrix, take};
use super::super::sums::Sums;
use super::gradient::{Gradient, partial_len};
use super::sizes::{KeptBlock, ScratchMut, Work, WorkMut};
use super::{narrow, narrow_mut, right};
use isoflop_kernels::tiles::{Cells, attention, convert, product};
use isoflop_kernels::{Chunks, Pool, layernorm};

/// See [`super::Form::block_backward`].
pub(super) fn block(m: &Model<'_>, at: At, kept: &[f32], work: &mut [f32], space: Space<'_>) {
    let At { layer, t, flip, .. } = at;
    let (s, set, c, index) = (m.sizes, m.set, m.sizes.width, m.sizes.layout.blocks[layer]);
    let (x, k) = (&s.kept_x(kept, layer)[..t * c], KeptBlock::of(s, s.block(kept, layer)));
    let (work, Space { own, heads }) = (WorkMut::of(s, work), space);
    let space = ScratchMut::of(s, own);
    let (dout, din) = if flip { (work.dx1, work.dx0) } else { (work.dx0, work.dx1) };
    let (dout, din) = (&dout[..t * c], &mut din[..t * c]);
    let (drows, dmid) = (&mut space.drows[..t * c], &mut space.dmid[..t * c]);
    let (wide, left) = (narrow_mut(space.wide), narrow_mut(space.left));
    let sums = Sums::of(work.sums, c);

    // out = mid + gelu(hidden)·Wout + b;  hidden = norm2·Wfc + b
    convert::left_and_right(set, dout, (t, c), c, left, narrow_mut(work.dout), sums.out_b);
    let w = right(m.pack_transposed(layer, Matrix::Out));
    let (slope, dhidden) = (narrow(k.slope), narrow_mut(work.dhidden));
    product::gelu_backward(set, (t, 4 * c, c), Cells::whole(left, c), w, slope, wide, dhidden, sums.fc_b);
    let w = right(m.pack_transposed(layer, Matrix::Fc));
    product::rows(set, (t, c, 4 * c), Cells::whole(wide, 4 * c), w, None, None, drows, c);
    let (w, stats) = (m.weight(index.ln2_w), &k.stats2[..2 * t]);
    layernorm::backward(set, &k.mid[..t * c], stats, w, drows, dout, dmid, sums.ln2_w, sums.ln2_b);

    // mid = x + attended·Wproj + b;  qkv = norm1·Wqkv + b
    convert::left_and_right(set, dmid, (t, c), c, left, narrow_mut(work.dmid), sums.proj_b);
    let w = right(m.pack_transposed(layer, Matrix::Proj));
    product::rows(set, (t, c, c), Cells::whole(left, c), w, None, None, drows, c);
    let (layer_heads, qkv, attended) = (m.attention_heads(t), narrow(k.qkv), narrow(k.attended));
    attention::backward_heads(set, layer_heads, qkv, attended, k.shifts, drows, wide, sums.qkv_b, heads);
    convert::interleave(set, wide, (t, 3 * c), narrow_mut(work.dqkv));
    let w = right(m.pack_transposed(layer, Matrix::Qkv));
    product::rows(set, (t, c, 3 * c), Cells::whole(wide, 3 * c), w, None, None, drows, c);
    let (w, stats) = (m.weight(index.ln1_w), &k.stats1[..2 * t]);
    layernorm::backward(set, x, stats, w, drows, dmid, din, sums.ln1_w, sums.ln1_b);
}

/// See [`super::Form::block_weights`].
pub(super) fn weights(m: &Model<'_>, pool: &Pool, at: At, sequences: usize, buffers: WeightBuffers<'_>) {
    let (s, c, At { layer, t, .. }) = (m.sizes, m.sizes.width, at);
    let WeightBuffers { kept, work, scratch, mut partial, gradients } = buffers;
    let scratch = Chunks::new(scratch, s.needs.scratch);
    let [dqkv, dproj, dfc, dout] = s.layout.matrices_mut(layer, gradients);
    let mut gradients = [dfc, dqkv, dout, dproj].into_iter();
    let list = MATRICES.map(|(rows, columns)| {
        let (rows, columns) = (rows * c, columns * c);
        let part = take(&mut partial, (s.groups() - 1) * partial_len(rows, columns));
        Gradient::new((rows, columns), gradients.next().expect("as many as matrices"), part)
    });
    let blocks: usize = list.iter().map(Gradient::blocks).sum();
    let find = |mut block: usize| {
        let mut which = 0;
        while block >= list[which].blocks() {
            block -= list[which].blocks();
            which += 1;
        }
        (which, block)
    };
    let groups = sequences.div_ceil(s.group());
    pool.run(groups * blocks, |task, thread| {
        let (group, (which, block)) = (task / blocks, find(task % blocks));
        let (gradient, first) = (&list[which], group * s.group());
        let operand = |index: usize| {
            let sequence = first + index;
            let k = KeptBlock::of(s, s.block(&kept[sequence * s.kept..], layer));
            let w = Work::of(s, &work[sequence * s.needs.work..]);
            let (left, right) =
                [(k.norm2, w.dhidden), (k.norm1, w.dqkv), (k.active, w.dout), (k.attended, w.dmid)][which];
            (Cells::whole(narrow(left), gradient.rows()), Cells::whole(narrow(right), t), t)
        };
        let (stretches, mut space) = (s.group().min(sequences - first), scratch.hold(thread));
        gradient.sum(m.set, (group, block), stretches, operand, &mut space, at.fresh);
    });
    if groups > 1 {
        pool.run(blocks, |task, _| {
            let (which, block) = find(task);
            list[which].join(block, groups);
        });
    }
}
