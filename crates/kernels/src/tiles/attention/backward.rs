//! Backward of one head, key block by key block: the scores again, then the gradients of values, keys and queries.

use super::super::convert::{cell, cell_mut, interleave_simd, lanes_of, turn_simd, words_simd};
use super::super::{CELL, Cells, SIDE, cells};
use super::columns::{Pairs, clear_beyond, columns, put_columns, put_rows, turn_sums, words_of_left};
use super::{BEYOND, DIAGONAL, Known, Scratch, Square, factor, seen};
use crate::attention::Head;
use crate::lent::Lent;
use crate::math::exp2_coarse;
use crate::simd::{BlockSize, Segment, Simd};

/// # Safety
/// As [`super::forward::forward_simd`].
#[inline(always)]
pub(super) unsafe fn backward_simd<S: Simd>(
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
    let mut next = |len: usize| rest.split_off_mut(..len).expect("checked with the scratch space");
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
