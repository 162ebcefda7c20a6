//! What each way of saying a mix becomes, and what is said of one that makes no sense.

use crate::open;
use crate::study::raw::RawStudy;
use crate::study::resolve::{Machine, open_corpus};
use isoflop_base::JunkKind;
use isoflop_base::mix::{MixSpec, Origin};
use isoflop_base::study::Study;
use std::path::Path;

/// Two token files of bytes, one of them with a second that is held out.
fn files(dir: &Path) {
    for (name, len) in [("a.bin", 50_000), ("a-val.bin", 4_000), ("b.bin", 20_000)] {
        let bytes: Vec<u8> = (0..len).map(|i: u32| b"the cat sat on "[i as usize % 15]).collect();
        std::fs::write(dir.join(name), bytes).unwrap();
        std::fs::write(
            dir.join(format!("{name}.json")),
            r#"{"dtype": "u8", "vocab": 256, "tokenizer": "bytes"}"#,
        )
        .unwrap();
    }
}

/// A study of one size, 64 tokens a step for 1000 steps, with these lines under `[data]`.
fn resolved(data: &str, schedule: &str) -> Result<Study, String> {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let data =
        data.replace("A-VAL", &at("a-val.bin")).replace("A-BIN", &at("a.bin")).replace("B-BIN", &at("b.bin"));
    let text = format!(
        "name = \"t\"\n[series]\nmodels = [\"L1-d8-h1\"]\ntokens = [\"64k\", \"32k\"]\n[train]\ncontext = 16\n\
         batch_tokens = 64\nschedule = \"{schedule}\"\n[data]\n{data}"
    );
    let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None };
    let raw = RawStudy::parse("t.toml", &text, &[]).map_err(|e| e.to_string())?;
    let corpus = open_corpus(&raw).map_err(|e| e.to_string())?;
    open::resolve(&raw, &corpus, &machine).map_err(|e| e.to_string())
}

const A: &str = "a = { train = \"A-BIN\", val = \"A-VAL\", weight = 0.75 }";

fn mix(data: &str) -> MixSpec {
    let mut study = resolved(data, "wsd").unwrap();
    assert_eq!(study.runs.len(), 1);
    study.runs.remove(0).data.mix.unwrap()
}

fn weights(mix: &MixSpec) -> Vec<(u64, Vec<u64>)> {
    mix.stages.iter().map(|s| (s.from_step, s.weights.clone())).collect()
}

#[test]
fn weights_are_whole_numbers_and_sources_keep_their_order() {
    let found = mix(&format!("[data.mix]\n{A}\nb = {{ train = \"B-BIN\", weight = 0.25 }}"));
    assert_eq!(weights(&found), [(0, vec![3, 1])]);
    assert_eq!(found.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(found.held_out, [0]);
    let Origin::Tokens { train_tokens, val_tokens, .. } = found.sources[1].origin else { panic!() };
    assert_eq!((train_tokens, val_tokens), (20_000, 0));
    // The same shares, written otherwise.
    for (a, b) in [("\"75%\"", "\"25%\""), ("3", "1"), ("1.5", "0.5"), ("300", "100")] {
        let written = A.replace("0.75", a);
        let same = mix(&format!("[data.mix]\n{written}\nb = {{ train = \"B-BIN\", weight = {b} }}"));
        assert_eq!(same, found, "{a} {b}");
    }
    // What is scored is the first text of which something is held out.
    let turned = mix(&format!("[data.mix]\nb = {{ train = \"B-BIN\", weight = 0.25 }}\n{A}"));
    assert_eq!((weights(&turned), turned.held_out), (vec![(0, vec![1, 3])], vec![1]));
}

#[test]
fn stages_begin_at_a_share_of_the_run_or_after_so_many_tokens() {
    let staged = |stages: &str| {
        format!(
            "stages = {stages}\n[data.mix]\n{A}\nnoise = {{ junk = \"uniform-ascii\", weight = [0, 0.25] }}"
        )
    };
    assert_eq!(weights(&mix(&staged("[\"40%\"]"))), [(0, vec![1, 0]), (400, vec![3, 1])]);
    assert_eq!(weights(&mix(&staged("[\"6400\"]"))), [(0, vec![1, 0]), (100, vec![3, 1])]);
    // A cosine of each length is a run of its own, with its own share.
    let study = resolved(&staged("[\"40%\"]"), "cosine").unwrap();
    let starts: Vec<u64> = study.runs.iter().map(|r| weights(r.data.mix.as_ref().unwrap())[1].0).collect();
    assert_eq!(starts, [200, 400]);
    let said: Vec<&str> =
        study.resolutions.iter().filter(|r| r.key == "data.mix").map(|r| r.value.as_str()).collect();
    assert_eq!(said, ["a 100 %, noise 0 %", "a 75 %, noise 25 % from 25.6 k tokens on"]);
}

#[test]
fn junk_is_made_of_the_first_text_and_copies_become_passages() {
    let found = mix(&format!(
        "[data.mix]\n{A}\nagain = {{ junk = \"repeated\", copies = 25, passage_tokens = 128, weight = 0.25, tag = \"# \" }}\n\
         words = {{ junk = \"words-shuffled\", of = \"a\", seed = 3, weight = 1 }}"
    ));
    let Origin::Junk { kind, of, seed: 0, passages: Some(passages) } = &found.sources[1].origin else {
        panic!()
    };
    // An eighth of 64,000 tokens is 500 rows of 14 tokens behind a tag of 2; every passage 25 times.
    assert_eq!((*kind, *of, passages.count), (JunkKind::Repeated, Some(0), 2));
    assert_eq!(found.sources[1].tag, [35, 32]);
    assert!(matches!(found.sources[2].origin, Origin::Junk { seed: 3, of: Some(0), passages: None, .. }));
}

#[test]
fn what_makes_no_sense_is_named_with_what_to_do() {
    let check = |lines: &str, parts: &[&str]| {
        let message = resolved(&lines.replace("$A", A), "wsd").unwrap_err();
        for part in parts {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    };
    check("corpus = \"builtin\"\n[data.mix]\n$A", &["t.toml:10", "data.corpus", "beside [data.mix]", "hint"]);
    check("held_out = \"a\"\ncorpus = \"builtin\"", &["data.held_out", "without [data.mix]", "hint"]);
    check("[data.mix]\na = { weight = 1 }", &["`a` has no text", "hint"]);
    check("[data.mix]\n$A\nb = { train = \"B-BIN\" }", &["`b` has no weight", "hint"]);
    check("[data.mix]\n$A\nb = { train = \"B-BIN\", text = \"x\", weight = 1 }", &["train, text", "exclude"]);
    check("[data.mix]\na = { corpus = \"buildin\", weight = 1 }", &["no corpus \"buildin\"", "hint"]);
    check("[data.mix]\nn = { junk = \"base64\", weight = 1 }", &["no text but junk", "hint"]);
    check("[data.mix]\n$A\nn = { junk = \"base46\", weight = 1 }", &["base46", "base64, markup"]);
    check(
        "[data.mix]\n$A\nn = { junk = \"words-shuffled\", of = \"n\", weight = 1 }",
        &["`n` is no text", "texts: a"],
    );
    check(
        "[data.mix]\n$A\nn = { junk = \"base64\", of = \"a\", weight = 1 }",
        &["base64 is made of no text"],
    );
    check(
        "[data.mix]\n$A\nn = { junk = \"base64\", copies = 2, weight = 1 }",
        &["only of junk = \"repeated\""],
    );
    check("[data.mix]\n$A\nn = { junk = \"repeated\", copies = 0.5, weight = 1 }", &["0.5 copies", "hint"]);
    check(
        "[data.mix]\n$A\nn = { junk = \"repeated\", copies = 2, passages = 3, weight = 1 }",
        &["keep one of"],
    );
    check(
        "[data.mix]\n$A\nn = { junk = \"repeated\", passages = 99, weight = 1 }",
        &["12 passages", "99", "hint"],
    );
    check(
        "[data.mix]\n$A\nn = { junk = \"base64\", unique_tokens = 64, weight = 1 }",
        &["junk never ends", "hint"],
    );
    check("[data.mix]\n$A\nb = { train = \"B-BIN\", copies = 2, weight = 1 }", &["only beside junk"]);
    check(
        "[data.mix]\n$A\nb = { train = \"B-BIN\", tag = [256], weight = 1 }",
        &["256 is beyond the vocabulary"],
    );
    check(
        "[data.mix]\n$A\nb = { train = \"B-BIN\", tag = \"0123456789abcdef\", weight = 1 }",
        &["tag of b fills"],
    );
    check("[data.mix]\n$A\nb = { train = \"B-BIN\", weight = -1 }", &["`-1` is not a count", "hint"]);
    check("[data.mix]\n$A\nb = { train = \"B-BIN\", weight = [1, 2] }", &["2 weights for 1 stages", "hint"]);
    check(
        "[data.mix]\na = { train = \"A-BIN\", val = \"A-VAL\", weight = 0 }",
        &["every weight of stage 1 is 0"],
    );
    check("[data.mix]\nb = { train = \"B-BIN\", weight = 1 }", &["nothing of b is held out", "val"]);
    check(
        "held_out = [\"a\", \"b\"]\n[data.mix]\n$A\nb = { train = \"B-BIN\", weight = 1 }",
        &["`b`", "held_out"],
    );
    check("held_out = \"c\"\n[data.mix]\n$A", &["`c` is no source", "sources: a"]);
    check("stages = [\"50%\", \"50%\"]\n[data.mix]\n$A", &["from step 500", "step 500", "hint"]);
}

#[test]
fn documents_are_kept_apart_and_what_is_left_out_is_said() {
    // "the cat sat on " has a mark (a space, 32) behind three, three, three and two letters: no row of 16 is inside.
    let one = |more: &str| format!("train = \"A-BIN\"\nval = \"A-VAL\"\n{more}");
    let refused = |more: &str, words: &str| {
        let error = resolved(&one(more), "wsd").unwrap_err();
        assert!(error.contains(words) && error.contains("hint: "), "{error}");
    };
    refused("documents = \"apart\"", "joined, separate");
    refused("end_of_text = 32", "only where documents are kept apart");
    refused("documents = \"separate\"", "end_of_text");
    refused("documents = \"separate\"\nend_of_text = 256", "beyond the vocabulary of 256");
    refused("documents = \"separate\"\nend_of_text = 0", "the id 0 does not occur");
    refused("documents = \"separate\"\nend_of_text = 32", "no document");
    // Nothing but `c` (99) once in 15 tokens: documents that predict 15 tokens, one less than a row.
    refused("documents = \"separate\"\nend_of_text = 99", "use a shorter context");

    let joined = resolved(&one(""), "wsd").unwrap();
    assert_eq!((joined.runs[0].data.train_tokens, joined.runs[0].data.end_of_text), (50_000, None));
    let mix = mix(&format!("documents = \"separate\"\nend_of_text = 97\n[data.mix]\n{A_AND_TAG}"));
    let Origin::Tokens { train_tokens, .. } = mix.sources[0].origin else { panic!() };
    // `a` (97) stands in "cat" and "sat": documents predict 4 and 11 tokens, and rows of 10 behind a tag have 10 of 11.
    assert_eq!(train_tokens, 10 * (50_000 / 15));
}

const A_AND_TAG: &str = "a = { train = \"A-BIN\", val = \"A-VAL\", weight = 1, tag = [1, 1, 1, 1, 1, 1] }";
