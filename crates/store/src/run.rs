//! One run: its specification, logs, status and checkpoints.

use crate::{Checkpoint, CheckpointWriter, Checkpoints, Damaged, StoreError};
use isoflop_base::{CurveRow, Point, Status};
use serde_json::Value;
use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

/// A run as it is on disk. Reads each time it is asked; takes no lock.
#[derive(Debug, Clone)]
pub struct RunView {
    id: String,
    dir: PathBuf,
    spec: Value,
}

/// A run open for writing: a [`RunView`] with the run's lock, which is released on drop and when the process dies.
#[derive(Debug)]
pub struct Run {
    view: RunView,
}

/// What [`Run::cut_back`] moved away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CutBack {
    /// Curve rows moved.
    pub rows: usize,
    /// Points moved.
    pub points: usize,
    /// Checkpoints moved (labels).
    pub checkpoints: Vec<String>,
    /// Number of the attempt they were moved to; `None` if there was nothing to move.
    pub attempt: Option<u32>,
}

/// What is wrong with a run's files, each in words; empty if nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Problems found.
    pub problems: Vec<String>,
}

impl RunView {
    /// Run id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The resolved specification it was made from.
    pub fn spec(&self) -> &Value {
        &self.spec
    }

    /// How far it is ([`Status::Running`] before any was set).
    pub fn status(&self) -> Result<Status, StoreError> {
        unimplemented!()
    }

    /// All curve rows, in the order of execution. A torn last record is left out.
    pub fn curves(&self) -> Result<Vec<CurveRow>, StoreError> {
        unimplemented!()
    }

    /// All finished points, in the order of execution. A torn last record is left out.
    pub fn points(&self) -> Result<Vec<Point>, StoreError> {
        unimplemented!()
    }

    /// Complete checkpoints, newest first, and damaged ones with the reason. Manifests and lengths are checked here;
    /// hashes when a checkpoint is opened.
    pub fn checkpoints(&self) -> Result<Checkpoints, StoreError> {
        unimplemented!()
    }

    /// Opens a checkpoint of this run, after verifying every length and hash against its manifest.
    pub fn open_checkpoint(&self, label: &str) -> Result<Checkpoint, StoreError> {
        let _ = label;
        unimplemented!()
    }

    /// Opens the newest checkpoint that verifies; damaged ones it had to pass over are returned with the reason.
    pub fn latest_checkpoint(&self) -> Result<(Option<Checkpoint>, Vec<Damaged>), StoreError> {
        unimplemented!()
    }

    /// Reads and verifies everything.
    pub fn health(&self) -> Health {
        unimplemented!()
    }
}

impl Deref for Run {
    type Target = RunView;

    fn deref(&self) -> &RunView {
        &self.view
    }
}

impl Run {
    /// Records how far the run is.
    pub fn set_status(&mut self, status: Status) -> Result<(), StoreError> {
        let _ = status;
        unimplemented!()
    }

    /// Appends a curve row at `position`. Errors if a number in it is not finite.
    pub fn append_curve(&mut self, position: u64, row: &CurveRow) -> Result<(), StoreError> {
        let _ = (position, row);
        unimplemented!()
    }

    /// Appends a finished point at `position` and syncs it to disk. Errors if a number in it is not finite.
    pub fn add_point(&mut self, position: u64, point: &Point) -> Result<(), StoreError> {
        let _ = (position, point);
        unimplemented!()
    }

    /// Begins a checkpoint. It becomes visible at [`CheckpointWriter::finish`], in place of one of the same label; dropped before, it
    /// leaves nothing. The newest two are kept, and all that were pinned ([`CheckpointWriter::pin`]).
    pub fn begin_checkpoint(&mut self, label: &str, position: u64) -> Result<CheckpointWriter, StoreError> {
        let _ = (label, position);
        unimplemented!()
    }

    /// Deletes a checkpoint, pinned or not; fine if there is none.
    pub fn remove_checkpoint(&mut self, label: &str) -> Result<(), StoreError> {
        let _ = label;
        unimplemented!()
    }

    /// Makes the run what it was at `position` (0: nothing yet): records and checkpoints beyond it, and damaged
    /// checkpoints, move to `attempts/<n>/`. Call it once, after choosing the checkpoint to resume.
    pub fn cut_back(&mut self, position: u64) -> Result<CutBack, StoreError> {
        let _ = position;
        unimplemented!()
    }
}
