//! Forward through one block, in rows of f32; the MLP by strips of rows whose hidden layer stays in the cache.

use super::super::form::Space;
use super::super::model::{Model, Pack};
use super::super::sizes::Matrix;
use super::sizes::{KeptBlockMut, ROWS, ScratchMut};
use isoflop_kernels::matmul::{Init, Left, Right, multiply};
use isoflop_kernels::{activation, attention, layernorm, rows};

impl<'a> Model<'a> {
    /// A block's matrix W as right operand.
    fn w(&self, layer: usize, matrix: Matrix) -> Right<'a> {
        right(self.pack(layer, matrix))
    }

    /// Wᵀ as right operand.
    pub(super) fn w_transposed(&self, layer: usize, matrix: Matrix) -> Right<'a> {
        right(self.pack_transposed(layer, matrix))
    }

    /// One block: `next[T,C] = x + attention + mlp`, and in `k` what its backward needs.
    pub(super) fn block(
        &self,
        layer: usize,
        x: &[f32],
        place: &mut [f32],
        next: &mut [f32],
        Space { own, heads }: Space<'_>,
    ) {
        let (set, c, f, index) =
            (self.set, self.sizes.width, self.sizes.inner, self.sizes.layout.blocks[layer]);
        let (t, k) = (x.len() / c, KeptBlockMut::of(self.sizes, place));
        let space = ScratchMut::of(self.sizes, own);
        let (w, b) = (self.weight(index.ln1_w), self.weight(index.ln1_b));
        for r in (0..t).step_by(ROWS) {
            let n = ROWS.min(t - r);
            let norm = &mut space.norm[..n * c];
            layernorm::forward(
                set,
                self.epsilon(),
                &x[r * c..(r + n) * c],
                w,
                b,
                norm,
                &mut k.stats1[2 * r..2 * (r + n)],
            );
            let (left, bias) = (Left::rows(norm, c), Init::Bias(self.weight(index.qkv_b)));
            let qkv = &mut k.qkv[r * 3 * c..];
            multiply(set, (n, 3 * c, c), left, self.w(layer, Matrix::Qkv), qkv, 3 * c, bias);
        }
        attention::forward_heads(set, self.attention_heads(layer, t), k.qkv, k.attended, k.lse, heads);
        let (w, b) = (self.weight(index.ln2_w), self.weight(index.ln2_b));
        for r in (0..t).step_by(ROWS) {
            let n = ROWS.min(t - r);
            let at = r * c..(r + n) * c;
            let mid = &mut k.mid[at.clone()];
            rows::add_bias(set, &x[at.clone()], self.weight(index.proj_b), mid);
            let left = Left::rows(&k.attended[at.clone()], c);
            multiply(set, (n, c, c), left, self.w(layer, Matrix::Proj), mid, c, Init::Accumulate);

            let norm = &mut space.norm[..n * c];
            layernorm::forward(set, self.epsilon(), mid, w, b, norm, &mut k.stats2[2 * r..2 * (r + n)]);
            let hidden = &mut k.hidden[r * f..(r + n) * f];
            let bias = Init::Bias(self.weight(index.fc_b));
            multiply(set, (n, f, c), Left::rows(norm, c), self.w(layer, Matrix::Fc), hidden, f, bias);
            let active = &mut space.active[..n * f];
            activation::forward(set, self.config.variant.activation, hidden, active);
            let next = &mut next[at];
            rows::add_bias(set, mid, self.weight(index.out_b), next);
            let left = Left::rows(active, f);
            multiply(set, (n, c, f), left, self.w(layer, Matrix::Out), next, c, Init::Accumulate);
        }
    }

    /// `logits[R,V]`, rows `logits_stride` apart, of normed rows `[R,C]`.
    pub(super) fn logits(&self, normed: &[f32], logits: &mut [f32]) {
        let s = self.sizes;
        let n = normed.len() / s.width;
        let left = Left::rows(normed, s.width);
        multiply(
            self.set,
            (n, s.vocab, s.width),
            left,
            right(self.pack_of_head()),
            logits,
            s.logits_stride,
            Init::Zero,
        );
    }
}

pub(super) fn right(pack: Pack<'_>) -> Right<'_> {
    Right::packed(pack.data, pack.spec.k)
}
