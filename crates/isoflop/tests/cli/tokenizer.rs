//! `isoflop tokenizer`: a vocabulary is made, text becomes ids and ids become text.

use crate::common::{isoflop, run};
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

const TEXT: &str = "The lower the loss, the lower the slower law. naïve — 日本語\r\n\tdon't stop  \n";

/// Runs with `input` on standard input; it must succeed. Returns standard output and standard error.
fn piped(dir: &Path, args: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    let mut child = isoflop(dir)
        .arg("tokenizer")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {err}");
    (output.stdout, err)
}

fn json(dir: &Path, args: &[&str], input: &[u8]) -> Value {
    serde_json::from_slice(&piped(dir, args, input).0).unwrap()
}

#[test]
fn a_trained_vocabulary_encodes_and_decodes_to_the_same_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let trained = json(dir, &["train", "-", "--vocab", "270", "--json"], TEXT.repeat(50).as_bytes());
    assert_eq!((&trained["vocab"], &trained["merges"]), (&270.into(), &13.into()));
    assert_eq!(trained["bytes"], TEXT.len() * 50);
    let file = trained["file"].as_str().unwrap();
    assert!(trained["bytes_per_token"].as_f64().unwrap() > 1.2, "{trained}");

    // Both ways of giving text, and each format there and back.
    std::fs::write(dir.join("text"), TEXT).unwrap();
    let from_file = piped(dir, &["encode", "text", "-t", file], b"").0;
    for format in ["text", "u16", "u32"] {
        let args = ["-", "-t", file, "--format", format];
        let ids = piped(dir, &[&["encode"], &args[..]].concat(), TEXT.as_bytes()).0;
        assert!(format != "text" || ids == from_file);
        assert_eq!(piped(dir, &[&["decode"], &args[..]].concat(), &ids).0, TEXT.as_bytes(), "{format}");
    }
    let encoded = json(dir, &["encode", "-t", file, "--json"], TEXT.as_bytes());
    let listed: Vec<String> = encoded["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(listed.join(" ") + "\n", String::from_utf8(from_file.clone()).unwrap());
    assert_eq!(encoded["tokens"], listed.len());
    let decoded = json(dir, &["decode", "-t", file, "--json"], &from_file);
    assert_eq!(decoded["text"], TEXT);

    let inspected = json(dir, &["inspect", "text", "-t", file, "--json"], b"");
    assert_eq!(inspected["vocab"], 270);
    assert_eq!(inspected["end_of_text"], 269);
    assert_eq!(inspected["text"]["tokens"], encoded["tokens"]);
}

#[test]
fn gpt2_is_built_in_and_special_tokens_are_text_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let encode = |args: &[&str]| {
        let out = piped(dir.path(), &[&["encode"], args].concat(), b"Hello world<|endoftext|>").0;
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encode(&["--special"]), "15496 995 50256\n");
    assert_eq!(encode(&[]), "15496 995 27 91 437 1659 5239 91 29\n");
    assert_eq!(encode(&["-t", "bytes"]).split(' ').count(), 24);
}

#[test]
fn what_cannot_be_tokenised_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("latin"), b"caf\xe9").unwrap();
    std::fs::write(dir.join("ids"), "1 two 3").unwrap();
    std::fs::write(dir.join("high"), "1 60000").unwrap();
    std::fs::write(dir.join("text"), TEXT).unwrap();
    std::fs::write(dir.join("t.json"), "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}").unwrap();
    std::fs::write(dir.join("mine.tiktoken"), "QQ== 0\n").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["encode", "latin"], "latin: not UTF-8 at byte 3"),
        (&["encode", "nowhere"], "cannot read nowhere"),
        (&["encode", "text", "-t", "gtp2"], "no tokeniser is named gtp2"),
        (&["encode", "text", "-t", "t.json"], "Unigram"),
        (&["encode", "text", "-t", "mine.tiktoken"], "--pattern"),
        (&["encode", "text", "--json", "--format", "u16"], "cannot share standard output"),
        (&["inspect", "--json", "--write", "-"], "cannot share standard output"),
        (&["decode", "ids"], "\"two\" is no id"),
        (&["decode", "ids", "--format", "u16"], "7 bytes are no whole number of 2-byte ids"),
        (&["decode", "high"], "id 60000, number 1"),
        (&["train", "--out", "x.json"], "no text to train on"),
        (&["train", "text", "--vocab", "100", "--out", "x.json"], "100 ids"),
    ];
    for (args, expected) in cases {
        let (code, out, err) = run(dir, &[&["tokenizer"], *args].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(expected) && err.contains("hint: "), "{args:?}: {err}");
    }
    assert!(!dir.join("x.json").exists());
}
