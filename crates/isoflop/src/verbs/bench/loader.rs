//! `isoflop bench loader`: tokens per second that rows are read at, on one thread and with nothing else to do.
//!
//! Training reads ahead on such a thread; what it still waits is in `runs show`.

use super::check_sizes;
use crate::cli::Context;
use isoflop_base::units::si;
use isoflop_data::{BinFile, BinOptions, Sampler, Tokens, builtin};
use isoflop_lab::UserError;
use isoflop_lab::open::{self, Opened};
use isoflop_lab::task::rows::Rows;
use isoflop_nn::TokenBatch;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop bench loader`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoaderBenchArgs {
    /// A study: the rows of its first run, its mix included [default: the built-in corpus].
    #[arg(value_name = "STUDY.toml", conflicts_with = "tokens")]
    study: Option<PathBuf>,
    /// A token file instead: random windows of it.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Symbols of the file's vocabulary [default: its sidecar's, or its dtype's].
    #[arg(long, requires = "tokens")]
    vocab: Option<usize>,
    /// Tokens of a row, of a file or the built-in corpus.
    #[arg(long, default_value_t = 256, conflicts_with = "study")]
    context: usize,
    /// Rows of a batch, of a file or the built-in corpus.
    #[arg(long, default_value_t = 8, conflicts_with = "study")]
    rows: usize,
    /// How long to read.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
}

/// Runs the verb.
pub(crate) fn run(args: &LoaderBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    check_sizes(&[("context", args.context), ("rows", args.rows)])?;
    if !(0.01..=600.0).contains(&args.seconds) {
        return Err(UserError::new(format!("--seconds {} is out of range", args.seconds))
            .hint("choose 0.01 to 600")
            .into());
    }
    let (name, read) = match &args.study {
        Some(path) => {
            let Opened { study, corpus, .. } = open::open(path, &ctx.sets)?;
            let spec = study.runs.first().ok_or_else(|| UserError::new("the study has no run"))?;
            let (rows, micro) = (Rows::new(spec, &corpus)?, spec.train.micro_batch);
            let steps = spec.end();
            let read = measure(args.seconds, |step, batches| {
                rows.fill(step % steps..step % steps + 1, micro, batches)
            })?;
            (spec.id.clone(), read)
        }
        None => {
            let tokens = tokens(args)?;
            let sampler = Sampler::new(tokens.len(), args.context, 1).map_err(UserError::from_error)?;
            let name = format!("{}, {} tokens", tokens.name(), si(tokens.len() as f64));
            let rows = args.rows as u64;
            let read = measure(args.seconds, |step, batches| {
                batches.resize_with(1, || TokenBatch::zeroed(args.rows, args.context));
                let filled = sampler.fill(&*tokens, step * rows, &mut batches[0]);
                Ok(filled.map_err(UserError::from_error)?)
            })?;
            (name, read)
        }
    };
    let Read { tokens, seconds, slowest_s, steps } = read;
    let (rate, slowest_ms) = (tokens as f64 / seconds, 1e3 * slowest_s);
    if ctx.json {
        let document = serde_json::json!({
            "rows": name, "tokens": tokens, "seconds": seconds, "tokens_per_s": rate, "steps": steps,
            "slowest_step_ms": slowest_ms,
        });
        println!("{document:#}");
    } else {
        println!("{name}");
        println!("  {} tokens/s on one thread, {steps} steps, the slowest {slowest_ms:.3} ms", si(rate));
    }
    Ok(ExitCode::SUCCESS)
}

fn tokens(args: &LoaderBenchArgs) -> anyhow::Result<Box<dyn Tokens>> {
    let Some(path) = &args.tokens else { return Ok(builtin().map_err(UserError::from_error)?.train) };
    let options = BinOptions { vocab: args.vocab, ..BinOptions::default() };
    Ok(Box::new(BinFile::open(path, &options).map_err(UserError::from_error)?))
}

/// What was read.
struct Read {
    tokens: u64,
    seconds: f64,
    steps: u64,
    slowest_s: f64,
}

/// Makes step after step for so many seconds.
fn measure(
    seconds: f64,
    mut fill: impl FnMut(u64, &mut Vec<TokenBatch>) -> anyhow::Result<()>,
) -> anyhow::Result<Read> {
    let (mut batches, mut read) = (Vec::new(), Read { tokens: 0, seconds: 0.0, steps: 0, slowest_s: 0.0 });
    let started = Instant::now();
    while read.seconds < seconds {
        fill(read.steps, &mut batches)?;
        read.tokens += batches.iter().map(TokenBatch::predicted).sum::<u64>();
        read.steps += 1;
        let now = started.elapsed().as_secs_f64();
        read.slowest_s = read.slowest_s.max(now - read.seconds);
        read.seconds = now;
    }
    Ok(read)
}
