//! `isoflop fit`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop fit`.
#[derive(Debug, clap::Args)]
pub(crate) struct FitArgs {}

/// Runs the verb.
pub(crate) fn run(_args: FitArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop fit` is not built yet")
}
