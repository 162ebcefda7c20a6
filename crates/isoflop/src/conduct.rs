//! Conducting a study: the small sizes, a forecast of the two largest, these, then law and page. `demo` and `run` are
//! this with different defaults; run again, it goes on where it was.

use crate::artifacts::{self, Gathered, Page};
use crate::exit::{self, Interrupted, UserError};
use crate::forecasts::{self, StoredForecast};
use crate::plan::{self, Plan, Speed};
use crate::progress::Display;
use crate::signals::Stop;
use crate::train::train_loop::Outcome;
use crate::{executor, summary};
use isoflop_base::Status;
use isoflop_base::study::{RunSpec, Study};
use isoflop_data::Corpus;
use isoflop_laws::LawDocument;
use isoflop_report::Preset;
use isoflop_store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// A study ready to be conducted.
pub(crate) struct Conductor<'a> {
    pub(crate) study: &'a Study,
    pub(crate) corpus: &'a Corpus,
    pub(crate) store_root: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) preset: Option<Preset>,
    pub(crate) stop: &'a Stop,
    pub(crate) json: bool,
}

impl Conductor<'_> {
    /// Trains what is not trained yet, fits, writes all artifacts, and says what came out.
    pub(crate) fn conduct(&self, speeds: &[Speed]) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let plan = plan::plan(self.study, speeds)?;
        eprintln!("{}", plan.text());
        let store = open_store(&self.store_root)?;
        artifacts::write(&self.out, "plan.json", serde_json::to_string_pretty(&plan)?.as_bytes())?;
        let mut display = Display::new(plan.expected(self.study));
        let trained = self.train(&store, &mut display);
        display.close();
        let (diverged, forecasts) = trained.map_err(|error| match error.is::<Interrupted>() {
            true => error.context("saved; the same command goes on from here"),
            false => error,
        })?;
        eprintln!("fitting …");
        self.finish(&store, &plan, forecasts, started)?;
        Ok(if diverged { exit::diverged() } else { ExitCode::SUCCESS })
    }

    /// Whether a run diverged, and the forecasts made.
    fn train(&self, store: &Store, display: &mut Display) -> anyhow::Result<(bool, Vec<StoredForecast>)> {
        let (small, large) = forecasts::split(self.study);
        let mut diverged = false;
        for spec in small {
            diverged |= self.train_one(store, spec, display)? == Outcome::Diverged;
        }
        let forecasts = self.forecast(store, large, display)?;
        for spec in large {
            diverged |= self.train_one(store, spec, display)? == Outcome::Diverged;
        }
        Ok((diverged, forecasts))
    }

    fn train_one(&self, store: &Store, spec: &RunSpec, display: &mut Display) -> anyhow::Result<Outcome> {
        let outcome = executor::execute(store, self.study, spec, self.corpus, self.stop, display)?;
        if outcome == Outcome::Diverged {
            display.note(&format!("{}: diverged; it enters no fit, the study goes on", spec.id));
        }
        Ok(outcome)
    }

    /// The forecasts: those written down before, else new ones, unless the outcome is already known.
    fn forecast(
        &self,
        store: &Store,
        large: &[RunSpec],
        display: &Display,
    ) -> anyhow::Result<Vec<StoredForecast>> {
        if large.is_empty() {
            return Ok(Vec::new());
        }
        let forecasts = match forecasts::read(&self.out, self.study)? {
            Some(stored) => stored,
            None if large.iter().any(|run| begun(store, run)) => {
                display.note("no forecast: the largest sizes were begun before one was written down");
                return Ok(Vec::new());
            }
            None => {
                let gathered = artifacts::gather(self.study, store)?;
                match forecasts::make(self.study, &gathered, large, &self.out) {
                    Ok(made) => made,
                    Err(why) => {
                        display.note(&format!("no forecast: {why:#}"));
                        return Ok(Vec::new());
                    }
                }
            }
        };
        for forecast in &forecasts {
            display.note(&forecast.line());
        }
        Ok(forecasts)
    }

    /// Law, tables, page, and the last words.
    fn finish(
        &self,
        store: &Store,
        plan: &Plan,
        forecasts: Vec<StoredForecast>,
        started: Instant,
    ) -> anyhow::Result<()> {
        let gathered = artifacts::gather(self.study, store)?;
        artifacts::write(&self.out, "points.csv", &gathered.points_csv()?)?;
        artifacts::write(&self.out, "points.parquet", &gathered.points_parquet())?;
        artifacts::write(&self.out, "curves.csv", &gathered.curves_csv()?)?;
        let mut notes = Vec::new();
        let laws = self.laws(&gathered, &mut notes)?;
        let page = Page {
            study: self.study,
            corpus: self.corpus,
            laws,
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
        eprint!("{}", summary::text(&input, started.elapsed().as_secs_f64(), &self.out));
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary::document(&input, plan, &self.out))?);
        }
        Ok(())
    }

    fn laws(&self, gathered: &Gathered, notes: &mut Vec<String>) -> anyhow::Result<Option<LawDocument>> {
        match gathered.laws(self.study.train.threads) {
            Ok(laws) => {
                artifacts::write(
                    &self.out,
                    "law.json",
                    (serde_json::to_string_pretty(&laws)? + "\n").as_bytes(),
                )?;
                Ok(Some(laws))
            }
            Err(why) => {
                let words = format!("no law was fitted: {why}");
                eprintln!("{words}");
                notes.push(words);
                Ok(None)
            }
        }
    }
}

fn begun(store: &Store, run: &RunSpec) -> bool {
    store.read_run(&run.id).is_ok_and(|view| {
        view.points().is_ok_and(|p| !p.is_empty()) || !matches!(view.status(), Ok(Status::Running))
    })
}

/// A store that can be written; one that cannot is the user's to mend.
pub(crate) fn open_store(root: &Path) -> anyhow::Result<Store> {
    Store::open(root).map_err(|e| match e {
        e @ StoreError::NotWritable { .. } => UserError::from_error(e).into(),
        e => e.into(),
    })
}

/// Where the report of this input is read: kept here so that `demo` and `run` agree on names.
pub(crate) fn report_path(out: &Path) -> PathBuf {
    out.join("report.html")
}
