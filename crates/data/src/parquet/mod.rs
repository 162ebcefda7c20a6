//! Parquet tables of flat columns, read and written: numbers, truth values and texts, as pandas, Polars, DuckDB and
//! Spark write them.
//!
//! A reader of our own rather than the crate `parquet`: a table of points needs the tenth part of that crate, which
//! alone adds half of this workspace's build time again (DECISIONS.md has the figures). Lengths and counts in the
//! file are believed only as far as its bytes and stated limits go, so that damage ends in an error. Columns of lists
//! are left out with a note.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@file`] | footer, schema, pages of a column |
//! | `decode` | encodings of values inside of a page |
//! | `compression` | Snappy, Zstandard, gzip, LZ4, Brotli |
//! | `thrift` | headers |
//! | `texts` | one column of texts, row by row: for documents |
//! | [`mod@write`] | one row group, plain values, Snappy |

mod compression;
mod decode;
mod file;
pub(crate) mod texts;
mod thrift;
mod write;

pub use write::write;

use crate::DataError;

/// The four bytes at both ends of a Parquet file.
pub const MAGIC: &[u8] = b"PAR1";

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 are replaced.
    Text(String),
}

/// A column with one value per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name, dotted inside of structures.
    pub name: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// A table by columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParquetTable {
    /// The columns, all of the same length.
    pub columns: Vec<Column>,
    /// Number of rows.
    pub rows: usize,
    /// What was left out, in words.
    pub notes: Vec<String>,
}

/// Reads a whole file; `name` is for messages.
///
/// # Errors
/// Not Parquet, damaged, compressed or encoded in a way that is not read here, or larger than a table of points could
/// be.
pub fn read(name: &str, bytes: &[u8]) -> Result<ParquetTable, DataError> {
    file::read(bytes).map_err(|fault| DataError::Parquet {
        name: name.to_owned(),
        hint: fault.hint(),
        what: fault.to_string(),
    })
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Fault {
    #[error("is no Parquet file, or one cut short")]
    NotParquet,
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("uses {0}, which is not read here")]
    Unsupported(String),
    #[error("has a page or a footer that takes too much memory (a page 128 MiB, a footer 16 MiB)")]
    LargePage,
    #[error("is larger than a table of points can be (4 M rows, 40 M cells, 256 MiB of text)")]
    TooLarge,
}

impl Fault {
    fn hint(&self) -> &'static str {
        match self {
            Self::NotParquet | Self::Damaged(_) => {
                "write it again; a whole file begins and ends with the bytes PAR1"
            }
            Self::Unsupported(_) => {
                "write it with Snappy, Zstandard, gzip, Brotli or no compression, or as CSV"
            }
            Self::LargePage => "write it again with smaller row groups or pages",
            Self::TooLarge => "write only the columns and rows that are points",
        }
    }
}
