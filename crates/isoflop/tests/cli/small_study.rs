//! A study that trains in about a second, and what of its store must not depend on when it ran.

use crate::common::{isoflop, run};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// Symbols of its tokens.
const VOCAB: u64 = 61;

/// Four sizes, a branch, checkpoints every few steps.
pub(crate) const STUDY: &str = r#"
name = "small"
kind = "scaling"

[data]
train = "train.bin"
val = "val.bin"

[series]
models = ["L1-d8-h1", "L1-d16-h2", "L2-d16-h2", "L2-d24-h3"]
tokens = 10240
branches = [5120]
seeds = [1]

[train]
context = 16
batch_tokens = 128
lr = 1e-2
schedule = "wsd"
eval_every = "20%"
eval_tokens = 2000
checkpoint_every = "20ms"
"#;

/// Pseudo-random tokens with structure: each symbol is followed by one of four.
fn tokens(count: usize, seed: u64) -> Vec<u8> {
    let (mut state, mut symbol) = (seed, 0);
    let mut bytes = Vec::with_capacity(2 * count);
    for _ in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        symbol = (symbol * 7 + (state >> 62) * 11 + 1) % VOCAB;
        bytes.extend_from_slice(&u16::try_from(symbol).expect("a small vocabulary").to_le_bytes());
    }
    bytes
}

/// Writes tokens and `study.toml` into `dir`.
pub(crate) fn write(dir: &Path, study: &str) {
    for (name, count, seed) in [("train.bin", 20_000, 1), ("val.bin", 4_000, 2)] {
        std::fs::write(dir.join(name), tokens(count, seed)).unwrap();
        std::fs::write(dir.join(format!("{name}.json")), format!(r#"{{"vocab": {VOCAB}, "dtype": "u16"}}"#))
            .unwrap();
    }
    std::fs::write(dir.join("study.toml"), study).unwrap();
}

/// `isoflop run study.toml` in `dir`, its store and artifacts below `dir/<name>`.
pub(crate) fn command(dir: &Path, name: &str) -> Command {
    let mut command = isoflop(dir);
    command.args(["run", "study.toml", "--store", &format!("{name}/runs"), "--out", &format!("{name}/out")]);
    command
}

/// Runs it to the end.
pub(crate) fn complete(dir: &Path, name: &str, more: &[&str]) {
    let output = command(dir, name).args(more).output().unwrap();
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// What must be the same, byte for byte, however a study came to its end: the tensors of every finished point,
/// the law, and the points and curves without what was measured on the way.
pub(crate) fn fingerprint(dir: &Path, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut tensors = Vec::new();
    walk(&dir.join(name).join("runs"), &mut tensors);
    for path in tensors {
        let text = path.to_string_lossy().replace('\\', "/");
        if text.ends_with(".safetensors") && text.contains("/checkpoints/point-") {
            let key = text.split_once("/runs/").expect("below the store").1.to_owned();
            found.insert(key, std::fs::read(&path).unwrap());
        }
    }
    assert!(
        found.keys().any(|k| k.ends_with("optimizer.safetensors")),
        "no finished point: {:?}",
        found.keys()
    );
    let out = dir.join(name).join("out");
    for table in ["points.csv", "curves.csv"] {
        found.insert(table.to_owned(), without_measured(&std::fs::read_to_string(out.join(table)).unwrap()));
    }
    let law: Value = serde_json::from_slice(&std::fs::read(out.join("law.json")).unwrap()).unwrap();
    found.insert("law.json".to_owned(), law["fits"].to_string().into_bytes());
    found
}

/// Columns that a clock, a meter or the machine filled are left out.
fn without_measured(csv: &str) -> Vec<u8> {
    let mut lines = csv.lines().filter(|line| !line.starts_with('#'));
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let measured = [
        "second",
        "energy",
        "tokens_per_s",
        "watt",
        "joule",
        "flops_per_s",
        "memory",
        "peak",
        "time",
        "temperature",
        "wait",
    ];
    let keep: Vec<bool> = header.iter().map(|name| !measured.iter().any(|m| name.contains(m))).collect();
    assert!(keep.iter().filter(|k| **k).count() > 3, "hardly a column is left of {header:?}");
    let mut out = String::new();
    for line in std::iter::once(csv.lines().next().expect("a header")).chain(lines) {
        let cells = line.split(',').zip(&keep).filter(|(_, keep)| **keep).map(|(cell, _)| cell);
        out.push_str(&cells.collect::<Vec<_>>().join(","));
        out.push('\n');
    }
    out.into_bytes()
}

/// Fails with the name of the first thing that differs.
pub(crate) fn assert_same(
    expected: &BTreeMap<String, Vec<u8>>,
    found: &BTreeMap<String, Vec<u8>>,
    what: &str,
) {
    let (a, b): (Vec<_>, Vec<_>) = (expected.keys().collect(), found.keys().collect());
    assert_eq!(a, b, "{what}: other files");
    for (key, bytes) in expected {
        if key.ends_with(".safetensors") {
            assert!(*bytes == found[key], "{what}: {key} differs");
        } else {
            assert_eq!(
                String::from_utf8_lossy(bytes),
                String::from_utf8_lossy(&found[key]),
                "{what}: {key} differs"
            );
        }
    }
}

/// Every file below `dir`.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// stdout of a command that must succeed, as JSON; anything after the document is an error.
pub(crate) fn json(dir: &Path, args: &[&str]) -> Value {
    let (code, out, err) = run(dir, args);
    assert_eq!(code, 0, "{args:?}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}\n{out}"))
}
