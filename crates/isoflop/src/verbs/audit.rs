//! `isoflop audit`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {}

/// Runs the verb.
pub(crate) fn run(_args: AuditArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop audit` is not built yet")
}
