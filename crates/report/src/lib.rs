//! From results to a page: one self-contained HTML file, its figures as SVG, the claims table, and a plot for the
//! terminal. Pure functions of what they are given: same input, same bytes; no clock, no file, no environment.

pub mod ascii;
pub mod claims;
mod data;
pub mod diagnosis;
pub mod fewshot;
mod figures;
mod html;
mod input;
mod numbers;
mod page;
mod palette;
mod plot;
mod scale;
mod section;
mod svg;

pub use claims::{Ruling, Verdict};
pub use input::{
    Completion, Corpus, Fact, ForecastRow, LearningRate, LedgerRow, Preset, REPORT_SCHEMA, ReportError,
    ReportInput, RunRow, SeedVariance, Totals,
};
pub use section::{Answer, Chart, ChartAxis, ChartPoint, ChartSeries, Grid, Section};

/// The page of a study: one HTML file that needs no network and reads well without JavaScript.
pub fn render(input: &ReportInput) -> String {
    page::study(input)
}

/// The page of any table of points: fits, bands, residuals, isoFLOP valleys, contours. `source` names the table,
/// `made_by` the program and its version.
pub fn render_table_report(
    source: &str,
    made_by: &str,
    table: &isoflop_laws::Table,
    laws: &isoflop_laws::LawDocument,
) -> String {
    page::table(source, made_by, table, laws)
}

/// The same drawing as [`law_svg`], of a table of points.
pub fn table_law_svg(table: &isoflop_laws::Table, laws: &isoflop_laws::LawDocument) -> Option<String> {
    let data = data::Data::of(table);
    let sheet = page::standalone(&data);
    figures::law("law", &data, Some(laws), figures::Against::Params, plot::Width::Wide, &sheet)
}

/// Loss against size as one SVG file that stands alone, in light and dark; `None` when there is nothing to draw.
pub fn law_svg(input: &ReportInput) -> Option<String> {
    let data = data::Data::of(&input.table());
    let sheet = page::standalone(&data);
    figures::law("law", &data, input.laws.as_ref(), figures::Against::Params, plot::Width::Wide, &sheet)
}
