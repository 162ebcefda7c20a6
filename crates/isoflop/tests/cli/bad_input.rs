//! Bad input: a clear error with a hint, exit code 2 or 1, nothing lost.

use crate::{
    common::run,
    small_study::{STUDY, command, complete, fingerprint, write},
};
use std::path::Path;

/// Runs `isoflop` in `dir`; it must leave with `code`, say each of `parts`, and end in a hint.
fn check(dir: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let (found, out, err) = run(dir, args);
    assert_eq!(found, code, "{args:?}: {err}");
    assert!(out.is_empty(), "{args:?} wrote to stdout: {out}");
    for part in parts.iter().chain(&["error: ", "hint: "]) {
        assert!(err.contains(part), "{args:?}: `{part}` is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

/// A study with `from` replaced by `to` is refused by `run` and by `plan`.
fn check_study(from: &str, to: &str, parts: &[&str]) {
    assert!(from.is_empty() || STUDY.contains(from), "{from}");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &STUDY.replacen(from, to, 1));
    for verb in ["run", "plan"] {
        check(dir.path(), &[verb, "study.toml"], 2, parts);
    }
    assert!(!dir.path().join("runs").exists(), "a refused study began a run");
}

#[test]
fn an_unknown_verb_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run(dir.path(), &["domo"]);
    assert_eq!(code, 2);
    assert!(err.contains("demo"), "{err}");
}

#[test]
fn unknown_and_misplaced_keys_name_the_line_and_the_nearest_key() {
    check_study(
        "context = 16",
        "contxt = 16",
        &["study.toml:16: unknown key `train.contxt`", "`train.context`"],
    );
    check_study(
        "seeds = [1]",
        "seeds = [1]\nlr = 1",
        &["study.toml:14: unknown key `series.lr`", "`train.lr`"],
    );
    check_study("[series]", "[serie]", &["`serie`", "`series"]);
}

#[test]
fn values_of_the_wrong_kind_or_size_are_refused() {
    check_study("context = 16", "context = [16]", &["study.toml:16", "`train.context` should be a number"]);
    check_study("tokens = 10240", "tokens = \"many\"", &["study.toml:11", "`many` is not a count"]);
    check_study("\"L1-d8-h1\"", "\"L1-d8-h3\"", &["3 heads do not divide width 8"]);
    check_study("batch_tokens = 128", "batch_tokens = 100", &["`train.batch_tokens`", "batch_tokens = 96"]);
    check_study("lr = 1e-2", "lr = 0", &["`train.lr`", "out of range"]);
    check_study("schedule = \"wsd\"", "schedule = \"wds\"", &["\"wds\"", "cosine, wsd, constant"]);
    check_study("schedule = \"wsd\"", "schedule = \"cosine\"", &["branches need schedule = \"wsd\""]);
    check_study("branches = [5120]", "branches = [20480]", &["does not lie inside the run"]);
    check_study("branches = [5120]", "epochs = 1", &["series.tokens, series.epochs exclude each other"]);
    check_study("tokens = 10240", "", &["does not say how long to train"]);
    check_study("tokens = 10240", "tokens = 300", &["`series.branches`"]);
    check_study("lr = 1e-2", "lr = 1e-2\nprecision = \"fp16\"", &["fp16 is not computed on a processor"]);
    check_study("lr = 1e-2", "lr = 1e-2\nmicro_batch = 3", &["3 sequences do not divide the batch of 8"]);
    check_study("seeds = [1]", "extra_seeds = { \"L9-d8-h1\" = [2] }", &["L9-d8-h1 is not among the models"]);
    check_study("[train]", "[claims]\n\"a = x\" = { law = \"l_n\" }\n[train]", &["claim \"a = x\""]);
}

#[test]
fn a_study_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &["run", "nowhere.toml"], 2, &["nowhere.toml: no such file"]);
    std::fs::write(dir.path().join("latin.toml"), b"name = \"caf\xe9\"\n").unwrap();
    check(dir.path(), &["run", "latin.toml"], 2, &["latin.toml:1: not UTF-8 at byte 11"]);
    std::fs::write(dir.path().join("torn.toml"), "name = \"x\"\n[data\n").unwrap();
    check(dir.path(), &["plan", "torn.toml"], 2, &["torn.toml:2"]);
    std::fs::write(dir.path().join("file"), "").unwrap();
    check(dir.path(), &["run", "."], 2, &["directory"]);
}

#[test]
fn token_files_that_are_no_token_files_are_refused() {
    let tampered = |change: &dyn Fn(&Path), parts: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), STUDY);
        change(&dir.path().join("train.bin"));
        check(dir.path(), &["run", "study.toml"], 2, parts);
    };
    tampered(&|bin| std::fs::remove_file(bin).unwrap(), &["train.bin: no such file"]);
    tampered(&|bin| std::fs::write(bin, []).unwrap(), &["train.bin: the file is empty"]);
    tampered(&|bin| std::fs::write(bin, [1; 10_001]).unwrap(), &["train.bin: 10001 bytes", "2-byte tokens"]);
    tampered(&|bin| std::fs::write(bin, [0; 20]).unwrap(), &["train.bin", "context 16"]);
    let beyond = |bin: &Path| {
        let mut bytes = std::fs::read(bin).unwrap();
        let middle = bytes.len() / 4 * 2;
        bytes[middle..middle + 2].copy_from_slice(&9999u16.to_le_bytes());
        std::fs::write(bin, bytes).unwrap();
    };
    tampered(&beyond, &["train.bin: token", "is 9999, beyond the vocabulary of 61"]);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &STUDY.replace("train = \"train.bin\"\nval = \"val.bin\"", "text = \"latin.txt\""));
    std::fs::write(dir.path().join("latin.txt"), b"one\ntwo\xe9\n").unwrap();
    check(dir.path(), &["run", "study.toml"], 2, &["latin.txt: not UTF-8 at byte 7 (line 2"]);
}

#[test]
fn overrides_are_checked_like_the_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    check(dir.path(), &["plan", "study.toml", "--set", "train.clp=1"], 2, &["--set", "`train.clip`"]);
    check(dir.path(), &["plan", "study.toml", "--set", "train.clip"], 2, &["no `=`"]);
    check(dir.path(), &["plan", "study.toml", "--set", "train.clip=no"], 2, &["--set: `train.clip`"]);
}

#[test]
fn a_store_that_cannot_be_written_is_said_before_training() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    check(dir.path(), &["run", "study.toml", "--store", "file/runs", "--out", "out"], 2, &["file/runs"]);
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"mine");
}

#[test]
fn a_study_that_changed_under_its_runs_is_refused_and_they_stay() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "it", &[]);
    let before = fingerprint(dir.path(), "it");
    let output = command(dir.path(), "it").args(["--set", "train.clip=0.5"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("train.clip") && said.contains("hint: "), "{said}");
    assert_eq!(before.keys().collect::<Vec<_>>(), fingerprint(dir.path(), "it").keys().collect::<Vec<_>>());
    complete(dir.path(), "it", &[]);
}

#[test]
fn checkpoints_that_are_damaged_or_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let eval = |checkpoint: &str, parts: &[&str]| {
        check(dir.path(), &["eval", "--checkpoint", checkpoint, "--tokens", "val.bin"], 2, parts);
    };
    eval("nowhere", &["nowhere"]);
    complete(dir.path(), "it", &[]);
    let checkpoint = "it/runs/small-L1-d8-h1-s1/checkpoints/point-10240";
    let file = dir.path().join(checkpoint).join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    std::fs::write(&file, altered).unwrap();
    eval(checkpoint, &["damaged"]);
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    eval(checkpoint, &["model.safetensors"]);
    std::fs::write(&file, &bytes).unwrap();
    check(
        dir.path(),
        &["sample", "--checkpoint", checkpoint, "--prompt", "x"],
        2,
        &["vocabulary of 61", "--tokenizer"],
    );
}

#[test]
fn numbers_out_of_range_on_the_command_line_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &["demo", "--minutes", "0"], 2, &["--minutes 0"]);
    check(dir.path(), &["sample", "--checkpoint", "x", "--prompt", ""], 2, &["empty prompt"]);
    check(dir.path(), &["sample", "--checkpoint", "x", "--temperature=-1"], 2, &["temperature of -1"]);
}
