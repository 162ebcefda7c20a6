//! Backward through one block, in rows of f32: each sequence's activations, then the weights' gradients.
//!
//! A weight gradient is cut into blocks of rows, each summed over the tokens of a group of sequences in order by one
//! task; then the groups are joined. No buffer per thread, and the same bits for any number of threads.

use super::super::form::{At, Space, WeightBuffers};
use super::super::gradient::{Gradient, Share, sum_by_groups};
use super::super::model::Model;
use super::super::sizes::Matrix;
use super::super::sums::Sums;
use super::forward::{packed_transposed, right};
use super::sizes::{KeptBlock, ROWS, ScratchMut, Work, WorkMut};
use isoflop_kernels::matmul::{Init, Left, multiply};
use isoflop_kernels::weight_gradient::{self, Rows};
use isoflop_kernels::{Chunks, KernelSet, Pool, activation, attention, layernorm, rows};

/// `dnormed[R,C] = dlogits[R,V]·head`.
pub(super) fn head_backward(m: &Model<'_>, dlogits: &[f32], dnormed: &mut [f32]) {
    let s = m.sizes;
    let left = Left::rows(dlogits, s.logits_stride);
    let n = dlogits.len() / s.logits_stride;
    let wte = right(m.pack_of_head_transposed());
    multiply(m.set, (n, s.width, s.vocab), left, wte, dnormed, s.width, Init::Zero);
}

/// One block for one sequence: from the gradient of its output to that of its input. `flip` tells which of
/// `dx0`, `dx1` holds the first.
pub(super) fn block(
    model: &Model<'_>,
    At { layer, t, flip, .. }: At,
    kept: &[f32],
    work: &mut [f32],
    Space { own, heads }: Space<'_>,
) {
    let x = model.sizes.kept_x(kept, layer);
    let k = KeptBlock::of(model.sizes, model.sizes.block(kept, layer));
    let (set, c, f, index) =
        (model.set, model.sizes.width, model.sizes.inner, model.sizes.layout.blocks[layer]);
    let work = WorkMut::of(model.sizes, work);
    let space = ScratchMut::of(model.sizes, own);
    let (dout, din) = if flip { (work.dx1, work.dx0) } else { (work.dx0, work.dx1) };
    let (dout, din, n) = (&dout[..t * c], &mut din[..t * c], t * c);
    let drows = &mut space.rows[..n];

    // out = mid + f(hidden)·Wout + b;  hidden = norm2·Wfc + b
    for r in (0..t).step_by(ROWS) {
        let m = ROWS.min(t - r);
        let wide = r * f..(r + m) * f;
        let dhidden = &mut work.dhidden[wide.clone()];
        let left = Left::rows(&dout[r * c..(r + m) * c], c);
        multiply(set, (m, f, c), left, packed_transposed(model, layer, Matrix::Out), dhidden, f, Init::Zero);
        activation::backward(
            set,
            model.config.variant.activation,
            &k.hidden[wide.clone()],
            &mut work.active[wide],
            dhidden,
        );
        let dnorm = &mut drows[r * c..(r + m) * c];
        let left = Left::rows(dhidden, f);
        multiply(set, (m, c, f), left, packed_transposed(model, layer, Matrix::Fc), dnorm, c, Init::Zero);
    }
    let sums = Sums::of(work.sums, c, f);
    let (w, b) = (model.weight(index.ln2_w), model.weight(index.ln2_b));
    let (mid, stats, dmid) = (&k.mid[..n], &k.stats2[..2 * t], &mut work.dmid[..n]);
    layernorm::again(set, mid, stats, w, b, &mut work.norm2[..n]);
    layernorm::backward(set, mid, stats, w, drows, dout, dmid, sums.ln2_w, sums.ln2_b);

    // mid = x + attended·Wproj + b;  qkv = norm1·Wqkv + b
    multiply(
        set,
        (t, c, c),
        Left::rows(dmid, c),
        packed_transposed(model, layer, Matrix::Proj),
        drows,
        c,
        Init::Zero,
    );
    let layer_heads = model.attention_heads(layer, t);
    attention::backward_heads(set, layer_heads, k.qkv, k.attended, k.lse, drows, work.dqkv, heads);
    let left = Left::rows(work.dqkv, 3 * c);
    multiply(set, (t, c, 3 * c), left, packed_transposed(model, layer, Matrix::Qkv), drows, c, Init::Zero);
    let (w, b) = (model.weight(index.ln1_w), model.weight(index.ln1_b));
    let (x, stats) = (&x[..n], &k.stats1[..2 * t]);
    layernorm::again(set, x, stats, w, b, &mut work.norm1[..n]);
    layernorm::backward(set, x, stats, w, drows, dmid, din, sums.ln1_w, sums.ln1_b);

    rows::column_sums(set, &work.dqkv[..3 * n], sums.qkv_b);
    rows::column_sums(set, dmid, sums.proj_b);
    rows::column_sums(set, &work.dhidden[..t * f], sums.fc_b);
    rows::column_sums(set, dout, sums.out_b);
}

/// Rows of a weight gradient that a task sums: a block for each thread or more, in whole register blocks.
pub(super) fn task_rows(m: usize, threads: usize) -> usize {
    let rows = m.div_ceil(threads).next_multiple_of(12).clamp(24, weight_gradient::ROWS);
    rows.max(m.div_ceil(Chunks::MAX))
}

/// A share `dw[m,n] += Σ over its sequences of left[T,M]ᵀ · right[T,N]` of a gradient, where `operands(sequence)` gives
/// `left` (rows `left_stride` apart), `right`, and T.
pub(super) fn sum_share<'b>(
    set: KernelSet,
    gradient: &Gradient<'_>,
    share: &Share,
    left_stride: usize,
    operands: impl Fn(usize) -> (&'b [f32], &'b [f32], usize),
    dw: &mut [f32],
) {
    let first = share.block * gradient.rows;
    let (m, n) = (gradient.rows.min(gradient.m - first), gradient.n);
    let dw = &mut dw[..m * n];
    if share.fresh {
        dw.fill(0.0);
    }
    let operands = |index| {
        let (left, right, t) = operands(share.sequences.start + index);
        (Rows { data: &left[first..], stride: left_stride }, Rows { data: right, stride: n }, t)
    };
    weight_gradient::accumulate(set, (m, n), share.sequences.len(), operands, dw);
}

/// The four weight gradients of a block.
pub(super) fn weights(
    model: &Model<'_>,
    pool: &Pool,
    At { layer, t, flip, fresh }: At,
    sequences: usize,
    WeightBuffers { kept, work, partial, gradients, .. }: WeightBuffers<'_>,
) {
    let s = model.sizes;
    let list = Gradient::of_block(s, layer, gradients, partial, |m| task_rows(m, s.threads));
    sum_by_groups(pool, &list, (sequences, s.group()), fresh, |share, dw, _| {
        let operands = |sequence: usize| {
            let w = Work::of(s, &work[sequence * s.needs.work..]);
            let attended = KeptBlock::of(s, s.block(&kept[sequence * s.kept..], layer)).attended;
            let dx = if flip { w.dx1 } else { w.dx0 };
            let (left, right) =
                [(w.norm2, w.dhidden), (w.norm1, w.dqkv), (w.active, dx), (attended, w.dmid)][share.which];
            (left, right, t)
        };
        let gradient = &list[share.which];
        sum_share(model.set, gradient, &share, gradient.m, operands, dw);
    });
}
