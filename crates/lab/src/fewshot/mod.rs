//! The few-shot laboratory: the same backbone, the same start, the same episodes for every method.
//!
//! ```text
//!   study file ─study─▶ values ─runs─▶ pre-training, then a head each ─task, train_loop─▶ checkpoints
//!                                                    test episodes ─evaluate─▶ accuracies ─results─▶ table, page
//! ```
//!
//! Runs are runs like any other: a directory each in the store, resumed bit for bit, with the same ledger and curves.

pub mod claims;
pub mod conduct;
pub mod cost;
pub mod drawn;
pub mod evaluate;
pub mod open;
pub mod pages;
pub mod pictures;
pub mod predict;
pub mod results;
pub mod runs;
pub mod spent;
pub mod study;
pub mod sweeps;
pub mod task;
pub mod vocabulary;
