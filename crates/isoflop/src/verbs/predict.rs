//! `isoflop predict`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct PredictArgs {}

/// Runs the verb.
pub(crate) fn run(_args: PredictArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop predict` is not built yet")
}
