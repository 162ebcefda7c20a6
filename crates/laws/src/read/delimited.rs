//! Text tables: commas, tabs, semicolons, bars (also Markdown's), or columns set apart by spaces. Line numbers stay those of the file.

use super::{Cell, Raw};
use crate::LawError;
use std::borrow::Cow;

/// Header, records, and remarks.
type Records = (Vec<String>, Vec<Raw>, Vec<String>);

/// Reads delimited text; `lower` is the file's name in lower case.
pub(super) fn records(text: &str, lower: &str, name: &str) -> Result<Records, LawError> {
    let (text, title) = without_title(text);
    let (text, delimiter) = separated(&text, lower);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let bad = |e: csv::Error| LawError::BadTable {
        what: format!("{name}: {e}"),
        hint: "check the quoting of that line".to_owned(),
    };
    let header: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
    if header.iter().all(|h| h.parse::<f64>().is_ok()) {
        return Err(LawError::BadTable {
            what: format!("{name} has no header line: its first line is {}", header.join(", ")),
            hint: "name the columns in the first line, e.g. n,d,loss".to_owned(),
        });
    }
    let mut raws = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let line = record.position().map_or(0, |p| p.line() as usize);
        let mut cells: Vec<Cell> = record
            .iter()
            .map(|c| if c.is_empty() { Cell::Empty } else { Cell::Text(c.to_owned(), delimiter == b';') })
            .collect();
        // A separator at the end of every line makes one empty cell too many.
        while cells.len() > header.len() && cells.last() == Some(&Cell::Empty) {
            cells.pop();
        }
        raws.push(Raw { line, cells });
    }
    Ok((
        header,
        raws,
        title
            .map(|t| format!("line `{}` before the header was passed over", super::cells::short(&t)))
            .into_iter()
            .collect(),
    ))
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// A first line without any separator over lines that have some is a title: blanked, so that the others keep their numbers.
fn without_title(text: &str) -> (Cow<'_, str>, Option<String>) {
    let separators = |line: &str| line.matches([',', ';', '\t', '|']).count();
    let mut lines = text.split_inclusive('\n').filter(|l| is_content(l));
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return (text.into(), None) };
    let words = |line: &str| line.split_whitespace().count();
    let rest_separated = lines.take(20).all(|l| separators(l) == separators(second));
    if separators(first) > 0
        || separators(second) == 0
        || !rest_separated
        || words(first) < 2
        || first.contains('"')
    {
        return (text.into(), None);
    }
    let start = first.as_ptr() as usize - text.as_ptr() as usize;
    let mut out = text.to_owned();
    out.replace_range(start..start + first.trim_end().len(), "");
    (out.into(), Some(first.trim().to_owned()))
}

/// The text with one separator between cells, and that separator.
fn separated<'a>(text: &'a str, lower: &str) -> (Cow<'a, str>, u8) {
    let first = text.lines().find(|l| is_content(l)).unwrap_or_default();
    let count = |c: char| first.matches(c).count();
    let (comma, tab, semicolon, bar) = (count(','), count('\t'), count(';'), count('|'));
    if lower.ends_with(".tsv") || tab > comma.max(semicolon).max(bar) {
        return (text.into(), b'\t');
    }
    if bar > comma.max(semicolon) {
        return (text.split_inclusive('\n').map(unbarred).collect::<String>().into(), b'|');
    }
    if semicolon > comma {
        return (text.into(), b';');
    }
    let width = first.split_whitespace().count();
    let aligned = comma == 0
        && width > 1
        && text.lines().filter(|l| is_content(l)).take(50).all(|l| l.split_whitespace().count() == width);
    if aligned {
        let tabbed = |line: &str| {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            line.split_whitespace().collect::<Vec<_>>().join("\t") + end
        };
        return (text.split_inclusive('\n').map(tabbed).collect::<String>().into(), b'\t');
    }
    (text.into(), b',')
}

/// A line of a Markdown table without its outer bars; the line under its header is blank.
fn unbarred(line: &str) -> String {
    let end = if line.ends_with('\n') { "\n" } else { "" };
    let inner = line.trim();
    if inner.contains('-') && inner.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ')) {
        return end.to_owned();
    }
    let inner = inner.strip_prefix('|').unwrap_or(inner);
    inner.strip_suffix('|').unwrap_or(inner).to_owned() + end
}
