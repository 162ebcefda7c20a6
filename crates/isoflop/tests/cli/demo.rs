//! The demo, made small: everything it promises is there, and the same command goes on.

use crate::{common::run, small_study::json};
use std::path::Path;

/// Five sizes of next to nothing, so that the two largest are forecast.
const SMALL: &[&str] = &[
    "--preset",
    "quick",
    "--set",
    "series.models=[\"L1-d8-h1\", \"L1-d12-h1\", \"L1-d16-h2\", \"L2-d16-h2\", \"L2-d24-h2\"]",
    "--set",
    "series.tokens=20480",
    "--set",
    "series.branches=[10240]",
    "--set",
    "series.extra_seeds={ \"L1-d8-h1\" = [2] }",
    "--set",
    "train.context=32",
    "--set",
    "train.batch_tokens=256",
    "--set",
    "train.eval_tokens=20000",
];

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join("isoflop-demo").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn it_leaves_what_it_promises_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let document = json(dir.path(), &[&["demo", "--json"], SMALL].concat());
    assert_eq!(document["runs"].as_array().unwrap().len(), 6);
    assert_eq!(document["forecasts"].as_array().unwrap().len(), 2);
    for forecast in document["forecasts"].as_array().unwrap() {
        assert!(forecast["forecast"]["outcome"]["observed"].is_f64(), "{forecast}");
    }
    assert_eq!(document["preset"]["name"], "quick");
    let points = String::from_utf8(read(dir.path(), "points.csv")).unwrap();
    assert_eq!(points.lines().count(), 1 + 12);
    assert!(String::from_utf8(read(dir.path(), "curves.csv")).unwrap().lines().count() > 100);
    let law: serde_json::Value = serde_json::from_slice(&read(dir.path(), "law.json")).unwrap();
    let forms: Vec<&str> =
        law["fits"].as_array().unwrap().iter().filter_map(|f| f["form"].as_str()).collect();
    assert!(forms.contains(&"l_n") && forms.contains(&"l_c"), "{forms:?}");
    let input: serde_json::Value = serde_json::from_slice(&read(dir.path(), "report-input.json")).unwrap();
    assert_eq!(input["completions"].as_array().unwrap().len(), 5, "a completion per size");
    assert!(!read(dir.path(), "report.html").is_empty());

    // Again, without naming the preset: nothing is trained, chosen or forecast anew.
    let forecast = read(dir.path(), "forecast.json");
    let log = "runs/demo-quick-L2-d24-h2-s1/metrics.jsonl";
    let trained = read(dir.path(), log);
    let (code, _, err) = run(dir.path(), &[&["demo"], &SMALL[2..]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("preset quick"), "{err}");
    assert_eq!(forecast, read(dir.path(), "forecast.json"));
    assert_eq!(trained, read(dir.path(), log));
    assert_eq!(law, serde_json::from_slice::<serde_json::Value>(&read(dir.path(), "law.json")).unwrap());
}

#[test]
fn a_checkpoint_can_be_sampled_and_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let one = [&["demo", "--set", "series.models=[\"L1-d8-h1\"]", "--preset", "quick"], &SMALL[4..]].concat();
    let one: Vec<&str> = one
        .into_iter()
        .map(|a| if a.starts_with("series.extra") { "series.extra_seeds={}" } else { a })
        .collect();
    let (code, _, err) = run(dir.path(), &one);
    assert_eq!(code, 0, "{err}");
    let checkpoint = "isoflop-demo/runs/demo-quick-L1-d8-h1-s1/checkpoints/point-20480";
    let sample = |seed: &str| {
        let args = [
            "sample",
            "--checkpoint",
            checkpoint,
            "--prompt",
            "The ",
            "--length",
            "20",
            "--seed",
            seed,
            "--json",
        ];
        json(dir.path(), &args)["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
    let first = |name: &str, more: &[&str]| {
        let args = [&one[..], &["--out", name], more].concat();
        let (code, _, err) = run(dir.path(), &args);
        assert_eq!(code, 0, "{err}");
        let curves = std::fs::read_to_string(dir.path().join(name).join("curves.csv")).unwrap();
        curves.lines().nth(1).unwrap().split(',').nth(5).unwrap().parse::<f64>().unwrap()
    };
    let from = format!("train.init_from={checkpoint}");
    let (fresh, gone_on) = (first("fresh", &[]), first("gone-on", &["--set", &from]));
    assert!(gone_on < fresh - 0.5, "first losses: {fresh} fresh, {gone_on} from a checkpoint");
    // Another shape than the checkpoint's is refused.
    let mut wrong = one.clone();
    wrong[2] = "series.models=[\"L1-d16-h1\"]";
    let (code, _, err) = run(dir.path(), &[&wrong[..], &["--out", "wrong", "--set", &from]].concat());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("holds L1-d8-h1") && err.contains("asks for L1-d16-h1"), "{err}");
}
