//! `isoflop bench attention`: causal attention of one sequence on one thread, forward and backward, for one head and
//! for all heads of a layer.
//!
//! Operations are the model's: two products forward and four backward (dv, dp, dq, dk) over the causal half, so
//! 2·T²·S and 4·T²·S for a head of width S. The scores that the backward computes again are not counted.

use super::{best_seconds, cards, check_memory, check_sizes, peak_flops_per_s, precision};
use crate::cli::{Context, word};
use isoflop_base::units::si;
use isoflop_kernels::KernelSet;
use isoflop_kernels::attention::{self, Head};
use isoflop_kernels::tiles::{attention as cells, convert, len};
use isoflop_lab::UserError;
use isoflop_lab::machine::kernel_set;
use isoflop_nn::Precision;
use std::process::ExitCode;

/// Arguments of `isoflop bench attention`.
#[derive(Debug, clap::Args)]
pub(crate) struct AttentionBenchArgs {
    /// Positions of the sequence.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 256)]
    width: usize,
    /// Attention heads [default: width / 64].
    #[arg(long)]
    heads: Option<usize>,
    /// What computes: cpu (one thread), or cuda for the first card.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Operands of products [default: the faster here, as a study's `auto`].
    #[arg(long, value_parser = word::<Precision>())]
    precision: Option<Precision>,
}

/// Seconds of the forward and the backward of some heads.
struct Timed {
    heads: usize,
    forward: f64,
    backward: f64,
}

/// Seconds of forward and backward of these heads, one thread.
pub(super) fn seconds(set: KernelSet, precision: Precision, heads: &[Head]) -> [f64; 2] {
    match precision {
        Precision::F32 => f32_seconds(set, heads),
        Precision::Bf16 | Precision::Fp16 => bf16_seconds(set, heads),
    }
}

/// Runs the verb.
pub(crate) fn run(args: &AttentionBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (t, c, set) = (args.context, args.width, kernel_set()?);
    let heads = args.heads.unwrap_or((c / 64).max(1));
    check_sizes(&[("context", t), ("width", c), ("heads", heads)])?;
    if !c.is_multiple_of(heads) {
        return Err(UserError::new(format!("--heads {heads} do not divide --width {c}"))
            .hint("choose a divisor of the width")
            .into());
    }
    if let Some(found) = cards::named(&args.device)? {
        return cards::attention(&found, args.precision.unwrap_or(Precision::Bf16), (t, c, heads), ctx);
    }
    // qkv, its gradient, output and its gradient, and what the scratch holds of scores.
    check_memory(4.0 * t as f64 * (9.0 * c as f64 + 8.0 * (c / heads) as f64 + 128.0))?;
    let precision = precision(args.precision, set)?;
    let head = |head: usize| Head::new(t, c, c / heads, head);
    let timed: Vec<Timed> = [1, heads]
        .into_iter()
        .take(if heads == 1 { 1 } else { 2 })
        .map(|count| {
            let list: Vec<Head> = (0..count).map(head).collect();
            let [forward, backward] = seconds(set, precision, &list);
            Timed { heads: count, forward, backward }
        })
        .collect();
    let peak = peak_flops_per_s(set, precision, 1);
    let operations = |timed: &Timed| 2.0 * (t as f64).powi(2) * (c / heads * timed.heads) as f64;
    if ctx.json {
        let rows: Vec<_> = timed
            .iter()
            .map(|row| {
                let (forward, backward) =
                    (operations(row) / row.forward, 2.0 * operations(row) / row.backward);
                serde_json::json!({
                    "heads": row.heads, "forward_s": row.forward, "backward_s": row.backward,
                    "forward_flops_per_s": forward, "forward_share_of_peak": forward / peak,
                    "backward_flops_per_s": backward, "backward_share_of_peak": backward / peak,
                })
            })
            .collect();
        let document = serde_json::json!({
            "kernels": set.name(), "precision": precision, "context": t, "width": c, "head_width": c / heads,
            "peak_flops_per_s": peak, "measured": rows,
        });
        println!("{document:#}");
    } else {
        println!(
            "{t} positions, heads of {} in {}, {} kernels, one thread; peak {}FLOP/s; causal operations",
            c / heads,
            precision.word(),
            set.name(),
            si(peak)
        );
        for row in &timed {
            for (name, seconds, factor) in [("forward", row.forward, 1.0), ("backward", row.backward, 2.0)] {
                let speed = factor * operations(row) / seconds;
                println!(
                    "  {:>2} heads {name:<8} {:>9.1} µs  {}FLOP/s, {:.0} % of the peak",
                    row.heads,
                    1e6 * seconds,
                    si(speed),
                    100.0 * speed / peak
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of forward and backward over these heads of one sequence, everything in f32.
fn f32_seconds(set: KernelSet, heads: &[Head]) -> [f64; 2] {
    let Head { length: t, width: c, head_width: s, .. } = heads[0];
    let (qkv, dout) = (super::values(t * 3 * c), super::values(t * c));
    let (mut out, mut dqkv) = (vec![0f32; t * c], vec![0f32; t * 3 * c]);
    let (mut lse, mut scratch) = (vec![0f32; t * heads.len()], vec![0f32; attention::scratch_len(t, s)]);
    let forward = best_seconds(|| {
        for (head, lse) in heads.iter().zip(lse.chunks_exact_mut(t)) {
            attention::forward(set, *head, &qkv, &mut out, lse, &mut scratch);
        }
    });
    let backward = best_seconds(|| {
        for (head, lse) in heads.iter().zip(lse.chunks_exact(t)) {
            attention::backward(set, *head, &qkv, &out, lse, &dout, &mut dqkv, &mut scratch);
        }
    });
    [forward, backward]
}

/// The same in cells of bf16.
fn bf16_seconds(set: KernelSet, heads: &[Head]) -> [f64; 2] {
    let Head { length: t, width: c, head_width: s, .. } = heads[0];
    let mut qkv = vec![0u16; len(t, 3 * c)];
    convert::left(set, &super::values(t * 3 * c), (t, 3 * c), 3 * c, &mut qkv);
    let dattended = super::values(t * c);
    let (mut attended, mut dqkv) = (vec![0u16; len(t, c)], vec![0u16; len(t, 3 * c)]);
    let mut totals = vec![0f32; 3 * c];
    let each = cells::stats_len(t);
    let mut stats = vec![0f32; each * heads.len()];
    let (mut operands, mut sums) = (vec![0u16; cells::bf16_len(t, s)], vec![0f32; cells::f32_len(t, s)]);
    let forward = best_seconds(|| {
        for (head, stats) in heads.iter().zip(stats.chunks_exact_mut(each)) {
            let scratch = cells::Scratch { operands: &mut operands, sums: &mut sums };
            cells::forward(set, *head, &qkv, &mut attended, stats, scratch);
        }
    });
    let backward = best_seconds(|| {
        for (head, stats) in heads.iter().zip(stats.chunks_exact(each)) {
            let scratch = cells::Scratch { operands: &mut operands, sums: &mut sums };
            cells::backward(set, *head, &qkv, &attended, stats, &dattended, &mut dqkv, &mut totals, scratch);
        }
    });
    [forward, backward]
}
