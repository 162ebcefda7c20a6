//! Graphics cards: NVIDIA's by its management library (`nvml.rs`), by `nvidia-smi` where that is missing (`smi.rs`);
//! AMD's by what their driver shows in sysfs (`amd.rs`).
//!
//! A card's energy is that of the whole card, whoever uses it: no interface splits it by process or by instance.

mod amd;
mod energy;
mod nvml;
mod smi;

use crate::System;
use energy::CardEnergy;
use isoflop_base::Measured;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One card.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// What told us of it: `NVML`, `nvidia-smi`, `amdgpu`.
    pub by: &'static str,
    /// Its driver.
    pub driver: Measured<String>,
    /// Memory, bytes.
    pub memory_total: Measured<u64>,
    /// Memory in use, bytes.
    pub memory_used: Measured<u64>,
    /// Draw now, watts.
    pub power_w: Measured<f64>,
    /// Limit, watts.
    pub power_limit_w: Measured<f64>,
    /// Degrees Celsius.
    pub celsius: Measured<f64>,
    /// Share of the last sample in which a kernel ran, 0 to 1.
    pub utilisation: Measured<f64>,
    /// Clock of its processors, MHz.
    pub clock_mhz: Measured<f64>,
    /// Speed of its fans as a share of the highest, 0 to 1; of several the fastest.
    pub fan: Measured<f64>,
    /// Why it runs slower than it could, in the driver's terms; empty if it does not.
    pub throttle: Measured<Vec<String>>,
    /// Its own energy counter, joules since some fixed moment.
    pub counter_j: Measured<f64>,
    /// Instances it is divided into; what is read here is of the whole card.
    pub instances: Measured<u32>,
    /// Joules since [`Gpus::open`].
    pub energy_j: Measured<f64>,
}

/// The cards of this machine, kept open.
#[derive(Debug)]
pub struct Gpus {
    system: System,
    nvidia: Nvidia,
    energy: Vec<CardEnergy>,
    /// The last answer of the program, and when: it takes too long to be asked each time.
    asked: Option<(Instant, Measured<Vec<Gpu>>)>,
    /// When the cards were last read whole.
    read_at: Option<Instant>,
}

#[derive(Debug)]
enum Nvidia {
    Library(Box<nvml::Library>),
    /// Why the library is not there.
    Program(String),
}

/// Two readings of all cards lie no further apart than this while somebody asks for joules.
const WHOLE_EVERY: Duration = Duration::from_secs(10);
/// How long an answer of `nvidia-smi` serves.
const ANSWER_SERVES: Duration = Duration::from_secs(10);

impl Gpus {
    /// Looks for cards. Never fails: without any they are missing.
    pub fn open(system: &System) -> Self {
        Self::open_with(system, &nvml::library_paths())
    }

    fn open_with(system: &System, libraries: &[PathBuf]) -> Self {
        let nvidia = match nvml::Library::load(libraries) {
            Ok(library) => Nvidia::Library(Box::new(library)),
            Err(reason) => Nvidia::Program(reason),
        };
        let mut cards =
            Self { system: system.clone(), nvidia, energy: Vec::new(), asked: None, read_at: None };
        // Joules count from here.
        let _ = cards.read();
        cards
    }

    /// All cards as they are now, NVIDIA's first; missing where there is none.
    pub fn read(&mut self) -> Measured<Vec<Gpu>> {
        let now = Instant::now();
        let nvidia = match &self.nvidia {
            Nvidia::Library(library) => library.read(),
            Nvidia::Program(no_library) => {
                let fresh = self.asked.as_ref().filter(|(at, _)| now - *at < ANSWER_SERVES);
                match fresh {
                    Some((_, answer)) => answer.clone(),
                    None => {
                        let answer = match smi::read() {
                            Measured::Missing { reason } => {
                                Measured::missing(format!("{no_library}; {reason}"))
                            }
                            answer => answer,
                        };
                        self.asked = Some((now, answer.clone()));
                        answer
                    }
                }
            }
        };
        let amd = amd::read(&self.system);
        let mut cards = match nvidia {
            Measured::Missing { reason } if amd.is_empty() => return Measured::missing(reason),
            Measured::Missing { .. } => Vec::new(),
            Measured::Measured { value } | Measured::Estimated { value, .. } => value,
        };
        cards.extend(amd);
        if self.energy.len() != cards.len() {
            // A card came or went: which counter is whose is not known any more.
            self.energy = cards.iter().map(|card| CardEnergy::begin(card, now)).collect();
        }
        for (card, energy) in cards.iter_mut().zip(&mut self.energy) {
            card.energy_j = energy.advance(&card.counter_j, &card.power_w, now);
        }
        self.read_at = Some(now);
        Measured::measured(cards)
    }

    /// Joules of all cards since [`Gpus::open`], for whoever brackets a piece of work: their counters alone are read
    /// where somebody reads the cards whole from time to time.
    pub fn joules(&mut self) -> Measured<f64> {
        let now = Instant::now();
        if self.read_at.is_none_or(|at| now - at >= WHOLE_EVERY)
            && let Measured::Missing { reason } = self.read()
        {
            return Measured::missing(reason);
        }
        let counters = match &self.nvidia {
            Nvidia::Library(library) => library.counters(),
            Nvidia::Program(_) => Vec::new(),
        };
        let none = not_shown("this card");
        let each = self.energy.iter().enumerate();
        // NVIDIA's cards come first, and only they have counters.
        let each = each.map(|(i, card)| card.glance(counters.get(i).unwrap_or(&none), now));
        each.reduce(Measured::plus).unwrap_or_else(|| Measured::missing("there is no graphics card"))
    }
}

/// Why a reading of a card is missing.
fn not_shown<T>(by: &str) -> Measured<T> {
    Measured::missing(format!("{by} does not show it"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
