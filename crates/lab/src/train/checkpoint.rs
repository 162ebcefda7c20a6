//! How a run is saved, taken up again, and led back to a fork.

use super::program::Program;
use super::state::{Place, STATE_SCHEMA};
use super::train_loop::Job;
use crate::record::{Recorder as _, RunRecorder};
use crate::task::Task;
use anyhow::Context as _;
use isoflop_base::RunDocument;
use isoflop_nn::Engine as _;
use isoflop_store::{Checkpoint, Damaged, Run, RunView};

/// Saves engine and place; under `pinned` label it stays, else it is one of the rolling two.
pub(super) fn save<T: Task>(
    job: &Job<'_>,
    task: &T,
    engine: &T::Engine,
    run: &mut Run,
    place: &Place,
    pinned: Option<&str>,
) -> anyhow::Result<()> {
    let label = pinned.map_or_else(|| format!("at-{}", place.position), str::to_owned);
    let mut write = || -> anyhow::Result<()> {
        let mut writer = run.begin_checkpoint(&label, place.position)?;
        if pinned.is_some() {
            writer.pin();
        }
        engine.save(&mut writer)?;
        let texts = task.texts();
        for (name, text) in &texts.others {
            writer.add_text(name, text)?;
        }
        writer.finish(&serde_json::to_value(place)?, &texts.config)?;
        run.set_cost(place.total_cost)?;
        Ok(())
    };
    write().with_context(|| format!("saving checkpoint {label} of {}", job.spec.id))
}

/// Deletes what only an unfinished run needs: rolling checkpoints and forks but the last, from which a longer point can
/// be reached. The finished points' own stay.
pub(crate) fn drop_scaffolding(run: &mut Run, program: &Program) -> anyhow::Result<()> {
    let last_fork = program.last_fork();
    for info in run.checkpoints()?.complete {
        if !info.label.starts_with("point-") && Some(info.label.as_str()) != last_fork {
            run.remove_checkpoint(&info.label)?;
        }
    }
    Ok(())
}

/// Steps into the segment after the one that is done: a branch goes on from the fork just saved, the trunk returns to
/// it.
pub(super) fn enter_next_segment<T: Task>(
    job: &Job<'_>,
    engine: &mut T::Engine,
    run: &Run,
    place: &mut Place,
) -> anyhow::Result<()> {
    let next = place.segment + 1;
    if let Some(label) = &job.program.segments[next].from_fork {
        let mut fork = run.open_checkpoint(label)?;
        let there = read_place(&fork)?;
        engine.load(&mut fork).with_context(|| format!("returning to {label}"))?;
        *place = there.returned_to_from(place);
    }
    place.segment = next;
    place.segment_done = false;
    place.ends = job.program.ends_through(next);
    Ok(())
}

fn read_place(checkpoint: &Checkpoint) -> anyhow::Result<Place> {
    let place: Place = serde_json::from_value(checkpoint.state().clone())
        .with_context(|| format!("state.json of checkpoint {} cannot be read", checkpoint.label()))?;
    anyhow::ensure!(
        place.schema == STATE_SCHEMA,
        "checkpoint {} was written by another version ({})\nhint: finish the run with that version, or use \
         another --store",
        checkpoint.label(),
        place.schema
    );
    Ok(place)
}

/// Brings engine and logs to the newest place that can be gone on from: the newest checkpoint that verifies, lies in
/// the program and whose fork verifies too; else the very beginning.
pub(super) fn take_up<T: Task>(
    job: &Job<'_>,
    task: &T,
    engine: &mut T::Engine,
    recorder: &mut RunRecorder<'_>,
) -> anyhow::Result<Place> {
    let usable =
        |view: &RunView, checkpoint: &Checkpoint| usable(job, view, checkpoint).map_err(|e| format!("{e:#}"));
    let resumed = recorder.run.resume(usable).with_context(|| format!("going on with {}", job.spec.id))?;
    for Damaged { label, why } in &resumed.passed_over {
        recorder.note(&format!(
            "{}: checkpoint {label} cannot be gone on from ({why}), going on from the one before",
            job.spec.id
        ))?;
    }
    let Some((mut checkpoint, place)) = resumed.from else {
        task.begin(engine)?;
        return Ok(Place::start(job.program.ends_through(0)));
    };
    engine.load(&mut checkpoint).with_context(|| format!("loading checkpoint {}", checkpoint.label()))?;
    recorder.note(&format!("{}: going on from step {} of {}", job.spec.id, place.step, job.spec.end()))?;
    Ok(place)
}

/// The place in the program of a checkpoint that verifies, if what that place needs later is there too.
fn usable(job: &Job<'_>, run: &RunView, checkpoint: &Checkpoint) -> anyhow::Result<Place> {
    let before = RunDocument::read(run.spec()).map(|document| document.run.ends).unwrap_or_default();
    let place = job.program.locate(read_place(checkpoint)?, &before);
    let place = place.context("it is not on the way to the points asked for")?;
    let finished: Vec<u64> = run.points()?.iter().map(|point| point.steps).collect();
    let behind = &place.ends[..place.ends.len() - 1];
    anyhow::ensure!(behind.iter().all(|end| finished.contains(end)), "a point before it is not finished");
    if let Some(fork) = job.program.segments.get(place.segment + 1).and_then(|next| next.from_fork.as_ref()) {
        run.open_checkpoint(fork).with_context(|| format!("it needs {fork} later"))?;
    }
    Ok(place)
}
