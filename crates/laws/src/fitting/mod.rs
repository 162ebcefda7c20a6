//! From a form and rows to an optimum with its uncertainty.

pub mod bootstrap;
pub mod data;
pub mod minimise;
pub mod penalty;
pub mod profile;
pub mod search;
pub mod varpro;
