//! Killed, interrupted, contended: the same command comes to the same end.

use crate::{
    common::run,
    small_study::{STUDY, assert_same, command, complete, fingerprint, write},
};
use std::{
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// Times a study is killed before it may finish.
const KILLS: u32 = 8;

fn start(dir: &Path, name: &str) -> Child {
    command(dir, name).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the store holds a first checkpoint of a run, so that a signal finds the loop at work.
fn wait_for_checkpoint(dir: &Path, name: &str, child: &mut Child) {
    let runs = dir.join(name).join("runs");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let begun = std::fs::read_dir(&runs).into_iter().flatten().flatten().any(|run| {
            std::fs::read_dir(run.path().join("checkpoints"))
                .is_ok_and(|mut checkpoints| checkpoints.next().is_some())
        });
        if begun {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the study ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no checkpoint after a minute");
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status =
        std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn killed_anywhere_the_same_command_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    let begun = Instant::now();
    complete(dir.path(), "whole", &[]);
    let whole = begun.elapsed();
    // Moments spread by a low-discrepancy sequence over the time the whole takes, so that every phase is hit.
    let (mut killed, mut moment) = (0, 0.5_f64);
    for _ in 0..KILLS {
        let mut child = start(dir.path(), "killed");
        moment = (moment + 0.618_033_988_75) % 1.0;
        std::thread::sleep(whole.mul_f64(0.02 + 0.9 * moment));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
    }
    assert!(killed > 0, "the study always finished before it could be killed");
    complete(dir.path(), "killed", &[]);
    assert_same(&fingerprint(dir.path(), "whole"), &fingerprint(dir.path(), "killed"), "after kills");
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_leaves_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "whole", &[]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = start(dir.path(), name);
        wait_for_checkpoint(dir.path(), name, &mut child);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        complete(dir.path(), name, &[]);
        assert_same(&fingerprint(dir.path(), "whole"), &fingerprint(dir.path(), name), name);
    }
}

#[test]
fn a_second_process_on_a_run_leaves() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &STUDY.replace("tokens = 10240\nbranches = [5120]", "tokens = 10240000"));
    let mut first = start(dir.path(), "both");
    wait_for_checkpoint(dir.path(), "both", &mut first);
    let held = ["--only", "small-L1-d8-h1-s1"];
    let (code, _, err) = run(
        dir.path(),
        &[&["run", "study.toml", "--store", "both/runs", "--out", "both/out"], &held[..]].concat(),
    );
    let still_there = first.try_wait().unwrap().is_none();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(still_there, "the first process ended before the second came");
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&first.id().to_string()), "the holder's process id is named: {err}");
}

#[test]
fn processes_share_the_runs_of_a_study_and_the_last_one_writes_its_law() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &STUDY.replace("batch_tokens = 128", "batch_tokens = 128\nthreads = 1"));
    complete(dir.path(), "whole", &[]);
    let workers: Vec<Child> = (0..3).map(|_| start(dir.path(), "shared")).collect();
    let mut codes = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        let code = output.status.code().unwrap();
        assert!(code == 0 || code == 4, "{code}: {}", String::from_utf8_lossy(&output.stderr));
        codes.push(code);
    }
    assert!(codes.contains(&0), "nobody went on to the law: {codes:?}");
    assert_same(&fingerprint(dir.path(), "whole"), &fingerprint(dir.path(), "shared"), "shared");
}

#[test]
fn a_finished_study_is_not_trained_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), STUDY);
    complete(dir.path(), "once", &[]);
    let before = fingerprint(dir.path(), "once");
    let written = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
    let log = "once/runs/small-L1-d8-h1-s1/metrics.jsonl";
    let at = written(log);
    complete(dir.path(), "once", &[]);
    assert_eq!(at, written(log), "a finished run was touched");
    assert_same(&before, &fingerprint(dir.path(), "once"), "run again");
}
