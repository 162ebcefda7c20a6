//! Why a line is not straight: what the evidence of a study points to, fault by fault.
//!
//! [`diagnose`] is a pure function of a page's input. Each rule is a small function with its thresholds, and where
//! they come from, above it: those about data in `data`, about training in `training`, about curves in `curves`. A
//! rule that lacks what it would need says so, where its silence could be taken for an all-clear.

mod curves;
mod data;
mod training;

#[cfg(test)]
mod tests;

use crate::claims::{Ruling, straight_line};
use crate::input::ReportInput;
use crate::numbers::count;
use isoflop_base::{Point, Status};
use serde::{Deserialize, Serialize};

/// What may bend a line, in the order in which it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A run's loss stopped being a number, or jumped.
    Unstable,
    /// A run stayed on a plateau, or left one late.
    Plateau,
    /// A size ends above the next smaller one.
    OutOfLine,
    /// The rate used is not the best of those tried.
    LearningRate,
    /// Losses were taken before training was done.
    NotConverged,
    /// The same data were read too often.
    Repeated,
    /// Too few tokens for the size.
    TooFewTokens,
    /// The batch is far from where noise and signal are alike.
    Batch,
    /// Part of what was read is not what is measured on.
    Junk,
    /// Steps waited for data.
    InputBound,
    /// The held-out text is too small to tell the losses apart.
    HeldOut,
}

impl Fault {
    /// As a heading.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unstable => "unstable training",
            Self::Plateau => "a plateau",
            Self::OutOfLine => "a size out of line",
            Self::LearningRate => "the learning rate",
            Self::NotConverged => "not converged",
            Self::Repeated => "data repeated too often",
            Self::TooFewTokens => "too few tokens",
            Self::Batch => "the batch size",
            Self::Junk => "junk in the data",
            Self::InputBound => "waiting for data",
            Self::HeldOut => "too little held-out text",
        }
    }
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Which fault.
    pub fault: Fault,
    /// The evidence points to it; else the data cannot tell, and `evidence` says what is missing.
    pub found: bool,
    /// What was seen, with its figures.
    pub evidence: String,
    /// What would mend it, or tell.
    pub what_to_do: String,
}

impl Diagnosis {
    fn found(fault: Fault, evidence: String, what_to_do: &str) -> Self {
        Self { fault, found: true, evidence, what_to_do: what_to_do.to_owned() }
    }

    fn unknown(fault: Fault, evidence: &str, what_to_do: &str) -> Self {
        Self { fault, found: false, evidence: evidence.to_owned(), what_to_do: what_to_do.to_owned() }
    }
}

/// What the evidence of a study points to; empty for a study without points.
pub fn diagnose(input: &ReportInput) -> Vec<Diagnosis> {
    if input.points.is_empty() && input.runs.is_empty() {
        return Vec::new();
    }
    let seen = Seen::of(input);
    let rules: [fn(&Seen<'_>) -> Option<Diagnosis>; 11] = [
        curves::unstable,
        curves::plateau,
        curves::out_of_line,
        training::learning_rate,
        training::not_converged,
        data::repeated,
        data::too_few_tokens,
        training::batch,
        data::junk,
        training::input_bound,
        data::held_out,
    ];
    rules.iter().filter_map(|rule| rule(&seen)).collect()
}

/// Whether some L(N) of the study was judged not to be straight.
pub fn is_bent(input: &ReportInput) -> bool {
    let fits = input.laws.iter().flat_map(|l| &l.fits).filter(|f| f.form == "l_n" && f.variant == "pure");
    fits.filter_map(|f| Some(straight_line(f.straight.as_ref()?, None, f.rows_used)))
        .any(|v| v.ruling == Ruling::NotReproduced)
}

/// The input as the rules look at it.
struct Seen<'a> {
    input: &'a ReportInput,
    /// Points of finished runs with a loss.
    points: Vec<&'a Point>,
    /// Of each size and number of tokens the lowest loss: what a tuned series consists of. By N, then D.
    best: Vec<&'a Point>,
}

impl<'a> Seen<'a> {
    fn of(input: &'a ReportInput) -> Self {
        let usable = |p: &&Point| {
            *input.status(&p.run) == Status::Done && p.loss.is_finite() && p.loss > 0.0 && p.params > 0
        };
        let points: Vec<&Point> = input.points.iter().filter(usable).collect();
        let mut best: Vec<&Point> = points.clone();
        best.sort_by(|a, b| (a.params, a.tokens).cmp(&(b.params, b.tokens)).then(a.loss.total_cmp(&b.loss)));
        best.dedup_by_key(|p| (p.params, p.tokens));
        Self { input, points, best }
    }

    /// The best points at the most tokens of each size, by N.
    fn last_of_each_size(&self) -> Vec<&'a Point> {
        let mut out = self.best.clone();
        out.sort_by_key(|p| (p.params, std::cmp::Reverse(p.tokens)));
        out.dedup_by_key(|p| p.params);
        out
    }

    /// Neighbouring sizes at the same number of tokens: (smaller, larger).
    fn neighbours(&self) -> Vec<(&'a Point, &'a Point)> {
        let mut by_tokens = self.best.clone();
        by_tokens.sort_by_key(|p| (p.tokens, p.params));
        by_tokens.windows(2).filter(|w| w[0].tokens == w[1].tokens).map(|w| (w[0], w[1])).collect()
    }
}

/// The model of a point as people name it, with its tokens.
fn place(p: &Point) -> String {
    format!("{} at {} tokens", model(p), count(p.tokens as f64))
}

fn model(p: &Point) -> String {
    p.shape.map_or_else(|| p.run.clone(), |s| s.to_string())
}

/// `3 of 7 sizes`, `the only size`; nouns for one and for several.
fn of(some: usize, all: usize, nouns: [&str; 2]) -> String {
    match all {
        1 => format!("the only {}", nouns[0]),
        _ => format!("{some} of {all} {}", nouns[1]),
    }
}

/// [`of`] with what they do, a verb for one and for several: `1 of 7 sizes has`.
fn those(some: usize, all: usize, nouns: [&str; 2], verbs: [&str; 2]) -> String {
    format!("{} {}", of(some, all, nouns), verbs[usize::from(some != 1)])
}

const RUNS: [&str; 2] = ["run", "runs"];
const POINTS: [&str; 2] = ["point", "points"];

/// The worst of some items by a score, and how many there are.
fn worst<T: Copy>(items: &[T], score: impl Fn(T) -> f64) -> Option<T> {
    items.iter().copied().max_by(|a, b| score(*a).total_cmp(&score(*b)))
}

/// Mean of what is there.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    (n > 0.0).then(|| sum / n)
}
