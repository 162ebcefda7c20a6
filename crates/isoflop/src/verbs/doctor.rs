//! `isoflop doctor`.

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {}

/// Runs the verb.
pub(crate) fn run(_args: DoctorArgs, _ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`isoflop doctor` is not built yet")
}
