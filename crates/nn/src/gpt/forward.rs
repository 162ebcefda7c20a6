//! Forward: one thread walks one sequence through the whole stack, so that its activations stay in L2.

use super::sizes::{KeptBlockMut, Matrix, Pack, ROWS, ScratchMut, Sizes};
use isoflop_kernels::attention::Head;
use isoflop_kernels::matmul::{Init, Left, Right, multiply};
use isoflop_kernels::{KernelSet, attention, gelu, layernorm, rows};

/// What every task may read: the weights, plain and packed.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) set: KernelSet,
    pub(crate) sizes: &'a Sizes,
    pub(crate) weights: &'a [f32],
    pub(crate) packs: &'a [Pack],
}

impl<'a> Model<'a> {
    pub(crate) fn weight(&self, index: usize) -> &'a [f32] {
        self.sizes.layout.of(self.weights, index)
    }

    /// A block's matrix W as right operand.
    fn w(&self, layer: usize, matrix: Matrix) -> Right<'a> {
        right(&self.packs[layer * 8 + matrix as usize * 2])
    }

    /// Wᵀ as right operand.
    pub(crate) fn w_transposed(&self, layer: usize, matrix: Matrix) -> Right<'a> {
        right(&self.packs[layer * 8 + matrix as usize * 2 + 1])
    }

    /// `wteᵀ[C,V]`: the head.
    pub(crate) fn head(&self) -> Right<'a> {
        right(&self.packs[self.sizes.layers * 8])
    }

    /// `wte[V,C]`: back through the head.
    pub(crate) fn head_transposed(&self) -> Right<'a> {
        right(&self.packs[self.sizes.layers * 8 + 1])
    }

    pub(crate) fn attention_head(&self, length: usize, head: usize) -> Head {
        let s = self.sizes;
        Head { length, width: s.width, head_width: s.width / s.heads, head }
    }

    /// Fills a sequence's share of `kept` from its tokens, up to the normed rows the head multiplies.
    pub(crate) fn forward(&self, tokens: &[u32], kept: &mut [f32], scratch: &mut [f32]) {
        let s = self.sizes;
        let (c, t) = (s.width, tokens.len());
        let (wte, wpe) = (self.weight(s.layout.wte), self.weight(s.layout.wpe));
        let (streams, behind) = s.split_streams(kept);
        for (position, &token) in tokens.iter().enumerate() {
            let (row, token) = (position * c, token as usize * c);
            for i in 0..c {
                streams[row + i] = wte[token + i] + wpe[row + i];
            }
        }
        for layer in 0..s.layers {
            let (before, after) = streams.split_at_mut((layer + 1) * s.kept.x);
            let (x, next) = (&before[layer * s.kept.x..][..t * c], &mut after[..t * c]);
            self.block(layer, x, s.block_in(behind, layer), next, scratch);
        }
        let (x, end) = (&streams[s.layers * s.kept.x..][..t * c], s.end_in(behind));
        let (w, b) = (self.weight(s.layout.lnf_w), self.weight(s.layout.lnf_b));
        layernorm::forward(self.set, x, w, b, &mut end.normed[..t * c], &mut end.stats[..t * 2]);
    }

    /// One block: `next[T,C] = x + attention + mlp`, and in `k` what its backward needs.
    pub(crate) fn block(
        &self,
        layer: usize,
        x: &[f32],
        k: KeptBlockMut<'_>,
        next: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (set, c, index) = (self.set, self.sizes.width, self.sizes.layout.blocks[layer]);
        let t = x.len() / c;
        let space = ScratchMut::of(self.sizes, scratch);
        let (w, b) = (self.weight(index.ln1_w), self.weight(index.ln1_b));
        for r in (0..t).step_by(ROWS) {
            let n = ROWS.min(t - r);
            let norm = &mut space.norm[..n * c];
            layernorm::forward(set, &x[r * c..(r + n) * c], w, b, norm, &mut k.stats1[2 * r..2 * (r + n)]);
            let (left, bias) = (Left::rows(norm, c), Init::Bias(self.weight(index.qkv_b)));
            let qkv = &mut k.qkv[r * 3 * c..];
            multiply(set, (n, 3 * c, c), left, self.w(layer, Matrix::Qkv), qkv, 3 * c, bias);
        }
        for h in 0..self.sizes.heads {
            let lse = &mut k.lse[h * self.sizes.length..][..t];
            attention::forward(set, self.attention_head(t, h), k.qkv, k.attended, lse, space.attention);
        }
        let (w, b) = (self.weight(index.ln2_w), self.weight(index.ln2_b));
        for r in (0..t).step_by(ROWS) {
            let n = ROWS.min(t - r);
            let at = r * c..(r + n) * c;
            let mid = &mut k.mid[at.clone()];
            rows::add_bias(set, &x[at.clone()], self.weight(index.proj_b), mid);
            let left = Left::rows(&k.attended[at.clone()], c);
            multiply(set, (n, c, c), left, self.w(layer, Matrix::Proj), mid, c, Init::Accumulate);

            let norm = &mut space.norm[..n * c];
            layernorm::forward(set, mid, w, b, norm, &mut k.stats2[2 * r..2 * (r + n)]);
            let hidden = &mut k.hidden[r * 4 * c..(r + n) * 4 * c];
            let bias = Init::Bias(self.weight(index.fc_b));
            multiply(set, (n, 4 * c, c), Left::rows(norm, c), self.w(layer, Matrix::Fc), hidden, 4 * c, bias);
            let active = &mut space.active[..n * 4 * c];
            gelu::forward(set, hidden, active);
            let next = &mut next[at];
            rows::add_bias(set, mid, self.weight(index.out_b), next);
            let left = Left::rows(active, 4 * c);
            multiply(set, (n, c, 4 * c), left, self.w(layer, Matrix::Out), next, c, Init::Accumulate);
        }
    }

    /// `logits[R,V]`, rows `logits_stride` apart, of normed rows `[R,C]`.
    pub(crate) fn logits(&self, normed: &[f32], logits: &mut [f32]) {
        let s = self.sizes;
        let n = normed.len() / s.width;
        let left = Left::rows(normed, s.width);
        multiply(self.set, (n, s.vocab, s.width), left, self.head(), logits, s.logits_stride, Init::Zero);
    }
}

fn right(pack: &Pack) -> Right<'_> {
    Right::packed(&pack.data, pack.spec.k)
}
