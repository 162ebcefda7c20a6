//! `isoflop fewshot run`: conducts the study of a file; the same command goes on with it.

use super::summary;
use crate::cli::Context;
use crate::progress::Terminal;
use crate::verbs::plan::with_device;
use crate::{exit, signals};
use isoflop_lab::fewshot::conduct::{Conducted, Conductor};
use isoflop_lab::fewshot::cost;
use isoflop_lab::fewshot::open::{self, Opened};
use isoflop_lab::{Event, Recorder as _, Stop};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop fewshot run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Graphics cards in place of the study's device: cuda, cuda:all, cuda:0,1.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Where tables and page go [default: a directory named after the study].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: RunArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    if let Some(out) = &args.out {
        crate::console::directory(out, "--out")?;
    }
    let opened = open::open(&args.study, &with_device(&ctx.sets, args.device.as_deref()), &ctx.store)?;
    let out = args.out.unwrap_or_else(|| PathBuf::from(&opened.study.asked.name));
    conduct(&opened, (&ctx.store, &out), &stop, ctx)
}

/// Conducts a study before somebody's eyes, and says what came of it.
pub(super) fn conduct(
    Opened { study, set, also }: &Opened,
    (store, out): (&Path, &Path),
    stop: &Stop,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    isoflop_lab::conduct::open_store(store)?;
    open::check_memory(study)?;
    let started = Instant::now();
    let plan = cost::plan(study, &cost::time(study, set, stop)?)?;
    let mut terminal = Terminal::new();
    terminal.record(&Event::Expected(&plan.text(), plan.expected()))?;
    let conductor = Conductor { study, set, also, store_root: store.to_owned(), out: out.to_owned(), stop };
    let conducted = conductor.conduct(&mut terminal);
    terminal.close();
    let Conducted { diverged, waits_for, results } = conducted?;
    let Some(results) = results else {
        eprintln!(
            "{} of {} runs are left to other processes: {}\nhint: the same command goes on from here",
            waits_for.len(),
            study.runs.len(),
            waits_for.join(", ")
        );
        return Ok(exit::held());
    };
    eprint!("{}", summary::text(&results, started.elapsed().as_secs_f64(), out));
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(if diverged { exit::diverged() } else { ExitCode::SUCCESS })
}
