//! A section that a kind of study writes: words, tables and pictures as plain data, drawn like the rest of the page.

use serde::{Deserialize, Serialize};

/// What a study found: the first things its page says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The page's heading: the answer to the study's question in one sentence, without a full stop.
    pub title: String,
    /// The answer with its intervals, a paragraph each.
    pub words: Vec<String>,
}

/// A section of the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Section {
    /// Its anchor on the page.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What it says, a paragraph each; the answer comes first.
    pub paragraphs: Vec<String>,
    /// Its pictures.
    pub charts: Vec<Chart>,
    /// Its tables.
    pub tables: Vec<Grid>,
}

/// A picture of series over two axes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// The horizontal axis.
    pub x: ChartAxis,
    /// The vertical axis.
    pub y: ChartAxis,
    /// What is drawn.
    pub series: Vec<ChartSeries>,
}

/// An axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChartAxis {
    /// Quantity and unit.
    pub label: String,
    /// Whether it is logarithmic.
    pub log: bool,
}

/// Points, a line, or both, under one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChartSeries {
    /// Its name in the key.
    pub name: String,
    /// Measured points.
    pub points: Vec<ChartPoint>,
    /// Corners of a line, by rising x where it is a fitted one. A corner whose y is no number lifts the pen: nothing
    /// joins what is before it to what comes after.
    #[serde(deserialize_with = "corners")]
    pub line: Vec<(f64, f64)>,
}

/// Corners, with NaN for the `null` that JSON has in its place.
fn corners<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(f64, f64)>, D::Error> {
    let read = Vec::<(f64, Option<f64>)>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(x, y)| (x, y.unwrap_or(f64::NAN))).collect())
}

/// A measured point with its interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChartPoint {
    /// Horizontal.
    pub x: f64,
    /// Vertical.
    pub y: f64,
    /// Ends of the vertical interval, if there is one.
    pub interval: Option<(f64, f64)>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grid {
    /// What it shows.
    pub caption: String,
    /// Its headings; the first column holds words, the others numbers.
    pub columns: Vec<String>,
    /// Its rows, a cell per column.
    pub rows: Vec<Vec<String>>,
}
