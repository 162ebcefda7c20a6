//! `isoflop run`: conducts the study of a file; the same command goes on with it.

use crate::cli::Context;
use crate::progress::Terminal;
use crate::signals;
use crate::{exit, summary};
use isoflop_lab::conduct::{Conducted, Conductor};
use isoflop_lab::plan::Speed;
use isoflop_lab::plan::memory;
use isoflop_lab::study::{self, resolve};
use isoflop_lab::{executor, plan};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

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
    let stop = signals::listen()?;
    let raw = study::read(&args.study, &ctx.sets)?;
    let corpus = resolve::open_corpus(&raw)?;
    let study = resolve::resolve(&raw, &corpus, &executor::machine()?, executor::flops_per_token)?;
    if let Some(free) = memory::available() {
        memory::check(&study, free)?;
    }
    isoflop_lab::conduct::open_store(&ctx.store)?;
    let speeds = plan::time_sizes(&study, &corpus, &ctx.store, &stop)?;
    let conductor = Conductor {
        out: args.out.unwrap_or_else(|| PathBuf::from(&study.name)),
        study: &study,
        corpus: &corpus,
        store_root: ctx.store.clone(),
        preset: None,
        stop: &stop,
    };
    conduct(&conductor, &speeds, ctx)
}

/// Conducts a study before somebody's eyes, and says what came of it.
pub(crate) fn conduct(
    conductor: &Conductor<'_>,
    speeds: &[Speed],
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut terminal = Terminal::new();
    let conducted = conductor.conduct(speeds, &mut terminal);
    terminal.close();
    let Conducted { plan, diverged, report } = conducted?;
    let out = &conductor.out;
    eprint!("{}", summary::text(&report, started.elapsed().as_secs_f64(), out));
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&summary::document(&report, &plan, out))?);
    }
    Ok(if diverged { exit::diverged() } else { ExitCode::SUCCESS })
}
