//! The `isoflop` binary. Only this crate prints or exits.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the binary is where people are spoken to")]

mod cli;
mod exit;
mod verbs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().dispatch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
