//! `isoflop run`: conducts the study of a file; the same command goes on with it.

use crate::cli::Context;
use crate::conduct::Conductor;
use crate::signals::Stop;
use crate::study::{self, resolve};
use crate::{executor, fitting, plan};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Where points, law and report go [default: a directory named after the study].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: RunArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = Stop::listen()?;
    let raw = study::read(&args.study, &ctx.sets)?;
    let corpus = resolve::open_corpus(&raw)?;
    let study = resolve::resolve(&raw, &corpus, &executor::machine()?, executor::flops_per_token)?;
    if let Some(free) = fitting::available() {
        fitting::check(&study, free)?;
    }
    crate::conduct::open_store(&ctx.store)?;
    let speeds = plan::time_sizes(&study, &corpus, &ctx.store, &stop)?;
    let conductor = Conductor {
        out: args.out.unwrap_or_else(|| PathBuf::from(&study.name)),
        study: &study,
        corpus: &corpus,
        store_root: ctx.store.clone(),
        preset: None,
        stop: &stop,
        json: ctx.json,
    };
    conductor.conduct(&speeds)
}
