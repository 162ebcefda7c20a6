//! Tables as people have them: CSV, TSV, semicolons, JSON in a dozen shapes; headers in any of their usual spellings;
//! cells such as `1.2B`, `300M` or `1.234.567,8`.
//!
//! What a number means is never decided from one cell: marks are judged over the whole table (`marks`), a unit in a
//! header is understood or an error (`units`). A row that cannot be used is listed with its line and the reason,
//! never dropped in silence.

mod cells;
pub mod columns;
mod delimited;
mod encoding;
mod json;
mod marks;
mod names;
mod studies;
mod units;
mod wide;

use crate::document::DroppedRow;
use crate::{LawError, Row, Table};
pub use cells::Cell;
use cells::number;
use columns::{Mapping, Unit};
use marks::Column;
pub use marks::Decimal;
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
    /// The mark before decimals, where somebody says it; else it is decided from all cells.
    pub decimal: Option<Decimal>,
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
/// Not text, no header, no loss column, a mapped column that does not exist, a unit that is not understood, or
/// numbers whose marks can be read in two ways.
pub fn read_table(bytes: &[u8], options: &ReadOptions) -> Result<Table, LawError> {
    let name = if options.name.is_empty() { "the table" } else { &options.name };
    let (text, encoding) = encoding::text(bytes, name)?;
    let text = text.as_ref();
    let lower = options.name.to_ascii_lowercase();
    let lower = [".gz", ".zst", ".zstd"].iter().find_map(|e| lower.strip_suffix(e)).unwrap_or(&lower);
    let json = [".jsonl", ".ndjson", ".json"].iter().any(|e| lower.ends_with(e))
        || text.trim_start().starts_with(['{', '[']);
    let delimited::Records { header, raws, notes, semicolons } = if json {
        let (header, raws) = json::records(text, name)?;
        delimited::Records { header, raws, notes: Vec::new(), semicolons: false }
    } else {
        delimited::records(text, lower, name)?
    };
    let mut table = understood(&header, &raws, options, semicolons)?;
    table.notes.extend(encoding.into_iter().chain(notes));
    Ok(table)
}

/// A table from cells that somebody else has read, e.g. out of a Parquet file.
///
/// # Errors
/// As [`read_table`].
pub fn table_of(header: &[String], raws: &[Raw], options: &ReadOptions) -> Result<Table, LawError> {
    understood(header, raws, options, false)
}

/// A table from its cells. `semicolons`: they were set apart by `;`.
fn understood(
    header: &[String],
    raws: &[Raw],
    options: &ReadOptions,
    semicolons: bool,
) -> Result<Table, LawError> {
    if let Some(long) = wide::unfolded(header, raws) {
        let mut table = understood(&long.header, &long.raws, options, semicolons)?;
        table.notes.push(long.note);
        return Ok(table);
    }
    let name = if options.name.is_empty() { "the table" } else { &options.name };
    let columns = marks::decide(header, raws, semicolons, options.decimal);
    // A column of which the first rows hold no number at all is words.
    let numeric = |i: usize| {
        let mut cells = raws.iter().take(200).filter_map(|r| r.cells.get(i)).filter(|c| **c != Cell::Empty);
        raws.is_empty()
            || cells.any(cells::is_number)
            || raws.iter().all(|r| r.cells.get(i).is_none_or(|c| *c == Cell::Empty))
    };
    let mapping = Mapping::of(header, &options.columns, name, options.loss_optional, &numeric)?;
    for (canonical, index) in mapping.recognised() {
        if !names::WORDS.contains(&canonical) {
            columns[index].check(name, &header[index])?;
        }
    }
    let grid = Grid { header, columns: &columns, mapping: &mapping, loss_optional: options.loss_optional };
    let mut table = grid.build(raws);
    plausible(&table, header, &mapping, name)?;
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
    studies::shares_of_junk(&mut table);
    studies::epochs_and_unique_tokens(&mut table);
    derive(&mut table);
    table = table.without_copies();
    if conventions(&mut table, header) {
        return Ok(table);
    }
    table.notes.extend(mapping.notes);
    Ok(table)
}

/// That a unit in a header was not meant for numbers already written in full.
///
/// # Errors
/// With the unit, most sizes, tokens or FLOPs would be beyond anything there is.
fn plausible(table: &Table, header: &[String], mapping: &Mapping, name: &str) -> Result<(), LawError> {
    for (canonical, most, of) in [("n", 1e15, "parameters"), ("d", 1e18, "tokens"), ("c", 1e35, "FLOP")] {
        let factor = mapping.unit(canonical).factor();
        let Some(index) = mapping.index(canonical).filter(|_| factor >= 1e3) else { continue };
        let mut values: Vec<f64> = table.rows.iter().filter_map(|r| r.get(canonical)).collect();
        values.sort_by(f64::total_cmp);
        if let Some(median) = values.get(values.len() / 2).filter(|m| **m > most) {
            let (title, bare) = (&header[index], median / factor);
            return Err(LawError::BadTable {
                what: format!(
                    "{name}: with the unit of its header, column `{title}` has a median of {median:.3e} {of}"
                ),
                hint: format!(
                    "if its cells are in full ({bare:.3e}), say so with --column '{canonical}={title}*1', or \
                     correct the header"
                ),
            });
        }
    }
    Ok(())
}

/// What stands where a column was not recognised: one that holds no number, one in a strange unit, or the nearest.
fn unreadable(header: &[String], raws: &[Raw], mapping: &Mapping) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = mapping.not_understood.iter().cloned().collect();
    for (name, _) in names::SYNONYMS.iter().filter(|(n, _)| mapping.index(n).is_none()) {
        let first =
            |index: &usize| raws.iter().filter_map(|r| r.cells.get(*index)).find(|c| **c != Cell::Empty);
        let index = header.iter().position(|h| columns::canonical_name(h) == *name);
        let taken = |index: &usize| mapping.recognised().any(|(_, i)| i == *index);
        let words = match index.filter(|i| !taken(i)).and_then(|i| Some((i, first(&i)?))) {
            Some((index, cell)) if !cells::is_number(cell) => {
                format!(
                    "its column `{}` holds no number but e.g. `{}`",
                    header[index],
                    cells::short(&cell.text())
                )
            }
            _ => format!("{}; map one with --column {name}=NAME", columns::there_is(name, header)),
        };
        out.entry((*name).to_owned()).or_insert(words);
    }
    out
}

/// What is needed to understand the rows of a table.
struct Grid<'a> {
    header: &'a [String],
    columns: &'a [Column],
    mapping: &'a Mapping,
    loss_optional: bool,
}

/// Why a row is left out: its run, and the reason.
type Refusal = (String, String);

impl Grid<'_> {
    fn build(&self, raws: &[Raw]) -> Table {
        let mut table = Table::default();
        // Units of the columns that no law reads; what is not understood there changes nothing.
        let units: Vec<f64> = self
            .header
            .iter()
            .enumerate()
            .map(|(index, title)| {
                let key = self.mapping.key(index, title);
                match self.mapping.index(&key) {
                    Some(_) => self.mapping.unit(&key).factor(),
                    None => Unit::of(title, "", true).map_or(1.0, Unit::factor),
                }
            })
            .collect();
        for raw in raws {
            match self.row(raw, &units) {
                Ok(row) => table.rows.push(row),
                Err((run, reason)) => table.dropped.push(DroppedRow { row: raw.line, run, reason }),
            }
        }
        table
    }

    fn cell<'r>(&self, raw: &'r Raw, name: &str) -> &'r Cell {
        self.mapping.index(name).and_then(|i| raw.cells.get(i)).unwrap_or(&Cell::Empty)
    }

    /// The number of a canonical column in its base unit; `None` where the cell is empty or, but for the loss, NaN.
    fn positive(&self, raw: &Raw, name: &str) -> Result<Option<f64>, String> {
        let Some(index) = self.mapping.index(name) else { return Ok(None) };
        let cell = raw.cells.get(index).unwrap_or(&Cell::Empty);
        if *cell == Cell::Empty || cells::is_missing(cell) {
            return Ok(None);
        }
        let read = number(cell, &self.columns[index]).map_err(|why| format!("{name}: {why}"))?;
        let value = if read.scaled { read.value } else { read.value * self.mapping.unit(name).factor() };
        if value.is_nan() && matches!(name, "n" | "d" | "c") {
            return Ok(None);
        }
        if value > 0.0 && value.is_finite() {
            return Ok(Some(value));
        }
        Err(format!("{name} is {}, not a positive number", cells::short(&cell.text())))
    }

    fn row(&self, raw: &Raw, units: &[f64]) -> Result<Row, Refusal> {
        if let [Cell::Broken(why)] = raw.cells.as_slice() {
            return Err((String::new(), why.clone()));
        }
        let run = self.cell(raw, "run").text();
        let fail = |reason: String| (run.clone(), reason);
        if raw.cells.len() != self.header.len() {
            return Err(fail(format!(
                "{} cells where the header has {}",
                raw.cells.len(),
                self.header.len()
            )));
        }
        let status = self.cell(raw, "status").text();
        let bad_status = ["diverged", "failed", "running", "crashed", "killed", "incomplete", "nan"];
        if bad_status.contains(&status.to_ascii_lowercase().as_str()) {
            return Err(fail(format!("its status is `{status}`")));
        }
        let positive = |name: &str| self.positive(raw, name).map_err(&fail);
        let mut out = Row { line: raw.line, run: run.clone(), weight: 1.0, ..Row::default() };
        out.n = positive("n")?;
        out.d = positive("d")?;
        out.c = positive("c")?;
        out.loss = match positive("loss")? {
            Some(loss) => loss,
            None if self.loss_optional => f64::NAN,
            None => return Err(fail("loss is empty".to_owned())),
        };
        if self.mapping.index("log_se").is_some() {
            let se = positive("log_se")?.ok_or_else(|| fail("its standard error is empty".to_owned()))?;
            out.weight = 1.0 / (se * se);
        }
        out.loss_se = positive("loss_se").unwrap_or(None);
        if let Some(w) = positive("weight")? {
            out.weight = w;
        }
        out.seed = number(self.cell(raw, "seed"), &Column::default())
            .ok()
            .map(|s| s.value)
            .filter(|s| *s >= 0.0 && s.fract() == 0.0)
            .map(|s| s as u64);
        for (index, title) in self.header.iter().enumerate() {
            let key = self.mapping.key(index, title);
            if names::CORE.contains(&key.as_str()) {
                continue;
            }
            match (&raw.cells[index], number(&raw.cells[index], &self.columns[index])) {
                (Cell::Empty, _) => {}
                (_, Ok(v)) if v.value.is_finite() => {
                    out.extra.insert(key, if v.scaled { v.value } else { v.value * units[index] });
                }
                (other, _) => {
                    out.labels.insert(key, other.text());
                }
            }
        }
        Ok(out)
    }
}

/// D of the rows that lack it, from the steps and the batch: batches in tokens, or in sequences with a column for their
/// length.
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
    let mut by_ratio = 0;
    for row in &mut table.rows {
        if let (Some(n), None, Some(per_param)) = (row.n, row.d, row.get("tokens_per_param")) {
            row.d = Some(n * per_param).filter(|d| *d > 0.0 && d.is_finite());
            by_ratio += usize::from(row.d.is_some());
        }
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
    if by_ratio > 0 {
        table.notes.push(format!("{by_ratio} rows: D = N × tokens per parameter"));
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
