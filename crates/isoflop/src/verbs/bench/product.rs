//! `isoflop bench gemm`: one product on one thread, in the three layouts training uses.

use super::peak_flops_per_s;
use crate::cli::Context;
use crate::executor::kernel_set;
use isoflop_base::units::si;
use isoflop_kernels::matmul::{Init, Left, PANEL, Right, multiply, pack, packed_len};
use std::process::ExitCode;
use std::time::Instant;

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
}

/// Runs the verb.
pub(crate) fn run(args: &GemmBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (m, n, k, set) = (args.m.max(1), args.n.max(1), args.k.max(1), kernel_set()?);
    // Values that are not zero: the multiplier's power, and so its clock, depends on them.
    let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i as f32 * 0.37).sin()).collect() };
    let (rows, columns, weights) = (values(m * k), values(k * m), values(k * n));
    let mut packed = vec![0f32; packed_len(k, n)];
    for (panel, out) in packed.chunks_exact_mut(PANEL * k).enumerate() {
        pack(&weights, k, n, panel, out);
    }
    let mut c = vec![0f32; m * n];
    let flops = 2.0 * (m * n * k) as f64;
    let repeats = (1e9 / flops).ceil() as usize;
    let mut best = |left: Left<'_>, right: Right<'_>, init: Init<'_>| {
        (0..5).fold(0f64, |best, _| {
            let start = Instant::now();
            for _ in 0..repeats {
                multiply(set, (m, n, k), left, right, &mut c, n, init);
            }
            best.max(repeats as f64 * flops / start.elapsed().as_secs_f64())
        })
    };
    let forward = best(Left::rows(&rows, k), Right::packed(&packed, k), Init::Zero);
    let weight_gradient = best(Left::transposed(&columns, m), Right::rows(&weights, n), Init::Accumulate);
    let peak = peak_flops_per_s(set, isoflop_nn::Precision::F32, 1);
    if ctx.json {
        let document = serde_json::json!({
            "kernels": set.name(), "m": m, "n": n, "k": k, "peak_flops_per_s": peak,
            "forward_flops_per_s": forward, "weight_gradient_flops_per_s": weight_gradient,
        });
        println!("{document:#}");
    } else {
        println!("{m}×{n}×{k}, {} kernels, one thread; peak {}FLOP/s", set.name(), si(peak));
        for (name, speed) in [("x·W, W packed", forward), ("xᵀ·dy", weight_gradient)] {
            println!("  {name:<14} {}FLOP/s, {:.0} % of the peak", si(speed), 100.0 * speed / peak);
        }
    }
    Ok(ExitCode::SUCCESS)
}
