//! `isoflop design`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop design`.
#[derive(Debug, clap::Args)]
pub(crate) struct DesignArgs {}

/// Runs the verb.
pub(crate) fn run(_args: DesignArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop design` is not built yet")
}
