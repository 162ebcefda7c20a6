//! What a study cost, as a section of its page: energy and power, FLOPs per watt, memory planned and taken, waiting for
//! data, the machine's temperature, and what looked wrong on the way. What was not measured says why.

use crate::collect::joules;
use crate::environment::Environment;
use crate::gpt;
use isoflop_base::instruments::Alarm;
use isoflop_base::study::Study;
use isoflop_base::units::{bytes, duration, si};
use isoflop_base::{CurveRow, Measured, Point};
use isoflop_meter::Sample;
use isoflop_report::{Chart, ChartAxis, ChartSeries, Grid, RunRow, Section};
use isoflop_store::{Collected, SideLog, Store};

/// Anchor of the section.
pub const ID: &str = "cost";
/// Points of a trace on the page; more are folded, keeping the lowest and the highest of each stretch.
const TRACE_POINTS: usize = 400;
/// A longer time between two samples is a pause: the trace goes on after it without a line across it.
const PAUSE_S: f64 = 120.0;

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

/// The section.
pub fn section(
    study: &Study,
    (collected, rows): (&Collected, &[RunRow]),
    curves: &[CurveRow],
    noted: &Noted,
) -> Section {
    let points: Vec<&Point> = collected.points().map(|(point, _)| point).collect();
    let seconds: f64 = rows.iter().filter_map(|row| row.seconds.value()).sum();
    let gross = total(collected);
    let mut paragraphs = vec![energy_words(study, &gross, seconds, noted)];
    paragraphs.push(efficiency_words(&points));
    paragraphs.push(format!("{} {}", memory_words(study), wait_words(curves)));
    paragraphs.push(heat_words(&noted.samples));
    let mut tables = vec![runs_table(collected)];
    if !noted.alarms.is_empty() {
        tables.push(alarms_table(&noted.alarms));
    }
    let charts = [
        ("Temperature of the processor.", "°C", (|s| s.celsius) as fn(&Sample) -> Option<f64>),
        ("Power of the processors.", "watts", |s| s.watts),
    ];
    let charts = charts.into_iter().filter_map(|(title, unit, of)| trace(&noted.samples, title, unit, of));
    Section {
        id: ID.to_owned(),
        title: "What it cost".to_owned(),
        paragraphs,
        charts: charts.collect(),
        tables,
    }
}

/// Joules of training of all runs: measured if all are, estimated if one is.
pub fn total(collected: &Collected) -> Measured<f64> {
    let mut sum = Measured::measured(0.0);
    for run in &collected.runs {
        sum = match (sum, joules(run)) {
            (_, Measured::Missing { reason }) => return Measured::missing(reason),
            (Measured::Measured { value: a }, Measured::Measured { value: b }) => Measured::measured(a + b),
            (a, b) => {
                let how = [&a, &b].into_iter().find_map(|m| match m {
                    Measured::Estimated { how, .. } => Some(how.clone()),
                    _ => None,
                });
                let value = a.value().unwrap_or(&0.0) + b.value().unwrap_or(&0.0);
                Measured::estimated(value, how.unwrap_or_default())
            }
        };
    }
    sum
}

fn energy_words(study: &Study, gross: &Measured<f64>, seconds: f64, noted: &Noted) -> String {
    let (joules, how) = match gross {
        Measured::Missing { reason } => return format!("Energy is missing: {reason}."),
        Measured::Estimated { value, how } => (*value, format!("estimated from {how}")),
        Measured::Measured { value } => {
            let domains = noted.environment.as_ref().and_then(|e| e.energy.value().cloned());
            let domains = domains.map(|names| format!(" ({names})")).unwrap_or_default();
            (*value, format!("counted by the processors{domains}, all programs of the machine included"))
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
    let meter = &study.machine.instruments.meter;
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

fn memory_words(study: &Study) -> String {
    let plans = study.runs.iter().filter_map(|run| gpt::memory_plan(run, &study.machine).ok());
    let planned = plans.map(|plan| plan.total()).max();
    let planned =
        planned.map_or("not planned".to_owned(), |b| format!("{} planned for the largest run", bytes(b)));
    let peak = match isoflop_meter::System::real().peak_memory() {
        Measured::Missing { reason } => format!("its peak is missing: {reason}"),
        peak => format!("{} at most resident in this process", bytes(*peak.value().expect("it is there"))),
    };
    format!("Memory: {planned}, {peak}.")
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

/// A reading against hours of work; `None` if there are too few.
fn trace(samples: &[Sample], title: &str, unit: &str, of: fn(&Sample) -> Option<f64>) -> Option<Chart> {
    let (mut hours, mut before, mut line) = (0.0, None::<f64>, Vec::new());
    for sample in samples {
        let Some(value) = of(sample) else { continue };
        if let Some(last) = before {
            // A pause takes no room, and no line leads across it but the shortest.
            hours += (sample.unix_s - last).clamp(0.0, PAUSE_S) / 3600.0;
        }
        before = Some(sample.unix_s);
        line.push((hours, value));
    }
    (line.len() > 1).then(|| Chart {
        title: title.to_owned(),
        caption: "Against hours of work; of many samples the lowest and the highest of each stretch."
            .to_owned(),
        x: ChartAxis { label: "hours".to_owned(), log: false },
        y: ChartAxis { label: unit.to_owned(), log: false },
        series: vec![ChartSeries { name: String::new(), points: Vec::new(), line: thinned(line) }],
    })
}

/// At most so many points: of each stretch the lowest and the highest, in their order.
fn thinned(line: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if line.len() <= TRACE_POINTS {
        return line;
    }
    let stretch = line.len().div_ceil(TRACE_POINTS / 2);
    let ends = line.chunks(stretch).flat_map(|part| {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (lowest, highest) = (part.iter().min_by(by), part.iter().max_by(by));
        let mut ends: Vec<(f64, f64)> = lowest.into_iter().chain(highest).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_s: f64, celsius: Option<f64>) -> Sample {
        Sample { unix_s, celsius, ..Sample::default() }
    }

    #[test]
    fn a_trace_keeps_its_peaks_and_a_pause_takes_no_room() {
        let mut samples: Vec<Sample> = (0..5000).map(|i| sample(2.0 * i as f64, Some(60.0))).collect();
        samples[2500].celsius = Some(95.0);
        samples.iter_mut().skip(3000).for_each(|s| s.unix_s += 86_400.0);
        let chart = trace(&samples, "t", "°C", |s| s.celsius).unwrap();
        let line = &chart.series[0].line;
        assert!(line.len() <= TRACE_POINTS, "{}", line.len());
        assert!(line.iter().any(|(_, y)| *y == 95.0), "the peak is thinned away");
        assert!(line.last().unwrap().0 < 3.0, "a day's pause is drawn: {:?}", line.last());
        assert!(trace(&[sample(0.0, None)], "t", "°C", |s| s.celsius).is_none());
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
    }

    #[test]
    fn energy_is_said_in_the_unit_that_fits() {
        assert_eq!([energy(500.0), energy(7.2e3), energy(3.6e7)], ["500 J", "2.00 Wh", "10.000 kWh"]);
    }
}
