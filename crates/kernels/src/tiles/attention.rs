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

mod columns;

use super::convert::{cell, cell_mut, interleave_simd, lanes_of, turn_simd, words_simd};
use super::{CELL, Cells, SIDE, cells};
use crate::attention::{Head, Heads};
use crate::chunks::Chunks;
use crate::lent::Lent;
use crate::math::exp2_coarse;
use crate::pool::split;
use crate::set::{KernelSet, dispatch};
use crate::simd::{BlockSize, Segment, Simd};
use columns::{Pairs, clear_beyond, columns, put_columns, put_rows, turn_sums, words_of_left};

/// Shift of queries beyond the sequence: their exponentials vanish.
const BEYOND: f32 = 1e4;

/// Scratch space of [`forward`] and [`backward`]: cells of bf16, cells of f32.
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
/// `dattended[T,C]`, plain rows; the rest is what [`forward`] left.
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

/// All heads of a sequence; see [`backward`] and [`forward_heads`].
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

#[inline(always)]
unsafe fn forward_simd<S: Simd>(
    head: Head,
    qkv: &[u16],
    attended: Lent<'_, u16>,
    stats: &mut [f32],
    scratch: Scratch<'_>,
) {
    let (t, c, s) = (head.length, head.width, head.head_width);
    let (tc, sc) = (cells(t), cells(s));
    let n = tc * sc * CELL;
    let mut rest = scratch.operands;
    let mut next = |len: usize| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
        rest = tail;
        part
    };
    let (loose, keys, queries, values) = (next(n), next(n), next(n), next(n));
    let p = next(tc * CELL);
    let (strip, sums) = scratch.sums.split_at_mut(tc * CELL);
    let sums = &mut sums[..CELL];
    let f = factor(&head);
    // Scores of a head that fills half a cell cost little: computing them twice is cheaper than a strip in L2. Of heads of
    // 32 and 64 columns it is not (65 and 51 µs against 65 and 45).
    let narrow = S::MATRIX_UNIT && s <= SIDE / 2;
    let (shifts, inverses) = stats.split_at_mut(tc * SIDE);
    // SAFETY: vectors stay inside cells of 1,024 and rows of 32; operands were cut to their cells above.
    unsafe {
        let wide = cells(3 * c);
        words_of_left::<S>(columns(qkv, wide, head.q(), (t, s), loose), (t, s), queries);
        turn_simd::<S>(columns(qkv, wide, head.v(), (t, s), loose), (t, s), values, tc);
        let k = columns(qkv, wide, head.k(), (t, s), keys);
        let (q, v) = (Cells::whole(queries, s), Cells::whole(values, t));
        let mut turned = Pairs([0; CELL]);
        S::enter();
        if narrow {
            forward_narrow::<S>(&head, (k, q, v), (shifts, inverses), p, attended);
        }
        for i in if narrow { 0..0 } else { 0..tc } {
            let here = SIDE.min(t - i * SIDE);
            for j in 0..=i {
                let segments = [Segment { a: k.block(j), b: q.block(i) }];
                let size = BlockSize { rows: SIDE, cols: here, depth: s };
                S::block(&segments, size, strip[j * CELL..].as_mut_ptr());
            }
            let columns = (&mut shifts[i * SIDE..(i + 1) * SIDE], &mut inverses[i * SIDE..(i + 1) * SIDE]);
            softmax::<S>(&strip[..(i + 1) * CELL], f, columns, p);
            // oᵀ[S, 32 queries], rounded and turned into rows of `attended`.
            for part in 0..sc {
                let rows = SIDE.min(s - part * SIDE);
                let segments = [Segment { a: v.block(part), b: p.as_ptr() }];
                S::block(&segments, BlockSize { rows, cols: here, depth: (i + 1) * SIDE }, sums.as_mut_ptr());
                turn_sums::<S>(sums, rows, &inverses[i * SIDE..(i + 1) * SIDE], &mut turned);
                put_columns(&turned.0, (i, here), head.q() + part * SIDE, rows, cells(c), attended);
            }
        }
        S::leave();
    }
    if head.q() + s == c {
        // SAFETY: the last head has the columns beyond it.
        unsafe { clear_beyond(attended, t, c) }
    }
}

/// A head of up to 16 columns on a matrix unit: scores are computed twice, first for their largest, then for their
/// exponentials, and never leave L1. Each block is asked for before the one before it is worked on.
#[inline(always)]
unsafe fn forward_narrow<S: Simd>(
    head: &Head,
    (k, q, v): (Cells<'_>, Cells<'_>, Cells<'_>),
    (shifts, inverses): (&mut [f32], &mut [f32]),
    p: &mut [u16],
    attended: Lent<'_, u16>,
) {
    let (t, c, s) = (head.length, head.width, head.head_width);
    let (tc, f) = (cells(t), factor(head));
    let (mut turned, mut sums) = (Pairs([0; CELL]), Square([0.0; CELL]));
    let mut squares = [Square([0.0; CELL]), Square([0.0; CELL])];
    let mut turn = 0;
    // SAFETY: as the caller's; vectors stay inside cells of 1,024 and rows of 32.
    unsafe {
        let size = BlockSize { rows: SIDE, cols: SIDE, depth: s };
        S::block(&[Segment { a: k.block(0), b: q.block(0) }], size, squares[0].0.as_mut_ptr());
        for i in 0..tc {
            let mut top = [f32::NEG_INFINITY; SIDE];
            let mut minus = [0f32; SIDE];
            let mut total = [0f32; SIDE];
            // Keys up to the diagonal and back; the diagonal is used twice at once.
            for step in 0..=2 * i {
                let j = if step <= i { step } else { 2 * i - step };
                let [first, second] = &mut squares;
                let (now, next) = if turn == 0 { (first, second) } else { (second, first) };
                turn ^= 1;
                let (row, column) = match step {
                    _ if step < i => (i, step + 1),
                    _ if step < 2 * i => (i, 2 * i - step - 1),
                    _ => (i + 1, 0),
                };
                if row < tc {
                    S::block(&[Segment { a: k.block(column), b: q.block(row) }], size, next.0.as_mut_ptr());
                }
                if step == 0 && i > 0 {
                    let at = (i - 1) * SIDE;
                    turn_sums::<S>(&sums.0, s, &inverses[at..at + SIDE], &mut turned);
                    put_columns(&turned.0, (i - 1, SIDE), head.q(), s, cells(c), attended);
                }
                let to = &mut p[j * CELL..][..CELL];
                if step < i {
                    largest::<S, false>(&now.0, &mut top);
                } else if step == i {
                    largest::<S, true>(&now.0, &mut top);
                    for x in (0..SIDE).step_by(S::LANES) {
                        let shift = S::mul(S::load(top.as_ptr().add(x)), S::splat(f));
                        S::store(shifts.as_mut_ptr().add(i * SIDE + x), shift);
                        S::store(minus.as_mut_ptr().add(x), S::sub(S::splat(0.0), shift));
                    }
                    exponentials::<S, true>(&now.0, f, &minus, &mut total, to);
                } else {
                    exponentials::<S, false>(&now.0, f, &minus, &mut total, to);
                }
            }
            for x in (0..SIDE).step_by(S::LANES) {
                let inverse = S::div(S::splat(1.0), S::load(total.as_ptr().add(x)));
                S::store(inverses.as_mut_ptr().add(i * SIDE + x), inverse);
            }
            // oᵀ[S, 32 queries]
            let segments = [Segment { a: v.block(0), b: p.as_ptr() }];
            let size = BlockSize { rows: s, cols: SIDE, depth: (i + 1) * SIDE };
            S::block(&segments, size, sums.0.as_mut_ptr());
        }
        let at = (tc - 1) * SIDE;
        turn_sums::<S>(&sums.0, s, &inverses[at..at + SIDE], &mut turned);
        put_columns(&turned.0, (tc - 1, t - at), head.q(), s, cells(c), attended);
    }
}

/// The largest score of each query up to this block of keys.
#[inline(always)]
unsafe fn largest<S: Simd, const ON_DIAGONAL: bool>(scores: &[f32; CELL], top: &mut [f32; SIDE]) {
    // SAFETY: offsets lie inside the cell.
    unsafe {
        for x in (0..SIDE).step_by(S::LANES) {
            // Four maxima at once: one alone waits for itself.
            let mut tops = [S::load(top.as_ptr().add(x)); 4];
            for r in 0..SIDE {
                let mut score = S::load(scores.as_ptr().add(r * SIDE + x));
                if ON_DIAGONAL {
                    score = S::add(score, S::load(DIAGONAL.summand[r].as_ptr().add(x)));
                }
                tops[r % 4] = S::max(score, tops[r % 4]);
            }
            let all = S::max(S::max(tops[0], tops[1]), S::max(tops[2], tops[3]));
            S::store(top.as_mut_ptr().add(x), all);
        }
    }
}

/// e = 2^(s·f − shift) of one block of keys, as right operand, and its sums over them.
#[inline(always)]
unsafe fn exponentials<S: Simd, const ON_DIAGONAL: bool>(
    scores: &[f32; CELL],
    f: f32,
    minus: &[f32; SIDE],
    total: &mut [f32; SIDE],
    p: &mut [u16],
) {
    // SAFETY: offsets lie inside the cell.
    unsafe {
        let f = S::splat(f);
        for x in (0..SIDE).step_by(S::LANES) {
            let minus = S::load(minus.as_ptr().add(x));
            let mut sums = [S::load(total.as_ptr().add(x)), S::splat(0.0)];
            let to = p.as_mut_ptr().add(x / 16 * 512 + x % 16 * 2);
            for pair in 0..16 {
                let mut e = [S::splat(0.0); 2];
                for odd in 0..2 {
                    let r = 2 * pair + odd;
                    let y = S::fma(S::load(scores.as_ptr().add(r * SIDE + x)), f, minus);
                    e[odd] = if ON_DIAGONAL {
                        seen::<S>(y, DIAGONAL.factor[r].as_ptr().add(x))
                    } else {
                        exp2_coarse::<S, true>(y)
                    };
                    sums[odd] = S::add(sums[odd], e[odd]);
                }
                S::store_bf16_pairs(to.add(pair * 32), e[0], e[1]);
            }
            S::store(total.as_mut_ptr().add(x), S::add(sums[0], sums[1]));
        }
    }
}

/// Scores `[keys, 32]` of 32 queries in cells become e = 2^(s·f − shift) in `p`, a right operand with k = keys; the
/// last cell lies on the diagonal.
#[inline(always)]
unsafe fn softmax<S: Simd>(
    scores: &[f32],
    f: f32,
    (shifts, inverses): (&mut [f32], &mut [f32]),
    p: &mut [u16],
) {
    let last = scores.len() / CELL - 1;
    // SAFETY: offsets lie inside cells; shifts and inverses have 32 elements.
    unsafe {
        let (f, scores) = (S::splat(f), scores.as_ptr());
        for x in (0..SIDE).step_by(S::LANES) {
            // Four maxima at once: one alone waits for itself.
            let mut top = [S::splat(f32::NEG_INFINITY); 4];
            let diagonal = scores.add(last * CELL + x);
            for r in 0..SIDE {
                let seen =
                    S::add(S::load(diagonal.add(r * SIDE)), S::load(DIAGONAL.summand[r].as_ptr().add(x)));
                top[r % 4] = S::max(seen, top[r % 4]);
            }
            let mut at = scores.add(x);
            for _ in 0..last * SIDE / 4 {
                for (r, top) in top.iter_mut().enumerate() {
                    *top = S::max(S::load(at.add(r * SIDE)), *top);
                }
                at = at.add(4 * SIDE);
            }
            let top = S::max(S::max(top[0], top[1]), S::max(top[2], top[3]));
            let shift = S::mul(top, f);
            let minus = S::sub(S::splat(0.0), shift);
            let mut sums = [S::splat(0.0); 2];
            for j in 0..=last {
                let from = scores.add(j * CELL + x);
                let to = p.as_mut_ptr().add(j * CELL + x / 16 * 512 + x % 16 * 2);
                for pair in 0..16 {
                    let mut e = [S::splat(0.0); 2];
                    for odd in 0..2 {
                        let r = 2 * pair + odd;
                        let y = S::fma(S::load(from.add(r * SIDE)), f, minus);
                        e[odd] = if j == last {
                            seen::<S>(y, DIAGONAL.factor[r].as_ptr().add(x))
                        } else {
                            exp2_coarse::<S, true>(y)
                        };
                        sums[odd] = S::add(sums[odd], e[odd]);
                    }
                    S::store_bf16_pairs(to.add(pair * 32), e[0], e[1]);
                }
            }
            S::store(shifts.as_mut_ptr().add(x), shift);
            let sum = S::add(sums[0], sums[1]);
            S::store(inverses.as_mut_ptr().add(x), S::div(S::splat(1.0), sum));
        }
    }
}

/// 2^y where `factor` is 1, zero where it is 0: keys a query must not see, of which y may be any size.
#[inline(always)]
unsafe fn seen<S: Simd>(y: S::V, factor: *const f32) -> S::V {
    // SAFETY: `factor` points to LANES elements of the table.
    unsafe { S::mul(exp2_coarse::<S, true>(S::min(S::splat(127.0), y)), S::load(factor)) }
}

#[inline(always)]
unsafe fn backward_simd<S: Simd>(
    head: Head,
    known: Known<'_>,
    dqkv: Lent<'_, u16>,
    totals: Lent<'_, f32>,
    scratch: Scratch<'_>,
) {
    // SAFETY: as the caller's. Wider heads lost up to 7 % by what narrow ones gain from.
    unsafe {
        if S::MATRIX_UNIT && head.head_width <= SIDE / 2 {
            backward_of_width::<S, true>(head, known, dqkv, totals, scratch);
        } else {
            backward_of_width::<S, false>(head, known, dqkv, totals, scratch);
        }
    }
}

#[inline(always)]
unsafe fn backward_of_width<S: Simd, const NARROW: bool>(
    head: Head,
    Known { qkv, attended, stats, dattended }: Known<'_>,
    dqkv: Lent<'_, u16>,
    totals: Lent<'_, f32>,
    scratch: Scratch<'_>,
) {
    let (t, c, s) = (head.length, head.width, head.head_width);
    let (tc, sc) = (cells(t), cells(s));
    let n = tc * sc * CELL;
    let mut rest = scratch.operands;
    let mut next = |len: usize| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
        rest = tail;
        part
    };
    let (keys, turned_keys, queries, right_queries) = (next(n), next(n), next(n), next(n));
    let (values, gradient, right_gradient) = (next(n), next(n), next(n));
    let (e, ds) = (next(tc * CELL), next(tc * CELL));
    let (dq, rest) = scratch.sums.split_at_mut(n);
    let (sums, rest) = rest.split_at_mut(CELL);
    let d = &mut rest[..tc * SIDE];
    let (shifts, inverses) = stats.split_at(tc * SIDE);
    let scale = (1.0 / head.divisor) as f32;
    let f = factor(&head);
    // SAFETY: vectors stay inside cells of 1,024 and rows of 32; operands were cut to their cells above.
    unsafe {
        // `gradient` and `values` lend their space until they are filled for good.
        let wide = cells(3 * c);
        let o = columns(attended, cells(c), head.q(), (t, s), gradient);
        gradient_of_rows::<S>(&head, o, dattended, inverses, values, d);
        words_simd::<S>(values, gradient);
        interleave_simd::<S>(Cells::whole(values, s), (t, s), right_gradient);
        let q = columns(qkv, wide, head.q(), (t, s), values);
        words_of_left::<S>(q, (t, s), queries);
        interleave_simd::<S>(q, (t, s), right_queries);
        let k = columns(qkv, wide, head.k(), (t, s), keys);
        turn_simd::<S>(k, (t, s), turned_keys, tc);
        let v = columns(qkv, wide, head.v(), (t, s), values);
        let (q, kt, g) = (Cells::whole(queries, s), Cells::whole(turned_keys, t), Cells::whole(gradient, s));
        for first in [head.q(), head.k(), head.v()] {
            totals.at(first, s).fill(0.0);
        }
        let mut squares = [(); 2].map(|()| (Square([0.0; CELL]), Square([0.0; CELL])));
        let (mut paired, mut turned) = (Pairs([0; CELL]), Pairs([0; CELL]));
        let size = BlockSize { rows: SIDE, cols: SIDE, depth: s };
        let mut turn = 0;
        S::enter();
        if NARROW {
            S::block(&[Segment { a: k.block(0), b: q.block(0) }], size, squares[0].0.0.as_mut_ptr());
            S::block(&[Segment { a: v.block(0), b: g.block(0) }], size, squares[0].1.0.as_mut_ptr());
        }
        for j in 0..tc {
            let here = SIDE.min(t - j * SIDE);
            for i in j..tc {
                let now = turn;
                // Of a narrow head the next pair's scores are asked for before this one's are worked on.
                let (row, column) = match () {
                    () if !NARROW => (j, i),
                    () if i + 1 < tc => (j, i + 1),
                    () => (j + 1, j + 1),
                };
                if NARROW {
                    turn ^= 1;
                }
                if row < tc {
                    let (scores, dp) = &mut squares[turn];
                    S::block(&[Segment { a: k.block(row), b: q.block(column) }], size, scores.0.as_mut_ptr());
                    S::block(&[Segment { a: v.block(row), b: g.block(column) }], size, dp.0.as_mut_ptr());
                }
                let (scores, dp) = &mut squares[now];
                let (at, to) = (i * SIDE, (i - j) * CELL);
                let queries = Queries { shifts: &shifts[at..at + SIDE], d: &d[at..at + SIDE], known: t - at };
                let (e, ds) = (&mut e[to..to + CELL], &mut ds[to..to + CELL]);
                slopes::<S>(&scores.0, &dp.0, f, &queries, i == j, (e, ds, &mut paired.0));
                for part in 0..sc {
                    let rows = SIDE.min(s - part * SIDE);
                    let a = kt.block(part).add(j * CELL);
                    let segments = [Segment { a, b: paired.0.as_ptr() }];
                    let size = BlockSize { rows, cols: SIDE, depth: here };
                    let into = dq.as_mut_ptr().add((i * sc + part) * CELL);
                    if NARROW {
                        // The first keys find what an earlier head left.
                        if j == 0 {
                            S::block(&segments, size, into)
                        } else {
                            S::block_add(&segments, size, into)
                        }
                        continue;
                    }
                    S::block(&segments, size, scores.0.as_mut_ptr());
                    for at in (0..rows * SIDE).step_by(S::LANES) {
                        let sum = S::load(scores.0.as_ptr().add(at));
                        let sum = if j == 0 { sum } else { S::add(S::load(into.add(at)), sum) };
                        S::store(into.add(at), sum);
                    }
                }
            }
            let depth = t - j * SIDE;
            for (left, right, to, factor) in
                [(&*e, &*right_gradient, head.v(), 1.0), (&*ds, &*right_queries, head.k(), scale)]
            {
                let right = Cells::whole(right, t);
                for part in 0..sc {
                    let cols = SIDE.min(s - part * SIDE);
                    let b = right.block(part).add(j * CELL);
                    let segments = [Segment { a: left.as_ptr(), b }];
                    S::block(&segments, BlockSize { rows: here, cols, depth }, sums.as_mut_ptr());
                    let columns = (to + part * SIDE, cols);
                    put_rows::<S>(sums, factor, (j, here), columns, wide, dqkv, totals);
                }
            }
        }
        S::leave();
        for part in 0..sc {
            let rows = SIDE.min(s - part * SIDE);
            for i in 0..tc {
                turn_sums::<S>(&dq[(i * sc + part) * CELL..][..CELL], rows, &[scale; SIDE], &mut turned);
                let here = SIDE.min(t - i * SIDE);
                put_columns(&turned.0, (i, here), head.q() + part * SIDE, rows, wide, dqkv);
            }
            for r in 0..rows {
                let mut sum = S::splat(0.0);
                for i in 0..tc {
                    let row = dq.as_ptr().add((i * sc + part) * CELL + r * SIDE);
                    for x in (0..SIDE).step_by(S::LANES) {
                        sum = S::add(sum, S::load(row.add(x)));
                    }
                }
                *totals.pointer(head.q() + part * SIDE + r) = scale * S::sum(sum);
            }
        }
    }
    if head.q() + s == c {
        // SAFETY: the last head has the columns beyond it.
        unsafe { clear_beyond(dqkv, t, 3 * c) }
    }
}

/// 64-byte aligned sums.
#[repr(C, align(64))]
struct Square([f32; CELL]);

/// do' as left operand `[T,S]` and D of each query; `o` is the head's part of what was attended.
#[inline(always)]
unsafe fn gradient_of_rows<S: Simd>(
    head: &Head,
    o: Cells<'_>,
    dattended: &[f32],
    inverses: &[f32],
    out: &mut [u16],
    d: &mut [f32],
) {
    let (t, s, wide) = (head.length, head.head_width, cells(head.head_width));
    d.fill(0.0);
    for part in 0..wide {
        let (first, count) = (head.q() + part * SIDE, SIDE.min(s - part * SIDE));
        for block in 0..cells(t) {
            let out = cell_mut(out, block * wide + part);
            let o = cell(o.data, block * o.stride + part);
            for r in 0..SIDE {
                let i = block * SIDE + r;
                let (out, o) = (&mut out[r * SIDE..][..SIDE], &o[r * SIDE..][..SIDE]);
                if i >= t {
                    out.fill(0);
                    continue;
                }
                let from = &dattended[i * head.width + first..][..count];
                // SAFETY: x + LANES ≤ 32, the length of `out` and `o`; of `from` only its `count` elements are read.
                unsafe {
                    let inverse = S::splat(inverses[i]);
                    let mut sum = S::splat(0.0);
                    for x in (0..SIDE).step_by(S::LANES) {
                        let v = S::mul(lanes_of::<S>(from, x, count), inverse);
                        sum = S::fma(v, S::load_bf16(o.as_ptr().add(x)), sum);
                        S::store_bf16(out.as_mut_ptr().add(x), v);
                    }
                    d[i] += S::sum(sum);
                }
            }
        }
    }
}

/// What 32 queries know; `known` of them lie inside the sequence.
struct Queries<'a> {
    shifts: &'a [f32],
    d: &'a [f32],
    known: usize,
}

/// One cell: from scores and dp to e and ds as left operands (k = queries) and ds as right operand (k = keys).
#[inline(always)]
unsafe fn slopes<S: Simd>(
    scores: &[f32; CELL],
    dp: &[f32; CELL],
    f: f32,
    queries: &Queries<'_>,
    diagonal: bool,
    (e_out, ds_out, paired): (&mut [u16], &mut [u16], &mut [u16; CELL]),
) {
    let mut shifts = [BEYOND; SIDE];
    let known = queries.known.min(SIDE);
    shifts[..known].copy_from_slice(&queries.shifts[..known]);
    // SAFETY: offsets lie inside cells of 1,024 and rows of 32.
    unsafe {
        let f = S::splat(f);
        for x in (0..SIDE).step_by(S::LANES) {
            let minus = S::sub(S::splat(0.0), S::load(shifts.as_ptr().add(x)));
            let d = S::load(queries.d.as_ptr().add(x));
            for pair in 0..16 {
                let (mut e, mut ds) = ([S::splat(0.0); 2], [S::splat(0.0); 2]);
                for odd in 0..2 {
                    let at = (2 * pair + odd) * SIDE + x;
                    let y = S::fma(S::load(scores.as_ptr().add(at)), f, minus);
                    e[odd] = if diagonal {
                        seen::<S>(y, DIAGONAL.factor[2 * pair + odd].as_ptr().add(x))
                    } else {
                        exp2_coarse::<S, true>(y)
                    };
                    ds[odd] = S::mul(e[odd], S::sub(S::load(dp.as_ptr().add(at)), d));
                }
                let at = [2 * pair, 2 * pair + 1].map(|r| r * SIDE + x);
                S::store_bf16_rows(at.map(|at| e_out.as_mut_ptr().add(at)), e[0], e[1]);
                let to = paired.as_mut_ptr().add(x / 16 * 512 + pair * 32 + x % 16 * 2);
                S::store_bf16_rows_and_pairs(at.map(|at| ds_out.as_mut_ptr().add(at)), to, ds[0], ds[1]);
            }
        }
    }
}
