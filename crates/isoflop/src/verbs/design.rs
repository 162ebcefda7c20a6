//! `isoflop design`: which runs of a budget shrink the interval of the asked quantity most.
//!
//! Ladders of sizes with decayed branches (the shape of a study file) are tried one by one; for each, the expected standard error
//! follows from the Jacobian of the law at hand. The best is written as a study.

use super::fit::{How, read_points, user};
use crate::cli::Context;
use crate::exit::UserError;
use anyhow::Context as _;
use isoflop_base::ModelShape;
use isoflop_base::units::{duration, parse_count, parse_seconds, si};
use isoflop_laws::design::{Asked, expected_se};
use isoflop_laws::forms::{self, Form};
use isoflop_laws::numeric::{Theta, theta_of};
use isoflop_laws::{Options, Table};
use isoflop_nn::ledger::{Convention, training_flops_per_token};
use isoflop_nn::{GptConfig, Init};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop design`.
#[derive(Debug, clap::Args)]
pub(crate) struct DesignArgs {
    /// Tables of points already there; without one, the store's runs, or the published Chinchilla law if there are none.
    #[arg(value_name = "POINTS")]
    points: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    /// What may be spent: a time (2h, with --flop-per-s) or FLOPs (1e15).
    #[arg(long, value_name = "BUDGET")]
    budget: String,
    /// Training speed, for a budget in time, e.g. 50e9.
    #[arg(long, value_name = "FLOP/S")]
    flop_per_s: Option<String>,
    /// What to pin down: alpha, beta, E, A, B, a, or `loss` at --params and --tokens.
    #[arg(long, value_name = "QUANTITY", default_value = "alpha")]
    about: String,
    /// Size at which the loss is asked for.
    #[arg(long, value_name = "N")]
    params: Option<String>,
    /// Tokens at which the loss is asked for.
    #[arg(long, value_name = "D")]
    tokens: Option<String>,
    /// Standard deviation of one run's ln loss, when no fit tells it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    sigma: f64,
    /// Study file to write.
    #[arg(short = 'o', long, value_name = "STUDY.toml")]
    output: Option<PathBuf>,
}

/// Context and vocabulary of the proposed study: the built-in corpus.
const CONTEXT: usize = 256;
const VOCAB: usize = 256;
/// Two decayed side branches of a fifth each cost about this much more than the trunk.
const BRANCH_COST: f64 = 1.15;
/// Most training tokens proposed: one pass over the built-in corpus.
const MOST_TOKENS: f64 = 12e6;

#[derive(Debug, Clone, Serialize)]
struct Proposal {
    models: Vec<String>,
    tokens: u64,
    branches: Vec<u64>,
    flops: f64,
    /// Expected standard error of the asked quantity (ln of it for positive constants and losses).
    expected_se: f64,
}

#[derive(Debug, Serialize)]
struct Answer {
    schema: &'static str,
    about: String,
    budget_flops: f64,
    law: String,
    rows_there: usize,
    se_now: Option<f64>,
    how: String,
    proposals: Vec<Proposal>,
}

/// The law the design is made with.
struct Known {
    form: &'static Form,
    theta: Theta,
    sigma: f64,
    table: Table,
    words: String,
}

/// Runs the verb.
pub(crate) fn run(args: DesignArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let budget = budget(&args)?;
    let known = known(&args, ctx)?;
    let asked = asked(&args, known.form)?;
    let mut proposals: Vec<Proposal> = candidates(budget)
        .into_iter()
        .filter_map(|(shapes, tokens)| propose(&known, &asked, &shapes, tokens))
        .collect();
    proposals.sort_by(|a, b| a.expected_se.total_cmp(&b.expected_se));
    proposals.dedup_by(|b, a| a.models == b.models && a.tokens == b.tokens);
    proposals.truncate(5);
    let Some(best) = proposals.first().cloned() else {
        return Err(UserError::new(format!("{} FLOPs are too few for a ladder of four sizes", si(budget)))
            .hint("give a larger budget; 1e13 FLOPs is a small one")
            .into());
    };
    let answer = Answer {
        schema: "isoflop.design/1",
        about: args.about.clone(),
        budget_flops: budget,
        law: known.words.clone(),
        rows_there: known.table.rows.len(),
        se_now: expected_se(known.form, &known.theta, known.sigma, &known.table, &[], &asked),
        how: "expected standard error from the law's Jacobian over the rows there and those proposed, one run's ln loss scattering by \
              sigma, with a weak prior (5 on logarithms, 0.5 on exponents)"
            .to_owned(),
        proposals,
    };
    let study = study_file(&best, &answer);
    if let Some(path) = &args.output {
        isoflop_store::write_artifact(path, study.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        show(&answer, known.sigma);
        if args.output.is_none() {
            println!("\n{study}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn budget(args: &DesignArgs) -> anyhow::Result<f64> {
    let text = args.budget.trim();
    let timed = text.ends_with(['s', 'm', 'h', 'd']);
    let flops = if timed {
        let seconds = parse_seconds(text).map_err(UserError::from_error)?;
        let Some(speed) = &args.flop_per_s else {
            return Err(UserError::new(format!("a budget of {} needs a speed", duration(seconds)))
                .hint("give --flop-per-s 50e9 (see `isoflop bench`), or the budget in FLOPs")
                .into());
        };
        seconds * parse_count(speed).map_err(UserError::from_error)?
    } else {
        parse_count(text).map_err(UserError::from_error)?
    };
    if flops > 0.0 {
        Ok(flops)
    } else {
        Err(UserError::new("the budget is zero").hint("write 2h or 1e15").into())
    }
}

/// The law fitted to the rows there are, else the published one.
fn known(args: &DesignArgs, ctx: &Context) -> anyhow::Result<Known> {
    let form = forms::by_id("l_nd_chinchilla").map_err(user)?[0];
    let rows = match read_points(&args.points, &args.how, ctx) {
        Ok(table) => Some(table),
        Err(_) if args.points.is_empty() => None,
        Err(error) => return Err(error),
    };
    // A store with a few runs is a beginning; a table that was named is meant.
    if let Some(table) = rows.as_ref().filter(|_| !args.points.is_empty()) {
        form.check(table).map_err(user)?;
    }
    if let Some(table) = rows.filter(|t| form.check(t).is_ok()) {
        let options = Options {
            forms: vec![form.id.to_owned()],
            bootstrap: 0,
            dense: false,
            holdout: false,
            ..args.how.options()
        };
        let document = isoflop_laws::fit(&table, &options).map_err(user)?;
        let record = document.fits.first().context("a fit of one form is one record")?;
        return Ok(Known {
            form,
            theta: theta_of(&record.state.theta),
            sigma: record.state.sigma.unwrap_or(args.sigma).max(1e-6),
            words: format!("fitted to {} rows", record.rows_used),
            table,
        });
    }
    // Besiroglu et al. 2024 (arXiv 2404.10102): E 1.8172, A 482.0, B 2085.4, alpha 0.3478, beta 0.3658.
    let theta = theta_of(&[482.0f64.ln(), 2085.4f64.ln(), 1.8172f64.ln(), 0.3478, 0.3658]);
    Ok(Known {
        form,
        theta,
        sigma: args.sigma,
        table: Table::default(),
        words: "no rows to fit: the published Chinchilla law (arXiv 2404.10102), for a first design only"
            .to_owned(),
    })
}

fn asked(args: &DesignArgs, form: &Form) -> anyhow::Result<Asked> {
    let size = |text: &Option<String>, flag: &str| -> anyhow::Result<f64> {
        let text = text.as_ref().ok_or_else(|| {
            UserError::new(format!("--about loss needs {flag}")).hint("give --params 10M --tokens 200M")
        })?;
        Ok(parse_count(text).map_err(UserError::from_error)?)
    };
    if args.about == "loss" {
        return Ok(Asked::Loss { n: size(&args.params, "--params")?, d: size(&args.tokens, "--tokens")? });
    }
    if form.reported.iter().any(|r| r.name == args.about) {
        return Ok(Asked::Parameter(args.about.clone()));
    }
    let names: Vec<&str> = form.reported.iter().map(|r| r.name).collect();
    Err(UserError::new(format!("`{}` is nothing the law has", args.about))
        .hint(format!("one of {}, or loss", names.join(", ")))
        .into())
}

/// Shapes a ladder is built from, about √2 apart in width.
fn shapes() -> Vec<ModelShape> {
    [
        (2, 24),
        (2, 32),
        (2, 48),
        (3, 64),
        (4, 80),
        (4, 112),
        (5, 160),
        (6, 224),
        (8, 320),
        (10, 448),
        (12, 640),
        (12, 768),
    ]
    .into_iter()
    .map(|(n_layer, d_model)| ModelShape { n_layer, d_model, n_head: (d_model / 16).max(2) })
    .collect()
}

fn flops_per_token(shape: ModelShape) -> f64 {
    let config = GptConfig { shape, vocab: VOCAB, context: CONTEXT, init: Init::Scaled };
    training_flops_per_token(&config, Convention::Exact)
}

/// Every ladder of at least four sizes (first, last, every or every second) with the tokens the budget then allows.
fn candidates(budget: f64) -> Vec<(Vec<ModelShape>, f64)> {
    let all = shapes();
    let mut out = Vec::new();
    for step in [1, 2] {
        for first in 0..all.len() {
            for last in first..all.len() {
                let ladder: Vec<ModelShape> = all[first..=last].iter().step_by(step).copied().collect();
                if ladder.len() < 4 {
                    continue;
                }
                let per_token: f64 = ladder.iter().map(|s| flops_per_token(*s)).sum::<f64>() * BRANCH_COST;
                let tokens = (budget / per_token).min(MOST_TOKENS);
                // Fewer tokens than 200 steps of the default batch teach nothing.
                if tokens >= 400_000.0 {
                    out.push((ladder, tokens));
                }
            }
        }
    }
    out
}

fn propose(known: &Known, asked: &Asked, ladder: &[ModelShape], tokens: f64) -> Option<Proposal> {
    let whole = (tokens / 4096.0).floor() * 4096.0;
    let branches = [whole / 4.0, whole / 2.0];
    let runs: Vec<(f64, f64)> = ladder
        .iter()
        .flat_map(|s| branches.into_iter().chain([whole]).map(|d| (s.params() as f64, d)))
        .collect();
    let se = expected_se(known.form, &known.theta, known.sigma, &known.table, &runs, asked)?;
    Some(Proposal {
        models: ladder.iter().map(ToString::to_string).collect(),
        tokens: whole as u64,
        branches: branches.map(|b| b as u64).to_vec(),
        flops: ladder.iter().map(|s| flops_per_token(*s)).sum::<f64>() * BRANCH_COST * whole,
        expected_se: se,
    })
}

fn study_file(best: &Proposal, answer: &Answer) -> String {
    let models: Vec<String> = best.models.iter().map(|m| format!("\"{m}\"")).collect();
    let branches: Vec<String> = best.branches.iter().map(|b| format!("\"{b}\"")).collect();
    format!(
        "# Proposed by isoflop design for `{}` within {} FLOPs: expected standard error {:.4}.\n\
         name = \"designed\"\nkind = \"scaling\"\n\n[data]\ncorpus = \"builtin\"\n\n[series]\nmodels = [{}]\ntokens = \"{}\"\n\
         branches = [{}]\nseeds = [1]\n\n[train]\ncontext = {CONTEXT}\nschedule = \"wsd\"\n",
        answer.about,
        si(answer.budget_flops),
        best.expected_se,
        models.join(", "),
        best.tokens,
        branches.join(", ")
    )
}

fn show(answer: &Answer, sigma: f64) {
    println!("law: {}; one run's ln loss scatters by {:.2} %", answer.law, 100.0 * sigma);
    let now = answer.se_now.filter(|_| answer.rows_there > 0);
    println!(
        "asked: {}; expected standard error now: {}",
        answer.about,
        now.map_or_else(|| "no rows yet".to_owned(), |s| format!("{s:.4}"))
    );
    println!("{:>10}  {:>6}  {:>9}  {:>9}  sizes", "std. error", "sizes", "tokens", "FLOPs");
    for p in &answer.proposals {
        println!(
            "{:>10.4}  {:>6}  {:>9}  {:>9}  {} to {}",
            p.expected_se,
            p.models.len(),
            si(p.tokens as f64),
            si(p.flops),
            p.models[0],
            p.models[p.models.len() - 1]
        );
    }
    println!("how: {}", answer.how);
}
