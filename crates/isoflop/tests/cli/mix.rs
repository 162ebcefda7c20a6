//! A study of several sources: exact, the same whatever interrupts it, and told by `runs show` and the tables.

use crate::common::run;
use crate::small_study::{STUDY, assert_same, command, complete, fingerprint, json, write};
use serde_json::Value;

/// The small study's tokens, some of them only, shuffled ones, and random ones later on; weights change on the way.
fn study() -> String {
    let mix = r#"stages = ["5120"]
[data.mix]
clean = { train = "train.bin", val = "val.bin", weight = [3, 1] }
few = { train = "val.bin", unique_tokens = 320, weight = 1, tag = [7, 7] }
shuffled = { junk = "characters-shuffled", of = "clean", weight = 1 }
noise = { junk = "uniform-symbols", weight = [0, 2] }
"#;
    STUDY.replace("train = \"train.bin\"\nval = \"val.bin\"\n", mix)
}

#[test]
fn a_mix_is_exact_to_a_row_and_the_same_however_it_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &study());
    complete(dir.path(), "one", &["--set", "train.threads=1"]);
    let one = fingerprint(dir.path(), "one");
    // Killed again and again, and with another number of threads.
    for wait_ms in [120, 150, 210, 260] {
        let mut child = command(dir.path(), "cut").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        let _ = child.kill();
        child.wait().unwrap();
    }
    complete(dir.path(), "cut", &[]);
    assert_same(&one, &fingerprint(dir.path(), "cut"), "killed four times");

    let points = String::from_utf8(one["points.csv"].clone()).unwrap();
    let mut lines = points.lines();
    let column = lines.next().unwrap().split(',').position(|name| name == "sources").unwrap();
    let sources: Vec<&str> = lines.map(|line| line.split(',').nth(column).unwrap()).collect();
    // 5,120 tokens at 3:1:1:0, 5,120 at 1:1:1:2. Of the tag's rows 14 of 16 tokens are the source's own.
    let first = "clean:3072:3072:";
    let last = "clean:4096:4096:";
    assert!(sources.iter().all(|s| s.starts_with(first) || s.starts_with(last)), "{sources:?}");
    assert!(sources[1].contains("few:2048:308:5.818"), "{sources:?}");
    assert!(
        sources[1].contains("shuffled:2048:2048:") && sources[1].ends_with("noise:2048:2048:0"),
        "{sources:?}"
    );

    let shown = json(dir.path(), &["runs", "show", "small-L1-d8-h1-s1", "--store", "one/runs", "--json"]);
    let share = |key: &str| shown["data_wait"][key].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&share("mean")) && share("worst") >= share("mean"), "{shown}");
    assert_eq!(shown["points"][1]["sources"][3]["name"], "noise");
    let (_, text, _) = run(dir.path(), &["runs", "show", "small-L1-d8-h1-s1", "--store", "one/runs"]);
    assert!(text.contains("waiting for data: ") && text.contains("distinct"), "{text}");
}

#[test]
fn other_weights_are_another_run_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &study());
    let one_size = ["--set", "series.models=[\"L1-d8-h1\"]"];
    complete(dir.path(), "one", &one_size);
    let mut args = vec!["run", "study.toml", "--store", "one/runs", "--out", "one/out"];
    args.extend(one_size);
    args.extend(["--set", "data.mix.few.weight=2"]);
    let (code, _, err) = run(dir.path(), &args);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("data.mix.stages") && err.contains("hint:"), "{err}");
}

#[test]
fn a_second_text_is_scored_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let both = "[data]\nheld_out = [\"a\", \"b\"]\n[data.mix]\na = { train = \"train.bin\", val = \"val.bin\", weight = 1 }\n\
                b = { train = \"train.bin\", val = \"train.bin\", weight = 1 }\n";
    write(dir.path(), &STUDY.replace("[data]\ntrain = \"train.bin\"\nval = \"val.bin\"\n", both));
    complete(dir.path(), "one", &["--set", "series.models=[\"L1-d8-h1\"]"]);
    let shown = json(dir.path(), &["runs", "show", "small-L1-d8-h1-s1", "--store", "one/runs", "--json"]);
    for point in shown["points"].as_array().unwrap() {
        let other: &Value = &point["held_out"][0];
        assert_eq!(other["name"], "b");
        let (a, b) = (point["loss"].as_f64().unwrap(), other["loss"].as_f64().unwrap());
        // The same language, other tokens of it.
        assert!(a != b && (a - b).abs() < 0.1, "{a} {b}");
    }
}
