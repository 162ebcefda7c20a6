//! Tables of points as files: CSV, TSV, JSON Lines or Parquet in, Parquet out.

use crate::error::UserError;
use crate::input;
use isoflop_base::columns::{self, Frame};
use isoflop_data::parquet::{self, Column, Value};
use isoflop_laws::{Cell, Raw, ReadOptions, Table, read_table, table_of};
use std::path::Path;

/// The bytes of a table, decompressed; `-` is stdin.
///
/// # Errors
/// A [`UserError`]: no such file, a directory, a compressed file that is damaged.
pub fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = input::name(path);
    let bytes = input::read(path).map_err(|e| {
        UserError::new(format!("cannot read {name}: {e}"))
            .hint("give the path of a CSV, TSV, JSON Lines or Parquet table")
    })?;
    let bytes = isoflop_data::unpacked(&name, bytes).map_err(UserError::from_error)?;
    Ok(bytes)
}

/// The table in the bytes of a file, of whatever kind the first of them say it is.
///
/// # Errors
/// A [`UserError`]: there is no table in it.
pub fn read(bytes: &[u8], options: &ReadOptions) -> anyhow::Result<Table> {
    let table = if bytes.starts_with(parquet::MAGIC) {
        let file = parquet::read(&options.name, bytes).map_err(UserError::from_error)?;
        let (header, rows) = records(&file.columns, file.rows);
        table_of(&header, &rows, options).map(|mut table| {
            table.notes.extend(file.notes);
            table
        })
    } else {
        read_table(bytes, options)
    };
    table.map_err(|e| UserError::from_error(e).into())
}

/// Columns as rows, numbered from 1.
fn records(columns: &[Column], rows: usize) -> (Vec<String>, Vec<Raw>) {
    let cell = |value: &Value| match value {
        Value::Null => Cell::Empty,
        Value::Int(v) => Cell::Number(*v as f64),
        Value::Float(v) => Cell::Number(*v),
        Value::Bool(v) => Cell::Text(v.to_string()),
        Value::Text(t) if t.trim().is_empty() => Cell::Empty,
        Value::Text(t) => Cell::Text(t.clone()),
    };
    let header = columns.iter().map(|c| c.name.clone()).collect();
    let raws = (0..rows)
        .map(|i| Raw { line: i + 1, cells: columns.iter().map(|c| cell(&c.values[i])).collect() })
        .collect();
    (header, raws)
}

/// A Parquet table: the columns of the frame, typed as they are.
pub fn parquet(frame: &Frame) -> Vec<u8> {
    let value = |cell: &columns::Cell| match cell {
        columns::Cell::Empty => Value::Null,
        columns::Cell::Word(text) => Value::Text(text.clone()),
        // Parquet's integers end at 2⁶³; the rare one beyond becomes a real number.
        columns::Cell::Whole(n) => i64::try_from(*n).map_or(Value::Float(*n as f64), Value::Int),
        columns::Cell::Real(x) => Value::Float(*x),
        columns::Cell::Flag(yes) => Value::Bool(*yes),
    };
    let columns = frame.columns.iter().enumerate();
    let columns: Vec<Column> = columns
        .map(|(i, (name, _))| Column {
            name: (*name).to_owned(),
            values: frame.rows.iter().map(|row| value(&row[i])).collect(),
        })
        .collect();
    parquet::write(&columns)
}
