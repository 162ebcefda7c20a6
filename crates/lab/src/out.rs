//! The output directory of a study: what its files are called, here and nowhere else.

use std::path::{Path, PathBuf};

/// What the study was expected to cost.
pub const PLAN: &str = "plan.json";
/// The preset of a demo begun here.
pub const PRESET: &str = "preset.json";
/// Forecasts of the largest sizes, written before those are trained.
pub const FORECAST: &str = "forecast.json";
/// Finished points.
pub const POINTS: &str = "points.csv";
/// The same, typed.
pub const POINTS_PARQUET: &str = "points.parquet";
/// Training curves.
pub const CURVES: &str = "curves.csv";
/// The fitted laws.
pub const LAW: &str = "law.json";
/// Few-shot: a row for each method and number of shots.
pub const RESULTS: &str = "results.csv";
/// Few-shot: a column for each method, shots and seed, a row for each test episode.
pub const EPISODES: &str = "episodes.csv";
/// Few-shot: the same on pictures that nothing was trained on.
pub const ELSEWHERE: &str = "elsewhere.csv";
/// Few-shot: the page's table for a paper.
pub const TABLE: &str = "table.tex";
/// All that the page shows; from it the same page can be drawn again.
pub const REPORT_INPUT: &str = "report-input.json";
/// The page.
pub const REPORT: &str = "report.html";

/// Replaces a file of the output directory.
///
/// # Errors
/// It cannot be written.
pub fn write(out: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(isoflop_store::write_artifact(out.join(name), bytes)?)
}

/// Where the page is.
pub fn report(out: &Path) -> PathBuf {
    out.join(REPORT)
}
