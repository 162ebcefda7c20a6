//! The whole screen of a terminal, given back as it was however the program ends: by a return, a signal, a panic.

use std::io::{self, Read as _, Write as _};
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
pub(crate) struct Screen(());

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
        let screen = Self(());
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
        print!("\u{1b}[?1049h\u{1b}[?25l\u{1b}[2J");
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

    /// Draws over what is there, in one piece, so that nothing flickers.
    pub(crate) fn show(&self, lines: &[String]) {
        let body: Vec<String> = lines.iter().map(|line| format!("{line}\u{1b}[K")).collect();
        print!("\u{1b}[H{}\u{1b}[J", body.join("\r\n"));
        crate::console::finish();
    }

    /// The next key; waits for it so long at most.
    pub(crate) fn key(&self, patience: Duration) -> Option<Key> {
        let until = Instant::now() + patience.max(BRIEFLY).min(4 * BRIEFLY);
        loop {
            let mut bytes = [0u8; 8];
            let read = if cfg!(unix) { io::stdin().lock().read(&mut bytes).unwrap_or(0) } else { 0 };
            match &bytes[..read] {
                [b'\x1b', b'[', b'A', ..] => return Some(Key::Up),
                [b'\x1b', b'[', b'B', ..] => return Some(Key::Down),
                [b'\x1b'] => return Some(Key::Escape),
                [letter, ..] if letter.is_ascii_graphic() => return Some(Key::Letter(char::from(*letter))),
                _ => {}
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(BRIEFLY / 2);
        }
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
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = out.flush();
    }
    #[cfg(unix)]
    if let Some(before) = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}
