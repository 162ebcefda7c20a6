//! `isoflop prepare`: anybody's text becomes shards, the same whoever was killed on the way, and a study reads them.

use crate::common::{isoflop, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Words that follow each other by a seed.
fn words(seed: u64, count: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ["the", "loss", "of", "a", "model", "falls", "with", "naïve", "compute", "—", "日本", "tokens."]
            [(state >> 33) as usize % 12]
    };
    (0..count).map(|_| next()).collect::<Vec<_>>().join(" ")
}

/// `count` documents in two files of lines, one packed, and a table.
fn write_sources(dir: &Path, count: u64) {
    std::fs::create_dir_all(dir.join("in")).unwrap();
    let line = |i: u64| json!({"id": i, "text": words(i, 20 + i as usize % 90)}).to_string() + "\n";
    let third = |of: u64| (of * count / 3..(of + 1) * count / 3).map(line).collect::<String>();
    std::fs::write(dir.join("in/a.jsonl"), third(0)).unwrap();
    let mut packed = flate2_gz(third(1).as_bytes());
    packed.extend(flate2_gz(b"\n\n"));
    std::fs::write(dir.join("in/b.jsonl.gz"), packed).unwrap();
    let rows: String =
        (2 * count / 3..count).map(|i| format!("\"{}\",{i}\n", words(i, 20 + i as usize % 90))).collect();
    std::fs::write(dir.join("in/c.csv"), format!("text,id\n{rows}")).unwrap();
}

/// A gzip member with stored blocks: packed without a packer.
fn flate2_gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut parts = bytes.chunks(65_535).peekable();
    while let Some(part) = parts.next() {
        out.push(u8::from(parts.peek().is_none()));
        let length = part.len() as u16;
        out.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
        out.extend(part);
    }
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    out.extend((!crc).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

/// Everything a preparation leaves but its lock, by name.
fn left(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != ".lock")
        .collect();
    out.sort();
    out
}

fn prepared(dir: &Path, args: &[&str]) -> Value {
    let (code, out, err) = run(dir, &[&["prepare", "--json"], args].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str::<Value>(&out).unwrap()["prepared"].clone()
}

fn ids(dir: &Path, split: &str) -> Vec<u16> {
    left(dir)
        .iter()
        .filter(|(name, _)| name.starts_with(split) && name.ends_with(".bin"))
        .flat_map(|(_, bytes)| {
            bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn documents_become_shards_in_order_with_what_stands_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_sources(dir, 300);
    let said = prepared(dir, &["in", "-o", "out", "--val-share", "20%", "--shard-tokens", "4096"]);
    let (train, val) = (ids(&dir.join("out"), "train"), ids(&dir.join("out"), "val"));
    assert_eq!(said["train"]["tokens"], train.len());
    assert_eq!(said["val"]["tokens"], val.len());
    assert!(said["train"]["shards"].as_array().unwrap().len() > 2, "{said}");
    let ended = |ids: &[u16]| ids.iter().filter(|&&id| id == 50_256).count();
    assert_eq!(
        (said["train"]["documents"].as_u64(), ended(&train)),
        (Some(ended(&train) as u64), ended(&train))
    );
    assert_eq!(ended(&train) + ended(&val), 300);
    assert!((30..100).contains(&ended(&val)), "{}", ended(&val));
    assert_eq!((train.last(), val.last()), (Some(&50_256), Some(&50_256)));
    // Decoded, they are the documents in the order of the sources.
    std::fs::write(dir.join("ids"), train.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
        .unwrap();
    let (_, text, _) = run(dir, &["tokenizer", "decode", "ids", "--format", "u16"]);
    let mut at = 0;
    let mut found = 0;
    for document in text.split("<|endoftext|>").filter(|text| !text.is_empty()) {
        while words(at, 20 + at as usize % 90) != document {
            at += 1;
            assert!(at < 300, "{document}");
        }
        found += 1;
    }
    assert_eq!(found, ended(&train));
    // Given again, nothing is done; with other settings, nothing is lost.
    let (code, out, _) =
        run(dir, &["prepare", "in", "-o", "out", "--val-share", "20%", "--shard-tokens", "4096", "--json"]);
    assert!(code == 0 && serde_json::from_str::<Value>(&out).unwrap()["was_done"] == true);
    let (code, _, err) =
        run(dir, &["prepare", "in", "-o", "out", "--val-share", "10%", "--shard-tokens", "4096"]);
    assert!(
        code == 2 && err.contains("val_share is 0.2 there and 0.1 here") && err.contains("--restart"),
        "{err}"
    );
    let restarted = prepared(dir, &["in", "-o", "out", "--val-share", "10%", "--restart"]);
    assert_eq!(restarted["train"]["shards"].as_array().unwrap().len(), 1);
}

#[test]
fn the_number_of_threads_changes_no_byte_of_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_sources(dir, 9000);
    std::fs::write(dir.join("in/d.txt"), words(77, 60_000)).unwrap();
    std::fs::write(dir.join("in/e.jsonl"), "{\"text\": \"x\"}\nbad\n{\"text\": 3}\n".repeat(50)).unwrap();
    for dedup in ["exact", "minhash"] {
        for threads in ["1", "2", "7"] {
            let out = format!("{dedup}-{threads}");
            prepared(
                dir,
                &["in", "-o", &out, "--threads", threads, "--dedup", dedup, "--shard-tokens", "50k"],
            );
            assert!(left(&dir.join(&out)) == left(&dir.join(format!("{dedup}-1"))), "{out}");
        }
    }
}

#[test]
fn killed_anywhere_a_preparation_comes_to_the_same_shards() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_sources(dir, 12_000);
    std::fs::write(dir.join("in/d.jsonl"), "bad\n".repeat(300)).unwrap();
    let args = ["prepare", "in", "--dedup", "exact", "--shard-tokens", "40k", "--checkpoint-every", "0s"];
    let begun = Instant::now();
    assert_eq!(run(dir, &[&args[..], &["-o", "whole"]].concat()).0, 0);
    let whole = begun.elapsed();
    // What a process leaves that is killed before its first file has its name.
    std::fs::create_dir(dir.join("killed")).unwrap();
    std::fs::write(dir.join("killed/.unfinished.json.17-0.tmp"), "{\"sch").unwrap();
    let (mut killed, mut moment) = (0, 0.5_f64);
    for _ in 0..6 {
        let mut child = isoflop(dir)
            .args(args)
            .args(["-o", "killed"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        moment = (moment + 0.618_033_988_75) % 1.0;
        std::thread::sleep(whole.mul_f64(0.02 + 0.5 * moment).max(Duration::from_millis(5)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        // What is not finished is not taken for something that is.
        let study = "[data]\nprepared = \"killed\"\n[series]\nmodels = [\"L1-d8-h1\"]\ntokens = 4096\n";
        if dir.join("killed/unfinished.json").exists() && !dir.join("killed/prepared.json").exists() {
            std::fs::write(dir.join("study.toml"), study).unwrap();
            let (code, _, err) = run(dir, &["plan", "study.toml"]);
            assert!(code == 2 && err.contains("was not finished") && err.contains("hint: "), "{err}");
        }
    }
    assert!(killed >= 2, "only {killed} kills came in time");
    let (code, _, err) = run(dir, &[&args[..], &["-o", "killed"]].concat());
    assert_eq!(code, 0, "{err}");
    let (whole, killed) = (left(&dir.join("whole")), left(&dir.join("killed")));
    let names = |of: &[(String, Vec<u8>)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole), names(&killed));
    assert!(whole == killed);
}

#[cfg(unix)]
#[test]
fn an_interrupted_preparation_says_so_and_another_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_sources(dir, 30);
    // A pipe that is held open keeps it at work.
    let mut child = isoflop(dir)
        .args(["prepare", "-", "-o", "out"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !dir.join("out/unfinished.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (code, _, err) = run(dir, &["prepare", "in", "-o", "out"]);
    assert!(code == 4 && err.contains(&child.id().to_string()) && err.contains("hint: "), "{code} {err}");
    std::process::Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn copies_are_removed_and_listed_with_what_they_are_copies_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (a, b) = (words(1, 200), words(2, 200));
    let near = a.replacen("model", "models", 1);
    let lines = [&a, &b, &format!("  {}\n", a.replace(' ', "  ")), &near, &words(3, 200)];
    let text: String = lines.iter().map(|text| json!({"text": text}).to_string() + "\n").collect();
    std::fs::write(dir.join("a.jsonl"), text).unwrap();
    let check = |dedup: &str, expected: &[(u64, u64)]| {
        let said = prepared(dir, &["a.jsonl", "-o", dedup, "--dedup", dedup]);
        assert_eq!(said["counts"]["removed"], expected.len(), "{said}");
        let list = std::fs::read_to_string(dir.join(dedup).join("removed.jsonl")).unwrap();
        let pairs: Vec<(u64, u64)> = list
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| {
                (line["removed"]["line"].as_u64().unwrap(), line["copy_of"]["line"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(pairs, expected, "{list}");
    };
    check("exact", &[(3, 1)]);
    check("minhash", &[(3, 1), (4, 1)]);
    assert_eq!(prepared(dir, &["a.jsonl", "-o", "none"])["counts"]["documents"], 5);
    assert!(!dir.join("none/removed.jsonl").exists());
}

#[test]
fn what_cannot_be_used_is_listed_and_fatal_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut lines = b"{\"text\": \"good\"}\nnot json\n{\"text\": \"caf\xe9\"}\n{\"body\": \"x\"}\n".to_vec();
    lines.extend(b"{\"text\": null}\n{\"text\": \"half \\ud83d\"}\n{\"text\": \" \"}\n");
    std::fs::write(dir.join("a.jsonl"), lines).unwrap();
    let (code, _, err) = run(dir, &["prepare", "a.jsonl", "-o", "out", "--val-share", "0"]);
    assert_eq!(code, 0, "{err}");
    for words in
        ["a.jsonl:2: expected", "a.jsonl:3: ", "no field `text`; there are: body", "1 malformed records"]
    {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(err.contains("1 documents are empty") && err.contains("--encoding windows-1252"), "{err}");
    let list = std::fs::read_to_string(dir.join("out/problems.jsonl")).unwrap();
    let lines: Vec<u64> = list
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    let said: Value = serde_json::from_slice(&std::fs::read(dir.join("out/prepared.json")).unwrap()).unwrap();
    assert_eq!(said["counts"]["documents"], 2);
    let (code, _, err) = run(dir, &["prepare", "a.jsonl", "-o", "strict", "--strict"]);
    assert!(code == 2 && err.contains("a.jsonl:2: ") && err.contains("hint: "), "{err}");
}

/// The same documents in every encoding, plain and packed, are the same shards.
#[test]
fn text_in_other_encodings_becomes_the_shards_of_utf_8() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = "café “so” — naïve €5\n".repeat(40);
    let lines: String = (0..9).map(|i| json!({"text": format!("{i} {text}")}).to_string() + "\n").collect();
    let table = format!("id,text\r\n1,\"{}\"\r\n2,x\r\n", text.replace('\u{22}', "'"));
    let wide =
        |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let single = |text: &str| -> Vec<u8> {
        let byte = |c: char| match c {
            '“' => 0x93,
            '”' => 0x94,
            '—' => 0x97,
            '€' => 0x80,
            c => u8::try_from(c).unwrap(),
        };
        text.chars().map(byte).collect()
    };
    let shards = |name: &str, args: &[&str]| {
        let out = format!("out-{name}");
        let said = prepared(dir, &[&[name, "-o", &out, "-t", "bytes", "--val-share", "0"], args].concat());
        assert_eq!(said["counts"]["problems"], json!({}), "{name}: {said}");
        std::fs::read(dir.join(out).join("train-00000.bin")).unwrap()
    };
    for (format, text) in [("txt", &text), ("jsonl", &lines), ("csv", &table)] {
        std::fs::write(dir.join(format!("utf8.{format}")), text).unwrap();
        let expected = shards(&format!("utf8.{format}"), &[]);
        let marked = format!("\u{feff}{text}");
        for (name, bytes, args) in [
            ("marked-le", wide(&marked, u16::to_le_bytes), &[][..]),
            ("marked-be", wide(&marked, u16::to_be_bytes), &[]),
            ("le", wide(text, u16::to_le_bytes), &["--encoding", "utf-16le"]),
            ("be", wide(text, u16::to_be_bytes), &["--encoding", "utf-16be"]),
            ("windows", single(text), &["--encoding", "windows-1252"]),
        ] {
            for (packed, bytes) in [("", bytes.clone()), (".gz", flate2_gz(&bytes))] {
                let name = format!("{name}.{format}{packed}");
                std::fs::write(dir.join(&name), bytes).unwrap();
                assert!(shards(&name, args) == expected, "{name}");
            }
        }
    }
    // Half a surrogate pair is no text: its line is left out, and said so.
    let broken =
        [&wide("good\n", u16::to_le_bytes)[..], b"b\0\0\xd8a\0\n\0", &wide("end\n", u16::to_le_bytes)];
    std::fs::write(dir.join("half.txt"), [&b"\xff\xfe"[..], &broken.concat()].concat()).unwrap();
    let (code, _, err) = run(dir, &["prepare", "half.txt", "-o", "half", "-t", "bytes", "--val-share", "0"]);
    assert!(code == 0 && err.contains("half.txt:2: ") && err.contains("not UTF-8"), "{err}");
    assert_eq!(std::fs::read(dir.join("half/train-00000.bin")).unwrap().len(), 2 * "good\nend\n\n\n".len());
}

#[test]
fn what_cannot_be_prepared_is_refused_with_a_hint_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("empty.txt", b"");
    write("blank.txt", b"\n \n");
    write("text.txt", b"some words");
    write("wide.txt", b"s\0o\0m\0e\0");
    write("wide.txt.gz", &flate2_gz(b"s\0o\0m\0e\0"));
    write("wide.jsonl", b"\0{\0\"\0t\0e\0x\0t\0\"\0:\0\"\0x\0\"\0}");
    write("wide.csv", b"t\0e\0x\0t\0\n\0x\0\n\0");
    write("marked.txt", b"\xff\xfes\0o\0m\0e\0");
    write("a.jsonl", b"{\"id\": 1, \"content\": \"x\"}\n");
    write("t.csv", b"id,content\n1,x\n");
    write("cut.jsonl.gz", &flate2_gz(b"{\"text\": \"x\"}\n")[..20]);
    write("lz4.jsonl", b"\x04\x22\x4d\x18....");
    write("no.parquet", b"PAR1 but no more");
    write("pdf.txt", b"%PDF-1.7");
    std::fs::create_dir(dir.join("other")).unwrap();
    write("other/thesis.tex", b"years of work");
    std::fs::create_dir(dir.join("bare")).unwrap();
    write("array.json", b"[{\"text\": \"x\"}]");
    let cases: &[(&[&str], &str)] = &[
        (&["nowhere.txt"], "nowhere.txt: no such file"),
        (&["*.xml"], "no file matches"),
        (&["bare"], "no files"),
        (&["empty.txt"], "there is no text in empty.txt"),
        (&["blank.txt"], "empty"),
        (&["wide.txt"], "iconv -f UTF-16LE -t UTF-8 wide.txt > utf8.txt"),
        (&["wide.txt.gz"], "gzip -dc wide.txt.gz | iconv -f UTF-16LE -t UTF-8 > utf8.txt"),
        (&["wide.jsonl"], "--encoding utf-16be"),
        (&["wide.csv"], "--encoding utf-16le"),
        (&["marked.txt", "--encoding", "utf-16be"], "mark of utf-16le"),
        (&["a.jsonl"], "no field `text`; there are: id, content"),
        (&["t.csv"], "no column `text`; there are: id, content"),
        (&["cut.jsonl.gz"], "gzip -t"),
        (&["lz4.jsonl"], "unlz4"),
        (&["no.parquet"], "no Parquet file"),
        (&["pdf.txt"], "PDF"),
        (&["array.json"], "jq -c '.[]' array.json"),
        (&["text.txt", "-t", "gtp2"], "no tokeniser is named gtp2"),
        (&["text.txt", "--similarity", "2"], "out of range"),
        (&["text.txt", "--shard-tokens", "3"], "out of range"),
    ];
    for (args, words) in cases {
        let (code, out, err) = run(dir, &[&["prepare", "-o", "out"], *args].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(words) && err.contains("hint: "), "{args:?}: {err}");
        let left = std::fs::read_dir(dir.join("out"))
            .map_or(0, |found| found.filter(|entry| entry.as_ref().unwrap().file_name() != ".lock").count());
        assert_eq!(left, 0, "{args:?}");
    }
    let (code, _, err) = run(dir, &["prepare", "text.txt", "-o", "other"]);
    assert!(code == 2 && err.contains("holds something else: thesis.tex"), "{err}");
    assert_eq!(std::fs::read(dir.join("other/thesis.tex")).unwrap(), b"years of work");
    let (code, _, err) = run(dir, &["prepare", "text.txt", "-o", "empty.txt"]);
    assert!(code != 0 && err.contains("hint: "), "{err}");
}

#[test]
fn a_study_trains_on_what_was_prepared_and_its_checkpoint_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("in")).unwrap();
    for i in 0..60 {
        std::fs::write(dir.join(format!("in/{i}.txt")), words(i, 400)).unwrap();
    }
    let all: String = (0..60).map(|i| words(i, 400)).collect();
    std::fs::write(dir.join("all"), all).unwrap();
    assert_eq!(run(dir, &["tokenizer", "train", "all", "--vocab", "290", "-o", "t.json"]).0, 0);
    let said =
        prepared(dir, &["in", "-o", "data", "-t", "t.json", "--val-share", "20%", "--shard-tokens", "5k"]);
    assert!(said["train"]["shards"].as_array().unwrap().len() > 1, "{said}");
    let study = r#"
name = "own"
[data]
prepared = "data"
[series]
models = ["L1-d16-h2"]
tokens = 5120
[train]
context = 32
batch_tokens = 256
lr = 1e-2
eval_tokens = 1000
"#;
    std::fs::write(dir.join("study.toml"), study).unwrap();
    let (code, _, err) = run(dir, &["run", "study.toml"]);
    assert!(code == 0 || err.contains("law"), "{err}");
    let checkpoints = dir.join("runs/own-L1-d16-h2-s1/checkpoints");
    let checkpoint = std::fs::read_dir(checkpoints).unwrap().next().unwrap().unwrap().path();
    let checkpoint = checkpoint.to_str().unwrap();
    let (code, out, err) =
        run(dir, &["sample", "--checkpoint", checkpoint, "--prompt", "the loss", "--length", "20", "--json"]);
    assert_eq!(code, 0, "{err}");
    let text = serde_json::from_str::<Value>(&out).unwrap()["text"].as_str().unwrap().to_owned();
    assert!(text.len() > 20, "{text}");
    let points = std::fs::read_to_string(dir.join("own/points.csv")).unwrap_or_default();
    assert!(points.contains("bits") || points.contains("bytes") || !points.is_empty(), "{points}");
    let (code, _, err) = run(dir, &["plan", "study.toml", "--set", "data.vocab=290"]);
    assert!(code == 2 && err.contains("does not go with data.prepared"), "{err}");
}

/// Two preparations by one tokeniser, called by two names, and one by another.
#[test]
fn a_mix_of_preparations_takes_its_tokeniser_along_and_refuses_two() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (folder, from) in [("a", 0), ("b", 60)] {
        std::fs::create_dir(dir.join(folder)).unwrap();
        for i in from..from + 60 {
            std::fs::write(dir.join(format!("{folder}/{i}.txt")), words(i, 300)).unwrap();
        }
    }
    std::fs::write(dir.join("all"), (0..90).map(|i| words(i, 300)).collect::<String>()).unwrap();
    for (name, vocab) in [("t.json", "290"), ("other.json", "289")] {
        assert_eq!(run(dir, &["tokenizer", "train", "all", "--vocab", vocab, "-o", name]).0, 0);
    }
    std::fs::copy(dir.join("t.json"), dir.join("copy.json")).unwrap();
    for (name, from, tokenizer) in
        [("pa", "a", "t.json"), ("pb", "b", "copy.json"), ("pc", "b", "other.json")]
    {
        prepared(dir, &[from, "-o", name, "-t", tokenizer, "--val-share", "20%"]);
    }
    let study = r#"
name = "both"
[data]
documents = "separate"
[data.mix]
a = { prepared = "pa", weight = 1 }
b = { prepared = "pb", weight = 1 }
[series]
models = ["L1-d16-h2"]
tokens = 5120
[train]
context = 32
batch_tokens = 256
lr = 1e-2
eval_tokens = 1000
"#;
    std::fs::write(dir.join("study.toml"), study).unwrap();
    let (code, _, err) = run(dir, &["run", "study.toml"]);
    assert!(code == 0 || err.contains("law"), "{err}");
    let checkpoints = dir.join("runs/both-L1-d16-h2-s1/checkpoints");
    let checkpoint = std::fs::read_dir(checkpoints).unwrap().next().unwrap().unwrap().path();
    assert!(checkpoint.join("tokenizer.json").exists());
    let checkpoint = checkpoint.to_str().unwrap();
    let (code, out, err) =
        run(dir, &["sample", "--checkpoint", checkpoint, "--prompt", "the loss", "--json"]);
    assert!(code == 0 && out.contains("\"text\""), "{err}");
    let (code, _, err) = run(dir, &["plan", "study.toml", "--set", "data.mix.b.prepared=pc"]);
    assert!(
        code == 2 && err.contains("t.json") && err.contains("other.json") && err.contains("hint: "),
        "{err}"
    );
    // Rows across documents are another run.
    let (code, _, err) = run(dir, &["run", "study.toml", "--set", "data.documents=joined"]);
    assert!(code == 2 && err.contains("data.end_of_text"), "{err}");
}
