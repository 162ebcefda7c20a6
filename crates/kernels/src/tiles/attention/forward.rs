//! Forward of one head: scores, their softmax, the values they weigh.

use super::super::convert::turn_simd;
use super::super::{CELL, Cells, SIDE, cells};
use super::columns::{Pairs, clear_beyond, columns, put_columns, turn_sums, words_of_left};
use super::{DIAGONAL, Scratch, Square, factor, seen};
use crate::attention::Head;
use crate::lent::Lent;
use crate::math::exp2_coarse;
use crate::simd::{BlockSize, Segment, Simd};

/// # Safety
/// As [`Simd`]; lengths as [`super::check`] asserts; nobody else has the head's columns.
#[inline(always)]
pub(super) unsafe fn forward_simd<S: Simd>(
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
    let mut next = |len: usize| rest.split_off_mut(..len).expect("checked with the scratch space");
    let (loose, keys, queries, values) = (next(n), next(n), next(n), next(n));
    let p = next(tc * CELL);
    let (strip, sums) = scratch.sums.split_at_mut(tc * CELL);
    let sums = &mut sums[..CELL];
    let f = factor(&head);
    // Scores of a head that fills half a cell cost little: computing them twice is cheaper than a strip in L2. Of heads
    // of 32 and 64 columns it is not (65 and 51 µs against 65 and 45).
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
