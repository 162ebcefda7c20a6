//! Products and attention on a graphics card, by the card's own clock.

use crate::cli::Context;
use isoflop_base::units::si;
use isoflop_cuda::{Bench, Cuda};
use isoflop_lab::UserError;
use isoflop_lab::machine::Hardware;
use isoflop_nn::Precision;
use std::process::ExitCode;

/// The cards a `--device` names, if it names any that are here.
///
/// # Errors
/// There are none, or only the name of a card.
pub(super) fn named(device: &str) -> Result<Option<(Hardware, Cuda)>, UserError> {
    if !Hardware::is_cards(device) {
        return Ok(None);
    }
    match Hardware::cards(device)? {
        Hardware::Cards(cuda) => Ok(Some((Hardware::Cards(cuda.clone()), cuda))),
        _ => Err(UserError::new(format!("--device {device} is planned for and not here"))
            .hint("write --device cuda to measure this machine's card")),
    }
}

/// A product of these sizes, and its weight gradient.
pub(super) fn product(
    (hardware, cuda): &(Hardware, Cuda),
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let seconds = Bench::new(cuda, precision, 64)?.product(m, n, k)?;
    let operations = 2.0 * (m * n * k) as f64;
    let what = format!("{m}×{n}×{k}");
    let sizes = serde_json::json!({ "m": m, "n": n, "k": k });
    let rows = [("forward", seconds[0], operations), ("weight_gradient", seconds[1], operations)];
    say(hardware, precision, &what, sizes, &rows, ctx);
    Ok(ExitCode::SUCCESS)
}

/// Causal attention of one sequence, all heads of a layer; operations of the causal half, as on a processor.
pub(super) fn attention(
    (hardware, cuda): &(Hardware, Cuda),
    precision: Precision,
    (t, c, heads): (usize, usize, usize),
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let seconds = Bench::new(cuda, precision, c / heads)?.attention(1, t, c, heads)?;
    let operations = 2.0 * (t as f64).powi(2) * c as f64;
    let what = format!("attention of {t} positions, {heads} heads of {}", c / heads);
    let sizes = serde_json::json!({ "context": t, "width": c, "heads": heads, "head_width": c / heads });
    let rows = [("forward", seconds[0], operations), ("backward", seconds[1], 2.0 * operations)];
    say(hardware, precision, &what, sizes, &rows, ctx);
    Ok(ExitCode::SUCCESS)
}

fn say(
    hardware: &Hardware,
    precision: Precision,
    what: &str,
    sizes: serde_json::Value,
    rows: &[(&str, f64, f64)],
    ctx: &Context,
) {
    let name = hardware.facts().name;
    // One card is measured, whatever their number.
    let cards = isoflop_cuda::cards_of(hardware.facts().kernels).unwrap_or(1) as f64;
    let published = hardware.published_flops_per_s(precision).map(|peak| peak / cards);
    if ctx.json {
        let measured: Vec<_> = rows
            .iter()
            .map(|(direction, seconds, operations)| {
                let speed = operations / seconds;
                serde_json::json!({
                    "what": direction, "s": seconds, "flops_per_s": speed,
                    "share_of_published_peak": published.map(|peak| speed / peak),
                })
            })
            .collect();
        let document = serde_json::json!({
            "device": name, "precision": precision, "sizes": sizes, "published_flops_per_s": published,
            "measured": measured,
        });
        println!("{document:#}");
        return;
    }
    let of = published.map_or_else(|| "not known here".to_owned(), |peak| format!("{}FLOP/s", si(peak)));
    println!("{what} in {} on {name}; published peak {of}", precision.word());
    for (direction, seconds, operations) in rows {
        let speed = operations / seconds;
        let share = published.map_or_else(String::new, |p| format!(", {:.0} % of it", 100.0 * speed / p));
        println!("  {direction:<16} {:>9.1} µs  {}FLOP/s{share}", 1e6 * seconds, si(speed));
    }
}
