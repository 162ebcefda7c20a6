//! `isoflop runs`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop runs`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunsArgs {}

/// Runs the verb.
pub(crate) fn run(_args: RunsArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop runs` is not built yet")
}
