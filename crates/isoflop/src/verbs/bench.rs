//! `isoflop bench`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {}

/// Runs the verb.
pub(crate) fn run(_args: BenchArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop bench` is not built yet")
}
