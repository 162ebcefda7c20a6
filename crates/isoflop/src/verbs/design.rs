//! `isoflop design`: which runs of a budget shrink the interval of the asked quantity most.
//!
//! Ladders of sizes with decayed branches and seeds (the shape of a study file) are tried one by one; for each, the
//! expected standard error follows from the Jacobian of the law at hand. The best is written as a study.

mod plans;
mod setting;
mod speed;

use super::fit::{How, read_points, user};
use crate::cli::Context;
use crate::console::{self, Place};
use anyhow::Context as _;
use isoflop_base::ModelShape;
use isoflop_base::units::{duration, parse_count, si};
use isoflop_lab::UserError;
use isoflop_laws::design::{Asked, Proposed, expected_se};
use isoflop_laws::forms::{self, Form};
use isoflop_laws::numeric::{Theta, theta_of};
use isoflop_laws::{Options, Table};
use plans::Plan;
use serde::Serialize;
use setting::Setting;
use speed::Budget;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `isoflop design`.
#[derive(Debug, clap::Args)]
pub(crate) struct DesignArgs {
    /// Tables of points already there; without one, the store's runs, or the published Chinchilla law if there are
    /// none.
    #[arg(value_name = "POINTS")]
    points: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    /// What may be spent: a time (2h) or FLOPs (1e15).
    #[arg(long, value_name = "BUDGET")]
    budget: String,
    /// Training speed, for a budget in time, e.g. 50e9 [default: as the store's finished runs were measured].
    #[arg(long, value_name = "FLOP/S")]
    flop_per_s: Option<String>,
    /// Sizes to choose from, e.g. L2-d32-h2,L3-d64-h4,L4-d112-h7 [default: those of --study, else a series from 14 k to
    /// 85 M parameters].
    #[arg(long, value_name = "SHAPES", value_delimiter = ',')]
    sizes: Vec<String>,
    /// Study whose corpus, recipe and sizes the proposal takes over [default: the built-in corpus].
    #[arg(long, value_name = "STUDY.toml")]
    study: Option<PathBuf>,
    /// What to pin down: alpha, beta, E, A, B, a, or `loss` at --params and --tokens; several, such as alpha,beta,E, by
    /// the geometric mean of their standard errors.
    #[arg(long, value_name = "QUANTITY", value_delimiter = ',', default_value = "alpha")]
    about: Vec<String>,
    /// Size at which the loss is asked for.
    #[arg(long, value_name = "N")]
    params: Option<String>,
    /// Tokens at which the loss is asked for.
    #[arg(long, value_name = "D")]
    tokens: Option<String>,
    /// No point at fewer tokens: where models have not yet begun to learn, no law holds.
    #[arg(long, value_name = "D")]
    least_tokens: Option<String>,
    /// Fewest sizes of a proposal [default: 3 of one's own, 4 of the built-in series].
    #[arg(long, value_name = "COUNT")]
    least_sizes: Option<usize>,
    /// Take the law from the rows there are, but plan as if they were not there.
    #[arg(long)]
    afresh: bool,
    /// Standard deviation of one run's ln loss, when no fit tells it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.005)]
    sigma: f64,
    /// Study file to write.
    #[arg(short = 'o', long, value_name = "STUDY.toml")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize)]
struct Proposal {
    models: Vec<String>,
    /// Seeds of each of them.
    seeds: Vec<usize>,
    tokens: u64,
    branches: Vec<u64>,
    flops: f64,
    /// Training time, where a speed is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// Expected standard error of the asked quantity (ln of it for positive constants and losses); of several, their
    /// geometric mean.
    expected_se: f64,
    /// Expected standard error of each.
    expected_se_of: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Answer {
    schema: &'static str,
    about: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_flops: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_seconds: Option<f64>,
    /// Where the speed behind a budget in time comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<String>,
    law: String,
    rows_there: usize,
    se_now: Option<f64>,
    how: String,
    proposals: Vec<Proposal>,
    /// The study of --study as it stands, beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    study: Option<Proposal>,
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
    let setting = Setting::of(&args, ctx)?;
    let budget = speed::budget(&args, ctx)?;
    let known = known(&args, ctx)?;
    let asked = asked(&args, known.form)?;
    let per_token = |shape: ModelShape| match &budget {
        Budget::Flops(_) => setting.flops_per_token(shape),
        Budget::Seconds(_, speed) => setting.flops_per_token(shape) / speed.at(shape.params() as f64),
    };
    let (Budget::Flops(limit) | Budget::Seconds(limit, _)) = &budget;
    let mut plans = plans::best(&setting, *limit, &per_token, &|plan| known.score(plan, &asked));
    plans.dedup_by(|(b, _), (a, _)| a.ladder == b.ladder && a.tokens == b.tokens);
    plans.truncate(5);
    let propose = |plan: &Plan| -> Option<Proposal> {
        let seconds = matches!(&budget, Budget::Seconds(..)).then(|| plan.cost(&setting, &per_token));
        let of = asked.iter().map(|(name, asked)| Some((name.clone(), known.expected_se(plan, asked)?)));
        Some(Proposal {
            models: plan.ladder.iter().map(ToString::to_string).collect(),
            seeds: plan.seeds.clone(),
            tokens: plan.tokens as u64,
            branches: plan.branches.iter().map(|b| *b as u64).collect(),
            flops: plan.cost(&setting, &|shape| setting.flops_per_token(shape)),
            seconds,
            expected_se: known.score(plan, &asked)?,
            expected_se_of: of.collect::<Option<_>>()?,
        })
    };
    let proposals: Vec<Proposal> = plans.iter().filter_map(|(plan, _)| propose(plan)).collect();
    let (Some((plan, _)), Some(best)) = (plans.first(), proposals.first().cloned()) else {
        return Err(UserError::new(format!("{} are too few for a ladder of sizes", words(&budget)))
            .hint(
                "give a larger budget, smaller sizes, or fewer by --least-sizes and --least-tokens; 1e13 FLOPs is a small one",
            )
            .into());
    };
    let (budget_flops, budget_seconds, speed) = match &budget {
        Budget::Flops(flops) => (Some(*flops), None, None),
        Budget::Seconds(seconds, speed) => (None, Some(*seconds), Some(speed.words.clone())),
    };
    let answer = Answer {
        schema: "isoflop.design/1",
        about: args.about.join(", "),
        budget_flops,
        budget_seconds,
        speed,
        law: known.words.clone(),
        rows_there: known.table.rows.len(),
        se_now: known.score_of(&[], &asked),
        how: "expected standard error from the law's Jacobian over the rows there and those proposed, one run's ln loss scattering by \
              sigma, with a weak prior (5 on logarithms, 0.5 on exponents)"
            .to_owned(),
        proposals,
        study: setting.as_it_stands.as_ref().and_then(propose),
    };
    let study = format!(
        "# Proposed by isoflop design for `{}` within {}: expected standard error {:.4}.\n{}",
        answer.about,
        words(&budget),
        best.expected_se,
        setting.study_file(plan)?
    );
    if let Some(path) = &args.output {
        if ctx.json && console::is_stdout(path) {
            return Err(UserError::new("--json and -o - both write to stdout")
                .hint("leave one of them out; the JSON document holds what the study is made of")
                .into());
        }
        if console::write_output(path, study.as_bytes())? == Place::Stdout {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("wrote {}", path.display());
    }
    if ctx.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        show(&answer, known.sigma, setting.most_tokens);
        if args.output.is_none() {
            println!("\n{study}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn words(budget: &Budget) -> String {
    match budget {
        Budget::Flops(flops) => format!("{} FLOPs", si(*flops)),
        Budget::Seconds(seconds, _) => duration(*seconds),
    }
}

impl Known {
    fn expected_se(&self, plan: &Plan, asked: &Asked) -> Option<f64> {
        expected_se(self.form, &self.theta, self.sigma, &self.table, &plan.rows(), asked)
    }

    /// Geometric mean of what is expected of each.
    fn score(&self, plan: &Plan, asked: &[(String, Asked)]) -> Option<f64> {
        self.score_of(&plan.rows(), asked)
    }

    fn score_of(&self, rows: &[Proposed], asked: &[(String, Asked)]) -> Option<f64> {
        let one = |asked| expected_se(self.form, &self.theta, self.sigma, &self.table, rows, asked);
        let logs: Option<Vec<f64>> = asked.iter().map(|(_, asked)| one(asked).map(libm::log)).collect();
        logs.map(|logs| libm::exp(logs.iter().sum::<f64>() / logs.len() as f64))
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
            table: if args.afresh { Table::default() } else { table },
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

fn asked(args: &DesignArgs, form: &Form) -> anyhow::Result<Vec<(String, Asked)>> {
    let size = |text: &Option<String>, flag: &str| -> anyhow::Result<f64> {
        let text = text.as_ref().ok_or_else(|| {
            UserError::new(format!("--about loss needs {flag}")).hint("give --params 10M --tokens 200M")
        })?;
        Ok(parse_count(text).map_err(UserError::from_error)?)
    };
    let one = |name: &str| -> anyhow::Result<Asked> {
        if name == "loss" {
            return Ok(Asked::Loss {
                n: size(&args.params, "--params")?,
                d: size(&args.tokens, "--tokens")?,
            });
        }
        if form.reported.iter().any(|r| r.name == name) {
            return Ok(Asked::Parameter(name.to_owned()));
        }
        let names: Vec<&str> = form.reported.iter().map(|r| r.name).collect();
        Err(UserError::new(format!("`{name}` is nothing the law has"))
            .hint(format!("one of {}, or loss", names.join(", ")))
            .into())
    };
    args.about.iter().map(|name| Ok((name.clone(), one(name)?))).collect()
}

fn show(answer: &Answer, sigma: f64, most_tokens: f64) {
    println!("law: {}; one run's ln loss scatters by {:.2} %", answer.law, 100.0 * sigma);
    let now = answer.se_now.filter(|_| answer.rows_there > 0);
    println!(
        "asked: {}; expected standard error now: {}",
        answer.about,
        now.map_or_else(|| "no rows yet".to_owned(), |s| format!("{s:.4}"))
    );
    if let Some(speed) = &answer.speed {
        println!("speed: {speed}");
    }
    if answer.proposals.iter().any(|p| p.tokens as f64 > 0.99 * most_tokens) {
        println!(
            "tokens end at one pass over the corpus, {}: some proposals leave part of the budget",
            si(most_tokens)
        );
    }
    println!("{:>10}  {:>5}  {:>4}  {:>8}  {:>9}  sizes", "std. error", "sizes", "runs", "tokens", "FLOPs");
    for p in &answer.proposals {
        row(p, "");
    }
    if let Some(p) = &answer.study {
        row(p, "  the study as it stands");
    }
    println!("how: {}", answer.how);
}

fn row(p: &Proposal, what: &str) {
    println!(
        "{:>10.4}  {:>5}  {:>4}  {:>8}  {:>9}  {} to {}{}{what}",
        p.expected_se,
        p.models.len(),
        p.seeds.iter().sum::<usize>(),
        si(p.tokens as f64),
        si(p.flops),
        p.models[0],
        p.models[p.models.len() - 1],
        p.seconds.map(|s| format!("  {}", duration(s))).unwrap_or_default()
    );
}
