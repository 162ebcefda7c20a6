//! The command line: global options, one variant per verb, and the way to each verb's module.

use crate::verbs;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory as _, Parser, Subcommand};
use isoflop_base::Word;
use std::{path::PathBuf, process::ExitCode};

/// A scaling-law laboratory: trains a series of language models on the hardware at hand, keeps an exact
/// ledger of what every run cost, and fits the laws of the literature with honest intervals.
#[derive(Debug, Parser)]
#[command(name = "isoflop", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 diverged, 4 a run is held by another process, \
                  5 stopped by a limit or an alarm and saved, 130/143 interrupted and saved."
)]
pub(crate) struct Cli {
    /// Print one JSON document on stdout and nothing else there; people's text goes to stderr.
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    /// Where runs are kept [default: ./runs; for `demo`, `runs` inside --out].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    store: Option<PathBuf>,
    /// Override one key of the study, e.g. `--set train.lr=3e-3`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = "Everywhere")]
    sets: Vec<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains a series on the built-in corpus and draws its law; needs no argument.
    Demo(verbs::demo::DemoArgs),
    /// Drafts a study for your text, tokens or pictures, and for this machine.
    Init(verbs::init::InitArgs),
    /// Runs the study in a file; the same command resumes it.
    Run(verbs::run::RunArgs),
    /// Says what a study will cost before anything runs.
    Plan(verbs::plan::PlanArgs),
    /// Validation loss of a checkpoint on held-out tokens.
    Eval(verbs::eval::EvalArgs),
    /// Text from a checkpoint.
    Sample(verbs::sample::SampleArgs),
    /// Fits laws to runs or to a table of points.
    Fit(verbs::fit::FitArgs),
    /// A forecast with an interval for a size, budget or token count.
    Predict(verbs::predict::PredictArgs),
    /// Which runs to do with a fixed budget.
    Design(verbs::design::DesignArgs),
    /// The HTML page of a store's runs.
    Report(verbs::report::ReportArgs),
    /// Lists, shows, compares, exports and removes runs.
    Runs(verbs::runs::RunsArgs),
    /// A live page of a store's runs, on this machine's own address.
    Watch(verbs::watch::WatchArgs),
    /// The same in the terminal: bars, curves, power, alarms.
    Top(verbs::top::TopArgs),
    /// Makes token shards of text, JSON Lines, Parquet, CSV or TSV, packed or not.
    Prepare(verbs::prepare::PrepareArgs),
    /// Makes, uses and looks at tokenisers.
    Tokenizer(verbs::tokenizer::TokenizerArgs),
    /// Few-shot learning: prototypes against attention, on pictures.
    Fewshot(verbs::fewshot::FewShotArgs),
    /// Checks the arithmetic of any reported run.
    Audit(verbs::audit::AuditArgs),
    /// What this machine is and which kernels were chosen.
    Doctor(verbs::doctor::DoctorArgs),
    /// Measures the engine against the machine's limits.
    Bench(verbs::bench::BenchArgs),
    /// Whether what was tuned at one size may be used at another.
    Check(verbs::check::CheckArgs),
    /// What a shell needs to complete commands: `isoflop completions bash > isoflop.bash`.
    Completions(verbs::shell::CompletionsArgs),
    /// The manual pages.
    Man(verbs::shell::ManArgs),
}

/// Reads one of a choice's words, and shows all of them in the help.
pub(crate) fn word<T: Word>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS).map(|word| T::from_word(&word).expect("one of the words"))
}

/// What every verb is told besides its own arguments.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// One JSON document on stdout, people's text on stderr.
    pub(crate) json: bool,
    /// Where runs are kept.
    pub(crate) store: PathBuf,
    /// Whether `--store` was given, for verbs with another default.
    pub(crate) store_given: bool,
    /// `key=value` overrides of study keys, in order.
    pub(crate) sets: Vec<String>,
}

impl Cli {
    /// Runs the verb.
    pub(crate) fn dispatch(self) -> anyhow::Result<ExitCode> {
        let ctx = Context {
            json: self.json,
            store_given: self.store.is_some(),
            store: self.store.unwrap_or_else(|| PathBuf::from("runs")),
            sets: self.sets,
        };
        match self.verb {
            Verb::Demo(args) => verbs::demo::run(args, &ctx),
            Verb::Init(args) => verbs::init::run(args, &ctx),
            Verb::Run(args) => verbs::run::run(args, &ctx),
            Verb::Plan(args) => verbs::plan::run(args, &ctx),
            Verb::Eval(args) => verbs::eval::run(args, &ctx),
            Verb::Sample(args) => verbs::sample::run(args, &ctx),
            Verb::Fit(args) => verbs::fit::run(args, &ctx),
            Verb::Predict(args) => verbs::predict::run(args, &ctx),
            Verb::Design(args) => verbs::design::run(args, &ctx),
            Verb::Report(args) => verbs::report::run(args, &ctx),
            Verb::Runs(args) => verbs::runs::run(args, &ctx),
            Verb::Watch(args) => verbs::watch::run(args, &ctx),
            Verb::Top(args) => verbs::top::run(args, &ctx),
            Verb::Prepare(args) => verbs::prepare::run(args, &ctx),
            Verb::Tokenizer(args) => verbs::tokenizer::run(args, &ctx),
            Verb::Fewshot(args) => verbs::fewshot::run(args, &ctx),
            Verb::Audit(args) => verbs::audit::run(args, &ctx),
            Verb::Doctor(args) => verbs::doctor::run(args, &ctx),
            Verb::Bench(args) => verbs::bench::run(args, &ctx),
            Verb::Check(args) => verbs::check::run(args, &ctx),
            Verb::Completions(args) => verbs::shell::completions(args, Self::command()),
            Verb::Man(args) => verbs::shell::man(args, Self::command(), &ctx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
