//! Energy of the machine from all that shows some: counters, cards, and where no counter can be read what the user says
//! of the processor, labelled as the guess it is.

use super::EnergyMeter;
use crate::{Gpus, LoadMeter, System};
use isoflop_base::Measured;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What is needed for a guess of the power: idle + (TDP − idle) × load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What the processor may draw at full load, watts.
    pub tdp_w: f64,
    /// What it draws when idle, watts.
    pub idle_w: f64,
}

/// Joules of the machine: counted, else estimated where the user gave a TDP, else missing; with those of its graphics
/// cards where the work is theirs.
#[derive(Debug)]
pub struct MachineEnergy {
    counters: EnergyMeter,
    guess: Option<Guess>,
    cards: Option<Arc<Mutex<Gpus>>>,
}

#[derive(Debug)]
struct Guess {
    of: Estimate,
    system: System,
    load: LoadMeter,
    since: Instant,
    /// Of the load meter's intervals that are over.
    joules: f64,
    /// Load of the last of them.
    busy: Option<f64>,
    /// The most that was told: joules do not fall.
    told: f64,
}

impl MachineEnergy {
    /// Begins to count, or to guess if nothing can be counted and there is something to guess by.
    pub fn open(system: &System, estimate: Option<Estimate>) -> Self {
        let counters = EnergyMeter::open(system);
        let guess = match counters.state {
            Ok(_) => None,
            Err(_) => estimate.map(|of| Guess {
                of,
                system: system.clone(),
                load: LoadMeter::start(system),
                since: Instant::now(),
                joules: 0.0,
                busy: None,
                told: 0.0,
            }),
        };
        Self { counters, guess, cards: None }
    }

    /// Adds what these cards use from now on: all cards of the machine, as their meter knows no processes.
    pub fn with_cards(self, cards: Arc<Mutex<Gpus>>) -> Self {
        Self { cards: Some(cards), ..self }
    }

    /// Joules so far. Of cards whose machine shows no energy of its processors, those of the cards alone, as an
    /// estimate.
    pub fn joules(&mut self) -> Measured<f64> {
        let processors = self.processors();
        let Some(cards) = &self.cards else { return processors };
        let cards = cards.lock().unwrap_or_else(PoisonError::into_inner).joules();
        match (processors, cards) {
            (
                Measured::Missing { reason },
                Measured::Measured { value } | Measured::Estimated { value, .. },
            ) => {
                Measured::estimated(value, format!("the graphics cards alone (of the processors: {reason})"))
            }
            (_, Measured::Missing { reason }) => {
                Measured::missing(format!("of the graphics cards: {reason}"))
            }
            (processors, cards) => processors.plus(cards),
        }
    }

    /// Joules of the processors and their memory so far.
    pub fn processors(&mut self) -> Measured<f64> {
        match (self.counters.joules(), &mut self.guess) {
            (Measured::Missing { reason }, Some(guess)) => match guess.joules(Instant::now()) {
                Ok(joules) => Measured::estimated(joules, guess.how()),
                Err(no_load) => Measured::missing(format!("{reason}; no estimate: {no_load}")),
            },
            (counted, _) => counted,
        }
    }

    /// The counters, whether they can be read or not.
    pub fn counters(&mut self) -> &mut EnergyMeter {
        &mut self.counters
    }
}

impl Guess {
    fn how(&self) -> String {
        format!("a TDP of {} W, {} W idle, × load of the processors", self.of.tdp_w, self.of.idle_w)
    }

    fn joules(&mut self, now: Instant) -> Result<f64, String> {
        let elapsed = (now - self.since).as_secs_f64();
        let power = |busy: f64| self.of.idle_w + (self.of.tdp_w - self.of.idle_w) * busy;
        let joules = match (self.load.busy(), self.busy) {
            (Ok(busy), _) => {
                let joules = self.joules + elapsed * power(busy);
                (self.joules, self.busy) = (joules, Some(busy));
                (self.load, self.since) = (LoadMeter::start(&self.system), now);
                joules
            }
            // Too short for a share (a fifth of a second of processor time): as busy as before. Else short pieces of
            // work would get nothing, and the long ones between them all.
            (Err(_), Some(busy)) if elapsed < 1.0 => self.joules + elapsed * power(busy),
            (Err(_), None) if elapsed < 1.0 => self.joules,
            (Err(reason), _) => return Err(reason),
        };
        self.told = self.told.max(joules);
        Ok(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fake::Tree;
    use std::time::Duration;

    fn tree() -> Tree {
        Tree::new(&[
            ("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n"),
            ("proc/self/stat", "7 (a) R 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 2 0 1 1 1"),
        ])
    }

    #[test]
    fn a_guess_follows_the_load_and_says_that_it_is_one() {
        let tree = tree();
        let estimate = Estimate { tdp_w: 100.0, idle_w: 20.0 };
        let mut energy = MachineEnergy::open(&tree.system(), Some(estimate));
        let guess = energy.guess.as_mut().unwrap();
        let begin = guess.since;
        assert_eq!(
            guess.joules(begin + Duration::from_millis(10)),
            Ok(0.0),
            "no time has passed on the clock"
        );
        // Three quarters busy for ten seconds: 20 + 80 × 0.75 W.
        tree.write("proc/stat", "cpu  1500 0 0 500 0 0 0 0 0 0\n");
        assert!((guess.joules(begin + Duration::from_secs(10)).unwrap() - 800.0).abs() < 1e-6);
        // Too short for a load of its own: at the same one.
        let short = guess.joules(begin + Duration::from_millis(10_004)).unwrap();
        assert!((short - 800.32).abs() < 1e-6, "{short}");
        // It was idle then: what was told is not taken back.
        tree.write("proc/stat", "cpu  1500 0 0 600 0 0 0 0 0 0\n");
        assert_eq!(guess.joules(begin + Duration::from_millis(10_005)), Ok(short));
        let guess = energy.guess.as_mut().unwrap();
        assert!((guess.joules - 800.1).abs() < 1e-6, "{}", guess.joules);
        match energy.joules() {
            Measured::Estimated { value, how } => {
                assert!(value >= short && how.contains("TDP of 100 W"), "{value} {how}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_counter_comes_before_a_guess_and_no_guess_is_made_unasked() {
        let tree = tree();
        assert!(MachineEnergy::open(&tree.system(), None).joules().value().is_none());
        for (file, text) in
            [("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "262143328850")]
        {
            tree.write(&format!("sys/class/powercap/intel-rapl:0/{file}"), text);
        }
        let mut counted = MachineEnergy::open(&tree.system(), Some(Estimate { tdp_w: 100.0, idle_w: 20.0 }));
        assert_eq!(counted.joules(), Measured::measured(0.0));
    }
}
