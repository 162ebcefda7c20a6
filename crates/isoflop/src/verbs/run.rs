//! `isoflop run`: conducts the study of a file; the same command goes on with it.

use crate::cli::Context;
use crate::progress::Terminal;
use crate::verbs::plan::with_device;
use crate::{exit, signals, summary};
use isoflop_lab::UserError;
use isoflop_lab::conduct::{Conducted, Conductor};
use isoflop_lab::open::{self, Opened};
use isoflop_lab::plan::{self, Speed};
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
    /// Train only the run of this id, for processes that share a study's runs; may be repeated.
    #[arg(long, value_name = "RUN")]
    only: Vec<String>,
    /// What trains, in place of the study's own: cpu, cuda, cuda:0,1 or cuda:all.
    #[arg(long)]
    device: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: RunArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    if let Some(out) = &args.out {
        crate::console::directory(out, "--out")?;
    }
    let Opened { study, corpus, .. } =
        open::open(&args.study, &with_device(&ctx.sets, args.device.as_deref()))?;
    open::check_memory(&study)?;
    if let Some(unknown) = args.only.iter().find(|id| !study.runs.iter().any(|run| run.id == **id)) {
        let ids: Vec<&str> = study.runs.iter().map(|run| run.id.as_str()).collect();
        return Err(UserError::new(format!("--only {unknown}: the study has no such run"))
            .hint(format!("its runs are {}", ids.join(", ")))
            .into());
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
        only: args.only,
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
    let Conducted { plan, diverged, waits_for, report } = conducted?;
    let Some(report) = report else {
        eprintln!(
            "{} of {} runs are left to other processes: {}\nhint: whoever finishes the last of them fits the \
             laws; the same command goes on from here",
            waits_for.len(),
            conductor.study.runs.len(),
            waits_for.join(", ")
        );
        return Ok(exit::held());
    };
    let out = &conductor.out;
    eprint!("{}", summary::text(&report, started.elapsed().as_secs_f64(), out));
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&summary::document(&report, &plan, out))?);
    }
    Ok(if diverged { exit::diverged() } else { ExitCode::SUCCESS })
}
