//! `isoflop bench gemm`: one product on one thread, in the layouts training uses.

use super::{best_seconds, cards as on_cards, check_memory, check_sizes, peak_flops_per_s, precision};
use crate::cli::{Context, word};
use isoflop_base::units::si;
use isoflop_kernels::matmul::{Init, Left, PANEL, Right, multiply, pack, packed_len};
use isoflop_kernels::tiles::{Cells, convert, len, product};
use isoflop_kernels::weight_gradient::{self, Rows};
use isoflop_kernels::{AlignedBuffer, KernelSet, tiles};
use isoflop_lab::machine::kernel_set;
use isoflop_nn::Precision;
use std::process::ExitCode;

/// Arguments of `isoflop bench gemm`.
#[derive(Debug, clap::Args)]
pub(crate) struct GemmBenchArgs {
    /// Rows.
    #[arg(long, default_value_t = 256)]
    m: usize,
    /// Columns.
    #[arg(long, default_value_t = 384)]
    n: usize,
    /// Depth.
    #[arg(long, default_value_t = 128)]
    k: usize,
    /// What computes: cpu (one thread), or cuda for the first card.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Operands [default: the faster here, as a study's `auto`].
    #[arg(long, value_parser = word::<Precision>())]
    precision: Option<Precision>,
}

/// Runs the verb.
pub(crate) fn run(args: &GemmBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (m, n, k, set) = (args.m, args.n, args.k, kernel_set()?);
    check_sizes(&[("m", m), ("n", n), ("k", k)])?;
    if let Some(found) = on_cards::named(&args.device)? {
        return on_cards::product(&found, args.precision.unwrap_or(Precision::Bf16), (m, n, k), ctx);
    }
    // Source and packed operands, and the product, in f32.
    check_memory(4.0 * (3.0 * (m * k) as f64 + 2.0 * (k * n) as f64 + (m * n) as f64))?;
    let precision = precision(args.precision, set)?;
    let [forward, weight_gradient] = flops_per_s(set, precision, (m, n, k));
    let peak = peak_flops_per_s(set, precision, 1);
    if ctx.json {
        let document = serde_json::json!({
            "kernels": set.name(), "precision": precision, "m": m, "n": n, "k": k, "peak_flops_per_s": peak,
            "forward_flops_per_s": forward, "forward_share_of_peak": forward / peak,
            "weight_gradient_flops_per_s": weight_gradient,
            "weight_gradient_share_of_peak": weight_gradient / peak,
        });
        println!("{document:#}");
    } else {
        let word = precision.word();
        println!("{m}×{n}×{k} in {word}, {} kernels, one thread; peak {}FLOP/s", set.name(), si(peak));
        for (name, speed) in [("x·W, W packed", forward), ("xᵀ·dy", weight_gradient)] {
            println!("  {name:<14} {}FLOP/s, {:.0} % of the peak", si(speed), 100.0 * speed / peak);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Operations a second of a product and of its weight gradient, one thread.
pub(super) fn flops_per_s(
    set: KernelSet,
    precision: Precision,
    (m, n, k): (usize, usize, usize),
) -> [f64; 2] {
    let seconds = match precision {
        Precision::F32 => f32_seconds(set, (m, n, k)),
        Precision::Bf16 | Precision::Fp16 => bf16_seconds(set, (m, n, k)),
    };
    seconds.map(|s| 2.0 * (m * n * k) as f64 / s)
}

/// Seconds of `c = x·W` with W in panels, and of `c += xᵀ·dy` from rows.
fn f32_seconds(set: KernelSet, (m, n, k): (usize, usize, usize)) -> [f64; 2] {
    let (rows, weights) = (super::values(m * k), super::values(k * n));
    let mut packed = vec![0f32; packed_len(k, n)];
    for (panel, out) in packed.chunks_exact_mut(PANEL * k).enumerate() {
        pack(&weights, k, n, panel, out);
    }
    let mut c = vec![0f32; m * n];
    let (left, right) = (Left::rows(&rows, k), Right::packed(&packed, k));
    let forward = best_seconds(|| multiply(set, (m, n, k), left, right, &mut c, n, Init::Zero));
    // The same values read as `x[K,M]`.
    let operands = |_| (Rows { data: &rows, stride: m }, Rows { data: &weights, stride: n }, k);
    let gradient = best_seconds(|| weight_gradient::accumulate(set, (m, n), 1, operands, &mut c));
    [forward, gradient]
}

/// Rows of a weight gradient that a task of training sums, from width 128 on.
const TASK_ROWS: usize = 4 * tiles::SIDE;

/// The same of operands in cells of bf16, f32 sums.
fn bf16_seconds(set: KernelSet, (m, n, k): (usize, usize, usize)) -> [f64; 2] {
    let (rows, weights) = (super::values(m * k), super::values(k * n));
    // On lines, as in training: a row of a cell that crosses one costs a matrix unit twice the time.
    let aligned = |len: usize| AlignedBuffer::zeroed(len.div_ceil(2));
    let [mut left, mut right, mut x] = [len(m, k), len(k, n), len(k, m)].map(aligned);
    let mut space = aligned(product::turned_len(TASK_ROWS, 1, k));
    let [left, right, x, space] = [&mut left, &mut right, &mut x, &mut space]
        .map(|buffer| bytemuck::cast_slice_mut::<f32, u16>(buffer));
    convert::left(set, &rows, (m, k), k, left);
    convert::right(set, &weights, (k, n), n, right);
    // The same values read as `x[K,M]`.
    convert::left(set, &rows, (k, m), m, x);
    let (left, x, right) = (Cells::whole(left, k), Cells::whole(x, m), Cells::whole(right, k));
    let mut c = AlignedBuffer::zeroed(m * n);
    let forward = best_seconds(|| product::rows(set, (m, n, k), left, right, None, None, &mut c, n));
    let weight_gradient = best_seconds(|| {
        for (task, dw) in c.chunks_mut(TASK_ROWS * n).enumerate() {
            let (rows, start) = (task * TASK_ROWS..m.min((task + 1) * TASK_ROWS), product::Start::Accumulate);
            product::weight_gradient(set, (m, n), rows, 1, |_| (x, right, k), space, start, dw);
        }
    });
    [forward, weight_gradient]
}
