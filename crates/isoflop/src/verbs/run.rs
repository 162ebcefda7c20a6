//! `isoflop run`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {}

/// Runs the verb.
pub(crate) fn run(_args: RunArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop run` is not built yet")
}
