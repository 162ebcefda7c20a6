//! Conducting a few-shot study: its runs one after the other, then the test and its tables. Run again, it goes on where
//! it was.

use super::claims::AtStart;
use super::evaluate::{Tested, test_entry};
use super::pictures::Also;
use super::runs::{Entry, FewShotStudy, checkpoint_label};
use super::study::Method;
use super::{evaluate, pages, results, task};
use crate::conduct::open_store;
use crate::error::Stopped;
use crate::executor::{Executed, execute};
use crate::instruments::Instruments;
use crate::record::{Event, Recorder};
use crate::spending::{self, Account, Noted};
use crate::stop::Stop;
use crate::train::laps::{Activity, Laps, Spent};
use crate::train::train_loop::train_after;
use isoflop_base::tensor::WeightsOnly;
use isoflop_base::{HeadKind, Measured};
use isoflop_data::images::ImageSet;
use isoflop_report::Section;
use isoflop_report::fewshot::FewShotInput;
use isoflop_store::Store;
use std::path::PathBuf;
use std::sync::Arc;

/// A study ready to be conducted.
pub struct Conductor<'a> {
    /// What is to be done.
    pub study: &'a FewShotStudy,
    /// Its pictures.
    pub set: &'a Arc<ImageSet>,
    /// Other pictures that are only tested on.
    pub also: &'a [Also],
    /// Where its runs are kept.
    pub store_root: PathBuf,
    /// Where tables and page go.
    pub out: PathBuf,
    /// Asked between two pieces of work.
    pub stop: &'a Stop,
}

/// What came of a study.
pub struct Conducted {
    /// Whether a run diverged.
    pub diverged: bool,
    /// Runs that other processes work on.
    pub waits_for: Vec<String>,
    /// The results, once every run is over.
    pub results: Option<FewShotInput>,
}

/// An entry with what its test came to.
pub struct Outcome<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// Its test.
    pub tested: Tested,
    /// What judged, for episodes that are drawn; of the main comparison alone.
    pub frozen: Option<evaluate::Frozen>,
}

impl Conductor<'_> {
    /// Trains what is not trained yet, tests, and writes all artifacts.
    ///
    /// # Errors
    /// [`Stopped`] where it was asked to; what was done is saved.
    pub fn conduct(&self, recorder: &mut dyn Recorder) -> anyhow::Result<Conducted> {
        let store = open_store(&self.store_root)?;
        let saved = |error: anyhow::Error| match error.is::<Stopped>() {
            true => error.context("saved; the same command goes on from here"),
            false => error,
        };
        let name = self.study.asked.name.as_str();
        let instruments = Instruments::start(
            (name, self.study.machine()),
            &self.study.runs,
            &store,
            self.stop,
            recorder.voice(),
        )?;
        let (mut diverged, mut waits_for) = (Vec::new(), Vec::new());
        for spec in &self.study.runs {
            let lost = |id: &String| {
                spec.train.init_from.as_ref().is_some_and(|from| from.path.iter().any(|p| *p == **id))
            };
            // What starts from a diverged run is lost with it; what starts from one that is held waits with it.
            if let Some(fate) = [&mut diverged, &mut waits_for].into_iter().find(|ids| ids.iter().any(lost)) {
                fate.push(spec.id.clone());
                continue;
            }
            let machine = self.study.machine();
            let mut train_one = |job: &crate::train::train_loop::Job<'_>,
                                 to: &mut crate::record::RunRecorder<'_>| {
                let mut engine = task::engine(job.spec, machine)?;
                // What a frozen backbone makes of the images is part of the run's operations, so of its time too.
                let mut laps = Laps::begin(job.meters.energy.clone(), Activity::Training);
                let features = task::frozen_features(job.spec, self.set, &mut engine, self.stop)?;
                let (_, before) = laps.turn_to(Activity::Training, &mut Spent::default());
                let mut images = task::ImageTask::new(job.spec, self.set, features)?;
                train_after(before, job, &mut images, &mut engine, to)
            };
            let every = machine.checkpoint_every_s;
            let planned = match task::memory_plan(spec, machine) {
                Ok(plan) => Measured::measured(plan.total()),
                Err(e) => Measured::missing(e.to_string()),
            };
            let watched = (self.stop, &instruments);
            let executed = execute((name, spec), &store, watched, recorder, &mut train_one, every, planned);
            match executed.map_err(saved)? {
                Executed::Done => {}
                Executed::Held(_) => waits_for.push(spec.id.clone()),
                Executed::Diverged => {
                    recorder.note(&format!("{}: diverged; what starts from it is left out", spec.id))?;
                    diverged.push(spec.id.clone());
                }
            }
        }
        let lost = !diverged.is_empty();
        if !waits_for.is_empty() {
            return Ok(Conducted { diverged: lost, waits_for, results: None });
        }
        recorder.record(&Event::Fitting)?;
        let results = self.finish(&store, &diverged, recorder).map_err(saved)?;
        Ok(Conducted { diverged: lost, waits_for, results: Some(results) })
    }

    /// The test, tables and page.
    fn finish(
        &self,
        store: &Store,
        diverged: &[String],
        recorder: &mut dyn Recorder,
    ) -> anyhow::Result<FewShotInput> {
        let _alone = store.lock_study(&self.study.asked.name)?;
        let mut outcomes = Vec::new();
        for entry in &self.study.entries {
            let run = &self.study.runs[entry.run];
            if diverged.contains(&run.id) {
                continue;
            }
            let queries = self.study.asked.test.queries;
            let (tested, frozen) = test_entry(self.study, entry, store, (self.set, queries), self.stop)?;
            let main = entry.arm.is_empty();
            if main {
                recorder.note(&line(entry, &tested))?;
            }
            outcomes.push(Outcome { entry, tested, frozen: main.then_some(frozen) });
        }
        let start = self.at_start(store, diverged)?;
        let mut input = results::input(self.study, self.set, store, &outcomes, start)?;
        for also in self.also {
            let mut elsewhere = Vec::new();
            let queries = self.study.asked.test.also_queries;
            for entry in outcomes.iter().map(|outcome| outcome.entry).filter(|entry| entry.arm.is_empty()) {
                let (tested, _) = test_entry(self.study, entry, store, (&also.set, queries), self.stop)?;
                elsewhere.push(Outcome { entry, tested, frozen: None });
            }
            input.elsewhere.extend(results::elsewhere(also, queries, &elsewhere)?);
        }
        input.cost = Some(self.cost(store)?);
        pages::write(&self.out, &input, &outcomes)?;
        Ok(input)
    }

    /// What training all runs cost.
    fn cost(&self, store: &Store) -> anyhow::Result<Section> {
        let ids: Vec<&str> = self.study.runs.iter().map(|run| run.id.as_str()).collect();
        let collected = store.collect_begun(&ids)?;
        let machine = self.study.machine();
        let done = self
            .study
            .runs
            .iter()
            .filter(|run| collected.runs.iter().any(|begun| begun.id() == run.id && begun.is_done()));
        let flops = done.map(|run| task::flops_per_image(run) * run.tokens_at(run.end()) as f64).sum();
        let plans = self.study.runs.iter().filter_map(|run| task::memory_plan(run, machine).ok());
        let planned = plans.map(|plan| plan.total()).max();
        Ok(spending::section(&Account {
            machine,
            collected: &collected,
            curves: &collected.curves()?,
            planned: planned.map_or_else(|| Measured::missing("there is no run"), Measured::measured),
            flops: Measured::measured(flops),
            noted: &Noted::read(store, ids),
        }))
    }
}

impl Conductor<'_> {
    /// The module to the letter before it was trained on episodes, if it is among the methods.
    fn at_start(&self, store: &Store, diverged: &[String]) -> anyhow::Result<Option<AtStart>> {
        let literal = Method::Head(HeadKind::Ccd);
        let found =
            self.study.entries.iter().find(|e| e.method == literal && e.arm.is_empty() && e.start.is_some());
        let Some((entry, start)) = found.and_then(|entry| entry.start.map(|start| (entry, start))) else {
            return Ok(None);
        };
        let (run, from) = (&self.study.runs[entry.run], &self.study.runs[start]);
        if diverged.contains(&from.id) {
            return Ok(None);
        }
        let mut engine = task::looking(run, self.study.machine())?;
        let mut checkpoint = store.read_run(&from.id)?.open_checkpoint(&checkpoint_label(from))?;
        engine.load_backbone(&mut WeightsOnly(&mut checkpoint))?;
        let kernels = task::kernels(run)?;
        let frozen = evaluate::Frozen::new(&mut engine, literal, self.set, "test", kernels, self.stop)?;
        let episodes = evaluate::test_episodes(self.study, self.set, entry.shots)?;
        let tested = frozen.test(&episodes, START_EPISODES, self.study.machine().threads, self.stop)?;
        let accuracy = results::interval(&tested.accuracies().collect::<Vec<_>>()).mean;
        let cosine_after = tested.geometry.map_or(f64::NAN, |geometry| geometry.cosine_after);
        Ok(Some(AtStart { accuracy, cosine_after, chance: 1.0 / self.study.asked.test.ways as f64 }))
    }
}

/// Episodes that tell what a method is before its training.
const START_EPISODES: u64 = 500;

/// `ccd-residual  5-shot  seed 1  81.23 ± 0.11 %  10,000 episodes in 1.2 s`.
fn line(entry: &Entry, tested: &Tested) -> String {
    let accuracy = results::interval(&tested.accuracies().collect::<Vec<_>>());
    format!(
        "{:<13} {}-shot  seed {}  {:.2} ± {:.2} %  {} episodes in {:.1} s",
        entry.method.word(),
        entry.shots,
        entry.seed,
        100.0 * accuracy.mean,
        100.0 * accuracy.half,
        tested.correct.len(),
        tested.seconds
    )
}
