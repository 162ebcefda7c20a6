//! What the runs of a study have left so far: their points, a row for each run, and the laws of the points.

use crate::gpt;
use crate::kinds;
use crate::train::program::Program;
use isoflop_base::study::{MachineSpec, PROCESSOR, RunSpec, Study, StudyKind};
use isoflop_base::{Cost, Measured, Point, PointKind, Status};
use isoflop_laws::{LawDocument, LawError, Options, Table};
use isoflop_report::RunRow;
use isoflop_store::{Collected, CollectedRun, Store};

/// What the runs of a study have left so far.
pub struct Gathered {
    pub collected: Collected,
    /// A row for each of its runs.
    pub rows: Vec<RunRow>,
}

/// Reads the study's runs as they are on disk; runs that were not begun are left out.
pub fn gather(study: &Study, store: &Store) -> anyhow::Result<Gathered> {
    let ids: Vec<&str> = study.runs.iter().map(|spec| spec.id.as_str()).collect();
    let mut collected = store.collect_begun(&ids)?;
    for run in &mut collected.runs {
        let spec =
            study.runs.iter().find(|spec| spec.id == run.id()).expect("only the study's were asked for");
        only_asked(spec, run);
    }
    let mut rows = Vec::new();
    for run in &collected.runs {
        let spec =
            study.runs.iter().find(|spec| spec.id == run.id()).expect("only the study's were asked for");
        let tokens = spec.tokens_at(Program::new(spec).steps()) as f64;
        let per_token = gpt::run_flops_per_token(spec);
        let seconds = seconds(run);
        let rate = match seconds.value() {
            Some(s) if run.is_done() && *s > 0.0 => Measured::measured(tokens / s),
            _ => Measured::missing("the run is not finished"),
        };
        rows.push(RunRow {
            run: spec.id.clone(),
            model: spec.model.name(),
            params: spec.model.params(),
            seed: spec.seed,
            status: run.status.clone(),
            seconds,
            flops_per_s: rate.clone().map(|r| r * per_token),
            tokens_per_s: rate,
        });
    }
    Ok(Gathered { collected, rows })
}

/// Of a run that another study, or this one before, asked for more of, the points that are asked for now.
fn only_asked(spec: &RunSpec, run: &mut CollectedRun) {
    run.points.retain(|point| spec.ends.contains(&point.steps));
    for point in &mut run.points {
        point.kind = if point.steps == spec.end() { PointKind::Final } else { PointKind::Branch };
    }
    if run.status == Status::Done && run.points.len() < spec.ends.len() {
        run.status = Status::Running;
    }
}

/// Seconds of training, branches included.
fn seconds(run: &CollectedRun) -> Measured<f64> {
    run.cost.map_or_else(|| Measured::missing("no checkpoint yet"), |cost| Measured::measured(cost.seconds))
}

/// Joules of training, branches included.
pub fn joules(run: &CollectedRun) -> Measured<f64> {
    joules_of(run.cost, &run.points)
}

/// Joules of a run's cost; its points say what an estimate is made from.
pub fn joules_of(cost: Option<Cost>, points: &[Point]) -> Measured<f64> {
    match cost {
        Some(Cost { joules: Some(joules), estimated: true, .. }) => {
            let how = points.iter().find_map(|point| match &point.energy_j {
                Measured::Estimated { how, .. } => Some(how.clone()),
                _ => None,
            });
            Measured::estimated(joules, how.unwrap_or_else(|| "what the machine shows".to_owned()))
        }
        Some(Cost { joules: Some(joules), .. }) => Measured::measured(joules),
        _ => Measured::missing("no energy counter was read during the run"),
    }
}

/// The points of runs as the laws see them: those of runs that are not done are left out, and listed with the reason.
pub fn table(collected: &Collected) -> Table {
    Table::from_points(collected.points())
}

/// The laws of runs, with differences between sizes paired by held-out block, and why there is no law yet if there is
/// none.
pub fn laws(collected: &Collected, options: &Options) -> (LawDocument, Option<LawError>) {
    let points: Vec<(&Point, &Status)> = collected.points().collect();
    isoflop_laws::fit_points(&points, options)
}

/// The laws of what runs have finished so far: as [`laws`], with the points of runs that are still going on, which are
/// finished schedules like any other. Once all runs are done both are the same.
pub fn laws_so_far(mut collected: Collected, options: &Options) -> (LawDocument, Option<LawError>) {
    for run in &mut collected.runs {
        if matches!(run.status, Status::Running | Status::Stopped { .. }) {
            run.status = Status::Done;
        }
    }
    laws(&collected, options)
}

/// Of runs of one study, in its order, those that its laws are fitted to. A store does not say of which kind a study
/// was; the axes of its arms do.
pub fn of_the_law(runs: &[&RunSpec]) -> Vec<bool> {
    let has = |axis: &str| runs.iter().any(|run| run.arm.contains_key(axis));
    let kind = match () {
        () if has("budget") => StudyKind::Isoflop,
        () if has("batch") && has("rate") => StudyKind::Lr,
        () if runs.iter().any(|run| !run.arm.is_empty()) => StudyKind::Data,
        () => StudyKind::Scaling,
    };
    let machine = MachineSpec {
        threads: 1,
        device: PROCESSOR.to_owned(),
        checkpoint_every_s: 0.0,
        instruments: Default::default(),
    };
    let study = Study {
        name: String::new(),
        kind,
        runs: runs.iter().map(|run| (*run).clone()).collect(),
        machine,
        claims: Vec::new(),
        resolutions: Vec::new(),
    };
    study.runs.iter().map(|run| kinds::of(kind).is_of_the_law(&study, run)).collect()
}
