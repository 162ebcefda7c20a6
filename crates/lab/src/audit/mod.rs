//! What follows from the figures of a reported run, and which of them contradict each other: the reasoning of
//! `isoflop audit`.

pub mod arithmetic;
pub mod quantity;
