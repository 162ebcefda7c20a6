//! Forward through one block, in cells of bf16: one sequence at a time, so that its activations stay in L2.

use super::super::form::Space;
use super::super::model::Model;
use super::super::sizes::Matrix;
use super::sizes::{KeptBlockMut, KeptEndMut};
use super::{narrow, narrow_mut, right};
use isoflop_kernels::layernorm;
use isoflop_kernels::tiles::{Cells, attention, product};

/// See [`super::Form::block`].
pub(super) fn block(
    m: &Model<'_>,
    layer: usize,
    x: &[f32],
    place: &mut [f32],
    next: &mut [f32],
    space: Space<'_>,
) {
    let (s, set, c, f) = (m.sizes, m.set, m.sizes.width, m.sizes.inner);
    let (t, index) = (x.len() / c, s.layout.blocks[layer]);
    let k = KeptBlockMut::of(s, place);

    // qkv = norm1·Wqkv + b;  attended = softmax(q·kᵀ)·v
    let (w, b) = (m.weight(index.ln1_w), m.weight(index.ln1_b));
    layernorm::forward_left(set, m.epsilon(), x, w, b, narrow_mut(k.norm1), &mut k.stats1[..2 * t]);
    let (w, b) = (right(m.pack(layer, Matrix::Qkv)), m.weight(index.qkv_b));
    product::left(set, (t, 3 * c, c), whole(k.norm1, c), w, b, narrow_mut(k.qkv));
    let (heads, qkv, attended) = (m.attention_heads(layer, t), narrow(k.qkv), narrow_mut(k.attended));
    attention::forward_heads(set, heads, qkv, attended, k.shifts, space.heads);

    // mid = x + attended·Wproj + b
    let (w, b) = (right(m.pack(layer, Matrix::Proj)), m.weight(index.proj_b));
    let mid = &mut k.mid[..t * c];
    product::rows(set, (t, c, c), whole(k.attended, c), w, Some(b), Some(x), mid, c);

    // next = mid + gelu(norm2·Wfc + b)·Wout + b
    let (w, b) = (m.weight(index.ln2_w), m.weight(index.ln2_b));
    layernorm::forward_left(set, m.epsilon(), mid, w, b, narrow_mut(k.norm2), &mut k.stats2[..2 * t]);
    let (w, b) = (right(m.pack(layer, Matrix::Fc)), m.weight(index.fc_b));
    let (active, slope) = (narrow_mut(k.active), narrow_mut(k.slope));
    product::gelu(set, (t, f, c), whole(k.norm2, c), w, b, active, slope);
    let (w, b) = (right(m.pack(layer, Matrix::Out)), m.weight(index.out_b));
    product::rows(set, (t, c, f), whole(k.active, f), w, Some(b), Some(mid), next, c);
}

/// See [`super::Form::last_norm`].
pub(super) fn last_norm(m: &Model<'_>, x: &[f32], end: &mut [f32]) {
    let (s, t) = (m.sizes, x.len() / m.sizes.width);
    let end = KeptEndMut::of(s, end);
    let (w, b) = (m.weight(s.layout.lnf_w), m.weight(s.layout.lnf_b));
    layernorm::forward_left(m.set, m.epsilon(), x, w, b, narrow_mut(end.normed), &mut end.stats[..2 * t]);
}

fn whole(operand: &[f32], depth: usize) -> Cells<'_> {
    Cells::whole(narrow(operand), depth)
}
