//! `isoflop demo`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// Runs the verb.
pub(crate) fn run(_args: DemoArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop demo` is not built yet")
}
