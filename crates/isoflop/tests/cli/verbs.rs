//! The verbs as their users meet them: one JSON document each, a page that needs nothing, a README that is true.

use crate::{
    common::run,
    small_study::{STUDY, complete, json, write},
    tidy::root,
};

#[test]
fn json_is_one_document_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let done = json(dir.path(), &["run", "study.toml", "--json", "--store", "runs", "--out", "out"]);
    assert!(done.is_object(), "{done}");
    let checkpoint = "runs/small-L2-d24-h3-s1/checkpoints/point-10240";
    let verbs: &[&[&str]] = &[
        &["plan", "study.toml"],
        &["eval", "--checkpoint", checkpoint, "--tokens", "val.bin"],
        &["runs", "ls", "--store", "runs"],
        &["runs", "show", "small-L2-d24-h3-s1", "--store", "runs"],
        &["runs", "compare", "small-L1-d8-h1-s1", "small-L2-d24-h3-s1", "--store", "runs"],
        &["fit", "out/points.csv"],
        &["doctor"],
    ];
    for verb in verbs {
        let document = json(dir.path(), &[verb, &["--json"][..]].concat());
        assert!(document.is_object() || document.is_array(), "{verb:?}: {document}");
    }
    let eval = json(dir.path(), &["eval", "--checkpoint", checkpoint, "--tokens", "val.bin", "--json"]);
    assert_eq!(eval["tokens"], 3999);
    assert!(eval["loss"].as_f64().unwrap() > 0.0 && eval["loss"].as_f64().unwrap() < 61_f64.ln(), "{eval}");
    let fit = json(dir.path(), &["fit", "out/points.csv", "--json"]);
    let law: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("out/law.json")).unwrap()).unwrap();
    assert_eq!(fit["schema"], law["schema"], "law.json and `fit --json` are the same kind of document");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "it", &[]);
    let page = std::fs::read_to_string(dir.path().join("it/out/report.html")).unwrap();
    assert!(page.contains("<svg"), "no figure");
    for fetched in
        ["<link", "@import", "src=\"http", "src='http", "src=\"//", "url(http", "url(\"http", "fetch("]
    {
        assert!(!page.contains(fetched), "the page asks for something by `{fetched}`");
    }
    let leftover =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = leftover.collect();
    names.sort();
    assert_eq!(names, ["it", "study.toml", "train.bin", "train.bin.json", "val.bin", "val.bin.json"]);
}

#[test]
fn every_command_of_the_readme_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for command in readme.split('`').skip(1).step_by(2).filter_map(|c| c.strip_prefix("isoflop ")) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let nested = ["runs", "fewshot"].contains(&words[0]);
        let depth = if nested { 2 } else { 1 };
        let (code, help, err) = run(dir.path(), &[&words[..depth], &["--help"]].concat());
        assert_eq!(code, 0, "`isoflop {command}`: {err}");
        for flag in words.iter().filter(|w| w.starts_with("--")) {
            assert!(help.contains(flag), "`isoflop {command}`: {flag} is not in its --help");
        }
        checked += 1;
    }
    assert!(checked > 10, "only {checked} commands found in README.md");
}

#[test]
fn shipped_studies_are_understood() {
    let studies = root().join("studies");
    let mut found = 0;
    for entry in std::fs::read_dir(studies).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let few_shot = text.contains("kind = \"fewshot\"");
        let plan = if few_shot { &["fewshot", "plan"][..] } else { &["plan"] };
        let (code, _, err) = run(dir.path(), &[plan, &[path.to_str().unwrap(), "--json"]].concat());
        // Those on OpenWebText and on mini-ImageNet name files that are not here: that is all that may be wrong.
        let needs_files = !text.contains("corpus = \"builtin\"") && !text.contains("set = \"icons\"");
        let named = err.contains(".bin") || err.contains("train.csv");
        assert!(code == 0 || (needs_files && code == 2 && named), "{}: {code} {err}", path.display());
        found += 1;
    }
    assert!(found >= 3, "only {found} studies are shipped");
}

#[test]
fn the_noise_scale_is_logged_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "it", &["--set", "train.micro_batch=2", "--set", "train.threads=1"]);
    let csv = std::fs::read_to_string(dir.path().join("it/out/curves.csv")).unwrap();
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).unwrap();
    let logged: Vec<Vec<&str>> = csv
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect())
        .filter(|row: &Vec<&str>| !row[column("noise_pairs")].is_empty())
        .collect();
    // Four runs of 80 steps, each tenth measured, and the branch's.
    assert!(logged.len() >= 4 * 8, "{csv}");
    for row in &logged {
        assert_eq!([row[column("noise_small_tokens")], row[column("noise_big_tokens")]], ["32", "128"]);
    }
    let show = ["runs", "show", "small-L2-d24-h3-s1", "--store", "it/runs"];
    let scale = json(dir.path(), &[&show[..], &["--json"]].concat())["noise_scale"].clone();
    assert!(scale["pairs"]["pairs"].as_u64().unwrap() >= 8, "{scale}");
    let (_, text, _) = run(dir.path(), &show);
    let line = text.lines().find(|l| l.contains("noise scale B_simple")).unwrap();
    assert!(line.contains("tokens") || line.contains("too few"), "{line}");
    complete(dir.path(), "whole", &[]);
    let (_, text, _) = run(dir.path(), &["runs", "show", "small-L2-d24-h3-s1", "--store", "whole/runs"]);
    assert!(text.contains("B_simple: missing: one micro-batch a step"), "{text}");
}

#[test]
fn a_slow_second_moment_in_8_bits_is_warned_of_in_plan_and_run() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let sets = ["--set", "train.optimizer=adamw8bit", "--set", "train.beta2=0.999"];
    let (code, plan, err) = run(dir.path(), &[&["plan", "study.toml", "--no-timing"][..], &sets].concat());
    assert!(code == 0 && plan.contains("train.beta2 = 0.999: warning: 8-bit"), "{plan} {err}");
    let (code, _, err) = run(dir.path(), &[&["run", "study.toml", "--out", "out"][..], &sets].concat());
    assert!(code == 0 && err.contains("train.beta2 = 0.999: warning: 8-bit"), "{err}");
}
