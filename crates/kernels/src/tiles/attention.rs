//! Causal self-attention of one head over one sequence with bf16 operands; scores never leave L2.
//!
//! Everything is computed with keys down and queries across, so that what belongs to a query (its largest score, its
//! sum, its D) is a lane, never a sum over lanes, and no matrix of scores is ever turned (`S` the head's width):
//!
//! ```text
//!   forward, for 32 queries                    backward, for 32 keys and each 32 queries from them on
//!     sᵀ = k·qᵀ           [keys, 32]             sᵀ = k·qᵀ      e = 2^(sᵀ·f − shift)
//!     shift = max sᵀ·f    e = 2^(sᵀ·f − shift)   dpᵀ = v·do'ᵀ   ds = e∘(dpᵀ − D)
//!     oᵀ = vᵀ·e / Σe      [S, 32]                dv = e·do'     dk = ds·q·scale     dqᵀ += kᵀ·ds·scale
//!
//!   f = scale·log2 e,  scale = 1/√S,  do' = do/Σe,  D = rowsum(do' ∘ o)       (Dao et al. 2022, arXiv 2205.14135)
//! ```
//!
//! Dividing the incoming gradient by Σe when it is packed makes the division of every score unnecessary. Queries,
//! keys, values and their gradients are left cells of one matrix `[T,3C]`, which [`mod@columns`] reads and writes a
//! head at a time. A layer's heads may be shared among threads: no element of what they write belongs to two.

mod backward;
mod columns;
mod forward;

use super::{CELL, SIDE, cells};
use crate::attention::{Head, Heads};
use crate::chunks::Chunks;
use crate::lent::Lent;
use crate::math::exp2_coarse;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::Simd;
use backward::backward_simd;
use forward::forward_simd;

/// Shift of queries beyond the sequence: their exponentials vanish.
const BEYOND: f32 = 1e4;

/// Scratch space of [`forward()`] and [`backward()`]: cells of bf16, cells of f32.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// [`bf16_len`] elements.
    pub operands: &'a mut [u16],
    /// [`f32_len`] elements.
    pub sums: &'a mut [f32],
}

/// Elements of `Scratch::operands` for sequences up to `length`.
pub fn bf16_len(length: usize, head_width: usize) -> usize {
    (7 * cells(length) * cells(head_width) + 2 * cells(length)) * CELL
}

/// Elements of `Scratch::sums` for sequences up to `length`.
pub fn f32_len(length: usize, head_width: usize) -> usize {
    let t = cells(length);
    (t.max(t * cells(head_width)) + 1) * CELL + t * SIDE
}

/// Elements of f32 that hold a [`Scratch`].
pub fn scratch_len(length: usize, head_width: usize) -> usize {
    f32_len(length, head_width) + bf16_len(length, head_width) / 2
}

impl<'a> Scratch<'a> {
    /// Cut from [`scratch_len`] elements.
    fn of(space: &'a mut [f32], length: usize, head_width: usize) -> Self {
        let (sums, operands) = space.split_at_mut(f32_len(length, head_width));
        Self { operands: bytemuck::cast_slice_mut(operands), sums }
    }
}

/// Elements of `stats` for a head: shift and 1/Σe of each position.
pub fn stats_len(length: usize) -> usize {
    2 * cells(length) * SIDE
}

fn check(head: &Head, qkv: &[u16], attended: usize, stats: &[f32], scratch: &Scratch<'_>) {
    let (t, s) = (head.length, head.head_width);
    assert!(t > 0 && s > 0 && (head.head + 1) * s <= head.width, "the head lies inside");
    assert!(
        qkv.len() >= super::len(t, 3 * head.width) && stats.len() >= stats_len(t),
        "an operand is shorter than its shape"
    );
    assert!(attended >= super::len(t, head.width), "`attended` is shorter than its shape");
    assert!(
        scratch.operands.len() >= bf16_len(t, s) && scratch.sums.len() >= f32_len(t, s),
        "scratch is too small"
    );
}

/// Writes the head's columns of `attended[T,C]` from `qkv[T,3C]`, both left operands; and `stats`.
pub fn forward(
    set: KernelSet,
    head: Head,
    qkv: &[u16],
    attended: &mut [u16],
    stats: &mut [f32],
    scratch: Scratch<'_>,
) {
    check(&head, qkv, attended.len(), stats, &scratch);
    forward_head(set, head, qkv, Lent::new(attended), stats, scratch);
}

/// All heads of a sequence: `attended[T,C]`, and each head's `stats`, of [`stats_len`] elements or more. A thread's
/// `spaces` have [`scratch_len`] elements.
pub fn forward_heads(
    set: KernelSet,
    heads: Heads,
    qkv: &[u16],
    attended: &mut [u16],
    stats: &mut [f32],
    spaces: &Chunks<'_>,
) {
    let each = stats.len() / heads.count;
    let (stats, out) = (Lent::new(stats), Lent::new(&mut *attended));
    split(heads.count, |part, thread| {
        let mut space = spaces.hold(thread);
        for index in part {
            let head = heads.head(index);
            let scratch = Scratch::of(&mut space, head.length, head.head_width);
            // SAFETY: the head's own.
            let stats = unsafe { stats.at(index * each, each) };
            check(&head, qkv, out.len(), stats, &scratch);
            forward_head(set, head, qkv, out, stats, scratch);
        }
    });
}

fn forward_head(
    set: KernelSet,
    head: Head,
    qkv: &[u16],
    attended: Lent<'_, u16>,
    stats: &mut [f32],
    scratch: Scratch<'_>,
) {
    dispatch!(
        set.with_vectors(),
        forward_simd(
            head: Head,
            qkv: &[u16],
            attended: Lent<'_, u16>,
            stats: &mut [f32],
            scratch: Scratch<'_>,
        )
    );
}

/// Writes the head's columns of `dqkv[T,3C]`, a left operand, and their sums over positions in `sums[3C]`, from
/// `dattended[T,C]`, plain rows; the rest is what [`forward()`] left.
pub fn backward(
    set: KernelSet,
    head: Head,
    qkv: &[u16],
    attended: &[u16],
    stats: &[f32],
    dattended: &[f32],
    dqkv: &mut [u16],
    sums: &mut [f32],
    scratch: Scratch<'_>,
) {
    check(&head, qkv, attended.len(), stats, &scratch);
    check_gradients(&head, dattended, dqkv, sums);
    let known = Known { qkv, attended, stats, dattended };
    backward_head(set, head, known, Lent::new(dqkv), Lent::new(sums), scratch);
}

/// All heads of a sequence; see [`backward()`] and [`forward_heads`].
pub fn backward_heads(
    set: KernelSet,
    heads: Heads,
    qkv: &[u16],
    attended: &[u16],
    stats: &[f32],
    dattended: &[f32],
    dqkv: &mut [u16],
    sums: &mut [f32],
    spaces: &Chunks<'_>,
) {
    check_gradients(&heads.head(0), dattended, dqkv, sums);
    let each = stats.len() / heads.count;
    let (dqkv, sums) = (Lent::new(dqkv), Lent::new(sums));
    split(heads.count, |part, thread| {
        let mut space = spaces.hold(thread);
        for index in part {
            let head = heads.head(index);
            let scratch = Scratch::of(&mut space, head.length, head.head_width);
            let stats = &stats[index * each..][..each];
            check(&head, qkv, attended.len(), stats, &scratch);
            backward_head(set, head, Known { qkv, attended, stats, dattended }, dqkv, sums, scratch);
        }
    });
}

/// What a backward reads.
#[derive(Clone, Copy)]
struct Known<'a> {
    qkv: &'a [u16],
    attended: &'a [u16],
    stats: &'a [f32],
    dattended: &'a [f32],
}

fn check_gradients(head: &Head, dattended: &[f32], dqkv: &[u16], sums: &[f32]) {
    assert!(dattended.len() >= head.length * head.width, "`dattended` is shorter than its shape");
    assert!(dqkv.len() >= super::len(head.length, 3 * head.width), "`dqkv` is shorter than its shape");
    assert!(sums.len() >= 3 * head.width, "the sums are shorter than a row");
}

fn backward_head(
    set: KernelSet,
    head: Head,
    known: Known<'_>,
    dqkv: Lent<'_, u16>,
    sums: Lent<'_, f32>,
    scratch: Scratch<'_>,
) {
    dispatch!(
        set.with_vectors(),
        backward_simd(
            head: Head,
            known: Known<'_>,
            dqkv: Lent<'_, u16>,
            sums: Lent<'_, f32>,
            scratch: Scratch<'_>,
        )
    );
}

/// What is seen on the diagonal: 1 and 0, or 0 and −∞, for key `r` (row) and query `c`.
struct Diagonal {
    factor: [[f32; SIDE]; SIDE],
    summand: [[f32; SIDE]; SIDE],
}

static DIAGONAL: Diagonal = {
    let mut d = Diagonal { factor: [[0.0; SIDE]; SIDE], summand: [[f32::NEG_INFINITY; SIDE]; SIDE] };
    let mut key = 0;
    while key < SIDE {
        let mut query = key;
        while query < SIDE {
            d.factor[key][query] = 1.0;
            d.summand[key][query] = 0.0;
            query += 1;
        }
        key += 1;
    }
    d
};

/// f = scale·log2 e.
fn factor(head: &Head) -> f32 {
    (std::f64::consts::LOG2_E / head.divisor) as f32
}

/// 2^y where `factor` is 1, zero where it is 0: keys a query must not see, of which y may be any size.
#[inline(always)]
unsafe fn seen<S: Simd>(y: S::V, factor: *const f32) -> S::V {
    // SAFETY: `factor` points to LANES elements of the table.
    unsafe { S::mul(exp2_coarse::<S, true>(S::min(S::splat(127.0), y)), S::load(factor)) }
}

/// 64-byte aligned sums.
#[repr(C, align(64))]
struct Square([f32; CELL]);
