//! What a study will take before it runs: time, FLOPs and disk ([`cost`]), and whether it fits into memory
//! ([`memory`]).

pub mod cost;
pub mod memory;

pub use cost::{Plan, PlanRow, ShapePlan, Speed, plan, time_sizes};
