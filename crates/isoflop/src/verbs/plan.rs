//! `isoflop plan`: what a study will cost, before anything runs.

use crate::cli::Context;
use crate::signals;
use isoflop_base::units::parse_count;
use isoflop_lab::machine::Hardware;
use isoflop_lab::open::{self, Opened};
use isoflop_lab::plan::{self, memory};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// Skip the quick timing: no expected seconds.
    #[arg(long)]
    no_timing: bool,
    /// Bytes the study may take, for a machine other than this one, e.g. 16G [default: what is free here].
    #[arg(long, value_name = "BYTES", value_parser = parse_count)]
    memory: Option<f64>,
    /// What would train it: cpu, cuda, cuda:0,1, or a card that is not here such as "RTX 4080" or "2x RTX 4080".
    #[arg(long)]
    device: Option<String>,
}

/// A study's overrides, with its device among them if one was named.
pub(crate) fn with_device(sets: &[String], device: Option<&str>) -> Vec<String> {
    let device = device.map(|name| format!("train.device={name}"));
    sets.iter().cloned().chain(device).collect()
}

/// Runs the verb.
pub(crate) fn run(args: PlanArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let sets = with_device(&ctx.sets, args.device.as_deref());
    let Opened { study, corpus, .. } = open::open(&args.study, &sets)?;
    let here = study
        .runs
        .first()
        .is_none_or(|run| !matches!(isoflop_lab::gpt::device(run, &study.machine), Ok(Hardware::Absent(_))));
    let speeds = if args.no_timing || !here {
        Vec::new()
    } else {
        plan::time_sizes(&study, &corpus, &ctx.store, &stop)?
    };
    let plan = plan::plan(&study, &speeds)?;
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print!("{}{}", plan.text(), plan.breakdown());
    }
    if let Some(free) = args.memory.map(|bytes| bytes as u64).or_else(|| memory::available_to(&study)) {
        memory::check(&study, free)?;
    }
    Ok(ExitCode::SUCCESS)
}
