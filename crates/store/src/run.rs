//! One run: its specification, logs, status and checkpoints.

use crate::{
    Checkpoint, CheckpointWriter, Checkpoints, Damaged, StoreError,
    checkpoint::{self, MANIFEST},
    events::EventFiles,
    files::{self, Appender, Lock, LockFailure, StagedDirectory},
    log::{self, Log},
    names,
    side::{self, SideLog, SideLogs},
    tail::Tail,
};
use isoflop_base::{Cost, CurveRow, Point, Status};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fs, io,
    ops::Deref,
    path::{Path, PathBuf},
};

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const STATUS: &str = "status.json";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const POINTS: &str = "points.jsonl";
const LOCK: &str = "lock";
const CHECKPOINTS: &str = "checkpoints";
const ATTEMPTS: &str = "attempts";
const EVENTS: &str = "events";
/// Marker of an attempt's directory.
const ATTEMPT: &str = "ATTEMPT.json";

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
    metrics: Appender,
    points: Appender,
    events: EventFiles,
    side: SideLogs,
    progress: Progress,
    /// Position of the last record; records never go back.
    last_position: u64,
    /// Held as long as the run is open.
    _lock: Lock,
}

/// `status.json`: how far a run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    #[serde(flatten)]
    pub(crate) status: Status,
    /// When this was written, seconds since 1970 UTC.
    #[serde(default)]
    pub(crate) updated_unix_s: u64,
    /// What training cost up to then; stores written before this was noted have it in their checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
}

impl Progress {
    /// Before any was written.
    const NONE: Self = Self { status: Status::Running, updated_unix_s: 0, cost: None };
}

/// What [`Run::resume`] moved away.
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

/// Where a run goes on: see [`Run::resume`].
#[derive(Debug)]
pub struct Resumed<T> {
    /// The checkpoint to load and what the caller read from it; `None` to begin at the beginning.
    pub from: Option<(Checkpoint, T)>,
    /// Newer checkpoints that could not be gone on from, newest first.
    pub passed_over: Vec<Damaged>,
    /// What was moved away.
    pub cut_back: CutBack,
}

/// What is wrong with a run's files, each in words; empty if nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Problems found.
    pub problems: Vec<String>,
}

impl RunView {
    /// Reads the run `id` in `dir`; `None` if there is none.
    pub(crate) fn read(id: &str, dir: PathBuf) -> Result<Option<Self>, StoreError> {
        Ok(read_document(&dir.join(SPEC))?.map(|spec| Self { id: id.to_owned(), dir, spec }))
    }

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
        Ok(self.progress()?.status)
    }

    /// What `status.json` says.
    pub(crate) fn progress(&self) -> Result<Progress, StoreError> {
        let path = self.dir.join(STATUS);
        let Some(value) = read_document(&path)? else { return Ok(Progress::NONE) };
        serde_json::from_value(value).map_err(|e| StoreError::CorruptFile { path, why: e.to_string() })
    }

    /// What training cost up to the last checkpoint, branches included; `None` before the first. No checkpoint is
    /// hashed for it: that of a large model takes seconds.
    pub fn cost(&self) -> Result<Option<Cost>, StoreError> {
        match self.progress()?.cost {
            Some(cost) => Ok(Some(cost)),
            None => Ok(self.checkpoints()?.complete.iter().find_map(checkpoint::total_cost)),
        }
    }

    /// All curve rows, in the order of execution. A torn last record is left out.
    pub fn curves(&self) -> Result<Vec<CurveRow>, StoreError> {
        Ok(log::read(&self.dir.join(METRICS))?.sound()?.into_values())
    }

    /// All finished points, in the order of execution. A torn last record is left out.
    pub fn points(&self) -> Result<Vec<Point>, StoreError> {
        Ok(log::read(&self.dir.join(POINTS))?.sound()?.into_values())
    }

    /// What a side log holds, oldest first; damaged lines are left out here and told by [`RunView::health`].
    pub fn side<T: DeserializeOwned>(&self, log: SideLog) -> Result<Vec<T>, StoreError> {
        side::read(&self.dir, log)
    }

    /// When its status or its last checkpoint was written, seconds since 1970 UTC; 0 before any was.
    pub fn updated_unix_s(&self) -> Result<u64, StoreError> {
        Ok(self.progress()?.updated_unix_s)
    }

    /// Length and time of its specification's file: a run that goes on with longer points has another.
    pub fn spec_stamp(&self) -> Option<(u64, std::time::SystemTime)> {
        let about = fs::metadata(self.dir.join(SPEC)).ok()?;
        Some((about.len(), about.modified().ok()?))
    }

    /// The curve rows, read as they are written.
    pub fn follow_curves(&self) -> Tail<CurveRow> {
        Tail::of(self.dir.join(METRICS))
    }

    /// The finished points, read as they are written.
    pub fn follow_points(&self) -> Tail<Point> {
        Tail::of(self.dir.join(POINTS))
    }

    /// A side log, read as it is written.
    pub fn follow_side<T: DeserializeOwned>(&self, log: SideLog) -> Tail<T> {
        Tail::of(self.dir.join(log.file()))
    }

    /// The newest curve row, without reading the whole log.
    pub fn last_curve_row(&self) -> Option<CurveRow> {
        log::last(&self.dir.join(METRICS))
    }

    /// Complete checkpoints, newest first, and damaged ones with the reason. Manifests and lengths are checked here;
    /// hashes when a checkpoint is opened.
    pub fn checkpoints(&self) -> Result<Checkpoints, StoreError> {
        checkpoint::list(&self.dir.join(CHECKPOINTS))
    }

    /// Opens a checkpoint of this run, after verifying every length and hash against its manifest.
    pub fn open_checkpoint(&self, label: &str) -> Result<Checkpoint, StoreError> {
        let dir = self.dir.join(CHECKPOINTS).join(label);
        if names::check("checkpoint label", label).is_err() || !dir.join(MANIFEST).exists() {
            let available = self.checkpoints()?.complete.into_iter().map(|c| c.label).collect();
            return Err(StoreError::NoSuchCheckpoint {
                run: self.id.clone(),
                label: label.to_owned(),
                available,
            });
        }
        Checkpoint::open_dir(dir)
    }

    /// Earlier attempts: what interrupted processes logged beyond the checkpoint that was resumed.
    pub fn num_attempts(&self) -> Result<usize, StoreError> {
        Ok(attempts(&self.dir)?.len())
    }

    /// Reads and verifies everything, hashes included.
    pub fn health(&self) -> Health {
        let mut problems = Vec::new();
        if let Err(e) = self.status() {
            problems.push(e.to_string());
        }
        inspect::<CurveRow>(&self.dir.join(METRICS), &mut problems);
        inspect::<Point>(&self.dir.join(POINTS), &mut problems);
        for log in SideLog::ALL {
            inspect::<Value>(&self.dir.join(log.file()), &mut problems);
        }
        match self.checkpoints() {
            Err(e) => problems.push(e.to_string()),
            Ok(Checkpoints { complete, damaged }) => {
                problems.extend(damaged.into_iter().map(|d| format!("checkpoint {}: {}", d.label, d.why)));
                let errors = complete.iter().filter_map(|c| Checkpoint::open_dir(&c.dir).err());
                problems.extend(errors.map(|e| e.to_string()));
            }
        }
        Health { problems }
    }
}

fn inspect<T: DeserializeOwned>(path: &Path, problems: &mut Vec<String>) {
    match log::read::<T>(path) {
        Err(e) => problems.push(e.to_string()),
        Ok(log) => {
            for (line, why) in &log.corrupt {
                problems.push(format!("{}:{line}: {why}", path.display()));
            }
        }
    }
}

fn read_document(path: &Path) -> Result<Option<Value>, StoreError> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(files::unreadable(path))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|e| StoreError::CorruptFile {
        path: path.to_owned(),
        why: format!("it does not parse: {e}"),
    })
}

/// Numbers of the attempts in a run's directory, ascending.
fn attempts(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let mut numbers: Vec<u32> =
        files::names(&dir.join(ATTEMPTS))?.iter().filter_map(|n| n.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Takes the lock of the run in `dir`.
pub(crate) fn lock(id: &str, dir: &Path) -> Result<Lock, StoreError> {
    lock_file(id, &dir.join(LOCK))
}

/// Takes the lock that is this file, of what is called `id`.
pub(crate) fn lock_file(id: &str, path: &Path) -> Result<Lock, StoreError> {
    files::take_lock(path).map_err(|failure| match failure {
        LockFailure::Held(holder) => StoreError::Locked { run: id.to_owned(), holder },
        LockFailure::Store(error) => error,
    })
}

impl Deref for Run {
    type Target = RunView;

    fn deref(&self) -> &RunView {
        &self.view
    }
}

impl Run {
    /// Creates the run in `dir` with the specification `asked`, or opens it. `reconcile` says which specification a
    /// stored run goes on under, or why it is not the run that is asked for.
    pub(crate) fn open(
        id: &str,
        dir: PathBuf,
        asked: &Value,
        reconcile: &dyn Fn(&Value) -> Result<Value, StoreError>,
    ) -> Result<Self, StoreError> {
        files::make_directory(&dir)?;
        let lock = lock(id, &dir)?;
        let write = |spec: &Value| {
            let text = serde_json::to_string_pretty(spec).expect("JSON values are plain data") + "\n";
            files::replace_file(&dir.join(SPEC), text.as_bytes())
        };
        let view = match RunView::read(id, dir.clone())? {
            Some(mut view) => {
                let spec = reconcile(&view.spec)?;
                if spec != view.spec {
                    write(&spec)?;
                    view.spec = spec;
                }
                view
            }
            None => {
                write(asked)?;
                RunView { id: id.to_owned(), dir: dir.clone(), spec: asked.clone() }
            }
        };
        files::sweep(&dir, ATTEMPT)?;
        files::sweep(&dir.join(CHECKPOINTS), MANIFEST)?;
        files::sweep(&dir.join(ATTEMPTS), ATTEMPT)?;
        let (metrics, last_row) = open_log::<CurveRow>(&dir.join(METRICS))?;
        let (points, last_point) = open_log::<Point>(&dir.join(POINTS))?;
        let events = EventFiles::new(&dir.join(EVENTS), &view.spec);
        let progress = view.progress()?;
        Ok(Self {
            view,
            metrics,
            points,
            events,
            side: SideLogs::new(&dir),
            progress,
            last_position: last_row.max(last_point),
            _lock: lock,
        })
    }

    /// The logs of the instruments, to be written beside the run's own from any thread while the run is open.
    pub fn side_logs(&self) -> SideLogs {
        self.side.clone()
    }

    /// Records how far the run is.
    pub fn set_status(&mut self, status: Status) -> Result<(), StoreError> {
        if status != Status::Running {
            self.events.end(&status)?;
        }
        self.note(Progress { status, ..self.progress.clone() })
    }

    /// Records what training cost so far, branches included: with each checkpoint, so that it need not be looked for in
    /// one.
    pub fn set_cost(&mut self, cost: Cost) -> Result<(), StoreError> {
        self.note(Progress { cost: Some(cost), ..self.progress.clone() })
    }

    fn note(&mut self, progress: Progress) -> Result<(), StoreError> {
        self.progress = Progress { updated_unix_s: files::now_unix_s(), ..progress };
        let text = serde_json::to_string(&self.progress).expect("a status is plain data") + "\n";
        files::replace_file(&self.view.dir.join(STATUS), text.as_bytes())
    }

    /// Appends a curve row at `position`. Errors if a number in it is not finite.
    ///
    /// # Panics
    /// If `position` lies before that of an earlier record.
    pub fn append_curve(&mut self, position: u64, row: &CurveRow) -> Result<(), StoreError> {
        self.check_finite(row.not_finite())?;
        self.advance(position);
        self.metrics.append(&log::encode(position, row))?;
        self.events.append(row)
    }

    /// Appends a finished point at `position` and syncs it to disk. Errors if a number in it is not finite.
    ///
    /// # Panics
    /// If `position` lies before that of an earlier record.
    pub fn add_point(&mut self, position: u64, point: &Point) -> Result<(), StoreError> {
        self.check_finite(point.not_finite())?;
        self.advance(position);
        self.points.append(&log::encode(position, point))?;
        self.points.sync()
    }

    fn check_finite(&self, not_finite: Option<&'static str>) -> Result<(), StoreError> {
        match not_finite {
            Some(what) => Err(StoreError::NotFinite { run: self.view.id.clone(), what }),
            None => Ok(()),
        }
    }

    fn advance(&mut self, position: u64) {
        assert!(
            position >= self.last_position,
            "records go forward: position {position} after {}; cut the run back when it is resumed",
            self.last_position
        );
        self.last_position = position;
    }

    /// Begins a checkpoint. It becomes visible at [`CheckpointWriter::finish`], in place of one of the same label;
    /// dropped before, it leaves nothing. The newest two are kept, and all that were pinned
    /// ([`CheckpointWriter::pin`]).
    pub fn begin_checkpoint(&mut self, label: &str, position: u64) -> Result<CheckpointWriter, StoreError> {
        names::check("checkpoint label", label)?;
        // A checkpoint must not survive a loss of power that the records before it do not.
        self.metrics.sync()?;
        self.points.sync()?;
        CheckpointWriter::begin(&self.view.dir.join(CHECKPOINTS), label, position)
    }

    /// Deletes a checkpoint, pinned or not; fine if there is none.
    pub fn remove_checkpoint(&mut self, label: &str) -> Result<(), StoreError> {
        names::check("checkpoint label", label)?;
        files::withdraw_directory(&self.view.dir.join(CHECKPOINTS).join(label))
    }

    /// Prepares a run that was interrupted, or that has just been created, for going on: finds the newest checkpoint
    /// that verifies and that `usable` accepts, and moves away what was recorded beyond it, or everything if there is
    /// none. `usable` reads from a checkpoint what the caller needs of it, and may look at other checkpoints of the
    /// run; its error says why this one cannot be gone on from.
    ///
    /// # Errors
    /// A log is damaged before its last record, or something could not be moved. A checkpoint that cannot be used is
    /// no error: it is passed over.
    pub fn resume<T, E: std::fmt::Display>(
        &mut self,
        usable: impl Fn(&RunView, &Checkpoint) -> Result<T, E>,
    ) -> Result<Resumed<T>, StoreError> {
        let Checkpoints { complete, damaged: mut passed_over } = self.view.checkpoints()?;
        let mut from = None;
        for info in complete {
            let opened = Checkpoint::open_dir(&info.dir).map_err(|e| match e {
                StoreError::DamagedCheckpoint { why, .. } => why,
                other => other.to_string(),
            });
            let read = opened.and_then(|checkpoint| match usable(&self.view, &checkpoint) {
                Ok(read) => Ok((checkpoint, read)),
                Err(why) => Err(why.to_string()),
            });
            match read {
                Ok(found) => {
                    from = Some(found);
                    break;
                }
                Err(why) => passed_over.push(Damaged { label: info.label, why }),
            }
        }
        let position = from.as_ref().map(|(checkpoint, _)| checkpoint.position());
        let cut_back = self.move_beyond(position, &passed_over)?;
        Ok(Resumed { from, passed_over, cut_back })
    }

    /// Makes the run what it was at the checkpoint of `position`: records and checkpoints beyond it, and the
    /// checkpoints that were passed over, move to `attempts/<n>/`. Records at `position` itself stay. Without one,
    /// everything moves.
    fn move_beyond(&mut self, position: Option<u64>, passed_over: &[Damaged]) -> Result<CutBack, StoreError> {
        let dir = self.view.dir.clone();
        let rows = log::read::<CurveRow>(&dir.join(METRICS))?.sound()?;
        let points = log::read::<Point>(&dir.join(POINTS))?.sound()?;
        let (rows_len, num_rows) = kept(&rows, position);
        let (points_len, num_points) = kept(&points, position);
        let complete = self.view.checkpoints()?.complete;
        let beyond =
            complete.into_iter().filter(|c| position.is_none_or(|p| c.position > p)).map(|c| c.label);
        let unusable = passed_over.iter().map(|d| d.label.clone());
        let mut checkpoints: Vec<String> = beyond.chain(unusable).collect();
        checkpoints.sort();
        checkpoints.dedup();
        if num_rows + num_points + checkpoints.len() == 0 {
            return Ok(CutBack::default());
        }

        let attempt = attempts(&dir)?.last().map_or(1, |n| n + 1);
        let staged = StagedDirectory::begin(&dir.join(ATTEMPTS), &attempt.to_string())?;
        for (name, len) in [(METRICS, rows_len), (POINTS, points_len)] {
            let path = dir.join(name);
            let bytes = fs::read(&path).map_err(files::unreadable(&path))?;
            files::replace_file(&staged.path().join(name), &bytes[len as usize..])?;
        }
        let about = serde_json::json!({ "resumed_at": position, "set_aside_unix_s": files::now_unix_s() });
        let target = staged.target().to_owned();
        staged.publish(ATTEMPT, about.to_string().as_bytes())?;
        for label in &checkpoints {
            files::move_directory(&dir.join(CHECKPOINTS).join(label), &target.join(CHECKPOINTS).join(label))?;
        }
        self.metrics.cut(rows_len)?;
        self.points.cut(points_len)?;
        self.events.restart();
        let last = |positions: Option<u64>| positions.unwrap_or(0);
        let kept_rows = rows.records.len() - num_rows;
        let kept_points = points.records.len() - num_points;
        self.last_position = last(rows.records[..kept_rows].last().map(|r| r.position))
            .max(last(points.records[..kept_points].last().map(|r| r.position)));
        Ok(CutBack { rows: num_rows, points: num_points, checkpoints, attempt: Some(attempt) })
    }
}

fn kept<T>(log: &Log<T>, position: Option<u64>) -> (u64, usize) {
    match position {
        Some(position) => log.split_at(position),
        None => (0, log.records.len()),
    }
}

/// Opens a log for appending, cutting back a torn last record; the position of its last record.
fn open_log<T: DeserializeOwned>(path: &Path) -> Result<(Appender, u64), StoreError> {
    let log = log::read::<T>(path)?.sound()?;
    let position = log.records.last().map_or(0, |r| r.position);
    Ok((Appender::open(path, log.len)?, position))
}
