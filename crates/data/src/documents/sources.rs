//! What a user names, as a list of sources: files, folders, patterns, standard input.

use super::encoding::Encoding;
use super::feed::{BINARY_HINT, Feed, looks_like_objects};
use super::packing::Packing;
use crate::DataError;
use isoflop_base::Word;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How a file holds its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text.
    Text,
    /// An object of JSON in each line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// A table with a header; the header tells comma, semicolon, tab or bar.
    Csv,
    /// A table with a header and tabs.
    Tsv,
}

impl Word for Format {
    const WORDS: &'static [&'static str] = &["text", "jsonl", "parquet", "csv", "tsv"];

    fn from_word(word: &str) -> Option<Self> {
        [Self::Text, Self::Jsonl, Self::Parquet, Self::Csv, Self::Tsv].into_iter().find(|f| f.word() == word)
    }
}

impl Format {
    /// Its name in options and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
        }
    }

    /// What a file's name says, packing aside.
    fn of_name(name: &str) -> Option<Self> {
        let stem = Packing::stem(name);
        let extension = Path::new(stem).extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "txt" | "text" | "md" | "markdown" | "rst" | "tex" | "html" | "htm" | "xml" => Self::Text,
            "jsonl" | "ndjson" | "json" | "jsonlines" => Self::Jsonl,
            "parquet" | "pq" | "parq" => Self::Parquet,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            _ => return None,
        })
    }
}

/// A file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As it is called in messages.
    pub name: String,
    /// Where it is; nothing for standard input.
    pub path: Option<PathBuf>,
    /// How it holds its documents.
    pub format: Format,
    /// Nobody said so, and its beginning could not be looked at: it is a stream.
    pub is_guess: bool,
    /// How its characters are stored; Parquet says so itself.
    pub encoding: Encoding,
    /// Bytes on disk; 0 if that is not known.
    pub bytes: u64,
    /// When it was changed last, nanoseconds since 1970; 0 if that is not known.
    pub modified_ns: u64,
}

/// The sources of a list of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order of the list; in a folder by path.
    pub sources: Vec<Source>,
    /// Files in folders that are left out, since their names do not say that they hold text.
    pub left_out: Vec<PathBuf>,
}

/// Finds the sources that names stand for: a file, a folder (all in it whose names say what they are), a pattern with
/// `*`, `?`, `[…]` or `**`, or `-`. Hidden files are passed over in folders. Nothing counts twice.
///
/// # Errors
/// A name that stands for nothing, or for what cannot be read.
pub fn find(names: &[PathBuf], format: Option<Format>) -> Result<Found, DataError> {
    let (mut found, mut known) = (Found::default(), HashSet::new());
    for name in names {
        if name.as_os_str() == "-" {
            if known.insert(PathBuf::from("-")) {
                found.sources.push(stdin(format));
            }
            continue;
        }
        let text = name.to_string_lossy();
        let paths = if !name.exists() && text.contains(['*', '?', '[']) {
            matches(&text)?
        } else {
            vec![name.clone()]
        };
        for path in paths {
            let metadata = std::fs::metadata(&path).map_err(|e| missing(&path, e))?;
            if metadata.is_dir() {
                folder(&path, format, &mut known, &mut found, 0)?;
            } else if known.insert(identity(&path)) {
                found.sources.push(file(path, &metadata, format)?);
            }
        }
    }
    if found.sources.is_empty() {
        let what = match found.left_out.first() {
            None => "no files in it".to_owned(),
            Some(first) => format!(
                "no file whose name says that it holds text; {} others, e.g. {}",
                found.left_out.len(),
                first.display()
            ),
        };
        return Err(DataError::NoText {
            name: names.iter().map(|n| n.display().to_string()).collect::<Vec<_>>().join(", "),
            what,
            hint: format!("say what they hold, e.g. --format text, or {BINARY_HINT}"),
        });
    }
    Ok(found)
}

fn stdin(format: Option<Format>) -> Source {
    Source {
        name: "standard input".to_owned(),
        path: None,
        format: format.unwrap_or(Format::Text),
        is_guess: format.is_none(),
        encoding: Encoding::Auto,
        bytes: 0,
        modified_ns: 0,
    }
}

/// Two names of one file are one source.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn missing(path: &Path, error: std::io::Error) -> DataError {
    DataError::from_io(path, error)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let refuse = |what: String| DataError::NoText {
        name: pattern.to_owned(),
        what,
        hint: "* and ? stand for characters of a name, ** for folders, [ab] for one of several".to_owned(),
    };
    let paths = glob::glob(pattern).map_err(|e| refuse(format!("no pattern: {}", e.msg)))?;
    let mut out = Vec::new();
    for path in paths {
        let path = path.map_err(|e| {
            let at = e.path().to_owned();
            DataError::from_io(&at, e.into())
        })?;
        if !path.is_dir() {
            out.push(path);
        }
    }
    if out.is_empty() {
        return Err(refuse("no file matches".to_owned()));
    }
    out.sort();
    Ok(out)
}

/// Folders in folders, as deep as anybody has them; a link may lead back.
const MOST_DEPTH: usize = 64;

fn folder(
    path: &Path,
    format: Option<Format>,
    known: &mut HashSet<PathBuf>,
    found: &mut Found,
    depth: usize,
) -> Result<(), DataError> {
    if !known.insert(identity(path)) || depth > MOST_DEPTH {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> =
        entries.map_err(|e| DataError::from_io(path, e))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        // A link to nothing is no file.
        let Ok(metadata) = std::fs::metadata(&path) else {
            found.left_out.push(path);
            continue;
        };
        if metadata.is_dir() {
            folder(&path, format, known, found, depth + 1)?;
        } else if !metadata.is_file()
            || format.is_none() && Format::of_name(&path.to_string_lossy()).is_none()
        {
            found.left_out.push(path);
        } else if known.insert(identity(&path)) {
            found.sources.push(file(path, &metadata, format)?);
        }
    }
    Ok(())
}

fn file(path: PathBuf, metadata: &std::fs::Metadata, format: Option<Format>) -> Result<Source, DataError> {
    let name = path.display().to_string();
    // Asked now, so that a file nobody may read is named before hours are spent on the others.
    // A pipe is opened once, or its writer would lose its reader.
    if metadata.is_file() {
        std::fs::File::open(&path).map_err(|e| DataError::from_io(&path, e))?;
    }
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let mut source = Source {
        name,
        path: Some(path),
        format: Format::Text,
        is_guess: false,
        encoding: Encoding::Auto,
        bytes: if metadata.is_file() { metadata.len() } else { 0 },
        modified_ns: modified.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(0)),
    };
    source.format = match format.or_else(|| Format::of_name(&source.name)) {
        Some(format) => format,
        None if metadata.is_file() => sniffed(&source),
        None => {
            source.is_guess = true;
            Format::Text
        }
    };
    Ok(source)
}

/// What a file begins like, whose name says nothing.
fn sniffed(source: &Source) -> Format {
    let mut magic = [0; 4];
    let path = source.path.as_deref().expect("a file");
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut magic));
    if read.is_ok_and(|read| read == 4) && magic == *crate::parquet::MAGIC {
        return Format::Parquet;
    }
    // What cannot be opened is said when it is read.
    let Ok(feed) = Feed::open(source) else { return Format::Text };
    if looks_like_objects(feed.head()) { Format::Jsonl } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats_also_packed() {
        for (name, format) in [
            ("a.jsonl.zst", Some(Format::Jsonl)),
            ("a.JSON.GZ", Some(Format::Jsonl)),
            ("b/c.txt.xz", Some(Format::Text)),
            ("d.tsv.bz2", Some(Format::Tsv)),
            ("e.parquet", Some(Format::Parquet)),
            ("f.gz", None),
            ("g", None),
            ("h.rs", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
