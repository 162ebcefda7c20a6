//! `isoflop predict`: a forecast with an interval, written down before the run that tests it.

use super::fit::{How, read_points, user};
use crate::cli::Context;
use anyhow::Context as _;
use isoflop_base::units::{parse_count, si};
use isoflop_lab::{UserError, registry};
use isoflop_laws::document::Allocation;
use isoflop_laws::{LawDocument, Options, Table, Target, text};
use isoflop_store::Store;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct PredictArgs {
    /// Tables of points; without one, the finished runs of the store.
    #[arg(value_name = "POINTS")]
    points: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    /// Size to forecast, e.g. 1.2B.
    #[arg(long, value_name = "N")]
    params: Option<String>,
    /// Training tokens, e.g. 30B.
    #[arg(long, value_name = "D")]
    tokens: Option<String>,
    /// Budget in FLOPs, e.g. 1e21: alone, for the best N and D of it; with --params, for D = C/(6N).
    #[arg(long, value_name = "C")]
    flops: Option<String>,
    /// Write the forecast down in the store, with its date and hash, before the run that tests it.
    #[arg(long)]
    register: bool,
}

/// Runs the verb.
pub(crate) fn run(args: PredictArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let table = read_points(&args.points, &args.how, ctx)?;
    let options = args.how.options();
    let (target, allocation) = target(&args, &table, &options)?;
    let forecast = isoflop_laws::forecast(&table, &[target], &options)
        .map_err(user)?
        .pop()
        .context("a forecast of one target is one forecast")?;
    let mut registered_at = None;
    if args.register {
        registered_at = Some(registry::register(&forecast, &table, &Store::open(&ctx.store)?)?);
    }
    if ctx.json {
        let mut out = serde_json::to_value(&forecast)?;
        if let Some(map) = out.as_object_mut() {
            map.insert("allocation".to_owned(), serde_json::to_value(&allocation)?);
            map.insert(
                "registered".to_owned(),
                serde_json::to_value(registered_at.as_ref().map(|p| p.display().to_string()))?,
            );
        }
        println!("{}", serde_json::to_string_pretty(&out)?);
    } else {
        for a in &allocation {
            if let (Some(c), approach) = (forecast.c, &a.approach) {
                let best = a.at(c);
                println!("best use of {} FLOPs by {approach}: N = {}, D = {}", si(c), si(best.n), si(best.d));
            }
        }
        print!("{}", text::forecast(&forecast));
    }
    if let Some(path) = registered_at {
        eprintln!("registered in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn count(text: Option<&String>, flag: &str) -> anyhow::Result<Option<f64>> {
    let Some(text) = text else { return Ok(None) };
    let value = parse_count(text).map_err(|e| UserError::from_error(format!("{flag}: {e}")))?;
    if value > 0.0 {
        Ok(Some(value))
    } else {
        Err(UserError::new(format!("{flag} {text} is not positive")).hint("write e.g. 300M or 1e21").into())
    }
}

/// N and D to forecast, and where they come from if a budget was given.
fn target(args: &PredictArgs, table: &Table, options: &Options) -> anyhow::Result<(Target, Vec<Allocation>)> {
    let n = count(args.params.as_ref(), "--params")?;
    let d = count(args.tokens.as_ref(), "--tokens")?;
    let c = count(args.flops.as_ref(), "--flops")?;
    let at = |n: f64, d: f64| Ok((Target { n, d }, Vec::new()));
    match (n, d, c) {
        (Some(_), Some(_), Some(_)) => {
            Err(UserError::new("--params, --tokens and --flops together say one thing too many")
                .hint("give two of them, or --flops alone")
                .into())
        }
        (Some(n), Some(d), None) => at(n, d),
        (Some(n), None, Some(c)) => at(n, c / (6.0 * n)),
        (None, Some(d), Some(c)) => at(c / (6.0 * d), d),
        (None, None, Some(c)) => best_of(c, table, options),
        (Some(n), None, None) => at(n, largest(table, "d", "--tokens")?),
        (None, Some(d), None) => at(largest(table, "n", "--params")?, d),
        (None, None, None) => Err(UserError::new("nothing to forecast")
            .hint("give --params 1.2B --tokens 30B, or --flops 1e21")
            .into()),
    }
}

fn largest(table: &Table, column: &str, flag: &str) -> anyhow::Result<f64> {
    table.levels(column).last().copied().ok_or_else(|| {
        UserError::new(format!("the table does not tell what {flag} should be"))
            .hint(format!("give {flag}"))
            .into()
    })
}

/// The best N and D of a budget, by the parametric approach; the other approaches are shown beside it.
fn best_of(c: f64, table: &Table, options: &Options) -> anyhow::Result<(Target, Vec<Allocation>)> {
    let options = Options {
        forms: vec!["l_nd_chinchilla".to_owned()],
        bootstrap: 0,
        dense: false,
        holdout: false,
        ..options.clone()
    };
    let document: LawDocument = isoflop_laws::fit(table, &options).map_err(user)?;
    let parametric = document.allocation.iter().find(|a| a.approach == "parametric").ok_or_else(|| {
        UserError::new("the fitted law has no best size for a budget (an exponent is not positive)")
            .hint("give --params and --tokens")
    })?;
    let best = parametric.at(c);
    Ok((Target { n: best.n, d: best.d }, document.allocation.clone()))
}
