//! The `isoflop` binary. Only this crate prints or exits.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the binary is where people are spoken to")]

mod artifacts;
mod cli;
mod clock;
mod conduct;
mod executor;
mod exit;
mod fitting;
mod forecasts;
mod hf_config;
mod plan;
mod progress;
mod sampling;
mod signals;
mod study;
mod summary;
mod train;
mod verbs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().dispatch() {
        Ok(code) => code,
        Err(error) => {
            let code = exit::code_of(&error);
            let kind = if code > 128 { "interrupted" } else { "error" };
            eprintln!("{kind}: {error:#}");
            ExitCode::from(code)
        }
    }
}
