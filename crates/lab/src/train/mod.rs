//! Training one run: its linear program ([`program`]), its inputs ([`job`]), the loop ([`train_loop`]), held-out loss
//! ([`evaluate`]), what is saved and how it is taken up again ([`resume`]).

pub mod evaluate;
pub mod job;
pub mod program;
pub mod resume;
#[cfg(test)]
mod tests;
pub mod train_loop;
