//! Layer normalisation: y = (x − mean)·rstd·w + b over the C channels of a row, rstd = 1/√(variance + ε).
//!
//! Backward, with x̂ = (x − mean)·rstd and e = dy·w:
//! dx = rstd·(e − mean(e) − x̂·mean(e·x̂)), dw = Σ dy·x̂, db = Σ dy over rows.

use crate::Real;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};

/// GPT-2's `layer_norm_epsilon`.
pub const EPSILON: f64 = 1e-5;

/// Plain loops.
pub mod naive {
    use super::*;

    /// `y[R,C]`, and each row's `(mean, rstd)` in `stats[R,2]`.
    pub fn forward<T: Real>(x: &[T], w: &[T], b: &[T], y: &mut [T], stats: &mut [T]) {
        let c = w.len();
        let count = T::of(c as f64);
        for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact_mut(2)) {
            let mut mean = T::default();
            x.iter().for_each(|&x| mean += x);
            mean = mean / count;
            let mut variance = T::default();
            x.iter().for_each(|&x| variance += (x - mean) * (x - mean));
            let rstd = T::of(1.0) / (variance / count + T::of(EPSILON)).sqrt();
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

/// `y[R,C]` from `x[R,C]`, and each row's `(mean, rstd)` in `stats[R,2]`.
pub fn forward(set: KernelSet, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], stats: &mut [f32]) {
    let c = w.len();
    assert!(
        c > 0
            && b.len() == c
            && x.len().is_multiple_of(c)
            && y.len() == x.len()
            && stats.len() == x.len() / c * 2
    );
    if set == KernelSet::Naive {
        return naive::forward(x, w, b, y, stats);
    }
    dispatch!(set, forward_simd(x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], stats: &mut [f32]));
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
    let set = set.with_vectors();
    dispatch!(set, again_simd(x: &[f32], stats: &[f32], w: &[f32], b: &[f32], y: &mut [f32]));
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
    dispatch!(
        set,
        backward_simd(
            x: &[f32],
            stats: &[f32],
            w: &[f32],
            dy: &[f32],
            residual: &[f32],
            dx: &mut [f32],
            dw: &mut [f32],
            db: &mut [f32],
        )
    );
}

#[inline(always)]
unsafe fn forward_simd<S: Simd>(x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], stats: &mut [f32]) {
    let c = w.len();
    for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact_mut(2)) {
        // SAFETY: every access is to the first c elements of slices of that length.
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
            let rstd = 1.0 / (S::sum(square) / c as f32 + EPSILON as f32).sqrt();
            stats.copy_from_slice(&[mean, rstd]);
            normalise::<S>(x, mean, rstd, w, b, y);
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
            let hat = S::mul(S::sub(load_n::<S>(x.as_ptr().add(i), count), S::splat(mean)), S::splat(rstd));
            let v = S::fma(hat, load_n::<S>(w.as_ptr().add(i), count), load_n::<S>(b.as_ptr().add(i), count));
            store_n::<S>(y.as_mut_ptr().add(i), v, count);
        }
    });
}

#[inline(always)]
unsafe fn again_simd<S: Simd>(x: &[f32], stats: &[f32], w: &[f32], b: &[f32], y: &mut [f32]) {
    let c = w.len();
    for ((x, y), stats) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(stats.chunks_exact(2)) {
        // SAFETY: x, y, w, b have c elements.
        unsafe { normalise::<S>(x, stats[0], stats[1], w, b, y) }
    }
}

#[inline(always)]
unsafe fn backward_simd<S: Simd>(
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
    dw.fill(0.0);
    db.fill(0.0);
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
                let (pw, pb) = (dw.as_mut_ptr().add(i), db.as_mut_ptr().add(i));
                store_n::<S>(pw, S::fma(d, hat, load_n::<S>(pw, count)), count);
                store_n::<S>(pb, S::add(d, load_n::<S>(pb, count)), count);
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
        for (rows, c) in [(1, 1), (3, 5), (4, 16), (7, 24), (2, 33), (5, 160)] {
            let (x, w, b) = (wave(rows * c, 0.7), wave(c, 0.31), wave(c, 0.17));
            let (dy, residual) = (wave(rows * c, 1.3), wave(rows * c, 0.11));
            let (mut y, mut stats) = (vec![0.0; rows * c], vec![0.0; rows * 2]);
            naive::forward(&x, &w, &b, &mut y, &mut stats);
            let (mut dx, mut dw, mut db) = (vec![0.0; rows * c], vec![9.0; c], vec![9.0; c]);
            naive::backward(&x, &stats, &w, &dy, &residual, &mut dx, &mut dw, &mut db);
            for set in KernelSet::runnable() {
                let (x, w, b, dy, residual) =
                    (narrow(&x), narrow(&w), narrow(&b), narrow(&dy), narrow(&residual));
                let (mut fy, mut fy2, mut fs) =
                    (vec![0f32; rows * c], vec![0f32; rows * c], vec![0f32; rows * 2]);
                forward(set, &x, &w, &b, &mut fy, &mut fs);
                again(set, &x, &fs, &w, &b, &mut fy2);
                let (mut fdx, mut fdw, mut fdb) = (vec![0f32; rows * c], vec![9f32; c], vec![9f32; c]);
                backward(set, &x, &fs, &w, &dy, &residual, &mut fdx, &mut fdw, &mut fdb);
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
            naive::forward(x, w, b, &mut y, &mut stats);
            y.iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        let (mut y, mut stats) = (vec![0.0; rows * c], vec![0.0; rows * 2]);
        naive::forward(&x, &w, &b, &mut y, &mut stats);
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
