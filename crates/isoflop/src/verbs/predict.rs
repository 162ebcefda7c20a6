//! `isoflop predict`: a forecast with an interval, written down before the run that tests it.

use super::fit::{How, read_points, user};
use crate::cli::Context;
use anyhow::Context as _;
use isoflop_base::units::{parse_count, si};
use isoflop_lab::UserError;
use isoflop_laws::document::Allocation;
use isoflop_laws::table::same_level;
use isoflop_laws::{Forecast, LawDocument, Options, Table, Target, text};
use isoflop_report::ForecastRow;
use isoflop_store::Collected;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const SCHEMA: &str = "isoflop.registered/1";
/// Folder of a store that holds registered forecasts.
const FOLDER: &str = "forecasts";

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

/// A forecast as it was written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Registered {
    schema: String,
    made_at: String,
    /// SHA-256 of the forecast and the date, so that a later change shows.
    sha256: String,
    made_from: String,
    forecast: Forecast,
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
        registered_at = Some(register(&forecast, &table, ctx)?);
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

fn hash(made_at: &str, forecast: &Forecast) -> anyhow::Result<String> {
    let bytes = serde_json::to_vec(&(made_at, forecast))?;
    Ok(Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect())
}

fn register(forecast: &Forecast, table: &Table, ctx: &Context) -> anyhow::Result<PathBuf> {
    let made_at = isoflop_lab::clock::now_utc();
    let sha256 = hash(&made_at, forecast)?;
    let made_from = format!(
        "{} rows, N up to {}",
        table.rows.len(),
        si(table.levels("n").last().copied().unwrap_or(0.0))
    );
    let path = ctx.store.join(FOLDER).join(format!("{}.json", &sha256[..16]));
    let record =
        Registered { schema: SCHEMA.to_owned(), made_at, sha256, made_from, forecast: forecast.clone() };
    let store = isoflop_store::Store::open(&ctx.store)?;
    let relative = Path::new(FOLDER).join(format!("{}.json", &record.sha256[..16]));
    store
        .write_artifact(&relative, serde_json::to_string_pretty(&record)?.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The registered forecasts of a store with what came of them in its finished runs, oldest first. A file that was
/// changed since is left out and named in the second list.
pub(crate) fn registered(store: &Path, collected: &Collected) -> (Vec<ForecastRow>, Vec<String>) {
    let finished = || collected.runs.iter().filter(|run| run.is_done()).flat_map(|run| &run.points);
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    let Ok(entries) = std::fs::read_dir(store.join(FOLDER)) else { return (rows, notes) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let record =
            std::fs::read_to_string(path).ok().and_then(|t| serde_json::from_str::<Registered>(&t).ok());
        let whole = record.filter(|r| hash(&r.made_at, &r.forecast).is_ok_and(|h| h == r.sha256));
        let Some(record) = whole else {
            notes.push(format!(
                "the registered forecast {} was changed since, and is not shown",
                path.display()
            ));
            continue;
        };
        let mut forecast = record.forecast;
        let point = finished().find(|p| {
            forecast.n.is_some_and(|n| same_level(n, p.params as f64))
                && forecast.d.is_some_and(|d| same_level(d, p.tokens as f64))
        });
        forecast.outcome = point.map(|p| isoflop_laws::outcome(&forecast, p.loss));
        let size = |v: Option<f64>| v.map_or_else(|| "?".to_owned(), si);
        rows.push(ForecastRow {
            name: point
                .map_or_else(|| format!("N {} D {}", size(forecast.n), size(forecast.d)), |p| p.run.clone()),
            made_from: record.made_from,
            made_at: Some(record.made_at),
            forecast,
            outcome_se: point.and_then(|p| p.loss_se),
        });
    }
    rows.sort_by(|a, b| a.made_at.cmp(&b.made_at));
    (rows, notes)
}
