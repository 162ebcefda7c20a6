//! Scaling laws: functional forms, fitting with honest intervals, forecasts, and which runs would tell most.
//!
//! Pure: no file, no clock, no environment, and the same bytes out whatever the thread count. A [`Table`] of rows goes in, a
//! [`document::LawDocument`] comes out. Sizes are counts (parameters, tokens, FLOPs), losses in the table's unit, logarithms natural.

pub mod allocation;
pub mod compare;
pub mod critical;
pub mod design;
pub mod document;
pub mod error;
pub mod fitting;
pub mod forecast;
pub mod forms;
pub mod judge;
pub mod kaplan_figures;
pub mod numeric;
pub mod options;
pub mod paired;
pub mod read;
pub mod record;
mod scrub;
pub mod seeds;
pub mod series;
pub mod straight;
pub mod table;
pub mod text;

pub use critical::CriticalBatch;
pub use document::{FitRecord, Forecast, LawDocument, PairedDifference, ParamEstimate, Straightness};
pub use error::LawError;
pub use forecast::{Band, Target, evaluate, forecast, outcome};
pub use options::{Loss, Options};
pub use paired::{clustered_mean, paired_difference, paired_differences};
pub use read::{Cell, Raw, ReadOptions, read_table, table_of};
pub use series::fit;
pub use straight::straightness;
pub use table::{Row, Table};
