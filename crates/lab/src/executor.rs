//! Trains a run of a store to its end, from wherever it stands.

use crate::error::{Stopped, UserError};
use crate::gpt;
use crate::record::{Event, Recorder, RunRecorder};
use crate::stop::Stop;
use crate::train::job::Job;
use crate::train::train_loop::{Outcome, train};
use anyhow::Context as _;
use isoflop_base::Status;
use isoflop_base::study::{RunSpec, Study};
use isoflop_data::Corpus;
use isoflop_store::{Store, StoreError};

/// Trains a run in the store to its end, from wherever it stands. A run that is finished is left alone.
pub fn execute(
    store: &Store,
    study: &Study,
    spec: &RunSpec,
    corpus: &Corpus,
    stop: &Stop,
    world: &mut dyn Recorder,
) -> anyhow::Result<Outcome> {
    stop.check()?;
    let mut run = store.create_or_open_run(&spec.id, &study.run_document(spec)).map_err(|e| match e {
        StoreError::SpecMismatch { .. } => anyhow::Error::from(UserError::from_error(e)),
        e => e.into(),
    })?;
    match run.status()? {
        Status::Done => {
            world.record(&Event::RunLeft(&spec.id))?;
            return Ok(Outcome::Done);
        }
        Status::Diverged { .. } => {
            world.note(&format!("{}: diverged before; left as it is", spec.id))?;
            world.record(&Event::RunLeft(&spec.id))?;
            return Ok(Outcome::Diverged);
        }
        Status::Running | Status::Failed { .. } => run.set_status(Status::Running)?,
    }
    let flops = flops_per_token(spec.shape, study.data.vocab, study.train.context);
    let job = Job::new(study, spec, model_config(study, spec.shape), flops, corpus, stop)?;
    let mut engine = engine(study, spec.shape, spec.seed)?;
    let trained = train(&job, &mut engine, &mut RunRecorder { run: &mut run, world });
    if let Err(error) = &trained
        && !error.is::<Stopped>()
    {
        // The error itself is what the user must see; a store that cannot even note it changes nothing about that.
        let _ = run.set_status(Status::Failed { reason: format!("{error:#}") });
    }
    world.record(&Event::RunEnds)?;
    trained.with_context(|| format!("training {}", spec.id))
}
