//! `isoflop bench`: the engine and its parts against the machine's limit, measured here and now.

mod product;
mod step;

use crate::cli::Context;
use clap::Subcommand;
use isoflop_kernels::{KernelSet, peak};
use isoflop_nn::Precision;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Whole training steps: forward, backward, clipping, AdamW.
    Train(step::TrainBenchArgs),
    /// One matrix product on one thread.
    Gemm(product::GemmBenchArgs),
}

/// Runs the verb.
pub(crate) fn run(args: BenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Train(args) => step::run(&args, ctx),
        What::Gemm(args) => product::run(&args, ctx),
    }
}

/// Seconds of one measurement of the peak: long enough for the clock frequency to settle.
const PEAK_SECONDS: f64 = 0.2;

/// Operations per second of `threads` threads at once that never leave registers (f32) or L1 (bf16): the best of three.
pub(crate) fn peak_flops_per_s(set: KernelSet, precision: Precision, threads: usize) -> f64 {
    let once = || {
        let start = Instant::now();
        let mut operations = 0.0;
        while start.elapsed().as_secs_f64() < PEAK_SECONDS {
            let (done, value) = match precision {
                Precision::F32 => peak::multiply_adds(set, 100_000),
                Precision::Bf16 => peak::bf16_products(set, 200),
            };
            std::hint::black_box(value);
            operations += done;
        }
        operations / start.elapsed().as_secs_f64()
    };
    let together = || -> f64 {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(once)).collect();
            let mine = once();
            // A measuring thread only counts and adds.
            others
                .into_iter()
                .map(|other| other.join().expect("a measuring thread does not panic"))
                .sum::<f64>()
                + mine
        })
    };
    (0..3).map(|_| together()).fold(0.0, f64::max)
}
