//! Conducting a study: its stages, then law and page. `demo` and `run` are this with different defaults; run again, it
//! goes on where it was, and several processes may conduct the same study at once.

use crate::collect;
use crate::error::{Stopped, UserError};
use crate::executor::{Executed, Executor};
use crate::forecasts::{self, StoredForecast};
use crate::instruments::Instruments;
use crate::kinds::{self, Found, Then};
use crate::out;
use crate::page::{self, Page};
use crate::plan::{self, Plan, Speed};
use crate::record::{Event, Recorder};
use crate::registry;
use crate::spending::{self, Account, Noted};
use crate::stop::Stop;
use crate::tables;
use isoflop_base::Status;
use isoflop_base::columns::Frame;
use isoflop_base::study::{RunSpec, Study};
use isoflop_data::Corpus;
use isoflop_laws::{LawDocument, Options};
use isoflop_report::{Preset, ReportInput};
use isoflop_store::{Collected, Store, StoreError};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A study ready to be conducted.
pub struct Conductor<'a> {
    /// What is to be done.
    pub study: &'a Study,
    /// Its tokens.
    pub corpus: &'a Arc<Corpus>,
    /// Where its runs are kept.
    pub store_root: PathBuf,
    /// Where points, law and page go.
    pub out: PathBuf,
    /// The preset it was made from, if any.
    pub preset: Option<Preset>,
    /// Asked between two pieces of work.
    pub stop: &'a Stop,
    /// Ids of the runs that are trained here; all if it is empty.
    pub only: Vec<String>,
}

/// What came of a study.
pub struct Conducted {
    /// What it was expected to cost.
    pub plan: Plan,
    /// Whether a run diverged.
    pub diverged: bool,
    /// Runs that are left to other processes. Whoever finishes the last of them goes on with the study.
    pub waits_for: Vec<String>,
    /// All that the page shows, once every run is over.
    pub report: Option<ReportInput>,
}

/// How far the stages have come.
struct Trained {
    diverged: bool,
    forecasts: Vec<StoredForecast>,
    waits_for: Vec<String>,
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
        out::write(&self.out, out::PLAN, serde_json::to_string_pretty(&plan)?.as_bytes())?;
        let machine = (self.study.name.as_str(), &self.study.machine);
        let instruments = Instruments::start(machine, &self.study.runs, &store, self.stop, recorder.voice())?
            .of_tokens(&self.corpus.info.tokenizer);
        let trained =
            self.train(&store, &instruments, recorder).map_err(|error| match error.is::<Stopped>() {
                true => error.context("saved; the same command goes on from here"),
                false => error,
            })?;
        let Trained { diverged, forecasts, waits_for } = trained;
        let report = match waits_for.is_empty() {
            true => {
                recorder.record(&Event::Fitting)?;
                Some(self.finish(&store, forecasts, recorder)?)
            }
            false => None,
        };
        Ok(Conducted { plan, diverged, waits_for, report })
    }

    /// Goes through the stages. A run that another process holds is passed over; the stages end where runs are left
    /// that are not over, for whoever finishes the last of them to go on.
    fn train(
        &self,
        store: &Store,
        instruments: &Instruments,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<Trained> {
        let executor = Executor {
            study: &self.study.name,
            machine: &self.study.machine,
            corpus: self.corpus,
            store,
            stop: self.stop,
            instruments,
        };
        let mut trained = Trained { diverged: false, forecasts: Vec::new(), waits_for: Vec::new() };
        for stage in kinds::of(self.study.kind).stages(self.study) {
            for spec in stage.runs.iter().map(|i| &self.study.runs[*i]) {
                if !self.only.is_empty() && !self.only.contains(&spec.id) {
                    if !is_over(store, spec) {
                        trained.waits_for.push(spec.id.clone());
                    }
                    continue;
                }
                match executor.execute(spec, recorder)? {
                    Executed::Done => {}
                    Executed::Held(_) => trained.waits_for.push(spec.id.clone()),
                    Executed::Diverged => {
                        trained.diverged = true;
                        recorder
                            .note(&format!("{}: diverged; it enters no fit, the study goes on", spec.id))?;
                    }
                }
            }
            // Another process may have finished what it held meanwhile.
            trained
                .waits_for
                .retain(|id| self.study.runs.iter().any(|spec| spec.id == *id && !is_over(store, spec)));
            if !trained.waits_for.is_empty() {
                return Ok(trained);
            }
            if let Then::Forecast(of) = &stage.then {
                let large: Vec<&RunSpec> = of.iter().map(|i| &self.study.runs[*i]).collect();
                let _alone = store.lock_study(&self.study.name)?;
                trained.forecasts = self.forecast(store, &large, recorder)?;
            }
        }
        Ok(trained)
    }

    /// The forecasts: those written down before, else new ones, unless the outcome is already known.
    fn forecast(
        &self,
        store: &Store,
        large: &[&RunSpec],
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<Vec<StoredForecast>> {
        let forecasts = match forecasts::read(&self.out, self.study)? {
            Some(stored) => stored,
            None if large.iter().any(|run| begun(store, run)) => {
                recorder.note("no forecast: the largest sizes were begun before one was written down")?;
                return Ok(Vec::new());
            }
            None => {
                let gathered = collect::gather(self.study, store)?;
                match forecasts::make(self.study, &gathered.collected, large, &self.out) {
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
        let _alone = store.lock_study(&self.study.name)?;
        let mut gathered = collect::gather(self.study, store)?;
        let (points, mut curves) = (gathered.collected.points_frame(), gathered.collected.curves()?);
        out::write(&self.out, out::POINTS, &isoflop_store::csv(&points))?;
        out::write(&self.out, out::POINTS_PARQUET, &tables::parquet(&points))?;
        out::write(&self.out, out::CURVES, &isoflop_store::csv(&Frame::of_curves(&curves)))?;
        let mut notes = Vec::new();
        let all = gathered.collected.clone();
        let kind = kinds::of(self.study.kind);
        let of_the_law: HashSet<&str> = self
            .study
            .runs
            .iter()
            .filter(|run| kind.is_of_the_law(self.study, run))
            .map(|run| run.id.as_str())
            .collect();
        gathered.collected.runs.retain(|run| of_the_law.contains(run.id()));
        let options = Options { threads: self.study.machine.threads, ..Options::default() };
        let laws = self.laws(&gathered.collected, &options, &mut notes, recorder)?;
        let findings = kind.findings(&Found::of(self.study, &all, &curves, Some(&laws), &options));
        let noted = Noted::read(store, all.runs.iter().map(|run| run.id()));
        let cost = spending::section(&Account {
            machine: &self.study.machine,
            collected: &all,
            curves: &curves,
            planned: plan::memory::planned(self.study),
            flops: page::trained_flops(&gathered.rows),
            noted: &noted,
        });
        let rated = self.study.runs.iter().filter(|run| run.arm.contains_key("rate"));
        let rated: HashSet<&str> = rated.map(|run| run.id.as_str()).collect();
        let swept = all.points().filter(|(point, _)| rated.contains(point.run.as_str()));
        let swept = swept.map(|(point, _)| point.clone()).collect();
        curves.retain(|row| of_the_law.contains(row.run.as_str()));
        let (registered, changed) = registry::registered(&self.store_root, &gathered.collected);
        notes.extend(changed);
        let page = Page {
            study: self.study,
            corpus: self.corpus,
            laws: Some(laws),
            forecasts,
            registered,
            completions: page::completions(self.study, store, self.corpus, self.stop)?,
            preset: self.preset.clone(),
            date: crate::clock::now_utc(),
            notes,
            cost,
            energy_j: spending::total(&all),
            gathered,
            curves,
            swept,
            findings,
        };
        let input = page.input()?;
        out::write(&self.out, out::REPORT_INPUT, input.to_json()?.as_bytes())?;
        out::write(&self.out, out::REPORT, isoflop_report::render(&input).as_bytes())?;
        Ok(input)
    }

    fn laws(
        &self,
        collected: &Collected,
        options: &Options,
        notes: &mut Vec<String>,
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<LawDocument> {
        let (laws, why) = collect::laws(collected, options);
        match why {
            None => {
                let json = serde_json::to_string_pretty(&laws)?
                    + "
";
                out::write(&self.out, out::LAW, json.as_bytes())?;
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

/// Whether nothing more is to be trained of a run: all its points are finished, or it diverged.
fn is_over(store: &Store, run: &RunSpec) -> bool {
    store.read_run(&run.id).is_ok_and(|view| match view.status() {
        Ok(Status::Diverged { .. }) => true,
        Ok(Status::Done) => view
            .points()
            .is_ok_and(|points| run.ends.iter().all(|end| points.iter().any(|point| point.steps == *end))),
        _ => false,
    })
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
