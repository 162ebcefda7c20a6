//! `isoflop runs show`: everything about one run.

use super::{
    Answer, instruments,
    table::{self, Table},
};
use isoflop_base::{Measured, Point, SourceSeen, Status, units};
use isoflop_lab::noise::{NoiseScale, noise_scale};
use isoflop_lab::sources::DataWait;
use isoflop_lab::spending::Noted;
use isoflop_store::{Checkpoints, Health, RunView, Store};
use serde_json::json;
use std::fmt::Write as _;

pub(super) fn show(store: &Store, id: &str) -> anyhow::Result<Answer> {
    let run = store.read_run(id)?;
    let status = run.status()?;
    // What is damaged is told by the health below; the rest is still shown.
    let points = run.points().unwrap_or_default();
    let checkpoints = run.checkpoints()?;
    let attempts = run.num_attempts()?;
    let health = run.health();
    let curves = run.curves().unwrap_or_default();
    let (noise, wait) = (noise_scale(&curves), DataWait::of(&curves));
    let noted = Noted::read(store, [id]);
    let listed: Vec<_> = checkpoints
        .complete
        .iter()
        .map(|c| json!({ "label": c.label, "position": c.position, "pinned": c.pinned, "bytes": c.bytes, "dir": c.dir }))
        .collect();
    let json = json!({
        "id": id,
        "dir": run.dir(),
        "status": status,
        "points": points,
        "checkpoints": listed,
        "attempts": attempts,
        "noise_scale": noise,
        "data_wait": wait,
        "environment": noted.environment,
        "alarms": noted.alarms,
        "machine": noted.samples,
        "health": health,
        "spec": run.spec(),
    });
    let text = in_words(&run, &status, &points, &checkpoints, attempts, &noise, wait, &health, &noted);
    Ok(Answer { json, text, notes: Vec::new() })
}

fn in_words(
    run: &RunView,
    status: &Status,
    points: &[Point],
    checkpoints: &Checkpoints,
    attempts: usize,
    noise: &NoiseScale,
    wait: Option<DataWait>,
    health: &Health,
    noted: &Noted,
) -> String {
    let mut out = format!("{}  {}\n{}\n", run.id(), status_words(status), run.dir().display());
    if attempts > 0 {
        let _ = writeln!(out, "interrupted and resumed: {}", table::count(attempts, "attempt set aside"));
    }
    if let Some(row) = run.last_curve_row() {
        let _ = writeln!(
            out,
            "last logged: {}, step {}, {} tokens, training loss {:.4} nats/token",
            row.segment,
            row.step,
            units::si(row.tokens as f64),
            row.train_loss
        );
    }
    if !points.is_empty() {
        let _ = write!(out, "\n{}", points_table(points));
        out.push_str(&cost_words(points.last()));
    }
    if let Some(sources) = points.last().map(|p| &p.sources).filter(|sources| !sources.is_empty()) {
        let _ = write!(out, "\n{}", sources_table(sources));
    }
    let _ = writeln!(out, "{}", noise_words(noise));
    if let Some(DataWait { mean, worst }) = wait {
        let (mean, worst) = (100.0 * mean, 100.0 * worst);
        let _ = writeln!(
            out,
            "waiting for data: {mean:.2} % of the steps' time, {worst:.2} % in the worst interval"
        );
    }
    out.push_str(&instruments::words(noted));
    if !checkpoints.complete.is_empty() {
        let _ = write!(out, "\n{}", checkpoints_table(checkpoints));
    }
    match health.problems.as_slice() {
        [] => out.push_str("\nhealth: sound (records, lengths and hashes verified)\n"),
        problems => {
            let _ = writeln!(out, "\nhealth: {}", table::count(problems.len(), "problem"));
            for problem in problems {
                let _ = writeln!(out, "  {}", problem.replace('\n', "\n  "));
            }
        }
    }
    let spec = serde_json::to_string_pretty(run.spec()).expect("JSON values are plain data");
    let _ = write!(out, "\nspecification:\n{spec}\n");
    out
}

/// What the last point cost, and why what is missing is.
fn cost_words(point: Option<&Point>) -> String {
    let Some(point) = point else { return String::new() };
    let mut out = format!(
        "power {}, speed {}, per watt {}, share of peak {}\n",
        measured(&point.watts(), |w| format!("{w:.1} W")),
        measured(&point.flops_per_s(), |f| format!("{}FLOP/s", units::si(*f))),
        measured(&point.flops_per_joule(), |f| format!("{}FLOP/s", units::si(*f))),
        measured(&point.peak_share, |s| format!("{:.0} %", 100.0 * s)),
    );
    for (name, value) in [("energy", &point.energy_j), ("share of peak", &point.peak_share)] {
        match value {
            Measured::Missing { reason } => {
                let _ = writeln!(out, "{name} missing ({reason})");
            }
            Measured::Estimated { how, .. } => {
                let _ = writeln!(out, "{name} estimated ({how})");
            }
            Measured::Measured { .. } => {}
        }
    }
    out
}

/// What the last point had read of each source.
fn sources_table(sources: &[SourceSeen]) -> Table {
    let mut table = Table::new(&[("source", false), ("tokens", true), ("distinct", true), ("passes", true)]);
    for s in sources {
        let passes = if s.epochs > 0.0 { format!("{:.3}", s.epochs) } else { "–".to_owned() };
        table.row(vec![
            s.name.clone(),
            units::si(s.tokens as f64),
            units::si(s.unique_tokens as f64),
            passes,
        ]);
    }
    table
}

/// `noise scale B_simple ~12.3 k tokens (…)`.
fn noise_words(noise: &NoiseScale) -> String {
    match &noise.tokens {
        Measured::Estimated { value, how } => {
            let later = match noise.later_tokens.value() {
                Some(tokens) => format!("{} tokens over the later half", units::si(*tokens)),
                None => "not told apart over the later half".to_owned(),
            };
            format!("gradient noise scale B_simple: ~{} tokens ({how}), {later}", units::si(*value))
        }
        Measured::Missing { reason } => format!("gradient noise scale B_simple: missing: {reason}"),
        Measured::Measured { value } => {
            format!("gradient noise scale B_simple: {} tokens", units::si(*value))
        }
    }
}

fn status_words(status: &Status) -> String {
    match status {
        Status::Diverged { step, segment } => format!("diverged at step {step} of {segment}"),
        Status::Stopped { reason } => format!("stopped: {reason}"),
        Status::Failed { reason } => format!("failed: {reason}"),
        other => other.word().to_owned(),
    }
}

fn points_table(points: &[Point]) -> Table {
    let mut table = Table::new(&[
        ("point", false),
        ("N", true),
        ("D tokens", true),
        ("loss nats/token", true),
        ("bits/byte", true),
        ("FLOPs", true),
        ("time", true),
        ("tokens/s", true),
        ("energy", true),
    ]);
    for point in points {
        table.row(vec![
            point.kind.word().to_owned(),
            units::si(point.params as f64),
            units::si(point.tokens as f64),
            table::loss(point.loss, point.loss_se),
            table::or_dash(point.bits_per_byte.map(|b| format!("{b:.4}"))),
            format!("{:.3e}", point.flops),
            measured(&point.seconds, |s| units::duration(*s)),
            measured(&point.tokens_per_s, |t| units::si(*t)),
            measured(&point.energy_j, |j| format!("{}J", units::si(*j))),
        ]);
    }
    table
}

/// A `~` marks an estimate, a dash what is missing.
fn measured<T>(value: &Measured<T>, words: impl Fn(&T) -> String) -> String {
    match value {
        Measured::Measured { value } => words(value),
        Measured::Estimated { value, .. } => format!("~{}", words(value)),
        Measured::Missing { .. } => "–".to_owned(),
    }
}

fn checkpoints_table(checkpoints: &Checkpoints) -> Table {
    let mut table = Table::new(&[("checkpoint", false), ("position", true), ("size", true), ("", false)]);
    for c in &checkpoints.complete {
        let kept = if c.pinned { "kept" } else { "" };
        table.row(vec![c.label.clone(), c.position.to_string(), units::bytes(c.bytes), kept.to_owned()]);
    }
    table
}
