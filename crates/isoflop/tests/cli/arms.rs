//! Studies with arms, from the file to the page: data, batch, rate.

use crate::common::run;
use crate::small_study::{STUDY, assert_same, command, complete, fingerprint, write};

/// The small study under another kind, with these arms.
fn study(kind: &str, arms: &str) -> String {
    let text = STUDY.replace("kind = \"scaling\"", &format!("kind = \"{kind}\""));
    let text = text.replace("\"L2-d16-h2\", \"L2-d24-h3\"", "\"L1-d24-h3\"");
    let text = text.replace("branches = [5120]", "branches = [2560, 5120]").replace("lr = 1e-2\n", "");
    text.replace("[series]", &format!("[arms]\n{arms}\n[series]"))
        .replace("batch_tokens = 128", "batch_tokens = 32")
}

fn column(csv: &str, name: &str) -> Vec<String> {
    let mut lines = csv.lines();
    let at = lines
        .next()
        .unwrap()
        .split(',')
        .position(|c| c == name)
        .unwrap_or_else(|| panic!("no column {name}"));
    lines.map(|line| line.split(',').nth(at).unwrap().to_owned()).collect()
}

#[test]
fn a_study_of_junk_has_its_arms_in_the_tables_and_its_answer_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &study("data", "junk = [\"uniform-symbols\"]\nshares = [0.5, 0.75]"));
    complete(dir.path(), "one", &[]);
    let out = dir.path().join("one/out");
    let csv = std::fs::read_to_string(out.join("points.csv")).unwrap();
    let (kinds, shares) = (column(&csv, "junk_kind"), column(&csv, "junk"));
    // Three sizes, three lengths, clean and two shares.
    assert_eq!(kinds.len(), 3 * 3 * 3);
    for (share, kind) in [("0", "none"), ("0.5", "uniform-symbols"), ("0.75", "uniform-symbols")] {
        let found = shares.iter().zip(&kinds).filter(|(s, k)| *s == share && *k == kind).count();
        assert_eq!(found, 9, "{share} of {kind}");
    }
    // The laws are those of clean text: junk is no size.
    let law = std::fs::read_to_string(out.join("law.json")).unwrap();
    let law: serde_json::Value = serde_json::from_str(&law).unwrap();
    assert_eq!(law["rows_read"], 9);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for words in ["<section id=\"junk\">", "How much junk the law takes", "g, paired", "does not bend it"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    // Killed on the way, the same end.
    for wait_ms in [200, 350, 500] {
        let mut child = command(dir.path(), "cut").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        let _ = child.kill();
        child.wait().unwrap();
    }
    complete(dir.path(), "cut", &["--set", "train.threads=1"]);
    assert_same(&fingerprint(dir.path(), "one"), &fingerprint(dir.path(), "cut"), "killed three times");
}

#[test]
fn a_study_of_rates_and_one_of_batches_say_which_to_use() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &study("lr", "rates = [0.5, 1, 2, 4]"));
    complete(dir.path(), "lr", &[]);
    let page = std::fs::read_to_string(dir.path().join("lr/out/report.html")).unwrap();
    for words in ["<section id=\"rate\">", "have their best rate inside what was tried", "N<sup>−0.713</sup>"]
    {
        assert!(page.contains(words), "{words} is not on the page");
    }
    write(dir.path(), &study("batch", "batches = [16, 32, 64, 128]\nrates = [0.5, 1, 2]"));
    complete(dir.path(), "batch", &[]);
    let csv = std::fs::read_to_string(dir.path().join("batch/out/points.csv")).unwrap();
    let rate = |batch: &str| {
        let all = column(&csv, "batch_tokens").into_iter().zip(column(&csv, "lr")).zip(column(&csv, "arm"));
        let found = all.into_iter().find(|((b, _), arm)| b == batch && arm.contains("rate=1"));
        found.unwrap().0.1.parse::<f64>().unwrap()
    };
    // The rate follows the square root of the batch.
    assert!((rate("128") / rate("32") - 2.0).abs() < 1e-9 && (rate("16") / rate("64") - 0.5).abs() < 1e-9);
    let page = std::fs::read_to_string(dir.path().join("batch/out/report.html")).unwrap();
    for words in ["<section id=\"batch\">", "Which batch to train with", "The critical batch"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
}

#[test]
fn arms_are_planned_before_they_are_trained_and_wrong_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &study("data", "unique = [640, 1280]\nweight_decay = [1.0]\ncopies = [2, 8]\npassage_tokens = 64"),
    );
    let (code, text, stderr) = run(dir.path(), &["plan", "study.toml"]);
    assert_eq!(code, 0, "{stderr}");
    for run in ["small-L1-d8-h1-u640-s1", "small-L1-d8-h1-u640-wd1-s1", "small-L1-d24-h3-copies8-s1"] {
        assert!(text.contains(run), "{run} is not planned:\n{text}");
    }
    write(dir.path(), &study("data", "junk = [\"shuffled\"]\nshares = [0.5]"));
    let (code, _, stderr) = run(dir.path(), &["plan", "study.toml"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("study.toml:") && stderr.contains("\"shuffled\" is not one of them"), "{stderr}");
    assert!(stderr.contains("hint:") && stderr.contains("words-shuffled"), "{stderr}");
}
