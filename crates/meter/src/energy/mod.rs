//! Energy of the processor packages, from Intel's and AMD's running average power limit counters (RAPL), which Linux
//! shows under `/sys/class/powercap`.
//!
//! What is counted stands in `find.rs`; what is not: graphics cards, drives, fans and the power supply's loss. The
//! counters do not know processes: other programs on the machine are in the figure.

mod counter;
mod estimate;
mod find;

pub use estimate::{Estimate, MachineEnergy};
pub use find::PERMISSION_FIX;

use crate::System;
use counter::Counter;
use find::{Domain, find};
use isoflop_base::Measured;
use std::time::Instant;

/// What the figure covers, in words for a report.
pub const SCOPE: &str = "processor packages and memory (RAPL), all programs on the machine";

/// Two counters this close, as a share, are one.
const MIRROR_SHARE: f64 = 1e-3;
/// They are read one after the other and updated each millisecond: this much, in µJ, is no difference.
const MIRROR_SLACK: f64 = 0.5e6;

/// Joules since it was opened.
///
/// A counter wraps at some 65 to 262 kJ, that is after four minutes of a large server or an hour of a desktop at full
/// power: [`Sampler`](crate::Sampler) reads it often enough. A reading that comes too late for one wrap to be told from
/// two makes the sum missing.
#[derive(Debug)]
pub struct EnergyMeter {
    system: System,
    state: Result<Vec<Domain>, String>,
    /// Of each domain, whether it was seen to differ from all others of its family.
    distinct: Vec<bool>,
    psys: Result<Counter, String>,
}

impl EnergyMeter {
    /// Finds the counters and takes their first reading. Never fails: without counters the energy is missing.
    pub fn open(system: &System) -> Self {
        let (state, psys) = match find(system, Instant::now()) {
            Ok(found) => (Ok(found.domains), found.psys),
            Err(reason) => (Err(reason.clone()), Err(reason)),
        };
        let distinct = vec![false; state.as_ref().map_or(0, Vec::len)];
        Self { system: system.clone(), state, distinct, psys }
    }

    /// Joules since [`EnergyMeter::open`]. Once a counter could not be read, missing for good: a sum with a hole is no
    /// sum.
    pub fn joules(&mut self) -> Measured<f64> {
        self.joules_at(Instant::now())
    }

    fn joules_at(&mut self, now: Instant) -> Measured<f64> {
        if let Ok(domains) = &mut self.state {
            let advanced =
                domains.iter_mut().try_for_each(|domain| domain.counter.advance(&self.system, now));
            if let Err(reason) = advanced {
                self.state = Err(reason);
            }
        }
        match &self.state {
            Err(reason) => Measured::missing(reason.clone()),
            Ok(domains) => {
                let mirrors = mirrors(domains, &mut self.distinct);
                let counted = domains.iter().zip(mirrors).filter(|(_, mirror)| mirror.is_none());
                Measured::measured(counted.map(|(domain, _)| domain.counter.total as f64 * 1e-6).sum())
            }
        }
    }

    /// Joules of the whole board since [`EnergyMeter::open`], where it has a counter (`psys`): the packages are in it,
    /// so it is never added to them.
    pub fn board_joules(&mut self) -> Measured<f64> {
        let now = Instant::now();
        if let Ok(counter) = &mut self.psys
            && let Err(reason) = counter.advance(&self.system, now)
        {
            self.psys = Err(reason);
        }
        match &self.psys {
            Ok(counter) => Measured::measured(counter.total as f64 * 1e-6),
            Err(reason) => Measured::missing(reason.clone()),
        }
    }

    /// The counted domains, such as `package-0`, or why there are none.
    pub fn domains(&self) -> Measured<Vec<String>> {
        match &self.state {
            Ok(domains) => {
                let mirrors = mirrors(domains, &mut self.distinct.clone());
                let counted = domains.iter().zip(mirrors).filter(|(_, mirror)| mirror.is_none());
                Measured::measured(counted.map(|(domain, _)| domain.name.clone()).collect())
            }
            Err(reason) => Measured::missing(reason.clone()),
        }
    }

    /// What was left out of the sum though it is a package or memory, in words.
    pub fn left_out(&self) -> Vec<String> {
        let Ok(domains) = &self.state else { return Vec::new() };
        let mirrors = mirrors(domains, &mut self.distinct.clone());
        let pairs = domains.iter().zip(mirrors);
        pairs
            .filter_map(|(domain, mirror)| {
                Some(format!(
                    "{} shows the counter of {} again and is counted once",
                    domain.name, domains[mirror?].name
                ))
            })
            .collect()
    }
}

/// Of each domain, the earlier one whose counter it shows again: the kernel gives each die of a Zen 1 or 2 socket the
/// counter of the whole socket. They are the same where they began at the same value and rose by the same; once two
/// were seen to differ, they stay two.
fn mirrors(domains: &[Domain], distinct: &mut [bool]) -> Vec<Option<usize>> {
    let same = |a: u64, b: u64| {
        let (a, b) = (a as f64, b as f64);
        (a - b).abs() <= (MIRROR_SHARE * a.max(b)).max(MIRROR_SLACK)
    };
    let mirror = |i: usize| {
        let domain = &domains[i];
        domains[..i].iter().position(|earlier| {
            earlier.family == domain.family
                && same(earlier.counter.first, domain.counter.first)
                && same(earlier.counter.total, domain.counter.total)
        })
    };
    (0..domains.len())
        .map(|i| match distinct[i] {
            true => None,
            false => {
                let mirror = mirror(i);
                distinct[i] = mirror.is_none();
                mirror
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
