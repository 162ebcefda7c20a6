//! Tables of text with a header: a record is a row, quoted fields may have line feeds in them.

use super::feed::Feed;
use super::{Batch, Format, LARGE, LONGEST, Limits, Position, Problem, ProblemKind, Reader, Record, Step};
use crate::DataError;
use csv_core::{ReadRecordResult, ReaderBuilder};

/// Reads one column.
pub(super) struct CsvReader {
    feed: Feed,
    parser: csv_core::Reader,
    column: usize,
    columns: usize,
    /// Read and not parsed yet: what is behind `used`.
    input: Vec<u8>,
    used: usize,
    /// The row being parsed.
    row: Row,
    at: Position,
    ended: bool,
    /// Whether the line feed after the last byte was given to the parser.
    closing: bool,
}

/// A row as the parser writes it.
#[derive(Default)]
struct Row {
    bytes: Vec<u8>,
    filled: usize,
    ends: Vec<usize>,
    num_ends: usize,
    /// Bytes of input it has taken.
    taken: u64,
    /// What does not fit is thrown away.
    too_long: bool,
    /// The file ends inside of its quotes.
    unclosed: bool,
}

impl CsvReader {
    pub(super) fn open(
        feed: Feed,
        name: &str,
        format: Format,
        field: &str,
        from: Position,
    ) -> Result<Self, DataError> {
        let delimiter = if format == Format::Tsv { b'\t' } else { delimiter_of(feed.head()) };
        let mut reader = Self {
            feed,
            parser: ReaderBuilder::new().delimiter(delimiter).build(),
            column: 0,
            columns: 0,
            input: Vec::new(),
            used: 0,
            row: Row { bytes: vec![0; 4096], ends: vec![0; 64], ..Row::default() },
            at: Position::default(),
            ended: false,
            closing: false,
        };
        let header = match reader.row(LARGE)? {
            Parsed::Row => reader.fields(),
            _ => Vec::new(),
        };
        let Some(column) = header.iter().position(|name| name == field) else {
            return Err(DataError::NoColumn {
                name: name.to_owned(),
                field: field.to_owned(),
                there: header.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", "),
            });
        };
        (reader.column, reader.columns) = (column, header.len());
        reader.end_row();
        reader.at.record = 0;
        if from.offset > reader.at.offset {
            // From here on what was read ahead is passed over, like the rest.
            let ahead = (reader.input.len() - reader.used) as u64;
            let mut left = from.offset - reader.at.offset;
            let within = left.min(ahead);
            reader.used += within as usize;
            left -= within;
            reader.pass_over(left)?;
            reader.parser.set_line(from.line + 1);
            reader.at = from;
        }
        Ok(reader)
    }

    fn pass_over(&mut self, mut left: u64) -> Result<(), DataError> {
        let mut sink = vec![0; 256 << 10];
        while left > 0 {
            let most = sink.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.feed.read(&mut sink[..most])? {
                0 => break,
                read => left -= read as u64,
            }
        }
        Ok(())
    }

    /// Parses up to the end of a row; `most` is what it may have of bytes.
    fn row(&mut self, most: usize) -> Result<Parsed, DataError> {
        loop {
            if self.used == self.input.len() && !self.ended {
                self.input.clear();
                self.used = 0;
                self.ended = !self.feed.append(&mut self.input, 256 << 10)?;
            }
            if self.used == self.input.len() && self.ended && self.row.taken > 0 && !self.closing {
                // A line feed ends the last row, unless it lies inside of quotes.
                self.closing = true;
                self.input.clear();
                self.input.push(b'\n');
                self.used = 0;
            }
            let closing = self.closing && self.used < self.input.len();
            let row = &mut self.row;
            let (result, read, written, ends) = self.parser.read_record(
                &self.input[self.used..],
                &mut row.bytes[row.filled..],
                &mut row.ends[row.num_ends..],
            );
            self.used += read;
            if !closing {
                row.taken += read as u64;
            }
            row.unclosed |= closing && written > 0 && matches!(result, ReadRecordResult::InputEmpty);
            row.filled += written;
            row.num_ends += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if row.too_long => row.filled = 0,
                ReadRecordResult::OutputFull if row.bytes.len() >= LONGEST => row.too_long = true,
                ReadRecordResult::OutputFull if row.bytes.len() >= most => return Ok(Parsed::Large),
                ReadRecordResult::OutputFull => row.bytes.resize((2 * row.bytes.len()).min(LONGEST), 0),
                ReadRecordResult::OutputEndsFull if row.ends.len() >= 1 << 16 => row.num_ends = 0,
                ReadRecordResult::OutputEndsFull => row.ends.resize(2 * row.ends.len(), 0),
                ReadRecordResult::Record => return Ok(Parsed::Row),
                ReadRecordResult::End => return Ok(Parsed::End),
            }
        }
    }

    fn fields(&self) -> Vec<String> {
        let ends = &self.row.ends[..self.row.num_ends];
        let starts = std::iter::once(&0).chain(ends);
        let field = |(start, end): (&usize, &usize)| {
            String::from_utf8_lossy(&self.row.bytes[*start..*end]).trim().to_owned()
        };
        starts.zip(ends).map(field).collect()
    }

    fn end_row(&mut self) {
        self.at.offset += self.row.taken;
        self.at.line = self.parser.line() - 1 - u64::from(self.closing);
        self.at.record += 1;
        let row = &mut self.row;
        (row.filled, row.num_ends, row.taken, row.too_long, row.unclosed) = (0, 0, 0, false, false);
        if row.bytes.len() > LARGE {
            row.bytes = vec![0; 4096];
        }
    }
}

enum Parsed {
    Row,
    Large,
    End,
}

impl Reader for CsvReader {
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        if !limits.first && self.feed.needs_much() {
            return Ok(Step::Large);
        }
        let most = if limits.large { LONGEST } else { LARGE };
        while batch.bytes.len() < limits.batch && batch.problems.len() < 1000 {
            let ready = !batch.records.is_empty() || !batch.problems.is_empty();
            let parsed = match self.row(most) {
                Err(_) if ready => break,
                other => other?,
            };
            match parsed {
                Parsed::Large if ready => break,
                Parsed::Large => return Ok(Step::Large),
                Parsed::End if ready => break,
                Parsed::End => return Ok(Step::End),
                Parsed::Row => {}
            }
            let mut problem = |kind, what| {
                let (record, line) = (self.at.record, Some(self.at.line + 1));
                batch.problems.push(Problem { record, line, kind, what });
            };
            let (row, at) = (&self.row, self.at);
            if row.too_long {
                let most = LONGEST >> 20;
                let what = format!(
                    "a row of {} bytes (a quote that is not closed?); {most} MiB are the most",
                    row.taken
                );
                problem(ProblemKind::TooLong, what);
            } else if row.unclosed {
                let what = "a quote that is not closed up to the end of the file".to_owned();
                problem(ProblemKind::Malformed, what);
            } else if row.num_ends != self.columns {
                let what = format!("{} fields where the header has {}", row.num_ends, self.columns);
                problem(ProblemKind::Malformed, what);
            } else {
                let start = self.column.checked_sub(1).map_or(0, |before| row.ends[before]);
                let from = batch.bytes.len();
                batch.bytes.extend_from_slice(&row.bytes[start..row.ends[self.column]]);
                batch.records.push(Record { range: from..batch.bytes.len(), at, continues: false });
            }
            self.end_row();
        }
        batch.end = self.at;
        Ok(Step::Batch)
    }

    fn consumed(&self) -> u64 {
        self.feed.consumed()
    }
}

/// The character that divides the first line: of comma, semicolon, tab and bar the one it has most of.
fn delimiter_of(head: &[u8]) -> u8 {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for byte in line {
        quoted ^= *byte == b'"';
        if let Some(count) = counts.iter_mut().find(|(delimiter, _)| delimiter == byte && !quoted) {
            count.1 += 1;
        }
    }
    // The first of equals: a single column has none.
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter)
}

fn shown(name: &str) -> String {
    let short: String = name.chars().take(40).collect();
    if short.len() < name.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::delimiter_of;

    #[test]
    fn the_header_tells_its_delimiter() {
        for (head, delimiter) in [
            ("id,text\n;;;", b','),
            ("id;text;\"a,b,c\"\n", b';'),
            ("text", b','),
            ("a\tb", b'\t'),
            ("a|b|c", b'|'),
        ] {
            assert_eq!(delimiter_of(head.as_bytes()), delimiter, "{head}");
        }
    }
}
