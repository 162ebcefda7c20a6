//! Scaling laws: functional forms, fitting with honest intervals, forecasts, and which runs would tell most.
//!
//! Pure: no file, no clock, no environment, and the same bytes out whatever the thread count. A [`Table`] of rows
//! goes in, a [`document::LawDocument`] comes out. Sizes are counts (parameters, tokens, FLOPs), losses in the
//! table's unit, logarithms natural.
//!
//! The way through: [`read`] makes a [`Table`]; [`fit_table::fit`] fits every law its columns allow; each goes
//! through [`fitting::fit_form`] (`fitting/fit.rs`: the fit of L(N, D), and of all others), with the law itself as
//! data in [`forms`] (`forms/chinchilla.rs`). Each room uses only those above it in this list:
//!
//! | room | what it holds |
//! |---|---|
//! | [`numeric`] | arithmetic with the same bits everywhere: linear algebra, quantiles, random numbers |
//! | [`document`] | `law.json` |
//! | [`table`] | rows; repeated seeds, paired blocks, critical batches |
//! | [`read`] | tables as people have them |
//! | [`forms`] | the laws of the literature, one file each |
//! | [`fitting`] | from a form and rows to an optimum, its intervals and verdicts |
//! | [`allocation`] | where a budget is best spent, by three approaches |
//! | [`forecast`](mod@forecast), [`rollout`](mod@rollout) | runs that are not there yet; sizes as if they were not |
//! | [`fit_table`] | all the laws of a table, and which of them the data support |
//! | [`design`] | which runs would tell most |
//! | [`arms`] | arms of a study against each other: means, slopes, sweeps |
//! | [`text`] | a document as people read it |

pub mod allocation;
pub mod arms;
pub mod design;
pub mod document;
pub mod error;
pub mod fit_table;
pub mod fitting;
pub mod forecast;
pub mod forms;
pub mod numeric;
pub mod options;
pub mod read;
pub mod recipes;
pub mod rollout;
pub mod table;
pub mod text;

pub use document::{FitRecord, Forecast, LawDocument, PairedDifference, ParamEstimate, Straightness};
pub use error::LawError;
pub use fit_table::{Progress, fit, fit_points, fit_watched};
pub use fitting::straight::straightness;
pub use forecast::{Band, Target, evaluate, forecast, outcome};
pub use forms::kaplan_figures;
pub use numeric::quantile::t_quantile;
pub use options::{Loss, Options};
pub use read::{Cell, Decimal, Raw, ReadOptions, read_table, table_of};
pub use table::critical::{self, CriticalBatch};
pub use table::paired::{clustered_mean, paired_difference, paired_differences};
pub use table::{Row, Table};
