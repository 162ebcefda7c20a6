//! Tables of points as files: CSV, TSV, JSON Lines or Parquet in, Parquet out.

use crate::error::UserError;
use isoflop_base::record::{CURVE_COLUMNS, POINT_COLUMNS};
use isoflop_base::{CurveRow, Point};
use isoflop_data::parquet::{self, Column, Value};
use isoflop_laws::{Cell, Raw, ReadOptions, Table, read_table, table_of};
use std::path::Path;

/// Columns of points and curves that hold whole numbers.
const WHOLE: &[&str] = &[
    "params",
    "params_total",
    "tokens",
    "unique_tokens",
    "steps",
    "batch_tokens",
    "n_layer",
    "d_model",
    "n_head",
    "context",
    "vocab",
    "seed",
    "step",
];
/// Columns that hold words.
const WORDS: &[&str] = &["run", "schedule", "init", "status", "kind", "precision", "kernels", "segment"];

/// Reads the table of a file, of whatever kind its first bytes say it is.
///
/// # Errors
/// A [`UserError`]: no such file, a directory, no table in it.
pub fn read(path: &Path, options: &ReadOptions) -> anyhow::Result<Table> {
    let bytes = std::fs::read(path).map_err(|e| {
        UserError::new(format!("cannot read {}: {e}", path.display()))
            .hint("give the path of a CSV, TSV, JSON Lines or Parquet table")
    })?;
    let table = if bytes.starts_with(parquet::MAGIC) {
        let file = parquet::read(&options.name, &bytes).map_err(UserError::from_error)?;
        let (header, rows) = records(&file.columns, file.rows);
        table_of(&header, &rows, options).map(|mut table| {
            table.notes.extend(file.notes);
            table
        })
    } else {
        read_table(&bytes, options)
    };
    table.map_err(|e| UserError::from_error(e).into())
}

/// Columns as rows, numbered from 1.
fn records(columns: &[Column], rows: usize) -> (Vec<String>, Vec<Raw>) {
    let cell = |value: &Value| match value {
        Value::Null => Cell::Empty,
        Value::Int(v) => Cell::Number(*v as f64),
        Value::Float(v) => Cell::Number(*v),
        Value::Bool(v) => Cell::Text(v.to_string(), false),
        Value::Text(t) if t.trim().is_empty() => Cell::Empty,
        Value::Text(t) => Cell::Text(t.clone(), false),
    };
    let header = columns.iter().map(|c| c.name.clone()).collect();
    let raws = (0..rows)
        .map(|i| Raw { line: i + 1, cells: columns.iter().map(|c| cell(&c.values[i])).collect() })
        .collect();
    (header, raws)
}

/// `points.parquet`: the columns of `points.csv`, typed; each point with the word for its run's status.
pub fn points_parquet<'a>(points: impl Iterator<Item = (&'a Point, &'a str)>) -> Vec<u8> {
    typed(POINT_COLUMNS, &points.map(|(p, status)| p.csv_cells(status)).collect::<Vec<_>>())
}

/// `curves.parquet`: the columns of `curves.csv`, typed.
pub fn curves_parquet<'a>(rows: impl Iterator<Item = &'a CurveRow>) -> Vec<u8> {
    typed(CURVE_COLUMNS, &rows.map(CurveRow::csv_cells).collect::<Vec<_>>())
}

fn typed(header: &[&str], rows: &[Vec<String>]) -> Vec<u8> {
    let value = |name: &str, text: &String| match () {
        () if text.is_empty() => Value::Null,
        () if WORDS.contains(&name) => Value::Text(text.clone()),
        () if name == "decayed" => Value::Bool(text == "true"),
        () => {
            let whole = WHOLE.contains(&name).then(|| text.parse().ok()).flatten().map(Value::Int);
            whole.or_else(|| text.parse().ok().map(Value::Float)).unwrap_or(Value::Null)
        }
    };
    let columns: Vec<Column> = header
        .iter()
        .enumerate()
        .map(|(i, name)| Column {
            name: (*name).to_owned(),
            values: rows.iter().map(|row| value(name, &row[i])).collect(),
        })
        .collect();
    parquet::write(&columns)
}
