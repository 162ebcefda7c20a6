//! One energy counter of the kernel: microjoules that rise, wrap, and sometimes lie.

use crate::System;
use std::path::PathBuf;
use std::time::Instant;

/// More than a package, its memory or a whole desktop can draw: what rises faster was reset, not used.
const PLAUSIBLE_W: f64 = 2000.0;
/// A counter may be updated late by as much.
const UPDATE_S: f64 = 0.1;
/// What a package may draw for long: decides after how long without a reading a second wrap may have been missed.
const SUSTAINED_W: f64 = 1000.0;

/// A counter that has been read once.
#[derive(Debug)]
pub(super) struct Counter {
    path: PathBuf,
    /// It counts 0 ..= range, in µJ.
    range: u64,
    /// The reading it began with.
    pub(super) first: u64,
    last: u64,
    at: Instant,
    /// µJ since the first reading.
    pub(super) total: u64,
}

impl Counter {
    pub(super) fn new(path: PathBuf, range: u64, first: u64, at: Instant) -> Self {
        Self { path, range, first, last: first, at, total: 0 }
    }

    /// Reads it again.
    ///
    /// # Errors
    /// It cannot be read, or what it says cannot be.
    pub(super) fn advance(&mut self, system: &System, now: Instant) -> Result<(), String> {
        let value = system.number(&self.path)?;
        let shown = self.path.display();
        if value > self.range {
            return Err(format!("{shown} holds {value}, more than its range of {} µJ", self.range));
        }
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        if elapsed * SUSTAINED_W * 1e6 > self.range as f64 {
            return Err(format!(
                "{shown} was not read for {elapsed:.0} s, in which it may have wrapped more than once"
            ));
        }
        let rise = match value.checked_sub(self.last) {
            Some(rise) => rise,
            None => self.range - self.last + value + 1,
        };
        if rise as f64 * 1e-6 > (elapsed + UPDATE_S) * PLAUSIBLE_W {
            return Err(format!(
                "{shown} went from {} to {value} µJ in {elapsed:.1} s: it was reset, or is not what it says",
                self.last
            ));
        }
        (self.last, self.at) = (value, now);
        self.total += rise;
        Ok(())
    }
}
