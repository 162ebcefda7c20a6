//! What `,` and `.` mean in a table: decimal marks or marks between thousands, decided from all of its cells.
//!
//! `125.000` is 125 or 125 thousand, and no cell knows which by itself. But `1.300.000`, `3,2` or `1,2E+09` can be
//! read in one way only, and a program writes a whole file in one locale. So the cells that admit one reading decide
//! for all; where none does, or they disagree, a column that holds such cells is refused with both readings.

use super::Raw;
use super::cells::{self, Cell};
use super::columns::canonical_name;
use crate::LawError;

/// The mark before decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal {
    /// `3.2`
    Point,
    /// `3,2`
    Comma,
}

/// How the numbers of one column are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Column {
    /// The decimal mark; `None` where it cannot be told: then cells that can be read in one way only are still numbers.
    pub(super) decimal: Option<Decimal>,
    /// The first cell that both marks can read, differently.
    unclear: Option<Unclear>,
}

#[derive(Debug, Clone, PartialEq)]
struct Unclear {
    line: usize,
    text: String,
    point: f64,
    comma: f64,
}

/// What the cells of a column or of a table say.
#[derive(Debug, Clone, Default)]
struct Evidence {
    /// Some cell is a number only with decimal points; only with decimal commas.
    point: bool,
    comma: bool,
    /// Marks in the cells that both can read.
    points: bool,
    commas: bool,
    unclear: Option<Unclear>,
}

impl Evidence {
    fn see(&mut self, line: usize, text: &str) {
        match (cells::parse(text, Decimal::Point), cells::parse(text, Decimal::Comma)) {
            (Some(_), None) => self.point = true,
            (None, Some(_)) => self.comma = true,
            (Some(p), Some(c)) if p.value != c.value => {
                self.points |= text.contains('.');
                self.commas |= text.contains(',');
                self.unclear.get_or_insert_with(|| Unclear {
                    line,
                    text: text.trim().to_owned(),
                    point: p.value,
                    comma: c.value,
                });
            }
            _ => {}
        }
    }

    /// What is certain from cells that can be read in one way only.
    fn certain(&self) -> Option<Decimal> {
        match (self.point, self.comma) {
            (true, false) => Some(Decimal::Point),
            (false, true) => Some(Decimal::Comma),
            _ => None,
        }
    }
}

/// How each column's numbers are written. `semicolons`: cells are set apart by `;`, as where commas are decimal.
pub(super) fn decide(
    header: &[String],
    raws: &[Raw],
    semicolons: bool,
    asked: Option<Decimal>,
) -> Vec<Column> {
    if let Some(decimal) = asked {
        return vec![Column { decimal: Some(decimal), unclear: None }; header.len()];
    }
    // Names such as `v1.2` or `0.5` are no numbers of the table.
    let words: Vec<bool> =
        header.iter().map(|h| matches!(canonical_name(h).as_str(), "run" | "status")).collect();
    let mut columns = vec![Evidence::default(); header.len()];
    for raw in raws {
        for (i, cell) in raw.cells.iter().enumerate().take(header.len()).filter(|(i, _)| !words[*i]) {
            if let Cell::Text(text) = cell
                && text.contains(['.', ','])
            {
                columns[i].see(raw.line, text);
            }
        }
    }
    let any = |of: fn(&Evidence) -> bool| columns.iter().any(of);
    let whole = Evidence {
        point: any(|e| e.point),
        comma: any(|e| e.comma),
        points: any(|e| e.points),
        commas: any(|e| e.commas),
        unclear: None,
    };
    let of_file = match (whole.point, whole.comma) {
        (false, false) => match (semicolons, whole.points, whole.commas) {
            // The separator of a locale whose commas are decimal.
            (true, _, true) => Some(Decimal::Comma),
            // `3.217`, as every program writes; between semicolons it may as well be a German 3 217.
            (false, _, false) => Some(Decimal::Point),
            (true, false, false) => Some(Decimal::Point),
            (true, true, false) | (false, _, true) => None,
        },
        _ => whole.certain(),
    };
    columns
        .into_iter()
        .map(|evidence| {
            // Columns of two dialects in one file: each by its own cells.
            let decimal = of_file.or(evidence.certain());
            Column { decimal, unclear: evidence.unclear.filter(|_| decimal.is_none()) }
        })
        .collect()
}

impl Column {
    /// That every cell of a column which is read can be read in one way only.
    ///
    /// # Errors
    /// One cannot; both readings are shown.
    pub(super) fn check(&self, table: &str, header: &str) -> Result<(), LawError> {
        let Some(Unclear { line, text, point, comma }) = &self.unclear else { return Ok(()) };
        Err(LawError::BadTable {
            what: format!(
                "{table}: `{}` in column `{}` (line {line}) is {} or {}, and no other cell tells which of `.` and `,` is the \
                 decimal mark",
                cells::short(text),
                cells::short(header),
                point,
                comma
            ),
            hint: "say --decimal point or --decimal comma".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a table of text cells, `None` where a column stays unclear.
    fn check(rows: &[&[&str]], semicolons: bool, expected: &[Option<Decimal>]) {
        let header: Vec<String> = (0..rows[0].len()).map(|i| format!("c{i}")).collect();
        let raws: Vec<Raw> = rows
            .iter()
            .enumerate()
            .map(|(i, r)| Raw { line: i + 2, cells: r.iter().map(|t| Cell::Text((*t).to_owned())).collect() })
            .collect();
        let columns = decide(&header, &raws, semicolons, None);
        assert_eq!(columns.iter().map(|c| c.decimal).collect::<Vec<_>>(), expected, "{rows:?}");
    }

    #[test]
    fn cells_that_can_be_read_in_one_way_decide_for_all() {
        let (point, comma) = (Some(Decimal::Point), Some(Decimal::Comma));
        check(&[&["125.000", "3,2"], &["1.300.000", "2,9"]], true, &[comma, comma]);
        check(&[&["125,000", "3.21"], &["350,000", "2.9"]], false, &[point, point]);
        check(&[&["125.000", "3,2171"]], false, &[comma, comma]);
        check(&[&["1e9", "3.217"], &["2e9", "2.914"]], false, &[point, point]);
        // Semicolons speak for decimal commas where there are commas, and for nothing where there are only points.
        check(&[&["125.000", "3,217"]], true, &[comma, comma]);
        check(&[&["1000000", "3.217"]], true, &[None, None]);
        check(&[&["125.000", "3,217"]], false, &[None, None]);
        check(&[&["125,000", "3"]], false, &[None, None]);
        // Two dialects: a column by its own cells.
        check(&[&["1.25", "3,2", "1.234"], &["1.5", "3,25", "2.345"]], true, &[point, comma, None]);
    }
}
