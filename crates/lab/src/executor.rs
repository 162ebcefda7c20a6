//! Trains a run of a store to its end, from wherever it stands.

use crate::error::{Stopped, UserError};
use crate::gpt;
use crate::instruments::{Instruments, Watch};
use crate::record::{Event, Recorder, RunRecorder};
use crate::stop::Stop;
use crate::task::language::LanguageTask;
use crate::train::checkpoint::drop_scaffolding;
use crate::train::program::{Program, point_label};
use crate::train::train_loop::{Job, Outcome, train};
use anyhow::Context as _;
use isoflop_base::study::{MachineSpec, RunSpec};
use isoflop_base::{Measured, RunDocument, Status};
use isoflop_data::Corpus;
use isoflop_store::{LockHolder, Run, Store, StoreError};
use std::sync::Arc;

/// Where a run of a study has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Executed {
    /// All its points are finished.
    Done,
    /// It diverged, now or before.
    Diverged,
    /// Another process works on it.
    Held(LockHolder),
}

/// What is needed to execute the runs of a study of language models.
pub struct Executor<'a> {
    /// Name of the study.
    pub study: &'a str,
    /// How runs are run here.
    pub machine: &'a MachineSpec,
    /// The tokens.
    pub corpus: &'a Arc<Corpus>,
    /// Where runs are kept.
    pub store: &'a Store,
    /// Asked between two pieces of work.
    pub stop: &'a Stop,
    /// What watches them.
    pub instruments: &'a Instruments,
}

impl Executor<'_> {
    /// Trains a run to its end, from wherever it stands.
    ///
    /// # Errors
    /// As [`execute`].
    pub fn execute(&self, spec: &RunSpec, world: &mut dyn Recorder) -> anyhow::Result<Executed> {
        execute(
            (self.study, spec),
            self.store,
            (self.stop, self.instruments),
            world,
            &mut |job, recorder| {
                let mut task = LanguageTask::new(job.spec, self.corpus)?;
                let mut engine = gpt::engine(job.spec, self.machine)?;
                train(job, &mut task, &mut engine, recorder)
            },
            self.machine.checkpoint_every_s,
            match gpt::memory_plan(spec, self.machine) {
                Ok(plan) => Measured::measured(plan.total()),
                Err(e) => Measured::missing(e.to_string()),
            },
        )
    }
}

/// Trains a run of a study to its end, from wherever it stands. A run that is finished, diverged, or held by another
/// process is left alone. `train` makes task and engine of its family and goes through the loop; `planned` is the
/// memory the engine will take.
///
/// # Errors
/// [`Stopped`]; a run of this name with another identity, a [`UserError`]; whatever ends a training.
pub fn execute(
    (study, spec): (&str, &RunSpec),
    store: &Store,
    (stop, instruments): (&Stop, &Instruments),
    world: &mut dyn Recorder,
    train: &mut dyn FnMut(&Job<'_>, &mut RunRecorder<'_>) -> anyhow::Result<Outcome>,
    checkpoint_every_s: f64,
    planned: Measured<u64>,
) -> anyhow::Result<Executed> {
    stop.check()?;
    let document = RunDocument::new(study, spec);
    let mut run = match store.open_run(&document) {
        Err(StoreError::Locked { holder, .. }) => {
            world.note(&format!("{}: left to {holder}", spec.id))?;
            return Ok(Executed::Held(holder));
        }
        Err(e @ (StoreError::SpecMismatch { .. } | StoreError::UnknownFormat { .. })) => {
            return Err(UserError::from_error(e).into());
        }
        run => run?,
    };
    if let Status::Diverged { .. } = run.status()? {
        world.note(&format!("{}: diverged before; left as it is", spec.id))?;
        world.record(&Event::RunLeft(&spec.id))?;
        return Ok(Executed::Diverged);
    }
    let finished: Vec<u64> = run.points()?.iter().map(|point| point.steps).collect();
    if spec.ends.iter().all(|end| finished.contains(end)) && is_saved(&run, spec)? {
        if run.status()? != Status::Done {
            // It ended between its last checkpoint and what is done after it.
            drop_scaffolding(&mut run, &Program::new(spec))?;
            run.set_status(Status::Done)?;
        }
        world.record(&Event::RunLeft(&spec.id))?;
        return Ok(Executed::Done);
    }
    run.set_status(Status::Running)?;
    let mut spec = spec.clone();
    spec.train.warmup_steps = began_with(&run, &spec);
    let (program, meters) = (Program::new(&spec), instruments.meters(&spec));
    let job = Job { spec: &spec, program, checkpoint_every_s, stop, meters };
    instruments.attach(&run, &spec, planned);
    let mut watch = Watch::new(instruments, &mut *world);
    let trained = train(&job, &mut RunRecorder { run: &mut run, world: &mut watch });
    if let Ok(Outcome::Diverged) = trained
        && let Ok(Status::Diverged { step, segment }) = run.status()
    {
        watch.diverged(step, &segment);
    }
    instruments.detach();
    if let Err(error) = &trained
        && !error.is::<Stopped>()
    {
        // The error itself is what the user must see; a store that cannot even note it changes nothing about that.
        let _ = run.set_status(Status::Failed { reason: format!("{error:#}") });
    }
    world.record(&Event::RunEnds)?;
    match trained.with_context(|| format!("training {}", spec.id))? {
        Outcome::Done => Ok(Executed::Done),
        Outcome::Diverged => Ok(Executed::Diverged),
    }
}

/// Whether a run whose points are all recorded has the checkpoint of the last one too: a process can end between the
/// two. Of a run that was done, it may have been taken away since.
fn is_saved(run: &Run, spec: &RunSpec) -> anyhow::Result<bool> {
    let label = point_label(spec.tokens_at(spec.end()));
    Ok(run.status()? == Status::Done || run.checkpoints()?.complete.iter().any(|saved| saved.label == label))
}

/// The warm-up a run began with: a share was taken of the longest point it was to have then.
fn began_with(run: &Run, spec: &RunSpec) -> u64 {
    RunDocument::read(run.spec()).map_or(spec.train.warmup_steps, |document| document.run.train.warmup_steps)
}
