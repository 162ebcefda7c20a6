//! What is at a path?

use crate::error::UserError;
use crate::{study, tables};
use isoflop_data::documents;
use isoflop_data::images::Index;
use isoflop_laws::ReadOptions;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What a study, or something before it, can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The built-in text.
    Builtin,
    /// Plain UTF-8 text, read as bytes.
    Text(PathBuf),
    /// Token files.
    Tokens {
        /// To train on.
        train: PathBuf,
        /// Held out.
        val: PathBuf,
    },
    /// What `isoflop prepare` has made.
    Prepared(PathBuf),
    /// Text in other forms: tokens are to be made of it first.
    Documents(PathBuf),
    /// Class folders of pictures.
    Pictures {
        /// The folder.
        folder: PathBuf,
        /// Classes in it.
        classes: usize,
        /// Pictures of the smallest.
        smallest: usize,
    },
    /// A table of losses.
    Table {
        /// The file.
        path: PathBuf,
        /// Its rows.
        rows: usize,
    },
}

/// Plain text from here up is better prepared: it would be read whole.
const LARGE_TEXT: u64 = 1 << 30;
/// A table from here up is no table of runs.
const LARGE_TABLE: u64 = 64 << 20;
/// Bytes that say whether a file is text.
const HEAD: usize = 1 << 16;

/// Looks at a path; nothing is the built-in text.
///
/// # Errors
/// A [`UserError`]: nothing is there, or nothing that a study could be made of.
pub fn look(path: Option<&Path>) -> Result<Found, UserError> {
    let Some(path) = path else { return Ok(Found::Builtin) };
    let unreadable = |e: std::io::Error| {
        UserError::new(format!("{}: {}", path.display(), study::io_words(&e)))
            .hint("give text, token files, a folder of them, class folders of pictures, or a table of losses")
    };
    let facts = std::fs::metadata(path).map_err(unreadable)?;
    if facts.is_dir() {
        return folder(path);
    }
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "bin" | "npy" => return tokens(path),
        "toml" => {
            return Err(UserError::new(format!("{}: a study already, by its name", path.display()))
                .hint(format!("isoflop plan {}", path.display())));
        }
        _ => {}
    }
    if facts.len() == 0 {
        return Err(UserError::new(format!("{}: empty", path.display())).hint("a study needs text"));
    }
    let tabular = ["csv", "tsv", "tab", "json", "jsonl", "ndjson", "parquet", "pq", "md"];
    if tabular.contains(&extension.as_str())
        && facts.len() <= LARGE_TABLE
        && let Some(rows) = losses(path)
    {
        return Ok(Found::Table { path: path.to_owned(), rows });
    }
    let mut head = Vec::with_capacity(HEAD);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
    let is_plain = !tabular[..8].contains(&extension.as_str()) && is_utf8(&head);
    if is_plain && facts.len() < LARGE_TEXT {
        return Ok(Found::Text(path.to_owned()));
    }
    documents_at(path)
}

/// Rows of a table that has losses beside sizes, tokens or FLOPs.
fn losses(path: &Path) -> Option<usize> {
    let bytes = tables::bytes(path).ok()?;
    let options = ReadOptions { name: path.display().to_string(), ..ReadOptions::default() };
    let table = tables::read(&bytes, &options).ok()?;
    let usable = |row: &&isoflop_laws::Row| {
        let axis = row.n.or(row.d).or(row.c);
        row.get("loss").is_some_and(f64::is_finite) && axis.is_some()
    };
    let rows = table.rows.iter().filter(usable).count();
    (rows >= 2).then_some(rows)
}

fn is_utf8(head: &[u8]) -> bool {
    if head.contains(&0) {
        return false;
    }
    match std::str::from_utf8(head) {
        Ok(_) => true,
        // The last character may be cut.
        Err(e) => head.len() == HEAD && e.error_len().is_none(),
    }
}

fn folder(path: &Path) -> Result<Found, UserError> {
    if path.join(isoflop_data::prepared::PREPARED).is_file() {
        return Ok(Found::Prepared(path.to_owned()));
    }
    let (train, val) = (path.join("train.bin"), path.join("val.bin"));
    if train.is_file() {
        return if val.is_file() { Ok(Found::Tokens { train, val }) } else { tokens(&train) };
    }
    if let Ok(index) = Index::of_folders(path) {
        let smallest = index.classes().map(|class| class.files.len()).min().unwrap_or(0);
        return Ok(Found::Pictures { folder: path.to_owned(), classes: index.classes().count(), smallest });
    }
    documents_at(path)
}

fn documents_at(path: &Path) -> Result<Found, UserError> {
    let found = documents::find(&[path.to_owned()], None);
    match found {
        Ok(_) => Ok(Found::Documents(path.to_owned())),
        Err(error) => Err(UserError::new(format!(
            "{}: nothing that a study could be made of",
            path.display()
        ))
        .hint(format!(
            "give text, token files, class folders of pictures, or a table of losses; as text: {error}"
        ))),
    }
}

/// The held-out file beside a file of tokens.
fn tokens(train: &Path) -> Result<Found, UserError> {
    let name = train.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = |other: String| train.with_file_name(other);
    let candidates = [
        name.replacen("train", "val", 1),
        name.replacen("train", "valid", 1),
        name.replacen("train", "test", 1),
    ];
    let val = candidates.into_iter().filter(|other| *other != name).map(beside).find(|p| p.is_file());
    match val {
        Some(val) => Ok(Found::Tokens { train: train.to_owned(), val }),
        None => Err(UserError::new(format!("{}: no held-out tokens beside it", train.display())).hint(
            "put train.bin and val.bin into one folder and give that, or name both under [data] of a study",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_there_is_known_by_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("book.txt"), "It is a truth universally acknowledged.").unwrap();
        fs::write(at("notes"), "no ending, but text: ü").unwrap();
        fs::write(at("docs.jsonl"), "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
        fs::write(at("points.csv"), "params,tokens,loss\n1e6,1e8,3.1\n2e6,1e8,2.9\n").unwrap();
        fs::write(at("texts.csv"), "id,text\n1,hello\n2,world\n").unwrap();
        fs::write(at("packed.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
        fs::create_dir(at("owt")).unwrap();
        fs::write(at("owt/train.bin"), [1, 0, 2, 0]).unwrap();
        fs::write(at("owt/val.bin"), [1, 0, 2, 0]).unwrap();
        fs::create_dir(at("ready")).unwrap();
        fs::write(at("ready/prepared.json"), "{}").unwrap();
        fs::create_dir_all(at("pets/cat")).unwrap();
        fs::create_dir_all(at("pets/dog")).unwrap();
        for name in ["pets/cat/1.png", "pets/cat/2.png", "pets/dog/1.png"] {
            fs::write(at(name), "x").unwrap();
        }
        let found = |name: &str| look(Some(&at(name))).unwrap();
        assert_eq!(look(None).unwrap(), Found::Builtin);
        assert_eq!(found("book.txt"), Found::Text(at("book.txt")));
        assert_eq!(found("notes"), Found::Text(at("notes")));
        assert_eq!(found("docs.jsonl"), Found::Documents(at("docs.jsonl")));
        assert_eq!(found("texts.csv"), Found::Documents(at("texts.csv")));
        assert_eq!(found("packed.gz"), Found::Documents(at("packed.gz")));
        assert_eq!(found("points.csv"), Found::Table { path: at("points.csv"), rows: 2 });
        let tokens = Found::Tokens { train: at("owt/train.bin"), val: at("owt/val.bin") };
        assert_eq!(found("owt"), tokens);
        assert_eq!(found("owt/train.bin"), tokens);
        assert_eq!(found("ready"), Found::Prepared(at("ready")));
        assert_eq!(found("pets"), Found::Pictures { folder: at("pets"), classes: 2, smallest: 1 });
    }

    #[test]
    fn what_no_study_can_be_made_of_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("empty.txt"), "").unwrap();
        fs::write(at("tokens.bin"), [1, 0]).unwrap();
        fs::write(at("study.toml"), "name = \"x\"").unwrap();
        fs::create_dir(at("nothing")).unwrap();
        for (name, word) in [
            ("missing", "missing"),
            ("empty.txt", "empty"),
            ("tokens.bin", "no held-out tokens"),
            ("study.toml", "a study already"),
            ("nothing", "nothing that a study"),
        ] {
            let error = look(Some(&at(name))).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("hint: "), "{name}: {error}");
        }
    }
}
