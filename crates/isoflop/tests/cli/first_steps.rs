//! The first commands of a newcomer: a study drafted for what is there, completions, manual pages.

use crate::common::{isoflop, run};
use std::fs;

#[test]
fn a_drafted_study_is_one_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..20_000).map(|i| format!("Sentence number {i} of a book.\n")).collect();
    fs::write(dir.path().join("My book.txt"), text).unwrap();
    let init = ["init", "My book.txt", "--minutes", "0.01", "--json"];
    let (code, out, err) = run(dir.path(), &init);
    assert_eq!(code, 0, "{err}");
    let drafted: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(drafted["found"], "text");
    assert_eq!(drafted["study"], "my-book.toml");
    assert_eq!(drafted["next"][0], "isoflop run my-book.toml");
    assert!(drafted["plan"]["seconds"]["value"].as_f64().unwrap() > 0.0, "{out}");
    let (code, out, err) = run(dir.path(), &["plan", "my-book.toml", "--no-timing", "--json"]);
    assert_eq!(code, 0, "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["rows"], without_timings(&drafted["plan"]["rows"]), "what was said is what is planned");
    // Nothing that a user has is replaced unasked.
    fs::write(dir.path().join("my-book.toml"), "mine").unwrap();
    let (code, _, err) = run(dir.path(), &init);
    assert!(code == 2 && err.contains("there already") && err.contains("--force"), "{err}");
    assert_eq!(fs::read_to_string(dir.path().join("my-book.toml")).unwrap(), "mine");
}

fn without_timings(rows: &serde_json::Value) -> serde_json::Value {
    let mut rows = rows.clone();
    for row in rows.as_array_mut().unwrap() {
        for key in ["tokens_per_s", "seconds"] {
            row[key] = serde_json::json!({ "provenance": "missing", "reason": "not timed" });
        }
    }
    rows
}

#[test]
fn what_is_no_text_leads_to_the_command_for_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("docs.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    fs::write(dir.path().join("points.csv"), "params,loss\n1e6,3.1\n2e6,2.9\n4e6,2.8\n").unwrap();
    for (path, next) in [
        ("docs.jsonl", "isoflop prepare docs.jsonl --out docs-tokens"),
        ("points.csv", "isoflop fit points.csv"),
    ] {
        let (code, out, err) = run(dir.path(), &["init", path, "--json"]);
        assert_eq!(code, 0, "{err}");
        let drafted: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(drafted["next"][0], next);
        assert!(drafted["study"].is_null(), "{out}");
    }
    for (args, word) in [
        (vec!["init", "nothing.txt"], "nothing.txt"),
        (vec!["init", "--minutes", "0"], "no time"),
        (vec!["init", "--name", "a\"b"], "cannot name a study"),
        (vec!["init", "--json", "--out", "-"], "both want stdout"),
        (vec!["completions", "tcsh"], "nushell"),
    ] {
        let (code, _, err) = run(dir.path(), &args);
        assert!(code == 2 && err.contains(word), "{args:?}: {err}");
    }
    let studies = fs::read_dir(dir.path()).unwrap().filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "toml")
    });
    assert_eq!(studies.count(), 0, "what was refused was not written");
}

#[test]
fn shells_and_man_know_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let verbs = ["demo", "init", "fit", "doctor"];
    for shell in ["bash", "zsh", "fish", "nushell", "powershell"] {
        let (code, out, _) = run(dir.path(), &["completions", shell]);
        assert_eq!(code, 0, "{shell}");
        assert!(verbs.iter().all(|verb| out.contains(verb)), "{shell}");
    }
    assert_eq!(run(dir.path(), &["man", "--out", "man"]).0, 0);
    for verb in verbs {
        let page = fs::read_to_string(dir.path().join(format!("man/isoflop-{verb}.1"))).unwrap();
        assert!(page.contains(&format!("isoflop\\-{verb}")) && page.contains(".SH OPTIONS"), "{page}");
    }
    // The same program, the same pages.
    let before = fs::read(dir.path().join("man/isoflop.1")).unwrap();
    let out = isoflop(dir.path()).arg("man").output().unwrap();
    assert_eq!(out.stdout, before);
}
