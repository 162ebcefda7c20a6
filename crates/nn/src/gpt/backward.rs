//! Backward: layer by layer; within a layer first every sequence's activations, then the weights' gradients.
//!
//! A weight gradient is cut into blocks of rows, each summed over all tokens in order by one task: no buffer per
//! thread, and the same bits for any number of threads. The small gradients (biases, norms) are summed per sequence
//! and then over sequences in order.

use super::forward::Model;
use super::sizes::{KeptBlock, Matrix, ROWS, ScratchMut, Work, WorkMut};
use crate::layout::{Block, Layout};
use isoflop_kernels::matmul::{Init, Left, Right, multiply};
use isoflop_kernels::{Chunks, KernelSet, Pool, attention, gelu, layernorm, rows};

impl Model<'_> {
    /// The last norm: `work.dx1` holds the gradient of the normed rows, `work.dx0` becomes that of the residual stream.
    pub(crate) fn end_backward(&self, t: usize, kept: &[f32], work: &mut [f32], zeros: &[f32]) {
        let (s, n) = (self.sizes, t * self.sizes.width);
        let end = s.kept_end(kept);
        let (work, _) = WorkMut::of(s, work);
        let (dw, db) = work.sums[13 * s.width..].split_at_mut(s.width);
        layernorm::backward(
            self.set,
            &s.kept_x(kept, s.layers)[..n],
            &end.stats[..2 * t],
            self.weight(s.layout.lnf_w),
            &work.dx1[..n],
            &zeros[..n],
            &mut work.dx0[..n],
            dw,
            db,
        );
    }

    /// Fills block `layer`'s place in `kept` again from its input, when it has been used by later layers since.
    pub(crate) fn recompute(
        &self,
        layer: usize,
        t: usize,
        kept: &mut [f32],
        work: &mut [f32],
        flip: bool,
        scratch: &mut [f32],
    ) {
        let (s, n) = (self.sizes, t * self.sizes.width);
        let (streams, behind) = s.split_streams(kept);
        let x = &streams[layer * s.kept.x..][..n];
        // The block's output is not needed again; it goes where the gradient of its input will be.
        let (work, _) = WorkMut::of(s, work);
        let unused = if flip { work.dx0 } else { work.dx1 };
        self.block(layer, x, s.block_in(behind, layer), &mut unused[..n], scratch);
    }

    /// One block for one sequence: from the gradient of its output to that of its input. `flip` tells which of
    /// `dx0`, `dx1` holds the first.
    pub(crate) fn block_backward(
        &self,
        layer: usize,
        t: usize,
        (x, k): (&[f32], &KeptBlock<'_>),
        work: &mut [f32],
        flip: bool,
        scratch: &mut [f32],
    ) {
        let (set, c, index) = (self.set, self.sizes.width, self.sizes.layout.blocks[layer]);
        let (work, _) = WorkMut::of(self.sizes, work);
        let space = ScratchMut::of(self.sizes, scratch);
        let (dout, din) = if flip { (work.dx1, work.dx0) } else { (work.dx0, work.dx1) };
        let (dout, din, n) = (&dout[..t * c], &mut din[..t * c], t * c);
        let drows = &mut space.rows[..n];

        // out = mid + gelu(hidden)·Wout + b;  hidden = norm2·Wfc + b
        for r in (0..t).step_by(ROWS) {
            let m = ROWS.min(t - r);
            let wide = r * 4 * c..(r + m) * 4 * c;
            let dhidden = &mut work.dhidden[wide.clone()];
            let left = Left::rows(&dout[r * c..(r + m) * c], c);
            multiply(
                set,
                (m, 4 * c, c),
                left,
                self.w_transposed(layer, Matrix::Out),
                dhidden,
                4 * c,
                Init::Zero,
            );
            gelu::backward(set, &k.hidden[wide.clone()], &mut work.active[wide], dhidden);
            let dnorm = &mut drows[r * c..(r + m) * c];
            let left = Left::rows(dhidden, 4 * c);
            multiply(set, (m, c, 4 * c), left, self.w_transposed(layer, Matrix::Fc), dnorm, c, Init::Zero);
        }
        let sums = Sums::of(work.sums, c);
        let (w, b) = (self.weight(index.ln2_w), self.weight(index.ln2_b));
        let (mid, stats, dmid) = (&k.mid[..n], &k.stats2[..2 * t], &mut work.dmid[..n]);
        layernorm::again(set, mid, stats, w, b, &mut work.norm2[..n]);
        layernorm::backward(set, mid, stats, w, drows, dout, dmid, sums.ln2_w, sums.ln2_b);

        // mid = x + attended·Wproj + b;  qkv = norm1·Wqkv + b
        multiply(
            set,
            (t, c, c),
            Left::rows(dmid, c),
            self.w_transposed(layer, Matrix::Proj),
            drows,
            c,
            Init::Zero,
        );
        for h in 0..self.sizes.heads {
            let lse = &k.lse[h * self.sizes.length..][..t];
            let head = self.attention_head(t, h);
            attention::backward(set, head, k.qkv, k.attended, lse, drows, work.dqkv, space.attention);
        }
        let left = Left::rows(work.dqkv, 3 * c);
        multiply(set, (t, c, 3 * c), left, self.w_transposed(layer, Matrix::Qkv), drows, c, Init::Zero);
        let (w, b) = (self.weight(index.ln1_w), self.weight(index.ln1_b));
        let (x, stats) = (&x[..n], &k.stats1[..2 * t]);
        layernorm::again(set, x, stats, w, b, &mut work.norm1[..n]);
        layernorm::backward(set, x, stats, w, drows, dmid, din, sums.ln1_w, sums.ln1_b);

        rows::column_sums(set, &work.dqkv[..3 * n], sums.qkv_b);
        rows::column_sums(set, dmid, sums.proj_b);
        rows::column_sums(set, &work.dhidden[..4 * n], sums.fc_b);
        rows::column_sums(set, dout, sums.out_b);
    }
}

/// A sequence's own sums of a block's small gradients.
struct Sums<'a> {
    ln1_w: &'a mut [f32],
    ln1_b: &'a mut [f32],
    ln2_w: &'a mut [f32],
    ln2_b: &'a mut [f32],
    qkv_b: &'a mut [f32],
    proj_b: &'a mut [f32],
    fc_b: &'a mut [f32],
    out_b: &'a mut [f32],
}

impl<'a> Sums<'a> {
    fn of(mut rest: &'a mut [f32], c: usize) -> Self {
        let mut next = |len: usize| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            head
        };
        Self {
            ln1_w: next(c),
            ln1_b: next(c),
            ln2_w: next(c),
            ln2_b: next(c),
            qkv_b: next(3 * c),
            proj_b: next(c),
            fc_b: next(4 * c),
            out_b: next(c),
        }
    }
}

/// Adds every sequence's sums to a block's small gradients, sequences in order.
pub(crate) fn add_sums(layout: &Layout, block: &Block, c: usize, sums: &[f32], gradients: &mut [f32]) {
    let mut rest = sums;
    for tensor in [
        block.ln1_w,
        block.ln1_b,
        block.ln2_w,
        block.ln2_b,
        block.qkv_b,
        block.proj_b,
        block.fc_b,
        block.out_b,
    ] {
        let into = layout.of_mut(gradients, tensor);
        let (head, tail) = rest.split_at(into.len());
        rows::add_assign(head, into);
        rest = tail;
    }
    debug_assert_eq!(rest.len(), 2 * c, "the last norm's sums remain");
}

/// One weight gradient `dw[M,N] += Σ over sequences of left[T,M]ᵀ · right[T,N]`.
pub(crate) struct WeightGradient<'a> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) dw: Chunks<'a>,
    pub(crate) rows: usize,
}

impl<'a> WeightGradient<'a> {
    pub(crate) fn new(dw: &'a mut [f32], m: usize, n: usize) -> Self {
        // Blocks of 24 rows: two register blocks, small enough to share the narrow models among threads.
        let rows = 24.max(m.div_ceil(Chunks::MAX));
        Self { m, n, dw: Chunks::new(dw, rows * n), rows }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.m.div_ceil(self.rows)
    }

    /// Block `task`, where `operands(sequence)` gives `left` (rows `m` apart unless `left_stride`), `right`, and T.
    pub(crate) fn run<'b>(
        &self,
        set: KernelSet,
        task: usize,
        sequences: usize,
        left_stride: usize,
        operands: impl Fn(usize) -> (&'b [f32], &'b [f32], usize),
    ) {
        let first = task * self.rows;
        let m = self.rows.min(self.m - first);
        let mut dw = self.dw.hold(task);
        for sequence in 0..sequences {
            let (left, right, t) = operands(sequence);
            let left = Left::transposed(&left[first..], left_stride);
            multiply(
                set,
                (m, self.n, t),
                left,
                Right::rows(right, self.n),
                &mut dw,
                self.n,
                Init::Accumulate,
            );
        }
    }
}

/// The four weight gradients of a block, all sequences together.
pub(crate) fn block_weights(
    model: &Model<'_>,
    pool: &Pool,
    layer: usize,
    (sequences, t): (usize, usize),
    kept: &[f32],
    work: &[f32],
    flip: bool,
    gradients: &mut [f32],
) {
    let s = model.sizes;
    let (c, block) = (s.width, s.layout.blocks[layer]);
    // The four matrices lie one behind the other in the flat buffer, small tensors between them.
    let [qkv, proj, fc, out] =
        [block.qkv_w, block.proj_w, block.fc_w, block.out_w].map(|i| s.layout.tensors[i].range());
    let (head, tail) = gradients.split_at_mut(proj.start);
    let dqkv = &mut head[qkv];
    let (head, tail2) = tail.split_at_mut(fc.start - proj.start);
    let dproj = &mut head[..proj.len()];
    let (head, tail3) = tail2.split_at_mut(out.start - fc.start);
    let dfc = &mut head[..fc.len()];
    let dout = &mut tail3[..out.len()];
    let list = [
        WeightGradient::new(dout, 4 * c, c),
        WeightGradient::new(dfc, c, 4 * c),
        WeightGradient::new(dqkv, c, 3 * c),
        WeightGradient::new(dproj, c, c),
    ];
    let tasks = list.iter().map(WeightGradient::tasks).sum();
    pool.run(tasks, |task, _| {
        let (mut which, mut task) = (0, task);
        while task >= list[which].tasks() {
            task -= list[which].tasks();
            which += 1;
        }
        let gradient = &list[which];
        gradient.run(model.set, task, sequences, gradient.m, |sequence| {
            let w = Work::of(s, &work[sequence * s.work.total..]);
            let attended = s.kept_block(&kept[sequence * s.kept.total..], layer).attended;
            let dx = if flip { w.dx1 } else { w.dx0 };
            let (left, right) =
                [(w.active, dx), (w.norm2, w.dhidden), (w.norm1, w.dqkv), (attended, w.dmid)][which];
            (left, right, t)
        });
    });
}
