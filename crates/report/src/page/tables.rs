//! The tables: completions, claims, runs, rows.

use super::section;
use crate::claims::{Ruling, Verdict};
use crate::data::Data;
use crate::html::{escape, prose};
use crate::input::{LedgerRow, ReportInput};
use crate::numbers::{self, count, fixed, scientific};
use isoflop_base::ledger::{Convention, Ledger, Part};
use isoflop_base::{Measured, Point, Status, units};
use isoflop_laws::LawDocument;
use std::collections::BTreeMap;

/// Characters of a completion that are shown.
const SHOWN_CHARS: usize = 420;

/// One prompt continued by every size.
pub(crate) fn completions(input: &ReportInput, data: &Data) -> String {
    let mut by_prompt: BTreeMap<&str, Vec<&crate::input::Completion>> = BTreeMap::new();
    for c in &input.completions {
        by_prompt.entry(&c.prompt).or_default().push(c);
    }
    let mut body = String::new();
    for (prompt, mut rows) in by_prompt {
        rows.sort_by_key(|c| (c.shape.params(), c.shape));
        let voices: String = rows
            .iter()
            .map(|c| {
                let n = c.shape.params() as f64;
                let mut shown: String = c.text.chars().take(SHOWN_CHARS).collect();
                if shown.chars().count() < c.text.chars().count() {
                    shown.push('…');
                }
                let loss = data
                    .obs
                    .iter()
                    .filter(|o| o.n.is_some_and(|m| crate::data::same(m, n)))
                    .map(|o| o.loss)
                    .fold(f64::INFINITY, f64::min);
                let loss = if loss.is_finite() { format!(", loss {}", fixed(loss, 3)) } else { String::new() };
                format!(
                    "<div class=\"voice\"><b><span class=\"swatch {}\"></span>{}<small>N = {}{loss}</small></b>\
                     <p><span class=\"prompt\">{}</span>{}</p></div>\n",
                    data.size_class(Some(n)),
                    escape(&c.shape.to_string()),
                    escape(&count(n)),
                    escape(prompt),
                    escape(&shown)
                )
            })
            .collect();
        body.push_str(&format!("<div class=\"voices\">{voices}</div>\n"));
    }
    if body.is_empty() {
        return String::new();
    }
    let lead = "<p>One prompt, continued by every size in turn. The loss is an average; this is what it sounds like.</p>\n";
    section("completions", "What a lower loss sounds like", &format!("{lead}{body}"))
}

/// Text between backticks as code; the text is escaped already.
pub(crate) fn code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return text.to_owned();
    }
    let mark = |(i, part): (usize, &&str)| {
        if i % 2 == 1 { format!("<code>{part}</code>") } else { (*part).to_owned() }
    };
    parts.iter().enumerate().map(mark).collect()
}

/// The claims and their verdicts.
pub(crate) fn claims(verdicts: &[Verdict]) -> String {
    let rows: String = verdicts
        .iter()
        .map(|v| {
            let (class, sign) = match v.ruling {
                Ruling::Reproduced => ("reproduced", "✓"),
                Ruling::NotReproduced => ("not-reproduced", "✗"),
                Ruling::CannotTell => ("cannot-tell", "?"),
            };
            format!(
                "<tr><td><b>{}</b><small>{}</small></td><td>{}</td><td><span class=\"ruling {class}\">{sign} {}</span>\
                 <small>{}</small></td></tr>\n",
                prose(&v.claim),
                prose(&v.source),
                prose(&v.measured).replace("; ", "<br>"),
                v.ruling.words(),
                code(&prose(&v.why))
            )
        })
        .collect();
    let body = format!(
        "<div class=\"scroll\"><table class=\"claims\"><thead><tr><th>claim and source</th><th>measured here</th>\
         <th>verdict and why</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    );
    section("claims", "Which published claims hold here", &body)
}

/// Each next size from all smaller ones, and each size from all others.
pub(crate) fn foretold(laws: Option<&LawDocument>) -> String {
    let Some(laws) = laws else { return String::new() };
    let between = |lo: Option<f64>, hi: Option<f64>| match (lo, hi) {
        (Some(lo), Some(hi)) => format!("{} to {}", fixed(lo, 3), fixed(hi, 3)),
        _ => "no interval".to_owned(),
    };
    let table = |lead: &str, head: &str, rows: String| {
        format!(
            "<p>{}</p>\n<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n",
            escape(lead)
        )
    };
    let mut body = String::new();
    if let Some(first) = laws.rollout.first() {
        let hits = laws.rollout.iter().filter(|r| r.hit).count();
        let lead = format!(
            "The same asked for every number of sizes, after the fact: L(N) of the smallest sizes at D = {}, and what it \
             says of the next one. {hits} of {} were inside their intervals.",
            count(first.tokens),
            laws.rollout.len()
        );
        let rows: String = laws.rollout.iter().map(|r| {
            let (class, sign) = if r.hit { ("reproduced", "✓ hit") } else { ("not-reproduced", "✗ miss") };
            format!(
                "<tr>{}{}<td class=\"num\">{}<small>{}</small></td>{}{}<td><span class=\"ruling {class}\">{sign}</span></td></tr>\n",
                number_cell(r.sizes as f64, &format!("{} smallest", r.sizes)),
                number_cell(r.n, &count(r.n)),
                fixed(r.forecast, 3),
                escape(&between(r.lo, r.hi)),
                number_cell(r.observed, &fixed(r.observed, 3)),
                number_cell(r.relative_error, &numbers::signed_percent(r.relative_error, 2)),
            )
        }).collect();
        let head = "<th class=\"num\">from the</th><th class=\"num\">next N</th><th class=\"num\">forecast</th>\
                    <th class=\"num\">measured</th><th class=\"num\">off by</th><th></th>";
        body.push_str(&table(&lead, head, rows));
    }
    if let Some(first) = laws.left_out.first() {
        let out: Vec<String> =
            laws.left_out.iter().filter(|s| s.ruling == "looks untuned").map(|s| count(s.n)).collect();
        let verdict = match out.as_slice() {
            [] => "None lies above what the others say: no size looks untuned.".to_owned(),
            sizes => format!(
                "Above what the others say, so it looks untuned or unlucky: N = {}.",
                sizes.join(", ")
            ),
        };
        let lead = format!(
            "Each size left out in turn and expected from all others, at D = {}. {verdict}",
            count(first.tokens)
        );
        let rows: String = laws.left_out.iter().map(|s| {
            let class = match s.ruling.as_str() {
                "on the line" => "reproduced",
                "looks untuned" => "not-reproduced",
                _ => "cannot-tell",
            };
            format!(
                "<tr>{}<td class=\"num\">{}<small>{}</small></td>{}<td><span class=\"ruling {class}\">{}</span></td></tr>\n",
                number_cell(s.n, &count(s.n)),
                fixed(s.expected, 3),
                escape(&between(s.lo, s.hi)),
                number_cell(s.observed, &fixed(s.observed, 3)),
                escape(&s.ruling),
            )
        }).collect();
        body.push_str(&table(&lead, "<th class=\"num\">N</th><th class=\"num\">the others say</th><th class=\"num\">measured</th><th></th>", rows));
    }
    body
}

/// Operations per token by part of the model, a row for each size and convention.
pub(crate) fn parts(ledger: &[LedgerRow]) -> String {
    let rows: String = ledger
        .iter()
        .filter_map(|row| Some((row.shape, row.vocab_context?)))
        .flat_map(|(shape, (vocab, context))| {
            let ledger = Ledger::new(shape, vocab, context);
            Convention::ALL.map(|convention| {
                let total = ledger.total(convention);
                let parts: String = Part::ALL
                    .map(|part| {
                        let share = ledger.training(convention, part) / total;
                        let percent = format!("{} %", fixed(100.0 * share, 1));
                        number_cell(share, if share == 0.0 { numbers::NONE } else { &percent })
                    })
                    .concat();
                format!(
                    "<tr><td>{}</td><td>{}</td>{}{}{parts}</tr>\n",
                    escape(&shape.to_string()),
                    escape(convention.word()),
                    number_cell(total, &count(total)),
                    number_cell(total, &fixed(total / ledger.total(Convention::Kaplan), 2)),
                )
            })
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<details><summary>FLOPs per token by part, under four conventions</summary><div class=\"scroll\">\
         <table class=\"sortable\"><thead><tr><th>model</th><th>convention</th><th class=\"num\">FLOPs per token</th>\
         <th class=\"num\">of 6N</th><th class=\"num\">embedding</th><th class=\"num\">attention</th>\
         <th class=\"num\">scores</th><th class=\"num\">MLP</th><th class=\"num\">head</th></tr></thead><tbody>\n{rows}\
         </tbody></table></div><p><small>Training, forward and backward, of a full context. Attention: the matrices of \
         queries, keys, values and projection; scores: what grows with the context. {} stands for what a convention leaves \
         out. Of each point the parts are columns of points.csv.</small></p></details>\n",
        numbers::NONE
    )
}

fn number_cell(value: f64, text: &str) -> String {
    let sort = if value.is_finite() { format!(" data-v=\"{value}\"") } else { String::new() };
    format!("<td class=\"num\"{sort}>{}</td>", escape(text))
}

fn measured_cell(value: &Measured<f64>, show: impl Fn(&f64) -> String) -> String {
    let sort =
        value.value().filter(|v| v.is_finite()).map(|v| format!(" data-v=\"{v}\"")).unwrap_or_default();
    format!("<td class=\"num\"{sort}>{}</td>", numbers::provenance(value, show))
}

fn status_words(status: &Status) -> String {
    match status {
        Status::Running => "not finished".to_owned(),
        Status::Done => "done".to_owned(),
        Status::Diverged { step, segment } => format!("diverged at step {step} of {segment}"),
        Status::Stopped { reason } => format!("stopped: {reason}"),
        Status::Failed { reason } => format!("failed: {reason}"),
    }
}

/// A row per finished point, then the runs that gave none.
pub(crate) fn runs(input: &ReportInput, data: &Data) -> String {
    let mut points: Vec<&Point> = input.points.iter().collect();
    points.sort_by(|a, b| {
        (a.params, a.shape, a.seed, a.tokens, &a.run).cmp(&(b.params, b.shape, b.seed, b.tokens, &b.run))
    });
    let several_seeds = points.windows(2).any(|w| w[0].seed != w[1].seed);
    let mut rows: String = points
        .iter()
        .map(|p| {
            let flag = match input.status(&p.run) {
                Status::Done => String::new(),
                status => format!("<small>{}; enters no fit</small>", escape(&status_words(status))),
            };
            let se = p
                .loss_se
                .filter(|s| s.is_finite())
                .map(|s| format!(" ± {}", fixed(s, 4)))
                .unwrap_or_default();
            let seed =
                if several_seeds { number_cell(p.seed as f64, &p.seed.to_string()) } else { String::new() };
            format!(
                "<tr><td><span class=\"swatch {}\"></span>{}{flag}</td>{seed}{}{}{}{}{}{}{}</tr>\n",
                data.size_class(Some(p.params as f64)),
                p.shape.map_or_else(|| "–".to_owned(), |shape| escape(&shape.to_string())),
                number_cell(p.params as f64, &count(p.params as f64)),
                number_cell(p.tokens as f64, &count(p.tokens as f64)),
                number_cell(p.flops, &scientific(p.flops)),
                number_cell(p.loss, &format!("{}{se}", fixed(p.loss, 4))),
                number_cell(p.lr, &numbers::significant(p.lr, 3)),
                measured_cell(&p.seconds, |s| units::duration(*s)),
                measured_cell(&p.tokens_per_s, |t| count(*t)),
            )
        })
        .collect();
    for run in &input.runs {
        if input.points.iter().any(|p| p.run == run.run) {
            continue;
        }
        let columns = if several_seeds { 8 } else { 7 };
        rows.push_str(&format!(
            "<tr><td>{}<small>{}</small></td><td colspan=\"{columns}\"><span class=\"missing\">no finished point: {}; \
             enters no fit</span></td></tr>\n",
            escape(&run.model),
            escape(&run.run),
            escape(&status_words(&run.status))
        ));
    }
    if rows.is_empty() {
        return section("runs", "Runs", "<p class=\"missing\">No run has finished.</p>");
    }
    let seed = if several_seeds { "<th class=\"num\">seed</th>" } else { "" };
    let body = format!(
        "<div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>model</th>{seed}<th class=\"num\">N</th>\
         <th class=\"num\">D, tokens</th><th class=\"num\">C, FLOP</th><th class=\"num\">loss ± s.e.</th>\
         <th class=\"num\">peak rate</th><th class=\"num\">time</th><th class=\"num\">tokens/s</th></tr></thead>\
         <tbody>\n{rows}</tbody></table></div>\n<p><small>N counts the matrices of the blocks (12·L·d²). C is the exact \
         ledger's. Loss in {}. Time is training from the start of the run to this point.</small></p>\n",
        escape(&data.loss_unit)
    );
    section("runs", "Every finished point", &body)
}

/// The rows of a table, when there are few enough to read.
pub(crate) fn rows(data: &Data) -> String {
    if data.obs.is_empty() || data.obs.len() > 400 {
        return String::new();
    }
    let cell = |v: Option<f64>, show: fn(f64) -> String| match v {
        Some(v) => number_cell(v, &show(v)),
        None => "<td class=\"num\"></td>".to_owned(),
    };
    let rows: String = data
        .obs
        .iter()
        .map(|o| {
            let se = o.se.map(|s| format!(" ± {}", fixed(s, 4))).unwrap_or_default();
            format!(
                "<tr><td>{}</td>{}{}{}{}</tr>\n",
                escape(&o.run),
                cell(o.n, count),
                cell(o.d, count),
                cell(o.c, scientific),
                number_cell(o.loss, &format!("{}{se}", fixed(o.loss, 4)))
            )
        })
        .collect();
    let body = format!(
        "<details><summary>{} rows</summary><div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>run</th>\
         <th class=\"num\">N</th><th class=\"num\">D</th><th class=\"num\">C, FLOP</th><th class=\"num\">loss</th></tr>\
         </thead><tbody>\n{rows}</tbody></table></div></details>\n",
        data.obs.len()
    );
    section("rows", "The table", &body)
}
