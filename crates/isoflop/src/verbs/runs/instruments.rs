//! What the instruments noted of a run, in words: what it was run with, how warm it became, what looked wrong.

use super::table;
use isoflop_base::{Measured, units};
use isoflop_lab::environment::Environment;
use isoflop_lab::spending::Noted;
use isoflop_meter::Sample;
use std::fmt::Write as _;

/// Lines for `runs show`; nothing for a run of before there were instruments.
pub(super) fn words(noted: &Noted) -> String {
    let mut out = String::new();
    if let Some(environment) = &noted.environment {
        out.push_str(&ran_with(environment));
    }
    if !noted.samples.is_empty() {
        out.push_str(&machine(&noted.samples));
    }
    if !noted.alarms.is_empty() {
        let _ = writeln!(out, "{}:", table::count(noted.alarms.len(), "alarm"));
        for alarm in &noted.alarms {
            let step = alarm.step.map(|step| format!(" at step {step}")).unwrap_or_default();
            let (when, kind) = (table::utc(alarm.unix_s), alarm.alarm.word());
            let _ = writeln!(out, "  {when}  {kind}{step}: {}", alarm.words);
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

fn ran_with(e: &Environment) -> String {
    let git = match &e.git {
        Measured::Missing { reason } => format!("source unknown ({reason})"),
        git => git.value().map_or_else(String::new, |git| match git.changed {
            0 => format!("source {}, clean", git.commit),
            n => format!("source {}, {} changed", git.commit, table::count(n as usize, "file")),
        }),
    };
    let word = |m: &Measured<String>| m.value().cloned().unwrap_or_else(|| "unknown".to_owned());
    let guest = if e.virtual_machine { ", a virtual machine" } else { "" };
    let load = e.load.value().and_then(|means| means.first()).map(|mean| format!(", load {mean:.2}"));
    let memory = e.memory.value().map(|b| format!(", {} of memory", units::bytes(*b))).unwrap_or_default();
    let planned = e.planned_memory.value().map(|b| format!(" ({} planned)", units::bytes(*b)));
    format!(
        "last run with: isoflop {} ({}), {}\n  {}\n  {} on {}{guest}, {} threads, {}{memory}{}{}\n  {git}\n",
        e.version,
        e.build,
        table::utc(e.unix_s),
        e.command.join(" "),
        word(&e.processor),
        word(&e.system),
        e.threads,
        e.kernels,
        planned.unwrap_or_default(),
        load.unwrap_or_default(),
    )
}

fn machine(samples: &[Sample]) -> String {
    let span = |of: fn(&Sample) -> Option<f64>, unit: &str| {
        let all: Vec<f64> = samples.iter().filter_map(of).collect();
        let highest = all.iter().copied().reduce(f64::max)?;
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        Some(format!("{mean:.0} {unit} on average, {highest:.0} {unit} at most"))
    };
    let shown = |name: &str, span: Option<String>| match span {
        Some(words) => format!("{name} {words}"),
        None => format!("{name} not shown by this machine"),
    };
    let percent = |of: fn(&Sample) -> Option<f64>| {
        let all: Vec<f64> = samples.iter().filter_map(of).collect();
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        if all.is_empty() { "unknown".to_owned() } else { format!("{:.0} %", 100.0 * mean) }
    };
    format!(
        "machine, {}: {}; {}; processors {} ours, {} others, {} stolen\n",
        table::count(samples.len(), "sample"),
        shown("temperature", span(|s| s.celsius, "°C")),
        shown("power", span(|s| s.watts, "W")),
        percent(|s| s.own),
        percent(|s| s.others),
        percent(|s| s.stolen),
    )
}
