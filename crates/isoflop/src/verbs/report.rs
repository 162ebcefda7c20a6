//! `isoflop report`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop report`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {}

/// Runs the verb.
pub(crate) fn run(_args: ReportArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop report` is not built yet")
}
