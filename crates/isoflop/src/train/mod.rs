//! Training one run: its linear program ([`program`]), its inputs ([`job`]), the loop ([`train_loop`]), held-out loss
//! ([`evaluate`]), what is saved and how it is taken up again ([`resume`]).

pub(crate) mod evaluate;
pub(crate) mod job;
pub(crate) mod program;
pub(crate) mod resume;
#[cfg(test)]
mod tests;
pub(crate) mod train_loop;
