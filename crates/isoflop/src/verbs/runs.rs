//! `isoflop runs`: what is in a store, read, compared, exported, removed.

mod compare;
mod instruments;
mod recipes;
mod show;
mod table;

use crate::{cli::Context, console};
use isoflop_base::{columns::Frame, nearest::nearest, units};
use isoflop_lab::{UserError, tables};
use isoflop_store::{Listing, RunSummary, Store, StoreError};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};
use table::Table;

/// Arguments of `isoflop runs`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the runs, smallest models first: status, N, D, loss, speed, time of training.
    Ls,
    /// One run: points, checkpoints, health, specification. Verifies every hash.
    Show {
        /// Run id, as `isoflop runs ls` lists it.
        id: String,
    },
    /// What differs between runs, and by how much their losses do, paired by held-out block; or between two recipes
    /// of many runs.
    Compare {
        /// Run ids, each compared with the first; or two patterns (`'old-*' 'new-*'`), each the runs of a recipe:
        /// paired by size and seed where they have the same seeds, with the compute multiplier.
        #[arg(required = true, num_args = 2.., value_name = "ID|PATTERN")]
        ids: Vec<String>,
        /// Nats per token from which on a difference between recipes counts.
        #[arg(long, default_value_t = 0.0, value_name = "NATS")]
        threshold: f64,
    },
    /// Writes points and curves as tables.
    Export {
        /// Run ids [default: all].
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Format of the tables.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        /// Columns of the points, in this order [default: all; in latex and markdown those a reader looks for].
        #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
        columns: Vec<String>,
        /// Where to write them [default: the store].
        #[arg(short, long = "out", value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Deletes runs with their checkpoints.
    Rm {
        /// Run ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Really delete.
        #[arg(long)]
        yes: bool,
    },
    /// Rebuilds the index, which is only a cache, from the run directories.
    Reindex,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
    Parquet,
    /// A table of the points for a paper, with booktabs.
    Latex,
    /// A table of the points for a page.
    Markdown,
}

/// What a table for people shows of each point unless other columns are asked for.
const SHOWN: &[&str] = &[
    "run",
    "params",
    "tokens",
    "flops",
    "loss",
    "loss_se",
    "seconds",
    "energy_j",
    "flops_per_joule",
    "peak_share",
];

/// What a command has to say: in JSON and in words.
struct Answer {
    json: Value,
    text: String,
    /// Notes for people, on stderr.
    notes: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: RunsArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let answer = answer(args.command, ctx).map_err(user_or_store_error)?;
    for note in &answer.notes {
        eprintln!("note: {note}");
    }
    let text = if ctx.json { serde_json::to_string_pretty(&answer.json)? + "\n" } else { answer.text };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn answer(command: Command, ctx: &Context) -> anyhow::Result<Answer> {
    let store = Store::open_existing(&ctx.store)?;
    match command {
        Command::Ls => Ok(listing(store.list()?, &store)),
        Command::Show { id } => show::show(&store, &id),
        Command::Compare { ids, threshold } if recipes::are_patterns(&ids) => {
            recipes::compare(&store, &ids, threshold)
        }
        Command::Compare { ids, .. } => compare::compare(&store, &ids),
        Command::Export { ids, format, columns, out } => export(&store, &ids, format, &columns, out),
        Command::Rm { ids, yes } => remove(&store, &ids, yes),
        Command::Reindex => reindex(&store),
    }
}

/// Names that do not exist are the user's to mend (exit code 2); damage and full disks are not (1).
fn user_or_store_error(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<StoreError>() {
        Some(
            e @ (StoreError::NoSuchRun { .. } | StoreError::NoSuchStore { .. } | StoreError::BadName { .. }),
        ) => UserError::from_error(e).into(),
        _ => error,
    }
}

fn listing(listing: Listing, store: &Store) -> Answer {
    let Listing { mut runs, notes } = listing;
    runs.sort_by(|a, b| (a.params, &a.id).cmp(&(b.params, &b.id)));
    let mut table = Table::new(&[
        ("run", false),
        ("status", false),
        ("N", true),
        ("D tokens", true),
        ("loss nats/token", true),
        ("points", true),
        ("tokens/s", true),
        ("time", true),
        ("when (UTC)", false),
    ]);
    for run in &runs {
        table.row(summary_cells(run));
    }
    let text = match runs.is_empty() {
        true => format!("no runs in {}\n", store.root().display()),
        false => table.to_string(),
    };
    Answer { json: json!({ "store": store.root(), "runs": runs, "notes": notes }), text, notes }
}

fn summary_cells(run: &RunSummary) -> Vec<String> {
    vec![
        run.id.clone(),
        run.status.word().to_owned(),
        table::or_dash(run.params.map(|n| units::si(n as f64))),
        table::or_dash(run.tokens.map(|n| units::si(n as f64))),
        table::or_dash(run.loss.map(|loss| table::loss(loss, run.loss_se))),
        run.num_points.to_string(),
        table::or_dash(run.tokens_per_s.map(units::si)),
        table::or_dash(run.cost.map(|cost| units::duration(cost.seconds))),
        table::or_dash((run.updated_unix_s > 0).then(|| table::utc(run.updated_unix_s))),
    ]
}

fn export(
    store: &Store,
    ids: &[String],
    format: Format,
    columns: &[String],
    out: Option<PathBuf>,
) -> anyhow::Result<Answer> {
    let collected = if ids.is_empty() { store.collect()? } else { store.collect_runs(ids)? };
    let (extension, write): (&str, fn(&Frame) -> Vec<u8>) = match format {
        Format::Csv => ("csv", isoflop_store::csv),
        Format::Json => ("json", isoflop_store::json),
        Format::Latex => ("tex", isoflop_store::latex),
        Format::Markdown => ("md", isoflop_store::markdown),
        Format::Jsonl => ("jsonl", isoflop_store::json_lines),
        Format::Parquet => ("parquet", tables::parquet),
    };
    let dir = out.unwrap_or_else(|| store.root().to_owned());
    console::directory(&dir, "--out")?;
    let for_people = matches!(format, Format::Latex | Format::Markdown);
    let mut points = collected.points_frame();
    let asked: Vec<&str> = match (columns.is_empty(), for_people) {
        (true, true) => SHOWN.to_vec(),
        _ => columns.iter().map(String::as_str).collect(),
    };
    if !asked.is_empty() {
        points = points.select(&asked).map_err(|unknown| no_column(unknown, &points))?;
    }
    let mut frames = vec![("points", points)];
    if !for_people {
        // Thousands of rows are no table for a page.
        frames.push(("curves", Frame::of_curves(&collected.curves()?)));
    }
    let mut files = Vec::new();
    for (name, frame) in frames {
        let path = dir.join(format!("{name}.{extension}"));
        isoflop_store::write_artifact(&path, &write(&frame))?;
        files.push(path);
    }
    let text = files.iter().map(|f| format!("wrote {}\n", f.display())).collect();
    Ok(Answer { json: json!({ "files": files }), text, notes: Vec::new() })
}

fn no_column(unknown: &str, points: &Frame) -> UserError {
    let names: Vec<&str> = points.columns.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(unknown, names.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the columns are {}", names.join(", ")),
    };
    UserError::new(format!("--columns {unknown}: points have no such column")).hint(hint)
}

fn remove(store: &Store, ids: &[String], yes: bool) -> anyhow::Result<Answer> {
    let ids: BTreeSet<&String> = ids.iter().collect();
    // All ids are looked up before the first run is deleted.
    let lines = ids.iter().map(|id| contents(store, id)).collect::<Result<Vec<_>, _>>()?;
    if !yes {
        let message = format!("this would delete\n  {}", lines.join("\n  "));
        return Err(UserError::new(message).hint("add --yes to delete them for good").into());
    }
    for id in &ids {
        store.remove_run(id)?;
    }
    let text = lines.iter().map(|l| format!("deleted {l}\n")).collect();
    Ok(Answer { json: json!({ "deleted": ids }), text, notes: Vec::new() })
}

/// What deleting a run would delete. A damaged one can be deleted too.
fn contents(store: &Store, id: &str) -> Result<String, StoreError> {
    let run = match store.read_run(id) {
        Err(StoreError::CorruptFile { .. }) => return Ok(format!("{id}: unreadable")),
        other => other?,
    };
    let points =
        run.points().map_or_else(|_| "unreadable points".to_owned(), |p| table::count(p.len(), "point"));
    let checkpoints = run.checkpoints()?.complete;
    let size: u64 = checkpoints.iter().map(|c| c.bytes).sum();
    let checkpoints = table::count(checkpoints.len(), "checkpoint");
    Ok(format!("{id}: {points}, {checkpoints} ({})", units::bytes(size)))
}

fn reindex(store: &Store) -> anyhow::Result<Answer> {
    let Listing { runs, notes } = store.reindex()?;
    Ok(Answer {
        json: json!({ "runs": runs.len(), "notes": notes }),
        text: format!("{} in the index of {}\n", table::count(runs.len(), "run"), store.root().display()),
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::{BlockLoss, Measured, Point, PointKind, Status};

    pub(super) fn point(run: &str, tokens: u64, block_losses: &[(f64, u64)]) -> Point {
        let (sum, n) = block_losses.iter().fold((0.0, 0), |(s, n), (x, t)| (s + x, n + t));
        Point {
            run: run.into(),
            kind: PointKind::Final,
            shape: "L2-d32-h2".parse().ok(),
            params: 24_576,
            params_total: 50_000,
            tokens,
            flops: 1e12,
            flops_6nd: 1e12,
            loss: sum / n as f64,
            loss_se: Some(0.01),
            bits_per_byte: None,
            epochs: 0.1,
            unique_tokens: tokens,
            steps: 100,
            batch_tokens: 2048,
            lr: 1e-3,
            schedule: "wsd".into(),
            init: "scaled".into(),
            context: Some(256),
            vocab: Some(256),
            seed: 1,
            precision: "f32".into(),
            kernels: "portable".into(),
            seconds: Measured::measured(1.5),
            tokens_per_s: Measured::measured(1e5),
            energy_j: Measured::missing("no meter"),
            peak_share: Measured::missing("no peak"),
            sources: Vec::new(),
            held_out: Vec::new(),
            arm: Default::default(),
            blocks: block_losses
                .iter()
                .enumerate()
                .map(|(i, &(sum, tokens))| BlockLoss { block: i as u32, sum, tokens })
                .collect(),
        }
    }

    fn two_runs() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for (id, lr, shift) in [("L2-d32-h2-s1", 0.001, 0.0), ("L2-d32-h2-s2", 0.002, 1.0)] {
            let mut run =
                store.create_or_open_run(id, &json!({ "train": { "lr": lr, "warmup": 0.05 } })).unwrap();
            run.add_point(1, &point(id, 6_000_000, &[(30.0 + shift, 10), (50.0 + shift, 10)])).unwrap();
            run.set_status(Status::Done).unwrap();
        }
        let ctx = Context { json: false, store: dir.path().to_owned(), store_given: true, sets: Vec::new() };
        (dir, ctx)
    }

    fn ask(ctx: &Context, command: Command) -> anyhow::Result<Answer> {
        answer(command, ctx).map_err(user_or_store_error)
    }

    #[test]
    fn ls_is_a_table_with_units() {
        let (_dir, ctx) = two_runs();
        let found = ask(&ctx, Command::Ls).unwrap();
        let lines: Vec<&str> = found.text.lines().collect();
        assert!(
            lines[0].starts_with("run           status       N  D tokens  loss nats/token"),
            "{}",
            lines[0]
        );
        assert!(
            lines[1].starts_with("L2-d32-h2-s1  done    24.6 k    6.00 M  4.0000 ± 0.0100"),
            "{}",
            lines[1]
        );
        assert_eq!(found.json["runs"][1]["status"], "done");
        assert_eq!(found.json["runs"][1]["loss"], 4.1);
    }

    #[test]
    fn show_and_compare_name_what_matters() {
        let (_dir, ctx) = two_runs();
        let shown = ask(&ctx, Command::Show { id: "L2-d32-h2-s1".into() }).unwrap();
        assert!(
            shown.text.contains("health: sound") && shown.text.contains("\"lr\": 0.001"),
            "{}",
            shown.text
        );
        assert!(shown.text.contains("energy missing (no meter)"), "{}", shown.text);
        assert_eq!(shown.json["points"][0]["tokens"], 6_000_000);

        let ids = ["L2-d32-h2-s1", "L2-d32-h2-s2"].map(String::from).to_vec();
        let compared = ask(&ctx, Command::Compare { ids, threshold: 0.0 }).unwrap();
        assert!(compared.text.contains("train.lr"), "{}", compared.text);
        assert!(!compared.text.contains("warmup"), "{}", compared.text);
        assert!(compared.text.contains("+0.1000 ± 0.0000"), "{}", compared.text);
    }

    #[test]
    fn recipes_are_compared_by_patterns() {
        let (_dir, ctx) = two_runs();
        let compare = |a: &str, b: &str, threshold| {
            ask(&ctx, Command::Compare { ids: vec![a.to_owned(), b.to_owned()], threshold })
        };
        let found = compare("*-s1", "*-s2", 0.0).unwrap();
        assert!((found.json["difference"]["value"].as_f64().unwrap() - 0.1).abs() < 1e-9, "{}", found.json);
        assert_eq!(found.json["recipes"][1]["runs"][0], "L2-d32-h2-s2");
        assert!(found.text.contains("cannot tell: two runs or more have an interval"), "{}", found.text);
        for (a, b, word) in [("*-s1", "*-s7", "no run matches"), ("*", "*-s2", "is in both recipes")] {
            let error = compare(a, b, 0.0).err().unwrap();
            assert!(crate::exit::code_of(&error) == 2 && error.to_string().contains(word), "{error}");
        }
        assert!(compare("*-s1", "*-s2", f64::NAN).is_err());
    }

    #[test]
    fn unknown_runs_and_stores_are_the_users_errors() {
        let (dir, ctx) = two_runs();
        let error = ask(&ctx, Command::Show { id: "L2-d32-h2".into() }).err().unwrap();
        assert_eq!(crate::exit::code_of(&error), 2);
        assert!(error.to_string().contains("nearest: `L2-d32-h2-s1`"), "{error}");
        let nowhere = Context { store: dir.path().join("none"), ..ctx };
        assert_eq!(crate::exit::code_of(&ask(&nowhere, Command::Ls).err().unwrap()), 2);
    }

    #[test]
    fn rm_asks_first() {
        let (dir, ctx) = two_runs();
        let ids = vec!["L2-d32-h2-s1".to_owned()];
        let error = ask(&ctx, Command::Rm { ids: ids.clone(), yes: false }).err().unwrap();
        assert!(error.to_string().contains("L2-d32-h2-s1: 1 point, 0 checkpoints"), "{error}");
        assert!(error.to_string().contains("hint: add --yes") && crate::exit::code_of(&error) == 2);
        let both = [ids.clone(), vec!["nothing".to_owned()]].concat();
        assert!(ask(&ctx, Command::Rm { ids: both, yes: true }).is_err());
        assert!(dir.path().join("L2-d32-h2-s1").exists());
        ask(&ctx, Command::Rm { ids, yes: true }).unwrap();
        assert!(!dir.path().join("L2-d32-h2-s1").exists());
        let left = ask(&ctx, Command::Reindex).unwrap();
        assert_eq!(left.json["runs"], 1);
    }

    #[test]
    fn export_goes_to_the_store_unless_told() {
        let (dir, ctx) = two_runs();
        let export_as = |format, columns: &[&str], out| {
            let columns = columns.iter().map(|c| c.to_string()).collect();
            Command::Export { ids: Vec::new(), format, columns, out }
        };
        let export = |out| export_as(Format::Csv, &[], out);
        ask(&ctx, export(None)).unwrap();
        assert!(dir.path().join("points.csv").exists());
        let found = ask(&ctx, export(Some(dir.path().join("out")))).unwrap();
        assert!(found.text.contains("out/curves.csv"), "{}", found.text);
        let written = |format, columns: &[&str], file: &str| {
            ask(&ctx, export_as(format, columns, None))
                .map(|_| std::fs::read_to_string(dir.path().join(file)).unwrap())
        };
        let table = written(Format::Markdown, &[], "points.md").unwrap();
        assert!(table.starts_with("| run | params | tokens | flops | loss |"), "{table}");
        let table = written(Format::Latex, &["run", "energy_from"], "points.tex").unwrap();
        assert!(table.contains("L2-d32-h2-s1 & missing: no meter \\\\"), "{table}");
        assert!(written(Format::Json, &["loss"], "points.json").unwrap().contains("\"loss\": 4.0"));
        let error = written(Format::Csv, &["lss"], "points.csv").unwrap_err();
        assert!(error.to_string().contains("did you mean `loss`?"), "{error}");
        assert_eq!(crate::exit::code_of(&error), 2);
    }
}
