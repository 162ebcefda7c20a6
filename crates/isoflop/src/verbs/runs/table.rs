//! Tables and figures as people read them.

use std::fmt;

/// Columns padded to their widest cell.
pub(super) struct Table {
    /// Heading, and whether its cells are right-aligned.
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns: heading, and whether its cells are right-aligned (numbers).
    pub(super) fn new(columns: &[(&str, bool)]) -> Self {
        Self {
            columns: columns.iter().map(|(c, right)| ((*c).to_owned(), *right)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell per column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell per column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings: Vec<String> = self.columns.iter().map(|(c, _)| c.clone()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in lines {
            let mut text = String::new();
            for ((cell, (_, right)), &width) in line.iter().zip(&self.columns).zip(&widths) {
                let cell = if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                text.push_str(&cell);
                text.push_str("  ");
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// A missing value is a dash.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

/// `3.4123 ± 0.0042`.
pub(super) fn loss(value: f64, se: Option<f64>) -> String {
    match se {
        Some(se) => format!("{value:.4} ± {se:.4}"),
        None => format!("{value:.4}"),
    }
}

/// `1 point`, `2 points`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `2026-11-21 22:51`, from seconds since 1970 UTC.
pub(super) fn utc(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant's civil_from_days, for days after 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_calendar_times() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (1_795_302_868, "2026-11-21 23:14"),
            (4_102_444_800, "2100-01-01 00:00"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }

    #[test]
    fn columns_align_by_characters() {
        let mut table = Table::new(&[("a", false), ("loss", true)]);
        table.row(vec!["ä".into(), "1 ± 2".into()]);
        assert_eq!(table.to_string(), "a   loss\nä  1 ± 2\n");
    }
}
