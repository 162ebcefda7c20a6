//! `isoflop fewshot plan`: what a study will cost.

use crate::cli::Context;
use crate::signals;
use isoflop_lab::fewshot::{cost, open};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop fewshot plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(args: PlanArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let open::Opened { study, set, .. } = open::open(&args.study, &ctx.sets, &ctx.store)?;
    let plan = cost::plan(&study, &cost::time(&study, &set, &stop)?)?;
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        println!("{}", plan.text());
    }
    Ok(ExitCode::SUCCESS)
}
