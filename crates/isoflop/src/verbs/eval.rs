//! `isoflop eval`: validation loss of a checkpoint, ours or one of `transformers`.

use crate::cli::Context;
use crate::signals;
use isoflop_base::units::parse_whole;
use isoflop_data::{BinFile, BinOptions, TokenDtype, Tokens, corpus};
use isoflop_lab::UserError;
use isoflop_lab::task::evaluate::{Windows, evaluate};
use isoflop_lab::{gpt, machine};
use isoflop_store::Checkpoint;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tokens scored in one batch.
const BATCH_TOKENS: usize = 4096;

/// Arguments of `isoflop eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// A GPT-2 checkpoint directory in Hugging Face's layout.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Tokens to score: raw little-endian u16 or u32, NumPy's .npy, llm.c's or Megatron's .bin; `-` is stdin.
    #[arg(long, value_name = "FILE.bin", required_unless_present = "builtin", conflicts_with = "builtin")]
    tokens: Option<PathBuf>,
    /// Score the held-out part of the built-in corpus.
    #[arg(long)]
    builtin: bool,
    /// Width of the file's tokens, when no JSON file beside it says so.
    #[arg(long, value_parser = ["u8", "u16", "u32", "u64"])]
    dtype: Option<String>,
    /// Only as many tokens, e.g. 100k.
    #[arg(long, value_name = "TOKENS")]
    limit: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: EvalArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let limit = args.limit.as_deref().map(parse_whole).transpose().map_err(UserError::from_error)?;
    let mut checkpoint = Checkpoint::open_dir(&args.checkpoint).map_err(UserError::from_error)?;
    let config = isoflop_lab::hf_config::from_checkpoint(&mut checkpoint)?;
    let source = open(&args, config.vocab)?;
    let sequences = (BATCH_TOKENS / config.context).max(1);
    let (mut engine, config) = gpt::engine_of(&mut checkpoint, sequences)?;
    let windows = Windows { context: config.context, block_tokens: source.block_tokens, limit };
    let held_out = evaluate(&mut engine, &*source.tokens, windows, sequences, &stop)?;
    let bits = source.bytes_per_token.map(|b| held_out.loss / std::f64::consts::LN_2 / b);
    if ctx.json {
        let document = serde_json::json!({
            "schema": "isoflop.eval/1",
            "loss": held_out.loss,
            "se": held_out.se,
            "tokens": held_out.samples,
            "loss_unit": "nats per token",
            "bits_per_byte": bits,
            "blocks": held_out.blocks.len(),
            "context": config.context,
            "vocab": config.vocab,
            "shape": config.shape,
            "source": source.tokens.name(),
            "checkpoint": args.checkpoint,
            "kernels": machine::kernel_set()?.name(),
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let se = held_out.se.map_or(String::new(), |se| format!(" ± {se:.6}"));
        let bits = bits.map_or(String::new(), |b| format!(", {b:.4} bits per byte"));
        println!("{:.6}{se} nats per token over {} tokens{bits}", held_out.loss, held_out.samples);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is scored, with what is known of it.
struct Source {
    tokens: Box<dyn Tokens>,
    block_tokens: u64,
    bytes_per_token: Option<f64>,
}

fn open(args: &EvalArgs, vocab: usize) -> Result<Source, UserError> {
    let Some(path) = &args.tokens else {
        let corpus = isoflop_data::builtin().map_err(UserError::from_error)?;
        if vocab < corpus.info.vocab {
            return Err(UserError::new(format!(
                "the built-in corpus has {} symbols, the checkpoint's vocabulary {vocab}",
                corpus.info.vocab
            ))
            .hint("give the tokens it was made for with --tokens FILE.bin"));
        }
        return Ok(Source {
            tokens: corpus.val,
            block_tokens: corpus.info.block_tokens,
            bytes_per_token: corpus.info.bytes_per_token,
        });
    };
    let dtype = args.dtype.as_deref().and_then(TokenDtype::of_name);
    let options = BinOptions { vocab: Some(vocab), dtype, ..BinOptions::default() };
    let file = BinFile::open(path, &options).map_err(UserError::from_error)?;
    let bytes_per_token = file.bytes_per_token();
    Ok(Source {
        block_tokens: corpus::block_tokens(bytes_per_token),
        bytes_per_token,
        tokens: Box::new(file),
    })
}
