//! The points of a store are the same points whoever reads them.

use crate::{common::run, laws::store, small_study::json};
use isoflop_base::Status;
use serde_json::Value;
use std::collections::BTreeSet;

/// Runs that are done and runs that are not (a diverged one is made beside them), each with a point.
const RUNS: [(&str, &str, f64, Option<Status>); 6] = [
    ("a-L2-d24-h2-s1", "L2-d24-h2", 2.30, Some(Status::Done)),
    ("a-L2-d32-h2-s1", "L2-d32-h2", 2.16, Some(Status::Done)),
    ("a-L2-d48-h3-s1", "L2-d48-h3", 2.00, Some(Status::Done)),
    ("a-L3-d64-h4-s1", "L3-d64-h4", 1.86, Some(Status::Done)),
    ("b-L3-d80-h4-s1", "L3-d80-h4", 9.00, Some(Status::Running)),
    // Nothing was ever noted of it: not known to be done is not done.
    ("c-L4-d96-h4-s1", "L4-d96-h4", 9.50, None),
];

/// The runs that are done, or those that are not.
fn ids(done: bool) -> BTreeSet<String> {
    let is_done = |status: &Option<Status>| *status == Some(Status::Done);
    RUNS.iter().filter(|(.., status)| is_done(status) == done).map(|(id, ..)| (*id).to_owned()).collect()
}

/// The runs of one member of each entry of a list.
fn runs(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|d| d["run"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn fit_report_page_and_export_have_the_same_points() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (id, shape, loss, status) in &RUNS {
        store(dir, &[(id, shape, *loss)], status.clone());
    }
    let diverged = Status::Diverged { step: 7, segment: "trunk".into() };
    store(dir, &[("d-L4-d128-h4-s1", "L4-d128-h4", 9.9)], Some(diverged));
    let left_out: BTreeSet<String> = ids(false).into_iter().chain(["d-L4-d128-h4-s1".to_owned()]).collect();
    let check = |what: &str, law: &Value| {
        assert_eq!(law["rows_read"], ids(true).len(), "{what}");
        assert_eq!(runs(&law["rows_dropped"]), left_out, "{what}");
    };
    check("fit", &json(dir, &["fit", "--json"]));
    check("report", &json(dir, &["report", "-o", "page.html", "--json"])["law"]);

    // In the page each point has a line; those of runs that are not done say that they enter no fit.
    let page = std::fs::read_to_string(dir.join("page.html")).unwrap();
    assert_eq!(page.matches("enters no fit").count(), left_out.len());

    for format in ["csv", "jsonl", "parquet"] {
        let (code, _, err) = run(dir, &["runs", "export", "--format", format, "-o", "out"]);
        assert_eq!(code, 0, "{err}");
        let table = format!("out/points.{format}");
        let law = json(dir, &["fit", &table, "--json"]);
        assert_eq!(law["rows_read"], ids(true).len(), "{format}");
        assert_eq!(law["rows_dropped"].as_array().unwrap().len(), left_out.len(), "{format}");
    }
    let csv = std::fs::read_to_string(dir.join("out/points.csv")).unwrap();
    let done: BTreeSet<String> = csv
        .lines()
        .filter(|line| line.contains(",done,"))
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    assert_eq!(done, ids(true));
    assert_eq!(csv.lines().count(), 1 + ids(true).len() + left_out.len(), "every point is exported");
}

#[test]
fn every_format_exports_the_same_columns() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    store(dir, &[("a-L2-d24-h2-s1", "L2-d24-h2", 2.30)], Some(Status::Done));
    for format in ["csv", "jsonl", "parquet"] {
        assert_eq!(run(dir, &["runs", "export", "--format", format, "-o", "out"]).0, 0);
    }
    for name in ["points", "curves"] {
        let csv = std::fs::read_to_string(dir.join(format!("out/{name}.csv"))).unwrap();
        let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        let bytes = std::fs::read(dir.join(format!("out/{name}.parquet"))).unwrap();
        let table = isoflop_data::parquet::read(name, &bytes).unwrap();
        assert_eq!(table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), header);
    }
    let csv = std::fs::read_to_string(dir.join("out/points.csv")).unwrap();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let text = std::fs::read_to_string(dir.join("out/points.jsonl")).unwrap();
    let line: serde_json::Map<String, Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line.keys().collect::<Vec<_>>(), header);
    let (typed, words) = (["tokens", "lr", "energy_j"], ["number", "number", "null"]);
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Number(_) => "number",
        _ => "other",
    };
    assert_eq!(typed.map(|name| kind(&line[name])), words);
}

#[test]
fn listing_runs_hashes_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    crate::small_study::write(dir, crate::small_study::STUDY);
    crate::small_study::complete(dir, "s", &[]);
    let run_dir = dir.join("s/runs/small-L1-d8-h1-s1");
    let ls = || json(dir, &["runs", "ls", "--store", "s/runs", "--json"]);
    let before = ls();
    let seconds = |list: &Value| list["runs"][0]["cost"]["seconds"].as_f64().unwrap();
    assert!(seconds(&before) > 0.0, "{before}");
    // As older stores are: the cost stands in the checkpoint alone, and a byte of its tensors is damaged.
    let status = std::fs::read_to_string(run_dir.join("status.json")).unwrap();
    let mut status: serde_json::Map<String, Value> = serde_json::from_str(&status).unwrap();
    status.remove("cost").expect("the cost is noted with the status");
    std::fs::write(run_dir.join("status.json"), Value::Object(status).to_string()).unwrap();
    let tensors = run_dir.join("checkpoints/point-10240/model.safetensors");
    let mut bytes = std::fs::read(&tensors).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&tensors, bytes).unwrap();
    let after = ls();
    assert_eq!(seconds(&before), seconds(&after));
    assert_eq!(after["notes"].as_array().unwrap().len(), 0);
    let shown = json(dir, &["runs", "show", "small-L1-d8-h1-s1", "--store", "s/runs", "--json"]);
    let problems = shown["health"]["problems"].to_string();
    assert!(problems.contains("model.safetensors was altered"), "{problems}");
}

/// Further seeds of a setting are runs like any other: each is one piece of evidence in every fit, and together they
/// tell the spread between seeds.
#[test]
fn further_seeds_enter_fits_as_runs_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let extra = [("a-L2-d32-h2-s2", "L2-d32-h2", 2.19), ("a-L2-d32-h2-s3", "L2-d32-h2", 2.14)];
    let done: Vec<_> = RUNS.iter().filter(|run| run.3.is_some()).take(4).map(|r| (r.0, r.1, r.2)).collect();
    store(dir, &[&done[..], &extra[..]].concat(), Some(Status::Done));
    let law = json(dir, &["fit", "--form", "l_n", "--json"]);
    assert_eq!(law["rows_read"], 6);
    let fitted = law["fits"][0]["residuals"].as_array().unwrap();
    assert_eq!(fitted.len(), 6, "{}", law["fits"][0]["residuals"]);
    assert_eq!((&law["seed_spread"]["groups"], &law["seed_spread"]["dof"]), (&1.into(), &2.into()));
}
