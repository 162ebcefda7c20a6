//! Products and attention in cells, under every kernel set, against plain loops in f64 over the same rounded operands.

use isoflop_kernels::attention::{Head, naive};
use isoflop_kernels::pool::in_single_parts;
use isoflop_kernels::tiles::product::{self, naive::multiply};
use isoflop_kernels::tiles::{Cells, attention, convert, len};
use isoflop_kernels::{KernelSet, bf16, gelu};
use proptest::prelude::*;

fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn operands(m: usize, n: usize, k: usize) -> (Vec<u16>, Vec<u16>) {
    let (mut a, mut b) = (vec![9; len(m, k)], vec![9; len(k, n)]);
    convert::naive::left(&values(1, m * k), (m, k), k, &mut a);
    convert::naive::right(&values(2, k * n), (k, n), n, &mut b);
    (a, b)
}

/// (K + 2)·ε for sums of products of numbers up to one: a bound for any order of adding, with two roundings a step.
fn bound(k: usize) -> f64 {
    2.0 * (k as f64 + 2.0) * f64::from(f32::EPSILON) * k as f64
}

fn close(found: f32, exact: f64, bound: f64, what: &str) {
    assert!((f64::from(found) - exact).abs() <= bound, "{what}: {found} is not {exact} within {bound:e}");
}

/// Half a unit of a bf16's last place.
const BF16: f64 = 1.0 / 256.0;

fn check_products(m: usize, n: usize, k: usize) {
    let (a, b) = operands(m, n, k);
    let exact = multiply((m, n, k), &a, &b);
    let (bias, residual, stride) = (values(3, n), values(4, m * (n + 2)), n + 2);
    let (left, right) = (Cells::whole(&a, k), Cells::whole(&b, k));
    for set in KernelSet::runnable() {
        let what = format!("{set:?} {m}×{n}×{k}");
        let all = || {
            let mut c = vec![7f32; m * stride];
            product::rows(set, (m, n, k), left, right, Some(&bias), Some(&residual), &mut c, stride);
            let (mut active, mut slope) = (vec![9u16; len(m, n)], vec![9u16; len(m, n)]);
            product::gelu(set, (m, n, k), left, right, &bias, &mut active, &mut slope);
            let mut cells = vec![9u16; len(m, n)];
            product::left(set, (m, n, k), left, right, &bias, &mut cells);
            let (mut dl, mut dr, mut sums) = (vec![9u16; len(m, n)], vec![9u16; len(m, n)], vec![9f32; n]);
            product::gelu_backward(set, (m, n, k), left, right, &active, &mut dl, &mut dr, &mut sums);
            (c, active, slope, cells, dl, dr, sums)
        };
        let whole = all();
        assert!(in_single_parts(all) == whole, "{what}: divided, it is not the same");
        let (c, active, slope, cells, dl, dr, sums) = whole;
        let mut exact_sums = vec![0.0; n];
        for i in 0..m {
            for j in 0..n {
                let sum = exact[i * n + j];
                let biased = sum + f64::from(bias[j]);
                close(
                    c[i * stride + j],
                    biased + f64::from(residual[i * stride + j]),
                    bound(k) + 1e-6,
                    &what,
                );
                let tolerance = |x: f64| BF16 * x.abs() + bound(k) + 1e-5;
                let (mut g, mut d) = ([0.0], [1.0]);
                gelu::naive::backward(&[biased], &mut g, &mut d);
                let at = convert::naive::left_index(i, j, n);
                close(bf16::widen(active[at]), g[0], tolerance(g[0]), &what);
                close(bf16::widen(slope[at]), d[0], tolerance(d[0]), &what);
                close(bf16::widen(cells[at]), biased, tolerance(biased), &what);
                let slope = f64::from(bf16::widen(active[at]));
                close(bf16::widen(dl[at]), sum * slope, tolerance(sum * slope), &what);
                assert_eq!(
                    dl[at],
                    dr[convert::naive::right_index(i, j, m)],
                    "{what}: two orders of one value"
                );
                exact_sums[j] += sum * slope;
            }
            assert!(
                c[i * stride + n..(i + 1) * stride].iter().all(|&x| x == 7.0),
                "{what} wrote beyond a row"
            );
        }
        for (&found, &exact) in sums.iter().zip(&exact_sums) {
            close(found, exact, (bound(k) + 1e-5) * m as f64 * k as f64, &what);
        }
        for (cells, name) in [(&active, "active"), (&cells, "left"), (&dl, "gradient")] {
            check_padding(cells, m, n, &format!("{what} {name}"));
        }
    }
}

/// Zeros wherever a left operand `[m,n]` has no element.
fn check_padding(cells: &[u16], m: usize, n: usize, what: &str) {
    let mut inside = vec![false; cells.len()];
    for i in 0..m {
        for j in 0..n {
            inside[convert::naive::left_index(i, j, n)] = true;
        }
    }
    assert!(cells.iter().zip(inside).all(|(&x, inside)| inside || x == 0), "{what}: padding is not zero");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn products_agree_with_plain_loops(m in 1usize..100, n in 1usize..100, k in 1usize..100) {
        check_products(m, n, k);
    }
}

#[test]
fn shapes_on_the_edges_of_cells() {
    for (m, n, k) in
        [(1, 1, 1), (32, 32, 32), (33, 16, 17), (16, 33, 31), (64, 17, 64), (31, 96, 200), (5, 15, 2)]
    {
        check_products(m, n, k);
    }
}

#[test]
fn weight_gradients_sum_over_stretches() {
    for (m, n, lengths) in [
        (40, 50, vec![50; 3]),
        (24, 96, vec![32; 20]),
        (33, 17, vec![40, 40, 7]),
        (64, 32, vec![3000; 3]),
        (300, 40, vec![70, 70]),
        (129, 65, vec![33]),
    ] {
        // The left operand comes as the forward left it: x[K,M].
        let parts: Vec<_> = (lengths.iter())
            .map(|&k| {
                let (mut x, mut dy) = (vec![9; len(k, m)], vec![9; len(k, n)]);
                let rows = values(k as u64, k * m);
                convert::naive::left(&rows, (k, m), m, &mut x);
                convert::naive::right(&values(2, k * n), (k, n), n, &mut dy);
                let turned: Vec<f32> = (0..k * m).map(|i| rows[i % k * m + i / k]).collect();
                let mut a = vec![9; len(m, k)];
                convert::naive::left(&turned, (m, k), k, &mut a);
                (multiply((m, n, k), &a, &dy), x, dy, k)
            })
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        for set in KernelSet::runnable() {
            let starts = [(product::Start::Accumulate, 0.5), (product::Start::Zero, f32::NAN)];
            for (task, (start, before)) in
                [32, 64, 128].into_iter().flat_map(|task| starts.map(|s| (task, s)))
            {
                // Not 9: the matrix units take denormals for zeros.
                let mut space = vec![0xffff; product::turned_len(task, lengths.len(), longest)];
                let mut dw = vec![before; m * n];
                for (index, dw) in dw.chunks_mut(task * n).enumerate() {
                    let operand = |s: usize| {
                        let (_, x, dy, k) = &parts[s];
                        (Cells::whole(x, m), Cells::whole(dy, *k), *k)
                    };
                    let rows = index * task..m.min((index + 1) * task);
                    product::weight_gradient(set, (m, n), rows, parts.len(), operand, &mut space, start, dw);
                }
                let mut exact = vec![if before.is_nan() { 0.0 } else { 0.5 }; m * n];
                for (product, ..) in &parts {
                    exact.iter_mut().zip(product).for_each(|(e, x)| *e += x);
                }
                let all = lengths.iter().sum();
                let what = format!("{set:?} {m}×{n} by {task} rows, {start:?}");
                dw.iter().zip(&exact).for_each(|(&f, &e)| close(f, e, bound(all), &what));
            }
        }
    }
}

/// Relative L2 distance.
fn distance(found: impl Iterator<Item = f64>, exact: impl Iterator<Item = f64>) -> f64 {
    let (mut error, mut size) = (0.0, 0.0);
    for (f, e) in found.zip(exact) {
        error += (f - e).powi(2);
        size += e * e;
    }
    (error / size).sqrt()
}

#[test]
fn attention_agrees_with_plain_loops() {
    for (length, head_width, heads) in
        [(1, 16, 2), (7, 5, 3), (32, 16, 2), (50, 8, 5), (64, 64, 1), (100, 32, 3), (70, 40, 2), (130, 16, 7)]
    {
        let c = head_width * heads;
        let rows: Vec<f32> = values(5, length * 3 * c).iter().map(|x| 2.0 * x).collect();
        let exact_qkv: Vec<f64> = rows.iter().map(|&x| f64::from(bf16::widen(bf16::round(x)))).collect();
        let mut qkv = vec![9; len(length, 3 * c)];
        convert::naive::left(&rows, (length, 3 * c), 3 * c, &mut qkv);
        let dout = values(6, length * c);
        let exact_dout: Vec<f64> = dout.iter().map(|&x| f64::from(x)).collect();
        let head = |head| Head::new(length, c, head_width, head);
        let (mut out, mut lse, mut dqkv) =
            (vec![0.0; length * c], vec![0.0; length], vec![0.0; length * 3 * c]);
        for h in 0..heads {
            naive::forward(head(h), &exact_qkv, &mut out, &mut lse);
            naive::backward(head(h), &exact_qkv, &out, &lse, &exact_dout, &mut dqkv);
        }
        for set in KernelSet::runnable() {
            let mut attended = vec![9u16; len(length, c)];
            let (mut found, mut sums) = (vec![9u16; len(length, 3 * c)], vec![9f32; 3 * c]);
            // Scratch space is never clean; what is beyond the sequence must not reach the result.
            let mut bf16_space = vec![0xffffu16; attention::bf16_len(length, head_width)];
            let mut f32_space = vec![f32::NAN; attention::f32_len(length, head_width)];
            for h in 0..heads {
                let mut stats = vec![f32::NAN; attention::stats_len(length)];
                let scratch = attention::Scratch { operands: &mut bf16_space, sums: &mut f32_space };
                attention::forward(set, head(h), &qkv, &mut attended, &mut stats, scratch);
                let scratch = attention::Scratch { operands: &mut bf16_space, sums: &mut f32_space };
                let results = (&mut found, &mut sums);
                attention::backward(
                    set,
                    head(h),
                    &qkv,
                    &attended,
                    &stats,
                    &dout,
                    results.0,
                    results.1,
                    scratch,
                );
            }
            let what = format!("{set:?} T {length} S {head_width}");
            check_padding(&attended, length, c, &what);
            check_padding(&found, length, 3 * c, &what);
            let at = |i: usize| convert::naive::left_index(i / c, i % c, c);
            let forward = (0..length * c).map(|i| f64::from(bf16::widen(attended[at(i)])));
            let d = distance(forward, out.iter().copied());
            assert!(d < 6e-3, "{set:?} T {length} S {head_width}: out is {d:e} off");
            // One token alone has no gradient through its scores, only through its value.
            let at = |i: usize| convert::naive::left_index(i / (3 * c), i % (3 * c), 3 * c);
            let gradient = (0..length * 3 * c).map(|i| f64::from(bf16::widen(found[at(i)])));
            let d = distance(gradient, dqkv.iter().copied());
            assert!(d < 1e-2, "{what}: gradient is {d:e} off");
            // Some columns' terms vanish or cancel by design: the scale is that of the largest.
            let terms = |column: usize| (0..length).map(move |t| t * 3 * c + column);
            let scale = |column: usize| terms(column).map(|at| dqkv[at].abs()).sum::<f64>();
            let largest = (0..3 * c).map(scale).fold(0.0, f64::max);
            for (column, &found) in sums.iter().enumerate() {
                let exact: f64 = terms(column).map(|at| dqkv[at]).sum();
                let error = (f64::from(found) - exact).abs();
                assert!(error <= 5e-3 * largest, "{what}: sum of column {column} is {error:e} off");
            }
        }
    }
}

#[test]
fn attention_shows_what_is_not_a_number() {
    let (length, c) = (70, 16);
    let head = Head::new(length, c, 16, 0);
    for set in KernelSet::runnable() {
        for third in 0..3 {
            let mut rows = values(5, length * 3 * c);
            rows[40 * 3 * c + third * c + 3] = f32::NAN;
            let mut qkv = vec![0; len(length, 3 * c)];
            convert::naive::left(&rows, (length, 3 * c), 3 * c, &mut qkv);
            let mut attended = vec![0u16; len(length, c)];
            let (mut operands, mut sums) =
                (vec![0; attention::bf16_len(length, 16)], vec![0.0; attention::f32_len(length, 16)]);
            let scratch = attention::Scratch { operands: &mut operands, sums: &mut sums };
            let mut stats = vec![0.0; attention::stats_len(length)];
            attention::forward(set, head, &qkv, &mut attended, &mut stats, scratch);
            let row = |t: usize| (0..c).map(move |x| convert::naive::left_index(t, x, c));
            let nan = |t: usize| row(t).any(|at| bf16::widen(attended[at]).is_nan());
            // Within 32 positions it may also reach those before it; the run is lost anyway, and must look lost.
            assert!(nan(40) && (0..32).all(|t| !nan(t)), "{set:?}: part {third} of position 40");
        }
    }
}

#[test]
#[should_panic(expected = "shorter than its shape")]
fn short_operands_are_refused() {
    let (a, b) = operands(32, 32, 32);
    let mut c = vec![0f32; 64 * 32];
    let (a, b) = (Cells::whole(&a, 32), Cells::whole(&b, 32));
    product::rows(KernelSet::detect(), (64, 32, 32), a, b, None, None, &mut c, 32);
}
