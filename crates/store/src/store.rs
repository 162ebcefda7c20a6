//! A directory of runs.

use crate::{
    Run, RunView, StoreError, files,
    index::{self, Fresh, Index},
    names,
    run::{self, Progress},
    spec,
};
use isoflop_base::{Cost, Point, PointKind, RunDocument, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

/// A directory of runs. Cheap to clone; holds nothing open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The lock of a study, see [`Store::lock_study`].
#[derive(Debug)]
pub struct StudyLock(#[expect(dead_code, reason = "held, not used")] files::Lock);

/// One run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Run id.
    pub id: String,
    /// How far it is. In JSON its fields stand beside the others: `"status": "done"`.
    #[serde(flatten)]
    pub status: Status,
    /// Kaplan's N, from its points or its specification.
    pub params: Option<u64>,
    /// Tokens D of its furthest finished point.
    pub tokens: Option<u64>,
    /// Validation loss of that point, nats per token.
    pub loss: Option<f64>,
    /// Its standard error.
    pub loss_se: Option<f64>,
    /// Training tokens per second of that point.
    pub tokens_per_s: Option<f64>,
    /// Finished points.
    pub num_points: u64,
    /// What its training cost so far, branches included.
    pub cost: Option<Cost>,
    /// Last change of its status or checkpoint, seconds since 1970 UTC; 0 if there was none.
    pub updated_unix_s: u64,
}

impl RunSummary {
    pub(crate) fn new(view: &RunView, progress: Progress, cost: Option<Cost>, points: &[Point]) -> Self {
        let furthest = points.iter().max_by_key(|p| (p.kind == PointKind::Final, p.tokens));
        Self {
            id: view.id().to_owned(),
            status: progress.status,
            params: furthest.map(|p| p.params).or_else(|| spec::shape(view.spec()).map(|s| s.params())),
            tokens: furthest.map(|p| p.tokens),
            loss: furthest.map(|p| p.loss),
            loss_se: furthest.and_then(|p| p.loss_se),
            tokens_per_s: furthest.and_then(|p| p.tokens_per_s.value().copied()),
            num_points: points.len() as u64,
            cost,
            updated_unix_s: progress.updated_unix_s,
        }
    }
}

/// The runs of a store, sorted by id, with notes about what could not be read.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// What a person should know: unreadable runs, an index that could not be used.
    pub notes: Vec<String>,
}

impl Store {
    /// Opens the store at `root`, making the directory if needed. Errors if it can't be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        files::make_directory(&root)?;
        Ok(Self { root })
    }

    /// Opens a store that must exist, for reading.
    pub fn open_existing(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        if root.is_dir() { Ok(Self { root }) } else { Err(StoreError::NoSuchStore { path: root }) }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the run `id` from the resolved `spec`, or opens it for writing if it exists with the same one.
    /// Takes the run's lock.
    pub fn create_or_open_run(&self, id: &str, spec: &Value) -> Result<Run, StoreError> {
        names::check("run id", id)?;
        Run::open(id, self.root.join(id), spec, &|stored| match crate::spec::differences(stored, spec)
            .into_iter()
            .next()
        {
            Some(first) => Err(StoreError::SpecMismatch {
                run: id.to_owned(),
                key: first.key,
                stored: first.left,
                asked: first.right,
            }),
            None => Ok(stored.clone()),
        })
    }

    /// Creates the run of a document, or opens it for writing if it exists with the same identity: then it goes on
    /// with the points that are asked for now, and with the warm-up it began with. Takes the run's lock.
    ///
    /// # Errors
    /// [`StoreError::SpecMismatch`] with both values; [`StoreError::UnknownFormat`] if what is stored is of a format
    /// not known here; [`StoreError::Locked`].
    pub fn open_run(&self, document: &RunDocument) -> Result<Run, StoreError> {
        let id = document.run.id.as_str();
        names::check("run id", id)?;
        let as_value = |document: &RunDocument| serde_json::to_value(document).expect("plain data");
        Run::open(id, self.root.join(id), &as_value(document), &|stored| {
            let known = RunDocument::read(stored)
                .map_err(|e| StoreError::UnknownFormat { run: id.to_owned(), why: e.to_string() })?;
            let goes_on = known.gone_on_with(document).map_err(|mut differences| {
                let first = differences.swap_remove(0);
                StoreError::SpecMismatch {
                    run: id.to_owned(),
                    key: first.key,
                    stored: first.stored,
                    asked: first.asked,
                }
            })?;
            Ok(as_value(&goes_on))
        })
    }

    /// Takes the lock of a study: what follows a stage is done by one process at a time. Released on drop.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it.
    pub fn lock_study(&self, name: &str) -> Result<StudyLock, StoreError> {
        names::check("study", name)?;
        run::lock_file(name, &self.root.join(format!("{name}.lock"))).map(StudyLock)
    }

    /// A run as it is on disk, without its lock. Errors: [`StoreError::NoSuchRun`] with the nearest ids.
    pub fn read_run(&self, id: &str) -> Result<RunView, StoreError> {
        let dir = self.find(id)?;
        match RunView::read(id, dir)? {
            Some(view) => Ok(view),
            None => Err(self.no_such_run(id)),
        }
    }

    /// The directory of the run `id`, which exists.
    fn find(&self, id: &str) -> Result<PathBuf, StoreError> {
        let dir = self.root.join(id);
        let exists = names::check("run id", id).is_ok() && dir.join(run::SPEC).is_file();
        if exists { Ok(dir) } else { Err(self.no_such_run(id)) }
    }

    fn no_such_run(&self, id: &str) -> StoreError {
        let nearest = names::nearest(id, &self.run_ids().unwrap_or_default());
        StoreError::NoSuchRun { id: id.to_owned(), store: self.root.clone(), nearest }
    }

    /// Ids of all runs, sorted.
    pub fn run_ids(&self) -> Result<Vec<String>, StoreError> {
        let is_run =
            |n: &String| names::check("run id", n).is_ok() && self.root.join(n).join(run::SPEC).is_file();
        Ok(files::names(&self.root)?.into_iter().filter(is_run).collect())
    }

    /// Every run in a line each. The index saves reading runs that have not changed.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut notes = Vec::new();
        let unusable = |e: rusqlite::Error| {
            format!(
                "the index could not be used ({e}); the run directories were read instead\nhint: `isoflop \
                 runs reindex` rebuilds it"
            )
        };
        let opened = Index::open(&self.root).and_then(|index| index.summaries().map(|known| (index, known)));
        let (mut index, known) = match opened {
            Ok((index, known)) => (Some(index), known),
            Err(e) => {
                notes.push(unusable(e));
                (None, HashMap::new())
            }
        };
        let ids = self.run_ids()?;
        let (runs, fresh) = self.summarise(&ids, &known, &mut notes);
        let present: HashSet<&String> = ids.iter().collect();
        let gone: Vec<String> = known.keys().filter(|id| !present.contains(id)).cloned().collect();
        if let Some(Err(e)) = index.as_mut().map(|index| index.update(&fresh, &gone)) {
            notes.push(unusable(e));
        }
        Ok(Listing { runs, notes })
    }

    /// Summaries of `ids`, and what had to be read for them.
    fn summarise(
        &self,
        ids: &[String],
        known: &HashMap<String, (String, RunSummary)>,
        notes: &mut Vec<String>,
    ) -> (Vec<RunSummary>, Vec<Fresh>) {
        let (mut runs, mut fresh) = (Vec::new(), Vec::new());
        for id in ids {
            let cached = known.get(id).filter(|(s, _)| *s == index::signature(&self.root.join(id)));
            if let Some((_, summary)) = cached {
                runs.push(summary.clone());
                continue;
            }
            match self.read_run(id).and_then(|view| index::read(&view)) {
                Ok(read) => {
                    runs.push(read.summary.clone());
                    fresh.push(read);
                }
                Err(e) => notes.push(format!("run `{id}` is left out: {e}")),
            }
        }
        (runs, fresh)
    }

    /// Deletes a run with all it holds, damaged or not. Errors if another process writes it.
    pub fn remove_run(&self, id: &str) -> Result<(), StoreError> {
        let dir = self.find(id)?;
        let _lock = run::lock(id, &dir)?;
        files::withdraw_directory(&dir)?;
        files::sweep_removed(&self.root)
    }

    /// Rebuilds the index from the run directories. Errors only if the index cannot be written.
    pub fn reindex(&self) -> Result<Listing, StoreError> {
        // Emptied in place where it can be, since other processes may have it open.
        if Index::open(&self.root).and_then(|mut index| index.clear()).is_err() {
            index::remove(&self.root)?;
        }
        self.list()
    }

    /// Replaces a file at once or not at all; a relative path is inside the store.
    pub fn write_artifact(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), StoreError> {
        write_artifact(self.root.join(path), bytes)
    }
}

/// Writes an output (`points.csv`, `law.json`, `report.html`, …) at `path`, making the directories above it if
/// needed: a plain file is replaced at once or not at all, links are followed, a device or a pipe is written into.
pub fn write_artifact(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), StoreError> {
    files::write_output(path.as_ref(), bytes)
}

/// Writes a large file at `path` from pieces, making the directories above it if needed: it is there whole or not at
/// all.
pub fn write_streamed<T, E: From<StoreError>>(
    path: impl AsRef<Path>,
    produce: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), StoreError>) -> Result<T, E>,
) -> Result<T, E> {
    files::replace_file_streamed(path.as_ref(), produce)
}

/// Bytes per second that reach the disk of `dir`, which must be there: `bytes` of a file are written, synced and
/// deleted.
///
/// # Errors
/// Nothing can be written there.
pub fn disk_bytes_per_s(dir: &Path, bytes: usize) -> Result<f64, StoreError> {
    let seconds = files::time_writing(dir, bytes).map_err(files::not_writable(dir))?;
    Ok(bytes as f64 / seconds.max(1e-9))
}
