//! `isoflop bench all`: every figure that a table of machines has, and each beside that of a saved file.
//!
//! A sample taken while other programs had more than a share of the processors is thrown away and taken again.

use super::{attention, peak_flops_per_s, product, step::Steps};
use crate::cli::Context;
use isoflop_base::ModelShape;
use isoflop_base::units::si;
use isoflop_kernels::attention::Head;
use isoflop_lab::UserError;
use isoflop_lab::machine::{choice::precision_of, measure, processor};
use isoflop_lab::plan::memory;
use isoflop_meter::{LoadMeter, System};
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{Cpu, Device, EngineOptions, GptConfig, Precision};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop bench all`.
#[derive(Debug, clap::Args)]
pub(crate) struct AllBenchArgs {
    /// A file that `bench all --json` wrote: prints each figure beside its own.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Only figures whose name contains this, such as `train` or `d256`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Samples of each training speed; the fastest and the median are kept.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds of one of them.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Layers, width, heads, vocabulary, sequences of 256 tokens a step: the demo's sizes, then those of the peers' tables.
const SHAPES: [(usize, usize, usize, usize, usize); 7] = [
    (2, 32, 2, 256, 8),
    (3, 64, 4, 256, 8),
    (4, 112, 7, 256, 8),
    (4, 128, 4, 4096, 16),
    (6, 256, 8, 4096, 16),
    (8, 512, 8, 4096, 8),
    (12, 768, 12, 50_257, 4),
];
const CONTEXT: usize = 256;
/// Rows, columns, depth of products.
const PRODUCTS: [(usize, usize, usize); 4] =
    [(256, 384, 128), (256, 768, 256), (256, 2048, 512), (256, 512, 2048)];
/// Width and heads of attention.
const HEADS: [(usize, usize); 3] = [(112, 7), (128, 4), (128, 2)];
/// Share of the processors' time that others may have had in a sample that counts.
const FOREIGN: f64 = 0.05;
/// Times a sample is taken again before the last is kept, with its load.
const TRIES: usize = 6;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Figure {
    /// What was measured: `train L2-d32-h2 V256 8×256 bf16`.
    name: String,
    /// The fastest sample.
    best: f64,
    /// The middle one.
    median: f64,
    /// `tokens/s`, `FLOP/s` or `B/s`.
    unit: String,
    /// Operations a second over the peak of as many threads, where that has a meaning.
    share_of_peak: Option<f64>,
    /// Most of the processors' time that others had in a sample that was kept, where it could be read.
    foreign: Option<f64>,
}

/// What the verb writes, and `--against` reads.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: String,
    processor: Option<String>,
    kernels: String,
    threads: usize,
    figures: Vec<Figure>,
    /// Samples that were thrown away because others worked.
    thrown_away: usize,
    seconds: f64,
}

/// Takes samples while nobody else works.
struct Quiet {
    system: System,
    thrown_away: usize,
}

impl Quiet {
    /// `work`'s value, and the share of the processors' time that others had meanwhile.
    fn sample<T>(&mut self, mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<(T, Option<f64>)> {
        let mut tries = 1;
        loop {
            let meter = LoadMeter::start(&self.system);
            let value = work()?;
            let load = meter.read();
            let foreign =
                load.others.value().zip(load.stolen.value()).map(|(others, stolen)| others + stolen);
            if foreign.is_none_or(|share| share <= FOREIGN) || tries == TRIES {
                return Ok((value, foreign));
            }
            (self.thrown_away, tries) = (self.thrown_away + 1, tries + 1);
        }
    }
}

/// Figures as they are measured.
struct Figures<'a> {
    args: &'a AllBenchArgs,
    against: Option<&'a Document>,
    json: bool,
    quiet: Quiet,
    found: Vec<Figure>,
}

impl Figures<'_> {
    fn wanted(&self, name: &str) -> bool {
        self.args.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Samples of values of one kind each, as many as there are names; `peak` is what they are a share of.
    fn measure(
        &mut self,
        names: &[(String, f64)],
        (unit, peak): (&str, Option<f64>),
        rounds: usize,
        mut work: impl FnMut() -> anyhow::Result<Vec<f64>>,
    ) -> anyhow::Result<()> {
        let mut samples = vec![Vec::new(); names.len()];
        let mut foreign: Option<f64> = None;
        for _ in 0..rounds {
            let (values, load) = self.quiet.sample(&mut work)?;
            foreign = load.into_iter().chain(foreign).reduce(f64::max);
            for (samples, value) in samples.iter_mut().zip(values) {
                samples.push(value);
            }
        }
        for ((name, operations), mut samples) in names.iter().zip(samples) {
            samples.sort_by(f64::total_cmp);
            let (best, median) = (samples[samples.len() - 1], samples[samples.len() / 2]);
            let share_of_peak = peak.map(|peak| best * operations / peak);
            self.found.push(Figure {
                name: name.clone(),
                best,
                median,
                unit: unit.to_owned(),
                share_of_peak,
                foreign,
            });
            self.say();
        }
        Ok(())
    }

    /// The last figure, beside the other file's.
    fn say(&self) {
        let Some(figure) = self.found.last() else { return };
        let share = figure.share_of_peak.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
        let loaded = figure.foreign.filter(|share| *share > FOREIGN);
        let loaded = loaded.map_or(String::new(), |share| format!("  (others took {:.0} %)", 100.0 * share));
        let other = self.against.and_then(|other| other.figures.iter().find(|f| f.name == figure.name));
        let beside = match (other, self.against) {
            (Some(other), _) => {
                format!("  {:>8}{}  ×{:.3}", si(other.best), other.unit, figure.best / other.best)
            }
            (None, Some(_)) => "  not in the file".to_owned(),
            (None, None) => String::new(),
        };
        let line = format!(
            "{:<38} {:>8}{:<8} {share:>5}{beside}{loaded}",
            figure.name,
            si(figure.best),
            figure.unit
        );
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &AllBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if !(0.05..=600.0).contains(&args.seconds) {
        return Err(UserError::new(format!("--seconds {} is out of range", args.seconds))
            .hint("choose 0.05 to 600; a sample below a fifth of a second says nothing of foreign load")
            .into());
    }
    let against = args.against.as_deref().map(read).transpose()?;
    let began = Instant::now();
    let cpu = processor()?;
    let (set, threads, system) = (cpu.kernels, cpu.threads, System::real());
    let model = system.cpu().model.value().cloned();
    let choice = precision_of(set).precision;
    let of = model.as_deref().unwrap_or("a processor without a name");
    eprintln!("{of}, {} kernels, {threads} threads; `auto` is {}", set.name(), choice.word());
    if let Some(other) =
        against.as_ref().filter(|o| (&o.processor, o.kernels.as_str()) != (&model, set.name()))
    {
        let of = other.processor.as_deref().unwrap_or("a processor without a name");
        eprintln!("beside {of}, {} kernels, {} threads", other.kernels, other.threads);
    }
    let quiet = Quiet { system, thrown_away: 0 };
    let mut figures = Figures { args, against: against.as_ref(), json: ctx.json, quiet, found: Vec::new() };
    let precisions: &[Precision] =
        if set.computes_bf16() { &[Precision::Bf16, Precision::F32] } else { &[Precision::F32] };
    let free = memory::available();
    for &precision in precisions {
        // The peak is what everything is a share of: measured whether it was asked for or not.
        let (one, all) = (peak_flops_per_s(set, precision, 1), peak_flops_per_s(set, precision, threads));
        let word = precision.word();
        if figures.wanted(&format!("peak {word}")) {
            for (count, value) in [(1, one), (threads, all)].into_iter().take(if threads > 1 { 2 } else { 1 })
            {
                let name = format!("peak {word}, {count} thread{}", if count > 1 { "s" } else { "" });
                figures.measure(&[(name, 1.0)], ("FLOP/s", None), 1, || Ok(vec![value]))?;
            }
        }
        for (m, n, k) in PRODUCTS {
            let names = [format!("gemm {m}×{n}×{k} {word}"), format!("gemm {m}×{n}×{k} {word}, xᵀ·dy")];
            if figures.wanted(&names[0]) {
                let names = names.map(|name| (name, 1.0));
                figures.measure(&names, ("FLOP/s", Some(one)), 1, || {
                    Ok(product::flops_per_s(set, precision, (m, n, k)).to_vec())
                })?;
            }
        }
        for (width, heads) in HEADS {
            let name = |what: &str| format!("attention d{width} h{heads} {word}, {what}");
            if figures.wanted(&name("forward")) || figures.wanted(&name("backward")) {
                let list: Vec<Head> =
                    (0..heads).map(|h| Head::new(CONTEXT, width, width / heads, h)).collect();
                let operations = 2.0 * (CONTEXT * CONTEXT * width) as f64;
                let names = [(name("forward"), 1.0), (name("backward"), 1.0)];
                figures.measure(&names, ("FLOP/s", Some(one)), 1, || {
                    let [forward, backward] = attention::seconds(set, precision, &list);
                    Ok(vec![operations / forward, 2.0 * operations / backward])
                })?;
            }
        }
        for shape in SHAPES {
            train(&mut figures, &cpu, precision, shape, all, free)?;
        }
    }
    if figures.wanted("memory") {
        let memory = || Ok(vec![measure::memory_bytes_per_s(threads, free.unwrap_or(1 << 30))]);
        figures.measure(&[(format!("memory, {threads} threads"), 1.0)], ("B/s", None), 1, memory)?;
    }
    if figures.found.is_empty() {
        let only = args.only.as_deref().unwrap_or_default();
        return Err(UserError::new(format!("no figure's name contains `{only}`"))
            .hint("try train, gemm, attention, peak, memory, d256, bf16")
            .into());
    }
    let Figures { quiet, found, .. } = figures;
    let document = Document {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        processor: model,
        kernels: set.name().to_owned(),
        threads,
        figures: found,
        thrown_away: quiet.thrown_away,
        seconds: began.elapsed().as_secs_f64(),
    };
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!(
            "{:.0} s; {} samples thrown away because others had more than {:.0} % of the processors",
            document.seconds,
            document.thrown_away,
            100.0 * FOREIGN
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whole training steps of one shape, if there is room for it.
fn train(
    figures: &mut Figures<'_>,
    cpu: &Cpu,
    precision: Precision,
    (layers, width, heads, vocab, batch): (usize, usize, usize, usize, usize),
    peak: f64,
    free: Option<u64>,
) -> anyhow::Result<()> {
    let name = format!("train L{layers} d{width} h{heads} V{vocab} {}", precision.word());
    if !figures.wanted(&name) {
        return Ok(());
    }
    let shape: ModelShape = format!("L{layers}-d{width}-h{heads}").parse().map_err(UserError::from_error)?;
    let config = GptConfig::new(shape, vocab, CONTEXT);
    let options = EngineOptions { precision, micro_batch: batch, ..EngineOptions::default() };
    let planned = Device::<GptConfig>::plan(cpu, &config, &options).total();
    if free.is_some_and(|free| planned > free) {
        eprintln!("{name}: left out, it needs {} of memory", isoflop_base::units::bytes(planned));
        return Ok(());
    }
    let mut steps = Steps::new(cpu, &config, &options, batch)?;
    let start = Instant::now();
    steps.one()?;
    steps.one()?;
    let one = start.elapsed().as_secs_f64() / 2.0;
    let count = (figures.args.seconds / one).ceil().clamp(1.0, 1e6) as usize;
    let tokens = (batch * CONTEXT * count) as f64;
    let (flops, rounds) =
        (training_flops_per_token(&config, Convention::Exact), usize::from(figures.args.rounds));
    figures.measure(&[(name, flops)], ("tokens/s", Some(peak)), rounds, || {
        let start = Instant::now();
        for _ in 0..count {
            steps.one()?;
        }
        Ok(vec![tokens / start.elapsed().as_secs_f64()])
    })
}

/// A file that this verb wrote.
fn read(path: &std::path::Path) -> anyhow::Result<Document> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        UserError::new(format!("{}: {e}", path.display())).hint("isoflop bench all --json > FILE makes one")
    })?;
    let document = serde_json::from_str(&text).map_err(|e| {
        UserError::new(format!("{}: {e}", path.display()))
            .hint("it is what `isoflop bench all --json` prints")
    })?;
    Ok(document)
}
