//! A whole normalisation, forward and backward in parts, against plain loops in f64.

use super::*;
use proptest::prelude::*;

fn wave(n: usize, k: f64) -> Vec<f64> {
    (0..n).map(|i| (i as f64 * k).sin() + 0.25 * (i as f64 * 7.3 * k).cos()).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// What [`naive`] makes of a batch: y, dx, dw, db.
type Outcome = [Vec<f64>; 4];

fn exact(x: &[f64], w: &[f64], b: &[f64], dy: &[f64], slope: f64) -> Outcome {
    let c = w.len();
    let (mut mean, mut variance, mut y) = (vec![0.0; c], vec![0.0; c], vec![0.0; x.len()]);
    naive::statistics(x, &mut mean, &mut variance);
    naive::forward(x, &mean, &variance, w, b, &mut y);
    let mut d = dy.to_vec();
    crate::leaky_relu::naive::backward(slope, &y, &mut d);
    crate::leaky_relu::naive::forward(slope, &mut y);
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]);
    naive::backward(x, (&mean, &variance), w, &d, false, &mut dx, (&mut dw, &mut db));
    [y, dx, dw, db]
}

/// The same by the kernels, the rows in parts of `part`.
fn fast(set: KernelSet, x: &[f32], w: &[f32], b: &[f32], dy: &[f32], slope: f32, part: usize) -> Outcome {
    let c = w.len();
    let mut all = vec![Moments::default(); c];
    let mut share = vec![f64::NAN; 2 * c];
    for x in x.chunks(part * c) {
        moments(set, x, &mut share);
        for (all, share) in all.iter_mut().zip(share.chunks_exact(2)) {
            let rows = (x.len() / c) as f64;
            *all = all.join(Moments { rows, mean: share[0], squares: share[1] });
        }
    }
    let both: Vec<_> = (0..c).map(|i| scale_and_shift(all[i].mean, all[i].variance(), w[i], b[i])).collect();
    let (scale, shift): (Vec<f32>, Vec<f32>) = both.into_iter().unzip();
    let mut y = vec![f32::NAN; x.len()];
    normalise(set, Normed { x, scale: &scale, shift: &shift }, None, slope, &mut y);
    let mut d = dy.to_vec();
    crate::leaky_relu::backward(set, slope, &y, &mut d);
    let rstd64: Vec<f64> = all.iter().map(|m| 1.0 / (m.variance() + EPSILON).sqrt()).collect();
    let (mean, rstd) = (narrow(&all.iter().map(|m| m.mean).collect::<Vec<_>>()), narrow(&rstd64));
    let (mut dw, mut db) = (vec![0.0; c], vec![0.0; c]);
    for (x, d) in x.chunks(part * c).zip(d.chunks(part * c)) {
        sums(set, x, d, &mean, &rstd, &mut share);
        for i in 0..c {
            db[i] += share[2 * i];
            dw[i] += share[2 * i + 1];
        }
    }
    let rows = (x.len() / c) as f64;
    let terms: Vec<_> = (0..c)
        .map(|i| centring(all[i].mean, rstd64[i], f64::from(w[i]) * rstd64[i], db[i] / rows, dw[i] / rows))
        .collect();
    let (by_x, rest): (Vec<f32>, Vec<f32>) = terms.into_iter().unzip();
    let mut dx = x.to_vec();
    backward(set, &mut dx, &d, &scale, &by_x, &rest);
    let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect();
    [wide(y), wide(dx), dw, db]
}

fn check(rows: usize, c: usize, part: usize, slope: f64, offset: f64) {
    let x: Vec<f64> = narrow(&wave(rows * c, 0.37)).iter().map(|&x| f64::from(x + offset as f32)).collect();
    let [w, b, dy] = [(c, 0.31), (c, 0.17), (rows * c, 1.3)]
        .map(|(n, k)| narrow(&wave(n, k)).iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let expected = exact(&x, &w, &b, &dy, slope);
    for set in KernelSet::runnable() {
        let found = fast(set, &narrow(&x), &narrow(&w), &narrow(&b), &narrow(&dy), slope as f32, part);
        for (name, found, exact) in
            [0, 1, 2, 3].map(|i| (["y", "dx", "dw", "db"][i], &found[i], &expected[i]))
        {
            // x·scale + shift loses what the mean has more digits than the deviation; sums lose √R roundings.
            let size = exact.iter().fold(1.0f64, |most, e| most.max(e.abs()));
            let bound = 4e-6 * size * (1.0 + offset.abs()) * (rows as f64).sqrt().max(4.0);
            for (i, (f, e)) in found.iter().zip(exact).enumerate() {
                assert!((f - e).abs() < bound, "{set:?} {rows}x{c} {name}[{i}]: {f} {e}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_set_agrees_with_plain_loops(
        rows in 4usize..150, c in 1usize..40, part in 1usize..70, leaky in any::<bool>(),
    ) {
        check(rows, c, part, if leaky { 0.1 } else { 0.0 }, 0.0);
    }
}

/// The variance of values far from zero: no difference of large squares.
#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    check(200, 19, 64, 0.1, 10.0);
    let x: Vec<f32> = (0..1000).map(|i| 4096.0 + f32::from(i as u8 % 2)).collect();
    for set in KernelSet::runnable() {
        let mut found = [0.0; 2];
        moments(set, &x, &mut found);
        assert_eq!(found, [4096.5, 250.0], "{set:?}");
    }
}

#[test]
fn shares_join_in_any_division() {
    let whole = |values: &[f64]| {
        values
            .iter()
            .fold(Moments::default(), |all, &x| all.join(Moments { rows: 1.0, mean: x, squares: 0.0 }))
    };
    let values = wave(50, 0.7);
    let (all, parts) = (whole(&values), whole(&values[..13]).join(whole(&values[13..])));
    assert!((all.mean - parts.mean).abs() < 1e-14 && (all.squares - parts.squares).abs() < 1e-12);
    let (mut mean, mut variance) = ([0.0], [0.0]);
    naive::statistics(&values, &mut mean, &mut variance);
    assert!((all.mean - mean[0]).abs() < 1e-14 && (all.variance() - variance[0]).abs() < 1e-14);
    assert!((all.unbiased_variance() - variance[0] * 50.0 / 49.0).abs() < 1e-14);
}

/// Two operands: the activation of the sum.
#[test]
fn a_residual_is_added_before_the_activation() {
    let (a, b) = (narrow(&wave(21, 0.3)), narrow(&wave(21, 0.8)));
    let (scale, shift) = ([0.5, -2.0, 1.5], [0.1, 0.2, -0.3]);
    for set in KernelSet::runnable() {
        let mut y = vec![f32::NAN; 21];
        let of = |x| Normed { x, scale: &scale, shift: &shift };
        normalise(set, of(&a), Some(of(&b)), 0.1, &mut y);
        for i in 0..21 {
            let sum = (a[i] + b[i]) * scale[i % 3] + 2.0 * shift[i % 3];
            let expected = if sum > 0.0 { sum } else { 0.1 * sum };
            assert!((y[i] - expected).abs() < 1e-6, "{set:?} {i}");
        }
    }
}

#[test]
fn gradients_are_the_limits_of_differences() {
    let (rows, c, h) = (5, 3, 1e-6);
    let (x, w, b, dy) = (wave(rows * c, 0.7), wave(c, 0.31), wave(c, 0.17), wave(rows * c, 1.3));
    for fixed in [false, true] {
        let (fixed_mean, fixed_variance) = (vec![0.2; c], vec![0.6; c]);
        let statistics = |x: &[f64]| {
            let (mut mean, mut variance) = (fixed_mean.clone(), fixed_variance.clone());
            if !fixed {
                naive::statistics(x, &mut mean, &mut variance);
            }
            (mean, variance)
        };
        let loss = |p: &[Vec<f64>; 3]| -> f64 {
            let (mean, variance) = statistics(&p[0]);
            let mut y = vec![0.0; rows * c];
            naive::forward(&p[0], &mean, &variance, &p[1], &p[2], &mut y);
            y.iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        let (mean, variance) = statistics(&x);
        let (mut dx, mut dw, mut db) = (vec![0.0; rows * c], vec![0.0; c], vec![0.0; c]);
        naive::backward(&x, (&mean, &variance), &w, &dy, fixed, &mut dx, (&mut dw, &mut db));
        for (which, exact) in [&dx, &dw, &db].into_iter().enumerate() {
            for i in 0..exact.len() {
                let mut p = [x.clone(), w.clone(), b.clone()];
                p[which][i] += h;
                let up = loss(&p);
                p[which][i] -= 2.0 * h;
                let difference = (up - loss(&p)) / (2.0 * h);
                assert!((difference - exact[i]).abs() < 1e-7, "fixed {fixed}, input {which} element {i}");
            }
        }
    }
}
