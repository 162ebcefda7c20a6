//! How every figure was computed, what was left out, the machine, the resolved study.

use super::headline::{end_sentence, energy_text};
use super::section;
use crate::html::escape;
use crate::input::ReportInput;
use crate::numbers::{self, count, fixed, scientific};
use isoflop_base::{Measured, units};
use isoflop_laws::{LawDocument, Table};

fn list(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|i| format!("<li>{i}</li>")).collect();
    format!("<h3>{}</h3><div class=\"methods\"><ul>{items}</ul></div>\n", escape(title))
}

fn definition(name: &str, value: &str) -> String {
    format!("<dt>{}</dt><dd>{value}</dd>", escape(name))
}

/// A measured value with its provenance in words, for the place where nothing may hide behind hovering.
fn spelled<T>(value: &Measured<T>, show: impl Fn(&T) -> String) -> String {
    match value {
        Measured::Measured { value } => escape(&show(value)),
        Measured::Estimated { value, how } => {
            format!("≈ {} (estimated: {})", escape(&show(value)), escape(how))
        }
        Measured::Missing { reason } => format!("<span class=\"missing\">missing: {}</span>", escape(reason)),
    }
}

fn costs(input: &ReportInput) -> String {
    let t = &input.totals;
    let mut out = String::new();
    out.push_str(&definition(
        "training compute",
        &spelled(&t.flops, |f| format!("{} FLOP, exact ledger", scientific(*f))),
    ));
    out.push_str(&definition("time", &spelled(&t.seconds, |s| units::duration(*s))));
    if let (Some(f), Some(s)) = (t.flops.value(), t.seconds.value())
        && f.is_finite()
        && *s > 0.0
    {
        let rate = format!("{} GFLOP/s over all of it", fixed(f / s / 1e9, 1));
        out.push_str(&definition("mean rate", &escape(&rate)));
    }
    out.push_str(&definition("energy", &spelled(&t.energy_j, |j| energy_text(*j))));
    out.push_str(&definition("peak memory", &spelled(&t.peak_memory_bytes, |b| units::bytes(*b))));
    format!("<dl>{out}</dl>\n")
}

fn corpus(input: &ReportInput) -> String {
    let Some(c) = &input.corpus else { return String::new() };
    let mut out = definition("text", &escape(&c.name));
    out.push_str(&definition("token", &escape(&format!("{}, vocabulary {}", c.tokenizer, c.vocab))));
    out.push_str(&definition(
        "split",
        &escape(&format!(
            "{} tokens for training, {} held out, by hashed blocks",
            count(c.train_tokens as f64),
            count(c.val_tokens as f64)
        )),
    ));
    if let Some(tokens) = c.eval_tokens {
        out.push_str(&definition(
            "measured on",
            &escape(&format!("the same {} held-out tokens for every point", count(tokens as f64))),
        ));
    }
    for (name, value) in [("credit", &c.credit), ("SHA-256", &c.sha256)] {
        if let Some(value) = value {
            out.push_str(&definition(name, &escape(value)));
        }
    }
    format!("<h3>Data</h3><dl>{out}</dl>\n")
}

fn dropped(table: &Table, laws: Option<&LawDocument>) -> Vec<String> {
    let mut rows: Vec<(usize, String, String)> =
        table.dropped.iter().map(|d| (d.row, d.run.clone(), d.reason.clone())).collect();
    if let Some(laws) = laws {
        let general = laws.rows_dropped.iter().map(|d| (d.row, d.run.clone(), d.reason.clone()));
        rows.extend(general);
        for fit in &laws.fits {
            rows.extend(
                fit.rows_dropped
                    .iter()
                    .map(|d| (d.row, d.run.clone(), format!("{}: {}", fit.form, d.reason))),
            );
        }
    }
    rows.sort();
    rows.dedup();
    let more = rows.len().saturating_sub(60);
    let mut out: Vec<String> = rows
        .iter()
        .take(60)
        .map(|(row, run, reason)| {
            let run = if run.is_empty() { String::new() } else { format!(" (<code>{}</code>)", escape(run)) };
            format!("row {row}{run}: {}", escape(reason))
        })
        .collect();
    if more > 0 {
        out.push(format!("and {more} more, listed in <code>law.json</code>"));
    }
    out
}

/// Methods of a study's page.
pub(crate) fn study(input: &ReportInput) -> String {
    let laws = input.laws.as_ref();
    let mut how: Vec<String> = [
        "Validation loss is the mean over predicted tokens of windows of one context length; context starts anew in each \
         window; every point is measured on the same held-out tokens. Its standard error is clustered by held-out block.",
        "A finished point is a model whose learning rate has run to its end. Losses from before that are drawn in the curves and \
         enter no fit.",
        "N is 12·layers·width²: no embeddings, biases or norms. C counts every FLOP of training as executed.",
        "Differences between sizes are taken block by block on the same tokens before their spread is.",
    ]
    .iter()
    .map(|s| escape(s))
    .collect();
    let seeds = laws.and_then(|l| l.seed_spread.as_ref());
    match (seeds, &input.seed_variance) {
        (Some(s), _) => how.push(escape(&format!(
            "Seeds: the standard deviation of the loss between repeats of the same size is {} nats ({} degrees of freedom); it is \
             part of every interval.",
            fixed(s.sigma_loss, 4),
            s.dof
        ))),
        (None, Some(s)) => how.push(escape(&format!(
            "Seeds: the standard deviation of the loss over {} seeds at {} is {} nats; it is part of every interval.",
            s.num_seeds,
            s.measured_at,
            fixed(s.sd, 4)
        ))),
        (None, None) => how.push("Seeds: no size was repeated; the intervals know the spread between seeds only through the \
                                  residuals."
            .to_owned()),
    }
    how.push(
        "A plain number was measured or counted; ≈ marks an estimate; what was not measured is said to \
              be missing."
            .to_owned(),
    );
    how.extend(input.notes.iter().map(|n| escape(&end_sentence(n))));
    how.extend(laws.into_iter().flat_map(|l| &l.notes).map(|n| escape(&end_sentence(n))));

    let machine: String =
        input.machine.iter().map(|f| definition(&f.name, &spelled(&f.value, |v| v.clone()))).collect();
    let machine = if machine.is_empty() { machine } else { format!("<h3>Machine</h3><dl>{machine}</dl>\n") };
    let body = format!(
        "{}{machine}<h3>Cost</h3>{}{}{}{}",
        list("How the figures were made", &how),
        costs(input),
        corpus(input),
        list("Left out of fits", &dropped(&input.table(), laws)),
        resolved(input)
    );
    let footer = footer(&input.made_by);
    section("methods", "Methods, machine, study", &body) + &footer
}

fn resolved(input: &ReportInput) -> String {
    let mut out = String::new();
    let choices: Vec<String> = input
        .study
        .get("resolutions")
        .and_then(|r| r.as_array())
        .into_iter()
        .flatten()
        .filter_map(|r| {
            let part = |key: &str| r.get(key)?.as_str().map(escape);
            Some(format!("<code>{} = {}</code>: {}", part("key")?, part("value")?, part("reason")?))
        })
        .collect();
    out.push_str(&list("Chosen for you", &choices));
    let mut details = |title: &str, text: &str| {
        out.push_str(&format!("<details><summary>{title}</summary><pre>{}</pre></details>\n", escape(text)));
    };
    if !input.study_toml.trim().is_empty() {
        details("The study, resolved", input.study_toml.trim_end());
    } else if !input.study.is_null() {
        let text = serde_json::to_string_pretty(&input.study).unwrap_or_default();
        details("The study, resolved", &text);
    }
    out
}

fn footer(made_by: &str) -> String {
    format!(
        "<footer>Drawn by {}. One file, no network; the same results draw the same bytes.</footer>\n",
        escape(if made_by.is_empty() { "isoflop" } else { made_by })
    )
}

/// Methods of a table's page.
pub(crate) fn table(table: &Table, laws: &LawDocument, made_by: &str) -> String {
    let mut how = vec![escape(&format!(
        "Loss in {}; N counted {}; C counted {}.",
        table.loss_unit, table.n_convention, table.c_convention
    ))];
    how.extend(table.notes.iter().chain(&laws.notes).map(|n| escape(&end_sentence(n))));
    if let Some(s) = &laws.seed_spread {
        how.push(escape(&format!(
            "Repeats of the same N and D spread by {} in loss ({} degrees of freedom).",
            numbers::fixed(s.sigma_loss, 4),
            s.dof
        )));
    }
    let body =
        list("How the figures were made", &how) + &list("Left out of fits", &dropped(table, Some(laws)));
    section("methods", "Methods", &body) + &footer(made_by)
}
