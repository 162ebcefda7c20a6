//! From a study's runs in the store to the files a user takes away: points, curves, law, report.

use crate::executor;
use crate::forecasts::StoredForecast;
use crate::sampling::{Draw, generate};
use crate::stop::Stop;
use crate::study::recipe;
use crate::train::program::Program;
use anyhow::Context as _;
use isoflop_base::record::{CURVE_COLUMNS, POINT_COLUMNS};
use isoflop_base::study::Study;
use isoflop_base::{CurveRow, Measured, ModelShape, Point, Status};
use isoflop_data::{Corpus, TokenizerKind};
use isoflop_laws::{LawDocument, Options, Table};
use isoflop_report::{
    Completion, Fact, LearningRate, LedgerRow, Preset, ReportInput, RunRow, SeedVariance, Totals,
};
use isoflop_store::{Checkpoint, RunView, Store, StoreError};
use std::path::Path;

/// The prompt every size completes.
const PROMPT: &str = "It is a truth universally acknowledged, that ";
/// Bytes each size adds to it.
const COMPLETION_LENGTH: usize = 160;

/// What the runs of a study have left so far.
pub struct Gathered {
    pub points: Vec<Point>,
    pub curves: Vec<CurveRow>,
    pub rows: Vec<RunRow>,
    /// Joules of each row's run.
    pub joules: Vec<Measured<f64>>,
}

/// Reads the study's runs as they are on disk; runs that were not begun are left out.
pub fn gather(study: &Study, store: &Store) -> anyhow::Result<Gathered> {
    let mut all = Gathered { points: Vec::new(), curves: Vec::new(), rows: Vec::new(), joules: Vec::new() };
    for spec in &study.runs {
        let view = match store.read_run(&spec.id) {
            Err(StoreError::NoSuchRun { .. }) => continue,
            view => view?,
        };
        all.points.extend(view.points()?);
        all.curves.extend(view.curves()?);
        let status = view.status()?;
        let (seconds, joules) = total_cost(&view)?;
        all.joules.push(joules);
        let tokens = study.tokens_at(Program::new(spec, &study.train).steps()) as f64;
        let per_token = executor::flops_per_token(spec.shape, study.data.vocab, study.train.context);
        let rate = match (&status, seconds.value()) {
            (Status::Done, Some(s)) if *s > 0.0 => Measured::measured(tokens / s),
            _ => Measured::missing("the run is not finished"),
        };
        all.rows.push(RunRow {
            run: spec.id.clone(),
            shape: spec.shape,
            seed: spec.seed,
            status,
            seconds,
            flops_per_s: rate.clone().map(|r| r * per_token),
            tokens_per_s: rate,
        });
    }
    Ok(all)
}

/// Seconds and joules of training, branches included, as the newest checkpoint has them.
fn total_cost(view: &RunView) -> anyhow::Result<(Measured<f64>, Measured<f64>)> {
    let newest = view.checkpoints()?.complete.into_iter().next();
    let state = match newest {
        Some(info) => view.open_checkpoint(&info.label)?.state()["total_cost"].clone(),
        None => serde_json::Value::Null,
    };
    let read =
        |key: &str, why: &str| state[key].as_f64().map_or_else(|| Measured::missing(why), Measured::measured);
    Ok((read("seconds", "no checkpoint yet"), read("joules", "no energy counter was read during the run")))
}

impl Gathered {
    /// The points with the status of their run, for the laws.
    pub fn table(&self) -> Table {
        Table::from_points(self.points.iter().map(|p| (p, self.status(&p.run))))
    }

    fn status(&self, run: &str) -> &Status {
        self.rows.iter().find(|r| r.run == run).map_or(&Status::Running, |r| &r.status)
    }

    /// The laws and the paired differences, and why there is no law yet if there is none.
    pub fn laws(&self, threads: usize) -> (LawDocument, Option<isoflop_laws::LawError>) {
        let points: Vec<(&Point, &Status)> = self.points.iter().map(|p| (p, self.status(&p.run))).collect();
        isoflop_laws::fit_points(&points, &Options { threads, ..Options::default() })
    }

    /// `points.csv`.
    pub fn points_csv(&self) -> anyhow::Result<Vec<u8>> {
        let word = |run: &str| self.rows.iter().find(|r| r.run == run).map_or("running", |r| r.status.word());
        csv(POINT_COLUMNS, self.points.iter().map(|p| p.csv_cells(word(&p.run))))
    }

    /// `points.parquet`.
    pub fn points_parquet(&self) -> Vec<u8> {
        let word = |id: &str| self.rows.iter().find(|r| r.run == id).map_or("running", |r| r.status.word());
        crate::tables::points_parquet(self.points.iter().map(|p| (p, word(&p.run))))
    }

    /// `curves.csv`.
    pub fn curves_csv(&self) -> anyhow::Result<Vec<u8>> {
        csv(CURVE_COLUMNS, self.curves.iter().map(CurveRow::csv_cells))
    }
}

fn csv(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(&row)?;
    }
    Ok(writer.into_inner()?)
}

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
    for spec in &study.runs {
        if out.iter().any(|c| c.shape == spec.shape) {
            continue;
        }
        let Ok(view) = store.read_run(&spec.id) else { continue };
        let label = format!("point-{}", study.tokens_at(*spec.ends.last().expect("a run has an end")));
        let Ok(mut checkpoint) = view.open_checkpoint(&label) else { continue };
        let text = complete(&mut checkpoint, stop)?;
        out.push(Completion { shape: spec.shape, prompt: PROMPT.to_owned(), text });
    }
    Ok(out)
}

fn complete(checkpoint: &mut Checkpoint, stop: &Stop) -> anyhow::Result<String> {
    let (mut engine, config) = executor::engine_of(checkpoint, 1)?;
    let prompt = isoflop_data::tokenizer::encode_bytes(PROMPT);
    let draw = Draw { length: COMPLETION_LENGTH, temperature: 0.7, seed: 1 };
    let tokens = generate(&mut engine, config.context, &prompt, draw, stop)?;
    Ok(isoflop_data::tokenizer::decode_bytes(&tokens))
}

/// Everything the page shows.
pub struct Page<'a> {
    pub study: &'a Study,
    pub corpus: &'a Corpus,
    pub gathered: Gathered,
    pub laws: Option<LawDocument>,
    pub forecasts: Vec<StoredForecast>,
    pub completions: Vec<Completion>,
    pub preset: Option<Preset>,
    pub date: String,
    pub notes: Vec<String>,
}

impl Page<'_> {
    /// The page's data, for `report-input.json` and the page itself.
    pub fn input(self) -> anyhow::Result<ReportInput> {
        let Page { study, corpus, gathered, .. } = self;
        let trained: Option<f64> = gathered
            .rows
            .iter()
            .filter(|r| r.status == Status::Done)
            .map(|r| Some(r.flops_per_s.value()? * r.seconds.value()?))
            .sum();
        let totals = Totals {
            flops: trained.map_or_else(|| Measured::missing("a run has no time"), Measured::measured),
            seconds: sum(gathered.rows.iter().map(|r| &r.seconds)),
            energy_j: sum(&gathered.joules),
            peak_memory_bytes: isoflop_meter::System::real().peak_memory(),
        };
        Ok(ReportInput {
            title: study.name.clone(),
            made_by: format!("isoflop {}", env!("CARGO_PKG_VERSION")),
            date: Some(self.date),
            preset: self.preset,
            corpus: Some(corpus_facts(study, corpus)),
            machine: machine_facts(study),
            study: serde_json::to_value(study)?,
            study_toml: toml::to_string(study).context("writing the resolved study as TOML")?,
            ledger: ledger(study),
            learning_rate: learning_rate(study),
            claims: study.claims.clone(),
            completions: self.completions,
            forecasts: self.forecasts.into_iter().map(|f| f.row(&gathered.points)).collect(),
            seed_variance: seed_variance(study, self.laws.as_ref()),
            laws: self.laws,
            totals,
            notes: self.notes,
            runs: gathered.rows,
            points: gathered.points,
            curves: gathered.curves,
            ..ReportInput::default()
        })
    }
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
        eval_tokens: Some(study.train.eval_tokens),
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
        fact("kernels", Measured::measured(study.train.kernels.clone())),
        fact("precision", Measured::measured(study.train.precision.word().to_owned())),
        fact("threads", Measured::measured(study.train.threads.to_string())),
    ]
}

fn ledger(study: &Study) -> Vec<LedgerRow> {
    let mut shapes: Vec<ModelShape> = study.runs.iter().map(|r| r.shape).collect();
    shapes.dedup();
    shapes
        .into_iter()
        .map(|shape| LedgerRow {
            shape,
            exact_per_token: executor::flops_per_token(shape, study.data.vocab, study.train.context),
            six_n: 6.0 * shape.params() as f64,
        })
        .collect()
}

fn learning_rate(study: &Study) -> Option<LearningRate> {
    let automatic = study.resolutions.iter().any(|r| r.key == "train.lr");
    automatic.then(|| LearningRate {
        rule: recipe::LR_RULE.to_owned(),
        why: recipe::LR_REASON.to_owned(),
        sweep: Vec::new(),
    })
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
    let mut shapes: Vec<ModelShape> = study.runs.iter().filter(|r| r.extra_seed).map(|r| r.shape).collect();
    shapes.dedup();
    let names: Vec<String> = shapes.iter().map(ModelShape::to_string).collect();
    Some(SeedVariance {
        sd: spread.sigma_loss,
        num_seeds: (spread.dof + spread.groups) as u64 / spread.groups.max(1) as u64,
        measured_at: format!("{} at every D, {} groups pooled", names.join(", "), spread.groups),
    })
}

/// Replaces a file of the output directory.
pub fn write(out: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(isoflop_store::write_artifact(out.join(name), bytes)?)
}
