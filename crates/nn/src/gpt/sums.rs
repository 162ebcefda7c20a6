//! The small gradients (biases, norms): summed per sequence, then over sequences in order, so that no bit depends on
//! who computed what.

use crate::layout::{Block, Layout};
use isoflop_base::TokenBatch;
use isoflop_kernels::{Chunks, Pool, rows};

/// Elements of [`Sums`] for width `c` and a hidden layer of `f`.
pub(crate) fn elements(c: usize, f: usize) -> usize {
    11 * c + f
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
    pub(crate) fn of(mut rest: &'a mut [f32], c: usize, f: usize) -> Self {
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
            fc_b: next(f),
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

/// Elements added by one task, about: every task reads all tokens to find its own.
const TASK_ELEMENTS: usize = 1 << 17;

/// Adds every sequence's gradients of the embeddings `dx[T,C]` and of the last norm, sequences in order: `of(s)` gives
/// sequence s's dx and sums. A task has some rows of one embedding to itself, so that no bit depends on who has which.
pub(crate) fn add_embeddings<'a>(
    layout: &Layout,
    c: usize,
    pool: &Pool,
    batch: &TokenBatch,
    of: impl Fn(usize) -> (&'a [f32], &'a [f32]) + Sync,
    gradients: &mut [f32],
) {
    let (t, sequences) = (batch.length(), batch.sequences());
    let parts = (sequences * t * c / TASK_ELEMENTS).clamp(1, 16);
    {
        let (tokens, rest) = gradients.split_at_mut(layout.tensors[layout.wpe].offset);
        let tokens = &mut tokens[layout.tensors[layout.wte].range()];
        let positions = &mut rest[..t * c];
        let [token_rows, position_rows] = [tokens.len() / c, t].map(|rows| rows.div_ceil(parts));
        let token_parts = (tokens.len() / c).div_ceil(token_rows);
        let (tokens, positions) =
            (Chunks::new(tokens, token_rows * c), Chunks::new(positions, position_rows * c));
        pool.run(token_parts + t.div_ceil(position_rows), |task, _| {
            if let Some(part) = task.checked_sub(token_parts) {
                let mut into = positions.hold(part);
                let from = part * position_rows * c;
                for s in 0..sequences {
                    rows::add_assign(&of(s).0[from..from + into.len()], &mut into);
                }
                return;
            }
            let mut into = tokens.hold(task);
            for s in 0..sequences {
                for (&token, dx) in batch.inputs(s).iter().zip(of(s).0.chunks_exact(c)) {
                    let row = (token as usize).wrapping_sub(task * token_rows);
                    if row < token_rows {
                        rows::add_assign(dx, &mut into[row * c..(row + 1) * c]);
                    }
                }
            }
        });
    }
    for s in 0..sequences {
        let sums = of(s).1;
        let (bias, weight) = (sums.len() - c, sums.len() - 2 * c);
        rows::add_assign(&sums[weight..bias], layout.of_mut(gradients, layout.lnf_w));
        rows::add_assign(&sums[bias..], layout.of_mut(gradients, layout.lnf_b));
    }
}
