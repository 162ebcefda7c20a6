//! `isoflop sample`: text from a checkpoint.

use crate::cli::Context;
use crate::signals;
use isoflop_data::tokenize::{Bytes, Tokenizer, gpt2::gpt2};
use isoflop_data::tokenizer::{BYTE_VOCAB, GPT2_VOCAB};
use isoflop_lab::UserError;
use isoflop_lab::gpt;
use isoflop_lab::sampling::{Draw, generate};
use isoflop_store::Checkpoint;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop sample`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleArgs {
    /// A GPT-2 checkpoint directory.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// How its ids are text: bytes, gpt2, a tokenizer.json or a .tiktoken file [default: the checkpoint's own].
    #[arg(long, short, value_name = "NAME|FILE")]
    tokenizer: Option<String>,
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
    let tokenizer = tokenizer_of(&args, config.vocab)?;
    let prompt = prompt_of(&*tokenizer, &args.prompt);
    let (mut engine, config) = gpt::engine_of(&mut checkpoint, 1)?;
    let draw = Draw { length: args.length, temperature: args.temperature, seed: args.seed };
    let tokens = generate(&mut engine, config.context, &prompt, draw, &stop)?;
    let text = text_of(&*tokenizer, &tokens);
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

/// The tokeniser asked for, else the one beside the checkpoint, else the one whose vocabulary has this size.
fn tokenizer_of(args: &SampleArgs, vocab: usize) -> Result<Box<dyn Tokenizer>, UserError> {
    let own = args.checkpoint.join("tokenizer.json");
    let tokenizer: Box<dyn Tokenizer> = match &args.tokenizer {
        Some(name) => isoflop_data::tokenize::open(name, None).map_err(UserError::from_error)?,
        None if vocab == BYTE_VOCAB => Box::new(Bytes),
        None if own.is_file() => {
            isoflop_data::tokenize::open(&own.to_string_lossy(), None).map_err(UserError::from_error)?
        }
        None if vocab == GPT2_VOCAB => Box::new(gpt2()),
        None => {
            let checkpoint = args.checkpoint.display();
            return Err(UserError::new(format!(
                "{checkpoint} has a vocabulary of {vocab} and no tokenizer.json beside it"
            ))
            .hint("name the tokeniser it was trained with: --tokenizer FILE"));
        }
    };
    if tokenizer.vocab_size() > vocab {
        let (name, ids) = (tokenizer.name(), tokenizer.vocab_size());
        return Err(UserError::new(format!("{name} has {ids} ids, the checkpoint's vocabulary {vocab}"))
            .hint("name the tokeniser it was trained with: --tokenizer FILE"));
    }
    Ok(tokenizer)
}

/// The ids of a prompt; end-of-text is recognised where it is written out.
fn prompt_of(tokenizer: &dyn Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode_with_special_into(text, &mut ids);
    ids
}

/// The text of ids; what is not UTF-8, as an untrained model writes, becomes U+FFFD, and so do ids that a padded
/// vocabulary has and the tokeniser has not.
fn text_of(tokenizer: &dyn Tokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    for &id in ids {
        if tokenizer.decode_into(&[id], &mut bytes).is_err() {
            bytes.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
