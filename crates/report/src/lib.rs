//! From results to a page: one self-contained HTML file, its figures as SVG, the claims table, and a plot for the
//! terminal. Pure functions of what they are given: same input, same bytes; no clock, no file, no environment.

pub mod ascii;
pub mod claims;
mod input;

pub use input::{
    Completion, Corpus, Fact, Forecast, LearningRate, LedgerRow, Outcome, Preset, REPORT_SCHEMA, ReportError,
    ReportInput, RunRow, SeedVariance, SweepRow, Totals,
};

/// The page of a study: one HTML file that needs no network and reads well without JavaScript.
pub fn render(input: &ReportInput) -> String {
    format!("<!doctype html>\n<title>{}</title>\n", input.title)
}
