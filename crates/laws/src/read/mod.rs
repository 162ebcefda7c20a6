//! Tables as people have them: CSV, TSV, semicolons, JSON Lines, a JSON array; headers in any of their usual spellings; cells such as
//! `1.2B` or `300M`. A row that cannot be used is listed with its line and the reason, never dropped in silence.

mod cells;
pub mod columns;
mod delimited;
mod json;

use crate::document::DroppedRow;
use crate::{LawError, Row, Table};
pub use cells::Cell;
use cells::number;
use columns::{Mapping, Unit};
use std::collections::BTreeMap;

/// How to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// Canonical name and the header that stands for it, from `--column n=model_size`.
    pub columns: Vec<(String, String)>,
    /// The laws asked for do not explain the loss: a table without it is fine.
    pub loss_optional: bool,
    /// Name of the file, for its extension and for messages.
    pub name: String,
}

/// One record before it is understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// Its line, or its position from 1 in a file without lines.
    pub line: usize,
    /// A cell per column.
    pub cells: Vec<Cell>,
}

/// Reads a table from the bytes of a file.
///
/// # Errors
/// Not text, no header, no loss column, or a mapped column that does not exist.
pub fn read_table(bytes: &[u8], options: &ReadOptions) -> Result<Table, LawError> {
    let name = if options.name.is_empty() { "the table" } else { &options.name };
    let text = as_text(bytes, name)?;
    let lower = options.name.to_ascii_lowercase();
    let json = lower.ends_with(".jsonl")
        || lower.ends_with(".ndjson")
        || lower.ends_with(".json")
        || text.trim_start().starts_with(['{', '[']);
    let (header, raws, notes) = if json {
        let (header, raws) = json::records(text, name)?;
        (header, raws, Vec::new())
    } else {
        delimited::records(text, &lower, name)?
    };
    let mut table = table_of(&header, &raws, options)?;
    table.notes.extend(notes);
    Ok(table)
}

/// A table from cells that somebody else has read, e.g. out of a Parquet file.
///
/// # Errors
/// No loss column, or a mapped column that does not exist.
pub fn table_of(header: &[String], raws: &[Raw], options: &ReadOptions) -> Result<Table, LawError> {
    let name = if options.name.is_empty() { "the table" } else { &options.name };
    // A column of which the first rows hold no number at all is words.
    let numeric = |i: usize| {
        let mut cells = raws.iter().take(200).filter_map(|r| r.cells.get(i)).filter(|c| **c != Cell::Empty);
        raws.is_empty()
            || cells.any(|c| number(c).is_ok())
            || raws.iter().all(|r| r.cells.get(i).is_none_or(|c| *c == Cell::Empty))
    };
    let mapping = Mapping::of(header, &options.columns, name, options.loss_optional, &numeric)?;
    let mut table = build(header, raws, &mapping, options.loss_optional);
    table.unreadable = unreadable(header, raws, &mapping);
    if mapping.perplexity {
        table.rows.iter_mut().for_each(|r| r.loss = libm::log(r.loss));
        table.notes.push("the loss is ln of the perplexity".to_owned());
        let (kept, gone): (Vec<Row>, Vec<Row>) =
            table.rows.into_iter().partition(|r| r.loss.is_nan() || r.loss > 0.0);
        table.rows = kept;
        let reason = || "a perplexity of 1 or less".to_owned();
        table.dropped.extend(gone.into_iter().map(|r| DroppedRow {
            row: r.line,
            run: r.run,
            reason: reason(),
        }));
    }
    if let Some(unit) = mapping.loss_unit {
        unit.clone_into(&mut table.loss_unit);
    }
    tokens_from_steps(&mut table, header, &mapping);
    derive(&mut table);
    table = table.without_copies();
    if conventions(&mut table, header) {
        return Ok(table);
    }
    table.notes.extend(mapping.notes);
    Ok(table)
}

fn as_text<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str, LawError> {
    let bad = |what: String, hint: &str| LawError::BadTable { what, hint: hint.to_owned() };
    if bytes.starts_with(b"PAR1") {
        return Err(bad(
            format!("{name} is a Parquet file, not text"),
            "read its cells and give them to `table_of`",
        ));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(bad(format!("{name} is compressed"), "decompress it first (gunzip, unzstd)"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(bad(format!("{name} is UTF-16 text"), "save it as UTF-8 CSV"));
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        bad(format!("{name} is not UTF-8 text (line {line})"), "save it as UTF-8 CSV")
    })?;
    if text.trim().is_empty() {
        return Err(bad(format!("{name} is empty"), "a table needs a header line and rows"));
    }
    Ok(text)
}

/// Columns whose names say N, D or C but that hold no number: what their first cell is.
fn unreadable(header: &[String], raws: &[Raw], mapping: &Mapping) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for name in ["n", "d", "c"].into_iter().filter(|n| mapping.index(n).is_none()) {
        let Some(index) = header.iter().position(|h| columns::canonical_name(h) == name) else { continue };
        let cell = raws.iter().filter_map(|r| r.cells.get(index)).find(|c| **c != Cell::Empty);
        if let Some(cell) = cell {
            let first = cells::short(&cell.text());
            out.insert(
                name.to_owned(),
                format!("its column `{}` holds no number but e.g. `{first}`", header[index]),
            );
        }
    }
    out
}

fn build(header: &[String], raws: &[Raw], mapping: &Mapping, loss_optional: bool) -> Table {
    let mut table = Table::default();
    for raw in raws {
        match row(header, raw, mapping, loss_optional) {
            Ok(row) => table.rows.push(row),
            Err((run, reason)) => table.dropped.push(DroppedRow { row: raw.line, run, reason }),
        }
    }
    table
}

/// A usable row, or (run, reason).
fn row(
    header: &[String],
    raw: &Raw,
    mapping: &Mapping,
    loss_optional: bool,
) -> Result<Row, (String, String)> {
    if let [Cell::Broken(why)] = raw.cells.as_slice() {
        return Err((String::new(), why.clone()));
    }
    let cell = |name: &str| mapping.index(name).and_then(|i| raw.cells.get(i)).unwrap_or(&Cell::Empty);
    let run = cell("run").text();
    let fail = |reason: String| (run.clone(), reason);
    if raw.cells.len() != header.len() {
        return Err(fail(format!("{} cells where the header has {}", raw.cells.len(), header.len())));
    }
    let status = cell("status").text();
    let bad_status = ["diverged", "failed", "running", "crashed", "killed", "incomplete", "nan"];
    if bad_status.contains(&status.to_ascii_lowercase().as_str()) {
        return Err(fail(format!("its status is `{status}`")));
    }
    let positive = |name: &str| -> Result<Option<f64>, (String, String)> {
        let unit = mapping.unit(name);
        match cell(name) {
            Cell::Empty => Ok(None),
            other => {
                let v = number(other).map_err(|why| fail(format!("{name}: {why}")))? * unit.factor();
                if v > 0.0 && v.is_finite() {
                    Ok(Some(v))
                } else {
                    Err(fail(format!("{name} is {}, not a positive number", cells::short(&other.text()))))
                }
            }
        }
    };
    let mut out = Row { line: raw.line, run: run.clone(), weight: 1.0, ..Row::default() };
    out.n = positive("n")?;
    out.d = positive("d")?;
    out.c = positive("c")?;
    out.loss = match positive("loss")? {
        Some(loss) => loss,
        None if loss_optional => f64::NAN,
        None => return Err(fail("loss is empty".to_owned())),
    };
    if mapping.index("log_se").is_some() {
        let se = positive("log_se")?.ok_or_else(|| fail("its standard error is empty".to_owned()))?;
        out.weight = 1.0 / (se * se);
    }
    out.loss_se = positive("loss_se").unwrap_or(None);
    if let Some(w) = positive("weight")? {
        out.weight = w;
    }
    out.seed = number(cell("seed")).ok().filter(|s| *s >= 0.0 && s.fract() == 0.0).map(|s| s as u64);
    for (index, title) in header.iter().enumerate() {
        let key = mapping.key(index, title);
        if columns::CORE.contains(&key.as_str()) {
            continue;
        }
        match (&raw.cells[index], number(&raw.cells[index])) {
            (Cell::Empty, _) => {}
            (_, Ok(v)) if v.is_finite() => {
                out.extra.insert(key, v * Unit::of(title).factor());
            }
            (other, _) => {
                out.labels.insert(key, other.text());
            }
        }
    }
    Ok(out)
}

/// D of the rows that lack it, from the steps and the batch: batches in tokens, or in sequences with a column for their length.
fn tokens_from_steps(table: &mut Table, header: &[String], mapping: &Mapping) {
    let Some(batch) = mapping.index("batch").map(|i| header[i].to_lowercase()) else { return };
    let lacking = |r: &Row| r.d.is_none() && r.get("steps").is_some() && r.get("batch").is_some();
    if !table.rows.iter().any(lacking) {
        return;
    }
    // A batch per device, or per accumulation step, is not the step's.
    let parts: Vec<&str> = header
        .iter()
        .map(String::as_str)
        .filter(|h| {
            let h: String = h.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
            ["accum", "gpus", "worldsize", "devices", "perdevice"].iter().any(|w| h.contains(w))
        })
        .collect();
    let whole = ["global", "total", "effective"].iter().any(|w| batch.contains(w));
    if !parts.is_empty() && !whole {
        table.notes.push(format!(
            "D is not taken from steps and `{batch}`, which may not be the whole batch of a step (there is {}): choose a column with \
             --column d=NAME",
            parts.join(", ")
        ));
        return;
    }
    // More tokens a step than anybody has trained with.
    const TOO_MANY: f64 = 3e8;
    let in_tokens = batch.contains("token");
    let (mut done, mut unclear) = (0, 0);
    for row in table.rows.iter_mut().filter(|r| lacking(r)) {
        let (Some(steps), Some(batch)) = (row.get("steps"), row.get("batch")) else { continue };
        let length = row.get("seq_len").or_else(|| row.get("context"));
        let tokens = match length {
            _ if in_tokens => Some(batch),
            Some(length) if length >= 1.0 && batch * length <= TOO_MANY => Some(batch * length),
            _ => None,
        };
        match tokens.map(|t| t * steps).filter(|d| *d > 0.0 && d.is_finite()) {
            Some(d) => {
                row.d = Some(d);
                done += 1;
            }
            None => unclear += 1,
        }
    }
    if done > 0 {
        let how =
            if in_tokens { "steps × batch in tokens" } else { "steps × batch × length of a sequence" };
        table.notes.push(format!("{done} rows: D = {how}"));
    }
    if unclear > 0 {
        table.notes.push(format!(
            "{unclear} rows have steps and `{batch}` but no D: is the batch in tokens (name it batch_tokens) or in sequences (add their \
             length as seq_len)?"
        ));
    }
}

/// The missing one of N, D and C, from C = 6ND.
fn derive(table: &mut Table) {
    let mut derived: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ratio: Vec<f64> = Vec::new();
    for row in &mut table.rows {
        match (row.n, row.d, row.c) {
            (Some(n), Some(d), None) => {
                row.c = Some(6.0 * n * d);
                *derived.entry("C = 6·N·D").or_default() += 1;
            }
            (Some(n), None, Some(c)) => {
                row.d = Some(c / (6.0 * n));
                *derived.entry("D = C/(6·N)").or_default() += 1;
            }
            (None, Some(d), Some(c)) => {
                row.n = Some(c / (6.0 * d));
                *derived.entry("N = C/(6·D)").or_default() += 1;
            }
            (Some(n), Some(d), Some(c)) => ratio.push(c / (6.0 * n * d)),
            _ => {}
        }
    }
    for (formula, count) in derived {
        table.notes.push(format!("{count} rows: {formula} derived from the other two"));
    }
    if !ratio.is_empty() {
        ratio.sort_by(f64::total_cmp);
        let (low, high) = (ratio[0], ratio[ratio.len() - 1]);
        table.notes.push(format!("C as given is {low:.3} to {high:.3} times 6·N·D"));
    }
}

/// Whether the table is one of isoflop's own, whose columns need no explaining.
fn conventions(table: &mut Table, header: &[String]) -> bool {
    let own = ["flops_6nd", "params_total", "bits_per_byte", "batch_tokens"];
    let is_own = own.iter().all(|name| header.iter().any(|h| h == name));
    if is_own {
        table.n_convention = "kaplan".to_owned();
        table.c_convention = "exact".to_owned();
        table.shared_evaluation = true;
    }
    is_own
}

#[cfg(test)]
mod tests;
