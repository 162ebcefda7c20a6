//! A machine whose energy counter is a file: what a run cost, limits that stop it, alarms that tell.

use crate::{
    common::{isoflop, run},
    small_study::{STUDY, write},
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A folder of counters, as a container may be given it; a thread makes it rise by so many watts.
struct Counter {
    folder: PathBuf,
    end: std::sync::Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    fn rising(dir: &Path, watts: u64) -> Self {
        let folder = dir.join("powercap");
        let zone = folder.join("intel-rapl/intel-rapl:0");
        std::fs::create_dir_all(&zone).unwrap();
        std::fs::write(zone.join("name"), "package-0\n").unwrap();
        std::fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
        std::fs::write(zone.join("energy_uj"), "0\n").unwrap();
        let end = std::sync::Arc::new(AtomicBool::new(false));
        let asked = end.clone();
        let started = std::time::Instant::now();
        let rise = move || {
            while !asked.load(Ordering::Relaxed) {
                let microjoules = (started.elapsed().as_secs_f64() * watts as f64 * 1e6) as u64;
                std::fs::write(zone.join("new"), microjoules.to_string()).unwrap();
                std::fs::rename(zone.join("new"), zone.join("energy_uj")).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        Self { folder, end, thread: Some(std::thread::spawn(rise)) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn with(dir: &Path, counter: Option<&Counter>, args: &[&str]) -> (i32, String, String) {
    let mut command = isoflop(dir);
    command.args(args).env_remove("ISOFLOP_POWERCAP");
    if let Some(counter) = counter {
        command.env("ISOFLOP_POWERCAP", &counter.folder);
    }
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

fn show(dir: &Path, id: &str) -> Value {
    let (code, stdout, stderr) = run(dir, &["--store", "runs", "--json", "runs", "show", id]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn what_a_run_cost_is_in_its_points_its_page_and_its_store() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let counter = Counter::rising(dir.path(), 80);
    let meter = "--set=meter.cost_per_kwh=0.3";
    let idle = "--set=meter.idle_w=20";
    let args = ["--store", "runs", meter, idle, "run", "study.toml", "--out", "out"];
    let (code, _, stderr) = with(dir.path(), Some(&counter), &args);
    assert_eq!(code, 0, "{stderr}");
    let csv = std::fs::read_to_string(dir.path().join("out/points.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("{name}"));
    for row in reader.records().map(Result::unwrap) {
        let number =
            |name: &str| row[column(name)].parse::<f64>().unwrap_or_else(|_| panic!("{name}: {row:?}"));
        assert_eq!(&row[column("energy_from")], "measured");
        let (joules, seconds, flops) = (number("energy_j"), number("seconds"), number("flops"));
        assert!((number("flops_per_joule") / (flops / joules) - 1.0).abs() < 1e-9);
        assert!((number("watts") / (joules / seconds) - 1.0).abs() < 1e-9);
        assert!(number("peak_share") > 0.0 && number("flops_per_s") > 0.0);
    }
    let page = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    for words in [
        "What it cost",
        "counted by the processors (package-0)",
        "Without the 20.0 W",
        "At 0.3",
        "planned for",
    ] {
        assert!(page.contains(words), "`{words}` is not on the page");
    }
    let shown = show(dir.path(), "small-L1-d8-h1-s1");
    let environment = &shown["environment"];
    assert_eq!(environment["energy"]["value"], "package-0");
    assert_eq!(environment["seed"], 1);
    assert!(environment["command"].as_array().unwrap().iter().any(|word| word == "study.toml"));
    assert!(environment["planned_memory"]["value"].as_u64().unwrap() > 1000);
    let (_, words, _) = run(dir.path(), &["--store", "runs", "runs", "show", "small-L1-d8-h1-s1"]);
    for part in ["last run with: isoflop", "per watt", "share of peak", "health: sound"] {
        assert!(words.contains(part), "`{part}` is not in:\n{words}");
    }

    // Limits, alarms and factors are no part of what a run is: nothing is trained again.
    let limited = ["--store", "runs", "--set=limits.max_hours=9", "run", "study.toml", "--out", "out"];
    let before = std::fs::read(dir.path().join("runs/small-L1-d8-h1-s1/metrics.jsonl")).unwrap();
    let (code, _, stderr) = with(dir.path(), None, &limited);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(before, std::fs::read(dir.path().join("runs/small-L1-d8-h1-s1/metrics.jsonl")).unwrap());
}

#[test]
fn a_limit_stops_a_study_saved_with_the_reason_and_it_goes_on_without() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &STUDY.replace("10240", "\"40M\"").replace("5120", "\"20M\""));
    // The first sample comes after two seconds: 160 J by then, of 36 J that are allowed.
    let counter = Counter::rising(dir.path(), 80);
    let args = ["--store", "runs", "--set=limits.max_energy_kwh=1e-5", "run", "study.toml", "--out", "out"];
    let (code, _, stderr) = with(dir.path(), Some(&counter), &args);
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("limit reached") && stderr.contains("kWh of 0.00001 kWh"), "{stderr}");
    assert!(stderr.contains("the same command goes on"), "{stderr}");
    let (_, listed, _) = run(dir.path(), &["--store", "runs", "runs", "ls"]);
    assert!(listed.contains("stopped"), "{listed}");
    // What was used before counts: the same command stops before it has done a step more.
    let (code, _, stderr) = with(dir.path(), Some(&counter), &args);
    assert_eq!(code, 5, "{stderr}");
    let stopped = std::fs::read_dir(dir.path().join("runs")).unwrap().flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status.json")).ok()?;
        status.contains("\"stopped\"").then(|| (entry.file_name().into_string().unwrap(), status))
    });
    let (id, status) = stopped.expect("a run that was stopped");
    assert!(status.contains("limit reached") && status.contains("kWh"), "{status}");
    assert_eq!(show(dir.path(), &id)["health"]["problems"], serde_json::json!([]));
}

#[test]
fn a_limit_that_nothing_measures_here_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let out = isoflop(dir.path())
        .args(["--store", "runs", "--set=limits.max_energy_kwh=1", "run", "study.toml"])
        .env("ISOFLOP_POWERCAP", &empty)
        .output()
        .unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("limits.max_energy_kwh cannot be kept") && stderr.contains("hint: "), "{stderr}");
    assert!(stderr.contains("tdp_w"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_run_that_diverges_raises_an_alarm_that_is_told_noted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let told = dir.path().join("told");
    let command = format!("--set=alarms.command=echo \"$ISOFLOP_ALARM $ISOFLOP_RUN\" >> {}", told.display());
    let args = ["--store", "runs", "--set=train.lr=1e30", &command, "run", "study.toml", "--out", "out"];
    let (code, _, stderr) = with(dir.path(), None, &args);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("alarm: small-L1-d8-h1-s1: non-finite"), "{stderr}");
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.contains("non-finite small-L1-d8-h1-s1\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.ends_with("L1-d8-h1-s1")).count(), 1, "{told}");
    let shown = show(dir.path(), "small-L1-d8-h1-s1");
    assert_eq!(shown["alarms"][0]["alarm"], "non-finite");
    let page = std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(page.contains("What looked wrong while it ran"), "no alarm on the page");
}

#[test]
fn doctor_says_for_each_instrument_what_it_reads_or_what_would_help() {
    let dir = tempfile::tempdir().unwrap();
    let counter = Counter::rising(dir.path(), 80);
    let (code, words, stderr) = with(dir.path(), Some(&counter), &["doctor"]);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "peak f32",
        "bandwidth",
        "B/s written",
        "energy of the processors  package-0",
        "temperature",
        "graphics cards",
    ] {
        assert!(words.contains(part), "`{part}` is not in:\n{words}");
    }
    let (_, json, _) = with(dir.path(), Some(&counter), &["--json", "doctor"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    let watts = report["energy"]["watts"]["value"].as_f64().unwrap();
    assert!((60.0..100.0).contains(&watts), "{watts} W of 80 W");
    assert!(report["reaches"]["f32_flops_per_s"]["value"].as_f64().unwrap() > 1e8);
    assert!(report["reaches"]["memory_bytes_per_s"]["value"].as_f64().unwrap() > 1e7);
    assert!(report["store"]["write_bytes_per_s"]["value"].as_f64().unwrap() > 1e5);
}
