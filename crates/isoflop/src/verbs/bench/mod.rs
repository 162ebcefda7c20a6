//! `isoflop bench`: the engine and its parts against the machine's limit, measured here and now.

mod all;
mod attention;
mod cards;
mod fewshot;
mod loader;
mod product;
mod step;
mod update;

use crate::cli::Context;
use clap::Subcommand;
use isoflop_kernels::KernelSet;
use isoflop_lab::UserError;
use isoflop_lab::machine::choice::precision_of;
use isoflop_lab::machine::measure;
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
    /// Every figure below that a table of machines has, in some minutes, and beside a file of another time or machine.
    All(all::AllBenchArgs),
    /// Whole training steps: forward, backward, clipping, AdamW.
    Train(step::TrainBenchArgs),
    /// Whole training steps of a few-shot network on episodes.
    Fewshot(fewshot::FewShotBenchArgs),
    /// One matrix product on one thread.
    Gemm(product::GemmBenchArgs),
    /// Causal attention of one sequence on one thread: a head, and all heads of a layer.
    Attention(attention::AttentionBenchArgs),
    /// The optimisers' loops over weights, gradients and moments on one thread.
    Update(update::UpdateBenchArgs),
    /// Reading rows of tokens on one thread: of a study and its mix, a token file, the built-in corpus.
    Loader(loader::LoaderBenchArgs),
}

/// Runs the verb.
pub(crate) fn run(args: BenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    match args.what {
        What::All(args) => all::run(&args, ctx),
        What::Train(args) => step::run(&args, ctx),
        What::Fewshot(args) => fewshot::run(&args, ctx),
        What::Gemm(args) => product::run(&args, ctx),
        What::Attention(args) => attention::run(&args, ctx),
        What::Update(args) => update::run(&args, ctx),
        What::Loader(args) => loader::run(&args, ctx),
    }
}

/// The precision asked for, else what a study's `auto` would be.
///
/// # Errors
/// fp16: no processor computes it here.
fn precision(asked: Option<Precision>, kernels: KernelSet) -> Result<Precision, UserError> {
    match asked {
        Some(Precision::Fp16) => Err(UserError::new("--precision fp16 is not computed on a processor")
            .hint("choose bf16 or f32, or --device cuda")),
        Some(precision) => Ok(precision),
        None => Ok(precision_of(kernels).precision),
    }
}

/// Most of any one size on the command line: beyond it products of sizes could not be counted.
const MOST: usize = 1 << 20;

/// Refuses sizes of 0 and sizes beyond reason, by the name of their option.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), UserError> {
    match sizes.iter().find(|(_, size)| !(1..=MOST).contains(size)) {
        Some((name, size)) => {
            Err(UserError::new(format!("--{name} {size} is out of range"))
                .hint(format!("choose 1 to {MOST}")))
        }
        None => Ok(()),
    }
}

/// Refuses buffers that would not fit the memory that is free.
fn check_memory(needed: f64) -> Result<(), UserError> {
    match isoflop_lab::plan::memory::available() {
        Some(free) if needed > free as f64 => {
            let [needed, free] = [needed as u64, free].map(isoflop_base::units::bytes);
            Err(UserError::new(format!("these sizes need {needed} of memory, {free} are free"))
                .hint("choose smaller ones"))
        }
        _ => Ok(()),
    }
}

/// `len` values that are not zero: a multiplier's power, and so its clock, depends on them.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Times one measurement is repeated.
const ROUNDS: usize = 5;
/// Seconds of one of them.
const ROUND_S: f64 = 0.1;

/// Seconds of one call of `work`: the best of some rounds of many calls each.
fn best_seconds(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    let calls = (ROUND_S / start.elapsed().as_secs_f64().max(1e-9)).ceil().min(1e8) as usize;
    (0..ROUNDS).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        for _ in 0..calls {
            work();
        }
        best.min(start.elapsed().as_secs_f64() / calls as f64)
    })
}

/// Operations per second of `threads` threads at once that never leave registers (f32) or L1 (bf16): the best of three.
pub(crate) fn peak_flops_per_s(set: KernelSet, precision: Precision, threads: usize) -> f64 {
    measure::peak_flops_per_s(set, precision, threads, measure::PEAK_SECONDS)
}
