//! Forecasts registered in a store: each written down before the run that tests it, with its date and hash, and shown
//! with its outcome on every page of that store's runs.

use isoflop_base::bits::hex;
use isoflop_base::units::si;
use isoflop_laws::table::same_level;
use isoflop_laws::{Forecast, Table};
use isoflop_report::ForecastRow;
use isoflop_store::{Collected, Store};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const SCHEMA: &str = "isoflop.registered/1";
/// Folder of a store that holds them.
const FOLDER: &str = "forecasts";

/// A forecast as it was written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Registered {
    schema: String,
    made_at: String,
    /// SHA-256 of the forecast and the date, so that a later change shows.
    sha256: String,
    made_from: String,
    forecast: Forecast,
}

fn hash(made_at: &str, forecast: &Forecast) -> anyhow::Result<String> {
    Ok(hex(&Sha256::digest(serde_json::to_vec(&(made_at, forecast))?)))
}

/// Writes a forecast down in the store, and says where.
///
/// # Errors
/// The store cannot be written.
pub fn register(forecast: &Forecast, table: &Table, store: &Store) -> anyhow::Result<PathBuf> {
    let made_at = crate::clock::now_utc();
    let sha256 = hash(&made_at, forecast)?;
    let largest = table.levels("n").last().copied().unwrap_or(0.0);
    let made_from = format!("{} rows, N up to {}", table.rows.len(), si(largest));
    let name = Path::new(FOLDER).join(format!("{}.json", &sha256[..16]));
    let record =
        Registered { schema: SCHEMA.to_owned(), made_at, sha256, made_from, forecast: forecast.clone() };
    store.write_artifact(&name, serde_json::to_string_pretty(&record)?.as_bytes())?;
    Ok(store.root().join(name))
}

/// The registered forecasts of a store with what came of them in its finished runs, oldest first. A file that was
/// changed since is left out and named in the second list.
pub fn registered(store: &Path, collected: &Collected) -> (Vec<ForecastRow>, Vec<String>) {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    let Ok(entries) = std::fs::read_dir(store.join(FOLDER)) else { return (rows, notes) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let record =
            std::fs::read_to_string(path).ok().and_then(|t| serde_json::from_str::<Registered>(&t).ok());
        match record.filter(|r| hash(&r.made_at, &r.forecast).is_ok_and(|h| h == r.sha256)) {
            Some(record) => rows.push(row(record, collected)),
            None => notes.push(format!(
                "the registered forecast {} was changed since, and is not shown",
                path.display()
            )),
        }
    }
    rows.sort_by(|a, b| a.made_at.cmp(&b.made_at));
    (rows, notes)
}

/// A forecast as the page shows it, with the outcome once a run of its N and D is done.
fn row(record: Registered, collected: &Collected) -> ForecastRow {
    let mut forecast = record.forecast;
    let mut finished = collected.runs.iter().filter(|run| run.is_done()).flat_map(|run| &run.points);
    let point = finished.find(|p| {
        forecast.n.is_some_and(|n| same_level(n, p.params as f64))
            && forecast.d.is_some_and(|d| same_level(d, p.tokens as f64))
    });
    forecast.outcome = point.map(|p| isoflop_laws::outcome(&forecast, p.loss));
    let size = |v: Option<f64>| v.map_or_else(|| "?".to_owned(), si);
    let name = match point {
        Some(point) => point.run.clone(),
        None => format!("N {} D {}", size(forecast.n), size(forecast.d)),
    };
    ForecastRow {
        name,
        made_from: record.made_from,
        made_at: Some(record.made_at),
        forecast,
        outcome_se: point.and_then(|p| p.loss_se),
    }
}
