//! What is printed, and what happens when it cannot be.
//!
//! The standard `println!` panics when stdout is closed or full, and `eprintln!` when a terminal went away. The
//! macros here take their names for the whole binary: what goes to stdout is the answer, so failing to deliver it
//! ends the program with one line and an exit code; what goes to stderr is talk, and nothing is lost with it.

use crate::exit;
use anyhow::Context as _;
use isoflop_lab::UserError;
use isoflop_store::StoreError;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

macro_rules! print {
    ($($words:tt)*) => { $crate::console::answer(format_args!($($words)*)) };
}
macro_rules! println {
    () => { $crate::console::answer(format_args!("\n")) };
    ($($words:tt)*) => { $crate::console::answer(format_args!("{}\n", format_args!($($words)*))) };
}
macro_rules! eprint {
    ($($words:tt)*) => { $crate::console::tell(format_args!($($words)*)) };
}
macro_rules! eprintln {
    () => { $crate::console::tell(format_args!("\n")) };
    ($($words:tt)*) => { $crate::console::tell(format_args!("{}\n", format_args!($($words)*))) };
}

/// Writes to stdout; leaves if that is impossible.
pub(crate) fn answer(words: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(words) {
        cannot_answer(&error);
    }
}

/// Makes sure that all of the answer has left. Called at the end: what stays in a buffer is lost without a word.
pub(crate) fn finish() {
    if let Err(error) = io::stdout().lock().flush() {
        cannot_answer(&error);
    }
}

/// Leaves: the answer cannot be delivered.
pub(crate) fn cannot_answer(error: &io::Error) -> ! {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // `isoflop runs ls | head` ends when `head` does: no fault of ours, and nobody to tell.
        exit::closed_pipe();
    }
    eprintln!("error: cannot write to stdout: {error}");
    exit::unheard();
}

/// Writes to stderr, or not.
pub(crate) fn tell(words: std::fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(words);
}

/// Whether stderr is a terminal that understands cursor movements: not a dumb one, and nobody asked for plain text.
pub(crate) fn has_a_cursor() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|t| t == "dumb");
    io::stderr().is_terminal() && !plain
}

/// Where an output went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Stdout is taken: what is for people goes to stderr.
    Stdout,
    /// A file, a pipe, a device.
    Path,
}

/// Writes an output where the user asked for it; `-` is stdout, and so is a path that leads to where stdout leads.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_output(path: &Path, bytes: &[u8]) -> anyhow::Result<Place> {
    let fail = || format!("cannot write {}", path.display());
    if is_stdout(path) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            cannot_answer(&error);
        }
        return Ok(Place::Stdout);
    }
    if leads_to(path, "/dev/stderr") {
        io::stderr().lock().write_all(bytes).with_context(fail)?;
        return Ok(Place::Path);
    }
    match isoflop_store::write_artifact(path, bytes) {
        Ok(()) => Ok(Place::Path),
        // The store's hints are for runs, which go on where they were; an answer is asked for again.
        Err(StoreError::NotWritable { source, .. }) => {
            Err(anyhow::anyhow!("{}: {source}\nhint: {}", fail(), output_hint(&source)))
        }
        Err(other) => Err(other.into()),
    }
}

fn output_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk or device is full; free some space, or name another place"
        }
        io::ErrorKind::IsADirectory => "a directory stands there; name a file in it",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a directory is needed; name another place"
        }
        _ => "name a file that you may write to, or - for stdout",
    }
}

/// Whether a path means stdout.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-" || leads_to(path, "/dev/stdout")
}

/// Whether a path is a standard stream by name, or the file or pipe behind it: replacing that file would leave the
/// stream writing into one without a name.
#[cfg(unix)]
fn leads_to(path: &Path, stream: &str) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    if path == Path::new(stream) {
        return true;
    }
    let (Ok(asked), Ok(there)) = (std::fs::metadata(path), std::fs::metadata(stream)) else { return false };
    let kind = asked.file_type();
    (kind.is_file() || kind.is_fifo()) && (asked.dev(), asked.ino()) == (there.dev(), there.ino())
}

#[cfg(not(unix))]
fn leads_to(_path: &Path, _stream: &str) -> bool {
    false
}

/// That a path is meant for a directory.
///
/// # Errors
/// It is `-`: more than one file goes there.
pub(crate) fn directory(path: &Path, flag: &str) -> Result<(), UserError> {
    if path.as_os_str() == "-" {
        return Err(UserError::new(format!("{flag} - is no directory, and several files go there"))
            .hint(format!("name a directory, or write {flag} ./- for one of this name")));
    }
    Ok(())
}
