//! Free space where a store lies.

use isoflop_base::Measured;
use serde::Serialize;
use std::path::Path;

/// Bytes of the file system a path lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// In all.
    pub total: u64,
    /// That this user may still fill.
    pub free: u64,
}

/// The file system of `path`, or of its nearest ancestor that exists.
pub fn disk(path: &Path) -> Measured<Disk> {
    let existing = path.ancestors().find(|p| p.exists()).filter(|p| !p.as_os_str().is_empty());
    read(existing.unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn read(path: &Path) -> Measured<Disk> {
    match rustix::fs::statvfs(path) {
        Ok(s) => Measured::measured(Disk { total: s.f_blocks * s.f_frsize, free: s.f_bavail * s.f_frsize }),
        Err(e) => Measured::missing(format!("{}: {e}", path.display())),
    }
}

#[cfg(not(unix))]
fn read(_path: &Path) -> Measured<Disk> {
    Measured::missing("free space is read on Unix only")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_yet_has_its_parents_space() {
        let dir = tempfile::tempdir().unwrap();
        let here = disk(dir.path());
        let below = disk(&dir.path().join("not/yet"));
        let (here, below) = (here.value().unwrap(), below.value().unwrap());
        assert_eq!(here.total, below.total);
        assert!(here.total > 0 && here.free <= here.total);
        assert!(disk(Path::new("not-here")).value().is_some());
    }
}
