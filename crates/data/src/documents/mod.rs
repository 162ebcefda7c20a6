//! Documents out of other people's files, as a stream in bounded memory.
//!
//! A [`Source`] is a file, or standard input. [`open`] gives its [`Reader`], which hands out [`Batch`]es of records in
//! the order of the file; [`text_of`] makes the text of a record. The first half has to be done one batch after the
//! other, the second by any number of threads. What cannot be used is a [`Problem`] with its place, never silence.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sources`] | what a user names (files, folders, patterns, `-`) as a list of sources |
//! | [`packing`] | gzip, Zstandard, xz, bzip2, as a stream |
//! | [`feed`] | a stream with a beginning to look at: byte order marks, what is no text |
//! | `encoding` | UTF-16 and Latin-1, made UTF-8 as they are read |
//! | `lines` | JSON Lines: a record is a line |
//! | `json` | the text in a line of JSON |
//! | `csv` | tables of text with a header: a record is a row |
//! | `passages` | plain text: a record is a file, or a passage of a long one |
//! | `table` | Parquet: a record is a row |
//! | [`digest`] | what identifies a text |
//! | [`minhash`] | how alike two texts are |
//!
//! Memory: a batch is [`Limits::batch`] bytes. A longer record, up to [`LONGEST`], comes alone, and only where the
//! caller allows it, so that there are never several at a time.

mod csv;
pub mod digest;
mod encoding;
pub mod feed;
mod json;
mod lines;
pub mod minhash;
pub mod packing;
mod passages;
pub mod sources;
mod table;

pub use encoding::Encoding;
pub use feed::BINARY_HINT;
pub use packing::Packing;
pub use sources::{Format, Found, Source, find};

use crate::DataError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// Most bytes of a record: what is longer is no document, and is left out by name.
pub const LONGEST: usize = 32 << 20;
/// Bytes from which on a record is read only where the caller allows it.
const LARGE: usize = 4 << 20;

/// Where a reader is in its source: what was handed out ends here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Records before it.
    pub record: u64,
    /// Line feeds before it.
    pub line: u64,
    /// Bytes before it, unpacked.
    pub offset: u64,
}

/// A record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its bytes in the batch.
    pub range: Range<usize>,
    /// Where it begins in its source.
    pub at: Position,
    /// It goes on where the record before it ended: a passage of the same text.
    pub continues: bool,
}

/// Records that follow each other in a source, and what could not be used between them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Bytes that the records are of.
    pub bytes: Vec<u8>,
    /// The records.
    pub records: Vec<Record>,
    /// What is known to be unusable already.
    pub problems: Vec<Problem>,
    /// Where the source is behind them.
    pub end: Position,
}

/// Something that is left out, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The record, from 0.
    pub record: u64,
    /// Its line, from 1; nothing where lines mean nothing.
    pub line: Option<u64>,
    /// What kind of thing is wrong.
    pub kind: ProblemKind,
    /// In words.
    pub what: String,
}

/// What can be wrong with a record, or with a whole source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Not what its format says.
    Malformed,
    /// The field that is to have the text is missing.
    NoField,
    /// The field is null, or something else than text.
    NoText,
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// Longer than [`LONGEST`], or a word of several megabytes in it.
    TooLong,
    /// Half a surrogate pair in JSON: replaced by U+FFFD, and the document kept.
    Surrogate,
    /// The source itself: damaged, not text, or not readable to its end.
    Source,
}

impl ProblemKind {
    /// What there are several of, for a summary.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Malformed => "malformed records",
            Self::NoField => "records without the field",
            Self::NoText => "records whose field is no text",
            Self::NotUtf8 => "records that are not UTF-8",
            Self::TooLong => "records that are too long",
            Self::Surrogate => "documents with half a surrogate pair, which became U+FFFD",
            Self::Source => "sources that could not be read to their end",
        }
    }

    /// Whether the document is used in spite of it.
    pub fn keeps_document(self) -> bool {
        self == Self::Surrogate
    }
}

/// What a reader came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A batch, with at least one record or problem in it.
    Batch,
    /// More is needed than the limits allow: ask again where it is.
    Large,
    /// The end of the source.
    End,
}

/// How much a reader may take at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a batch, about.
    pub batch: usize,
    /// Whether what needs much memory to unpack may be unpacked.
    pub first: bool,
    /// Whether a large record may come.
    pub large: bool,
}

/// A source being read from its beginning to its end.
pub trait Reader: Send {
    /// Fills an empty batch with what comes next.
    ///
    /// # Errors
    /// The source cannot be read any further; what was handed out before stays good.
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError>;

    /// Bytes of the file that were read so far, as it lies on disk.
    fn consumed(&self) -> u64;
}

/// Where texts are found in records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// Name of the field or column with the text; `a.b` is field `b` of field `a`.
    pub text: String,
    /// What divides plain text into documents.
    pub divide: Divide,
}

impl Default for Fields {
    fn default() -> Self {
        Self { text: "text".to_owned(), divide: Divide::default() }
    }
}

/// What divides plain text into documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divide {
    /// Nothing: a file is a document, a long one comes in passages.
    #[default]
    File,
    /// A line is a document.
    Line,
    /// Lines up to a blank one are a document.
    BlankLine,
    /// A line of these characters ends a document.
    Marker(String),
}

/// Opens a source at a position that its reader was at before.
///
/// # Errors
/// It cannot be read, is packed in an unknown way, is no text, or lacks the column.
pub fn open(source: &Source, fields: &Fields, from: Position) -> Result<Box<dyn Reader>, DataError> {
    if source.format == Format::Parquet {
        return Ok(Box::new(table::TableReader::open(source, &fields.text, from)?));
    }
    let feed = feed::Feed::open(source)?;
    let refuse = |what: &str, hint: String| {
        Err(DataError::NoText { name: source.name.clone(), what: what.to_owned(), hint })
    };
    if source.format == Format::Jsonl && feed.head().trim_ascii_start().starts_with(b"[") {
        let hint = format!("make it one: jq -c '.[]' {0} > lines.jsonl", source.name);
        return refuse("is one array, not an object in each line", hint);
    }
    if source.is_guess && feed::looks_like_objects(feed.head()) {
        return refuse("looks like JSON Lines", "say so: --format jsonl, or --format text".to_owned());
    }
    Ok(match source.format {
        Format::Jsonl => Box::new(lines::LineReader::open(feed, from)?),
        Format::Csv | Format::Tsv => {
            Box::new(csv::CsvReader::open(feed, &source.name, source.format, &fields.text, from)?)
        }
        Format::Text if fields.divide == Divide::File => Box::new(passages::PassageReader::open(feed, from)?),
        Format::Text => Box::new(passages::DividedReader::open(feed, fields.divide.clone(), from)?),
        Format::Parquet => unreachable!("opened above"),
    })
}

/// The text of a record; problems that keep the document are added to `problems`.
///
/// # Errors
/// Why there is none.
pub fn text_of<'b>(
    format: Format,
    fields: &Fields,
    batch: &'b Batch,
    record: &Record,
    problems: &mut Vec<Problem>,
) -> Result<Cow<'b, str>, Problem> {
    let bytes = &batch.bytes[record.range.clone()];
    let problem = |kind, what| Problem {
        record: record.at.record,
        line: (format != Format::Parquet).then_some(record.at.line + 1),
        kind,
        what,
    };
    match format {
        Format::Jsonl => match json::text_in(bytes, &fields.text) {
            Ok((text, halves)) => {
                if halves > 0 {
                    let what = format!("{halves} halves of surrogate pairs became U+FFFD");
                    problems.push(problem(ProblemKind::Surrogate, what));
                }
                Ok(text)
            }
            Err((kind, what)) => Err(problem(kind, what)),
        },
        Format::Text if fields.divide == Divide::File => passages::text_in(bytes, record, problems),
        _ => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|e| {
            let at = e.valid_up_to();
            let lines = bytes[..at].iter().filter(|&&b| b == b'\n').count() as u64;
            let mut found = problem(ProblemKind::NotUtf8, not_utf8(bytes, at));
            found.line = found.line.map(|line| line + lines);
            found
        }),
    }
}

/// `byte 0xe9 at 3 of the record is not UTF-8`.
fn not_utf8(bytes: &[u8], at: usize) -> String {
    format!("byte 0x{:02x}, number {at} of the record, is not UTF-8", bytes[at])
}
