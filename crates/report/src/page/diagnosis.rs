//! Why the line is not straight, or what could bend it: right after the line itself.

use super::headline::end_sentence;
use super::section;
use super::tables::code;
use crate::diagnosis::{Diagnosis, diagnose, is_bent};
use crate::html::{escape, prose};
use crate::input::ReportInput;

/// A table of what was found with what would mend it, then what the data cannot tell.
pub(crate) fn study(input: &ReportInput) -> String {
    let all = diagnose(input);
    let (found, unknown): (Vec<&Diagnosis>, Vec<&Diagnosis>) = all.iter().partition(|d| d.found);
    if all.is_empty() && input.points.is_empty() {
        return String::new();
    }
    let bent = is_bent(input);
    let (title, lead) = match (bent, found.is_empty()) {
        (true, false) => (
            "Why the line is not straight",
            "What the evidence of these runs points to; the law itself may bend as well, towards an irreducible loss.",
        ),
        (true, true) => (
            "Why the line is not straight",
            "Of what is looked for, nothing was found: the bend may be the law's own, towards an irreducible loss.",
        ),
        (false, false) => ("What could bend this line", ""),
        (false, true) => ("What could bend this line: nothing found", ""),
    };
    let mut body = if lead.is_empty() { String::new() } else { format!("<p>{lead}</p>\n") };
    if !found.is_empty() {
        let rows: String = found.iter().map(|d| row(d)).collect();
        body.push_str(&format!(
            "<div class=\"scroll\"><table class=\"claims faults\"><thead><tr><th>points to</th><th>because</th><th>what to do</th></tr>\
             </thead><tbody>\n{rows}</tbody></table></div>\n"
        ));
    }
    for d in unknown {
        let text = format!("{}: {}", d.fault.words(), end_sentence(&d.evidence));
        let advice = end_sentence(&capital(&d.what_to_do));
        let words = code(&prose(&format!("{text} {advice}")));
        body.push_str(&format!("<p class=\"note\">Cannot tell of {words}</p>\n"));
    }
    if found.is_empty() && all.is_empty() {
        body.push_str(
            "<p>Rates, schedules, batches, data and curves were looked at, and none of them stands out.</p>\n",
        );
    }
    section("why", title, &body)
}

fn row(d: &Diagnosis) -> String {
    format!(
        "<tr><td><b>{}</b></td><td>{}</td><td>{}</td></tr>\n",
        escape(&capital(d.fault.words())),
        code(&prose(&end_sentence(&capital(&d.evidence)))),
        code(&prose(&end_sentence(&capital(&d.what_to_do))))
    )
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
