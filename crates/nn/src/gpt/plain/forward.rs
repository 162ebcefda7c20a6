//! Forward through one block, in rows of f32; the MLP by strips of rows whose hidden layer stays in the cache.

use super::super::form::Space;
use super::super::model::{Model, Pack};
use super::super::sizes::Matrix;
use super::sizes::{KeptBlockMut, ROWS, ScratchMut};
use isoflop_kernels::matmul::{Init, Left, Right, multiply};
use isoflop_kernels::{activation, attention, layernorm, rows};

/// A block's matrix W as right operand.
fn packed<'a>(m: &Model<'a>, layer: usize, matrix: Matrix) -> Right<'a> {
    right(m.pack(layer, matrix))
}

/// Wᵀ as right operand.
pub(super) fn packed_transposed<'a>(m: &Model<'a>, layer: usize, matrix: Matrix) -> Right<'a> {
    right(m.pack_transposed(layer, matrix))
}

/// One block: `next[T,C] = x + attention + mlp`, and in `k` what its backward needs.
pub(super) fn block(
    m: &Model<'_>,
    layer: usize,
    x: &[f32],
    place: &mut [f32],
    next: &mut [f32],
    Space { own, heads }: Space<'_>,
) {
    let (set, c, f, index) = (m.set, m.sizes.width, m.sizes.inner, m.sizes.layout.blocks[layer]);
    let (t, k) = (x.len() / c, KeptBlockMut::of(m.sizes, place));
    let space = ScratchMut::of(m.sizes, own);
    let (w, b) = (m.weight(index.ln1_w), m.weight(index.ln1_b));
    for r in (0..t).step_by(ROWS) {
        let n = ROWS.min(t - r);
        let norm = &mut space.norm[..n * c];
        layernorm::forward(
            set,
            m.epsilon(),
            &x[r * c..(r + n) * c],
            w,
            b,
            norm,
            &mut k.stats1[2 * r..2 * (r + n)],
        );
        let (left, bias) = (Left::rows(norm, c), Init::Bias(m.weight(index.qkv_b)));
        let qkv = &mut k.qkv[r * 3 * c..];
        multiply(set, (n, 3 * c, c), left, packed(m, layer, Matrix::Qkv), qkv, 3 * c, bias);
    }
    attention::forward_heads(set, m.attention_heads(layer, t), k.qkv, k.attended, k.lse, heads);
    let (w, b) = (m.weight(index.ln2_w), m.weight(index.ln2_b));
    for r in (0..t).step_by(ROWS) {
        let n = ROWS.min(t - r);
        let at = r * c..(r + n) * c;
        let mid = &mut k.mid[at.clone()];
        rows::add_bias(set, &x[at.clone()], m.weight(index.proj_b), mid);
        let left = Left::rows(&k.attended[at.clone()], c);
        multiply(set, (n, c, c), left, packed(m, layer, Matrix::Proj), mid, c, Init::Accumulate);

        let norm = &mut space.norm[..n * c];
        layernorm::forward(set, m.epsilon(), mid, w, b, norm, &mut k.stats2[2 * r..2 * (r + n)]);
        let hidden = &mut k.hidden[r * f..(r + n) * f];
        let bias = Init::Bias(m.weight(index.fc_b));
        multiply(set, (n, f, c), Left::rows(norm, c), packed(m, layer, Matrix::Fc), hidden, f, bias);
        let active = &mut space.active[..n * f];
        activation::forward(set, m.config.variant.activation, hidden, active);
        let next = &mut next[at];
        rows::add_bias(set, mid, m.weight(index.out_b), next);
        let left = Left::rows(active, f);
        multiply(set, (n, c, f), left, packed(m, layer, Matrix::Out), next, c, Init::Accumulate);
    }
}

/// `logits[R,V]`, rows `logits_stride` apart, of normed rows `[R,C]`.
pub(super) fn logits(m: &Model<'_>, normed: &[f32], logits: &mut [f32]) {
    let s = m.sizes;
    let n = normed.len() / s.width;
    let left = Left::rows(normed, s.width);
    multiply(
        m.set,
        (n, s.vocab, s.width),
        left,
        right(m.pack_of_head()),
        logits,
        s.logits_stride,
        Init::Zero,
    );
}

pub(super) fn right(pack: Pack<'_>) -> Right<'_> {
    Right::packed(pack.data, pack.spec.k)
}
