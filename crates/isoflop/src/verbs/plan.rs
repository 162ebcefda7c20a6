//! `isoflop plan`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {}

/// Runs the verb.
pub(crate) fn run(_args: PlanArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop plan` is not built yet")
}
