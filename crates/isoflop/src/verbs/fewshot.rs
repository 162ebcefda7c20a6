//! `isoflop fewshot`: prototypes against attention, on the same start and the same episodes.

mod demo;
mod plan;
mod predict;
mod prepare_icons;
mod run;
mod summary;

use crate::cli::Context;
use std::process::ExitCode;

/// Arguments of `isoflop fewshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct FewShotArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All methods on the built-in icons; needs no argument.
    Demo(demo::DemoArgs),
    /// Runs the study in a file; the same command resumes it.
    Run(run::RunArgs),
    /// Says what a study will cost before anything runs.
    Plan(plan::PlanArgs),
    /// Tells of pictures which class of a support folder they belong to.
    Predict(predict::PredictArgs),
    /// Gathers icons or emoji by many hands into classes, out of the npm package `@iconify/json`.
    PrepareIcons(prepare_icons::PrepareIconsArgs),
}

/// Runs the verb.
pub(crate) fn run(args: FewShotArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Demo(args) => demo::run(args, ctx),
        What::Run(args) => run::run(args, ctx),
        What::Plan(args) => plan::run(args, ctx),
        What::Predict(args) => predict::run(args, ctx),
        What::PrepareIcons(args) => prepare_icons::run(args, ctx),
    }
}
