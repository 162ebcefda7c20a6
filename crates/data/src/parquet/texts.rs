//! One column of texts, row by row in bounded memory: a page is held at a time, and its dictionary. A file of any size
//! is read with a few seeks; nothing is mapped.

use super::compression::decompress;
use super::decode::{self, take, u32_le};
use super::file::{self, Leaf, kind};
use super::thrift::{Reader, Thrift};
use super::{Fault, MAGIC};
use crate::DataError;
use crate::documents::LONGEST;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most bytes of a footer, and of a page's header (it may quote long texts).
const MOST_FOOTER: u64 = 16 << 20;
/// Most bytes of a page, unpacked: DuckDB's may have 100 MB.
const MOST_PAGE: usize = 128 << 20;
/// Most values of a page.
const MOST_VALUES: usize = 8 << 20;
/// What is read to find a page's header.
const HEADER: usize = 16 << 10;

/// What stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A text, appended to the caller's bytes at this range.
    Text(Range<usize>),
    /// Nothing.
    Null,
    /// A text longer than [`LONGEST`], of so many bytes.
    TooLong(usize),
    /// The next page, or the next text, is larger than the caller allows.
    Large,
    /// There are no more rows.
    End,
}

/// A column being read.
pub(crate) struct TextColumn {
    path: PathBuf,
    file: File,
    max_definition: u32,
    /// Chunks that were not begun, the next one last.
    chunks: Vec<Chunk>,
    open: Option<Open>,
    dictionary: Dictionary,
    page: Option<Page>,
    consumed: u64,
}

/// The column in a row group.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    start: u64,
    length: u64,
    codec: i64,
    rows: u64,
}

/// A chunk being read.
struct Open {
    chunk: Chunk,
    /// Where its next page begins, and rows before it.
    at: u64,
    rows: u64,
}

#[derive(Default)]
struct Dictionary {
    bytes: Vec<u8>,
    texts: Vec<Range<usize>>,
}

/// A page being handed out.
struct Page {
    body: Vec<u8>,
    /// Of each row whether there is a text.
    present: Present,
    row: usize,
    rows: usize,
    values: Values,
}

enum Present {
    All,
    Levels(Vec<bool>),
}

/// Texts that follow, by encoding; `at` is where in the body.
enum Values {
    Plain { at: usize },
    Dictionary { indices: std::vec::IntoIter<u64> },
    Lengths { lengths: std::vec::IntoIter<i64>, at: usize },
    Shared { shared: std::vec::IntoIter<i64>, lengths: std::vec::IntoIter<i64>, at: usize, last: Vec<u8> },
}

/// What a page's header says.
struct Header {
    kind: i64,
    body: u64,
    packed: usize,
    plain: usize,
    values: usize,
    encoding: i64,
    /// Bytes of repetition and definition levels before a page of the second version; none in the first.
    levels: Option<(usize, usize)>,
    is_packed: bool,
}

impl TextColumn {
    /// Opens a file at its first row.
    ///
    /// # Errors
    /// Not Parquet, damaged, no such column (the message lists those there are), or one of something else than text.
    pub(crate) fn open(path: &Path, column: &str) -> Result<Self, DataError> {
        let fail = |e: std::io::Error| DataError::from_io(path, e);
        let mut file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let fault = |fault: Fault| damaged(path, fault);
        let footer = footer(&mut file, length).map_err(|e| e.of(path))?;
        let meta = Reader::new(&footer).structure().map_err(fault)?;
        let leaves = file::leaves(&meta).map_err(fault)?;
        let Some(index) = leaves.iter().position(|leaf| leaf.name == column) else {
            let name = path.display().to_string();
            let there: Vec<&str> = leaves.iter().map(|leaf| leaf.name.as_str()).take(24).collect();
            return Err(DataError::NoColumn { name, field: column.to_owned(), there: there.join(", ") });
        };
        let leaf = &leaves[index];
        if leaf.kind != kind::BYTES || leaf.repeated || leaf.scale.is_some() {
            let is = if leaf.repeated { "lists" } else { "something else than text" };
            return Err(DataError::NoText {
                name: path.display().to_string(),
                what: format!("column `{column}` holds {is}"),
                hint: "name the column with the text: --field NAME".to_owned(),
            });
        }
        let mut chunks = chunks(&meta, index, leaf, length).map_err(fault)?;
        chunks.reverse();
        Ok(Self {
            path: path.to_owned(),
            file,
            max_definition: leaf.max_definition,
            chunks,
            open: None,
            dictionary: Dictionary::default(),
            page: None,
            consumed: 0,
        })
    }

    /// Goes on from this row.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(crate) fn skip_to(&mut self, row: u64) -> Result<(), DataError> {
        let mut left = row;
        while let Some(chunk) = self.chunks.last().filter(|chunk| chunk.rows <= left && left > 0) {
            left -= chunk.rows;
            self.consumed += chunk.length;
            self.chunks.pop();
        }
        let mut sink = Vec::new();
        while left > 0 {
            sink.clear();
            let passed = match &mut self.page {
                // Pages of plain texts cannot be entered in the middle but by reading them.
                Some(_) => {
                    matches!(self.next(usize::MAX, &mut sink)?, Cell::End).then_some(left).unwrap_or(1)
                }
                None => self.pass_page(left)?,
            };
            left = left.saturating_sub(passed);
        }
        Ok(())
    }

    /// Opens the next page, or passes over one that ends before `left` rows; how many rows were passed.
    fn pass_page(&mut self, left: u64) -> Result<u64, DataError> {
        match self.next_page(usize::MAX, left).map_err(|e| e.of(&self.path))? {
            Turned::Passed(rows) => Ok(rows),
            Turned::End => Ok(left),
            Turned::Page | Turned::Large => Ok(0),
        }
    }

    /// The next row; its text is appended to `out`. What needs more than `most` bytes is not begun.
    ///
    /// # Errors
    /// The file cannot be read any further.
    pub(crate) fn next(&mut self, most: usize, out: &mut Vec<u8>) -> Result<Cell, DataError> {
        loop {
            if let Some(page) = &mut self.page {
                if page.row < page.rows {
                    return page
                        .next(&self.dictionary, most, out)
                        .map_err(|fault| damaged(&self.path, fault));
                }
                self.page = None;
            }
            match self.next_page(most, 0).map_err(|e| e.of(&self.path))? {
                Turned::Page | Turned::Passed(_) => {}
                Turned::Large => return Ok(Cell::Large),
                Turned::End => return Ok(Cell::End),
            }
        }
    }

    /// Bytes of the column that were read.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    fn next_page(&mut self, most: usize, pass: u64) -> Result<Turned, Failed> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(chunk) = self.chunks.pop() else { return Ok(Turned::End) };
                self.open = Some(Open { chunk, at: chunk.start, rows: 0 });
                self.dictionary = Dictionary::default();
                continue;
            };
            let end = open.chunk.start + open.chunk.length;
            if open.rows >= open.chunk.rows {
                self.consumed += end.saturating_sub(open.at);
                self.open = None;
                continue;
            }
            if open.at >= end {
                return Err(Fault::Damaged("a column has fewer rows than its group").into());
            }
            let header = header(&mut self.file, open.at, end)?;
            if header.plain > MOST_PAGE || header.values > MOST_VALUES {
                return Err(Fault::LargePage.into());
            }
            if header.packed as u64 > end - header.body.min(end) {
                return Err(Fault::Damaged("a page reaches beyond its column").into());
            }
            if header.plain.max(header.packed) > most {
                return Ok(Turned::Large);
            }
            let begin = open.at;
            open.at = header.body + header.packed as u64;
            self.consumed += open.at - begin;
            if matches!(header.kind, 0 | 3) {
                if header.values as u64 > open.chunk.rows - open.rows {
                    return Err(Fault::Damaged("a page holds more values than its column").into());
                }
                open.rows += header.values as u64;
                if pass > 0 && header.values as u64 <= pass {
                    return Ok(Turned::Passed(header.values as u64));
                }
            } else if header.kind != 2 {
                continue;
            }
            let codec = open.chunk.codec;
            let mut packed = vec![0; header.packed];
            self.file.seek(SeekFrom::Start(header.body))?;
            self.file.read_exact(&mut packed)?;
            if header.kind == 2 {
                let bytes = decompress(codec, &packed, header.plain)?;
                self.dictionary = dictionary(bytes, header.values)?;
                continue;
            }
            self.page = Some(page(&header, &packed, codec, self.max_definition)?);
            return Ok(Turned::Page);
        }
    }
}

enum Turned {
    Page,
    Passed(u64),
    Large,
    End,
}

/// A fault of the file, or of reading it.
enum Failed {
    Fault(Fault),
    Io(std::io::Error),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failed {
    fn of(self, path: &Path) -> DataError {
        match self {
            Self::Fault(fault) => damaged(path, fault),
            Self::Io(error) => DataError::from_io(path, error),
        }
    }
}

fn damaged(path: &Path, fault: Fault) -> DataError {
    DataError::Parquet { name: path.display().to_string(), hint: fault.hint(), what: fault.to_string() }
}

fn footer(file: &mut File, length: u64) -> Result<Vec<u8>, Failed> {
    let mut ends = [0; 12];
    if length < 12 {
        return Err(Fault::NotParquet.into());
    }
    file.read_exact(&mut ends[..4])?;
    file.seek(SeekFrom::Start(length - 8))?;
    file.read_exact(&mut ends[4..])?;
    if ends.ends_with(b"PARE") {
        return Err(Fault::Unsupported("encryption".to_owned()).into());
    }
    if !ends.starts_with(MAGIC) || !ends.ends_with(MAGIC) {
        return Err(Fault::NotParquet.into());
    }
    let size = u64::from(u32::from_le_bytes([ends[4], ends[5], ends[6], ends[7]]));
    if size > MOST_FOOTER {
        return Err(Fault::LargePage.into());
    }
    let start = (length - 8).checked_sub(size).filter(|start| *start >= 4);
    let start = start.ok_or(Fault::Damaged("its footer is longer than the file"))?;
    file.seek(SeekFrom::Start(start))?;
    let mut footer = vec![0; size as usize];
    file.read_exact(&mut footer)?;
    Ok(footer)
}

fn chunks(meta: &Thrift<'_>, index: usize, leaf: &Leaf, length: u64) -> Result<Vec<Chunk>, Fault> {
    let whole = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok());
    let mut out = Vec::new();
    for group in meta.list(4) {
        let column = group.list(1).get(index).ok_or(Fault::Damaged("a row group lacks a column"))?;
        if column.field(8).is_some() {
            return Err(Fault::Unsupported(format!("encryption of column `{}`", leaf.name)));
        }
        let chunk = column.field(3).ok_or(Fault::Damaged("a row group lacks a column"))?;
        let data = chunk.int(9).unwrap_or(0);
        let start = whole(chunk.int(11).filter(|d| *d > 0 && *d < data).or(Some(data)));
        let bounds =
            start.zip(whole(chunk.int(7))).filter(|(s, n)| s.checked_add(*n).is_some_and(|e| e <= length));
        let (start, length) = bounds.ok_or(Fault::Damaged("a column lies outside of the file"))?;
        let rows = whole(group.int(3)).ok_or(Fault::Damaged("a row group has no size"))?;
        out.push(Chunk { start, length, codec: chunk.int(4).unwrap_or(0), rows });
    }
    Ok(out)
}

/// The header of the page at `at`; what is read for it doubles until it is whole.
fn header(file: &mut File, at: u64, end: u64) -> Result<Header, Failed> {
    let mut room = HEADER;
    loop {
        let count = (room as u64).min(end - at) as usize;
        let mut bytes = vec![0; count];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        let mut reader = Reader::new(&bytes);
        match reader.structure() {
            Ok(header) => return Ok(header_of(&header, at + reader.position() as u64)?),
            Err(_) if (room as u64) < MOST_FOOTER && (room as u64) < end - at => room *= 8,
            Err(fault) => return Err(fault.into()),
        }
    }
}

fn header_of(header: &Thrift<'_>, body: u64) -> Result<Header, Fault> {
    let size = |of: &Thrift<'_>, id: i16| of.int(id).and_then(|v| usize::try_from(v).ok());
    let (Some(plain), Some(packed)) = (size(header, 2), size(header, 3)) else {
        return Err(Fault::Damaged("a page has no size"));
    };
    let kind = header.int(1).unwrap_or(-1);
    let mut out = Header { kind, body, packed, plain, values: 0, encoding: 0, levels: None, is_packed: true };
    let part = match kind {
        0 => header.field(5),
        2 => header.field(7),
        3 => header.field(8),
        // An index, or what is not known yet: passed over.
        _ => return Ok(out),
    };
    let part = part.ok_or(Fault::Damaged("a page has no header"))?;
    out.values = size(part, 1).ok_or(Fault::Damaged("a page has no size"))?;
    match kind {
        0 => {
            out.encoding = part.int(2).unwrap_or(-1);
            if part.int(3).is_some_and(|levels| levels != 3) {
                return Err(Fault::Unsupported("bit-packed levels".to_owned()));
            }
        }
        3 => {
            out.encoding = part.int(4).unwrap_or(-1);
            out.levels = Some((size(part, 6).unwrap_or(0), size(part, 5).unwrap_or(0)));
            out.is_packed = part.truth(7) != Some(false);
        }
        _ => {}
    }
    Ok(out)
}

fn dictionary(bytes: Vec<u8>, entries: usize) -> Result<Dictionary, Fault> {
    let mut at = bytes.as_slice();
    let mut texts = Vec::new();
    for _ in 0..entries {
        let length = u32_le(&mut at)?;
        let from = bytes.len() - at.len();
        take(&mut at, length)?;
        texts.push(from..from + length);
    }
    Ok(Dictionary { bytes, texts })
}

fn page(header: &Header, packed: &[u8], codec: i64, max_definition: u32) -> Result<Page, Fault> {
    let rows = header.values;
    let width = 32 - max_definition.leading_zeros();
    let present = |levels: &mut &[u8]| {
        let levels = decode::hybrid(levels, width, rows)?;
        Ok(Present::Levels(levels.into_iter().map(|d| d == u64::from(max_definition)).collect()))
    };
    let (body, present, mut at) = match header.levels {
        None => {
            let body = decompress(codec, packed, header.plain)?;
            let mut rest = body.as_slice();
            let present = match max_definition {
                0 => Present::All,
                _ => {
                    let length = u32_le(&mut rest)?;
                    present(&mut take(&mut rest, length)?)?
                }
            };
            let at = body.len() - rest.len();
            (body, present, at)
        }
        Some((repetition, definition)) => {
            let mut rest = packed;
            take(&mut rest, repetition)?;
            let mut levels = take(&mut rest, definition)?;
            let present = if max_definition == 0 { Present::All } else { present(&mut levels)? };
            let size = repetition.checked_add(definition).and_then(|l| header.plain.checked_sub(l));
            let size = size.ok_or(Fault::Damaged("a page has no size"))?;
            let codec = if header.is_packed { codec } else { 0 };
            // A page of nulls has no bytes to decompress.
            let body = if size == 0 { Vec::new() } else { decompress(codec, rest, size)? };
            (body, present, 0)
        }
    };
    let count = match &present {
        Present::All => rows,
        Present::Levels(levels) => levels.iter().filter(|p| **p).count(),
    };
    let values = values(header.encoding, &body, &mut at, count)?;
    Ok(Page { body, present, row: 0, rows, values })
}

fn values(encoding: i64, body: &[u8], at: &mut usize, count: usize) -> Result<Values, Fault> {
    let mut rest = &body[*at..];
    let full = |lengths: Vec<i64>| match lengths.len() == count {
        true => Ok(lengths.into_iter()),
        false => Err(Fault::Damaged("a page holds fewer values than it says")),
    };
    Ok(match encoding {
        // A page of nulls alone may have nothing at all.
        _ if count == 0 => Values::Plain { at: *at },
        0 => Values::Plain { at: *at },
        2 | 8 => {
            let width = u32::from(take(&mut rest, 1)?[0]);
            Values::Dictionary { indices: decode::hybrid(&mut rest, width, count)?.into_iter() }
        }
        6 => {
            let lengths = full(decode::delta(&mut rest, count)?)?;
            Values::Lengths { lengths, at: body.len() - rest.len() }
        }
        7 => {
            let shared = full(decode::delta(&mut rest, count)?)?;
            let lengths = full(decode::delta(&mut rest, count)?)?;
            Values::Shared { shared, lengths, at: body.len() - rest.len(), last: Vec::new() }
        }
        other => return Err(Fault::Unsupported(format!("encoding {other} of texts"))),
    })
}

impl Page {
    fn next(&mut self, dictionary: &Dictionary, most: usize, out: &mut Vec<u8>) -> Result<Cell, Fault> {
        const LOST: Fault = Fault::Damaged("a value is not in its dictionary");
        const SHORT: Fault = Fault::Damaged("a page holds fewer values than it says");
        if let Present::Levels(levels) = &self.present
            && !levels[self.row]
        {
            self.row += 1;
            return Ok(Cell::Null);
        }
        let from = out.len();
        let part = |at: usize, length: i64| {
            let length = usize::try_from(length).ok()?;
            self.body.get(at..at.checked_add(length)?)
        };
        let length = match &mut self.values {
            Values::Plain { at } => {
                let mut rest = self.body.get(*at..).ok_or(SHORT)?;
                let length = u32_le(&mut rest)?;
                let text = take(&mut rest, length)?;
                if length > most {
                    return Ok(Cell::Large);
                }
                out.extend_from_slice(&text[..length.min(LONGEST)]);
                *at += 4 + length;
                length
            }
            Values::Dictionary { indices } => {
                let index = indices.as_slice().first().and_then(|i| usize::try_from(*i).ok());
                let range = index.and_then(|i| dictionary.texts.get(i)).ok_or(LOST)?;
                if range.len() > most {
                    return Ok(Cell::Large);
                }
                out.extend_from_slice(&dictionary.bytes[range.start..range.start + range.len().min(LONGEST)]);
                indices.next();
                range.len()
            }
            Values::Lengths { lengths, at } => {
                let length = *lengths.as_slice().first().ok_or(SHORT)?;
                let text = part(*at, length).ok_or(SHORT)?;
                if text.len() > most {
                    return Ok(Cell::Large);
                }
                out.extend_from_slice(&text[..text.len().min(LONGEST)]);
                lengths.next();
                *at += text.len();
                text.len()
            }
            Values::Shared { shared, lengths, at, last } => {
                let first = |of: &std::vec::IntoIter<i64>| of.as_slice().first().copied();
                let (same, length) = first(shared).zip(first(lengths)).ok_or(SHORT)?;
                let same = usize::try_from(same).ok().filter(|same| *same <= last.len()).ok_or(SHORT)?;
                let rest = part(*at, length).ok_or(SHORT)?;
                if same + rest.len() > most {
                    return Ok(Cell::Large);
                }
                last.truncate(same);
                last.extend_from_slice(rest);
                out.extend_from_slice(&last[..last.len().min(LONGEST)]);
                shared.next();
                lengths.next();
                *at += rest.len();
                last.len()
            }
        };
        self.row += 1;
        if length > LONGEST {
            out.truncate(from);
            return Ok(Cell::TooLong(length));
        }
        Ok(Cell::Text(from..from + length))
    }
}
