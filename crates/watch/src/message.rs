//! What the page is told, as JSON: all of a store once, thinned, and then what is new.

use crate::law::{Asked, Law};
use crate::line::{Dot, Line};
use crate::run::{FreshRow, METRICS, READINGS, Run};
use crate::store::{Seen, specs};
use isoflop_lab::collect;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Values of all runs together in the first message: what is drawn before anything else has arrived.
const FIRST_VALUES: usize = 24_000;
/// And in the one that follows it; of a few runs every value that is kept.
const ALL_VALUES: usize = 120_000;
/// Readings of the machines of all runs in it.
const ALL_READINGS: usize = 40_000;
/// Values of one line at least.
const LEAST_VALUES: usize = 48;

/// Indices of all quantities.
const ALL_METRICS: &[usize] = &[0, 1, 2, 3, 4, 5];

/// How much of each line is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Losses, coarsely.
    First,
    /// All quantities, finely.
    Full,
}

/// Laws by study.
pub type Laws = BTreeMap<String, Law>;

/// Everything that is seen.
pub fn whole(seen: &Seen, laws: &Laws, detail: Detail) -> String {
    let metrics = if detail == Detail::First { &[0, 1] } else { ALL_METRICS };
    let budget = if detail == Detail::First { FIRST_VALUES } else { ALL_VALUES };
    let each = |budget: usize, lines: usize| (budget / lines.max(1)).clamp(LEAST_VALUES, crate::line::MOST);
    let segments = seen.runs.values().map(|run| run.segments.len()).sum::<usize>();
    let values = each(budget, segments * metrics.len());
    let readings = (detail == Detail::Full).then(|| each(ALL_READINGS, seen.runs.len() * READINGS.len()));
    let mut head = head(seen);
    head["laws"] = serde_json::to_value(laws).unwrap_or_default();
    head["full"] = json!(detail == Detail::Full);
    head["alarms"] = alarms(seen.runs.values().flat_map(|run| &run.alarms));
    let mut out = open(&head);
    out.push_str(",\"runs\":[");
    for (index, run) in seen.runs.values().enumerate() {
        separate(&mut out, index);
        write_run(&mut out, run, metrics, values, readings);
    }
    out.push_str("]}");
    out
}

/// One run with every value that is kept of it; `None` if there is none of this name.
pub fn run(seen: &Seen, id: &str) -> Option<String> {
    let mut out = String::new();
    write_run(&mut out, seen.runs.get(id)?, ALL_METRICS, crate::line::MOST, Some(crate::line::MOST));
    Some(out)
}

/// What is new since [`Seen::heard`]; `None` if nothing is.
pub fn news(seen: &Seen, laws: Option<&Laws>) -> Option<String> {
    let changed = || seen.runs.values().filter(|run| run.fresh.changed || run.fresh.reset);
    if laws.is_none() && changed().next().is_none() && seen.removed.is_empty() {
        return None;
    }
    let mut head = head(seen);
    if let Some(laws) = laws {
        head["laws"] = serde_json::to_value(laws).unwrap_or_default();
    }
    head["removed"] = json!(seen.removed);
    head["alarms"] = alarms(changed().flat_map(|run| &run.fresh.alarms));
    let mut out = open(&head);
    out.push_str(",\"runs\":[");
    for (index, run) in changed().enumerate() {
        separate(&mut out, index);
        if run.fresh.reset {
            write_run(&mut out, run, ALL_METRICS, crate::line::MOST, Some(crate::line::MOST));
        } else {
            write_news(&mut out, run);
        }
    }
    out.push_str("]}");
    Some(out)
}

/// What is asked of the fit of each study that has points.
pub fn asked(seen: &Seen) -> Vec<Asked> {
    let mut all = Vec::new();
    for (study, runs) in seen.studies() {
        let known: Vec<&Run> = runs.into_iter().filter(|run| run.facts.is_some()).collect();
        let is = collect::of_the_law(&specs(&known));
        let of_the_law: Vec<&Run> =
            known.into_iter().zip(is).filter_map(|(run, is)| is.then_some(run)).collect();
        let mut planned: Vec<(f64, f64)> = Vec::new();
        for run in of_the_law.iter().filter(|run| run.is_live()) {
            let Some(facts) = &run.facts else { continue };
            let left = facts.spec.tokens().filter(|d| !run.points.iter().any(|p| p.tokens == *d));
            planned.extend(left.map(|d| (facts.spec.model.params() as f64, d as f64)));
        }
        for row in seen.planned_of(study) {
            planned.extend(row.points_tokens.iter().filter_map(|d| Some((row.params? as f64, *d as f64))));
        }
        planned.sort_by(|a, b| (a.0 * a.1).total_cmp(&(b.0 * b.1)));
        let ids = of_the_law.iter().filter(|run| !run.points.is_empty()).map(|run| run.id.clone());
        all.push(Asked { study: study.to_owned(), runs: ids.collect(), planned });
    }
    all
}

/// What both messages begin with.
fn head(seen: &Seen) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let name = seen.root().file_name().unwrap_or(seen.root().as_os_str()).to_string_lossy();
    let studies: Vec<Value> = seen
        .studies()
        .into_iter()
        .map(|(study, runs)| {
            let progress = seen.progress(study, &runs);
            let count = |of: &dyn Fn(&Run) -> bool| runs.iter().filter(|run| of(run)).count();
            json!({
                "name": study,
                "runs": runs.len(),
                "live": count(&Run::is_live),
                "waiting": seen.planned_of(study).iter().map(|row| &row.run).collect::<Vec<_>>(),
                "share": progress.share,
                "eta_s": progress.eta_s,
            })
        })
        .collect();
    let (read, of) = seen.read_so_far();
    json!({
        "schema": "isoflop.state/1",
        "now": now,
        "store": name,
        "path": seen.root(),
        "version": env!("CARGO_PKG_VERSION"),
        "problem": seen.problem,
        "reading": (read < of).then_some([read, of]),
        "studies": studies,
        "metrics": METRICS,
        "readings": READINGS,
    })
}

fn alarms<'a>(all: impl Iterator<Item = &'a isoflop_base::instruments::Alarm>) -> Value {
    serde_json::to_value(all.collect::<Vec<_>>()).unwrap_or_default()
}

/// An object that is still to be gone on with.
fn open(head: &Value) -> String {
    let mut out = head.to_string();
    out.pop();
    out
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

/// A run with its lines, of so many values each, and readings of its machine if they are wanted.
fn write_run(out: &mut String, run: &Run, metrics: &[usize], each: usize, readings: Option<usize>) {
    out.push_str(&open(&plain(&run.summary())));
    out.push_str(",\"segments\":[");
    for (index, segment) in run.segments.iter().enumerate() {
        separate(out, index);
        let _ = write!(out, "{{\"name\":{},\"from\":{}", Value::from(segment.name.as_str()), segment.from);
        for &metric in metrics {
            write_line(out, METRICS[metric], &segment.lines[metric], each, true);
        }
        out.push('}');
    }
    out.push(']');
    if let Some(each) = readings {
        out.push_str(",\"machine\":{\"of\":1");
        for (name, line) in READINGS.iter().zip(&run.machine) {
            write_line(out, name, line, each, false);
        }
        out.push('}');
    }
    out.push('}');
}

/// `,"name":{"n":5000,"x":[…],"t":[…],"y":[…],"apart":[…]}`.
fn write_line(out: &mut String, name: &str, line: &Line, each: usize, timed: bool) {
    if line.seen() == 0 {
        return;
    }
    let dots = line.thinned(each);
    let _ = write!(out, ",\"{name}\":{{\"n\":{}", line.seen());
    let column = |out: &mut String, key: &str, of: &dyn Fn(&Dot) -> f64| {
        let _ = write!(out, ",\"{key}\":[");
        for (index, dot) in dots.iter().enumerate() {
            separate(out, index);
            write_number(out, of(dot));
        }
        out.push(']');
    };
    column(out, "x", &|dot| dot.x);
    if timed {
        column(out, "t", &|dot| f64::from(dot.seconds));
    }
    column(out, "y", &|dot| f64::from(dot.y));
    let apart: Vec<usize> = dots.iter().enumerate().filter(|(_, d)| d.apart).map(|(i, _)| i).collect();
    if !apart.is_empty() {
        let _ = write!(out, ",\"apart\":{apart:?}");
    }
    out.push('}');
}

/// A run with what is new of it.
fn write_news(out: &mut String, run: &Run) {
    out.push_str(&open(&plain(&run.summary())));
    out.push_str(",\"names\":");
    let names: Vec<Value> = run.segments.iter().map(|s| json!([s.name, s.from])).collect();
    out.push_str(&Value::from(names).to_string());
    out.push_str(",\"new\":[");
    for (index, FreshRow { segment, step, seconds, values }) in run.fresh.rows.iter().enumerate() {
        separate(out, index);
        let _ = write!(out, "[{segment},{step},");
        write_number(out, *seconds);
        write_values(out, values);
    }
    out.push_str("],\"samples\":[");
    for (index, sample) in run.fresh.samples.iter().enumerate() {
        separate(out, index);
        let _ = write!(out, "[{:.1},{}", sample.unix_s, u8::from(sample.apart));
        write_values(out, &sample.values);
    }
    out.push_str("]}");
}

/// `,1.5,null]`.
fn write_values(out: &mut String, values: &[Option<f64>]) {
    for value in values {
        out.push(',');
        write_number(out, value.unwrap_or(f64::NAN));
    }
    out.push(']');
}

/// About seven digits: what an `f32` has. What is no number is null.
fn write_number(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
    } else if value == value.trunc() && value.abs() < 1e15 {
        let _ = write!(out, "{value:.0}");
    } else if (1e-3..1e12).contains(&value.abs()) {
        let digits = (6 - value.abs().log10().floor() as i32).clamp(1, 9) as usize;
        let _ = write!(out, "{value:.digits$}");
    } else {
        let _ = write!(out, "{value:.6e}");
    }
}

fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_json_and_short() {
        let text = |value| {
            let mut out = String::new();
            write_number(&mut out, value);
            out
        };
        for (value, expected) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (1.234_567_89, "1.234568"),
            (12_345.678_9, "12345.68"),
            (0.01, "0.01000000"),
            (1.5e-9, "1.500000e-9"),
            (1_795_746_383.556, "1795746383.6"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(text(value), expected);
            assert!(serde_json::from_str::<Value>(&text(value)).is_ok(), "{value}");
        }
    }
}
