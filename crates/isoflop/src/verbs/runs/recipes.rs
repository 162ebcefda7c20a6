//! `isoflop runs compare 'old-*' 'new-*'`: two recipes, each by all its runs.

use super::{
    Answer,
    table::{self, Table},
};
use isoflop_base::units;
use isoflop_lab::UserError;
use isoflop_laws::arms::Estimate;
use isoflop_laws::recipes::{self, Comparison, Measured};
use isoflop_store::Store;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Level of the intervals.
const LEVEL: f64 = 0.95;

/// Whether what was given are patterns: no run is called by a star.
pub(super) fn are_patterns(ids: &[String]) -> bool {
    ids.iter().any(|id| id.contains(['*', '?', '[']))
}

pub(super) fn compare(store: &Store, patterns: &[String], threshold: f64) -> anyhow::Result<Answer> {
    let [first, second] = patterns else {
        return Err(UserError::new(format!("{} patterns; a comparison is of two recipes", patterns.len()))
            .hint("give two, each in quotes so that the shell leaves them: 'old-*' 'new-*'")
            .into());
    };
    if !(threshold >= 0.0 && threshold.is_finite()) {
        return Err(UserError::new(format!("--threshold {threshold} is no difference of losses")).into());
    }
    let ids = store.run_ids()?;
    let groups = [matching(&ids, first)?, matching(&ids, second)?];
    if let Some(both) = groups[0].iter().find(|id| groups[1].contains(id)) {
        return Err(UserError::new(format!("run `{both}` is in both recipes"))
            .hint("narrow a pattern, so that each run belongs to one")
            .into());
    }
    let mut points = [Vec::new(), Vec::new()];
    for (group, points) in groups.iter().zip(&mut points) {
        for id in group {
            for point in store.read_run(id)?.points()? {
                points.push(Measured {
                    size: point.params as f64,
                    seed: point.seed,
                    tokens: point.tokens as f64,
                    loss: point.loss,
                });
            }
        }
    }
    let found = recipes::compare(&points[0], &points[1], threshold, LEVEL).ok_or_else(|| {
        UserError::new(format!(
            "{first} and {second} have no finished point of one size and length in common"
        ))
        .hint("`isoflop runs ls` lists them")
    })?;
    let json = json!({
        "recipes": [{ "pattern": first, "runs": groups[0] }, { "pattern": second, "runs": groups[1] }],
        "paired": found.paired,
        "level": LEVEL,
        "threshold": threshold,
        "difference": estimate(&found.difference),
        "compute_multiplier": found.multiplier.as_ref().map(estimate),
        "units_needed": found.needed,
        "verdict": verdict(&found, threshold, second),
        "cells": found.cells.iter().map(|c| json!({
            "params": c.size, "tokens": c.tokens, "first": c.first, "second": c.second,
            "difference": estimate(&c.difference),
        })).collect::<Vec<_>>(),
    });
    Ok(Answer { json, text: text(&found, threshold, first, second), notes: Vec::new() })
}

fn matching<'a>(ids: &'a [String], pattern: &str) -> Result<Vec<&'a String>, UserError> {
    let glob = glob::Pattern::new(pattern)
        .map_err(|e| UserError::new(format!("`{pattern}` is no pattern: {e}")).hint("use *, ? and [abc]"))?;
    let found: Vec<&String> = ids.iter().filter(|id| glob.matches(id)).collect();
    if found.is_empty() {
        return Err(
            UserError::new(format!("no run matches `{pattern}`")).hint("`isoflop runs ls` lists them")
        );
    }
    Ok(found)
}

fn estimate(e: &Estimate) -> Value {
    json!({ "value": e.value, "lo": e.ends.map(|e| e.0), "hi": e.ends.map(|e| e.1), "units": e.units })
}

fn text(found: &Comparison, threshold: f64, first: &str, second: &str) -> String {
    let mut table = Table::new(&[
        ("N", true),
        ("D tokens", true),
        (first, true),
        (second, true),
        ("difference", true),
        ("95 %", false),
    ]);
    let losses = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let spread = if values.len() > 1 { format!(" s {:.4}", variance.sqrt()) } else { String::new() };
        format!("{mean:.4}{spread} ({})", values.len())
    };
    for cell in &found.cells {
        table.row(vec![
            units::si(cell.size),
            units::si(cell.tokens),
            losses(&cell.first),
            losses(&cell.second),
            format!("{:+.4}", cell.difference.value),
            table::or_dash(cell.difference.ends.map(|(lo, hi)| format!("{lo:+.4} to {hi:+.4}"))),
        ]);
    }
    let mut out = format!("{table}\n");
    let units = if found.paired { "pairs of one size and seed" } else { "runs, sizes set apart" };
    let _ = writeln!(
        out,
        "difference  {:+.4}{} nats per token ({} {units})",
        found.difference.value,
        ends(&found.difference, |v| format!("{v:+.4}")),
        found.difference.units
    );
    if let Some(multiplier) = &found.multiplier {
        let _ = writeln!(
            out,
            "multiplier  {:.3}{}: {second} is worth so many times the tokens of {first} at equal size",
            multiplier.value,
            ends(multiplier, |v| format!("{v:.3}"))
        );
    } else {
        out.push_str(
            "multiplier  not known: it needs two lengths of one size, between which the loss falls\n",
        );
    }
    let _ = writeln!(out, "{}", verdict(found, threshold, second));
    out
}

fn ends(e: &Estimate, number: impl Fn(f64) -> String) -> String {
    e.ends.map_or_else(String::new, |(lo, hi)| format!(" ({} to {})", number(lo), number(hi)))
}

fn verdict(found: &Comparison, threshold: f64, second: &str) -> String {
    let by = if threshold > 0.0 { format!(" by more than {threshold} nats") } else { String::new() };
    if found.difference.is_below(-threshold) {
        return format!("{second} is better{by}");
    }
    if found.difference.is_above(threshold) {
        return format!("{second} is worse{by}");
    }
    if threshold > 0.0 && found.difference.ends.is_some_and(|(lo, hi)| -threshold < lo && hi < threshold) {
        return format!("the recipes differ by less than {threshold} nats");
    }
    let units = if found.paired { "pairs" } else { "runs" };
    match found.needed {
        Some(needed) if needed > found.difference.units => format!(
            "cannot tell{by}: about {} more {units} would, if the difference and its spread stay what they are",
            needed - found.difference.units
        ),
        _ if found.difference.ends.is_none() => {
            format!("cannot tell{by}: two {units} or more have an interval")
        }
        _ => format!("cannot tell{by}"),
    }
}
