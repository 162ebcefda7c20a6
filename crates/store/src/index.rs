//! The SQLite index: a cache of what the run directories say, for quick lists and for people with SQL.
//!
//! Each run is cached under a signature of its files (lengths and times). A row whose signature no longer matches is
//! read anew, so a stale, missing or broken index costs time and nothing else. Many processes may use it at once.

use crate::{RunSummary, RunView, StoreError, files, run};
use isoflop_base::{
    Point,
    columns::{Cell, Kind, POINT_COLUMNS},
};
use rusqlite::{Connection, TransactionBehavior, params_from_iter, types::Value};
use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

/// File name in the store's root.
const INDEX: &str = "index.sqlite";
/// What the table of runs holds; a point's columns are in its definition.
const RUNS: &str = "id TEXT PRIMARY KEY, signature TEXT NOT NULL, status TEXT NOT NULL,
                     params INTEGER, tokens INTEGER, loss REAL, summary TEXT NOT NULL";
/// Version of a run's summary, which is JSON.
const SUMMARY_VERSION: u32 = 2;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// An open index.
pub(crate) struct Index {
    db: Connection,
}

/// What is to be written for one run.
pub(crate) struct Fresh {
    pub(crate) signature: String,
    pub(crate) summary: RunSummary,
    pub(crate) points: Vec<Point>,
}

impl Index {
    /// Opens the index of the store at `root`, making it if there is none.
    pub(crate) fn open(root: &Path) -> rusqlite::Result<Self> {
        let mut db = Connection::open(root.join(INDEX))?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "normal")?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables = tables();
        // An index of another layout is rebuilt; with a new column of points it is another.
        let layout = i64::from(crc32fast::hash(format!("{SUMMARY_VERSION} {tables}").as_bytes()) as i32);
        if version != layout {
            tx.execute_batch(&format!("DROP TABLE IF EXISTS runs; DROP TABLE IF EXISTS points; {tables}"))?;
            tx.pragma_update(None, "user_version", layout)?;
        }
        tx.commit()?;
        Ok(Self { db })
    }

    /// Every cached run: signature and summary by id.
    pub(crate) fn summaries(&self) -> rusqlite::Result<HashMap<String, (String, RunSummary)>> {
        let mut query = self.db.prepare("SELECT id, signature, summary FROM runs")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut found = HashMap::new();
        for row in rows {
            let (id, signature, summary) = row?;
            // A summary of another version is simply not cached.
            if let Ok(summary) = serde_json::from_str(&summary) {
                found.insert(id, (signature, summary));
            }
        }
        Ok(found)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) -> rusqlite::Result<()> {
        self.db.execute_batch("BEGIN IMMEDIATE; DELETE FROM runs; DELETE FROM points; COMMIT;")
    }

    /// Writes `fresh` and forgets the runs in `gone`, in one transaction.
    pub(crate) fn update(&mut self, fresh: &[Fresh], gone: &[String]) -> rusqlite::Result<()> {
        if fresh.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in fresh.iter().map(|f| &f.summary.id).chain(gone) {
            tx.execute("DELETE FROM runs WHERE id = ?1", [id])?;
            tx.execute("DELETE FROM points WHERE run = ?1", [id])?;
        }
        let holes = vec!["?"; POINT_COLUMNS.len()].join(", ");
        let insert_point = format!("INSERT INTO points VALUES ({holes})");
        for Fresh { signature, summary, points } in fresh {
            let json = serde_json::to_string(summary).expect("a summary is plain data");
            tx.execute(
                "INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    &summary.id,
                    signature,
                    summary.status.word(),
                    summary.params.map(|n| n as i64),
                    summary.tokens.map(|n| n as i64),
                    summary.loss,
                    json,
                ),
            )?;
            for point in points {
                // Rows are found again by the run's directory, whatever their points say.
                let cells = POINT_COLUMNS.iter().map(|c| match c.name {
                    "run" => Value::Text(summary.id.clone()),
                    _ => sql_value((c.of)(point, &summary.status)),
                });
                tx.execute(&insert_point, params_from_iter(cells))?;
            }
        }
        tx.commit()
    }
}

/// The statements that make the tables.
fn tables() -> String {
    let sql_type = |kind| match kind {
        Kind::Word => "TEXT",
        Kind::Whole | Kind::Flag => "INTEGER",
        Kind::Real => "REAL",
    };
    let columns: Vec<String> =
        POINT_COLUMNS.iter().map(|c| format!("\"{}\" {}", c.name, sql_type(c.kind))).collect();
    format!(
        "CREATE TABLE runs ({RUNS}); CREATE TABLE points ({}); CREATE INDEX points_run ON points (run);",
        columns.join(", ")
    )
}

/// SQLite's integers end at 2⁶³; the rare one beyond becomes a real number.
fn sql_value(cell: Cell) -> Value {
    match cell {
        Cell::Empty => Value::Null,
        Cell::Word(text) => Value::Text(text),
        Cell::Whole(n) => i64::try_from(n).map_or(Value::Real(n as f64), Value::Integer),
        Cell::Real(x) => Value::Real(x),
        Cell::Flag(yes) => Value::Integer(yes.into()),
    }
}

/// Deletes the index, so that the next one is made from nothing.
pub(crate) fn remove(root: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        files::remove_file(&root.join(format!("{INDEX}{suffix}")))?;
    }
    Ok(())
}

/// Lengths and times of the files a summary is made from.
pub(crate) fn signature(dir: &Path) -> String {
    let one = |name: &str| {
        let Ok(meta) = fs::metadata(dir.join(name)) else { return "-".to_owned() };
        let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        format!("{}@{}", meta.len(), time.map_or(0, |t| t.as_nanos()))
    };
    [run::SPEC, run::STATUS, run::POINTS].map(one).join(" ")
}

/// Reads what the index holds about a run.
pub(crate) fn read(view: &RunView) -> Result<Fresh, StoreError> {
    // The signature is taken first: a change in between makes it stale, never wrong.
    let signature = signature(view.dir());
    let points = view.points()?;
    let summary = RunSummary::new(view, view.progress()?, view.cost()?, &points);
    Ok(Fresh { signature, summary, points })
}
