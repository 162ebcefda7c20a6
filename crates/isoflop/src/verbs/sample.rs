//! `isoflop sample`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop sample`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleArgs {}

/// Runs the verb.
pub(crate) fn run(_args: SampleArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop sample` is not built yet")
}
