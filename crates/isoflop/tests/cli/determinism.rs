//! Same study, seed, binary and kernel set: the same bytes.

use crate::{
    common::run,
    small_study::{STUDY, assert_same, complete, fingerprint, json, write},
};
use std::path::Path;

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

/// A checkpoint in which every weight is near the largest f32: its first loss is no number.
fn overflowing_checkpoint(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    let mut bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    bytes[8 + header..].chunks_exact_mut(4).for_each(|w| w.copy_from_slice(&3e38_f32.to_le_bytes()));
    std::fs::write(to.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn a_diverged_run_is_listed_and_the_study_leaves_with_3() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let one_size = "series.models=[\"L1-d8-h1\"]";
    complete(dir.path(), "sound", &["--set", one_size]);
    let sound = dir.path().join("sound/runs/small-L1-d8-h1-s1/checkpoints/point-10240");
    overflowing_checkpoint(&sound, &dir.path().join("huge"));
    let mut args = vec!["run", "study.toml", "--store", "runs", "--out", "out", "--set", one_size];
    args.extend(["--set", "series.seeds=[1, 2]", "--set", "train.init_from=\"huge\""]);
    let (code, _, err) = run(dir.path(), &args);
    assert_eq!(code, 3, "{err}");
    let listed = json(dir.path(), &["runs", "ls", "--store", "runs", "--json"]).to_string();
    assert_eq!(listed.matches("diverged").count(), 2, "the first does not stop the second: {listed}");
}
