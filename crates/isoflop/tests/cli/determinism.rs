//! Same study, seed, binary and kernel set: the same bytes.

use crate::{
    common::run,
    small_study::{STUDY, assert_same, complete, fingerprint, json, write},
};

#[test]
fn twice_is_the_same_bytes_whatever_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    for (name, threads) in
        [("one", "train.threads=1"), ("two", "train.threads=2"), ("three", "train.threads=3")]
    {
        complete(dir.path(), name, &["--set", threads]);
    }
    let one = fingerprint(dir.path(), "one");
    assert_same(&one, &fingerprint(dir.path(), "two"), "two threads");
    assert_same(&one, &fingerprint(dir.path(), "three"), "three threads");
}

#[test]
fn another_seed_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "one", &[]);
    complete(dir.path(), "other", &["--set", "series.seeds=[2]"]);
    let losses = |name: &str| {
        let points = fingerprint(dir.path(), name).remove("points.csv").unwrap();
        String::from_utf8(points).unwrap()
    };
    assert_ne!(losses("one"), losses("other"));
}

#[test]
fn a_diverged_run_is_listed_and_the_study_leaves_with_3() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let args = ["run", "study.toml", "--store", "runs", "--out", "out", "--set", "train.lr=1e30"];
    let (code, _, err) = run(dir.path(), &args);
    assert_eq!(code, 3, "{err}");
    let listed = json(dir.path(), &["runs", "ls", "--store", "runs", "--json"]).to_string();
    assert_eq!(listed.matches("diverged").count(), 4, "{listed}");
}
