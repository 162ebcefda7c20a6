//! Plain text: a record is a file; a long one comes in passages, between which nothing stands in the token stream. Or
//! records end at blank lines, or at a marker such as `<|endoftext|>`.
//!
//! A passage ends between an ASCII letter and a space or line feed, where under every tokeniser a piece ends whatever
//! is around, so that the tokens of the passages are those of the whole text.

use super::feed::Feed;
use super::lines::{LineReader, Lines};
use super::{Batch, Divide, LARGE, LONGEST, Limits, Position, Problem, ProblemKind, Reader, Record, Step};
use crate::DataError;
use std::borrow::Cow;

/// A text is cut at the first good place behind so many bytes.
const PASSAGE: usize = 64 << 10;
/// A text up to this stays whole; a passage is never longer.
const WHOLE: usize = 2 * PASSAGE;
/// How far a line's end is preferred to another good place.
const LINE_SOUGHT: usize = 8 << 10;

/// Plain text as it is, in passages.
pub(super) struct PassageReader {
    feed: Feed,
    /// Read, and not handed out yet.
    ahead: Vec<u8>,
    at: Position,
    ended: bool,
}

impl PassageReader {
    pub(super) fn open(mut feed: Feed, from: Position) -> Result<Self, DataError> {
        feed.skip_to(from.offset)?;
        Ok(Self { feed, ahead: Vec::new(), at: from, ended: false })
    }
}

impl Reader for PassageReader {
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        if !limits.first && self.feed.needs_much() {
            return Ok(Step::Large);
        }
        let bytes = &mut batch.bytes;
        std::mem::swap(bytes, &mut self.ahead);
        let mut failed = None;
        if !self.ended {
            let count = (limits.batch.max(WHOLE) + WHOLE).saturating_sub(bytes.len());
            match self.feed.append(bytes, count) {
                Ok(more) => self.ended = !more,
                Err(e) => failed = Some(e),
            }
        }
        let mut from = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            let length = match (rest.len() > WHOLE, self.ended) {
                (true, _) => passage(rest),
                (false, true) => rest.len(),
                (false, false) => break,
            };
            let continues = self.at.offset > 0;
            batch.records.push(Record { range: from..from + length, at: self.at, continues });
            self.at.record += 1;
            self.at.line += memchr::memchr_iter(b'\n', &rest[..length]).count() as u64;
            self.at.offset += length as u64;
            from += length;
        }
        self.ahead.clear();
        self.ahead.extend_from_slice(&bytes[from..]);
        bytes.truncate(from);
        batch.end = self.at;
        match (failed, batch.records.is_empty()) {
            (Some(e), true) => Err(e),
            (None, true) => Ok(Step::End),
            (_, false) => Ok(Step::Batch),
        }
    }

    fn consumed(&self) -> u64 {
        self.feed.consumed()
    }
}

/// Length of the passage at the beginning of more than [`WHOLE`] bytes.
fn passage(text: &[u8]) -> usize {
    let cut = |end: usize, space: bool| {
        let pairs = text[PASSAGE - 1..end].windows(2);
        let good =
            |pair: &[u8]| pair[0].is_ascii_alphabetic() && (pair[1] == b'\n' || space && pair[1] == b' ');
        pairs.into_iter().position(good).map(|at| PASSAGE + at)
    };
    cut(PASSAGE + LINE_SOUGHT, false).or_else(|| cut(WHOLE, true)).unwrap_or_else(|| {
        // No letter before a space in 64 kB: at the beginning of a character.
        let back = (0..4).find(|back| text[WHOLE - back] & 0xc0 != 0x80);
        WHOLE - back.unwrap_or(0)
    })
}

/// The text of a passage; lines with bytes that are no UTF-8 are taken out and named.
pub(super) fn text_in<'b>(
    bytes: &'b [u8],
    record: &Record,
    problems: &mut Vec<Problem>,
) -> Result<Cow<'b, str>, Problem> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let (mut kept, mut found) = (String::with_capacity(bytes.len()), Vec::new());
    for (line, number) in bytes.split_inclusive(|&b| b == b'\n').zip(record.at.line + 1..) {
        match std::str::from_utf8(line) {
            Ok(line) => kept.push_str(line),
            Err(e) => {
                let byte = line[e.valid_up_to()];
                let what = format!("byte 0x{byte:02x} is not UTF-8; the line is left out");
                let line = Some(number);
                found.push(Problem { record: record.at.record, line, kind: ProblemKind::NotUtf8, what });
            }
        }
    }
    if kept.is_empty() {
        let last = found.pop().expect("a line was left out");
        problems.append(&mut found);
        return Err(last);
    }
    problems.append(&mut found);
    Ok(Cow::Owned(kept))
}

/// Plain text whose documents end at lines, blank lines or a marker.
pub(super) enum DividedReader {
    /// Each line.
    Lines(LineReader),
    /// Lines up to a blank one or a marker.
    Grouped(Grouped),
}

impl DividedReader {
    pub(super) fn open(feed: Feed, divide: Divide, from: Position) -> Result<Self, DataError> {
        Ok(match divide {
            Divide::Line | Divide::File => Self::Lines(LineReader::open(feed, from)?),
            Divide::BlankLine => Self::Grouped(Grouped::open(feed, None, from)?),
            Divide::Marker(marker) => Self::Grouped(Grouped::open(feed, Some(marker), from)?),
        })
    }
}

impl Reader for DividedReader {
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        match self {
            Self::Lines(reader) => reader.read(batch, limits),
            Self::Grouped(reader) => reader.read(batch, limits),
        }
    }

    fn consumed(&self) -> u64 {
        match self {
            Self::Lines(reader) => reader.consumed(),
            Self::Grouped(reader) => reader.lines.feed.consumed(),
        }
    }
}

/// Lines joined up to what ends a document.
pub(super) struct Grouped {
    lines: Lines,
    marker: Option<String>,
    /// The document that is being read, and where it began.
    open: Vec<u8>,
    began: Position,
    /// Bytes of an open document that is too long to be kept.
    dropped: u64,
    ended: bool,
}

impl Grouped {
    fn open(feed: Feed, marker: Option<String>, from: Position) -> Result<Self, DataError> {
        let lines = Lines::open(feed, from)?;
        Ok(Self { lines, marker, open: Vec::new(), began: from, dropped: 0, ended: false })
    }

    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        while batch.records.is_empty() && batch.problems.is_empty() {
            if self.ended {
                return Ok(Step::End);
            }
            if self.open.len() >= LARGE && !limits.large {
                return Ok(Step::Large);
            }
            let mut read = Batch::default();
            match self.lines.take(&mut read, limits)? {
                Step::Large => return Ok(Step::Large),
                Step::Batch => {}
                Step::End => self.ended = true,
            }
            let mut at = Position { record: self.began.record, ..self.lines.before };
            for problem in read.problems.drain(..) {
                // A line that is too long takes its document with it.
                self.dropped += 1;
                batch.problems.push(Problem { record: self.began.record, ..problem });
            }
            for line in read.bytes.split_inclusive(|&b| b == b'\n') {
                self.line(line, at, batch);
                at.line += 1;
                at.offset += line.len() as u64;
            }
            if self.ended {
                self.finish(self.lines.at, batch);
            }
        }
        batch.end = self.began;
        Ok(Step::Batch)
    }

    /// Takes the line that begins at `at`.
    fn line(&mut self, line: &[u8], at: Position, batch: &mut Batch) {
        let Some(marker) = &self.marker else {
            if line.iter().all(u8::is_ascii_whitespace) {
                let behind = Position { line: at.line + 1, offset: at.offset + line.len() as u64, ..at };
                return self.finish(behind, batch);
            }
            return self.extend(line);
        };
        let marker = marker.clone().into_bytes();
        let mut from = 0;
        while let Some(found) = memchr::memmem::find(&line[from..], &marker) {
            self.extend(&line[from..from + found]);
            from += found + marker.len();
            // What follows on the same line begins on it.
            let whole = line[from..].iter().all(u8::is_ascii_whitespace);
            let (lines, length) = if whole { (1, line.len()) } else { (0, from) };
            self.finish(Position { line: at.line + lines, offset: at.offset + length as u64, ..at }, batch);
            if whole {
                return;
            }
        }
        self.extend(&line[from..]);
    }

    fn extend(&mut self, line: &[u8]) {
        if self.dropped == 0 {
            self.open.extend_from_slice(line);
        } else {
            self.dropped += line.len() as u64;
        }
        if self.open.len() > LONGEST {
            self.dropped = self.open.len() as u64;
            self.open = Vec::new();
        }
    }

    /// Ends the open document; the next one begins at `behind`.
    fn finish(&mut self, behind: Position, batch: &mut Batch) {
        let end = self.open.iter().rposition(|b| !b.is_ascii_whitespace()).map_or(0, |last| last + 1);
        let mut record = self.began.record;
        if self.dropped > 0 {
            if batch.problems.is_empty() {
                let what =
                    format!("a document of {} bytes; {} MiB are the most", self.dropped, LONGEST >> 20);
                let line = Some(self.began.line + 1);
                batch.problems.push(Problem { record, line, kind: ProblemKind::TooLong, what });
            }
            record += 1;
        } else if end > 0 {
            let from = batch.bytes.len();
            batch.bytes.extend_from_slice(&self.open[..end]);
            let range = from..from + end;
            batch.records.push(Record { range, at: self.began, continues: false });
            record += 1;
        }
        self.open.clear();
        self.dropped = 0;
        self.began = Position { record, ..behind };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_ends_at_a_line_then_at_a_word_then_anywhere() {
        let lines = "some words of a line\n".repeat(10_000);
        let cut = passage(lines.as_bytes());
        assert!((PASSAGE..PASSAGE + 21).contains(&cut) && lines.as_bytes()[cut] == b'\n');
        let words = "word ".repeat(40_000);
        let cut = passage(words.as_bytes());
        assert!((PASSAGE..PASSAGE + 5).contains(&cut) && words.as_bytes()[cut] == b' ');
        let wide = "日".repeat(60_000);
        let cut = passage(wide.as_bytes());
        assert!(cut > WHOLE - 4 && wide.is_char_boundary(cut));
    }
}
