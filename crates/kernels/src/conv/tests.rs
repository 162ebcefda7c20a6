//! Every set against plain loops in f64, odd shapes, and the passes against each other.

use super::*;
use crate::bf16;
use crate::pool::in_single_parts;
use proptest::prelude::*;

fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// |fast − exact| ≤ ((terms + 2)·ε + operands)·Σ|a||b|: the bound of a dot product in any order, and what rounding the
/// operands adds.
fn close(what: &str, fast: &[f32], exact: &[f64], size: &[f64], terms: usize, operands: f64) {
    for (i, ((f, e), s)) in fast.iter().zip(exact).zip(size).enumerate() {
        let bound = ((terms + 2) as f64 * f64::from(f32::EPSILON) + operands) * s + 1e-30;
        assert!((f64::from(*f) - e).abs() <= bound, "{what} [{i}]: {f} {e}");
    }
}

/// As bits of bf16.
fn kept(set: KernelSet, x: &[f32]) -> Vec<u16> {
    let mut out = vec![0; x.len()];
    pixels::narrow(set, x, &mut out);
    out
}

fn absolute(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// All panels of the pack of [`forward`], or of the turned one.
fn packs(shape: Shape, w: &[f32], turned: bool) -> Vec<f32> {
    let target = if turned { shape.turned() } else { shape };
    let mut out = vec![7f32; target.panels() * target.panel_len()];
    for (panel, out) in out.chunks_exact_mut(target.panel_len()).enumerate() {
        if turned { pack_turned(shape, w, panel, out) } else { pack(shape, w, panel, out) }
    }
    out
}

/// y, dx and dw over all images by plain loops.
fn exact(shape: Shape, images: usize, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    let (input, output) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
    for g in 0..images {
        let (from, to) = (g * input..(g + 1) * input, g * output..(g + 1) * output);
        naive::forward(shape, &x[from.clone()], w, &mut y[to.clone()]);
        naive::input_gradient(shape, &dy[to.clone()], w, &mut dx[from.clone()]);
        naive::weight_gradient(shape, &x[from], &dy[to], &mut dw);
    }
    [y, dx, dw]
}

/// Σ|a||b| of all three, for what [`forward`] and [`whole_weight_gradient`] add: of Winograd's transform its own terms.
fn sizes(shape: Shape, images: usize, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
    let (x, w, dy) = (absolute(x), absolute(w), absolute(dy));
    let mut all = exact(shape, images, &x, &w, &dy);
    if shape.multiplies_less() {
        let turned = turned_weights(shape, &w);
        let (input, output) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        all[2].fill(0.0);
        for g in 0..images {
            let (from, to) = (g * input..(g + 1) * input, g * output..(g + 1) * output);
            let twin = winograd::naive::forward_with;
            twin(f64::abs, shape, &x[from.clone()], &w, &mut all[0][to.clone()]);
            twin(f64::abs, shape.turned(), &dy[to.clone()], &turned, &mut all[1][from.clone()]);
            winograd::naive::weight_gradient_with(f64::abs, shape, &x[from], &dy[to], &mut all[2]);
        }
    }
    all
}

/// w' of the module's text.
fn turned_weights(shape: Shape, w: &[f64]) -> Vec<f64> {
    let (n, m, taps) = (shape.inputs, shape.outputs, shape.side * shape.side);
    let at = |tap: usize, o: usize, i: usize| w[((taps - 1 - tap) * n + i) * m + o];
    (0..w.len()).map(|e| at(e / (n * m), e / n % m, e % n)).collect()
}

/// Roundings of Winograd's transforms beside those of the sum over channels or tiles.
const TRANSFORMS: usize = 12;

/// Both precisions.
fn check(shape: Shape, images: usize, seed: u64) {
    check_in(shape, images, seed);
    check_in(Shape { bf16: true, ..shape }, images, seed);
}

/// Of direct products in bf16 the exact ones are those of rounded operands; Winograd's rounds sums of them, so that
/// each of two factors is off by 2⁻⁹ at most.
fn check_in(shape: Shape, images: usize, seed: u64) {
    let pixels = images * shape.pixels();
    let round = |x: Vec<f32>| match shape.bf16 {
        true => x.into_iter().map(|x| bf16::widen(bf16::round(x))).collect(),
        false => x,
    };
    let operands = if shape.bf16 && shape.multiplies_less() { 2.02 * (0.5f64).powi(9) } else { 0.0 };
    let (x, w) = (round(values(seed, pixels * shape.inputs)), round(values(seed + 1, shape.weights())));
    let dy = round(values(seed + 2, pixels * shape.outputs));
    let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
    let [y, dx, dw] = exact(shape, images, &x64, &w64, &dy64);
    let [y_size, dx_size, dw_size] = sizes(shape, images, &x64, &w64, &dy64);
    let [_, _, direct_dw_size] = exact(shape, images, &absolute(&x64), &absolute(&w64), &absolute(&dy64));
    let less = shape.multiplies_less();
    let terms = |shape: Shape| if less { shape.inputs + TRANSFORMS } else { shape.depth() };
    for set in KernelSet::runnable() {
        let (forth, back) = (packs(shape, &w, false), packs(shape, &w, true));
        let mut scratch = vec![f32::NAN; shape.forward_scratch().max(shape.turned().forward_scratch())];
        let mut found = vec![f32::NAN; y.len()];
        forward(set, shape, &x, &forth, &mut found, &mut scratch);
        close(&format!("{set:?} {shape:?} y"), &found, &y, &y_size, terms(shape), operands);
        let mut again = vec![f32::NAN; y.len()];
        in_single_parts(|| forward(set, shape, &x, &forth, &mut again, &mut scratch));
        assert!(found == again, "{set:?} {shape:?}: the division of the work changed bits");
        let y_found = found;

        let mut found = vec![f32::NAN; dx.len()];
        forward(set, shape.turned(), &dy, &back, &mut found, &mut scratch);
        close(&format!("{set:?} {shape:?} dx"), &found, &dx, &dx_size, terms(shape.turned()), operands);

        let (kept_x, kept_dy) = (kept(set, &x), kept(set, &dy));
        if shape.bf16 {
            let mut again = vec![f32::NAN; y.len()];
            forward(set, shape, Pixels::Bf16(&kept_x), &forth, &mut again, &mut scratch);
            assert!(y_found == again, "{set:?} {shape:?}: y of what is kept in bf16");
        }

        let depth = shape.depth();
        let mut scratch = vec![f32::NAN; shape.whole_gradient_scratch()];
        let start = values(seed + 3, dw.len());
        let mut found = start.clone();
        whole_weight_gradient(set, shape, &x, &dy, &mut found, &mut scratch);
        let [mut sum, mut size] = [dw.clone(), dw_size.clone()];
        for (i, start) in start.iter().enumerate() {
            sum[i] += f64::from(*start);
            size[i] += f64::from(start.abs());
        }
        close(&format!("{set:?} {shape:?} whole dw"), &found, &sum, &size, pixels + TRANSFORMS, operands);
        if shape.bf16 {
            let mut again = start.clone();
            let (x, dy) = (Pixels::Bf16(&kept_x), Pixels::Bf16(&kept_dy));
            whole_weight_gradient(set, shape, x, dy, &mut again, &mut scratch);
            assert!(found == again, "{set:?} {shape:?}: dw of what is kept in bf16");
        }
        let mut again = start.clone();
        in_single_parts(|| whole_weight_gradient(set, shape, &x, &dy, &mut again, &mut scratch));
        assert!(found == again, "{set:?} {shape:?}: the division of the work changed bits of dw");

        if less {
            blocks_join(set, shape, &x, &dy, &start, &found);
        }

        let mut scratch = vec![f32::NAN; shape.gradient_scratch(depth)];
        let mut found = vec![0f32; dw.len()];
        weight_gradient(set, shape, &x, &dy, 0..depth, &mut found, &mut scratch);
        close(&format!("{set:?} {shape:?} dw"), &found, &dw, &direct_dw_size, pixels, 0.0);
        let mut parts = vec![0f32; dw.len()];
        for cut in [0..depth / 3, depth / 3..depth / 3 + depth / 2, depth / 3 + depth / 2..depth] {
            let part = &mut parts[cut.start * shape.outputs..cut.end * shape.outputs];
            weight_gradient(set, shape, &x, &dy, cut, part, &mut scratch);
        }
        assert!(found == parts, "{set:?} {shape:?}: rows of dw depend on how they are cut");
    }
}

/// Blocks of channels of dw are those of all of it, but for the order of its sums: tiles are added in other groups.
fn blocks_join(set: KernelSet, shape: Shape, x: &[f32], dy: &[f32], start: &[f32], whole: &[f32]) {
    let (n, m) = (shape.inputs, shape.outputs);
    for (inputs, outputs) in [(0..n / 2, 0..m), (n / 2..n, m / 3..m), (n - 1..n, 0..1)] {
        let mut scratch = vec![f32::NAN; shape.block_gradient_scratch(inputs.len(), outputs.len())];
        let row = |tap: usize, i: usize| (tap * n + i) * m;
        let rows = || (0..9).flat_map(|tap| inputs.clone().map(move |i| row(tap, i)));
        let cut = |of: &[f32]| -> Vec<f32> {
            rows().flat_map(|row| of[row + outputs.start..row + outputs.end].to_vec()).collect()
        };
        let (mut found, whole) = (cut(start), cut(whole));
        block_weight_gradient(set, shape, (inputs.clone(), outputs.clone()), x, dy, &mut found, &mut scratch);
        for (found, whole) in found.iter().zip(&whole) {
            let size = whole.abs().max((x.len() as f32).sqrt());
            assert!((found - whole).abs() < 2e-5 * size, "{set:?} {shape:?}: {found} {whole}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_set_agrees_with_plain_loops(
        height in 1usize..9, width in 1usize..9, inputs in 1usize..20, outputs in 1usize..40, wide in any::<bool>(),
        images in 1usize..4, seed in any::<u32>(),
    ) {
        let side = if wide { 3 } else { 1 };
        check(Shape { height, width, inputs, outputs, side, bf16: false }, images, seed.into());
    }
}

#[test]
fn tiles_of_pixels_and_of_depth_join() {
    // More pixels than a tile has; more depth than a block of k; more columns than a panel.
    check(Shape { height: 21, width: 20, inputs: 3, outputs: 33, side: 3, bf16: false }, 2, 1);
    check(Shape { height: 12, width: 11, inputs: 49, outputs: 17, side: 3, bf16: false }, 1, 2);
    check(Shape { height: 5, width: 5, inputs: 97, outputs: 101, side: 3, bf16: false }, 6, 3);
    check(Shape { height: 20, width: 21, inputs: 33, outputs: 40, side: 1, bf16: false }, 1, 4);
}

/// A pixel at a corner sees four pixels, at an edge six, inside nine.
#[test]
fn the_border_is_zeros() {
    let shape = Shape { height: 3, width: 3, inputs: 1, outputs: 1, side: 3, bf16: false };
    for set in KernelSet::runnable() {
        let (packed, mut y) = (packs(shape, &[1.0; 9], false), [0f32; 9]);
        forward(set, shape, &[1.0; 9][..], &packed, &mut y, &mut vec![0.0; shape.forward_scratch()]);
        assert_eq!(y, [4.0, 6.0, 4.0, 6.0, 9.0, 6.0, 4.0, 6.0, 4.0], "{set:?}");
    }
}

/// Every size of image, even and odd, blocks of tiles that cross images.
#[test]
fn fewer_multiplications_give_the_same() {
    for (side, images) in [(3, 9), (4, 1), (5, 4), (7, 7), (10, 3), (14, 2), (21, 1), (28, 1)] {
        check(
            Shape { height: side, width: side, inputs: 16, outputs: 19, side: 3, bf16: false },
            images,
            side as u64,
        );
    }
    check(Shape { height: 9, width: 14, inputs: 64, outputs: 64, side: 3, bf16: false }, 2, 5);
    check(Shape { height: 6, width: 5, inputs: 70, outputs: 33, side: 3, bf16: false }, 3, 6);
}

/// The plain loops of both, in f64.
#[test]
fn winograds_twin_is_the_convolution() {
    for (height, width) in [(1, 1), (2, 3), (5, 4), (7, 7)] {
        let shape = Shape { height, width, inputs: 2, outputs: 3, side: 3, bf16: false };
        let [x, w, dy] =
            [2 * height * width, shape.weights(), 3 * height * width].map(|n| wide(&values(9, n)));
        let [y, _, dw] = exact(shape, 1, &x, &w, &dy);
        let (mut twin, mut dtwin) = (vec![0.0; y.len()], vec![0.0; dw.len()]);
        winograd::naive::forward(shape, &x, &w, &mut twin);
        winograd::naive::weight_gradient(shape, &x, &dy, &mut dtwin);
        for (found, exact) in twin.iter().chain(&dtwin).zip(y.iter().chain(&dw)) {
            assert!((found - exact).abs() < 1e-13, "{shape:?}: {found} {exact}");
        }
    }
}

/// Root mean square error against f64 in units of that of the result, of Winograd's transform and of patches, of inputs
/// of both signs and of those that ReLU leaves. Sums of fewer terms round less: `DECISIONS.md` has the figures.
#[test]
fn winograds_error_is_of_the_size_of_the_direct_ones() {
    for (channels, relu) in
        [16, 64, 128].into_iter().flat_map(|channels| [(channels, false), (channels, true)])
    {
        let shape =
            Shape { height: 14, width: 14, inputs: channels, outputs: channels, side: 3, bf16: false };
        let (mut x, w) = (values(1, 196 * channels), values(2, shape.weights()));
        if relu {
            x.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let dy = values(3, 196 * channels);
        let [y, _, dw] = exact(shape, 1, &wide(&x), &wide(&w), &wide(&dy));
        let set = KernelSet::detect();
        let (mut found, mut dfound) = (vec![0f32; y.len()], vec![0f32; dw.len()]);
        let mut scratch = vec![0f32; shape.whole_gradient_scratch()];
        forward(set, shape, &x, &packs(shape, &w, false), &mut found, &mut scratch);
        whole_weight_gradient(set, shape, &x, &dy, &mut dfound, &mut scratch);
        // The direct path in the same vectors: patches, one product.
        let mut patches = vec![0f32; 196 * shape.depth()];
        gather(set, shape, Pixels::F32(&x), 0, 0..shape.depth(), &mut patches);
        let mut direct = vec![0f32; y.len()];
        let (left, right) = (Left::rows(&patches, shape.depth()), Right::rows(&w, channels));
        multiply(set, (196, channels, shape.depth()), left, right, &mut direct, channels, Init::Zero);
        let mut ddirect = vec![0f32; dw.len()];
        let mut space = vec![0f32; shape.gradient_scratch(shape.depth())];
        weight_gradient(set, shape, &x, &dy, 0..shape.depth(), &mut ddirect, &mut space);
        let error = |found: &[f32], exact: &[f64]| {
            let square = |it: &mut dyn Iterator<Item = f64>| it.map(|x| x * x).sum::<f64>();
            let off = square(&mut found.iter().zip(exact).map(|(f, e)| f64::from(*f) - e));
            (off / square(&mut exact.iter().copied())).sqrt()
        };
        for (what, less, more) in
            [("y", error(&found, &y), error(&direct, &y)), ("dw", error(&dfound, &dw), error(&ddirect, &dw))]
        {
            assert!(less < 1.5 * more, "{channels} channels, {what}: {less:e} against {more:e}");
        }
    }
}

#[test]
fn gradients_are_the_limits_of_differences() {
    let shape = Shape { height: 3, width: 4, inputs: 2, outputs: 3, side: 3, bf16: false };
    let (mut x, mut w) = (wide(&values(1, 24)), wide(&values(2, shape.weights())));
    let dy = wide(&values(3, 36));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    naive::input_gradient(shape, &dy, &w, &mut dx);
    naive::weight_gradient(shape, &x, &dy, &mut dw);
    let loss = |x: &[f64], w: &[f64]| -> f64 {
        let mut y = vec![0.0; 36];
        naive::forward(shape, x, w, &mut y);
        y.iter().zip(&dy).map(|(y, d)| y * d).sum()
    };
    // The loss is linear in each element, so a difference is exact but for rounding.
    for i in 0..x.len() {
        let here = x[i];
        let [up, down] = [0.5, -0.5].map(|h| {
            x[i] = here + h;
            loss(&x, &w)
        });
        x[i] = here;
        assert!((up - down - dx[i]).abs() < 1e-12, "x[{i}]");
    }
    for i in 0..w.len() {
        let here = w[i];
        let [up, down] = [0.5, -0.5].map(|h| {
            w[i] = here + h;
            loss(&x, &w)
        });
        w[i] = here;
        assert!((up - down - dw[i]).abs() < 1e-12, "w[{i}]");
    }
}

#[test]
#[should_panic(expected = "no whole images")]
fn a_part_of_an_image_is_refused() {
    let shape = Shape { height: 2, width: 2, inputs: 3, outputs: 4, side: 1, bf16: false };
    forward(KernelSet::Portable, shape, &[0.0; 9][..], &[0.0; 96], &mut [0.0; 12], &mut []);
}
