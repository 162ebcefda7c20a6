//! `isoflop init`: a study drafted for what is at a path and for this machine.

use crate::cli::Context;
use crate::{console, signals};
use isoflop_lab::draft::{self, Found};
use isoflop_lab::study::resolve;
use isoflop_lab::{UserError, machine, open, plan};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `isoflop init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Text, token files, what `prepare` made, class folders of pictures, or a table of losses [default: the built-in
    /// text].
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// The file to write, `-` for stdout [default: NAME.toml here].
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The study's name [default: that of the path].
    #[arg(long)]
    name: Option<String>,
    /// Minutes the study should take here.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

/// What was done, for `--json`.
#[derive(Debug, Serialize)]
struct Drafted {
    schema: &'static str,
    /// What was found at the path.
    found: &'static str,
    /// The file that was written, if one was.
    study: Option<PathBuf>,
    /// Why these sizes and tokens.
    why: Option<String>,
    /// Commands to go on with.
    next: Vec<String>,
    /// What the study will cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<plan::Plan>,
}

/// Runs the verb.
pub(crate) fn run(args: InitArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if !(args.minutes > 0.0 && args.minutes.is_finite()) {
        return Err(UserError::new(format!("--minutes {} is no time", args.minutes))
            .hint("give a number above 0, e.g. --minutes 10")
            .into());
    }
    let found = draft::look(args.path.as_deref())?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => args.path.as_deref().map_or_else(|| "first-law".to_owned(), draft::name_of),
    };
    resolve::check_name(&name, "--name")?;
    if ctx.json && args.out.as_deref().is_some_and(console::is_stdout) {
        return Err(UserError::new("--json and --out - both want stdout")
            .hint("name a file with --out, or leave --json out")
            .into());
    }
    let shown = args.path.as_deref().map(quoted).unwrap_or_default();
    let drafted = match &found {
        Found::Documents(_) => Drafted::first(
            "documents",
            vec![
                format!("isoflop prepare {shown} --out {name}-tokens"),
                format!("isoflop init {name}-tokens"),
            ],
        ),
        Found::Table { .. } => {
            Drafted::first("table", vec![format!("isoflop fit {shown}"), format!("isoflop report {shown}")])
        }
        Found::Pictures { folder, classes, smallest } => {
            let file = place(&args, &name)?;
            write(&file, &draft::pictures(&name, folder, *classes, *smallest))?;
            let next = ["plan", "run"].map(|verb| format!("isoflop fewshot {verb} {}", quoted(&file)));
            Drafted { study: Some(file), ..Drafted::first("pictures", next.to_vec()) }
        }
        _ => series(&args, ctx, &found, &name)?,
    };
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&drafted)?);
    } else {
        say(&drafted, &found);
    }
    Ok(ExitCode::SUCCESS)
}

impl Drafted {
    fn first(found: &'static str, next: Vec<String>) -> Self {
        Self { schema: "isoflop.init/1", found, study: None, why: None, next, plan: None }
    }
}

/// A study of language models.
fn series(args: &InitArgs, ctx: &Context, found: &Found, name: &str) -> anyhow::Result<Drafted> {
    let file = place(args, name)?;
    let stop = signals::listen()?;
    let machine = machine::machine()?;
    eprintln!("{} kernels, {} threads; timing sizes for a moment …", machine.kernels, machine.threads);
    let series = draft::choose(found, &machine, args.minutes, &ctx.store, &stop)?;
    let text = draft::text(name, found, &series);
    write(&file, &text)?;
    // The plan of the very file: what it says is what will run.
    let plan = if console::is_stdout(&file) {
        None
    } else {
        Some(plan::plan(&open::open(&file, &[])?.study, &series.speeds)?)
    };
    let what = match found {
        Found::Builtin => "built-in text",
        Found::Text(_) => "text",
        Found::Tokens { .. } => "token files",
        _ => "prepared tokens",
    };
    Ok(Drafted {
        schema: "isoflop.init/1",
        found: what,
        why: Some(series.why),
        next: vec![format!("isoflop run {}", quoted(&file))],
        study: Some(file),
        plan,
    })
}

fn say(drafted: &Drafted, found: &Found) {
    match found {
        Found::Documents(path) => eprintln!("{}: documents; tokens are made of them first", path.display()),
        Found::Table { path, rows } => {
            eprintln!("{}: a table with {rows} losses; laws are fitted to it at once", path.display())
        }
        Found::Pictures { folder, classes, smallest } => {
            eprintln!("{}: {classes} classes of pictures, the smallest of {smallest}", folder.display());
        }
        _ => {}
    }
    if let Some(plan) = &drafted.plan {
        print!("{}", plan.text());
    }
    if let Some(file) = drafted.study.as_ref().filter(|file| !console::is_stdout(file)) {
        let why = drafted.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        eprintln!("\nwrote {}{why}", file.display());
    }
    for command in &drafted.next {
        eprintln!("next: {command}");
    }
}

/// Where the study goes.
fn place(args: &InitArgs, name: &str) -> Result<PathBuf, UserError> {
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    if !args.force && file.is_file() {
        return Err(UserError::new(format!("{}: there already", file.display()))
            .hint("name another with --out, or replace it with --force"));
    }
    Ok(file)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    console::write_output(file, text.as_bytes()).map(|_| ())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+~%@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
