//! `isoflop completions` and `isoflop man`: what a shell and `man` know of the command line, made from its parser.

use crate::cli::Context;
use crate::console;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap_complete::Generator as _;
use std::path::PathBuf;
use std::process::ExitCode;

const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "nushell", "powershell"];

/// Arguments of `isoflop completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_parser = PossibleValuesParser::new(SHELLS).map(|s| s))]
    shell: String,
}

/// Prints the completions of one shell.
pub(crate) fn completions(args: CompletionsArgs, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    command.set_bin_name("isoflop");
    command.build();
    let mut text = Vec::new();
    match args.shell.as_str() {
        "bash" => clap_complete::Shell::Bash.try_generate(&command, &mut text)?,
        "zsh" => clap_complete::Shell::Zsh.try_generate(&command, &mut text)?,
        "fish" => clap_complete::Shell::Fish.try_generate(&command, &mut text)?,
        "powershell" => clap_complete::Shell::PowerShell.try_generate(&command, &mut text)?,
        _ => clap_complete_nushell::Nushell.try_generate(&command, &mut text)?,
    }
    print!("{}", String::from_utf8(text)?);
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `isoflop man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// A directory for the pages of all verbs [default: the page of isoflop itself on stdout].
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the manual page, or writes those of all verbs.
pub(crate) fn man(args: ManArgs, mut command: clap::Command, ctx: &Context) -> anyhow::Result<ExitCode> {
    command.build();
    let mut pages = Vec::new();
    gather(&command, "isoflop", &mut pages)?;
    let Some(out) = args.out else {
        print!("{}", String::from_utf8(pages.swap_remove(0).1)?);
        return Ok(ExitCode::SUCCESS);
    };
    console::directory(&out, "--out")?;
    let mut files = Vec::new();
    for (name, page) in &pages {
        let file = out.join(format!("{name}.1"));
        console::write_output(&file, page)?;
        files.push(file);
    }
    if ctx.json {
        println!("{}", serde_json::json!({ "schema": "isoflop.man/1", "files": files }));
    } else {
        eprintln!("wrote {} pages into {}", files.len(), out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of those under it, itself first.
fn gather(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let mut page = Vec::new();
    // Dates would make the same program give other bytes.
    clap_mangen::Man::new(command.clone()).date("").render(&mut page)?;
    pages.push((name.to_owned(), page));
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set()) {
        gather(verb, &format!("{name}-{}", verb.get_name()), pages)?;
    }
    Ok(())
}
