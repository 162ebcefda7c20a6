//! `isoflop bench train`: whole training steps of one shape.

use super::{check_sizes, peak_flops_per_s, precision};
use crate::cli::{Context, word};
use isoflop_base::units::{bytes, si};
use isoflop_base::{Measured, ModelShape};
use isoflop_lab::UserError;
use isoflop_lab::machine::{Hardware, processor};
use isoflop_lab::plan::memory::{self, Change};
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{
    Device, Engine, EngineOptions, GptConfig, Optimizer, Precision, Recompute, SingleDevice, TokenBatch,
};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop bench train`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainBenchArgs {
    /// Transformer blocks.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Attention heads [default: width / 64].
    #[arg(long)]
    heads: Option<usize>,
    /// Vocabulary.
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// Positions per sequence.
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Sequences per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Sequences whose activations are in memory at once; gradients of the others are added up [default: all].
    #[arg(long)]
    micro_batch: Option<usize>,
    /// Steps to time.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Steps before them that are not timed: they warm caches, pages and threads.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// What trains: cpu, cuda, cuda:0,1 or cuda:all.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Operands of products [default: the faster here, as a study's `auto`].
    #[arg(long, value_parser = word::<Precision>())]
    precision: Option<Precision>,
    /// What the backward pass computes again instead of keeping it.
    #[arg(long, value_parser = word::<Recompute>(), default_value = "none")]
    recompute: Recompute,
    /// Moments in f32 or in blocks of 8 bits.
    #[arg(long, value_parser = word::<Optimizer>(), default_value = "adamw")]
    optimizer: Optimizer,
    /// Threads [default: one per usable core].
    #[arg(long)]
    threads: Option<usize>,
}

/// As in a study.
const MOST_THREADS: usize = 1024;

/// Bytes the engine will take; refused if more than are free.
fn planned(device: &Hardware, config: &GptConfig, options: &EngineOptions) -> anyhow::Result<u64> {
    let planned = isoflop_lab::gpt::plan_of(device, config, options)?.total();
    let Some(free) = device.available().filter(|free| planned > *free) else { return Ok(planned) };
    let total = |options: &EngineOptions| device.plan(config, options).total();
    let problem = format!("{} needs {} of memory, {} are free", config.shape, bytes(planned), bytes(free));
    let hint = match memory::smallest_change(options, &device.facts(), free, &total) {
        Some((changes, total)) => {
            let changes: Vec<String> = changes.into_iter().map(option).collect();
            format!("{} fits with {}", changes.join(" "), bytes(total))
        }
        None => "choose a smaller model, vocabulary or context".to_owned(),
    };
    Err(UserError::new(problem).hint(hint).into())
}

/// A change as an option of this verb.
fn option(change: Change) -> String {
    match change {
        Change::MicroBatch(n) => format!("--micro-batch {n}"),
        Change::Recompute => "--recompute block".to_owned(),
        Change::Adam8bit => "--optimizer adamw8bit".to_owned(),
        Change::Precision(precision) => format!("--precision {}", precision.word()),
    }
}

/// What the options ask to train on, and in which precision.
fn device(args: &TrainBenchArgs) -> Result<(Hardware, Precision), UserError> {
    if Hardware::is_cards(&args.device) {
        let cards = Hardware::cards(&args.device)?;
        return Ok((cards, args.precision.unwrap_or(Precision::Bf16)));
    }
    let mut cpu = processor()?;
    cpu.threads = args.threads.unwrap_or(cpu.threads);
    Ok((Hardware::Cpu(cpu), precision(args.precision, cpu.kernels)?))
}

/// What the device reaches at most: of a processor measured, of cards published.
fn peak(device: &Hardware, precision: Precision) -> Measured<f64> {
    match device {
        Hardware::Cpu(cpu) => Measured::measured(peak_flops_per_s(cpu.kernels, precision, cpu.threads)),
        cards => match cards.published_flops_per_s(precision) {
            Some(peak) => Measured::estimated(peak, "the vendor's figure"),
            None => Measured::missing("no published figure of this card is known here"),
        },
    }
}

/// Whose peak that is.
fn whose(device: &Hardware) -> String {
    match device {
        Hardware::Cpu(cpu) => format!("that {} threads reach at most", cpu.threads),
        cards => format!("that are published of {}", cards.facts().name),
    }
}

/// Threads that compute, on a processor.
fn threads(device: &Hardware) -> Option<usize> {
    match device {
        Hardware::Cpu(cpu) => Some(cpu.threads),
        Hardware::Cards(_) | Hardware::Absent(_) => None,
    }
}

/// Runs the verb.
pub(crate) fn run(args: &TrainBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let heads = args.heads.unwrap_or((args.width / 64).max(1));
    let shape: ModelShape =
        format!("L{}-d{}-h{heads}", args.layers, args.width).parse().map_err(UserError::from_error)?;
    check_sizes(&[
        ("vocab", args.vocab),
        ("context", args.context),
        ("batch", args.batch),
        ("steps", args.steps),
        ("threads", args.threads.unwrap_or(1)),
    ])?;
    if let Some(threads) = args.threads.filter(|n| *n > MOST_THREADS) {
        return Err(UserError::new(format!("--threads {threads} is out of range"))
            .hint(format!("choose 1 to {MOST_THREADS}"))
            .into());
    }
    let micro_batch = args.micro_batch.unwrap_or(args.batch);
    if micro_batch == 0 || !args.batch.is_multiple_of(micro_batch) {
        return Err(UserError::new(format!(
            "--micro-batch {micro_batch} does not divide --batch {}",
            args.batch
        ))
        .hint("choose a divisor, such as half of the batch")
        .into());
    }
    let config = GptConfig::new(shape, args.vocab, args.context);
    let (device, precision) = device(args)?;
    let options = EngineOptions {
        precision,
        micro_batch,
        recompute: args.recompute,
        optimizer: args.optimizer,
        ..EngineOptions::default()
    };
    let planned = planned(&device, &config, &options)?;
    let peak = peak(&device, precision);
    let kernels = device.facts().kernels;
    let system = isoflop_meter::System::real();
    let before = system.peak_memory();
    let mut steps = Steps::new(&device, &config, &options, args.batch)?;
    for _ in 0..args.warmup {
        steps.one()?;
    }
    let start = Instant::now();
    for _ in 0..args.steps {
        steps.one()?;
    }
    let seconds = start.elapsed().as_secs_f64() / args.steps as f64;
    let tokens_per_s = (args.batch * args.context) as f64 / seconds;
    let flops_per_s = tokens_per_s * training_flops_per_token(&config, Convention::Exact);
    let used = match (before.value(), system.peak_memory().value()) {
        (Some(before), Some(after)) => Some(after - before),
        _ => None,
    };
    if ctx.json {
        let document = serde_json::json!({
            "shape": shape.to_string(), "params": shape.params(), "vocab": args.vocab, "context": args.context,
            "batch": args.batch, "micro_batch": micro_batch, "steps": args.steps, "seconds_per_step": seconds, "tokens_per_s": tokens_per_s,
            "flops_per_s": flops_per_s, "peak_flops_per_s": peak.value(),
            "share_of_peak": peak.value().map(|peak| flops_per_s / peak),
            "peak_memory_bytes": used, "planned_memory_bytes": planned, "kernels": kernels,
            "precision": precision, "recompute": options.recompute, "optimizer": options.optimizer,
            "threads": threads(&device), "device": device.facts().name,
        });
        println!("{document:#}");
    } else {
        println!(
            "{shape}, vocabulary {}, {}×{} tokens a step: {} tokens/s, {:.1} ms a step",
            args.vocab,
            args.batch,
            args.context,
            si(tokens_per_s),
            1e3 * seconds
        );
        let of_peak = match &peak {
            Measured::Missing { reason } => format!("share of the peak missing: {reason}"),
            peak => {
                let (value, whose) = (*peak.value().expect("it is there"), whose(&device));
                format!("{:.0} % of the {}FLOP/s {whose}", 100.0 * flops_per_s / value, si(value))
            }
        };
        println!("{}FLOP/s, {of_peak} ({kernels}, {})", si(flops_per_s), precision.word());
        let used = used.map_or_else(|| "not measured here".to_owned(), bytes);
        println!("memory planned {}, measured {used}", bytes(planned));
    }
    Ok(ExitCode::SUCCESS)
}

/// An engine and batches for its steps.
pub(super) struct Steps<E> {
    engine: E,
    batches: Vec<TokenBatch>,
    parts: usize,
    done: usize,
}

impl<E: Engine<Batch = TokenBatch>> Steps<E> {
    /// Of `batch` sequences each, in the micro-batches of `options`.
    pub(super) fn new<D: Device<GptConfig, Engine = E>>(
        device: &D,
        config: &GptConfig,
        options: &EngineOptions,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let parts = batch / options.micro_batch;
        let tokens = |seed| tokens(seed, options.micro_batch, config.context, config.vocab);
        let batches = (0..4 * parts as u64).map(tokens).collect();
        Ok(Self { engine: device.make(config, options, 1)?, batches, parts, done: 0 })
    }

    /// Gradients of a batch, joined, clipped and applied.
    pub(super) fn one(&mut self) -> anyhow::Result<()> {
        for part in &self.batches[self.done % 4 * self.parts..][..self.parts] {
            self.engine.accumulate(part, 1.0 / self.parts as f32)?;
        }
        self.engine.reduce(&mut SingleDevice)?;
        self.engine.update(1e-3)?;
        self.done += 1;
        Ok(())
    }
}

/// A batch whose tokens follow no pattern: what they are does not matter for speed.
fn tokens(seed: u64, sequences: usize, context: usize, vocab: usize) -> TokenBatch {
    let mut state = seed;
    let count = sequences * (context + 1);
    let tokens = (0..count).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab as u64) as u32
    });
    TokenBatch::new(tokens.collect(), sequences, context)
}
