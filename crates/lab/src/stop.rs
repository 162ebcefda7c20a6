//! A stop that every loop asks for between two pieces of work, with the reason it was asked for.

use crate::error::Stopped;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Why work is to end before it is done. What was done is saved, and the same command goes on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The process was sent this signal, 2 or 15.
    Signal(u8),
    /// A limit the user set was reached, in words: `4.0 h of 4.0 h`.
    Limit(String),
    /// Something was seen that needs a person, in words.
    Alarm(String),
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::Limit(words) => write!(f, "limit reached: {words}"),
            Self::Alarm(words) => write!(f, "alarm: {words}"),
        }
    }
}

/// What the loops ask between two pieces of work. Clones share one stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The signal, 0 for none: a signal's handler may do no more than store a number.
    signal: Arc<AtomicUsize>,
    /// Another reason; the first one stays.
    other: Arc<Mutex<Option<StopReason>>>,
}

impl Stop {
    /// Nobody has asked yet.
    pub fn never() -> Self {
        Self::default()
    }

    /// Where a signal handler stores the number of its signal.
    pub fn signal_cell(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.signal)
    }

    /// Asks for the stop. The first reason is kept.
    pub fn ask(&self, reason: StopReason) {
        if let StopReason::Signal(number) = reason {
            let _ = self.signal.compare_exchange(0, number.into(), Ordering::Relaxed, Ordering::Relaxed);
            return;
        }
        let mut other = self.other.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        other.get_or_insert(reason);
    }

    /// The reason, once there is one; a signal before all others.
    pub fn reason(&self) -> Option<StopReason> {
        match self.signal.load(Ordering::Relaxed) {
            0 => self.other.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
            signal => Some(StopReason::Signal(signal as u8)),
        }
    }

    /// An error to leave with, once a stop was asked for.
    ///
    /// # Errors
    /// [`Stopped`] with the reason.
    pub fn check(&self) -> Result<(), Stopped> {
        self.reason().map_or(Ok(()), |reason| Err(Stopped(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_a_signal_comes_before_it() {
        let stop = Stop::never();
        assert_eq!(stop.check(), Ok(()));
        stop.ask(StopReason::Limit("3 kWh".to_owned()));
        stop.clone().ask(StopReason::Alarm("loss".to_owned()));
        assert_eq!(stop.check(), Err(Stopped(StopReason::Limit("3 kWh".to_owned()))));
        stop.signal_cell().store(15, Ordering::Relaxed);
        assert_eq!(stop.check(), Err(Stopped(StopReason::Signal(15))));
        assert_eq!(stop.check().unwrap_err().to_string(), "signal 15");
    }
}
