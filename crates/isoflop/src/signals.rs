//! SIGINT and SIGTERM: the first asks every loop to save and leave, a second stops at once.

use crate::exit::Interrupted;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the loops ask between two pieces of work.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens for both signals from now on.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let stop = Self::never();
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds `again` set by the first and ends the process then and there.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            signal_hook::flag::register(signal, Arc::clone(&again))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), signal as usize)?;
        }
        Ok(stop)
    }

    /// Asks nobody; for tests and one-shot work.
    pub(crate) fn never() -> Self {
        Self { signal: Arc::new(AtomicUsize::new(0)) }
    }

    /// An error to leave with, once a signal has come.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted { signal: signal as u8 }),
        }
    }

    /// As if `signal` had come.
    #[cfg(test)]
    pub(crate) fn raise(&self, signal: usize) {
        self.signal.store(signal, Ordering::Relaxed);
    }
}
