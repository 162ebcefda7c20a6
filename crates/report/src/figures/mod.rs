//! The figures, each a pure function from data to one SVG drawing, or `None` when there is nothing to draw.

mod allocation;
mod chart;
mod compute;
mod curves;
mod forecast;
mod law;
mod small;

pub(crate) use allocation::{contours, valleys};
pub(crate) use chart::chart;
pub(crate) use compute::compute;
pub(crate) use curves::training_curves;
pub(crate) use forecast::forecasts;
pub(crate) use law::{Against, law};
pub(crate) use small::{alpha_by_tokens, ledger_ratio, residuals};
