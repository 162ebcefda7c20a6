//! What can be wrong with a user's data. Every message says what, where, and what to do.

use std::path::{Path, PathBuf};

/// Why a corpus cannot be opened or read. All of them are bad input, not our failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No such file.
    #[error("{}: no such file\nhint: {hint}", path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// A directory where a file was expected.
    #[error("{}: is a directory, not a file\nhint: name one file in it{example}", path.display())]
    Directory {
        /// The path asked for.
        path: PathBuf,
        /// An example file in the directory, or nothing.
        example: String,
    },
    /// The system does not let us read it.
    #[error("{}: permission denied\nhint: make it readable for this user, e.g. chmod u+r {}", path.display(), path.display())]
    Permission {
        /// The path asked for.
        path: PathBuf,
    },
    /// Any other failure to read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing in the file.
    #[error("{}: the file is empty\nhint: {hint}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// A length that is no whole number of tokens.
    #[error(
        "{}: {bytes} bytes are no whole number of {width}-byte tokens\nhint: the file is cut short, is not raw {dtype} tokens, \
         or holds another width (set dtype to u8, u16, u32 or u64)", path.display()
    )]
    OddSize {
        /// The file.
        path: PathBuf,
        /// Bytes of tokens in it.
        bytes: u64,
        /// Bytes of a token.
        width: u64,
        /// `u16` or `u32`.
        dtype: &'static str,
    },
    /// A Parquet file that cannot be read.
    #[error("{name} {what}\nhint: {hint}")]
    Parquet {
        /// Name of the file.
        name: String,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A header that does not fit its file.
    #[error("{}: {what}\nhint: write the file again, or take its header off to read it as raw tokens", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The JSON file beside a token file does not parse or contradicts it.
    #[error("{}: {what}\nhint: correct or remove this file; raw u16 tokens need none", path.display())]
    Sidecar {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A token id that the vocabulary does not have.
    #[error(
        "{source_name}: token {position} is {}, beyond the vocabulary of {vocab}\nhint: set the vocabulary the file was \
         made with, or its dtype if it holds u32 tokens",
        id_words(*id)
    )]
    TokenBeyondVocab {
        /// File or corpus.
        source_name: String,
        /// Index of the token.
        position: u64,
        /// Its id.
        id: u32,
        /// Symbols in the vocabulary.
        vocab: usize,
    },
    /// The vocabulary is not known.
    #[error(
        "{}: the vocabulary of its {dtype} tokens{by} is not known\nhint: give vocab = …, in the study's \
         [data] or in {}",
        path.display(), sidecar.display()
    )]
    UnknownVocab {
        /// The token file.
        path: PathBuf,
        /// `u32`, `u64`.
        dtype: &'static str,
        /// How their width is known.
        by: String,
        /// Where its sidecar would be.
        sidecar: PathBuf,
    },
    /// A tokeniser's file that cannot be used.
    #[error("{name} {what}\nhint: {hint}")]
    Tokenizer {
        /// The file.
        name: String,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// An id to decode that the vocabulary does not have.
    #[error(
        "id {id}, number {position} from 0, is not in the vocabulary of {tokenizer} ({vocab} ids)\nhint: name the tokeniser \
         the ids were made with"
    )]
    UnknownId {
        /// The tokeniser.
        tokenizer: String,
        /// Index of the id.
        position: u64,
        /// The id.
        id: u32,
        /// Ids in the vocabulary.
        vocab: usize,
    },
    /// A setting of ours that is impossible.
    #[error("{what}\nhint: {hint}")]
    Setting {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Not UTF-8.
    #[error(
        "{}: not UTF-8 at byte {offset} (line {line}, byte value 0x{byte:02x})\nhint: convert it first, e.g. \
         iconv -f {} -t UTF-8 {} > utf8.txt", path.display(),
        if *offset == 0 && *byte >= 0xfe { "UTF-16" } else { "WINDOWS-1252" }, path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// First offending byte.
        offset: usize,
        /// Its line, from 1.
        line: usize,
        /// Its value.
        byte: u8,
    },
    /// A compressed file that does not decompress.
    #[error("{source_name}: {what}\nhint: {hint}")]
    Compressed {
        /// File or corpus.
        source_name: String,
        /// What the decoder said.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file that holds something else than token ids, or holds them in a way that is not read.
    #[error("{}: {what}\nhint: {hint}", path.display())]
    NoTokens {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A source of documents that is no text, or in an encoding or form that is not read.
    #[error("{name}: {what}\nhint: {hint}")]
    NoText {
        /// The source.
        name: String,
        /// What it is.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A table without the column that is to have the text.
    #[error(
        "{name}: no column `{field}`; there are: {there}\nhint: name the column with the text: --field NAME"
    )]
    NoColumn {
        /// The source.
        name: String,
        /// The column asked for.
        field: String,
        /// Those there are.
        there: String,
    },
    /// The embedded text, or the embedded icons, are not what was embedded.
    #[error(
        "the built-in data are damaged: {what}\nhint: the program file is damaged; build or download it again"
    )]
    Builtin {
        /// What does not match.
        what: String,
    },
    /// Too little text to hold some of it out.
    #[error(
        "{source_name}: {bytes} bytes are too few to hold a block out\nhint: give at least {needed} bytes of text"
    )]
    TooSmallToSplit {
        /// File.
        source_name: String,
        /// Bytes there are.
        bytes: u64,
        /// Bytes that suffice.
        needed: u64,
    },
    /// Too few tokens for one window.
    #[error(
        "{source_name}: {tokens} tokens, but one window of context {context} needs {}\nhint: use a shorter \
         context or more text",
        context + 1
    )]
    TooFewTokens {
        /// File or split.
        source_name: String,
        /// Tokens there are.
        tokens: u64,
        /// The context asked for.
        context: usize,
    },
    /// A class without enough images for an episode.
    #[error(
        "class `{class}` has {found} images, an episode takes {needed} of it\nhint: use fewer shots or queries, or leave \
         the class out"
    )]
    ClassTooSmall {
        /// The class.
        class: String,
        /// Images it has.
        found: usize,
        /// Shots and queries.
        needed: usize,
    },
    /// A picture that cannot be used.
    #[error("{}: {what}\nhint: {hint}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// One picture, or one class, in two splits: what is tested would have been seen in training.
    #[error("{first} and {second} are the same {what}, in different splits\nhint: keep it in one of them")]
    InTwoSplits {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// `class` or `picture`.
        what: &'static str,
    },
    /// A list of pictures that does not parse.
    #[error("{}:{line}: {what}\nhint: a list begins with `filename,label` and has a file and its class in each line", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A mapped file that became shorter while in use.
    #[error("{}: became shorter while in use ({was} bytes, now {now})\nhint: leave token files alone while a run reads them", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Bytes at open.
        was: u64,
        /// Bytes now.
        now: u64,
    },
}

impl DataError {
    /// The variant that an I/O error on `path` deserves.
    pub(crate) fn from_io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound { path: path.to_owned(), hint: near(path) },
            std::io::ErrorKind::PermissionDenied => Self::Permission { path: path.to_owned() },
            std::io::ErrorKind::IsADirectory => Self::directory(path),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// A directory was named; point at a likely file in it.
    pub(crate) fn directory(path: &Path) -> Self {
        let likely = files_in(path).into_iter().find(|name| {
            let extension = Path::new(name).extension().and_then(|e| e.to_str());
            matches!(extension, Some("bin" | "txt" | "zst"))
        });
        let example = likely.map(|name| format!(", e.g. {}", path.join(name).display())).unwrap_or_default();
        Self::Directory { path: path.to_owned(), example }
    }
}

/// An id. Beyond 31 bits it is a negative number of a signed file, or one of 64 bits, which is read as the largest.
fn id_words(id: u32) -> String {
    if id > i32::MAX as u32 { "negative, or more than 31 bits hold".to_owned() } else { id.to_string() }
}

/// A hint for a missing file: which part of the path is missing, and what is there instead.
fn near(path: &Path) -> String {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return format!("the folder {} does not exist either", parent.display());
    }
    let token_files: Vec<String> =
        files_in(parent).into_iter().filter(|n| n.ends_with(".bin") || n.ends_with(".txt")).take(4).collect();
    match token_files.as_slice() {
        [] => format!("check the path; {} holds no .bin or .txt file", parent.display()),
        names => format!("{} holds {}", parent.display(), names.join(", ")),
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).take(10_000).collect();
    names.sort();
    names
}
