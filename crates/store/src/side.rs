//! What the instruments leave beside a run's own logs: samples, alarms, what it was run with.
//!
//! These say when and where, not what: they are no part of what must be equal after an interruption, and a resume cuts
//! nothing back. They may be written from any thread.

use crate::StoreError;
use crate::files::Appender;
use crate::log;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One of the logs beside a run's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SideLog {
    /// Power, temperature, load, from time to time.
    Machine,
    /// What looked wrong.
    Alarms,
    /// What each process that worked on the run was: machine, program, versions.
    Environment,
}

impl SideLog {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Machine, Self::Alarms, Self::Environment];

    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Machine => "machine.jsonl",
            Self::Alarms => "alarms.jsonl",
            Self::Environment => "environment.jsonl",
        }
    }
}

/// The side logs of a run that is open for writing; clones write the same files.
#[derive(Debug, Clone)]
pub struct SideLogs {
    dir: PathBuf,
    open: Arc<Mutex<BTreeMap<SideLog, Appender>>>,
}

impl SideLogs {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: Arc::default() }
    }

    /// Appends a record, an object, with the second it belongs to.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&self, log: SideLog, unix_s: u64, record: &impl Serialize) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = open.entry(log) {
            let path = self.dir.join(log.file());
            // Only a torn last line is cut: damage before it is for `runs show` to tell, and no reason not to go on.
            let found = log::read::<serde_json::Value>(&path)?;
            place.insert(Appender::open(&path, found.len)?);
        }
        let file = open.get_mut(&log).expect("opened above");
        file.append(&log::encode(unix_s, record))
    }
}

/// What a side log holds; a damaged line is left out.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, log: SideLog) -> Result<Vec<T>, StoreError> {
    Ok(log::read(&dir.join(log.file()))?.into_values())
}
