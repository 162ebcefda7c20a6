//! Whole-command tests: one binary, one module per theme.

mod architecture;
mod arms;
mod bad_input;
mod bench;
mod book;
mod common;
mod cuda;
mod demo;
mod determinism;
mod fewshot;
mod first_steps;
mod instruments;
mod isoflop_study;
mod laws;
mod mix;
mod outputs;
mod points;
mod prepare;
mod resume;
mod small_study;
mod tidy;
mod tokenizer;
mod verbs;
mod watch;
