//! What work costs, in laps that bracket it: seconds and joules are always those of the same interval.

use isoflop_base::{Cost, Measured};
use isoflop_meter::{MachineEnergy, SharedEnergy};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a run does with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Optimiser steps, with their batches and rows.
    Training,
    /// Held-out losses.
    Evaluation,
    /// Writing checkpoints, and returning to forks.
    Checkpoints,
    /// Waiting for the machine to cool down, or for its mean power to fall.
    Held,
}

/// Costs by activity.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Optimiser steps, branches included.
    pub training: Cost,
    /// Held-out losses.
    pub evaluation: Cost,
    /// Writing checkpoints, and returning to forks.
    pub checkpoints: Cost,
    /// Waiting for the machine to cool down, or for its mean power to fall.
    #[serde(default)]
    pub held: Cost,
}

impl Spent {
    /// Charges a lap to its activity.
    pub fn charge(&mut self, activity: Activity, cost: Cost) {
        match activity {
            Activity::Training => self.training.add(cost),
            Activity::Evaluation => self.evaluation.add(cost),
            Activity::Checkpoints => self.checkpoints.add(cost),
            Activity::Held => self.held.add(cost),
        }
    }
}

/// Anything that says how many joules were used so far.
pub trait Joules {
    /// Since some fixed moment, or why that is not known.
    fn joules(&mut self) -> Measured<f64>;
}

impl Joules for SharedEnergy {
    fn joules(&mut self) -> Measured<f64> {
        self.lock().unwrap_or_else(PoisonError::into_inner).joules()
    }
}

/// A clock and an energy counter, read together where one activity gives way to the next, and not in between.
pub struct Laps<M = SharedEnergy> {
    meter: M,
    activity: Activity,
    began: Instant,
    joules: Measured<f64>,
}

impl Laps {
    /// Begins with an activity now, on these counters, or on this machine's own.
    pub fn begin(energy: Option<SharedEnergy>, activity: Activity) -> Self {
        let own = || Arc::new(Mutex::new(MachineEnergy::open(&isoflop_meter::System::real(), None)));
        Self::with(energy.unwrap_or_else(own), activity)
    }
}

impl<M: Joules> Laps<M> {
    /// Begins with an activity now.
    pub fn with(mut meter: M, activity: Activity) -> Self {
        let (began, joules) = read_together(&mut meter);
        Self { meter, activity, began, joules }
    }

    /// Ends the lap, which is charged to what was done in it; the next is of `activity`.
    pub fn turn_to(&mut self, activity: Activity, spent: &mut Spent) -> (Activity, Cost) {
        let (now, joules) = read_together(&mut self.meter);
        let used = self.joules.value().zip(joules.value()).map(|(before, after)| after - before);
        let estimated = matches!(joules, Measured::Estimated { .. });
        let cost = Cost { seconds: (now - self.began).as_secs_f64(), joules: used, estimated };
        let ended = std::mem::replace(&mut self.activity, activity);
        (self.began, self.joules) = (now, joules);
        spent.charge(ended, cost);
        (ended, cost)
    }

    /// A cost's energy, or why there is none.
    pub fn energy(&self, cost: Cost) -> Measured<f64> {
        match (cost.joules, &self.joules) {
            (Some(joules), Measured::Estimated { how, .. }) => Measured::estimated(joules, how.clone()),
            (Some(joules), _) if cost.estimated => {
                Measured::estimated(joules, "estimated over a part of the run")
            }
            (Some(joules), _) => Measured::measured(joules),
            (None, Measured::Missing { reason }) => Measured::missing(reason.clone()),
            (None, _) => Measured::missing("the counters were not there over the whole run"),
        }
    }
}

/// Clock and counter this close are of one moment.
const CLOSE: Duration = Duration::from_millis(3);
/// How often a reading is made anew.
const TRIES: usize = 4;

/// Clock and counter of one moment. On a busy machine a thread is put aside between the two for tenths of a second:
/// what took long is read anew, and of all tries the quickest is taken.
fn read_together(meter: &mut impl Joules) -> (Instant, Measured<f64>) {
    let mut best: Option<(Duration, Instant, Measured<f64>)> = None;
    for _ in 0..TRIES {
        let before = Instant::now();
        let joules = meter.joules();
        let took = before.elapsed();
        if best.as_ref().is_none_or(|(least, ..)| took < *least) {
            best = Some((took, before + took / 2, joules));
        }
        if took < CLOSE {
            break;
        }
    }
    let (_, at, joules) = best.expect("it was read at least once");
    (at, joules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_was_interrupted_is_made_anew() {
        /// Put aside for a while at first; counts 1000 J a second of the time since.
        struct PutAside(Instant, u32);
        impl Joules for PutAside {
            fn joules(&mut self) -> Measured<f64> {
                self.1 += 1;
                let joules = 1000.0 * self.0.elapsed().as_secs_f64();
                if self.1 == 1 {
                    std::thread::sleep(Duration::from_millis(60));
                }
                Measured::measured(joules)
            }
        }
        let start = Instant::now();
        let mut meter = PutAside(start, 0);
        let (at, joules) = read_together(&mut meter);
        let off = 1000.0 * (at - start).as_secs_f64() - joules.value().unwrap();
        assert!(meter.1 > 1 && off.abs() < 25.0, "{off} J apart after {} tries", meter.1);
    }

    /// A counter that rises by 1000 J a second of real time.
    struct Steady(Instant);

    impl Joules for Steady {
        fn joules(&mut self) -> Measured<f64> {
            Measured::measured(1000.0 * self.0.elapsed().as_secs_f64())
        }
    }

    #[test]
    fn joules_are_those_of_the_seconds_beside_them() {
        let mut laps = Laps::with(Steady(Instant::now()), Activity::Training);
        let mut spent = Spent::default();
        for (next, ms) in [(Activity::Evaluation, 20), (Activity::Checkpoints, 40), (Activity::Training, 10)]
        {
            std::thread::sleep(Duration::from_millis(ms));
            let (_, cost) = laps.turn_to(next, &mut spent);
            let power = cost.joules.unwrap() / cost.seconds;
            // The two are read one after the other.
            assert!((power - 1000.0).abs() < 100.0, "{power} W");
            assert!(cost.seconds >= ms as f64 / 1000.0);
        }
        assert!(spent.evaluation.seconds >= 0.04 && spent.evaluation.seconds > spent.training.seconds);
        assert!(spent.checkpoints.seconds >= 0.01 && spent.checkpoints.joules.unwrap() > 10.0);
    }

    #[test]
    fn a_reading_that_is_missing_once_makes_the_sum_missing() {
        struct Failing(u32);
        impl Joules for Failing {
            fn joules(&mut self) -> Measured<f64> {
                self.0 += 1;
                if self.0 == 2 { Measured::missing("unplugged") } else { Measured::measured(5.0) }
            }
        }
        let mut laps = Laps::with(Failing(0), Activity::Training);
        let mut spent = Spent::default();
        laps.turn_to(Activity::Training, &mut spent);
        laps.turn_to(Activity::Training, &mut spent);
        assert_eq!(spent.training.joules, None);
        assert!(spent.training.seconds > 0.0);
    }
}
