//! Conducting a study: the small sizes, a forecast of the two largest, these, then law and page. `demo` and `run` are
//! this with different defaults; run again, it goes on where it was.

use crate::artifacts::{self, Gathered, Page};
use crate::error::{Stopped, UserError};
use crate::executor;
use crate::forecasts::{self, StoredForecast};
use crate::plan::{self, Plan, Speed};
use crate::record::{Event, Recorder};
use crate::stop::Stop;
use crate::train::train_loop::Outcome;
use isoflop_base::Status;
use isoflop_base::study::{RunSpec, Study};
use isoflop_data::Corpus;
use isoflop_laws::LawDocument;
use isoflop_report::{Preset, ReportInput};
use isoflop_store::{Store, StoreError};
use std::path::{Path, PathBuf};

/// A study ready to be conducted.
pub struct Conductor<'a> {
    /// What is to be done.
    pub study: &'a Study,
    /// Its tokens.
    pub corpus: &'a Corpus,
    /// Where its runs are kept.
    pub store_root: PathBuf,
    /// Where points, law and page go.
    pub out: PathBuf,
    /// The preset it was made from, if any.
    pub preset: Option<Preset>,
    /// Asked between two pieces of work.
    pub stop: &'a Stop,
}

/// What came of a study.
pub struct Conducted {
    /// What it was expected to cost.
    pub plan: Plan,
    /// Whether a run diverged.
    pub diverged: bool,
    /// All that the page shows.
    pub report: ReportInput,
}

impl Conductor<'_> {
    /// Trains what is not trained yet, fits and writes all artifacts.
    ///
    /// # Errors
    /// [`Stopped`] where it was asked to; what was done is saved.
    pub fn conduct(&self, speeds: &[Speed], recorder: &mut dyn Recorder) -> anyhow::Result<Conducted> {
        let plan = plan::plan(self.study, speeds)?;
        recorder.record(&Event::Planned(&plan))?;
        let store = open_store(&self.store_root)?;
        artifacts::write(&self.out, "plan.json", serde_json::to_string_pretty(&plan)?.as_bytes())?;
        let (diverged, forecasts) =
            self.train(&store, recorder).map_err(|error| match error.is::<Stopped>() {
                true => error.context("saved; the same command goes on from here"),
                false => error,
            })?;
        recorder.record(&Event::Fitting)?;
        let report = self.finish(&store, forecasts, recorder)?;
        Ok(Conducted { plan, diverged, report })
    }

    /// Whether a run diverged, and the forecasts made.
    fn train(
        &self,
        store: &Store,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<(bool, Vec<StoredForecast>)> {
        let (small, large) = forecasts::split(self.study);
        let mut diverged = false;
        for spec in small {
            diverged |= self.train_one(store, spec, recorder)? == Outcome::Diverged;
        }
        let forecasts = self.forecast(store, large, recorder)?;
        for spec in large {
            diverged |= self.train_one(store, spec, recorder)? == Outcome::Diverged;
        }
        Ok((diverged, forecasts))
    }

    fn train_one(
        &self,
        store: &Store,
        spec: &RunSpec,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<Outcome> {
        let outcome = executor::execute(store, self.study, spec, self.corpus, self.stop, recorder)?;
        if outcome == Outcome::Diverged {
            recorder.note(&format!("{}: diverged; it enters no fit, the study goes on", spec.id))?;
        }
        Ok(outcome)
    }

    /// The forecasts: those written down before, else new ones, unless the outcome is already known.
    fn forecast(
        &self,
        store: &Store,
        large: &[RunSpec],
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<Vec<StoredForecast>> {
        if large.is_empty() {
            return Ok(Vec::new());
        }
        let forecasts = match forecasts::read(&self.out, self.study)? {
            Some(stored) => stored,
            None if large.iter().any(|run| begun(store, run)) => {
                recorder.note("no forecast: the largest sizes were begun before one was written down")?;
                return Ok(Vec::new());
            }
            None => {
                let gathered = artifacts::gather(self.study, store)?;
                match forecasts::make(self.study, &gathered, large, &self.out) {
                    Ok(made) => made,
                    Err(why) => {
                        recorder.note(&format!("no forecast: {why:#}"))?;
                        return Ok(Vec::new());
                    }
                }
            }
        };
        for forecast in &forecasts {
            recorder.note(&forecast.line())?;
        }
        Ok(forecasts)
    }

    /// Law, tables and page.
    fn finish(
        &self,
        store: &Store,
        forecasts: Vec<StoredForecast>,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<ReportInput> {
        let gathered = artifacts::gather(self.study, store)?;
        artifacts::write(&self.out, "points.csv", &gathered.points_csv()?)?;
        artifacts::write(&self.out, "points.parquet", &gathered.points_parquet())?;
        artifacts::write(&self.out, "curves.csv", &gathered.curves_csv()?)?;
        let mut notes = Vec::new();
        let laws = self.laws(&gathered, &mut notes, recorder)?;
        let page = Page {
            study: self.study,
            corpus: self.corpus,
            laws: Some(laws),
            forecasts,
            completions: artifacts::completions(self.study, store, self.corpus, self.stop)?,
            preset: self.preset.clone(),
            date: crate::clock::now_utc(),
            notes,
            gathered,
        };
        let input = page.input()?;
        artifacts::write(&self.out, "report-input.json", input.to_json()?.as_bytes())?;
        artifacts::write(&self.out, "report.html", isoflop_report::render(&input).as_bytes())?;
        Ok(input)
    }

    fn laws(
        &self,
        gathered: &Gathered,
        notes: &mut Vec<String>,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<LawDocument> {
        let (laws, why) = gathered.laws(self.study.train.threads);
        match why {
            None => {
                let json = serde_json::to_string_pretty(&laws)? + "\n";
                artifacts::write(&self.out, "law.json", json.as_bytes())?;
            }
            Some(why) => {
                let words = format!("no law was fitted: {why}");
                recorder.note(&words)?;
                notes.push(words);
            }
        }
        Ok(laws)
    }
}

fn begun(store: &Store, run: &RunSpec) -> bool {
    store.read_run(&run.id).is_ok_and(|view| {
        view.points().is_ok_and(|p| !p.is_empty()) || !matches!(view.status(), Ok(Status::Running))
    })
}

/// A store that can be written; one that cannot is the user's to mend.
pub fn open_store(root: &Path) -> anyhow::Result<Store> {
    Store::open(root).map_err(|e| match e {
        e @ StoreError::NotWritable { .. } => UserError::from_error(e).into(),
        e => e.into(),
    })
}

/// Where the report of this input is read: kept here so that `demo` and `run` agree on names.
pub fn report_path(out: &Path) -> PathBuf {
    out.join("report.html")
}
