//! `isoflop eval`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {}

/// Runs the verb.
pub(crate) fn run(_args: EvalArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop eval` is not built yet")
}
