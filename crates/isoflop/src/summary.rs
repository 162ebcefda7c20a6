//! The last words of a study: its laws in a line each, the forecast's outcome, the verdicts, a plot, and where the page
//! is.

use isoflop_base::units::{duration, si};
use isoflop_lab::out;
use isoflop_lab::plan::Plan;
use isoflop_laws::FitRecord;
use isoflop_report::ReportInput;
use isoflop_report::ascii::{law_plot, loglog};
use isoflop_report::claims::{Ruling, judge};
use isoflop_report::diagnosis::{diagnose, is_bent};
use std::fmt::Write as _;
use std::path::Path;

/// What a person reads at the end.
pub(crate) fn text(input: &ReportInput, seconds: f64, out: &Path) -> String {
    let mut text = String::new();
    if let Some(plot) = law_plot(input, false) {
        let _ = writeln!(text, "\n{}\n", loglog(&plot, 78, 22));
    }
    for fit in input.laws.iter().flat_map(|l| &l.fits).filter(|f| headline(f)) {
        let _ = writeln!(text, "{}", law_line(fit));
    }
    for forecast in &input.forecasts {
        let words = forecast.forecast.outcome.as_ref().map_or("no outcome yet", |o| o.words.as_str());
        let _ = writeln!(text, "forecast of {}: {words}", forecast.name);
    }
    let verdicts = judge(input);
    if !verdicts.is_empty() {
        let _ = writeln!(text, "\nclaims");
    }
    for v in verdicts {
        let ruling = match v.ruling {
            Ruling::Reproduced => "reproduced",
            Ruling::NotReproduced => "not reproduced",
            Ruling::CannotTell => "cannot tell",
        };
        let _ = writeln!(text, "  {ruling:15} {}: {}", v.claim, v.measured);
    }
    text.push_str(&diagnosis(input));
    for run in input.runs.iter().filter(|r| r.status != isoflop_base::Status::Done) {
        let _ = writeln!(text, "{}: {}, left out of every fit", run.run, run.status.word());
    }
    let _ = writeln!(text, "\n{} runs in {}", input.runs.len(), duration(seconds));
    let _ = writeln!(text, "points, curves and law: {}", out.display());
    let _ = writeln!(text, "report: {}", out::report(out).display());
    text
}

/// What the evidence points to, if to anything; what it cannot tell is on the page.
fn diagnosis(input: &ReportInput) -> String {
    let mut text = String::new();
    for d in diagnose(input).iter().filter(|d| d.found) {
        if text.is_empty() {
            let head =
                if is_bent(input) { "why the line is not straight" } else { "what could bend this line" };
            let _ = writeln!(text, "\n{head}");
        }
        let _ = writeln!(text, "  {}: {}", d.fault.words(), d.evidence);
        let _ = writeln!(text, "    {}", d.what_to_do);
    }
    text
}

/// The fits a last word is about; the page has all.
fn headline(fit: &FitRecord) -> bool {
    ["l_n", "l_c", "l_nd_chinchilla"].contains(&fit.form.as_str()) && fit.variant != "irreducible"
}

/// `L(N) at D = 12.0 M: alpha 0.081 (0.074 to 0.088), R² 0.994`.
fn law_line(fit: &FitRecord) -> String {
    let condition: Vec<String> =
        fit.condition.iter().map(|(name, value)| format!("{name} = {}", si(*value))).collect();
    let at = if condition.is_empty() { String::new() } else { format!(" at {}", condition.join(", ")) };
    let params: Vec<String> = fit
        .params
        .iter()
        .map(|(name, p)| match (p.lo, p.hi) {
            _ if fit.identified.get(name) == Some(&false) => format!("{name} not identified"),
            (Some(lo), Some(hi)) => format!("{name} {} ({} to {})", short(p.value), short(lo), short(hi)),
            _ => format!("{name} {}", short(p.value)),
        })
        .collect();
    let r2 = fit.r2_loglog.map_or(String::new(), |r| format!(", R² {r:.4}"));
    format!("{:16}{at}  {}{r2}", fit.form, params.join(", "))
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v == 0.0 || (1e-3..1e4).contains(&v) => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

/// The same as one JSON document.
pub(crate) fn document(input: &ReportInput, plan: &Plan, out: &Path) -> serde_json::Value {
    serde_json::json!({
        "schema": "isoflop.study/1",
        "study": input.title,
        "preset": input.preset,
        "out": out,
        "report": out::report(out),
        "plan": plan,
        "runs": input.runs,
        "law": input.laws,
        "forecasts": input.forecasts,
        "claims": judge(input),
        "diagnosis": diagnose(input),
        "totals": input.totals,
    })
}
