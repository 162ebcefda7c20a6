//! `isoflop top`: a store's runs in the terminal.

use super::watch::store_of;
use crate::cli::Context;
use crate::signals;
use crate::terminal::{Key, Screen};
use isoflop_lab::Stopped;
use isoflop_watch::frame::{Look, frame};
use isoflop_watch::message::{self, Detail, Laws};
use isoflop_watch::store::Seen;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Columns and lines where nobody says how many there are.
const USUAL: (usize, usize) = (80, 30);
/// Time between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `isoflop top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// The store, or the output directory of a study with a store inside [default: --store].
    #[arg(value_name = "RUNS_DIR")]
    runs: Option<PathBuf>,
    /// Print one picture as plain text and leave; so does a pipe.
    #[arg(long)]
    once: bool,
    /// Columns [default: the terminal's, or 80].
    #[arg(long, value_name = "N")]
    columns: Option<usize>,
    /// Lines [default: the terminal's, or 30].
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// Plain ASCII instead of Braille.
    #[arg(long)]
    ascii: bool,
}

/// Runs the verb.
pub(crate) fn run(args: TopArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut seen = Seen::new(store_of(args.runs.as_deref(), ctx)?);
    let stop = signals::listen()?;
    let terminal = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|t| t != "dumb");
    let (columns, lines) = (args.columns, args.lines);
    let look = move |chosen: Option<usize>, log: bool, colour: bool| {
        let (width, height) = Screen::size().unwrap_or(USUAL);
        Look {
            width: columns.unwrap_or(width),
            height: lines.unwrap_or(height),
            colour,
            unicode: !args.ascii,
            log,
            chosen,
        }
    };
    if args.once || ctx.json || !terminal {
        while seen.look() {
            if let Some(reason) = stop.reason() {
                return Err(Stopped(reason).into());
            }
        }
        if ctx.json {
            println!("{}", message::whole(&seen, &Laws::new(), Detail::First));
        } else {
            let height = lines.unwrap_or(USUAL.1);
            let picture = frame(&seen, now(), Look { height, ..look(None, true, false) });
            println!("{}", picture.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let mut screen = Screen::enter()?;
    let (mut chosen, mut log) = (None::<usize>, true);
    let mut next_look = Instant::now();
    loop {
        if let Some(reason) = stop.reason() {
            drop(screen);
            return Err(Stopped(reason).into());
        }
        if Instant::now() >= next_look {
            // Of a large store a piece at a time: what is read is shown.
            let more = seen.look();
            next_look = Instant::now() + if more { Duration::ZERO } else { LOOK_EVERY };
        }
        let mut picture = frame(&seen, now(), look(chosen, log, colour));
        picture.truncate(look(None, log, colour).height);
        screen.show(picture);
        let patience = next_look.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
        match screen.key(patience) {
            Some(Key::Letter('q')) => return Ok(ExitCode::SUCCESS),
            Some(Key::Letter('l')) => log = !log,
            Some(Key::Down | Key::Letter('j')) => {
                chosen = Some(chosen.map_or(0, |c| (c + 1).min(seen.num_runs().saturating_sub(1))));
            }
            Some(Key::Up | Key::Letter('k')) => chosen = chosen.and_then(|c| c.checked_sub(1)),
            Some(Key::Escape) => chosen = None,
            _ => {}
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
