//! The small gradients (biases, norms): summed per sequence, then over sequences in order, so that no bit depends on
//! who computed what.

use crate::layout::{Block, Layout};
use isoflop_kernels::rows;

/// Elements of [`Sums`] for width `c`.
pub(crate) fn elements(c: usize) -> usize {
    15 * c
}

/// A sequence's own sums of a block's small gradients, and of the last norm's.
pub(crate) struct Sums<'a> {
    pub(crate) ln1_w: &'a mut [f32],
    pub(crate) ln1_b: &'a mut [f32],
    pub(crate) ln2_w: &'a mut [f32],
    pub(crate) ln2_b: &'a mut [f32],
    pub(crate) qkv_b: &'a mut [f32],
    pub(crate) proj_b: &'a mut [f32],
    pub(crate) fc_b: &'a mut [f32],
    pub(crate) out_b: &'a mut [f32],
    pub(crate) lnf_w: &'a mut [f32],
    pub(crate) lnf_b: &'a mut [f32],
}

impl<'a> Sums<'a> {
    pub(crate) fn of(mut rest: &'a mut [f32], c: usize) -> Self {
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
            lnf_w: next(c),
            lnf_b: next(c),
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

/// Adds a sequence's gradients of the embeddings `dx[T,C]` and of the last norm.
pub(crate) fn add_embedding(
    layout: &Layout,
    c: usize,
    tokens: &[u32],
    dx: &[f32],
    sums: &[f32],
    gradients: &mut [f32],
) {
    let dwte = layout.of_mut(gradients, layout.wte);
    for (&token, dx) in tokens.iter().zip(dx.chunks_exact(c)) {
        let row = token as usize * c;
        rows::add_assign(dx, &mut dwte[row..row + c]);
    }
    let used = tokens.len() * c;
    rows::add_assign(&dx[..used], &mut layout.of_mut(gradients, layout.wpe)[..used]);
    rows::add_assign(&sums[13 * c..14 * c], layout.of_mut(gradients, layout.lnf_w));
    rows::add_assign(&sums[14 * c..15 * c], layout.of_mut(gradients, layout.lnf_b));
}
