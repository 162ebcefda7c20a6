//! Parquet: a record is a row of the text column.

use super::{Batch, LARGE, Limits, Position, Problem, ProblemKind, Reader, Record, Source, Step};
use crate::DataError;
use crate::parquet::texts::{Cell, TextColumn};

/// Reads one column.
pub(super) struct TableReader {
    column: TextColumn,
    at: Position,
}

impl TableReader {
    pub(super) fn open(source: &Source, field: &str, from: Position) -> Result<Self, DataError> {
        let path = source.path.as_deref().ok_or_else(|| DataError::NoText {
            name: source.name.clone(),
            what: "is Parquet, which cannot come through a pipe".to_owned(),
            hint: "name the file".to_owned(),
        })?;
        let mut column = TextColumn::open(path, field)?;
        column.skip_to(from.record)?;
        Ok(Self { column, at: from })
    }
}

impl Reader for TableReader {
    fn read(&mut self, batch: &mut Batch, limits: Limits) -> Result<Step, DataError> {
        while batch.bytes.len() < limits.batch && batch.problems.len() + batch.records.len() < 65_536 {
            let ready = !batch.records.is_empty() || !batch.problems.is_empty();
            let most = if limits.large { usize::MAX } else { LARGE };
            let cell = match self.column.next(most, &mut batch.bytes) {
                // What was read is good; the error is met again.
                Err(_) if ready => break,
                other => other?,
            };
            match cell {
                Cell::Text(range) => batch.records.push(Record { range, at: self.at, continues: false }),
                Cell::Null => batch.problems.push(Problem {
                    record: self.at.record,
                    line: None,
                    kind: ProblemKind::NoText,
                    what: "null".to_owned(),
                }),
                Cell::TooLong(length) => batch.problems.push(Problem {
                    record: self.at.record,
                    line: None,
                    kind: ProblemKind::TooLong,
                    what: format!("a text of {length} bytes; {} MiB are the most", super::LONGEST >> 20),
                }),
                Cell::Large | Cell::End if ready => break,
                Cell::Large => return Ok(Step::Large),
                Cell::End => return Ok(Step::End),
            }
            self.at.record += 1;
        }
        batch.end = self.at;
        Ok(Step::Batch)
    }

    fn consumed(&self) -> u64 {
        self.column.consumed()
    }
}
