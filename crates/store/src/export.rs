//! Points and curves as tables other programs read.

use isoflop_base::{
    CurveRow, Point,
    record::{CURVE_COLUMNS, POINT_COLUMNS},
};
use serde::Serialize;

/// `points.csv`: one line per point, in the columns of [`POINT_COLUMNS`]; each point comes with its run's status
/// in a word.
pub fn points_csv<'a>(points: impl IntoIterator<Item = (&'a Point, &'a str)>) -> String {
    table(POINT_COLUMNS, points.into_iter().map(|(point, status)| point.csv_cells(status)))
}

/// `curves.csv`: one line per row, in the columns of [`CURVE_COLUMNS`].
pub fn curves_csv<'a>(rows: impl IntoIterator<Item = &'a CurveRow>) -> String {
    table(CURVE_COLUMNS, rows.into_iter().map(CurveRow::csv_cells))
}

/// One JSON object a line.
pub(crate) fn json_lines<T: Serialize>(records: impl IntoIterator<Item = T>) -> String {
    let line = |r: T| serde_json::to_string(&r).expect("records are plain data") + "\n";
    records.into_iter().map(line).collect()
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = columns.join(",") + "\n";
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(cell).collect();
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    out
}

/// Quotes a cell where RFC 4180 asks for it.
fn cell(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_only_where_needed() {
        let rows = vec![vec!["a".to_owned(), "1,\"2\"".to_owned()]];
        assert_eq!(table(&["x", "y"], rows.into_iter()), "x,y\na,\"1,\"\"2\"\"\"\n");
    }
}
