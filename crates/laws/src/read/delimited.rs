//! Text tables: commas, tabs, semicolons, bars (also Markdown's), or columns set apart by spaces. Line numbers stay
//! those of the file.

use super::{Cell, Raw};
use crate::LawError;
use std::borrow::Cow;

/// A text table taken apart.
pub(super) struct Records {
    pub(super) header: Vec<String>,
    pub(super) raws: Vec<Raw>,
    pub(super) notes: Vec<String>,
    /// Cells are set apart by `;`.
    pub(super) semicolons: bool,
}

/// Reads delimited text; `lower` is the file's name in lower case.
pub(super) fn records(text: &str, lower: &str, name: &str) -> Result<Records, LawError> {
    let (text, said) = without_excels_line(text);
    let (text, title) = without_title(&text);
    let (text, delimiter) = match said {
        Some(said) => (text, said),
        None => separated(&text, lower),
    };
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
            .map(|c| if c.is_empty() { Cell::Empty } else { Cell::Text(c.to_owned()) })
            .collect();
        // A separator at the end of every line makes one empty cell too many.
        while cells.len() > header.len() && cells.last() == Some(&Cell::Empty) {
            cells.pop();
        }
        raws.push(Raw { line, cells });
    }
    if let Some(why) = split_at_commas(&header, &raws, delimiter) {
        return Err(LawError::BadTable { what: format!("{name}: {why}"), hint: SPLIT_HINT.to_owned() });
    }
    let notes =
        title.map(|t| format!("line `{}` before the header was passed over", super::cells::short(&t)));
    Ok(Records { header, raws, notes: notes.into_iter().collect(), semicolons: delimiter == b';' })
}

const SPLIT_HINT: &str = "put numbers with decimal commas in quotes, or separate cells by semicolons or tabs";

/// Why a table is no table though it has rows: unquoted decimal commas between commas split every number in two.
fn split_at_commas(header: &[String], raws: &[Raw], delimiter: u8) -> Option<String> {
    let longer = |r: &Raw| {
        let digits = |c: &Cell| matches!(c, Cell::Text(t) if t.bytes().all(|b| b.is_ascii_digit()));
        r.cells.len() > header.len() && r.cells.windows(2).any(|w| w.iter().all(digits))
    };
    let first = raws.first().filter(|_| delimiter == b',' && raws.iter().all(longer))?;
    let cells = first.cells.len();
    Some(format!(
        "every row has more cells than the header (line {}: {cells} for {})",
        first.line,
        header.len()
    ))
}

/// Excel's `sep=;` in the first line, blanked, and the separator it says.
fn without_excels_line(text: &str) -> (Cow<'_, str>, Option<u8>) {
    let first = text.lines().next().unwrap_or_default();
    match first.trim_end().strip_prefix("sep=").map(str::as_bytes) {
        Some([said @ (b',' | b';' | b'\t' | b'|')]) => {
            let blank = text.replacen(first.trim_end(), "", 1);
            (blank.into(), Some(*said))
        }
        _ => (text.into(), None),
    }
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// A first line without any separator over lines that have some is a title: blanked, so that the others keep their
/// numbers.
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
