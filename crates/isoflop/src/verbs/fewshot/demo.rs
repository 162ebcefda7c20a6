//! `isoflop fewshot demo`: all methods on the built-in icons, with nothing to set up.

use super::run::conduct;
use crate::cli::Context;
use crate::signals;
use isoflop_lab::fewshot::open;
use std::path::PathBuf;
use std::process::ExitCode;

/// The demo is this file as it stands.
const STUDY: &str = include_str!("../../../../../studies/fewshot.toml");

/// Arguments of `isoflop fewshot demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Where everything goes.
    #[arg(long, value_name = "DIR", default_value = "isoflop-fewshot-demo")]
    out: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(args: DemoArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::console::directory(&args.out, "--out")?;
    let stop = signals::listen()?;
    let store = if ctx.store_given { ctx.store.clone() } else { args.out.join("runs") };
    let opened = open::parsed("studies/fewshot.toml", STUDY, &ctx.sets, &store)?;
    conduct(&opened, (&store, &args.out), &stop, ctx)
}
