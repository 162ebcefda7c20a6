//! JSON Lines: a record is a line.

use super::feed::Feed;
use super::{Batch, LARGE, LONGEST, Limits, Position, Problem, ProblemKind, Reader, Record, Step};
use crate::DataError;

/// Cuts a stream behind line feeds.
pub(super) struct LineReader {
    stream: Lines,
}

impl LineReader {
    pub(super) fn open(feed: Feed, from: Position) -> Result<Self, DataError> {
        Ok(Self { stream: Lines::open(feed, from)? })
    }
}

impl Reader for LineReader {
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        loop {
            let begin = self.stream.at;
            match self.stream.take(batch, limits)? {
                Step::Batch => {}
                other => return Ok(other),
            }
            let mut at = Position { record: begin.record, ..self.stream.before };
            let mut start = 0;
            let ends = memchr::memchr_iter(b'\n', &batch.bytes).map(|end| end + 1);
            let last = batch.bytes.last().filter(|last| **last != b'\n').map(|_| batch.bytes.len());
            for end in ends.chain(last) {
                let line = trimmed(&batch.bytes[start..end]);
                // A line of white space is no record.
                if line > 0 {
                    let range = start..start + line;
                    batch.records.push(Record { range, at, continues: false });
                    at.record += 1;
                }
                at.line += u64::from(batch.bytes[end - 1] == b'\n');
                at.offset += (end - start) as u64;
                start = end;
            }
            // What was too long counts as a record as well.
            self.stream.at.record = at.record + batch.problems.len() as u64;
            for (problem, record) in batch.problems.iter_mut().zip(at.record..) {
                problem.record = record;
            }
            batch.end = self.stream.at;
            if !batch.records.is_empty() || !batch.problems.is_empty() {
                return Ok(Step::Batch);
            }
            batch.bytes.clear();
        }
    }

    fn consumed(&self) -> u64 {
        self.stream.feed.consumed()
    }
}

/// Length without white space at its end; 0 for a line of nothing else.
fn trimmed(line: &[u8]) -> usize {
    line.iter().rposition(|b| !b.is_ascii_whitespace()).map_or(0, |last| last + 1)
}

/// Whole lines of a stream, a batch at a time.
pub(super) struct Lines {
    pub(super) feed: Feed,
    /// Bytes of a line whose end was not read yet.
    carry: Vec<u8>,
    /// Where the stream is behind what was handed out, and was before the last batch; the caller counts records.
    pub(super) at: Position,
    pub(super) before: Position,
    ended: bool,
}

impl Lines {
    pub(super) fn open(mut feed: Feed, from: Position) -> Result<Self, DataError> {
        feed.skip_to(from.offset)?;
        Ok(Self { feed, carry: Vec::new(), at: from, before: from, ended: false })
    }

    /// Fills an empty batch with whole lines, or with the problem of one that is too long.
    pub(super) fn take(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        if !limits.first && self.feed.needs_much() {
            return Ok(Step::Large);
        }
        self.before = self.at;
        let bytes = &mut batch.bytes;
        std::mem::swap(bytes, &mut self.carry);
        let mut searched = 0;
        loop {
            let enough = bytes.len() >= limits.batch;
            let cut = if enough || self.ended {
                memchr::memrchr(b'\n', &bytes[searched..]).map(|at| searched + at + 1)
            } else {
                None
            };
            if let Some(cut) = cut.or(self.ended.then_some(bytes.len())) {
                let cut = if self.ended { bytes.len() } else { cut };
                self.carry.clear();
                self.carry.extend_from_slice(&bytes[cut..]);
                bytes.truncate(cut);
                self.at.offset += cut as u64;
                self.at.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
                return Ok(if bytes.is_empty() { Step::End } else { Step::Batch });
            }
            if enough {
                searched = bytes.len();
            }
            if bytes.len() >= LARGE && !limits.large {
                std::mem::swap(bytes, &mut self.carry);
                return Ok(Step::Large);
            }
            if bytes.len() > LONGEST {
                return self.too_long(batch);
            }
            let count = limits.batch.checked_sub(bytes.len()).filter(|count| *count > 0).unwrap_or(64 << 10);
            match self.feed.append(bytes, count) {
                Ok(more) => self.ended = !more,
                Err(e) => {
                    // Lines that are whole come first; the error is met again.
                    let Some(cut) = memchr::memrchr(b'\n', bytes) else { return Err(e) };
                    bytes.truncate(cut + 1);
                    self.at.offset += bytes.len() as u64;
                    self.at.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
                    return Ok(Step::Batch);
                }
            }
        }
    }

    /// Passes over a line that is longer than any document.
    fn too_long(&mut self, batch: &mut Batch) -> Result<Step, DataError> {
        let mut length = batch.bytes.len() as u64;
        loop {
            batch.bytes.clear();
            let more = self.feed.append(&mut batch.bytes, 1 << 20)?;
            if let Some(at) = memchr::memchr(b'\n', &batch.bytes) {
                self.carry.clear();
                self.carry.extend_from_slice(&batch.bytes[at + 1..]);
                length += at as u64 + 1;
                break;
            }
            length += batch.bytes.len() as u64;
            if !more {
                self.ended = true;
                break;
            }
        }
        let what = format!("a line of {length} bytes; {} MiB are the most", LONGEST >> 20);
        let line = Some(self.at.line + 1);
        batch.problems.push(Problem { record: self.at.record, line, kind: ProblemKind::TooLong, what });
        self.at.offset += length;
        self.at.line += u64::from(!self.ended || !self.carry.is_empty());
        batch.bytes = Vec::new();
        Ok(Step::Batch)
    }
}
