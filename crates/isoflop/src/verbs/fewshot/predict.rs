//! `isoflop fewshot predict`: a support folder, pictures, an answer with probabilities.

use crate::cli::Context;
use crate::signals;
use isoflop_lab::fewshot::predict::{self, Prediction};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop fewshot predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct PredictArgs {
    /// A checkpoint of a few-shot run, or the directory of a run of the store.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// A folder with a folder of pictures for each class.
    #[arg(long, value_name = "DIR")]
    support: PathBuf,
    /// Pictures to be told apart.
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    /// Dark drawings on a light ground, which the built-in icons are not, are turned light on dark.
    #[arg(long)]
    invert: bool,
}

/// Runs the verb.
pub(crate) fn run(args: PredictArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let answers = predict::predict(&args.checkpoint, &args.support, &args.pictures, args.invert, &stop)?;
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
        return Ok(ExitCode::SUCCESS);
    }
    for Prediction { picture, classes } in &answers {
        let best = &classes[0];
        println!("{}  {}  {:.1} %", picture.display(), best.class, 100.0 * best.probability);
        for other in classes.iter().skip(1).take(4) {
            println!("    {}  {:.1} %", other.class, 100.0 * other.probability);
        }
    }
    Ok(ExitCode::SUCCESS)
}
