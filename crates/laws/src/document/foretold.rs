//! What the law of some sizes says of the others.

use serde::{Deserialize, Serialize};

/// What L(N) of the smallest sizes said of the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// D of all of them.
    pub tokens: f64,
    /// How many sizes the law was fitted to.
    pub sizes: usize,
    /// N of the next.
    pub n: f64,
    /// The loss it was told.
    pub forecast: f64,
    /// Lower end of the interval of one new run.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Measured: mean over its seeds.
    pub observed: f64,
    /// Its seeds.
    pub seeds: usize,
    /// The interval holds what was measured.
    pub hit: bool,
    /// measured / forecast − 1.
    pub relative_error: f64,
}

/// What L(N) of all other sizes says of one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// D of all of them.
    pub tokens: f64,
    /// Its N.
    pub n: f64,
    /// The loss the others expect.
    pub expected: f64,
    /// Lower end of the interval of one new run.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Measured: mean over its seeds.
    pub observed: f64,
    /// Its seeds.
    pub seeds: usize,
    /// `on the line`, `looks untuned` (above the interval), `better than the others say`, `cannot tell`.
    pub ruling: String,
}
