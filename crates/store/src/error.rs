//! What can go wrong in a store, in words a user can act on.

use std::{fmt, io, path::PathBuf};

/// A directory that another process fills.
#[derive(Debug, thiserror::Error)]
#[error("{} is being filled by {holder}\nhint: wait for it, stop it, or name another directory", path.display())]
pub struct FolderHeld {
    /// The directory.
    pub path: PathBuf,
    /// Who holds its lock.
    pub holder: LockHolder,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on this run.
    #[error(
        "run `{run}` is being written by {holder}\nhint: wait for it, stop it, or name another store with --store"
    )]
    Locked {
        /// Run id.
        run: String,
        /// Who holds the lock.
        holder: LockHolder,
    },
    /// Another process fills this directory.
    #[error(transparent)]
    FolderHeld(FolderHeld),
    /// The run on disk was made from another specification.
    #[error(
        "run `{run}` exists with another specification: `{key}` is {stored} there and {asked} here\n\
         hint: choose another store with --store, another name for the study, or remove the run with `isoflop runs rm {run}`"
    )]
    SpecMismatch {
        /// Run id.
        run: String,
        /// Path of the first differing key, e.g. `train.lr`.
        key: String,
        /// Its value on disk, as JSON (`nothing` if absent).
        stored: String,
        /// The value asked for, as JSON (`nothing` if absent).
        asked: String,
    },
    /// The run on disk is of a format that is not read here.
    #[error("run `{run}` exists already, but {why}")]
    UnknownFormat {
        /// Run id.
        run: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A run id or a checkpoint label that cannot be a file name.
    #[error(
        "`{name}` is not a {what}: {why}\nhint: use letters, digits, `.`, `_`, `-`, at most 128, beginning \
         with a letter or digit"
    )]
    BadName {
        /// `run id` or `checkpoint label`.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No run of this id.
    #[error("there is no run `{id}` in {}{}\nhint: `isoflop runs ls` lists them", store.display(), nearest_words(nearest))]
    NoSuchRun {
        /// The id asked for.
        id: String,
        /// Where it was looked for.
        store: PathBuf,
        /// Ids that look like it, nearest first.
        nearest: Vec<String>,
    },
    /// No complete checkpoint of this label.
    #[error(
        "run `{run}` has no complete checkpoint `{label}`; complete: {}\nhint: `isoflop runs show {run}` lists them",
        list_words(available)
    )]
    NoSuchCheckpoint {
        /// Run id.
        run: String,
        /// The label asked for.
        label: String,
        /// Labels of the complete checkpoints.
        available: Vec<String>,
    },
    /// There is no store at this path.
    #[error("there is no store at {}\nhint: name one with --store, or make one with `isoflop demo` or `isoflop run`", path.display())]
    NoSuchStore {
        /// The path.
        path: PathBuf,
    },
    /// A file or directory could not be created, written, renamed or deleted.
    #[error("cannot write {}: {source}\nhint: {}", path.display(), write_hint(source))]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record before the last one of a log does not match its checksum.
    #[error(
        "{}:{line}: {why}\nhint: the file was altered or the disk is failing; restore the line from a backup, \
         or remove the run with `isoflop runs rm` and run it again",
        path.display()
    )]
    CorruptRecord {
        /// The log.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A document of the store does not parse.
    #[error("{}: {why}\nhint: the file was altered or the disk is failing; restore it from a backup or remove its run", path.display())]
    CorruptFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A checkpoint that does not match its manifest, or whose tensors cannot be read.
    #[error("checkpoint {} is damaged: {why}\nhint: an earlier checkpoint is used where there is one; run again to write a new one", path.display())]
    DamagedCheckpoint {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A directory that is no GPT-2 checkpoint this program reads.
    #[error("{} is not a checkpoint: {why}\nhint: {hint}", path.display())]
    NotACheckpoint {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// A record holds a number that is not finite, which JSON cannot say.
    #[error("`{what}` is not finite in a record of run `{run}`")]
    NotFinite {
        /// Run id.
        run: String,
        /// Name of the field.
        what: &'static str,
    },
}

/// Who holds the lock of a run, as written in the lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// Process id; absent if the holder has not written it yet.
    pub pid: Option<u32>,
    /// When it took the lock, seconds since 1970 UTC.
    pub since_unix_s: Option<u64>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => write!(f, "another process"),
        }
    }
}

fn nearest_words(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", list_words(nearest)) }
}

fn list_words(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn write_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; free some space and run the same command again, it continues from the last checkpoint"
        }
        io::ErrorKind::PermissionDenied => "choose a directory you may write to with --store or --out",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; choose another place with --store or --out"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a directory is needed; move it away or choose another place with --store or --out"
        }
        io::ErrorKind::IsADirectory => "a directory stands where a file is needed; move it away",
        io::ErrorKind::NotFound => "a directory on the way was removed while it was in use",
        _ => "check the path, its permissions and the free space",
    }
}
