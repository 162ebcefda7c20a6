//! `isoflop bench update`: nanoseconds a parameter of the optimisers' loops on one thread.
//!
//! The loops alone: the norm's pass over the gradients and the packing of weights for the next products, which the
//! engine does in the same pass, are not in these figures; `isoflop bench train` has them.

use super::{best_seconds, check_memory};
use crate::cli::Context;
use isoflop_base::units::si;
use isoflop_kernels::KernelSet;
use isoflop_kernels::adamw::{self, Step};
use isoflop_kernels::adamw8bit::{self, BLOCK, Moments};
use isoflop_lab::UserError;
use isoflop_lab::machine::kernel_set;
use std::process::ExitCode;

/// Arguments of `isoflop bench update`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpdateBenchArgs {
    /// Parameters [default: more than caches hold].
    #[arg(long, default_value_t = 16 << 20)]
    params: usize,
}

const STEP: Step = Step {
    lr: 1e-4,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.1,
    correction1: 0.9,
    correction2_root: 0.9,
    gradient_scale: 0.7,
};

/// Runs the verb.
pub(crate) fn run(args: &UpdateBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (n, set) = (args.params, kernel_set()?);
    if !(1..=1 << 40).contains(&n) {
        return Err(UserError::new(format!("--params {n} is out of range")).hint("choose 1 to 2^40").into());
    }
    check_memory(16.0 * n as f64)?;
    let norm = norm_seconds(set, n);
    let (wide, eight) = (adamw_seconds(set, n), adamw8bit_seconds(set, n));
    let per = |seconds: f64| 1e9 * seconds / n as f64;
    if ctx.json {
        let document = serde_json::json!({
            "kernels": set.name(), "params": n, "threads": 1, "norm_ns_per_param": per(norm),
            "adamw_ns_per_param": per(wide), "adamw8bit_ns_per_param": per(eight),
        });
        println!("{document:#}");
    } else {
        println!("{} parameters, {} kernels, one thread; packing not included", si(n as f64), set.name());
        for (name, seconds) in [("norm", norm), ("adamw", wide), ("adamw8bit", eight)] {
            println!("  {name:<10} {:.3} ns a parameter", per(seconds));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn norm_seconds(set: KernelSet, n: usize) -> f64 {
    let g = super::values(n);
    best_seconds(|| {
        std::hint::black_box(adamw::sum_of_squares(set, &g));
    })
}

fn adamw_seconds(set: KernelSet, n: usize) -> f64 {
    let (mut w, g) = (super::values(n), super::values(n));
    let (mut m, mut v) = (vec![0f32; n], vec![0f32; n]);
    best_seconds(|| adamw::update(set, &STEP, &mut w, &g, &mut m, &mut v))
}

fn adamw8bit_seconds(set: KernelSet, n: usize) -> f64 {
    let (mut w, g) = (super::values(n), super::values(n));
    let (mut first, mut second) = (vec![0u8; n], vec![0u8; n]);
    let (mut first_scales, mut second_scales) =
        (vec![0f32; n.div_ceil(BLOCK)], vec![0f32; n.div_ceil(BLOCK)]);
    best_seconds(|| {
        let moments = Moments {
            first: &mut first,
            first_scales: &mut first_scales,
            second: &mut second,
            second_scales: &mut second_scales,
        };
        adamw8bit::update(set, &STEP, &mut w, &g, moments);
    })
}
