//! The laboratory: from a study's file to runs, points, a law and a page.
//!
//! will cost in [`plan`]; [`conduct`] goes through its stages; one run is trained by the loop in
//! [`train::train_loop`]; what happens on the way is told to a [`record::Recorder`].
//!
//! This room may read the clock and the machine. It never prints and never exits: what is to be said are
//! [`record::Event`]s, what went wrong are errors, a [`error::UserError`] where the user can mend it.

#![allow(
    missing_docs,
    reason = "types and functions are documented; fields whose names say all need no echo"
)]

pub mod audit;
pub mod clock;
pub mod collect;
pub mod conduct;
pub mod draft;
pub mod environment;
pub mod error;
pub mod executor;
pub mod fewshot;
pub mod forecasts;
pub mod gpt;
pub mod hf_config;
pub mod input;
pub mod instruments;
pub mod kinds;
pub mod machine;
pub mod noise;
pub mod open;
pub mod out;
pub mod page;
pub mod plan;
pub mod prepare;
pub mod record;
pub mod registry;
pub mod sampling;
pub mod sources;
pub mod spending;
pub mod stop;
pub mod study;
pub mod tables;
pub mod task;
pub mod train;
pub mod widths;

pub use error::{Stopped, UserError};
pub use record::{Event, Recorder};
pub use stop::{Stop, StopReason};
