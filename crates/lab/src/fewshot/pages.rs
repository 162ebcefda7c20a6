//! The files of an output directory: tables for people, papers and programs, and the page.

use super::conduct::Outcome;
use crate::out;
use isoflop_base::columns;
use isoflop_report::fewshot::FewShotInput;
use std::fmt::Write as _;
use std::path::Path;

/// Writes all of them.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path, input: &FewShotInput, outcomes: &[Outcome<'_>]) -> anyhow::Result<()> {
    out::write(dir, out::RESULTS, results(input).as_bytes())?;
    out::write(dir, out::EPISODES, episodes(outcomes).as_bytes())?;
    if !input.elsewhere.is_empty() {
        out::write(dir, out::ELSEWHERE, elsewhere(input).as_bytes())?;
    }
    out::write(dir, out::TABLE, table(input).as_bytes())?;
    out::write(dir, out::REPORT_INPUT, serde_json::to_string_pretty(input)?.as_bytes())?;
    out::write(dir, out::REPORT, isoflop_report::fewshot::render(input).as_bytes())
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// A row for each method and number of shots.
fn results(input: &FewShotInput) -> String {
    let mut text =
        "method,shots,ways,queries,episodes,seeds,accuracy,ci95_episodes,ci95_seeds,loss,train_seconds,\
                    pretrain_seconds,joules,memory_bytes,head_params,flops,trained_episodes,watts,flops_per_joule,\
                    energy_from\n"
            .to_owned();
    for row in &input.rows {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            row.method,
            row.shots,
            input.test.ways,
            input.test.queries,
            input.test.episodes,
            row.seeds.len(),
            row.accuracy.mean,
            row.accuracy.half,
            cell(row.accuracy.seeds_half),
            row.loss,
            cell(row.seconds.value().copied()),
            cell(row.start_seconds.value().copied()),
            cell(row.joules.value().copied()),
            cell(row.memory_bytes.value().map(|&b| b as f64)),
            row.head_params,
            cell(row.flops.value().copied()),
            row.trained_episodes,
            cell(row.watts().value().copied()),
            cell(row.flops_per_joule().value().copied()),
            columns::provenance(&row.joules).replace([',', '"', '\n'], " "),
        );
    }
    text
}

/// A row for each other set of pictures, method and number of shots.
fn elsewhere(input: &FewShotInput) -> String {
    let mut text =
        "set,classes,images,method,shots,ways,queries,episodes,accuracy,ci95_episodes,ci95_seeds,against,\
                    difference,difference_ci95_episodes,difference_ci95_seeds\n"
            .to_owned();
    for row in &input.elsewhere {
        let difference = row.difference.as_ref();
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            row.set.replace([',', '"', '\n'], " "),
            row.classes,
            row.images,
            row.method,
            row.shots,
            input.test.ways,
            row.queries,
            input.test.episodes,
            row.accuracy.mean,
            row.accuracy.half,
            cell(row.accuracy.seeds_half),
            difference.map_or("", |(against, _)| against.as_str()),
            cell(difference.map(|(_, d)| d.mean)),
            cell(difference.map(|(_, d)| d.half)),
            cell(difference.and_then(|(_, d)| d.seeds_half)),
        );
    }
    text
}

/// A column for each method, shots and seed; the episodes of a number of shots are the same in all its columns.
fn episodes(outcomes: &[Outcome<'_>]) -> String {
    let main: Vec<&Outcome<'_>> = outcomes.iter().filter(|outcome| outcome.entry.arm.is_empty()).collect();
    let mut text = "episode".to_owned();
    for outcome in &main {
        let entry = outcome.entry;
        let _ = write!(text, ",{}-k{}-s{}", entry.method.word(), entry.shots, entry.seed);
    }
    text.push('\n');
    let count = main.iter().map(|outcome| outcome.tested.correct.len()).max().unwrap_or(0);
    for episode in 0..count {
        let _ = write!(text, "{episode}");
        for outcome in &main {
            match outcome.tested.correct.get(episode) {
                Some(&right) => {
                    let _ = write!(text, ",{:.5}", f64::from(right) / f64::from(outcome.tested.of));
                }
                None => text.push(','),
            }
        }
        text.push('\n');
    }
    text
}

/// The table of the page in LaTeX.
fn table(input: &FewShotInput) -> String {
    let mut shots: Vec<usize> = input.rows.iter().map(|row| row.shots).collect();
    shots.sort_unstable();
    shots.dedup();
    let mut methods: Vec<&str> = Vec::new();
    for row in &input.rows {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    let heads: Vec<String> = shots.iter().map(|k| format!("{k}-shot")).collect();
    let mut text = format!(
        "% {}-way, {} test episodes, mean and 95 % interval over episodes, percent\n\\begin{{tabular}}{{l{}}}\n\\hline\nmethod & {} \\\\\n\\hline\n",
        input.test.ways,
        input.test.episodes,
        "r".repeat(shots.len()),
        heads.join(" & ")
    );
    for method in methods {
        let cells = shots.iter().map(|k| {
            input.rows.iter().find(|row| row.method == method && row.shots == *k).map_or_else(
                || "--".to_owned(),
                |row| format!("${:.2} \\pm {:.2}$", 100.0 * row.accuracy.mean, 100.0 * row.accuracy.half),
            )
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "{method} & {} \\\\", cells.join(" & "));
    }
    text + "\\hline\n\\end{tabular}\n"
}
