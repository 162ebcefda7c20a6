//! The tree that readings come from.

use std::path::{Path, PathBuf};

/// A root below which `proc` and `sys` lie: `/`, or a copy for a test.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::real()
    }
}

impl System {
    /// This machine.
    pub fn real() -> Self {
        Self::at("/")
    }

    /// A tree that holds `proc` and `sys`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The text of a file, or why not.
    pub(crate) fn text(&self, relative: &str) -> Result<String, String> {
        read(&self.path(relative))
    }

    /// The entries of a folder whose names begin with `prefix`, ordered by the number in their names; none if there is
    /// no folder.
    pub(crate) fn entries(&self, relative: &str, prefix: &str) -> Vec<PathBuf> {
        entries(&self.path(relative), prefix)
    }
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|e| {
        let shown = path.display();
        match e.kind() {
            std::io::ErrorKind::NotFound => format!("{shown} does not exist here"),
            std::io::ErrorKind::PermissionDenied => format!("{shown} is readable by the superuser only"),
            _ => format!("{shown}: {e}"),
        }
    })
}

pub(crate) fn number(path: &Path) -> Result<u64, String> {
    let text = read(path)?;
    text.parse().map_err(|_| format!("{} holds `{text}`, not a whole number", path.display()))
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
    use tempfile::TempDir;

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
            std::fs::write(path, text).unwrap();
        }

        pub(crate) fn remove(&self, path: &str) {
            std::fs::remove_file(self.dir.path().join(path)).unwrap();
        }

        pub(crate) fn system(&self) -> System {
            System::at(self.dir.path())
        }
    }
}
