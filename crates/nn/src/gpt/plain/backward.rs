//! Backward through one block, in rows of f32: each sequence's activations, then the weights' gradients.
//!
//! A weight gradient is cut into blocks of rows, each summed over all tokens in order by one task: no buffer per
//! thread, and the same bits for any number of threads.

use super::super::form::{At, Space, WeightBuffers};
use super::super::model::Model;
use super::super::sizes::Matrix;
use super::super::sums::Sums;
use super::forward::right;
use super::sizes::{KeptBlock, ROWS, ScratchMut, Work, WorkMut};
use isoflop_kernels::matmul::{Init, Left, multiply};
use isoflop_kernels::weight_gradient::{self, Rows};
use isoflop_kernels::{Chunks, KernelSet, Pool, attention, gelu, layernorm, rows};

impl Model<'_> {
    /// `dnormed[R,C] = dlogits[R,V]·wte`.
    pub(super) fn head_backward(&self, dlogits: &[f32], dnormed: &mut [f32]) {
        let s = self.sizes;
        let left = Left::rows(dlogits, s.logits_stride);
        let n = dlogits.len() / s.logits_stride;
        let wte = right(self.pack_of_head_transposed());
        multiply(self.set, (n, s.width, s.vocab), left, wte, dnormed, s.width, Init::Zero);
    }

    /// One block for one sequence: from the gradient of its output to that of its input. `flip` tells which of
    /// `dx0`, `dx1` holds the first.
    pub(super) fn block_backward(
        &self,
        At { layer, t, flip, .. }: At,
        kept: &[f32],
        work: &mut [f32],
        Space { own, heads }: Space<'_>,
    ) {
        let x = self.sizes.kept_x(kept, layer);
        let k = KeptBlock::of(self.sizes, self.sizes.block(kept, layer));
        let (set, c, index) = (self.set, self.sizes.width, self.sizes.layout.blocks[layer]);
        let work = WorkMut::of(self.sizes, work);
        let space = ScratchMut::of(self.sizes, own);
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
        let layer_heads = self.attention_heads(t);
        attention::backward_heads(set, layer_heads, k.qkv, k.attended, k.lse, drows, work.dqkv, heads);
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

/// One weight gradient `dw[M,N] += Σ over sequences of left[T,M]ᵀ · right[T,N]`.
pub(super) struct WeightGradient<'a> {
    m: usize,
    n: usize,
    dw: Chunks<'a>,
    rows: usize,
}

impl<'a> WeightGradient<'a> {
    /// Cut into a block of rows for each thread or more, in whole register blocks.
    pub(super) fn new(dw: &'a mut [f32], m: usize, n: usize, threads: usize) -> Self {
        let rows = m.div_ceil(threads).next_multiple_of(12).clamp(24, weight_gradient::ROWS);
        let rows = rows.max(m.div_ceil(Chunks::MAX));
        Self { m, n, dw: Chunks::new(dw, rows * n), rows }
    }

    pub(super) fn tasks(&self) -> usize {
        self.m.div_ceil(self.rows)
    }

    /// Block `task`, added to nothing if `fresh`, where `operands(sequence)` gives `left` (rows `m` apart unless `left_stride`), `right`, and T.
    pub(super) fn run<'b>(
        &self,
        set: KernelSet,
        task: usize,
        sequences: usize,
        left_stride: usize,
        fresh: bool,
        operands: impl Fn(usize) -> (&'b [f32], &'b [f32], usize),
    ) {
        let first = task * self.rows;
        let m = self.rows.min(self.m - first);
        let mut dw = self.dw.hold(task);
        if fresh {
            dw.fill(0.0);
        }
        let operands = |sequence| {
            let (left, right, t) = operands(sequence);
            (Rows { data: &left[first..], stride: left_stride }, Rows { data: right, stride: self.n }, t)
        };
        weight_gradient::accumulate(set, (m, self.n), sequences, operands, &mut dw);
    }
}

/// The four weight gradients of a block, all sequences together.
pub(super) fn block_weights(
    model: &Model<'_>,
    pool: &Pool,
    At { layer, t, flip, fresh }: At,
    sequences: usize,
    WeightBuffers { kept, work, gradients, .. }: WeightBuffers<'_>,
) {
    let s = model.sizes;
    let c = s.width;
    let [dqkv, dproj, dfc, dout] = s.layout.matrices_mut(layer, gradients);
    // The longest tasks first, so that threads end together.
    let list = [
        WeightGradient::new(dfc, c, 4 * c, s.threads),
        WeightGradient::new(dqkv, c, 3 * c, s.threads),
        WeightGradient::new(dout, 4 * c, c, s.threads),
        WeightGradient::new(dproj, c, c, s.threads),
    ];
    let tasks = list.iter().map(WeightGradient::tasks).sum();
    pool.run(tasks, |task, _| {
        let (mut which, mut task) = (0, task);
        while task >= list[which].tasks() {
            task -= list[which].tasks();
            which += 1;
        }
        let gradient = &list[which];
        gradient.run(model.set, task, sequences, gradient.m, fresh, |sequence| {
            let w = Work::of(s, &work[sequence * s.needs.work..]);
            let attended = KeptBlock::of(s, s.block(&kept[sequence * s.kept..], layer)).attended;
            let dx = if flip { w.dx1 } else { w.dx0 };
            let (left, right) =
                [(w.norm2, w.dhidden), (w.norm1, w.dqkv), (w.active, dx), (attended, w.dmid)][which];
            (left, right, t)
        });
    });
}
