//! Joules of one card: by its counter, else by its power over time; the two watch each other.

use super::Gpu;
use isoflop_base::Measured;
use std::time::Instant;

/// A gap between readings of the power over which nothing may be assumed.
const LONGEST_GAP_S: f64 = 60.0;
/// What a card cannot draw: a counter that rises faster was reset.
const PLAUSIBLE_W: f64 = 3000.0;
/// From so many seconds on the two are compared; power is sampled, so short spans differ by much.
const COMPARED_AFTER_S: f64 = 60.0;
/// How far apart they may be, as a share of the larger.
const APART: f64 = 0.2;

/// Joules since a moment.
#[derive(Debug, Clone)]
pub(super) struct CardEnergy {
    counter: Result<f64, String>,
    power: Measured<f64>,
    at: Instant,
    counted: f64,
    integrated: Result<f64, String>,
    seconds: f64,
}

impl CardEnergy {
    pub(super) fn begin(card: &Gpu, now: Instant) -> Self {
        let counter = match &card.counter_j {
            Measured::Missing { reason } => Err(reason.clone()),
            counter => Ok(*counter.value().expect("it is there")),
        };
        Self {
            counter,
            power: card.power_w.clone(),
            at: now,
            counted: 0.0,
            integrated: Ok(0.0),
            seconds: 0.0,
        }
    }

    /// Takes the next readings; joules since the beginning.
    pub(super) fn advance(
        &mut self,
        counter: &Measured<f64>,
        power: &Measured<f64>,
        now: Instant,
    ) -> Measured<f64> {
        let elapsed = (now - self.at).as_secs_f64();
        if let Ok(last) = self.counter {
            self.counter = match counter {
                Measured::Missing { reason } => Err(reason.clone()),
                read => match read.value().map(|value| (*value, value - last)) {
                    Some((value, rise)) if (0.0..=(elapsed + 1.0) * PLAUSIBLE_W).contains(&rise) => {
                        self.counted += rise;
                        Ok(value)
                    }
                    _ => Err("the card's energy counter was reset".to_owned()),
                },
            };
        }
        if let Ok(sum) = self.integrated {
            self.integrated = match (&self.power, power) {
                (Measured::Missing { reason }, _) | (_, Measured::Missing { reason }) => Err(reason.clone()),
                _ if elapsed > LONGEST_GAP_S => Err(format!("the power was not read for {elapsed:.0} s")),
                (before, after) => {
                    let mean = (before.value().unwrap_or(&0.0) + after.value().unwrap_or(&0.0)) / 2.0;
                    Ok(sum + mean * elapsed)
                }
            };
        }
        self.seconds += elapsed;
        (self.power, self.at) = (power.clone(), now);
        self.joules()
    }

    /// Joules now, by the counter alone where there is one, else as if the card drew what it drew when it was last read
    /// whole. Changes nothing: a glance between two readings.
    pub(super) fn glance(&self, counter: &Measured<f64>, now: Instant) -> Measured<f64> {
        self.clone().advance(counter, &self.power, now)
    }

    fn joules(&self) -> Measured<f64> {
        let apart = |counted: f64, sum: f64| (counted - sum).abs() > APART * counted.max(sum);
        match (&self.counter, &self.integrated) {
            (Ok(_), Ok(sum)) if self.seconds >= COMPARED_AFTER_S && apart(self.counted, *sum) => {
                Measured::estimated(
                    *sum,
                    format!("power over time; the card's counter says {:.0} J", self.counted),
                )
            }
            (Ok(_), _) => Measured::measured(self.counted),
            (Err(_), Ok(sum)) => Measured::estimated(*sum, "the card's power, sampled, over time"),
            (Err(reason), Err(_)) => Measured::missing(reason.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Readings each ten seconds, as (counter, power), through; the last answer.
    fn check(readings: &[(Option<f64>, Option<f64>)]) -> Measured<f64> {
        let cell = |value: Option<f64>| value.map_or(Measured::missing("not shown"), Measured::measured);
        let begin = Instant::now();
        let (counter, power) = readings[0];
        let counter = counter.ok_or("not shown".to_owned());
        let mut card = CardEnergy {
            counter,
            power: cell(power),
            at: begin,
            counted: 0.0,
            integrated: Ok(0.0),
            seconds: 0.0,
        };
        let mut answer = Measured::missing("none");
        for (i, (counter, power)) in readings.iter().enumerate().skip(1) {
            answer = card.advance(&cell(*counter), &cell(*power), begin + Duration::from_secs(10 * i as u64));
        }
        answer
    }

    #[test]
    fn the_counter_is_believed_unless_the_power_denies_it() {
        let sound: Vec<_> = (0..9).map(|i| (Some(500.0 + 1000.0 * i as f64), Some(100.0))).collect();
        assert_eq!(check(&sound), Measured::measured(8000.0));
        // It stands still while the card draws 100 W.
        let stuck: Vec<_> = (0..9).map(|_| (Some(500.0), Some(100.0))).collect();
        assert!(
            matches!(check(&stuck), Measured::Estimated { value, how } if value == 8000.0 && how.contains("0 J"))
        );
        assert_eq!(check(&stuck[..4]), Measured::measured(0.0), "too short to be compared");
    }

    #[test]
    fn a_glance_counts_on_and_changes_nothing() {
        let begin = Instant::now();
        let power = Measured::measured(100.0);
        let card = |counter: Result<f64, String>| CardEnergy {
            counter,
            power: power.clone(),
            at: begin,
            counted: 0.0,
            integrated: Ok(0.0),
            seconds: 0.0,
        };
        let later = begin + Duration::from_secs(3);
        let counted = card(Ok(500.0));
        assert_eq!(counted.glance(&Measured::measured(790.0), later), Measured::measured(290.0));
        assert_eq!(counted.glance(&Measured::measured(500.0), begin), Measured::measured(0.0));
        let drawn = card(Err("not shown".to_owned())).glance(&Measured::missing("not shown"), later);
        assert!(matches!(drawn, Measured::Estimated { value, .. } if value == 300.0));
    }

    #[test]
    fn without_a_counter_power_over_time_is_an_estimate_and_without_both_it_is_missing() {
        let power = check(&[(None, Some(100.0)), (None, Some(200.0)), (None, Some(200.0))]);
        assert!(matches!(power, Measured::Estimated { value, .. } if value == 3500.0));
        assert!(check(&[(None, Some(100.0)), (None, None)]).value().is_none());
        let reset = check(&[(Some(9e6), Some(100.0)), (Some(3.0), Some(100.0))]);
        assert!(matches!(reset, Measured::Estimated { value, .. } if value == 1000.0));
        assert!(check(&[(Some(0.0), None), (Some(1e9), None)]).value().is_none(), "100 MW");
    }
}
