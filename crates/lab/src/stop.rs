//! A stop that every loop asks for between two pieces of work, with the reason it was asked for.

use crate::error::Stopped;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// How often who is held looks whether it may go on.
const HELD_POLL: Duration = Duration::from_millis(50);

/// What the loops ask between two pieces of work. Clones share one stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The signal, 0 for none: a signal's handler may do no more than store a number.
    signal: Arc<AtomicUsize>,
    /// Another reason; the first one stays.
    other: Arc<Mutex<Option<StopReason>>>,
    /// Work is to wait, for heat or power.
    held: Arc<AtomicBool>,
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

    /// Asks work to wait until [`Stop::release`].
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Lets work go on.
    pub fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
    }

    /// Whether work is to wait.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits while work is held and no stop was asked for.
    pub fn wait_while_held(&self) {
        while self.is_held() && self.reason().is_none() {
            std::thread::sleep(HELD_POLL);
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
    fn who_is_held_waits_until_it_is_released_or_asked_to_stop() {
        let stop = Stop::never();
        stop.wait_while_held();
        stop.hold();
        let other = stop.clone();
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            other.release();
        });
        let started = std::time::Instant::now();
        stop.wait_while_held();
        assert!(started.elapsed() >= Duration::from_millis(50));
        release.join().unwrap();
        stop.hold();
        stop.ask(StopReason::Limit("x".to_owned()));
        stop.wait_while_held();
    }

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
