//! `isoflop fewshot prepare-icons`: the built-in icons again, or emoji, out of an npm package.

use crate::cli::Context;
use isoflop_data::images::iconify::{self, Drawings};
use isoflop_lab::UserError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop fewshot prepare-icons`.
#[derive(Debug, clap::Args)]
pub(crate) struct PrepareIconsArgs {
    /// What `npm pack @iconify/json` leaves, or the folder it unpacks to.
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Where the pictures and CREDITS.md go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Emoji in several styles, in colour on white, instead of icons of one colour.
    #[arg(long)]
    emoji: bool,
    /// Pixels of a side.
    #[arg(long, value_name = "N", default_value_t = 28)]
    side: usize,
}

/// Runs the verb.
pub(crate) fn run(args: PrepareIconsArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::console::directory(&args.out, "--out")?;
    let drawings = if args.emoji { Drawings::Emoji } else { Drawings::Icons };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let gathered =
        iconify::gather(&args.package, drawings, args.side, threads).map_err(UserError::from_error)?;
    let path = args.out.join(drawings.file());
    isoflop_store::write_artifact(&path, &gathered.bytes())?;
    isoflop_store::write_artifact(args.out.join("CREDITS.md"), gathered.credits().as_bytes())?;
    eprintln!("{}: {}", path.display(), gathered.words());
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&gathered.header)?);
    }
    Ok(ExitCode::SUCCESS)
}
