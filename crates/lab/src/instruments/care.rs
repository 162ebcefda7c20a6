//! When a study is slowed down or stopped: what its limits say of what was measured.

use isoflop_base::instruments::Limits;
use isoflop_base::units::duration;
use isoflop_meter::Sample;

/// Degrees below the limit at which a study that was held for heat goes on.
const COOLER_C: f64 = 3.0;
/// Seconds for which holding may fail to help before the study is stopped.
pub const PATIENCE_S: f64 = 600.0;

/// What a study has used so far, from its beginning on, whichever process did it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// Joules; `None` where they were not measured.
    pub joules: Option<f64>,
    /// Hours of work.
    pub hours: f64,
    /// What the joules cost.
    pub cost: Option<f64>,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Work.
    Go,
    /// Wait, because of this; the machine cools down, and its mean power falls.
    Hold(String),
    /// Save and leave, because of this.
    Stop(String),
}

/// Judges the state of the machine. `held_s`: for how long the study has been held already, if it is; `on_cards`: the
/// power that is limited is that of processors and cards together.
pub fn judge(limits: &Limits, used: &Used, sample: &Sample, held_s: Option<f64>, on_cards: bool) -> Verdict {
    if let Some(words) = spent(limits, used) {
        return Verdict::Stop(words);
    }
    match (too_much(limits, sample, held_s.is_some(), on_cards), held_s) {
        (None, _) => Verdict::Go,
        (Some(words), Some(seconds)) if seconds > PATIENCE_S => {
            Verdict::Stop(format!("{words}, after {} of waiting", duration(seconds)))
        }
        (Some(words), _) => Verdict::Hold(words),
    }
}

/// A limit that only ends: energy, time, money.
pub fn spent(limits: &Limits, used: &Used) -> Option<String> {
    let kwh = used.joules.map(|joules| joules / 3.6e6);
    let over = |limit: Option<f64>, used: Option<f64>| {
        let (limit, used) = (limit?, used?);
        (used >= limit).then_some((limit, used))
    };
    let energy = over(limits.max_energy_kwh, kwh).map(|(l, u)| format!("{u:.3} kWh of {l} kWh"));
    let time = || over(limits.max_hours, Some(used.hours)).map(|(l, u)| format!("{u:.3} h of {l} h"));
    let cost = || over(limits.max_cost, used.cost).map(|(l, u)| format!("a cost of {u:.2} of {l}"));
    energy.or_else(time).or_else(cost)
}

/// A limit that waiting helps: heat and power. Who waits for heat goes on only some degrees below the limit.
fn too_much(limits: &Limits, sample: &Sample, held: bool, on_cards: bool) -> Option<String> {
    let hottest = sample.gpus.iter().filter_map(|gpu| gpu.celsius).chain(sample.celsius).reduce(f64::max);
    if let (Some(limit), Some(celsius)) = (limits.max_temp_c, hottest) {
        let bound = if held { limit - COOLER_C } else { limit };
        if celsius > bound {
            return Some(format!("{celsius:.0} °C of {limit} °C"));
        }
    }
    let cards = sample.gpus.iter().filter(|_| on_cards).filter_map(|gpu| gpu.watts);
    let (limit, watts) = (limits.max_power_w?, cards.chain(sample.watts).reduce(|a, b| a + b)?);
    (watts > limit).then(|| format!("{watts:.0} W of {limit} W"))
}

/// Of the commands that make a machine run cooler the one for what is slowed down: the processor, or a card.
pub fn cooling(commands: &[String], of_processor: bool) -> Option<&String> {
    let is_cards = |command: &&String| command.contains("nvidia-smi") || command.contains("power1_cap");
    let mut ones = commands.iter();
    if of_processor { ones.find(|c| !is_cards(c)) } else { ones.find(is_cards) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_meter::GpuSample;

    const NONE: Limits =
        Limits { max_temp_c: None, max_power_w: None, max_energy_kwh: None, max_hours: None, max_cost: None };

    #[test]
    fn heat_and_power_hold_and_go_on_when_it_is_better() {
        let limits = Limits { max_temp_c: Some(84.0), max_power_w: Some(200.0), ..NONE };
        let at = |celsius: f64, watts: f64| Sample {
            celsius: Some(celsius),
            watts: Some(watts),
            ..Sample::default()
        };
        let check = |sample: Sample, held: Option<f64>, expected: Verdict| {
            assert_eq!(judge(&limits, &Used::default(), &sample, held, false), expected);
        };
        check(at(80.0, 150.0), None, Verdict::Go);
        check(at(85.0, 150.0), None, Verdict::Hold("85 °C of 84 °C".into()));
        // Held, it goes on at 81 °C and not at 83 °C: else it would hold and go on each second.
        check(at(83.0, 150.0), Some(4.0), Verdict::Hold("83 °C of 84 °C".into()));
        check(at(80.5, 150.0), Some(4.0), Verdict::Go);
        check(at(70.0, 220.0), None, Verdict::Hold("220 W of 200 W".into()));
        check(at(85.0, 20.0), Some(700.0), Verdict::Stop("85 °C of 84 °C, after 11m 40s of waiting".into()));
        let card = GpuSample { celsius: Some(90.0), ..GpuSample::default() };
        check(Sample { gpus: vec![card], ..at(50.0, 1.0) }, None, Verdict::Hold("90 °C of 84 °C".into()));
        check(Sample::default(), None, Verdict::Go);
    }

    #[test]
    fn power_is_that_of_the_cards_too_where_they_work() {
        let limits = Limits { max_power_w: Some(200.0), ..NONE };
        let card = |watts: f64| GpuSample { watts: Some(watts), ..GpuSample::default() };
        let sample = Sample { watts: Some(60.0), gpus: vec![card(90.0), card(80.0)], ..Sample::default() };
        let judged = |sample: &Sample, on_cards| judge(&limits, &Used::default(), sample, None, on_cards);
        assert_eq!(judged(&sample, false), Verdict::Go);
        assert_eq!(judged(&sample, true), Verdict::Hold("230 W of 200 W".into()));
        let alone = Sample { watts: None, gpus: vec![card(230.0)], ..Sample::default() };
        assert_eq!(judged(&alone, true), Verdict::Hold("230 W of 200 W".into()));
    }

    #[test]
    fn what_is_slowed_is_cooled_by_a_command_of_its_own() {
        let commands = ["echo 1 | sudo tee a", "sudo nvidia-smi -i 0 -pl 256", "echo 255 | sudo tee pwm1"];
        let commands = commands.map(str::to_owned);
        assert_eq!(cooling(&commands, true), Some(&commands[0]));
        assert_eq!(cooling(&commands, false), Some(&commands[1]));
        assert_eq!(cooling(&commands[..1], false), None);
    }

    #[test]
    fn energy_time_and_money_stop() {
        let check = |limits: Limits, used: Used, words: Option<&str>| {
            let verdict = judge(&limits, &used, &Sample::default(), None, false);
            match words {
                Some(words) => assert_eq!(verdict, Verdict::Stop(words.to_owned())),
                None => assert_eq!(verdict, Verdict::Go),
            }
        };
        let used = Used { joules: Some(7.2e6), hours: 4.0, cost: Some(0.6) };
        check(NONE, used, None);
        check(Limits { max_energy_kwh: Some(2.0), ..NONE }, used, Some("2.000 kWh of 2 kWh"));
        check(Limits { max_energy_kwh: Some(2.1), ..NONE }, used, None);
        check(Limits { max_hours: Some(4.0), ..NONE }, used, Some("4.000 h of 4 h"));
        check(Limits { max_cost: Some(0.5), ..NONE }, used, Some("a cost of 0.60 of 0.5"));
        let unknown = Used { joules: None, cost: None, ..used };
        check(Limits { max_energy_kwh: Some(2.0), max_cost: Some(0.1), ..NONE }, unknown, None);
    }
}
