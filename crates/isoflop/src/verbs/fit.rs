//! `isoflop fit`: laws from runs, or from any table of points.

use crate::cli::Context;
use crate::console::{self, Place};
use anyhow::Context as _;
use isoflop_base::units::parse_count;
use isoflop_lab::{UserError, collect, input};
use isoflop_laws::{
    CriticalBatch, Decimal, LawDocument, LawError, Loss, Options, ReadOptions, Table, critical, forms, text,
};
use isoflop_store::Store;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `isoflop fit`.
#[derive(Debug, clap::Args)]
pub(crate) struct FitArgs {
    /// Tables of points: CSV, TSV, JSON Lines, Parquet. Without one, the finished runs of the store are fitted.
    #[arg(value_name = "POINTS")]
    pub(crate) points: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
    /// Print LaTeX instead of a table for people.
    #[arg(long)]
    latex: bool,
    /// Print the figures Kaplan et al. derive from their constants, computed beside printed, and nothing else.
    #[arg(long)]
    kaplan: bool,
    /// Also write the JSON document to this file; `-` is stdout, and people's text then goes to stderr.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How to read and fit; shared with `predict` and `design`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct How {
    /// Law to fit, e.g. l_n, l_d, l_c, l_nd_chinchilla; may be repeated. `all` is what the columns allow.
    #[arg(long = "form", value_name = "NAME")]
    pub(crate) forms: Vec<String>,
    /// Penalty on the residuals of ln loss (`mse-raw` and `asymmetric`: of the loss itself).
    #[arg(long, value_name = "PENALTY", default_value = "huber", value_parser = ["huber", "mse", "mse-raw", "asymmetric"])]
    pub(crate) loss: String,
    /// Where Huber's penalty turns linear, in ln loss.
    #[arg(long, value_name = "DELTA", default_value_t = 1e-3)]
    pub(crate) delta: f64,
    /// Bootstrap refits (made from 20 runs on).
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) bootstrap: usize,
    /// Which column is which, e.g. `--column loss=c4_val`, with a factor where its unit is not understood: `--column
    /// 'n=size (GP)*1e9'`; may be repeated.
    #[arg(long = "column", value_name = "NAME=HEADER")]
    pub(crate) columns: Vec<String>,
    /// Column whose rows share their luck and count as one piece of evidence together [default: the column of runs].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) cluster: Option<String>,
    /// The mark before decimals, where a table's cells do not tell: point or comma.
    #[arg(long, value_name = "MARK", value_parser = ["point", "comma"])]
    pub(crate) decimal: Option<String>,
    /// How N and C are counted, where the columns allow a choice.
    #[arg(long, value_name = "NAME", default_value = "as-given",
          value_parser = ["as-given", "kaplan", "total", "chinchilla", "exact", "6nd"])]
    pub(crate) convention: String,
    /// Weigh rows by their standard errors: where every row has its own (auto), never (none), or an error if not (se).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = ["auto", "none", "se"])]
    pub(crate) weights: String,
    /// Law of the critical batch, by which C_min and S_min of runs at a known batch are computed (for l_cmin and
    /// l_ns): `B*,alpha_B` in tokens, `kaplan` (2e8,0.21), or `fit` (to the rows that have a column b_crit).
    #[arg(long, value_name = "LAW")]
    pub(crate) b_crit: Option<String>,
    /// Level of the intervals.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub(crate) level: f64,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 20_220_329)]
    pub(crate) seed: u64,
    /// Leave the largest rows out once and forecast them: yes or no.
    #[arg(long, value_name = "YES|NO", default_value = "yes", value_parser = ["yes", "no"])]
    pub(crate) holdout: String,
    /// Use only rows whose column has this value, e.g. `--where dataset=rw`; may be repeated.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    pub(crate) wheres: Vec<String>,
}

impl How {
    /// The options of the fit.
    pub(crate) fn options(&self) -> Options {
        let loss = match self.loss.as_str() {
            "mse" => Loss::Mse,
            "mse-raw" => Loss::RawMse,
            "asymmetric" => Loss::Asymmetric,
            _ => Loss::Huber,
        };
        Options {
            forms: self.forms.clone(),
            loss,
            delta: self.delta,
            bootstrap: self.bootstrap,
            level: self.level,
            seed: self.seed,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            holdout: self.holdout == "yes",
            ..Options::default()
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: FitArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if args.kaplan {
        return kaplan(ctx);
    }
    let options = args.how.options();
    for name in options.forms.iter().filter(|f| f.as_str() != "all") {
        if !forms::is_known(name) {
            return Err(UserError::from_error(forms::unknown(name)).into());
        }
    }
    let table = read_points(&args.points, &args.how, ctx)?;
    let document = fit_with_signs(&table, &options)?;
    let json = to_json(&document)?;
    let words = if args.latex { text::latex(&document) } else { text::document(&document) };
    let mut place = Place::Path;
    if let Some(path) = &args.output {
        place = console::write_output(path, format!("{json}\n").as_bytes())?;
        if place == Place::Path {
            eprintln!("wrote {}", path.display());
        }
    }
    match (place, ctx.json) {
        (Place::Stdout, true) => {}
        (Place::Stdout, false) => eprint!("{words}"),
        (Place::Path, true) => println!("{json}"),
        (Place::Path, false) => print!("{words}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The fit, with a line for each form on a terminal once it has taken longer than anyone waits without a sign.
pub(crate) fn fit_with_signs(table: &Table, options: &Options) -> anyhow::Result<LawDocument> {
    const PATIENCE_S: f64 = 2.0;
    let begun = std::time::Instant::now();
    let watched = std::io::stderr().is_terminal();
    let document = isoflop_laws::fit_watched(table, options, &mut |p| {
        if watched && begun.elapsed().as_secs_f64() > PATIENCE_S {
            eprintln!("fitting {} ({} of {} forms, {} rows)", p.form, p.done + 1, p.of, table.rows.len());
        }
    });
    document.map_err(user)
}

fn kaplan(ctx: &Context) -> anyhow::Result<ExitCode> {
    use isoflop_laws::kaplan_figures::{PUBLISHED, derived};
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&derived(&PUBLISHED))?);
    } else {
        print!("{}", text::kaplan());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every error of a fit is about what it was given.
pub(crate) fn user(error: LawError) -> anyhow::Error {
    UserError::from_error(error).into()
}

pub(crate) fn to_json(document: &LawDocument) -> anyhow::Result<String> {
    serde_json::to_string_pretty(document).context("cannot write the law document as JSON")
}

/// The table of the files, or of the store's runs if there is none.
pub(crate) fn read_points(paths: &[PathBuf], how: &How, ctx: &Context) -> anyhow::Result<Table> {
    let mut table = match paths {
        [] => from_store(ctx)?,
        [one] => from_file(one, how)?,
        many => {
            let mut all = from_file(&many[0], how)?;
            for path in &many[1..] {
                all.append(from_file(path, how)?);
            }
            all.without_copies()
        }
    };
    table.not_empty().map_err(user)?;
    for condition in &how.wheres {
        let (column, value) = pair(condition, "--where", "dataset=rw")?;
        table = table.with_value(column, value);
        if table.rows.is_empty() {
            return Err(UserError::new(format!("no row has {column} = {value}"))
                .hint("check the column's name and the value's spelling")
                .into());
        }
    }
    if let Some(column) = &how.cluster {
        table = table.clustered_by(column).map_err(user)?;
    }
    let mut table = convention(table, &how.convention)?;
    if let Some(text) = &how.b_crit {
        let law = critical_batch(text, &table)?;
        table = critical::converted(&table, &law).map_err(user)?;
    }
    match (how.weights.as_str(), table.weighted_by_se()) {
        ("none", _) | ("auto", None) => Ok(table),
        (_, Some(weighted)) => Ok(weighted),
        (_, None) => Err(UserError::new("--weights se: not every row has a standard error of its own")
            .hint("map its column with --column loss_se=NAME; rows scored on the same held-out tokens share theirs")
            .into()),
    }
}

fn from_file(path: &Path, how: &How) -> anyhow::Result<Table> {
    let mut columns = Vec::new();
    for mapping in &how.columns {
        let (name, header) = pair(mapping, "--column", "loss=val_loss")?;
        columns.push((name.to_owned(), header.to_owned()));
    }
    let mut options = ReadOptions {
        columns,
        name: input::name(path),
        loss_optional: !forms::need_loss(&how.forms),
        decimal: how.decimal.as_deref().map(|mark| match mark {
            "comma" => Decimal::Comma,
            _ => Decimal::Point,
        }),
    };
    // Read once: a pipe has nothing to say twice.
    let bytes = isoflop_lab::tables::bytes(path)?;
    let read = isoflop_lab::tables::read(&bytes, &options);
    if read.is_err() && how.forms.is_empty() {
        // Steps against batch sizes, or optima against budgets, have laws of their own.
        options.loss_optional = true;
        if let Some(table) = isoflop_lab::tables::read(&bytes, &options).ok().filter(forms::fits_without_loss)
        {
            return Ok(table);
        }
    }
    read
}

fn pair<'a>(text: &'a str, flag: &str, example: &str) -> anyhow::Result<(&'a str, &'a str)> {
    text.split_once('=').filter(|(a, b)| !a.is_empty() && !b.is_empty()).ok_or_else(|| {
        UserError::new(format!("`{flag} {text}` has no name on both sides of `=`"))
            .hint(format!("write {flag} {example}"))
            .into()
    })
}

fn critical_batch(text: &str, table: &Table) -> anyhow::Result<CriticalBatch> {
    match text {
        "kaplan" => Ok(CriticalBatch::kaplan()),
        "fit" => CriticalBatch::of_table(table).map_err(user),
        constants => {
            let parts = constants.split_once(',').and_then(|(b, alpha)| {
                Some((parse_count(b.trim()).ok()?, alpha.trim().parse::<f64>().ok()?))
            });
            let (b_star, alpha) = parts.ok_or_else(|| {
                UserError::new(format!("--b-crit {constants} is no law of the critical batch")).hint(
                    "write --b-crit 2e8,0.21 (B* in tokens, then alpha_B), --b-crit kaplan or --b-crit fit",
                )
            })?;
            Ok(CriticalBatch { b_star, alpha, source: "as given".to_owned() })
        }
    }
}

fn from_store(ctx: &Context) -> anyhow::Result<Table> {
    let none = || {
        UserError::new(format!("no finished run in {}", ctx.store.display()))
            .hint("name a table of points, such as points.csv, or --store DIR with finished runs")
    };
    let store = Store::open_existing(&ctx.store).map_err(|_| none())?;
    let collected = store.collect()?;
    if collected.points().next().is_none() {
        return Err(none().into());
    }
    Ok(collect::table(&collected))
}

fn convention(table: Table, name: &str) -> anyhow::Result<Table> {
    let missing = |what: &str| {
        UserError::new(format!("--convention {name}: the rows do not say {what}"))
            .hint("leave --convention out to take the columns as they are")
    };
    match name {
        "total" | "chinchilla" => table
            .with_total_params()
            .ok_or_else(|| missing("their total parameters (column params_total)").into()),
        "6nd" => table.with_6nd().ok_or_else(|| missing("both N and D").into()),
        "kaplan" if table.n_convention == "as given" => {
            let mut table = table;
            "kaplan".clone_into(&mut table.n_convention);
            Ok(table)
        }
        _ => Ok(table),
    }
}
