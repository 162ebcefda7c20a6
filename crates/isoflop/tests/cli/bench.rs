//! `isoflop bench`: every key there, absurd sizes refused with a hint, memory as planned.

use crate::{
    common::run,
    small_study::{STUDY, json, write},
};

/// Measured memory may differ from the plan by this share of it, or by 8 MiB.
const SHARE: f64 = 0.05;
const MIB_8: f64 = 8.0 * 1024.0 * 1024.0;

fn train(options: &[&str]) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    let fixed = ["bench", "train", "--json", "--steps", "1", "--warmup", "0", "--threads", "2"];
    json(dir.path(), &[&fixed, options].concat())
}

#[test]
fn a_bench_of_training_has_every_key() {
    let found = train(&["--layers", "2", "--width", "48", "--heads", "3", "--batch", "2", "--context", "40"]);
    for key in [
        "tokens_per_s",
        "flops_per_s",
        "peak_flops_per_s",
        "share_of_peak",
        "peak_memory_bytes",
        "planned_memory_bytes",
        "seconds_per_step",
    ] {
        assert!(found[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {found}");
    }
    let share = found["flops_per_s"].as_f64().unwrap() / found["peak_flops_per_s"].as_f64().unwrap();
    assert!((found["share_of_peak"].as_f64().unwrap() - share).abs() < 1e-9 * share, "{found}");
    assert_eq!((&found["shape"], &found["threads"]), (&"L2-d48-h3".into(), &2.into()));
    assert_eq!((&found["recompute"], &found["optimizer"]), (&"none".into(), &"adamw".into()));
    assert!(found["kernels"].is_string() && found["precision"].is_string(), "{found}");
}

#[test]
fn memory_is_what_was_planned() {
    // Mostly activations; mostly weights, gradients and moments.
    let small = "--layers 2 --width 64 --heads 4 --vocab 300 --context 200 --batch 24";
    let wide = "--layers 3 --width 256 --heads 4 --vocab 4096 --context 64 --batch 2";
    for shape in [small, wide] {
        for precision in ["f32", "bf16"] {
            for change in ["", "--recompute block --optimizer adamw8bit"] {
                let options = format!("{shape} {change} --precision {precision}");
                let found = train(&options.split_whitespace().collect::<Vec<_>>());
                let bytes = |key: &str| found[key].as_f64().unwrap();
                let (planned, measured) = (bytes("planned_memory_bytes"), bytes("peak_memory_bytes"));
                let allowed = MIB_8.max(SHARE * planned);
                assert!(planned > 2.0 * MIB_8, "too small to tell: {found}");
                assert!((measured - planned).abs() <= allowed, "{measured} measured: {found}");
            }
        }
    }
}

#[test]
fn the_parts_are_measured_in_both_precisions() {
    let dir = tempfile::tempdir().unwrap();
    let json = |args: &[&str]| json(dir.path(), &[&["bench", "--json"], args].concat());
    for precision in ["f32", "bf16"] {
        let sizes = ["--m", "33", "--n", "65", "--k", "47"];
        let gemm = json(&[&["gemm", "--precision", precision], &sizes[..]].concat());
        for key in ["forward_flops_per_s", "weight_gradient_flops_per_s", "peak_flops_per_s"] {
            assert!(gemm[key].as_f64().unwrap() > 0.0, "{gemm}");
        }
        let sizes = ["--context", "40", "--width", "48", "--heads", "3"];
        let attention = json(&[&["attention", "--precision", precision], &sizes[..]].concat());
        let rows = attention["measured"].as_array().unwrap();
        assert_eq!([&rows[0]["heads"], &rows[1]["heads"]], [1, 3]);
        for row in rows {
            // 2·T²·S forward and twice that backward, the causal half of a head of width 16.
            let operations = 2.0 * 40.0 * 40.0 * 16.0 * row["heads"].as_f64().unwrap();
            for (direction, factor) in [("forward", 1.0), ("backward", 2.0)] {
                let value = |what: &str| row[format!("{direction}_{what}")].as_f64().unwrap();
                let counted = value("flops_per_s") * value("s");
                assert!((counted - factor * operations).abs() < 1e-6 * counted, "{attention}");
            }
        }
    }
    let update = json(&["update", "--params", "5000"]);
    for key in ["norm_ns_per_param", "adamw_ns_per_param", "adamw8bit_ns_per_param"] {
        assert!(update[key].as_f64().unwrap() > 0.0, "{update}");
    }
}

#[test]
fn all_figures_are_written_and_compared_with_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["bench", "all", "--json", "--rounds", "2", "--seconds", "0.05"];
    let found = json(dir.path(), &[&options[..], &["--only", "L2 d32"]].concat());
    let figures = found["figures"].as_array().unwrap();
    assert!(!figures.is_empty() && found["threads"].as_u64() >= Some(1), "{found}");
    for figure in figures {
        let value = |key: &str| figure[key].as_f64().unwrap();
        assert!(value("best") >= value("median") && value("median") > 0.0, "{figure}");
        assert!(figure["name"].as_str().unwrap().contains("train L2 d32"), "{figure}");
        assert!((0.0..1.5).contains(&value("share_of_peak")) && figure["unit"] == "tokens/s", "{figure}");
    }
    // Beside a file in which all was ten times as fast, and from which the memory is missing.
    let mut other = found.clone();
    for figure in other["figures"].as_array_mut().unwrap() {
        figure["best"] = (10.0 * figure["best"].as_f64().unwrap()).into();
    }
    std::fs::write(dir.path().join("other.json"), other.to_string()).unwrap();
    let compare = |only: &str| {
        let quick = ["bench", "all", "--rounds", "1", "--seconds", "0.05", "--against", "other.json"];
        let (code, out, err) = run(dir.path(), &[&quick[..], &["--only", only]].concat());
        assert_eq!(code, 0, "{err}");
        out
    };
    let text = compare("L2 d32");
    let ratio = text.lines().next().and_then(|line| line.split('×').nth(1)).expect("a ratio");
    let ratio: f64 = ratio.split_whitespace().next().unwrap().parse().unwrap();
    assert!((0.005..0.9).contains(&ratio), "{text}");
    assert!(compare("memory").contains("not in the file"));
}

/// Refused with these words and a hint, before anything is measured or allocated.
fn check(args: &[&str], parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(dir.path(), &[&["bench"], args].concat());
    assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
    for part in parts.iter().chain(&["hint: "]) {
        assert!(err.contains(part), "{args:?}: `{part}` is not in: {err}");
    }
}

#[test]
fn absurd_sizes_are_refused() {
    for name in ["--batch", "--context", "--vocab", "--steps", "--threads"] {
        check(&["train", name, "0"], &[name, "out of range"]);
        check(&["train", name, "99999999999"], &[name, "out of range"]);
    }
    check(&["train", "--layers", "0"], &["L0-d128-h2", "is not a model shape"]);
    check(&["train", "--width", "100", "--heads", "3"], &["3 heads do not divide width 100"]);
    check(&["train", "--threads", "2000"], &["--threads 2000", "1024"]);
    let vast = ["train", "--layers", "1000", "--width", "100000", "--heads", "1"];
    check(&vast, &["L1000-d100000-h1", "bytes of memory"]);
    let more = ["train", "--layers", "1000000", "--width", "1000000", "--heads", "1"];
    check(&more, &["L1000000-d1000000-h1", "parameters are more than"]);
    check(&["gemm", "--k", "0"], &["--k 0"]);
    check(&["gemm", "--m", "1000000", "--n", "1000000", "--k", "1000000"], &["of memory", "are free"]);
    check(&["attention", "--width", "48", "--heads", "5"], &["--heads 5 do not divide --width 48"]);
    check(&["update", "--params", "0"], &["--params 0"]);
    check(&["all", "--seconds", "0"], &["--seconds 0 is out of range"]);
    check(&["all", "--only", "nothing of that name"], &["no figure", "try train"]);
    check(&["all", "--against", "absent.json"], &["absent.json"]);
    check(&["loader", "--rows", "0"], &["--rows 0"]);
    check(&["loader", "--seconds", "0"], &["--seconds 0"]);
}

#[test]
fn a_loader_reads_a_study_with_its_mix_a_file_and_the_built_in_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let mix = "[data.mix]\na = { train = \"train.bin\", val = \"val.bin\", weight = 1 }\nb = { junk = \"uniform-symbols\", weight = 1 }\n";
    write(dir.path(), &STUDY.replace("[data]\ntrain = \"train.bin\"\nval = \"val.bin\"\n", mix));
    let file = ["--tokens", "train.bin", "--context", "64", "--rows", "3"];
    for (which, per_step) in [(&["study.toml"][..], 128), (&file, 192), (&[], 2048)] {
        let args = [&["bench", "loader", "--seconds", "0.02", "--json"][..], which].concat();
        let found = json(dir.path(), &args);
        let number = |key: &str| found[key].as_f64().unwrap();
        assert_eq!(number("tokens"), f64::from(per_step) * number("steps"), "{found}");
        assert!(number("tokens_per_s") > 0.0 && number("slowest_step_ms") > 0.0, "{found}");
    }
}

#[test]
fn memory_that_is_not_there_is_refused_with_what_would_fit() {
    // Thousands of GiB of activations, little else: fewer sequences at a time are the smallest change on any machine.
    let vast = ["train", "--batch", "1048576", "--width", "64", "--context", "256", "--heads", "1"];
    check(&vast, &["needs", "GiB of memory", "are free", "hint: --micro-batch "]);
}

#[test]
fn a_study_for_a_smaller_machine_is_refused_with_the_change_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    // One thread: each has scratch space of its own.
    let fixed = ["plan", "study.toml", "--no-timing", "--set", "train.threads=1", "--memory"];
    let plan = |memory: &str, more: &[&str]| run(dir.path(), &[&fixed, &[memory][..], more].concat());
    let (code, out, err) = plan("16G", &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("L2-d24-h3"), "{out}");
    let (code, out, err) = plan("1M", &[]);
    assert_eq!(code, 2, "{err}");
    assert!(out.contains("L2-d24-h3"), "the plan is shown all the same: {out}");
    assert!(err.contains("needs") && err.contains("hint: --set train.micro_batch="), "{err}");
    let hint = err.lines().find_map(|l| l.strip_prefix("hint: ")).unwrap();
    let sets: Vec<&str> = hint.split(" fits").next().unwrap().split_whitespace().collect();
    let (code, _, err) = plan("1M", &sets);
    assert_eq!(code, 0, "what the hint names does not fit: {err}");
}

#[test]
fn widths_are_checked_in_figures_and_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let quick = ["check", "widths", "--widths", "16,32,48", "--layers", "1", "--steps", "2"];
    let found = json(dir.path(), &[&quick[..], &["--json"]].concat());
    assert_eq!(found["widths"].as_array().map(Vec::len), Some(3), "{found}");
    assert!(found["verdict"].as_str().is_some_and(|words| words.ends_with('.')), "{found}");
    let (code, out, err) = run(dir.path(), &quick);
    assert!(code == 0 && out.contains("d48") && out.contains("attention 1"), "{out}{err}");
    for (wrong, words) in [("40,50", "--widths 40"), ("32", "one width"), ("0,16", "--widths 0")] {
        let (code, _, err) = run(dir.path(), &["check", "widths", "--widths", wrong]);
        assert!(code == 2 && err.contains(words) && err.contains("hint: "), "{err}");
    }
}
