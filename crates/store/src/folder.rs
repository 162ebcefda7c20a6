//! A directory that a long job fills, and that can be gone on with after a kill at any time.
//!
//! The job's own document says how long each growing file was when everything up to it was safe; what is behind that
//! is cut away when the job goes on. A file appears under its name when it is whole.

use crate::files::{self, Appender, Lock, LockFailure};
use crate::{StoreError, error::FolderHeld};
use std::path::{Path, PathBuf};

/// A directory with one writer.
#[derive(Debug)]
pub struct JobFolder {
    dir: PathBuf,
    #[expect(dead_code, reason = "held, not used")]
    lock: Lock,
}

/// Name of the file that the writer holds.
pub const JOB_LOCK: &str = ".lock";

impl JobFolder {
    /// Makes the directory if there is none, and takes it.
    ///
    /// # Errors
    /// [`StoreError::FolderHeld`] if another process has it; it cannot be made or written to.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        files::make_directory(dir)?;
        match files::take_lock(&dir.join(JOB_LOCK)) {
            Ok(lock) => Ok(Self { dir: dir.to_owned(), lock }),
            Err(LockFailure::Held(holder)) => {
                Err(StoreError::FolderHeld(FolderHeld { path: dir.to_owned(), holder }))
            }
            Err(LockFailure::Store(error)) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Names in a directory, sorted; none if it does not exist.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
        files::names(dir)
    }

    /// Replaces a file at once or not at all.
    ///
    /// # Errors
    /// It cannot be written, such as on a full disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        files::replace_file(&self.dir.join(name), bytes)
    }

    /// Opens a file to be appended to, keeping its first `keep` bytes.
    ///
    /// # Errors
    /// It cannot be opened, or has fewer.
    pub fn grow(&self, name: &str, keep: u64) -> Result<Growing, StoreError> {
        let path = self.dir.join(name);
        let found = std::fs::metadata(&path).map_or(0, |found| found.len());
        if found < keep {
            let why = format!("has {found} bytes, but {keep} were written before");
            return Err(StoreError::CorruptFile { path, why });
        }
        Ok(Growing(Appender::open(&path, keep)?))
    }

    /// Gives a finished file its name; nothing happens if it has that already.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn publish(&self, from: &str, name: &str) -> Result<(), StoreError> {
        let (from, to) = (self.dir.join(from), self.dir.join(name));
        if !from.exists() && to.exists() {
            return Ok(());
        }
        files::rename_file(&from, &to)
    }

    /// Deletes a file, if it exists.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        files::remove_file(&self.dir.join(name))
    }

    /// Deletes what a killed process left half-written.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn sweep(&self) -> Result<(), StoreError> {
        for name in files::names(&self.dir)? {
            if name.starts_with('.') && name.ends_with(".tmp") {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// A file that grows at its end.
#[derive(Debug)]
pub struct Growing(Appender);

impl Growing {
    /// Appends. If that fails (a full disk), the file is as before.
    ///
    /// # Errors
    /// What the system said.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.append(bytes)
    }

    /// Makes everything appended so far survive a loss of power.
    ///
    /// # Errors
    /// What the system said.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.0.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_job_finds_what_it_was_sure_of() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("job");
        let folder = JobFolder::take(&dir).unwrap();
        let mut growing = folder.grow("part", 0).unwrap();
        growing.append(b"safe").unwrap();
        growing.sync().unwrap();
        growing.append(b" lost").unwrap();
        // Another process, or this one again, is told who has it.
        let held = JobFolder::take(&dir).unwrap_err().to_string();
        assert!(held.contains(&std::process::id().to_string()) && held.contains("hint: "), "{held}");
        drop((folder, growing));

        let folder = JobFolder::take(&dir).unwrap();
        assert!(folder.grow("part", 100).is_err());
        let mut growing = folder.grow("part", 4).unwrap();
        growing.append(b" again").unwrap();
        assert_eq!(growing.length(), 10);
        folder.publish("part", "whole").unwrap();
        folder.publish("part", "whole").unwrap();
        assert_eq!(std::fs::read(dir.join("whole")).unwrap(), b"safe again");
        assert_eq!(JobFolder::names(&dir).unwrap(), [JOB_LOCK, "whole"]);
    }
}
