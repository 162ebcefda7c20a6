//! The claims with their verdicts, and the home report's own table.

use super::FewShotInput;
use super::headline::tested_shots;
use super::input::{ClaimRow, MethodRow};
use super::methods::Methods;
use super::words::{and, grouped, percent, plus_minus};
use crate::html::escape;
use crate::numbers::{self, NONE, count, fixed};
use crate::page::{code, end_sentence, energy_text, section};
use isoflop_base::{Measured, units};

/// Class and sign of a verdict; a word that is none of ours is shown as it is.
fn ruling(verdict: &str) -> (&'static str, &'static str) {
    match verdict {
        "holds" => ("reproduced", "✓"),
        "refuted" => ("not-reproduced", "✗"),
        _ => ("cannot-tell", "?"),
    }
}

/// The claims and their verdicts.
pub(super) fn claims(claims: &[ClaimRow]) -> String {
    if claims.is_empty() {
        return String::new();
    }
    let row = |c: &ClaimRow| {
        let (class, sign) = ruling(&c.verdict);
        format!(
            "<tr><td><b>{}</b><small>{}</small></td><td>{}</td><td><span class=\"ruling {class}\">{sign} {}</span>\
             <small>{}</small></td></tr>\n",
            escape(&c.claim),
            escape(&c.source),
            escape(&c.found).replace("; ", "<br>"),
            escape(&c.verdict),
            code(&escape(&c.why))
        )
    };
    let rows: String = claims.iter().map(row).collect();
    let body = format!(
        "<div class=\"scroll\"><table class=\"claims\"><thead><tr><th>claim and source</th><th>found here</th>\
         <th>verdict and why</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    );
    section("claims", "Which claims hold here", &body)
}

/// A measured value in a cell, and, when there is none, a dash that says why on hovering; the reason is kept for the
/// notes under the table.
fn cell<T>(
    value: &Measured<T>,
    column: &str,
    show: impl Fn(&T) -> String,
    sort: impl Fn(&T) -> f64,
    reasons: &mut Vec<(String, String)>,
) -> String {
    let key = value.value().map(sort).filter(|v| v.is_finite());
    let key = key.map(|v| format!(" data-v=\"{v}\"")).unwrap_or_default();
    let text = match value {
        Measured::Missing { reason } => {
            let known = (column.to_owned(), reason.clone());
            if !reasons.contains(&known) {
                reasons.push(known);
            }
            format!("<span class=\"missing\" title=\"missing: {}\">{NONE}</span>", escape(reason))
        }
        known => numbers::provenance(known, show),
    };
    format!("<td class=\"num\"{key}>{text}</td>")
}

fn result(row: &MethodRow, best: bool, methods: &Methods<'_>, reasons: &mut Vec<(String, String)>) -> String {
    let accuracy = &row.accuracy;
    let tag = |text: String| if best { format!("<b>{text}</b>") } else { text };
    let each: Vec<String> = row.accuracies.iter().map(|a| percent(*a, 2)).collect();
    let seeds = match accuracy.seeds_half {
        Some(half) if half.is_finite() => format!("± {}", fixed(100.0 * half, 2)),
        _ => NONE.to_owned(),
    };
    let seconds = |s: &f64| units::duration(*s);
    format!(
        "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\" data-v=\"{}\">{}</td>\
         <td class=\"num\" title=\"{}\">{seeds}</td>{}{}{}{}<td class=\"num\">{}</td></tr>\n",
        tag(methods.named(&row.method)),
        row.shots,
        if accuracy.mean.is_finite() { accuracy.mean } else { 0.0 },
        tag(escape(&format!("{}{}", percent(accuracy.mean, 2), plus_minus(accuracy.half, 2)))),
        escape(&format!("seeds {:?}: {}", row.seeds, each.join(", "))),
        cell(&row.seconds, "training", seconds, |v| *v, reasons),
        cell(&row.start_seconds, "pre-training", seconds, |v| *v, reasons),
        cell(&row.memory_bytes, "memory", |b| units::bytes(*b), |v| *v as f64, reasons),
        cell(&row.joules, "energy", |j| energy_text(*j), |v| *v, reasons),
        escape(&count(row.head_params as f64)),
    )
}

/// A row for each method and number of shots.
pub(super) fn results(input: &FewShotInput, methods: &Methods<'_>) -> String {
    if input.rows.is_empty() {
        return section("results", "Results", "<p class=\"missing\">No method has been tested yet.</p>");
    }
    let (mut rows, mut reasons) = (String::new(), Vec::new());
    for k in tested_shots(input) {
        let mut group: Vec<&MethodRow> = input.rows.iter().filter(|row| row.shots == k).collect();
        group.sort_by_key(|row| methods.place(&row.method));
        let best =
            group.iter().map(|row| row.accuracy.mean).filter(|m| m.is_finite()).fold(f64::MIN, f64::max);
        for row in group {
            rows.push_str(&result(row, row.accuracy.mean >= best, methods, &mut reasons));
        }
    }
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(column, reason)| format!(" {NONE} in {column}: {}", escape(&end_sentence(&reason))))
        .collect();
    let one_seed = input.rows.iter().any(|row| row.accuracy.seeds_half.is_none());
    let one_seed = if one_seed { " A single seed has no interval over seeds." } else { "" };
    let body = format!(
        "<div class=\"scroll\"><table class=\"sortable results\"><thead><tr><th>method</th><th class=\"num\">shots</th>\
         <th class=\"num\">accuracy ± episodes</th><th class=\"num\">± seeds</th><th class=\"num\">training</th>\
         <th class=\"num\">pre-training</th><th class=\"num\">memory</th><th class=\"num\">energy</th>\
         <th class=\"num\">head weights</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n\
         <p class=\"note\">Share of right answers in {}-way episodes of {} queries of each class, with intervals of \
         95\u{202f}% in points: over test episodes, and over seeds by Student’s t.{one_seed} Best at each \
         number of shots \
         in bold. Training is the time on episodes; pre-training is what it starts from and is shared by all \
         that start \
         there. Memory is what the engine held in training. Energy is that of both. Head weights stand beside the \
         backbone’s {}.{}</p>\n",
        input.test.ways,
        input.test.queries,
        grouped(input.backbone.params),
        reasons.concat()
    );
    let all: Vec<String> = tested_shots(input).into_iter().map(|k| k.to_string()).collect();
    let noun = if all == ["1"] { "shot" } else { "shots" };
    section("results", &format!("Every method at {} {noun}, and what it cost", and(&all)), &body)
}
