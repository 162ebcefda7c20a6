//! The tree that readings come from.

use std::io;
use std::path::{Path, PathBuf};

/// How a file of the tree is read: a test's tree can refuse, as a kernel does.
type Reader = fn(&Path) -> io::Result<String>;

/// Names a folder that holds the energy counters of the host, where a container hides `/sys/class/powercap`.
pub const POWERCAP_VARIABLE: &str = "ISOFLOP_POWERCAP";

/// A root below which `proc` and `sys` lie: `/`, or a copy for a test.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
    /// Where energy counters are, if not in `sys/class/powercap`.
    powercap: Option<PathBuf>,
    reader: Reader,
}

impl Default for System {
    fn default() -> Self {
        Self::real()
    }
}

impl System {
    /// This machine; its energy counters may be where `ISOFLOP_POWERCAP` says.
    pub fn real() -> Self {
        let powercap = std::env::var_os(POWERCAP_VARIABLE).filter(|path| !path.is_empty());
        Self { powercap: powercap.map(PathBuf::from), ..Self::at("/") }
    }

    /// A tree that holds `proc` and `sys`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), powercap: None, reader: |path| std::fs::read_to_string(path) }
    }

    /// The same with its energy counters in another folder, at any depth below it.
    pub fn with_powercap(self, folder: impl Into<PathBuf>) -> Self {
        Self { powercap: Some(folder.into()), ..self }
    }

    /// The folder to look for energy counters in.
    pub(crate) fn powercap(&self) -> PathBuf {
        self.powercap.clone().unwrap_or_else(|| self.path("sys/class/powercap"))
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The text of a file, or why not.
    pub(crate) fn text(&self, relative: &str) -> Result<String, String> {
        self.read(&self.path(relative))
    }

    /// The entries of a folder whose names begin with `prefix`, ordered by the number in their names; none if there is
    /// no folder.
    pub(crate) fn entries(&self, relative: &str, prefix: &str) -> Vec<PathBuf> {
        entries(&self.path(relative), prefix)
    }

    /// The text of a file, or what kept it from being read.
    pub(crate) fn try_read(&self, path: &Path) -> io::Result<String> {
        (self.reader)(path).map(|text| text.trim().to_owned())
    }

    /// The text of a file, or why not in words.
    pub(crate) fn read(&self, path: &Path) -> Result<String, String> {
        self.try_read(path).map_err(|e| why(path, &e))
    }

    /// A whole number in a file of its own.
    pub(crate) fn number(&self, path: &Path) -> Result<u64, String> {
        let text = self.read(path)?;
        text.parse().map_err(|_| format!("{} holds `{text}`, not a whole number", path.display()))
    }
}

fn why(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist here"),
        io::ErrorKind::PermissionDenied => format!("{shown} is readable by the superuser only"),
        _ => format!("{shown}: {error}"),
    }
}

pub(crate) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u64, String, PathBuf)> = list
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some((digits.parse().unwrap_or(u64::MAX), name, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, path)| path).collect()
}

#[cfg(test)]
pub(crate) mod fake {
    //! A tree written for a test.

    use super::System;
    use std::io;
    use std::path::{Path, PathBuf};
    use tempfile::TempDir;

    /// What a file holds that this user may not read.
    pub(crate) const DENIED: &str = "!EACCES";
    /// What a file holds whose device is gone.
    pub(crate) const GONE: &str = "!ENODEV";

    fn read(path: &Path) -> io::Result<String> {
        let text = std::fs::read_to_string(path)?;
        match text.trim() {
            DENIED => Err(io::ErrorKind::PermissionDenied.into()),
            GONE => Err(io::Error::other("No such device")),
            _ => Ok(text),
        }
    }

    pub(crate) struct Tree {
        dir: TempDir,
    }

    impl Tree {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self { dir: TempDir::new().unwrap() };
            files.iter().for_each(|(path, text)| tree.write(path, text));
            tree
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // At once, as a kernel's file changes: a reader on another thread never sees half.
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        }

        /// A link, as the kernel makes them in its class folders; what it leads to need not be there.
        #[cfg(unix)]
        pub(crate) fn link(&self, path: &str, to: &str) {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
        }

        pub(crate) fn folder(&self, path: &str) {
            std::fs::create_dir_all(self.dir.path().join(path)).unwrap();
        }

        pub(crate) fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        pub(crate) fn remove(&self, path: &str) {
            std::fs::remove_file(self.dir.path().join(path)).unwrap();
        }

        pub(crate) fn system(&self) -> System {
            System { reader: read, ..System::at(self.dir.path()) }
        }
    }
}
