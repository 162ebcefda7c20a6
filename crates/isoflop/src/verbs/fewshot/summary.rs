//! What a few-shot study came to, in the terminal.

use isoflop_base::units::{bytes, duration};
use isoflop_report::fewshot::FewShotInput;
use isoflop_report::fewshot::input::Interval;
use std::fmt::Write as _;
use std::path::Path;

/// `81.23 ± 0.11`, or with seeds `81.23 ± 0.11 (seeds ± 0.60)`.
fn percent(interval: &Interval) -> String {
    let seeds = interval.seeds_half.map_or(String::new(), |half| format!(" (seeds ± {:.2})", 100.0 * half));
    format!("{:.2} ± {:.2}{seeds}", 100.0 * interval.mean, 100.0 * interval.half)
}

/// Table, differences, verdicts, and where everything is.
pub(super) fn text(results: &FewShotInput, seconds: f64, out: &Path) -> String {
    let mut text = format!(
        "\n{}-way on {}, {} test episodes, accuracy in % with its interval of 95 % over episodes\n\n",
        results.test.ways, results.data.name, results.test.episodes
    );
    let _ = writeln!(
        text,
        "{:<14} {:>5}  {:<16} {:<24} {:>9} {:>10}",
        "method", "shots", "accuracy", "against on same episodes", "training", "memory"
    );
    for row in &results.rows {
        let found = results.differences.iter().find(|d| d.method == row.method && d.shots == row.shots);
        let against = found.map_or_else(
            || "–".to_owned(),
            |d| {
                format!("{}: {:+.2} ± {:.2}", d.against, 100.0 * d.difference.mean, 100.0 * d.difference.half)
            },
        );
        let _ = writeln!(
            text,
            "{:<14} {:>5}  {:<16} {:<24} {:>9} {:>10}",
            row.method,
            row.shots,
            percent(&row.accuracy),
            against,
            row.seconds.value().map_or_else(|| "–".to_owned(), |s| duration(*s)),
            row.memory_bytes.value().map_or_else(|| "–".to_owned(), |b| bytes(*b))
        );
    }
    for row in &results.leads {
        let by = percent(&row.difference);
        let _ =
            writeln!(text, "\nbest {}-shot: {}, {by} points above {}", row.shots, row.method, row.against);
    }
    if !results.elsewhere.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<18} {:<14} {:>5}  {:<16} against",
            "tested on", "method", "shots", "accuracy"
        );
    }
    for row in &results.elsewhere {
        let against = row.difference.as_ref().map_or_else(
            || "–".to_owned(),
            |(against, d)| format!("{against}: {:+.2} ± {:.2}", 100.0 * d.mean, 100.0 * d.half),
        );
        let accuracy = percent(&row.accuracy);
        let _ =
            writeln!(text, "{:<18} {:<14} {:>5}  {accuracy:<16} {against}", row.set, row.method, row.shots);
    }
    for law in &results.laws {
        let exponent = match &law.exponent {
            Ok((value, low, high)) if *value < 0.0 => {
                format!("error rises as {}^{:.3} ({:.3} to {:.3})", law.axis, -value, -high, -low)
            }
            Ok((value, low, high)) => {
                format!("error falls as {}^−{value:.3} ({low:.3} to {high:.3})", law.axis)
            }
            Err(why) => format!("{}: {why}", law.axis),
        };
        let shots = if law.shots == 0 { String::new() } else { format!(" {}-shot", law.shots) };
        let bends = match law.last_step().filter(|_| law.bends()) {
            Some((last, ..)) => {
                let sign = if last < 0.0 { "" } else { "−" };
                format!("; bends: at the end as {}^{sign}{:.3}", law.axis, last.abs())
            }
            None => String::new(),
        };
        let _ = writeln!(text, "\n{}{shots}: {exponent}{bends}", law.method);
    }
    for claim in &results.claims {
        let _ = writeln!(text, "\n{}: {}\n  {} ({})", claim.verdict, claim.claim, claim.found, claim.why);
    }
    let _ =
        writeln!(text, "\n{} in all; page: {}", duration(seconds), isoflop_lab::out::report(out).display());
    text
}
