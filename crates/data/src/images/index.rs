//! Which files belong to which class of which split.

use crate::DataError;
use isoflop_base::bits::mix;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Names of the splits, in order.
const SPLITS: [&str; 3] = ["train", "val", "test"];
/// Endings of files that are read; others are no pictures.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "svg"];
/// Shares of classes that a folder without splits gives to the three, in hundredths: those of mini-ImageNet.
const SHARES: [usize; 2] = [64, 80];

/// One class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its folder or label.
    pub name: String,
    /// Its pictures, sorted.
    pub files: Vec<PathBuf>,
}

/// Classes that belong together: to train on, to choose by, to test on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// `train`, `val` or `test`.
    pub name: String,
    /// Its classes, sorted by name.
    pub classes: Vec<Class>,
}

/// All files of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The splits that have classes.
    pub splits: Vec<Split>,
}

impl Index {
    /// `root/{train,val,test}/class/*`; without these folders `root/class/*`, whose classes are divided 64/16/20 in an
    /// order that is a function of their names.
    ///
    /// # Errors
    /// A missing or empty folder, a class in two splits.
    pub fn of_folders(root: &Path) -> Result<Self, DataError> {
        let names = folders(root)?;
        let own: Vec<&str> = SPLITS.into_iter().filter(|s| names.iter().any(|n| n == s)).collect();
        let splits = if own.is_empty() {
            divide(classes_in(root, &names)?)
        } else {
            let split = |name: &str| {
                let folder = root.join(name);
                let classes = classes_in(&folder, &folders(&folder)?)?;
                Ok(Split { name: name.to_owned(), classes })
            };
            own.into_iter().map(split).collect::<Result<Vec<_>, DataError>>()?
        };
        let index = Self { splits };
        if index.classes().next().is_none() {
            let hint = "give a folder with a folder of PNG, JPEG or SVG files for each class".to_owned();
            return Err(DataError::Empty { path: root.to_owned(), hint });
        }
        index.checked()
    }

    /// What is only tested on: `root/test/class/*`, or without such a folder every class of `root/class/*`.
    ///
    /// # Errors
    /// A missing or empty folder.
    pub fn of_test_folders(root: &Path) -> Result<Self, DataError> {
        let own = root.join("test");
        let classes = Self::of_class_folders(if own.is_dir() { &own } else { root })?;
        Ok(Self { splits: vec![Split { name: "test".to_owned(), classes }] })
    }

    /// The classes of `root/class/*`, not divided.
    ///
    /// # Errors
    /// A missing or empty folder.
    pub fn of_class_folders(root: &Path) -> Result<Vec<Class>, DataError> {
        let classes = classes_in(root, &folders(root)?)?;
        if classes.is_empty() {
            let hint = "give a folder with a folder of PNG, JPEG or SVG files for each class".to_owned();
            return Err(DataError::Empty { path: root.to_owned(), hint });
        }
        Ok(classes)
    }

    /// Lists of `filename,label`, one a split; files lie in `folder`.
    ///
    /// # Errors
    /// A list that is missing, does not parse, or names a file that does not exist; a class or file in two splits.
    pub fn of_lists(folder: &Path, lists: &[(&str, &Path)]) -> Result<Self, DataError> {
        let mut splits = Vec::new();
        for (name, list) in lists {
            let text = std::fs::read_to_string(list).map_err(|e| DataError::from_io(list, e))?;
            splits.push(Split { name: (*name).to_owned(), classes: classes_of(folder, list, &text)? });
        }
        Self { splits }.checked()
    }

    /// All classes, split by split.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.splits.iter().flat_map(|split| &split.classes)
    }

    /// Number of pictures.
    pub fn images(&self) -> usize {
        self.classes().map(|class| class.files.len()).sum()
    }

    /// Every class has at least `needed` pictures.
    ///
    /// # Errors
    /// [`DataError::ClassTooSmall`] for the first that has not.
    pub fn require(&self, needed: usize) -> Result<(), DataError> {
        match self.classes().find(|class| class.files.len() < needed) {
            Some(class) => {
                Err(DataError::ClassTooSmall { class: class.name.clone(), found: class.files.len(), needed })
            }
            None => Ok(()),
        }
    }

    /// No class and no file stands in two splits.
    fn checked(self) -> Result<Self, DataError> {
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), DataError> {
        let mut names = HashMap::new();
        let mut files = HashMap::new();
        for (number, split) in self.splits.iter().enumerate() {
            for class in &split.classes {
                if let Some((other, before)) = names.insert(&class.name, (number, split))
                    && other != number
                {
                    let of = |split: &Split| format!("{}/{}", split.name, class.name);
                    return Err(DataError::InTwoSplits {
                        first: of(before),
                        second: of(split),
                        what: "class",
                    });
                }
                for file in &class.files {
                    if let Some(before) = files.insert(file, number)
                        && before != number
                    {
                        let first = format!("{} in {}", file.display(), self.splits[before].name);
                        let second = format!("{} in {}", file.display(), split.name);
                        return Err(DataError::InTwoSplits { first, second, what: "picture" });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Names of the folders in a folder, sorted, hidden ones left out.
fn folders(path: &Path) -> Result<Vec<String>, DataError> {
    entries(path, |entry| entry.is_dir())
}

/// Names of the entries that `keep` keeps, sorted.
fn entries(path: &Path, keep: impl Fn(&Path) -> bool) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| DataError::from_io(path, e))? {
        let entry = entry.map_err(|e| DataError::from_io(path, e))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && keep(&entry.path())
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn classes_in(folder: &Path, names: &[String]) -> Result<Vec<Class>, DataError> {
    let class = |name: &String| {
        let folder = folder.join(name);
        let files = entries(&folder, |path| is_picture(path) && path.is_file())?;
        if files.is_empty() {
            let hint = "put PNG, JPEG or SVG files there, or remove the folder".to_owned();
            return Err(DataError::Empty { path: folder, hint });
        }
        Ok(Class { name: name.clone(), files: files.into_iter().map(|file| folder.join(file)).collect() })
    };
    names.iter().map(class).collect()
}

/// Classes in an order that depends on their names alone, cut at 64 and 80 hundredths.
fn divide(mut classes: Vec<Class>) -> Vec<Split> {
    let key = |class: &Class| class.name.bytes().fold(0, |key, byte| mix(key ^ (u64::from(byte) + 1)));
    classes.sort_by_key(key);
    let count = classes.len();
    let ends = [SHARES[0] * count / 100, SHARES[1] * count / 100, count];
    let mut rest = classes.into_iter();
    let mut first = 0;
    let mut splits = Vec::new();
    for (name, end) in SPLITS.into_iter().zip(ends) {
        let mut classes: Vec<Class> = rest.by_ref().take(end - first).collect();
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        splits.push(Split { name: name.to_owned(), classes });
        first = end;
    }
    splits
}

/// The classes of one list.
fn classes_of(folder: &Path, list: &Path, text: &str) -> Result<Vec<Class>, DataError> {
    let wrong = |line: usize, what: String| DataError::List { path: list.to_owned(), line: line + 1, what };
    let mut classes: HashMap<&str, Vec<PathBuf>> = HashMap::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    match lines.next() {
        Some((_, "filename,label")) => {}
        other => return Err(wrong(0, format!("`{}` is no header", other.map_or("", |(_, line)| line)))),
    }
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let Some((file, label)) = line.split_once(',') else {
            return Err(wrong(number, format!("`{line}` has no comma")));
        };
        let (file, label) = (file.trim(), label.trim());
        if file.is_empty() || label.is_empty() || label.contains(',') {
            return Err(wrong(number, format!("`{line}` is not a file and a class")));
        }
        let path = folder.join(file);
        if !path.is_file() {
            return Err(wrong(number, format!("{} does not exist", path.display())));
        }
        let files = classes.entry(label).or_default();
        if files.contains(&path) {
            return Err(wrong(number, format!("{file} stands there twice")));
        }
        files.push(path);
    }
    let mut classes: Vec<Class> = classes
        .into_iter()
        .map(|(name, mut files)| {
            files.sort();
            Class { name: name.to_owned(), files }
        })
        .collect();
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_splits_are_divided_by_their_names() {
        let classes = |n: usize| {
            let class =
                |i| Class { name: format!("class {i}"), files: vec![PathBuf::from(format!("{i}.png"))] };
            (0..n).map(class).collect::<Vec<_>>()
        };
        let splits = divide(classes(100));
        assert_eq!(splits.iter().map(|s| s.classes.len()).collect::<Vec<_>>(), [64, 16, 20]);
        let mut turned = classes(100);
        turned.reverse();
        assert_eq!(divide(turned), splits);
        assert!(Index { splits: splits.clone() }.checked().is_ok());
        // In an order that is not the alphabet's.
        let first_tested = &splits[2].classes[0].name;
        assert!(splits[0].classes.iter().any(|class| &class.name > first_tested));
        let mut twice = splits;
        let class = twice[0].classes[3].clone();
        twice[2].classes.push(class);
        let error = Index { splits: twice }.checked().unwrap_err().to_string();
        assert!(error.contains("train/") && error.contains("test/") && error.contains("hint: "), "{error}");
    }
}
