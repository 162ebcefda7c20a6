//! From a form and rows to an optimum with its uncertainty: start at [`fit::fit_form`].

pub mod bootstrap;
pub mod data;
pub(crate) mod evidence;
pub mod fit;
pub(crate) mod fitted;
mod holdout;
mod intervals;
pub mod minimise;
pub mod penalty;
pub mod profile;
pub(crate) mod residuals;
pub mod search;
pub mod straight;
mod variance;
pub mod varpro;
pub mod verdict;

pub use fit::fit_form;
pub use fitted::Setting;
