//! The whole screen of a terminal, given back as it was however the program ends: by a return, a signal, a panic.

use std::io::{self, BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
#[cfg(unix)]
use std::sync::Mutex;

/// How the terminal was before; taken by whoever gives it back first.
#[cfg(unix)]
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether the other screen is shown.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// How long one wait for a key is, so that a signal is heard soon.
const BRIEFLY: Duration = Duration::from_millis(50);

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Letter(char),
    Up,
    Down,
    Escape,
}

/// The screen, until it is dropped.
pub(crate) struct Screen {
    /// What it shows, and of which size it was then.
    shown: (Vec<String>, Option<(usize, usize)>),
}

impl Screen {
    /// Takes the screen: keys come without a line's end and are not shown.
    ///
    /// # Errors
    /// The terminal cannot be set.
    pub(crate) fn enter() -> io::Result<Self> {
        // Whoever panics has words to say, on the screen that stays.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            usual(panic);
        }));
        let screen = Self { shown: (Vec::new(), None) };
        #[cfg(unix)]
        {
            let stdin = io::stdin();
            if let Ok(before) = tcgetattr(&stdin) {
                let mut plain = before.clone();
                // Ctrl-C stays a signal; Ctrl-Z would leave the shell on this screen.
                plain.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
                plain.special_codes[SpecialCodeIndex::VMIN] = 0;
                plain.special_codes[SpecialCodeIndex::VTIME] = 0;
                plain.special_codes[SpecialCodeIndex::VSUSP] = 0;
                *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before);
                tcsetattr(&stdin, OptionalActions::Now, &plain)?;
            }
        }
        SHOWN.store(true, Ordering::SeqCst);
        // No cursor, and lines that are too long for the terminal are cut, not wrapped.
        print!("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J");
        crate::console::finish();
        Ok(screen)
    }

    /// Columns and lines of the terminal.
    pub(crate) fn size() -> Option<(usize, usize)> {
        #[cfg(unix)]
        {
            let size = tcgetwinsize(io::stdout()).ok()?;
            let known = size.ws_col > 0 && size.ws_row > 0;
            known.then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
        }
        #[cfg(not(unix))]
        None
    }

    /// Draws over what is there, in one piece, so that nothing flickers; what is there already is not sent again.
    pub(crate) fn show(&mut self, lines: Vec<String>) {
        let next = (lines, Self::size());
        if next == self.shown {
            return;
        }
        self.shown = next;
        let lines = &self.shown.0;
        let body: Vec<String> = lines.iter().map(|line| format!("{line}\u{1b}[K")).collect();
        print!("\u{1b}[H{}\u{1b}[J", body.join("\r\n"));
        crate::console::finish();
    }

    /// The next key; waits for it so long at most.
    pub(crate) fn key(&self, patience: Duration) -> Option<Key> {
        let until = Instant::now() + patience.max(BRIEFLY).min(4 * BRIEFLY);
        loop {
            if let Some(key) = next_key() {
                return Some(key);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(BRIEFLY / 2);
        }
    }
}

/// The next key of those that have come; over a slow line many come in one piece.
fn next_key() -> Option<Key> {
    if !cfg!(unix) {
        return None;
    }
    let mut stdin = io::stdin().lock();
    loop {
        let (key, used) = first_key(stdin.fill_buf().ok()?);
        if used == 0 {
            return None;
        }
        stdin.consume(used);
        if key.is_some() {
            return key;
        }
    }
}

/// The key that these bytes begin with, if it is one that is known, and how many bytes it has.
fn first_key(bytes: &[u8]) -> (Option<Key>, usize) {
    const ESCAPE: u8 = 0x1b;
    match bytes {
        [] => (None, 0),
        // A terminal's other keys: letters and numbers up to a last letter or `~`.
        [ESCAPE, b'[' | b'O', rest @ ..] => {
            let length =
                rest.iter().position(|b| matches!(b, 0x40..=0x7e)).map_or(rest.len(), |last| last + 1);
            let key = match &rest[..length] {
                b"A" => Some(Key::Up),
                b"B" => Some(Key::Down),
                _ => None,
            };
            (key, 2 + length)
        }
        [ESCAPE, ..] => (Some(Key::Escape), 1),
        [letter, ..] => (letter.is_ascii_graphic().then(|| Key::Letter(char::from(*letter))), 1),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Shows the usual screen and sets the terminal as it was; once.
fn give_back() {
    if SHOWN.swap(false, Ordering::SeqCst) {
        // Not by the macros: those leave the program where they cannot be heard.
        let mut out = io::stdout().lock();
        let _ = out.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = out.flush();
    }
    #[cfg(unix)]
    if let Some(before) = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_in_one_piece_are_all_heard() {
        let all = |mut bytes: &[u8]| {
            let mut keys = Vec::new();
            while let (key, used @ 1..) = first_key(bytes) {
                keys.extend(key);
                bytes = &bytes[used..];
            }
            keys
        };
        let (up, down, escape) = (Key::Up, Key::Down, Key::Escape);
        let letter = Key::Letter;
        for (bytes, keys) in [
            ("", vec![]),
            ("jkq", vec![letter('j'), letter('k'), letter('q')]),
            ("\x1b[A\x1b[B\x1bOBj", vec![up, down, down, letter('j')]),
            ("\x1b", vec![escape]),
            ("\x1bj", vec![escape, letter('j')]),
            ("\x1b[5~\x1b[1;5C\x1bOPl", vec![letter('l')]),
            ("\x1b[1;", vec![]),
            (" \t\r\u{e9}l", vec![letter('l')]),
        ] {
            assert_eq!(all(bytes.as_bytes()), keys, "{bytes:?}");
        }
    }
}
