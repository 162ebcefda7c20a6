//! The `isoflop` binary. Only this crate prints or exits.

// First, for its macros: `println!` and its kin, which do not panic.
#[macro_use]
mod console;

mod cli;
mod exit;
mod progress;
mod signals;
mod summary;
mod terminal;
mod verbs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(words) => return usage(&words),
    };
    match arguments.dispatch() {
        Ok(code) => {
            console::finish();
            code
        }
        Err(error) => {
            let code = exit::code_of(&error);
            let kind = if code > 128 { "interrupted" } else { "error" };
            eprintln!("{kind}: {}", exit::words(&error));
            ExitCode::from(code)
        }
    }
}

/// Help, the version, or what was wrong with the command line.
fn usage(words: &clap::Error) -> ExitCode {
    if words.use_stderr() {
        // With nowhere to say it, the code still tells.
        let _ = words.print();
    } else if let Err(error) = words.print() {
        console::cannot_answer(&error);
    }
    console::finish();
    ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(2))
}
