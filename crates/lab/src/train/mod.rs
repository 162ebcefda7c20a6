//! Training one run: the loop ([`train_loop`]), its linear program ([`program`]), where it stands ([`state`]), what it
//! costs ([`laps`]), and how it is saved and taken up again ([`checkpoint`]).

pub(crate) mod checkpoint;
pub mod laps;
mod point;
pub mod program;
pub mod state;
#[cfg(test)]
mod tests;
pub mod train_loop;
