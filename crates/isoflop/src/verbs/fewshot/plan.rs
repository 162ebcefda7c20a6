//! `isoflop fewshot plan`: what a study will cost.

use crate::cli::Context;
use crate::signals;
use crate::verbs::plan::with_device;
use isoflop_lab::fewshot::{cost, open};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop fewshot plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// What would train it: cpu, cuda, cuda:0,1, or a card that is not here such as "RTX 4080" or "2x RTX 4080".
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: PlanArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let open::Opened { study, set, .. } =
        open::open(&args.study, &with_device(&ctx.sets, args.device.as_deref()), &ctx.store)?;
    let plan = cost::plan(&study, &cost::time(&study, &set, &stop)?)?;
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        println!("{}", plan.text());
    }
    Ok(ExitCode::SUCCESS)
}
