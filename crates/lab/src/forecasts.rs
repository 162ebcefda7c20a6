//! Forecasts of the two largest sizes, written down before they are trained and never changed after.

use crate::collect;
use crate::out as files;
use anyhow::Context as _;
use isoflop_base::bits::hex;
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::units::si;
use isoflop_base::{Point, RunIdentity};
use isoflop_laws::{Forecast, Options, Target};
use isoflop_report::ForecastRow;
use isoflop_store::Collected;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// One forecast as it was written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredForecast {
    /// The run it is about.
    pub run: String,
    /// The token count of the point it is about.
    pub tokens: u64,
    /// What it was made from, in words.
    pub made_from: String,
    /// When, UTC.
    pub made_at: String,
    /// The forecast.
    pub forecast: Forecast,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    study: String,
    /// Hash of what determines the study's runs: a forecast holds for these alone.
    runs_sha256: String,
    forecasts: Vec<StoredForecast>,
}

const SCHEMA: &str = "isoflop.forecast/1";

impl StoredForecast {
    /// As the report shows it, with the outcome once there is one.
    pub fn row(self, points: &[Point]) -> ForecastRow {
        let point = points.iter().find(|p| p.run == self.run && p.tokens == self.tokens);
        let mut forecast = self.forecast;
        forecast.outcome = point.map(|p| isoflop_laws::outcome(&forecast, p.loss));
        ForecastRow {
            name: self.run,
            made_from: self.made_from,
            made_at: Some(self.made_at),
            forecast,
            outcome_se: point.and_then(|p| p.loss_se),
        }
    }

    /// One line for the terminal.
    pub fn line(&self) -> String {
        let f = &self.forecast;
        let ends = match (f.lo, f.hi) {
            (Some(lo), Some(hi)) => format!("{lo:.4} to {hi:.4} at {:.0} %", 100.0 * f.level),
            _ => "no interval".to_owned(),
        };
        format!("forecast for {} at {} tokens: loss {:.4} ({ends})", self.run, si(self.tokens as f64), f.loss)
    }
}

/// What was written down before, if anything.
pub fn read(out: &Path, study: &Study) -> anyhow::Result<Option<Vec<StoredForecast>>> {
    let path = out.join(files::FORECAST);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("reading {}", path.display()))?,
    };
    let document: Document = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} cannot be read\nhint: move it away; a new one is made only before the largest sizes are \
                 trained",
            path.display()
        )
    })?;
    Ok((document.runs_sha256 == runs_sha256(study)).then_some(document.forecasts))
}

/// Makes forecasts from the finished small sizes and writes them down.
pub fn make(
    study: &Study,
    small: &Collected,
    large: &[&RunSpec],
    out: &Path,
) -> anyhow::Result<Vec<StoredForecast>> {
    let mut targets: Vec<&RunSpec> = Vec::new();
    for &run in large {
        if !targets.iter().any(|t| t.model == run.model) {
            targets.push(run);
        }
    }
    let wanted: Vec<Target> = targets
        .iter()
        .map(|run| Target { n: run.model.params() as f64, d: run.tokens_at(run.end()) as f64 })
        .collect();
    let options = Options { threads: study.machine.threads, ..Options::default() };
    let table = collect::table(small);
    let forecasts = isoflop_laws::forecast(&table, &wanted, &options)?;
    let made_at = crate::clock::now_utc();
    let sizes = table.levels("n");
    let made_from = format!(
        "{} finished points of {} sizes, {} to {}",
        table.rows.len(),
        sizes.len(),
        si(sizes.first().copied().unwrap_or(0.0)),
        si(sizes.last().copied().unwrap_or(0.0))
    );
    let stored: Vec<StoredForecast> = targets
        .iter()
        .zip(forecasts)
        .map(|(run, forecast)| StoredForecast {
            run: run.id.clone(),
            tokens: run.tokens_at(run.end()),
            made_from: made_from.clone(),
            made_at: made_at.clone(),
            forecast,
        })
        .collect();
    let document = Document {
        schema: SCHEMA.to_owned(),
        study: study.name.clone(),
        runs_sha256: runs_sha256(study),
        forecasts: stored.clone(),
    };
    files::write(out, files::FORECAST, serde_json::to_string_pretty(&document)?.as_bytes())?;
    Ok(stored)
}

fn runs_sha256(study: &Study) -> String {
    let mut hash = Sha256::new();
    for run in &study.runs {
        hash.update(serde_json::json!([run.id, RunIdentity::of(run), run.ends]).to_string());
    }
    hex(&hash.finalize())
}
