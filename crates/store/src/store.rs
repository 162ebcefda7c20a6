//! A directory of runs.

use crate::{Run, RunView, StoreError};
use isoflop_base::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A directory of runs.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Run id.
    pub id: String,
    /// How far it is.
    pub status: Status,
    /// Kaplan's N, from its points.
    pub params: Option<u64>,
    /// Tokens D of its largest finished point.
    pub tokens: Option<u64>,
    /// Validation loss of that point, nats per token.
    pub loss: Option<f64>,
    /// Its standard error.
    pub loss_se: Option<f64>,
    /// Training tokens per second of that point.
    pub tokens_per_s: Option<f64>,
    /// Finished points.
    pub num_points: u64,
    /// Last change of its status, seconds since 1970 UTC.
    pub updated_unix_s: u64,
}

/// The runs of a store, sorted by id, with notes about what could not be read.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// What a person should know: unreadable runs, an index that could not be used.
    pub notes: Vec<String>,
}

/// Format of exported tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `points.csv` and `curves.csv`.
    Csv,
    /// `points.jsonl` and `curves.jsonl`.
    Jsonl,
}

impl Store {
    /// Opens the store at `root`, making the directory if needed. Errors if it can't be written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self { root: root.into() })
    }

    /// Opens a store for reading: it must exist.
    pub fn open_existing(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self { root: root.into() })
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the run `id` from the resolved `spec`, or opens it for writing if it exists with the same one.
    /// Keys named `measured` or `volatile`, at any depth, are not compared. Takes the run's lock.
    pub fn create_or_open_run(&self, id: &str, spec: &Value) -> Result<Run, StoreError> {
        self.create_or_open_run_ignoring(id, spec, &[])
    }

    /// As [`Store::create_or_open_run`], with further key paths (`machine`, `train.threads`) left out of the comparison.
    pub fn create_or_open_run_ignoring(
        &self,
        id: &str,
        spec: &Value,
        ignored: &[&str],
    ) -> Result<Run, StoreError> {
        let _ = (id, spec, ignored);
        unimplemented!()
    }

    /// A run as it is on disk, without its lock. Errors: [`StoreError::NoSuchRun`] with the nearest ids.
    pub fn read_run(&self, id: &str) -> Result<RunView, StoreError> {
        let _ = id;
        unimplemented!()
    }

    /// Ids of all runs, sorted.
    pub fn run_ids(&self) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }

    /// Every run in a line each.
    pub fn list(&self) -> Result<Listing, StoreError> {
        unimplemented!()
    }

    /// Deletes a run with all it holds. Errors if another process writes it.
    pub fn remove_run(&self, id: &str) -> Result<(), StoreError> {
        let _ = id;
        unimplemented!()
    }

    /// Rebuilds the index from the run directories; the number of runs in it.
    pub fn reindex(&self) -> Result<usize, StoreError> {
        unimplemented!()
    }

    /// Writes points and curves of the runs `ids` (all if empty) into `dir`; the files written.
    pub fn export(
        &self,
        ids: &[String],
        format: ExportFormat,
        dir: &Path,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let _ = (ids, format, dir);
        unimplemented!()
    }

    /// Replaces a file at once or not at all; a relative path is inside the store.
    pub fn write_artifact(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), StoreError> {
        write_artifact(self.root.join(path), bytes)
    }
}

/// Replaces the file at `path` (`points.csv`, `law.json`, `report.html`, …) at once or not at all, making the
/// directories above it if needed.
pub fn write_artifact(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), StoreError> {
    let _ = (path.as_ref(), bytes);
    unimplemented!()
}
