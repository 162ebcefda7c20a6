//! Layer normalisation: y = (x − mean)·rstd·w + b over the C channels of a row, rstd = 1/√(variance + ε).
//!
//! Backward, with x̂ = (x − mean)·rstd and e = dy·w:
//! dx = rstd·(e − mean(e) − x̂·mean(e·x̂)), dw = Σ dy·x̂, db = Σ dy over rows.

use crate::Real;
use crate::lent::Lent;
use crate::pool::{is_divided, split};
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};
use crate::tiles::{CELL, SIDE, cells};
use std::ops::Range;

/// Rows or blocks of columns that one part of a pass has at least.
const GRAIN: usize = 16;

/// GPT-2's `layer_norm_epsilon`.
pub const EPSILON: f64 = 1e-5;

/// Plain loops.
pub mod naive {
    use super::*;

    /// `y[R,C]`, and each row's `(mean, rstd)` in `stats[R,2]`; rstd = 1/√(variance + `epsilon`).
    pub fn forward<T: Real>(epsilon: T, x: &[T], w: &[T], b: &[T], y: &mut [T], stats: &mut [T]) {
        let c = w.len();
        let count = T::of(c as f64);
        for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact_mut(2)) {
            let mut mean = T::default();
            x.iter().for_each(|&x| mean += x);
            mean = mean / count;
            let mut variance = T::default();
            x.iter().for_each(|&x| variance += (x - mean) * (x - mean));
            let rstd = T::of(1.0) / (variance / count + epsilon).sqrt();
            for i in 0..c {
                y[i] = (x[i] - mean) * rstd * w[i] + b[i];
            }
            stats.copy_from_slice(&[mean, rstd]);
        }
    }

    /// `dx[R,C] = residual[R,C] + …`, and this block's `dw[C]`, `db[C]` (overwritten).
    pub fn backward<T: Real>(
        x: &[T],
        stats: &[T],
        w: &[T],
        dy: &[T],
        residual: &[T],
        dx: &mut [T],
        dw: &mut [T],
        db: &mut [T],
    ) {
        let c = w.len();
        let count = T::of(c as f64);
        dw.fill(T::default());
        db.fill(T::default());
        for r in 0..x.len() / c {
            let row = r * c..(r + 1) * c;
            let (x, dy, residual, dx) =
                (&x[row.clone()], &dy[row.clone()], &residual[row.clone()], &mut dx[row]);
            let (mean, rstd) = (stats[2 * r], stats[2 * r + 1]);
            let (mut sum, mut dot) = (T::default(), T::default());
            for i in 0..c {
                let hat = (x[i] - mean) * rstd;
                sum += dy[i] * w[i];
                dot += dy[i] * w[i] * hat;
                dw[i] += dy[i] * hat;
                db[i] += dy[i];
            }
            for i in 0..c {
                let hat = (x[i] - mean) * rstd;
                dx[i] = residual[i] + rstd * (dy[i] * w[i] - sum / count - hat * dot / count);
            }
        }
    }
}

/// `y[R,C]` from `x[R,C]`, and each row's `(mean, rstd)` in `stats[R,2]`; rstd = 1/√(variance + `epsilon`).
pub fn forward(
    set: KernelSet,
    epsilon: f32,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [f32],
    stats: &mut [f32],
) {
    let c = w.len();
    assert!(
        c > 0
            && b.len() == c
            && x.len().is_multiple_of(c)
            && y.len() == x.len()
            && stats.len() == x.len() / c * 2
    );
    if set == KernelSet::Naive {
        return naive::forward(epsilon, x, w, b, y, stats);
    }
    let (y, stats) = (Lent::new(y), Lent::new(stats));
    by_rows(x.len() / c, |r| {
        // SAFETY: the part's own rows.
        let (y, stats) = unsafe { (y.at(r.start * c, r.len() * c), stats.at(r.start * 2, r.len() * 2)) };
        let x = &x[r.start * c..r.end * c];
        dispatch!(set, forward_simd(epsilon: f32, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], stats: &mut [f32]));
    });
}

/// Calls `part` with ranges of rows.
fn by_rows(rows: usize, part: impl Fn(Range<usize>) + Sync) {
    split(rows.div_ceil(GRAIN), |p, _| part(p.start * GRAIN..rows.min(p.end * GRAIN)));
}

/// The same as left operand of a product (see [`crate::tiles`]).
pub fn forward_left(
    set: KernelSet,
    epsilon: f32,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [u16],
    stats: &mut [f32],
) {
    let c = w.len();
    assert!(c > 0 && b.len() == c && x.len().is_multiple_of(c) && stats.len() == x.len() / c * 2);
    let (rows, block) = (x.len() / c, cells(c) * CELL);
    assert!(y.len() >= cells(rows) * block, "y is shorter than its shape");
    let (y, stats) = (Lent::new(y), Lent::new(stats));
    split(cells(rows), |p, _| {
        let r = p.start * SIDE..rows.min(p.end * SIDE);
        // SAFETY: the part's own rows.
        let (y, stats) =
            unsafe { (y.at(p.start * block, p.len() * block), stats.at(r.start * 2, r.len() * 2)) };
        let x = &x[r.start * c..r.end * c];
        dispatch!(
            set.with_vectors(),
            left_simd(epsilon: f32, x: &[f32], w: &[f32], b: &[f32], y: &mut [u16], stats: &mut [f32])
        );
    });
}

/// `y[R,C]` again from stored `stats[R,2]`.
pub fn again(set: KernelSet, x: &[f32], stats: &[f32], w: &[f32], b: &[f32], y: &mut [f32]) {
    let c = w.len();
    assert!(
        c > 0
            && b.len() == c
            && x.len().is_multiple_of(c)
            && y.len() == x.len()
            && stats.len() == x.len() / c * 2
    );
    let (set, y) = (set.with_vectors(), Lent::new(y));
    by_rows(x.len() / c, |r| {
        // SAFETY: the part's own rows.
        let y = unsafe { y.at(r.start * c, r.len() * c) };
        let (x, stats) = (&x[r.start * c..r.end * c], &stats[2 * r.start..2 * r.end]);
        dispatch!(set, again_simd(x: &[f32], stats: &[f32], w: &[f32], b: &[f32], y: &mut [f32]));
    });
}

/// `dx[R,C] = residual[R,C] + the gradient through the norm`, and the block's `dw[C]`, `db[C]` (overwritten).
pub fn backward(
    set: KernelSet,
    x: &[f32],
    stats: &[f32],
    w: &[f32],
    dy: &[f32],
    residual: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
    db: &mut [f32],
) {
    let c = w.len();
    assert!(
        c > 0
            && dw.len() == c
            && db.len() == c
            && x.len().is_multiple_of(c)
            && stats.len() == x.len() / c * 2
    );
    assert!(dy.len() == x.len() && residual.len() == x.len() && dx.len() == x.len());
    if set == KernelSet::Naive {
        return naive::backward(x, stats, w, dy, residual, dx, dw, db);
    }
    let input = Input { x, stats, dy };
    if !is_divided() {
        return backward_rows(set, input, w, residual, dx, Some((dw, db)));
    }
    // Several threads: by rows what belongs to rows, by columns their sums, which have the same order either way.
    let (dx, dw, db) = (Lent::new(dx), Lent::new(dw), Lent::new(db));
    by_rows(x.len() / c, |r| {
        let at = r.start * c..r.end * c;
        // SAFETY: the part's own rows.
        let dx = unsafe { dx.at(at.start, at.len()) };
        let input = Input { x: &x[at.clone()], stats: &stats[2 * r.start..2 * r.end], dy: &dy[at.clone()] };
        backward_rows(set, input, w, &residual[at], dx, None);
    });
    split(c.div_ceil(GRAIN), |p, _| {
        let columns = p.start * GRAIN..c.min(p.end * GRAIN);
        // SAFETY: the part's own columns.
        let (dw, db) = unsafe { (dw.at(columns.start, columns.len()), db.at(columns.start, columns.len())) };
        let first = columns.start;
        dispatch!(
            set,
            columns_simd(input: Input<'_>, c: usize, first: usize, dw: &mut [f32], db: &mut [f32])
        );
    });
}

/// `dw` and `db`.
type Sums<'a> = (&'a mut [f32], &'a mut [f32]);

fn backward_rows(
    set: KernelSet,
    input: Input<'_>,
    w: &[f32],
    residual: &[f32],
    dx: &mut [f32],
    sums: Option<Sums<'_>>,
) {
    dispatch!(
        set,
        backward_simd(
            input: Input<'_>,
            w: &[f32],
            residual: &[f32],
            dx: &mut [f32],
            sums: Option<Sums<'_>>,
        )
    );
}

/// What a backward reads of each row.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a [f32],
    stats: &'a [f32],
    dy: &'a [f32],
}

#[inline(always)]
unsafe fn forward_simd<S: Simd>(
    epsilon: f32,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [f32],
    stats: &mut [f32],
) {
    let c = w.len();
    for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact_mut(2)) {
        // SAFETY: x, y, w, b have c elements.
        unsafe {
            let (mean, rstd) = moments::<S>(epsilon, x);
            stats.copy_from_slice(&[mean, rstd]);
            normalise::<S>(x, mean, rstd, w, b, y);
        }
    }
}

/// Mean and 1/deviation of a row.
#[inline(always)]
unsafe fn moments<S: Simd>(epsilon: f32, x: &[f32]) -> (f32, f32) {
    let c = x.len();
    // SAFETY: every access is to the c elements of x.
    unsafe {
        let mut sum = S::splat(0.0);
        sweep!(S, c, |i, count| {
            sum = S::add(sum, load_n::<S>(x.as_ptr().add(i), count));
        });
        let mean = S::sum(sum) / c as f32;
        let mut square = S::splat(0.0);
        sweep!(S, c, |i, count| {
            // Lanes beyond the row hold the mean, so that they add nothing.
            let v = load_n::<S>(x.as_ptr().add(i), count);
            let d = S::sub(v, S::splat(mean));
            let d = if count == S::LANES { d } else { keep_first::<S>(d, count) };
            square = S::fma(d, d, square);
        });
        (mean, 1.0 / (S::sum(square) / c as f32 + epsilon).sqrt())
    }
}

#[inline(always)]
unsafe fn left_simd<S: Simd>(
    epsilon: f32,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    y: &mut [u16],
    stats: &mut [f32],
) {
    let (c, rows) = (w.len(), stats.len() / 2);
    let wide = cells(c);
    for r in 0..rows.next_multiple_of(SIDE) {
        let at = r / SIDE * wide * CELL + r % SIDE * SIDE;
        if r >= rows {
            (0..wide).for_each(|part| y[at + part * CELL..][..SIDE].fill(0));
            continue;
        }
        let x = &x[r * c..(r + 1) * c];
        // SAFETY: x, w, b have c elements; a row of a cell has 32.
        unsafe {
            let (mean, rstd) = moments::<S>(epsilon, x);
            stats[2 * r..2 * r + 2].copy_from_slice(&[mean, rstd]);
            for part in 0..wide {
                let out = y[at + part * CELL..][..SIDE].as_mut_ptr();
                for v in (0..SIDE).step_by(S::LANES) {
                    let i = part * SIDE + v;
                    let value = if i < c {
                        normal::<S>(x, mean, rstd, w, b, i, S::LANES.min(c - i))
                    } else {
                        S::splat(0.0)
                    };
                    S::store_bf16(out.add(v), value);
                }
            }
        }
    }
}

/// The first `n` lanes, the others zero.
#[inline(always)]
unsafe fn keep_first<S: Simd>(v: S::V, n: usize) -> S::V {
    let mut lanes = [0f32; 16];
    // SAFETY: no set has more than 16 lanes.
    unsafe {
        S::store(lanes.as_mut_ptr(), v);
        S::load_first(lanes.as_ptr(), n)
    }
}

#[inline(always)]
unsafe fn normalise<S: Simd>(x: &[f32], mean: f32, rstd: f32, w: &[f32], b: &[f32], y: &mut [f32]) {
    sweep!(S, x.len(), |i, count| {
        // SAFETY: all slices have the length of x.
        unsafe {
            store_n::<S>(y.as_mut_ptr().add(i), normal::<S>(x, mean, rstd, w, b, i, count), count);
        }
    });
}

/// Elements `i..i + count`, normed; where w and b have no lanes, zero.
#[inline(always)]
unsafe fn normal<S: Simd>(
    x: &[f32],
    mean: f32,
    rstd: f32,
    w: &[f32],
    b: &[f32],
    i: usize,
    count: usize,
) -> S::V {
    // SAFETY: i + count is at most the length of each, as the caller knows.
    unsafe {
        let hat = S::mul(S::sub(load_n::<S>(x.as_ptr().add(i), count), S::splat(mean)), S::splat(rstd));
        S::fma(hat, load_n::<S>(w.as_ptr().add(i), count), load_n::<S>(b.as_ptr().add(i), count))
    }
}

#[inline(always)]
unsafe fn again_simd<S: Simd>(x: &[f32], stats: &[f32], w: &[f32], b: &[f32], y: &mut [f32]) {
    let c = w.len();
    for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact(2)) {
        // SAFETY: x, y, w, b have c elements.
        unsafe { normalise::<S>(x, stats[0], stats[1], w, b, y) }
    }
}

/// `dx`; and `dw`, `db` unless they are summed elsewhere.
#[inline(always)]
unsafe fn backward_simd<S: Simd>(
    Input { x, stats, dy }: Input<'_>,
    w: &[f32],
    residual: &[f32],
    dx: &mut [f32],
    mut sums: Option<Sums<'_>>,
) {
    let c = w.len();
    if let Some((dw, db)) = &mut sums {
        dw.fill(0.0);
        db.fill(0.0);
    }
    for r in 0..x.len() / c {
        // SAFETY: row r of each matrix has c elements, as w, dw and db have.
        unsafe {
            let (px, pdy) = (x.as_ptr().add(r * c), dy.as_ptr().add(r * c));
            let (mean, rstd) = (S::splat(stats[2 * r]), S::splat(stats[2 * r + 1]));
            let (mut sum, mut dot) = (S::splat(0.0), S::splat(0.0));
            sweep!(S, c, |i, count| {
                let hat = S::mul(S::sub(load_n::<S>(px.add(i), count), mean), rstd);
                let d = load_n::<S>(pdy.add(i), count); // zero beyond the row, so hat adds nothing there
                let e = S::mul(d, load_n::<S>(w.as_ptr().add(i), count));
                sum = S::add(sum, e);
                dot = S::fma(e, hat, dot);
                if let Some((dw, db)) = &mut sums {
                    add_to_sums::<S>(d, hat, dw.as_mut_ptr().add(i), db.as_mut_ptr().add(i), count);
                }
            });
            let sum = S::splat(S::sum(sum) / c as f32);
            let dot = S::splat(S::sum(dot) / c as f32);
            sweep!(S, c, |i, count| {
                let hat = S::mul(S::sub(load_n::<S>(px.add(i), count), mean), rstd);
                let e = S::mul(load_n::<S>(pdy.add(i), count), load_n::<S>(w.as_ptr().add(i), count));
                let inner = S::sub(S::sub(e, sum), S::mul(hat, dot));
                let v = S::fma(rstd, inner, load_n::<S>(residual.as_ptr().add(r * c + i), count));
                store_n::<S>(dx.as_mut_ptr().add(r * c + i), v, count);
            });
        }
    }
}

/// Columns `first..` of `dw` and `db`, the part these slices are.
#[inline(always)]
unsafe fn columns_simd<S: Simd>(
    Input { x, stats, dy }: Input<'_>,
    c: usize,
    first: usize,
    dw: &mut [f32],
    db: &mut [f32],
) {
    dw.fill(0.0);
    db.fill(0.0);
    for (r, stats) in stats.chunks_exact(2).enumerate() {
        sweep!(S, dw.len(), |i, count| {
            // SAFETY: the columns lie inside row r of both matrices, as the entry point saw.
            unsafe {
                let at = r * c + first + i;
                let x = load_n::<S>(x.as_ptr().add(at), count);
                let hat = S::mul(S::sub(x, S::splat(stats[0])), S::splat(stats[1]));
                let d = load_n::<S>(dy.as_ptr().add(at), count);
                add_to_sums::<S>(d, hat, dw.as_mut_ptr().add(i), db.as_mut_ptr().add(i), count);
            }
        });
    }
}

/// `dw += d·x̂`, `db += d`.
#[inline(always)]
unsafe fn add_to_sums<S: Simd>(d: S::V, hat: S::V, dw: *mut f32, db: *mut f32, count: usize) {
    // SAFETY: `count` elements are valid, as the caller knows.
    unsafe {
        store_n::<S>(dw, S::fma(d, hat, load_n::<S>(dw, count)), count);
        store_n::<S>(db, S::add(d, load_n::<S>(db, count)), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, step: f64) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * step).sin() * 2.0 + 0.3).collect()
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn every_set_agrees_with_plain_loops_in_f64() {
        for (rows, c) in [(1, 1), (3, 5), (4, 16), (7, 24), (2, 33), (5, 160), (33, 40)] {
            let (x, w, b) = (wave(rows * c, 0.7), wave(c, 0.31), wave(c, 0.17));
            let (dy, residual) = (wave(rows * c, 1.3), wave(rows * c, 0.11));
            let (mut y, mut stats) = (vec![0.0; rows * c], vec![0.0; rows * 2]);
            naive::forward(EPSILON, &x, &w, &b, &mut y, &mut stats);
            let (mut dx, mut dw, mut db) = (vec![0.0; rows * c], vec![9.0; c], vec![9.0; c]);
            naive::backward(&x, &stats, &w, &dy, &residual, &mut dx, &mut dw, &mut db);
            for set in KernelSet::runnable() {
                let (x, w, b, dy, residual) =
                    (narrow(&x), narrow(&w), narrow(&b), narrow(&dy), narrow(&residual));
                let (mut fy, mut fy2, mut fs) =
                    (vec![0f32; rows * c], vec![0f32; rows * c], vec![0f32; rows * 2]);
                forward(set, EPSILON as f32, &x, &w, &b, &mut fy, &mut fs);
                again(set, &x, &fs, &w, &b, &mut fy2);
                let (mut fdx, mut fdw, mut fdb) = (vec![0f32; rows * c], vec![9f32; c], vec![9f32; c]);
                backward(set, &x, &fs, &w, &dy, &residual, &mut fdx, &mut fdw, &mut fdb);
                let mut cells = vec![9; crate::tiles::len(rows, c)];
                let mut left_stats = vec![0f32; rows * 2];
                forward_left(set, EPSILON as f32, &x, &w, &b, &mut cells, &mut left_stats);
                for (index, &cell) in cells.iter().enumerate() {
                    let (block, within) = (index / CELL, index % CELL);
                    let row = block / super::cells(c) * SIDE + within / SIDE;
                    let column = block % super::cells(c) * SIDE + within % SIDE;
                    let inside = row < rows && column < c;
                    let exact = if inside { y[row * c + column] } else { 0.0 };
                    let off = (f64::from(crate::bf16::widen(cell)) - exact).abs();
                    // Half a unit of the last place, and what rounding in f32 may have moved across the middle.
                    let bound = exact.abs() / 256.0 + if c == 1 { 2e-2 } else { 1e-4 };
                    assert!(
                        off <= if inside { bound } else { 0.0 },
                        "{set:?} {rows}×{c} at {row}, {column}: {off}"
                    );
                }
                for (f, s) in left_stats.iter().zip(&stats) {
                    assert!((f64::from(*f) - s).abs() < 1e-4 * s.abs().max(1.0), "{set:?} c {c}: {f} {s}");
                }
                // A row of one channel has no variance: rstd is 316 and magnifies rounding.
                let tolerance = if c == 1 { 2e-2 } else { 3e-5 };
                for (fast, exact) in [(&fy, &y), (&fy2, &y), (&fdx, &dx), (&fdw, &dw), (&fdb, &db)] {
                    for (f, e) in fast.iter().zip(exact) {
                        assert!(
                            (f64::from(*f) - e).abs() < tolerance * (1.0 + e.abs()),
                            "{set:?} c {c}: {f} {e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn backward_is_the_limit_of_differences() {
        let (rows, c, h) = (2, 6, 1e-6);
        let (x, w, b, dy) = (wave(rows * c, 0.7), wave(c, 0.31), wave(c, 0.17), wave(rows * c, 1.3));
        let loss = |x: &[f64], w: &[f64], b: &[f64]| -> f64 {
            let (mut y, mut stats) = (vec![0.0; rows * c], vec![0.0; rows * 2]);
            naive::forward(EPSILON, x, w, b, &mut y, &mut stats);
            y.iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        let (mut y, mut stats) = (vec![0.0; rows * c], vec![0.0; rows * 2]);
        naive::forward(EPSILON, &x, &w, &b, &mut y, &mut stats);
        let (mut dx, mut dw, mut db) = (vec![0.0; rows * c], vec![0.0; c], vec![0.0; c]);
        naive::backward(&x, &stats, &w, &dy, &vec![0.0; rows * c], &mut dx, &mut dw, &mut db);
        let check = |which: usize, exact: &[f64]| {
            for i in 0..exact.len() {
                let mut p = [x.clone(), w.clone(), b.clone()];
                p[which][i] += h;
                let up = loss(&p[0], &p[1], &p[2]);
                p[which][i] -= 2.0 * h;
                let down = loss(&p[0], &p[1], &p[2]);
                assert!(((up - down) / (2.0 * h) - exact[i]).abs() < 1e-7, "input {which} element {i}");
            }
        };
        check(0, &dx);
        check(1, &dw);
        check(2, &db);
    }
}
