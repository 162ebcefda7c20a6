//! All that the runs of a store have left, read once and joined once.
//!
//! Whether a point enters a fit depends on the status of its run. The two are joined here, where both are read from the
//! same directory, so that no later reader has to find a status by a run's name and to guess when it finds none.

use crate::{RunView, Store, StoreError, spec};
use isoflop_base::{Cost, CurveRow, ModelShape, Point, Status, columns::Frame};
use serde_json::Value;

/// A run with what it has left so far.
#[derive(Debug, Clone)]
pub struct CollectedRun {
    view: RunView,
    /// How far it is.
    pub status: Status,
    /// What its training cost so far, branches included; `None` before its first checkpoint.
    pub cost: Option<Cost>,
    /// Its finished points, in the order of execution.
    pub points: Vec<Point>,
}

impl CollectedRun {
    /// Run id.
    pub fn id(&self) -> &str {
        self.view.id()
    }

    /// The specification it was made from.
    pub fn spec(&self) -> &Value {
        self.view.spec()
    }

    /// The model's shape, from the specification.
    pub fn shape(&self) -> Option<ModelShape> {
        spec::shape(self.spec())
    }

    /// The seed, from the specification.
    pub fn seed(&self) -> Option<u64> {
        spec::find(self.spec(), &["seed"], Value::as_u64)
    }

    /// Whether all of it is finished: only then do its points enter fits.
    pub fn is_done(&self) -> bool {
        self.status == Status::Done
    }
}

/// Runs of a store, in the order in which they were asked for.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// The runs.
    pub runs: Vec<CollectedRun>,
}

impl Collected {
    /// Every finished point with the status of its run.
    pub fn points(&self) -> impl Iterator<Item = (&Point, &Status)> {
        self.runs.iter().flat_map(|run| run.points.iter().map(|point| (point, &run.status)))
    }

    /// Every row of the training curves. Read only here: a damaged curve must not keep points from being fitted.
    ///
    /// # Errors
    /// A curve that cannot be read.
    pub fn curves(&self) -> Result<Vec<CurveRow>, StoreError> {
        let mut rows = Vec::new();
        for run in &self.runs {
            rows.extend(run.view.curves()?);
        }
        Ok(rows)
    }

    /// The points as a table, for every format.
    pub fn points_frame(&self) -> Frame {
        Frame::of_points(self.points())
    }
}

impl Store {
    /// What all runs of the store have left, sorted by id.
    ///
    /// # Errors
    /// A run that cannot be read.
    pub fn collect(&self) -> Result<Collected, StoreError> {
        self.collect_runs(&self.run_ids()?)
    }

    /// What these runs have left.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`], with the nearest ids; a run that cannot be read.
    pub fn collect_runs<S: AsRef<str>>(&self, ids: &[S]) -> Result<Collected, StoreError> {
        let runs = ids.iter().map(|id| collect(self.read_run(id.as_ref())?)).collect::<Result<_, _>>()?;
        Ok(Collected { runs })
    }

    /// What those of these runs that were begun have left; runs the store does not have are left out.
    ///
    /// # Errors
    /// A run that cannot be read.
    pub fn collect_begun<S: AsRef<str>>(&self, ids: &[S]) -> Result<Collected, StoreError> {
        let mut runs = Vec::new();
        for id in ids {
            match self.read_run(id.as_ref()) {
                Err(StoreError::NoSuchRun { .. }) => {}
                view => runs.push(collect(view?)?),
            }
        }
        Ok(Collected { runs })
    }
}

fn collect(view: RunView) -> Result<CollectedRun, StoreError> {
    Ok(CollectedRun { status: view.status()?, cost: view.cost()?, points: view.points()?, view })
}
