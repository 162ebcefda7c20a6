//! What a page is drawn from: plain data, handed over by the binary and kept as JSON beside the page, so that the
//! same page can be drawn again, byte for byte.

use crate::claims::Verdict;
use crate::section::{Answer, Section};
use isoflop_base::study::ClaimSpec;
use isoflop_base::{CurveRow, Measured, ModelShape, Point, Status};
use isoflop_laws::{Forecast, LawDocument, Table};
use serde::{Deserialize, Serialize};

/// Version of [`ReportInput`] as JSON.
pub const REPORT_SCHEMA: &str = "isoflop.report/1";

/// Everything the page of a study shows. Every part may be absent; the page says so or leaves the section out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportInput {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// Name of the study.
    pub title: String,
    /// The program and its version, e.g. `isoflop 0.1.0`.
    pub made_by: String,
    /// When, as text (the page itself reads no clock).
    pub date: Option<String>,
    /// The preset and why it was taken.
    pub preset: Option<Preset>,
    /// What was trained on.
    pub corpus: Option<Corpus>,
    /// Facts about the machine, in the order to show them.
    pub machine: Vec<Fact>,
    /// The resolved study.
    pub study: serde_json::Value,
    /// The resolved study as TOML text.
    pub study_toml: String,
    /// One row per run, diverged and unfinished ones too.
    pub runs: Vec<RunRow>,
    /// Finished points.
    pub points: Vec<Point>,
    /// Training curves.
    pub curves: Vec<CurveRow>,
    /// The fitted laws; the same document as `law.json`.
    pub laws: Option<LawDocument>,
    /// Forecasts, each written before the run that tests it.
    pub forecasts: Vec<ForecastRow>,
    /// Spread of the loss over seeds, as measured.
    pub seed_variance: Option<SeedVariance>,
    /// One prompt completed by every size.
    pub completions: Vec<Completion>,
    /// What the study's kind answers to its question; the page begins with it.
    pub answer: Option<Answer>,
    /// Finished points that differ from the series' in their learning rate alone: what the rate is judged by.
    pub swept: Vec<Point>,
    /// What the study's kind found.
    pub sections: Vec<Section>,
    /// What the study's kind says of published claims.
    pub judged: Vec<Verdict>,
    /// Claims of the study file.
    pub claims: Vec<ClaimSpec>,
    /// How the learning rate was chosen.
    pub learning_rate: Option<LearningRate>,
    /// Exact training FLOPs per token against 6N, a row per size.
    pub ledger: Vec<LedgerRow>,
    /// What all of it cost.
    pub totals: Totals,
    /// Remarks to print with the methods.
    pub notes: Vec<String>,
}

impl Default for ReportInput {
    fn default() -> Self {
        Self {
            schema: REPORT_SCHEMA.to_owned(),
            title: String::new(),
            made_by: String::new(),
            date: None,
            preset: None,
            corpus: None,
            machine: Vec::new(),
            study: serde_json::Value::Null,
            study_toml: String::new(),
            runs: Vec::new(),
            points: Vec::new(),
            curves: Vec::new(),
            laws: None,
            forecasts: Vec::new(),
            seed_variance: None,
            completions: Vec::new(),
            answer: None,
            swept: Vec::new(),
            sections: Vec::new(),
            judged: Vec::new(),
            claims: Vec::new(),
            learning_rate: None,
            ledger: Vec::new(),
            totals: Totals::default(),
            notes: Vec::new(),
        }
    }
}

/// A named preset and the reason it was picked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// `quick`, `standard`, `full`, or the study's name.
    pub name: String,
    /// Why this one, in a sentence.
    pub why: String,
}

/// The text the series was trained and measured on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Corpus {
    /// Its name.
    pub name: String,
    /// `bytes`, `bpe`, or another word for what a token is.
    pub tokenizer: String,
    /// Vocabulary.
    pub vocab: u64,
    /// Tokens in the training split.
    pub train_tokens: u64,
    /// Tokens in the validation split.
    pub val_tokens: u64,
    /// Held-out tokens each point was measured on.
    pub eval_tokens: Option<u64>,
    /// Whose text it is.
    pub credit: Option<String>,
    /// SHA-256 of the source.
    pub sha256: Option<String>,
}

/// A named fact with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, e.g. `processor`.
    pub name: String,
    /// Its value with unit, as text.
    pub value: Measured<String>,
}

/// A run of the study, finished or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// Identity, e.g. `L2-d32-h2-s1`.
    pub run: String,
    /// Its model: `L2-d32-h2`.
    #[serde(alias = "shape")]
    pub model: String,
    /// N that laws are fitted to.
    #[serde(default)]
    pub params: u64,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Seconds of training, branches included.
    pub seconds: Measured<f64>,
    /// Training tokens per second.
    pub tokens_per_s: Measured<f64>,
    /// Training FLOP per second by the exact ledger.
    pub flops_per_s: Measured<f64>,
}

/// A forecast of one run and, once that is done, its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastRow {
    /// Run or shape it is about.
    pub name: String,
    /// The runs it was made from, in words.
    pub made_from: String,
    /// When it was written down, as text.
    #[serde(default)]
    pub made_at: Option<String>,
    /// The forecast, its `outcome` filled in by [`isoflop_laws::outcome`] when the run is done.
    pub forecast: Forecast,
    /// Standard error of the observed loss, nats per token.
    #[serde(default)]
    pub outcome_se: Option<f64>,
}

impl ForecastRow {
    /// The run's name without its study's: from where the model's shape begins.
    pub(crate) fn short_name(&self) -> String {
        let name = self.name.as_str();
        let begins = |i: &usize| {
            let mut parts = name[*i..].splitn(4, '-');
            let shape: Vec<&str> = [parts.next(), parts.next(), parts.next()].into_iter().flatten().collect();
            shape.join("-").parse::<ModelShape>().is_ok()
        };
        let start = name.match_indices('L').map(|(i, _)| i).find(begins).unwrap_or(0);
        let shown: String = name[start..].chars().take(20).collect();
        if name[start..].chars().count() > 20 { format!("{shown}…") } else { shown }
    }

    /// The name with its tokens: a run may have forecasts at several.
    pub(crate) fn label(&self) -> String {
        match self.forecast.d.filter(|d| d.is_finite()) {
            Some(d) => format!("{} at {} tokens", self.short_name(), crate::numbers::count(d)),
            None => self.short_name(),
        }
    }
}

/// Spread of the final loss over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedVariance {
    /// Standard deviation of the loss over seeds, nats per token.
    pub sd: f64,
    /// Seeds it was measured with.
    pub num_seeds: u64,
    /// Size and tokens it was measured at, in words.
    pub measured_at: String,
}

/// What one model made of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The model.
    pub shape: ModelShape,
    /// The prompt.
    pub prompt: String,
    /// Its continuation, without the prompt.
    pub text: String,
}

/// The learning-rate rule and the reason for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearningRate {
    /// The rule, e.g. `1e-2·√(32/d)`.
    pub rule: String,
    /// Where it comes from.
    pub why: String,
}

/// Exact FLOPs against the 6ND rule for one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The model.
    pub shape: ModelShape,
    /// Training FLOPs per token by the exact ledger.
    pub exact_per_token: f64,
    /// 6N with Kaplan's N.
    pub six_n: f64,
    /// Vocabulary and context, from which the parts are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_context: Option<(usize, usize)>,
}

/// Totals of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Training FLOPs by the exact ledger.
    pub flops: Measured<f64>,
    /// Wall-clock seconds.
    pub seconds: Measured<f64>,
    /// Energy in joules.
    pub energy_j: Measured<f64>,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: Measured<u64>,
}

impl Default for Totals {
    fn default() -> Self {
        let missing = || Measured::missing("not recorded");
        Self {
            flops: missing(),
            seconds: missing(),
            energy_j: missing(),
            peak_memory_bytes: Measured::missing("not recorded"),
        }
    }
}

/// Why a stored report input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not JSON, or not of this shape.
    #[error(
        "the stored report input cannot be read: {0}\nhint: run the study again to have it written afresh"
    )]
    Parse(#[from] serde_json::Error),
    /// Written by another version.
    #[error(
        "the stored report input has schema `{found}`, this program reads `{REPORT_SCHEMA}`\nhint: run the study again"
    )]
    Schema {
        /// The schema found.
        found: String,
    },
}

impl ReportInput {
    /// Reads what [`ReportInput::to_json`] wrote.
    ///
    /// # Errors
    /// [`ReportError`] when the text is not such a document.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        let input: Self = serde_json::from_str(text)?;
        if input.schema == REPORT_SCHEMA {
            Ok(input)
        } else {
            Err(ReportError::Schema { found: input.schema })
        }
    }

    /// The status of a run. The points of one that is not listed are of a run nobody knows to be finished: they are
    /// shown as such, and enter no fit.
    pub fn status(&self, run: &str) -> &Status {
        self.runs.iter().find(|r| r.run == run).map_or(&Status::Running, |r| &r.status)
    }

    /// The points as the laws see them: those of runs that are not done are left out there, with the reason.
    pub fn table(&self) -> Table {
        Table::from_points(self.points.iter().map(|p| (p, self.status(&p.run))))
    }

    /// The document as JSON, for `report-input.json`.
    ///
    /// # Errors
    /// [`ReportError::Parse`] when a value cannot be written.
    pub fn to_json(&self) -> Result<String, ReportError> {
        // JSON has no NaN: a row that a diverging run may have left would make the document unreadable.
        let whole = |r: &CurveRow| [r.train_loss, r.flops, r.lr, r.grad_norm].iter().all(|v| v.is_finite());
        let text = if self.curves.iter().all(whole) {
            serde_json::to_string(self)?
        } else {
            let mut kept = self.clone();
            kept.curves.retain(whole);
            serde_json::to_string(&kept)?
        };
        Ok(text + "\n")
    }
}
