//! `isoflop sample`: text from a checkpoint.

use crate::cli::Context;
use crate::signals;
use isoflop_data::tokenizer::{BYTE_VOCAB, decode_bytes, encode_bytes};
use isoflop_lab::UserError;
use isoflop_lab::gpt;
use isoflop_lab::sampling::{Draw, generate};
use isoflop_store::Checkpoint;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop sample`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// A GPT-2 checkpoint directory with bytes as tokens, such as the demo leaves.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Text to continue.
    #[arg(long, default_value = "\n")]
    prompt: String,
    /// Tokens to add.
    #[arg(long, default_value_t = 256)]
    length: usize,
    /// 0 takes the likeliest token each time, 1 draws from the model's own distribution.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Same seed, same text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the verb.
pub(crate) fn run(args: SampleArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    if args.prompt.is_empty() {
        return Err(UserError::new("an empty prompt has no token to go on from")
            .hint("give --prompt at least one character, such as a line break")
            .into());
    }
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return Err(UserError::new(format!("a temperature of {} cannot be drawn at", args.temperature))
            .hint("choose 0 or above, e.g. --temperature 0.8")
            .into());
    }
    let mut checkpoint = Checkpoint::open_dir(&args.checkpoint).map_err(UserError::from_error)?;
    let config = isoflop_lab::hf_config::from_checkpoint(&mut checkpoint)?;
    if config.vocab != BYTE_VOCAB {
        return Err(UserError::new(format!(
            "{} has a vocabulary of {}; only bytes ({BYTE_VOCAB}) can be turned into text yet",
            args.checkpoint.display(),
            config.vocab
        ))
        .hint("sample it with transformers: the directory loads there as it is")
        .into());
    }
    let (mut engine, config) = gpt::engine_of(&mut checkpoint, 1)?;
    let draw = Draw { length: args.length, temperature: args.temperature, seed: args.seed };
    let tokens = generate(&mut engine, config.context, &encode_bytes(&args.prompt), draw, &stop)?;
    let text = decode_bytes(&tokens);
    if ctx.json {
        let document = serde_json::json!({
            "schema": "isoflop.sample/1",
            "checkpoint": args.checkpoint,
            "prompt": args.prompt,
            "text": text,
            "tokens": tokens.len(),
            "temperature": args.temperature,
            "seed": args.seed,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{}{text}", args.prompt);
    }
    Ok(ExitCode::SUCCESS)
}
