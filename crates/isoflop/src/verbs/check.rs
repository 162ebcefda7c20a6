//! `isoflop check`: whether what was tuned at one size may be used at another.

use crate::cli::{Context, word};
use crate::signals;
use clap::Subcommand;
use isoflop_base::units::si;
use isoflop_lab::UserError;
use isoflop_lab::widths::{self, Asked, Widths};
use isoflop_nn::Init;
use std::process::ExitCode;

/// Arguments of `isoflop check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Trains models of several widths for a moment at several rates: does a rate carry over, do activations keep
    /// their size?
    Widths(WidthArgs),
}

#[derive(Debug, clap::Args)]
struct WidthArgs {
    /// Widths, multiples of 16.
    #[arg(long, value_delimiter = ',', default_value = "32,64,128,192")]
    widths: Vec<usize>,
    /// Transformer blocks of every model.
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Steps of 2,048 tokens of each training.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// Initialisation: std 0.02·√(768/d), or 0.02 as GPT-2 has it.
    #[arg(long, value_parser = word::<Init>(), default_value = "scaled")]
    init: Init,
    /// Seed of weights and data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the verb.
pub(crate) fn run(args: CheckArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let What::Widths(args) = args.what;
    let stop = signals::listen()?;
    let mut widths = args.widths;
    widths.sort_unstable();
    widths.dedup();
    if let Some(width) = widths.iter().find(|w| !w.is_multiple_of(16) || !(16..=4096).contains(*w)) {
        return Err(UserError::new(format!("--widths {width} is no width of heads of 16"))
            .hint("choose multiples of 16, such as 32,64,128")
            .into());
    }
    if widths.len() < 2 {
        return Err(UserError::new("one width says nothing of another")
            .hint("give two or more: --widths 32,64,128")
            .into());
    }
    for (name, value, most) in [("--layers", args.layers, 64), ("--steps", args.steps, 1_000_000)] {
        if !(1..=most).contains(&value) {
            return Err(UserError::new(format!("{name} {value} is out of range"))
                .hint(format!("choose 1 to {most}"))
                .into());
        }
    }
    let asked = Asked { widths, layers: args.layers, steps: args.steps, init: args.init, seed: args.seed };
    let corpus = isoflop_data::builtin().map_err(UserError::from_error)?;
    let found = widths::check(&asked, &corpus, &stop, &mut |done, of, what| {
        eprintln!("{:>3} of {of}  {what}", done + 1);
    })?;
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", text(&found));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(found: &Widths) -> String {
    let mut out =
        format!("held-out loss after {} tokens, nats per byte\n\n  rate     ", si(found.tokens as f64));
    for width in &found.widths {
        out.push_str(&format!("{:>9}", format!("d{}", width.width)));
    }
    out.push('\n');
    let mut rates: Vec<f64> = found.widths.iter().flat_map(|w| w.losses.iter().map(|l| l.0)).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    for rate in rates {
        out.push_str(&format!("  {rate:<9.2e}"));
        for width in &found.widths {
            let loss = width.losses.iter().find(|l| l.0 == rate).map(|l| format!("{:.3}", l.1));
            out.push_str(&format!("{:>9}", loss.unwrap_or_else(|| "diverged".to_owned())));
        }
        out.push('\n');
    }
    out.push_str("  best     ");
    for width in &found.widths {
        let best = width.best.map_or("at an end".to_owned(), |rate| format!("{rate:.1e}"));
        out.push_str(&format!("{best:>9}"));
    }
    out.push_str("\n\nroot mean square of what each part gives, before → after at the rule's rate\n\n");
    let parts = found.widths.first().map_or(&[][..], |w| &w.scales);
    for (index, scale) in parts.iter().enumerate() {
        out.push_str(&format!("  {:<12}", scale.part));
        for scale in found.widths.iter().filter_map(|w| w.scales.get(index)) {
            out.push_str(&format!("{:>16}", format!("{:.3} → {:.3}", scale.before, scale.after)));
        }
        let trend = found.scales.iter().find(|t| t.of == scale.part);
        out.push_str(&trend.map_or(String::new(), |t| format!("   width^{:+.2}, {}", t.exponent, t.words)));
        out.push('\n');
    }
    out.push_str(&format!("\n{}\n", found.verdict));
    out
}
