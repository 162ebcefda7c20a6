//! What a study cost, as a section of its page: energy and power, FLOPs per watt, memory planned and taken, waiting for
//! data, the machine's temperature, and what looked wrong on the way. What was not measured says why.

mod traces;

use crate::collect::joules;
use crate::environment::Environment;
use crate::machine::Hardware;
use isoflop_base::instruments::{Alarm, MeterSpec};
use isoflop_base::study::MachineSpec;
use isoflop_base::units::{bytes, duration, si};
use isoflop_base::{CurveRow, Measured, Point};
use isoflop_meter::{Sample, System};
use isoflop_report::{Grid, Section};
use isoflop_store::{Collected, SideLog, Store};

/// Anchor of the section.
pub const ID: &str = "cost";

/// What the instruments noted of the runs of a study.
#[derive(Debug, Default)]
pub struct Noted {
    pub samples: Vec<Sample>,
    pub alarms: Vec<Alarm>,
    /// Of the process that worked last.
    pub environment: Option<Environment>,
}

impl Noted {
    /// Reads the side logs of these runs; what cannot be read is left out, as it decides nothing.
    pub fn read<'a>(store: &Store, runs: impl IntoIterator<Item = &'a str>) -> Self {
        let mut noted = Self::default();
        for id in runs {
            let Ok(view) = store.read_run(id) else { continue };
            noted.samples.extend(view.side::<Sample>(SideLog::Machine).unwrap_or_default());
            noted.alarms.extend(view.side::<Alarm>(SideLog::Alarms).unwrap_or_default());
            let last = view.side::<Environment>(SideLog::Environment).unwrap_or_default().pop();
            noted.environment = last.or(noted.environment);
        }
        noted.samples.sort_by(|a, b| a.unix_s.total_cmp(&b.unix_s));
        noted.alarms.sort_by_key(|alarm| alarm.unix_s);
        noted
    }
}

/// A study whose work is over, as far as its cost goes.
pub struct Account<'a> {
    /// How it was run.
    pub machine: &'a MachineSpec,
    /// Its runs.
    pub collected: &'a Collected,
    /// Their training curves.
    pub curves: &'a [CurveRow],
    /// Bytes planned for the run that takes most.
    pub planned: Measured<u64>,
    /// Training FLOPs of the runs that are done, branches included.
    pub flops: Measured<f64>,
    /// What the instruments noted.
    pub noted: &'a Noted,
}

/// The section.
pub fn section(account: &Account<'_>) -> Section {
    let Account { machine, collected, curves, planned, flops, noted } = account;
    let points: Vec<&Point> = collected.points().map(|(point, _)| point).collect();
    let seconds: f64 = collected.runs.iter().filter_map(|run| Some(run.cost?.seconds)).sum();
    let on_cards = Hardware::is_cards(&machine.device);
    let gross = total(collected);
    let mut paragraphs = vec![energy_words(&machine.instruments.meter, &gross, seconds, noted)];
    let done = || collected.runs.iter().filter(|run| run.is_done());
    let done_s: f64 = done().filter_map(|run| Some(run.cost?.seconds)).sum();
    let done_j = done().map(joules).fold(Measured::measured(0.0), Measured::plus);
    paragraphs.push(format!("{} {}", whole_words(flops, &done_j, done_s), efficiency_words(&points)));
    paragraphs.push(format!("{} {}", memory_words(planned, &noted.samples, on_cards), wait_words(curves)));
    paragraphs.push(heat_words(&noted.samples));
    if on_cards {
        paragraphs.push(card_words(&noted.samples));
    }
    let mut tables = vec![runs_table(collected)];
    if !noted.alarms.is_empty() {
        tables.push(alarms_table(&noted.alarms));
    }
    Section {
        id: ID.to_owned(),
        title: "What it cost".to_owned(),
        paragraphs,
        charts: traces::charts(&noted.samples, on_cards),
        tables,
    }
}

/// Joules of training of all runs: measured if all are, estimated if one is.
pub fn total(collected: &Collected) -> Measured<f64> {
    collected.runs.iter().map(joules).fold(Measured::measured(0.0), Measured::plus)
}

fn energy_words(meter: &MeterSpec, gross: &Measured<f64>, seconds: f64, noted: &Noted) -> String {
    let (joules, how) = match gross {
        Measured::Missing { reason } => return format!("Energy is missing: {reason}."),
        Measured::Estimated { value, how } => (*value, format!("estimated from {how}")),
        Measured::Measured { value } => {
            let counted = noted.environment.as_ref().and_then(|e| e.energy.value().cloned());
            let of_cards = noted.environment.as_ref().and_then(|e| Some(e.gpus.value()?.join(" + ")));
            let cards = counted.as_ref().zip(of_cards).is_some_and(|(names, cards)| names.ends_with(&cards));
            let by = if cards { "processors and cards" } else { "the processors" };
            let domains = counted.map(|names| format!(" ({names})")).unwrap_or_default();
            (*value, format!("counted by {by}{domains}, all programs of the machine included"))
        }
    };
    let mut words = format!(
        "Training took {} in {}, {:.1} W on average: {how}.",
        energy(joules),
        duration(seconds),
        joules / seconds.max(1e-9)
    );
    let idle = noted.environment.as_ref().map(|e| &e.idle_w);
    match idle {
        Some(Measured::Measured { value } | Measured::Estimated { value, .. }) => {
            let source = if matches!(idle, Some(Measured::Measured { .. })) { "measured" } else { "as set" };
            let net = (joules - value * seconds).max(0.0);
            words +=
                &format!(" Without the {value:.1} W of the idle machine ({source}), {} net.", energy(net));
        }
        Some(Measured::Missing { reason }) => words += &format!(" Net of idle power: missing, {reason}."),
        None => {}
    }
    let kwh = joules / 3.6e6;
    if let Some(grams) = meter.carbon_g_per_kwh {
        words += &format!(" At {grams} g of CO₂ a kWh: {}g.", si(grams * kwh));
    }
    if let Some(price) = meter.cost_per_kwh {
        let currency = meter.currency.as_deref().unwrap_or("");
        words += &format!(" At {price} {currency} a kWh: {:.4} {currency}.", price * kwh);
    }
    words.replace("  ", " ").replace(" .", ".")
}

fn energy(joules: f64) -> String {
    match joules {
        j if j < 1e3 => format!("{j:.0} J"),
        j if j < 3.6e5 => format!("{:.2} Wh", j / 3.6e3),
        j => format!("{:.3} kWh", j / 3.6e6),
    }
}

/// The training of all runs that are done, in one figure each.
fn whole_words(flops: &Measured<f64>, joules: &Measured<f64>, seconds: f64) -> String {
    let Some(flops) = flops.value().filter(|flops| **flops > 0.0 && seconds > 0.0) else {
        return "No run is done.".to_owned();
    };
    let per_watt = match joules {
        Measured::Missing { .. } => "per watt is missing".to_owned(),
        joules => match joules.value().filter(|joules| **joules > 0.0) {
            Some(joules) => format!("{}FLOP/s per watt", si(flops / joules)),
            None => "too short for a figure per watt".to_owned(),
        },
    };
    format!("All finished runs: {}FLOP, {}FLOP/s, {per_watt}.", si(*flops), si(flops / seconds))
}

fn efficiency_words(points: &[&Point]) -> String {
    let best = |of: fn(&Point) -> Measured<f64>| {
        let known = points.iter().filter_map(|p| of(p).value().copied());
        known.fold(None, |span: Option<(f64, f64)>, v| {
            Some(span.map_or((v, v), |(lo, hi)| (lo.min(v), hi.max(v))))
        })
    };
    let why = |of: fn(&Point) -> Measured<f64>| match points.last().map(|p| of(p)) {
        Some(Measured::Missing { reason }) => reason,
        _ => "no point is finished".to_owned(),
    };
    let per_watt = match best(Point::flops_per_joule) {
        Some((lo, hi)) => format!("{}FLOP/s to {}FLOP/s per watt", si(lo), si(hi)),
        None => format!("FLOPs per watt are missing: {}", why(Point::flops_per_joule)),
    };
    let share = match best(|p| p.peak_share.clone()) {
        Some((lo, hi)) => format!("{:.0} % to {:.0} % of the measured peak", 100.0 * lo, 100.0 * hi),
        None => format!("the share of the peak is missing: {}", why(|p| p.peak_share.clone())),
    };
    format!("Over the finished points: {per_watt}; {share}.")
}

/// Memory planned against memory taken: of the processes that trained, or of the cards.
fn memory_words(planned: &Measured<u64>, samples: &[Sample], on_cards: bool) -> String {
    let plan = match planned {
        Measured::Missing { reason } => format!("the plan is missing ({reason})"),
        planned => format!("{} planned for the largest run", bytes(planned.value().copied().unwrap_or(0))),
    };
    if on_cards {
        let used = samples.iter().flat_map(|s| &s.gpus).filter_map(|gpu| gpu.memory_used).max();
        let used = used.map_or("what was taken is missing: no card showed it".to_owned(), |used| {
            format!("{} at most in use on a card, by all programs", bytes(used))
        });
        return format!("Memory of each card: {plan}, {used}.");
    }
    // Of the processes of before by their samples; this one's also where it was too quick for one.
    let own = System::real().peak_memory();
    let peak = samples.iter().filter_map(|sample| sample.peak).chain(own.value().copied()).max();
    let peak = match (peak, own) {
        (Some(peak), _) => {
            format!("{} at most resident in a process of the study, program and data included", bytes(peak))
        }
        (None, Measured::Missing { reason }) => format!("its peak is missing: {reason}"),
        (None, _) => "its peak is missing".to_owned(),
    };
    format!("Memory: {plan}, {peak}.")
}

fn wait_words(curves: &[CurveRow]) -> String {
    let waits: Vec<f64> = curves.iter().filter_map(|row| row.data_wait).collect();
    match waits.iter().copied().reduce(f64::max) {
        None => "Waiting for data: missing, no interval was measured.".to_owned(),
        Some(worst) => {
            let mean = waits.iter().sum::<f64>() / waits.len() as f64;
            format!(
                "Waiting for data: {:.2} % of the steps' time, {:.2} % in the worst interval.",
                100.0 * mean,
                100.0 * worst
            )
        }
    }
}

fn heat_words(samples: &[Sample]) -> String {
    let all: Vec<f64> = samples.iter().filter_map(|s| s.celsius).collect();
    let throttled: u64 = samples.iter().filter_map(|s| s.throttled).sum();
    let slowed = match (samples.iter().any(|s| s.throttled.is_some()), throttled) {
        (false, _) => "whether it was slowed for heat is not shown here",
        (true, 0) => "it was never slowed for heat",
        (true, _) => "it was slowed for heat",
    };
    match all.iter().copied().reduce(f64::max) {
        None => {
            let why = if samples.is_empty() { "no sample was taken" } else { "the kernel shows no sensor" };
            format!("Temperature is missing: {why}; {slowed}.")
        }
        Some(hottest) => {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            format!("The processor was at {hottest:.0} °C at most, {mean:.0} °C on average; {slowed}.")
        }
    }
}

/// What the cards were like while they worked.
fn card_words(samples: &[Sample]) -> String {
    let cards = || samples.iter().flat_map(|sample| &sample.gpus);
    let hottest = cards().filter_map(|card| card.celsius).reduce(f64::max);
    let busy: Vec<f64> = cards().filter_map(|card| card.utilisation).collect();
    let mut reasons: Vec<&str> = cards().flat_map(|card| card.throttle.iter().map(String::as_str)).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let heat = hottest.map_or("their temperature is missing: no card showed one".to_owned(), |celsius| {
        format!("{celsius:.0} °C at most")
    });
    let busy = match busy.len() {
        0 => String::new(),
        n => format!(", a kernel running {:.0} % of the time", 100.0 * busy.iter().sum::<f64>() / n as f64),
    };
    let slowed = match (reasons.is_empty(), cards().next().is_some()) {
        (_, false) => "no sample of them was taken".to_owned(),
        (true, true) => "no reason for slowing down was shown".to_owned(),
        (false, true) => format!("slowed: {}", reasons.join(", ")),
    };
    format!("The cards: {heat}{busy}; {slowed}.")
}

fn runs_table(collected: &Collected) -> Grid {
    let shown = |m: &Measured<f64>, words: &dyn Fn(f64) -> String| match m {
        Measured::Measured { value } => words(*value),
        Measured::Estimated { value, .. } => format!("~{}", words(*value)),
        Measured::Missing { .. } => "–".to_owned(),
    };
    let rows = collected.runs.iter().filter_map(|run| {
        let point = run.points.last()?;
        let flops = |v: f64| format!("{}FLOP/s", si(v));
        Some(vec![
            point.run.clone(),
            shown(&point.seconds, &duration),
            shown(&point.energy_j, &energy),
            shown(&point.watts(), &|v| format!("{v:.1} W")),
            shown(&point.flops_per_s(), &flops),
            shown(&point.flops_per_joule(), &flops),
            shown(&point.peak_share, &|v| format!("{:.0} %", 100.0 * v)),
        ])
    });
    let columns = ["run", "training", "energy", "power", "speed", "per watt", "of peak"];
    Grid {
        caption: "Each run up to its last finished point; ~ marks an estimate, – what is missing.".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn alarms_table(alarms: &[Alarm]) -> Grid {
    let row = |alarm: &Alarm| {
        let step = alarm.step.map_or("–".to_owned(), |step| step.to_string());
        vec![format!("{}: {} ({})", alarm.run, alarm.alarm.word(), alarm.words), step]
    };
    Grid {
        caption: "What looked wrong while it ran.".to_owned(),
        columns: ["alarm", "step"].map(str::to_owned).to_vec(),
        rows: alarms.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_s: f64, celsius: Option<f64>) -> Sample {
        Sample { unix_s, celsius, ..Sample::default() }
    }

    #[test]
    fn what_is_missing_says_why() {
        assert_eq!(
            heat_words(&[]),
            "Temperature is missing: no sample was taken; whether it was slowed for heat is not shown here."
        );
        assert!(heat_words(&[sample(0.0, None)]).contains("the kernel shows no sensor"));
        assert!(
            heat_words(&[sample(0.0, Some(70.0)), sample(1.0, Some(80.0))]).contains("80 °C at most, 75 °C")
        );
        assert!(efficiency_words(&[]).contains("FLOPs per watt are missing: no point is finished"));
        assert!(wait_words(&[]).contains("missing"));
        assert!(whole_words(&Measured::measured(0.0), &Measured::measured(1.0), 1.0).contains("No run"));
        let whole = |joules| whole_words(&Measured::measured(8e12), &joules, 4.0);
        assert_eq!(
            whole(Measured::measured(80.0)),
            "All finished runs: 8.00 TFLOP, 2.00 TFLOP/s, 100 GFLOP/s per watt."
        );
        assert!(whole(Measured::missing("no meter")).ends_with("per watt is missing."));
        assert!(card_words(&[]).contains("no sample of them was taken"));
        let planned = Measured::measured(1 << 20);
        // More than this test's own process takes: the highest of all counts.
        let taken = Sample { peak: Some(3 << 40), ..Sample::default() };
        let words = memory_words(&planned, &[taken, sample(1.0, None)], false);
        assert!(
            words.starts_with("Memory: 1.0 MiB planned for the largest run, 3072.00 GiB at most resident"),
            "{words}"
        );
        assert!(memory_words(&planned, &[], true).contains("no card showed it"));
    }

    #[test]
    fn energy_is_said_in_the_unit_that_fits() {
        assert_eq!([energy(500.0), energy(7.2e3), energy(3.6e7)], ["500 J", "2.00 Wh", "10.000 kWh"]);
    }
}
