//! `isoflop demo`: the main job on the built-in corpus, with nothing to set up.

use crate::cli::Context;
use crate::signals;
use anyhow::Context as _;
use isoflop_base::study::Study;
use isoflop_base::units::duration;
use isoflop_data::Corpus;
use isoflop_lab::UserError;
use isoflop_lab::conduct::Conductor;
use isoflop_lab::plan::{self, Speed};
use isoflop_lab::study::raw::RawStudy;
use isoflop_lab::study::resolve::Machine;
use isoflop_lab::{machine, open, out};
use isoflop_report::Preset;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The standard preset is this file as it stands.
const STUDY: &str = include_str!("../../../../studies/demo.toml");

/// What a preset changes in the demo's study.
const PRESETS: [(&str, &[&str]); 3] = [
    (
        "quick",
        &[
            "name=demo-quick",
            "series.tokens=2.4M",
            "series.branches=[\"0.6M\", \"1.2M\"]",
            "series.extra_seeds={ \"L2-d32-h2\" = [2, 3] }",
            "train.eval_tokens=512k",
        ],
    ),
    ("standard", &[]),
    (
        "full",
        &[
            "name=demo-full",
            "series.tokens=14M",
            "series.branches=[\"3.5M\", \"5M\", \"7M\"]",
            "series.seeds=[1, 2, 3]",
            "series.extra_seeds={}",
        ],
    ),
];

/// Time besides training: sampling, fitting, drawing, and a machine that slows down.
const MARGIN: f64 = 1.05;

/// Arguments of `isoflop demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Where everything goes.
    #[arg(long, value_name = "DIR", default_value = "isoflop-demo")]
    out: PathBuf,
    /// Minutes it may take: the largest preset that fits is taken.
    #[arg(long, default_value_t = 6.0)]
    minutes: f64,
    /// Take this preset however long it takes.
    #[arg(long, value_parser = ["quick", "standard", "full"])]
    preset: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: DemoArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if !(args.minutes > 0.0 && args.minutes.is_finite()) {
        return Err(UserError::new(format!("--minutes {} is no time", args.minutes))
            .hint("give a number above 0, e.g. --minutes 10")
            .into());
    }
    crate::console::directory(&args.out, "--out")?;
    let stop = signals::listen()?;
    let machine = machine::machine()?;
    let corpus = Arc::new(isoflop_data::builtin().map_err(UserError::from_error)?);
    let store_root = if ctx.store_given { ctx.store.clone() } else { args.out.join("runs") };
    isoflop_lab::conduct::open_store(&store_root)?;
    let before = begun_with(&args.out)?;
    let first = args.preset.as_deref().or(before.as_ref().map(|p| p.name.as_str())).unwrap_or("standard");
    let first = study(first, &ctx.sets, &corpus, &machine)?;
    eprintln!(
        "isoflop {}: {} kernels, {} threads; timing each size for a moment …",
        env!("CARGO_PKG_VERSION"),
        machine.kernels,
        first.machine.threads
    );
    let speeds = plan::time_sizes(&first, &corpus, &store_root, &stop)?;
    let choice = match (&args.preset, before) {
        (Some(name), _) => Preset { name: name.clone(), why: "asked for by --preset".to_owned() },
        // Going on must not depend on today's speed.
        (None, Some(before)) => before,
        (None, None) => largest_that_fits(args.minutes, ctx, &corpus, &machine, &speeds)?,
    };
    remember(&args.out, &choice)?;
    eprintln!("preset {}: {}\n", choice.name, choice.why);
    let study = study(&choice.name, &ctx.sets, &corpus, &machine)?;
    open::check_memory(&study)?;
    let conductor = Conductor {
        study: &study,
        corpus: &corpus,
        store_root,
        out: args.out,
        preset: Some(choice),
        stop: &stop,
        only: Vec::new(),
    };
    super::run::conduct(&conductor, &speeds, ctx)
}

/// The demo's study under a preset; the user's own `--set` come last and win.
fn study(preset: &str, sets: &[String], corpus: &Corpus, machine: &Machine) -> anyhow::Result<Study> {
    let changes = PRESETS.iter().find(|(name, _)| *name == preset).map_or(&[][..], |(_, changes)| changes);
    let all: Vec<String> = changes.iter().map(|c| c.to_string()).chain(sets.iter().cloned()).collect();
    let raw = RawStudy::parse("studies/demo.toml", STUDY, &all)?;
    Ok(open::resolve(&raw, corpus, machine)?)
}

#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    schema: String,
    preset: Preset,
}

fn remember(dir: &Path, preset: &Preset) -> anyhow::Result<()> {
    let chosen = Chosen { schema: "isoflop.preset/1".to_owned(), preset: preset.clone() };
    out::write(dir, out::PRESET, serde_json::to_string_pretty(&chosen)?.as_bytes())
}

/// What a demo begun in this directory had chosen.
fn begun_with(dir: &Path) -> anyhow::Result<Option<Preset>> {
    let path = dir.join(out::PRESET);
    match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| format!("reading {}", path.display()))?;
            let chosen: Chosen = serde_json::from_str(&text).with_context(|| {
                format!("{} cannot be read\nhint: remove it to choose a preset anew", path.display())
            })?;
            Ok(Some(chosen.preset))
        }
    }
}

fn largest_that_fits(
    minutes: f64,
    ctx: &Context,
    corpus: &Corpus,
    machine: &Machine,
    speeds: &[Speed],
) -> anyhow::Result<Preset> {
    let mut expected = Vec::new();
    for (name, _) in PRESETS {
        let study = study(name, &ctx.sets, corpus, machine)?;
        let seconds = plan::plan(&study, speeds)?.seconds.value().copied().unwrap_or(f64::INFINITY) * MARGIN;
        expected.push((name, seconds));
    }
    let listed: Vec<String> = expected.iter().map(|(name, s)| format!("{name} {}", duration(*s))).collect();
    let fits = expected.iter().rev().find(|(_, seconds)| *seconds <= minutes * 60.0);
    let (name, reason) = match fits {
        Some((name, _)) => (*name, format!("the largest that fits {minutes} minutes")),
        None => ("quick", format!("none fits {minutes} minutes, this is the smallest")),
    };
    Ok(Preset { name: name.to_owned(), why: format!("{reason} (expected: {})", listed.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::Measured;
    use isoflop_lab::gpt;

    fn machine() -> Machine {
        Machine { kernels: "naive".to_owned(), threads: 1, bf16: false, bf16_loses: None }
    }

    fn context() -> Context {
        Context { json: false, store: PathBuf::new(), store_given: false, sets: Vec::new() }
    }

    #[test]
    fn every_preset_resolves_to_seven_sizes_over_two_decades() {
        let corpus = isoflop_data::builtin().unwrap();
        for (name, _) in PRESETS {
            let study = study(name, &[], &corpus, &machine()).unwrap();
            let first = study.runs.first().unwrap().model.params();
            let last = study.runs.last().unwrap().model.params();
            assert!(last >= 100 * first, "{name}: {first} to {last}");
            assert!(study.resolutions.iter().all(|r| r.key != "series.epochs"), "{name} repeats its text");
        }
    }

    #[test]
    fn speed_chooses_the_preset_and_nothing_else() {
        let corpus = isoflop_data::builtin().unwrap();
        let standard = study("standard", &[], &corpus, &machine()).unwrap();
        let pick = |flops_per_s: f64| {
            let mut speeds: Vec<Speed> = Vec::new();
            for run in &standard.runs {
                let rate = flops_per_s / gpt::run_flops_per_token(run);
                speeds.push(Speed { shape: run.gpt().shape, tokens_per_s: Measured::measured(rate) });
            }
            largest_that_fits(6.0, &context(), &corpus, &machine(), &speeds).unwrap().name
        };
        assert_eq!(pick(1e9), "quick");
        assert_eq!(pick(120e9), "quick");
        assert_eq!(pick(1e12), "standard");
        assert_eq!(pick(10e12), "full");
    }
}
