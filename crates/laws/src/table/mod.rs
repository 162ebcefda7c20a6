//! Rows to fit to: N (parameters), D (tokens), C (FLOPs), loss, and whatever else a form asks for by name.

pub mod critical;
pub mod paired;
pub mod seeds;

use crate::LawError;
use crate::document::DroppedRow;
use isoflop_base::{Point, Status};
use std::collections::BTreeMap;

/// One usable row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Line in its file (the header is line 1), or position among the points, from 1.
    pub line: usize,
    /// Parameters.
    pub n: Option<f64>,
    /// Training tokens.
    pub d: Option<f64>,
    /// Training FLOPs.
    pub c: Option<f64>,
    /// Loss (the table's unit); NaN in a table without a loss column.
    pub loss: f64,
    /// Its standard error, same unit.
    pub loss_se: Option<f64>,
    /// Weight in the objective, 1 unless given. A row of weight 2 counts as the same row twice.
    pub weight: f64,
    /// Run it comes from; its rows share its luck and count as one piece of evidence. Empty: a run of its own.
    pub run: String,
    /// What the row shares its luck with, where that is not its run (see [`Table::clustered_by`]).
    pub cluster: String,
    /// Seed.
    pub seed: Option<u64>,
    /// Other numeric columns by canonical name (`steps`, `batch`, `unique_tokens`, `junk`, …).
    pub extra: BTreeMap<String, f64>,
    /// Other text columns.
    pub labels: BTreeMap<String, String>,
}

impl Row {
    /// A row of N, D and loss with C = 6ND.
    pub fn of(line: usize, n: f64, d: f64, loss: f64) -> Self {
        Self { line, n: Some(n), d: Some(d), c: Some(6.0 * n * d), loss, weight: 1.0, ..Self::default() }
    }

    /// The piece of evidence that the row belongs to; empty: one of its own.
    pub fn unit(&self) -> &str {
        if self.cluster.is_empty() { &self.run } else { &self.cluster }
    }

    /// A named value: `n`, `d`, `c`, `loss`, or an extra column.
    pub fn get(&self, name: &str) -> Option<f64> {
        match name {
            "n" => self.n,
            "d" => self.d,
            "c" => self.c,
            "loss" => Some(self.loss).filter(|l| l.is_finite()),
            other => self.extra.get(other).copied(),
        }
    }
}

/// A table of usable rows with the record of what was left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Usable rows.
    pub rows: Vec<Row>,
    /// Rows that could not be used.
    pub dropped: Vec<DroppedRow>,
    /// Remarks: what was derived from what.
    pub notes: Vec<String>,
    /// e.g. `nats per token`.
    pub loss_unit: String,
    /// `kaplan`, `total`, `as given`.
    pub n_convention: String,
    /// `exact`, `6nd`, `as given`.
    pub c_convention: String,
    /// All rows were scored on the same held-out tokens: their standard errors are shared, and tell nothing of their
    /// differences.
    pub shared_evaluation: bool,
    /// `c_min` and `s_min` were computed from batches, see [`critical`]: the rows are plain runs, of which only the
    /// frontier is L(C_min).
    pub c_min_from_batch: bool,
    /// Columns whose names say N, D or C but that hold no numbers, with what they hold, in words.
    pub unreadable: BTreeMap<String, String>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            dropped: Vec::new(),
            notes: Vec::new(),
            loss_unit: "nats per token".to_owned(),
            n_convention: "as given".to_owned(),
            c_convention: "as given".to_owned(),
            shared_evaluation: false,
            c_min_from_batch: false,
            unreadable: BTreeMap::new(),
        }
    }
}

impl Table {
    /// Finished points as rows: N is Kaplan's, C the exact ledger's. Points of runs that diverged, failed or are not
    /// finished are listed in `dropped` with that reason.
    pub fn from_points<'a>(points: impl IntoIterator<Item = (&'a Point, &'a Status)>) -> Self {
        let mut table = Self {
            n_convention: "kaplan".to_owned(),
            c_convention: "exact".to_owned(),
            shared_evaluation: true,
            ..Self::default()
        };
        for (i, (point, status)) in points.into_iter().enumerate() {
            match refusal(point, status) {
                Some(reason) => {
                    table.dropped.push(DroppedRow { row: i + 1, run: point.run.clone(), reason });
                }
                None => table.rows.push(row_of(i + 1, point)),
            }
        }
        table
    }

    /// That there is a usable row at all.
    ///
    /// # Errors
    /// There is none; the hint names the first that was dropped, and why.
    pub fn not_empty(&self) -> Result<(), LawError> {
        if !self.rows.is_empty() {
            return Ok(());
        }
        Err(LawError::TooFewRows {
            form: "any form".to_owned(),
            needed: 3,
            found: 0,
            of: String::new(),
            hint: match self.dropped.first() {
                Some(d) => {
                    format!(
                        "{} rows were dropped; the first, row {}: {}",
                        self.dropped.len(),
                        d.row,
                        d.reason
                    )
                }
                None => "the table is empty".to_owned(),
            },
        })
    }

    /// The rows for which `keep` holds, with everything else as it is.
    pub fn filtered(&self, keep: impl Fn(&Row) -> bool) -> Self {
        Self {
            rows: self.rows.iter().filter(|r| keep(r)).cloned().collect(),
            dropped: self.dropped.clone(),
            notes: self.notes.clone(),
            loss_unit: self.loss_unit.clone(),
            n_convention: self.n_convention.clone(),
            c_convention: self.c_convention.clone(),
            unreadable: self.unreadable.clone(),
            ..*self
        }
    }

    /// Adds the rows of another table; lines keep their own files' numbers.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.dropped.extend(other.dropped);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.shared_evaluation &= other.shared_evaluation;
        self.c_min_from_batch |= other.c_min_from_batch;
        for (mine, theirs) in [
            (&mut self.n_convention, other.n_convention),
            (&mut self.c_convention, other.c_convention),
            (&mut self.loss_unit, other.loss_unit),
        ] {
            if *mine != theirs {
                *mine = format!("{mine} and {theirs}");
            }
        }
    }

    /// The rows without exact copies of others: the same run, sizes, settings and loss to the last digit. Logs hold a
    /// row twice after a resume, and copies are no evidence. What was left out is said.
    #[must_use]
    pub fn without_copies(mut self) -> Self {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        let before = self.rows.len();
        self.rows.retain(|row| {
            let key = Row { line: 0, ..row.clone() };
            let times = seen.entry(format!("{key:?}")).or_insert(0);
            *times += 1;
            if *times > 1 {
                *copies.entry(row.run.clone()).or_insert(0) += 1;
            }
            *times == 1
        });
        if self.rows.len() < before {
            let named: Vec<String> = copies
                .iter()
                .filter(|(run, _)| !run.is_empty())
                .map(|(run, count)| format!("{count} of {run}"))
                .collect();
            let shown = match named.len() {
                0 => String::new(),
                1..=5 => format!(" ({})", named.join(", ")),
                more => format!(" ({}, and of {} more runs)", named[..5].join(", "), more - 5),
            };
            self.notes.push(format!(
                "{} rows are exact copies of other rows{shown}: each row counts once",
                before - self.rows.len()
            ));
        }
        self
    }

    /// The rows with a column as the unit of evidence: rows that share its value share their luck, whatever their run.
    ///
    /// # Errors
    /// No row has such a column.
    pub fn clustered_by(mut self, column: &str) -> Result<Self, LawError> {
        let wanted = column.trim().to_lowercase();
        let value = |row: &Row| -> Option<String> {
            if wanted == "run" {
                return Some(row.run.clone()).filter(|r| !r.is_empty());
            }
            let text = row.labels.get(&wanted).cloned();
            let seed = || row.seed.filter(|_| wanted == "seed").map(|s| s.to_string());
            text.or_else(|| row.get(&wanted).map(|v| v.to_string())).or_else(seed)
        };
        let found: Vec<Option<String>> = self.rows.iter().map(value).collect();
        if found.iter().all(Option::is_none) {
            let mut known: Vec<&str> = self
                .rows
                .iter()
                .flat_map(|r| r.labels.keys().chain(r.extra.keys()))
                .map(String::as_str)
                .chain(["run", "n", "d", "c", "seed"])
                .collect();
            known.sort_unstable();
            known.dedup();
            return Err(LawError::BadOption {
                what: format!("no row has a column `{column}` to cluster by"),
                hint: format!("one of {}", known.join(", ")),
            });
        }
        let mut without = 0;
        for (row, value) in self.rows.iter_mut().zip(found) {
            without += usize::from(value.is_none());
            row.cluster = value.map(|v| format!("{wanted} {v}")).unwrap_or_default();
        }
        let alone =
            if without > 0 { format!("; {without} rows without it count alone") } else { String::new() };
        self.notes.push(format!("rows of one `{column}` count as one piece of evidence together{alone}"));
        Ok(self)
    }

    /// Whether some piece of evidence has several rows.
    pub fn is_clustered(&self) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        self.rows.iter().any(|r| !r.unit().is_empty() && !seen.insert(r.unit()))
    }

    /// Whether every row has this value.
    pub fn has(&self, name: &str) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|r| r.get(name).is_some())
    }

    /// Rows weighted by 1/(standard error of ln loss)², mean weight one, where every row has a standard error and they
    /// are not shared by all.
    pub fn weighted_by_se(&self) -> Option<Self> {
        if self.shared_evaluation || self.rows.is_empty() {
            return None;
        }
        let mut out = self.clone();
        for row in &mut out.rows {
            let relative = row.loss_se? / row.loss;
            row.weight *= 1.0 / (relative * relative);
        }
        let mean = out.rows.iter().map(|r| r.weight).sum::<f64>() / out.rows.len() as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        out.rows.iter_mut().for_each(|r| r.weight /= mean);
        out.notes.push("rows weighted by the inverse square of their standard errors".to_owned());
        Some(out)
    }

    /// The rows with N counted in full (`total`) instead of Kaplan's way, where the rows know it.
    pub fn with_total_params(&self) -> Option<Self> {
        let mut out = self.clone();
        for row in &mut out.rows {
            row.n = Some(*row.extra.get("params_total")?);
        }
        out.n_convention = "total".to_owned();
        Some(out)
    }

    /// The rows with C = 6·N·D instead of the ledger's.
    pub fn with_6nd(&self) -> Option<Self> {
        let mut out = self.clone();
        for row in &mut out.rows {
            row.c = Some(6.0 * row.n? * row.d?);
        }
        out.c_convention = "6nd".to_owned();
        Some(out)
    }

    /// Distinct values of a column, ascending; values within 0.5 % of each other count as one.
    pub fn levels(&self, name: &str) -> Vec<f64> {
        distinct(self.rows.iter().filter_map(|r| r.get(name)))
    }
}

/// Distinct values, ascending; values within 0.5 % of each other count as one.
pub(crate) fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|b, a| same_level(*a, *b));
    values
}

/// Two budgets or sizes that differ by less than 0.5 % count as the same.
pub fn same_level(a: f64, b: f64) -> bool {
    (a - b).abs() <= 0.005 * a.abs().max(b.abs())
}

fn refusal(point: &Point, status: &Status) -> Option<String> {
    match status {
        Status::Diverged { step, segment } => {
            return Some(format!("its run diverged at step {step} ({segment})"));
        }
        Status::Failed { reason } => return Some(format!("its run failed: {reason}")),
        Status::Stopped { reason } => return Some(format!("its run was stopped: {reason}")),
        Status::Running => return Some("its run is not finished".to_owned()),
        Status::Done => {}
    }
    if !point.loss.is_finite() || point.loss <= 0.0 {
        return Some(format!("loss {} is not a positive number", point.loss));
    }
    (point.params == 0 || point.tokens == 0).then(|| "N or D is zero".to_owned())
}

fn row_of(line: usize, p: &Point) -> Row {
    let extra = [
        ("params_total", p.params_total as f64),
        ("flops_6nd", p.flops_6nd),
        ("epochs", p.epochs),
        ("unique_tokens", p.unique_tokens as f64),
        ("steps", p.steps as f64),
        ("batch", p.batch_tokens as f64),
        ("lr", p.lr),
    ];
    let of_language = [("context", p.context), ("vocab", p.vocab)];
    let of_language = of_language.into_iter().filter_map(|(key, value)| Some((key, value? as f64)));
    let junk = p.junk_share().map(|share| ("junk", share));
    let labels = [("schedule", &p.schedule), ("init", &p.init), ("precision", &p.precision)];
    Row {
        line,
        n: Some(p.params as f64),
        d: Some(p.tokens as f64),
        c: Some(p.flops),
        loss: p.loss,
        loss_se: p.loss_se,
        weight: 1.0,
        run: p.run.clone(),
        cluster: String::new(),
        seed: Some(p.seed),
        extra: extra.into_iter().chain(of_language).chain(junk).map(|(k, v)| (k.to_owned(), v)).collect(),
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.clone())).collect(),
    }
}
