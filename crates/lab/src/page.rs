//! The page of a study: what it shows, from what the runs have left.

use crate::collect::Gathered;
use crate::forecasts::StoredForecast;
use crate::gpt;
use crate::kinds::Findings;
use crate::sampling::{Draw, generate};
use crate::sources;
use crate::stop::Stop;
use crate::study::recipe;
use crate::train::program::point_label;
use anyhow::Context as _;
use isoflop_base::study::{Role, RunSpec, Study};
use isoflop_base::{CurveRow, Measured, Point, Status};
use isoflop_data::{Corpus, TokenizerKind};
use isoflop_laws::LawDocument;
use isoflop_report::{
    Completion, Fact, ForecastRow, LearningRate, LedgerRow, Preset, ReportInput, RunRow, Section,
    SeedVariance, Totals,
};
use isoflop_store::{Checkpoint, Store};

/// The prompt every size completes.
const PROMPT: &str = "It is a truth universally acknowledged, that ";
/// Bytes each size adds to it.
const COMPLETION_LENGTH: usize = 160;

/// One prompt completed by every size: the first run of each, its last point.
pub fn completions(
    study: &Study,
    store: &Store,
    corpus: &Corpus,
    stop: &Stop,
) -> anyhow::Result<Vec<Completion>> {
    let mut out: Vec<Completion> = Vec::new();
    if corpus.info.tokenizer != TokenizerKind::Bytes {
        return Ok(out);
    }
    for spec in study.one_of_each_model() {
        let Ok(view) = store.read_run(&spec.id) else { continue };
        let label = point_label(spec.tokens_at(spec.end()));
        let Ok(mut checkpoint) = view.open_checkpoint(&label) else { continue };
        let text = complete(&mut checkpoint, stop)?;
        out.push(Completion { shape: spec.gpt().shape, prompt: PROMPT.to_owned(), text });
    }
    Ok(out)
}

fn complete(checkpoint: &mut Checkpoint, stop: &Stop) -> anyhow::Result<String> {
    let (mut engine, config) = gpt::engine_of(checkpoint, 1)?;
    let prompt = isoflop_data::tokenizer::encode_bytes(PROMPT);
    let draw = Draw { length: COMPLETION_LENGTH, temperature: 0.7, seed: 1 };
    let tokens = generate(&mut engine, config.context, &prompt, draw, stop)?;
    Ok(isoflop_data::tokenizer::decode_bytes(&tokens))
}

/// Everything the page shows.
pub struct Page<'a> {
    pub study: &'a Study,
    pub corpus: &'a Corpus,
    /// The runs that the laws are of, with a row for every run.
    pub gathered: Gathered,
    /// Their training curves.
    pub curves: Vec<CurveRow>,
    /// Points of all runs that differ from those in nothing but the rate.
    pub swept: Vec<Point>,
    /// What the study's kind says.
    pub findings: Findings,
    /// What all runs cost, as a section.
    pub cost: Section,
    /// Joules of training of all runs.
    pub energy_j: Measured<f64>,
    pub laws: Option<LawDocument>,
    /// The study's own forecasts.
    pub forecasts: Vec<StoredForecast>,
    /// Those registered in its store.
    pub registered: Vec<ForecastRow>,
    pub completions: Vec<Completion>,
    pub preset: Option<Preset>,
    pub date: String,
    pub notes: Vec<String>,
}

impl Page<'_> {
    /// The page's data, for `report-input.json` and the page itself.
    pub fn input(self) -> anyhow::Result<ReportInput> {
        let Page { study, corpus, gathered, .. } = self;
        let points: Vec<Point> = gathered.collected.points().map(|(point, _)| point.clone()).collect();
        let totals = Totals {
            flops: trained_flops(&gathered.rows),
            seconds: sum(gathered.rows.iter().map(|r| &r.seconds)),
            energy_j: self.energy_j,
            peak_memory_bytes: isoflop_meter::System::real().peak_memory(),
        };
        let mut sections = self.findings.sections;
        sections.extend(sources::section(study, &points, &self.curves));
        sections.push(self.cost);
        Ok(ReportInput {
            title: study.name.clone(),
            made_by: format!("isoflop {}", env!("CARGO_PKG_VERSION")),
            date: Some(self.date),
            preset: self.preset,
            corpus: Some(corpus_facts(study, corpus)),
            machine: machine_facts(study),
            study: serde_json::to_value(study)?,
            study_toml: toml::to_string(study).context("writing the resolved study as TOML")?,
            answer: self.findings.answer,
            swept: self.swept,
            sections,
            judged: self.findings.verdicts,
            ledger: ledger(study),
            learning_rate: learning_rate(study),
            claims: study.claims.clone(),
            completions: self.completions,
            forecasts: self.forecasts.into_iter().map(|f| f.row(&points)).chain(self.registered).collect(),
            seed_variance: seed_variance(study, self.laws.as_ref()),
            laws: self.laws,
            totals,
            notes: self.notes,
            runs: gathered.rows,
            points,
            curves: self.curves,
            ..ReportInput::default()
        })
    }
}

/// Training FLOPs of the runs that are done, branches included.
pub fn trained_flops(rows: &[RunRow]) -> Measured<f64> {
    let done = rows.iter().filter(|row| row.status == Status::Done);
    let trained: Option<f64> = done.map(|row| Some(row.flops_per_s.value()? * row.seconds.value()?)).sum();
    trained.map_or_else(|| Measured::missing("a run has no time"), Measured::measured)
}

fn corpus_facts(study: &Study, corpus: &Corpus) -> isoflop_report::Corpus {
    let info = &corpus.info;
    let tokenizer = match &info.tokenizer {
        TokenizerKind::Bytes => "bytes".to_owned(),
        TokenizerKind::Gpt2 => "gpt2 bpe".to_owned(),
        TokenizerKind::Named { name, .. } => name.clone(),
        TokenizerKind::Unknown => "unknown".to_owned(),
    };
    isoflop_report::Corpus {
        name: info.name.clone(),
        tokenizer,
        vocab: info.vocab as u64,
        train_tokens: info.train_tokens,
        val_tokens: info.val_tokens,
        eval_tokens: study.runs.first().map(|run| run.train.eval_tokens),
        credit: (info.name == "builtin").then(|| {
            "twenty-five public-domain books and plays of English literature, Shakespeare to Chesterton"
                .to_owned()
        }),
        sha256: Some(info.sha256.clone()),
    }
}

fn machine_facts(study: &Study) -> Vec<Fact> {
    let system = isoflop_meter::System::real();
    let (cpu, memory) = (system.cpu(), system.memory());
    let fact = |name: &str, value: Measured<String>| Fact { name: name.to_owned(), value };
    vec![
        fact("processor", cpu.model),
        fact("cores", cpu.usable.map(|n| n.to_string())),
        fact("memory", memory.total.map(isoflop_base::units::bytes)),
        fact("kernels", every(study, |run| run.train.kernels.clone())),
        fact("precision", every(study, |run| run.train.precision.word().to_owned())),
        fact("threads", Measured::measured(study.machine.threads.to_string())),
    ]
}

/// What the runs of a study have in common, or all that occurs among them.
fn every(study: &Study, of: fn(&RunSpec) -> String) -> Measured<String> {
    let all: std::collections::BTreeSet<String> = study.runs.iter().map(of).collect();
    Measured::measured(all.into_iter().collect::<Vec<_>>().join(", "))
}

fn ledger(study: &Study) -> Vec<LedgerRow> {
    let row = |run: &RunSpec| LedgerRow {
        shape: run.gpt().shape,
        exact_per_token: gpt::run_flops_per_token(run),
        six_n: 6.0 * run.model.params() as f64,
        vocab_context: Some((run.gpt().vocab, run.gpt().context)),
    };
    study.one_of_each_model().into_iter().map(row).collect()
}

fn learning_rate(study: &Study) -> Option<LearningRate> {
    let chosen = study.resolutions.iter().find(|r| r.key == "train.lr");
    chosen
        .map(|resolution| LearningRate { rule: resolution.value.clone(), why: recipe::LR_REASON.to_owned() })
}

/// The sum, measured if every part was.
fn sum<'m>(parts: impl IntoIterator<Item = &'m Measured<f64>>) -> Measured<f64> {
    let mut total = 0.0;
    for part in parts {
        match part {
            Measured::Missing { reason } => return Measured::missing(reason.clone()),
            Measured::Measured { value } | Measured::Estimated { value, .. } => total += value,
        }
    }
    Measured::measured(total)
}

/// Spread of the loss between seeds, as the laws found it, with where it was measured.
fn seed_variance(study: &Study, laws: Option<&LawDocument>) -> Option<SeedVariance> {
    let spread = laws?.seed_spread.as_ref()?;
    let extra = study.runs.iter().filter(|run| run.role == Role::SeedSpread);
    let mut names: Vec<String> = extra.map(|run| run.model.name()).collect();
    names.dedup();
    Some(SeedVariance {
        sd: spread.sigma_loss,
        num_seeds: (spread.dof + spread.groups) as u64 / spread.groups.max(1) as u64,
        measured_at: format!("{} at every D, {} groups pooled", names.join(", "), spread.groups),
    })
}
