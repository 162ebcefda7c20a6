//! The `isoflop` binary. Only this crate prints or exits.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the binary is where people are spoken to")]

mod cli;
mod exit;
mod progress;
mod signals;
mod summary;
mod verbs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    leave_quietly_when_nobody_reads();
    match cli::Cli::parse().dispatch() {
        Ok(code) => code,
        Err(error) => {
            let code = exit::code_of(&error);
            let kind = if code > 128 { "interrupted" } else { "error" };
            eprintln!("{kind}: {}", exit::words(&error));
            ExitCode::from(code)
        }
    }
}

/// `isoflop runs ls | head` ends when `head` does: a closed pipe is no fault of ours. `println!` panics on it.
fn leave_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to std") && message.contains("Broken pipe") {
            exit::closed_pipe();
        }
        usual(panic);
    }));
}
