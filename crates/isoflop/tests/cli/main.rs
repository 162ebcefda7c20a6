//! Whole-command tests: one binary, one module per theme.

mod bad_input;
mod common;
