//! Whole-command tests: one binary, one module per theme.

mod architecture;
mod bad_input;
mod common;
mod tidy;
