//! `isoflop report`: the page of a study, of a store's runs, or of any table of points.
//!
//! A study leaves `report-input.json` beside its page; from that the same page is drawn again, byte for byte. A store
//! without one, and a table from elsewhere, are fitted first.

use super::fit::{How, read_points};
use crate::cli::Context;
use crate::console::{self, Place};
use isoflop_base::{Measured, RunDocument};
use isoflop_lab::{UserError, collect, out, registry};
use isoflop_laws::{LawDocument, Table};
use isoflop_report::{ReportInput, RunRow, claims, diagnosis};
use isoflop_store::{CollectedRun, Store};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `isoflop report`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// A table of points (CSV, TSV, JSON Lines, Parquet), or the output directory of a study. Without one, the runs of
    /// --store.
    #[arg(value_name = "POINTS|DIR")]
    input: Option<PathBuf>,
    /// Where the page goes, `-` for stdout [default: report.html; for a study's directory, report.html inside it].
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write the plot of loss against size as an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// What the page will be drawn from.
enum Source {
    Study(Box<ReportInput>),
    Table { name: String, table: Box<Table>, laws: Box<LawDocument> },
}

/// Runs the verb.
pub(crate) fn run(args: ReportArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let source = find(&args, ctx)?;
    let output = args.output.clone().unwrap_or_else(|| match &args.input {
        Some(dir) if dir.is_dir() => out::report(dir),
        _ => PathBuf::from(out::REPORT),
    });
    let to_stdout =
        [Some(&output), args.svg.as_ref()].into_iter().flatten().filter(|p| console::is_stdout(p)).count();
    if to_stdout + usize::from(ctx.json) > 1 {
        return Err(UserError::new(
            "--json, -o - and --svg - each write to stdout, and more than one is asked for",
        )
        .hint("name a file for the others")
        .into());
    }
    let (page, svg, summary) = match &source {
        Source::Study(input) => (
            isoflop_report::render(input),
            isoflop_report::law_svg(input),
            serde_json::json!({
                "law": input.laws,
                "claims": claims::judge(input),
                "diagnosis": diagnosis::diagnose(input),
                "forecasts": input.forecasts,
            }),
        ),
        Source::Table { name, table, laws } => {
            let made_by = format!("isoflop {}", env!("CARGO_PKG_VERSION"));
            let page = isoflop_report::render_table_report(name, &made_by, table, laws);
            (page, isoflop_report::table_law_svg(table, laws), serde_json::json!({ "law": laws }))
        }
    };
    if let Some(path) = &args.svg {
        let svg = svg.ok_or_else(|| {
            UserError::new("there is no plot of loss against size to write as SVG")
                .hint("it needs at least two sizes that share a token count; leave --svg out")
        })?;
        console::write_output(path, svg.as_bytes())?;
    }
    let place = console::write_output(&output, page.as_bytes())?;
    if ctx.json {
        let mut document = serde_json::json!({ "schema": "isoflop.page/1", "page": output, "bytes": page.len(), "svg": args.svg });
        if let (Some(all), Some(parts)) = (document.as_object_mut(), summary.as_object()) {
            all.extend(parts.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else if place == Place::Path {
        eprintln!("wrote {}", output.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A study's own record if there is one, else its table of points, else the runs of a store.
fn find(args: &ReportArgs, ctx: &Context) -> anyhow::Result<Source> {
    match &args.input {
        Some(path) if path.is_dir() => {
            if let Some(input) = stored_input(path)? {
                return Ok(Source::Study(Box::new(input)));
            }
            if path.join(out::POINTS).is_file() {
                return table(&path.join(out::POINTS), args, ctx);
            }
            from_store(path, args)
        }
        Some(path) => table(path, args, ctx),
        None => {
            // A study's store lies inside its output directory.
            for dir in [Some(ctx.store.as_path()), ctx.store.parent()].into_iter().flatten() {
                if let Some(input) = stored_input(dir)? {
                    return Ok(Source::Study(Box::new(input)));
                }
            }
            from_store(&ctx.store, args)
        }
    }
}

fn stored_input(dir: &Path) -> anyhow::Result<Option<ReportInput>> {
    let path = dir.join(out::REPORT_INPUT);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(UserError::new(format!("cannot read {}: {e}", path.display()))
                .hint("check its permissions, or name a table of points")
                .into());
        }
    };
    let input = ReportInput::from_json(&text)
        .map_err(|e| anyhow::Error::from(UserError::from_error(format!("{}: {e}", path.display()))))?;
    Ok(Some(input))
}

fn table(path: &Path, args: &ReportArgs, ctx: &Context) -> anyhow::Result<Source> {
    let table = read_points(&[path.to_path_buf()], &args.how, ctx)?;
    let laws = super::fit::fit_with_signs(&table, &args.how.options())?;
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    Ok(Source::Table { name, table: Box::new(table), laws: Box::new(laws) })
}

/// The page of a store's runs: everything they left, and the laws fitted to it now.
fn from_store(dir: &Path, args: &ReportArgs) -> anyhow::Result<Source> {
    let none = || {
        UserError::new(format!("nothing to report in {}", dir.display())).hint(
            "name a table of points (isoflop report points.csv), a study's output directory, or --store DIR with runs",
        )
    };
    let store = Store::open_existing(dir).map_err(|_| none())?;
    let collected = store.collect()?;
    if collected.points().next().is_none() {
        return Err(none().into());
    }
    let mut notes = Vec::new();
    let (laws, why) = collect::laws(&collected, &args.how.options());
    if let Some(why) = why {
        notes.push(format!("No law could be fitted: {why}"));
    }
    let (forecasts, changed) = registry::registered(dir, &collected);
    notes.extend(changed);
    Ok(Source::Study(Box::new(ReportInput {
        forecasts,
        title: format!("the runs of {}", dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy()),
        made_by: format!("isoflop {}", env!("CARGO_PKG_VERSION")),
        runs: collected.runs.iter().filter_map(run_row).collect(),
        points: collected.points().map(|(point, _)| point.clone()).collect(),
        curves: collected.curves()?,
        laws: Some(laws),
        notes,
        ..ReportInput::default()
    })))
}

/// A run's row; `None` when neither its specification nor a point tells its model.
fn run_row(run: &CollectedRun) -> Option<RunRow> {
    let last = run.points.iter().max_by_key(|p| p.tokens);
    let (model, params, seed) = match RunDocument::read(run.spec()) {
        Ok(RunDocument { run, .. }) => (run.model.name(), run.model.params(), run.seed),
        // Written by hand or by another version: its points say enough for a row.
        Err(_) => {
            let seed = last.map(|p| p.seed).or(run.seed()).unwrap_or(0);
            match (last.and_then(|p| p.shape).or(run.shape()), last) {
                (Some(shape), _) => (shape.to_string(), shape.params(), seed),
                (None, Some(point)) => (run.id().to_owned(), point.params, seed),
                (None, None) => return None,
            }
        }
    };
    let missing = || Measured::missing("the run has no finished point");
    let seconds = last.map_or_else(missing, |p| p.seconds.clone());
    let flops_per_s = match (last, seconds.value()) {
        (Some(p), Some(s)) if *s > 0.0 => Measured::measured(p.flops / s),
        _ => missing(),
    };
    let tokens_per_s = last.map_or_else(missing, |p| p.tokens_per_s.clone());
    Some(RunRow {
        run: run.id().to_owned(),
        model,
        params,
        seed,
        status: run.status.clone(),
        seconds,
        tokens_per_s,
        flops_per_s,
    })
}
