use crate::{point, position, row, save, spec, store};
use isoflop_base::Status;
use isoflop_store::{Checkpoint, RunView, Store, StoreError};
use serde_json::json;
use std::{
    fs,
    process::{Command, Stdio},
};

#[test]
fn what_was_written_is_read_back_after_reopening() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    assert_eq!(run.status().unwrap(), Status::Running);
    for step in 1..=3 {
        run.append_curve(step, &row(step)).unwrap();
    }
    run.add_point(3, &point("a", 6144, 0.1 + 0.2)).unwrap();
    let diverged = Status::Diverged { step: 3, segment: "trunk".into() };
    run.set_status(diverged.clone()).unwrap();
    drop(run);
    let run = store.create_or_open_run("a", &spec()).unwrap();
    assert_eq!(run.curves().unwrap(), [row(1), row(2), row(3)]);
    assert_eq!(run.points().unwrap(), [point("a", 6144, 0.1 + 0.2)]);
    assert_eq!(run.last_curve_row(), Some(row(3)));
    assert_eq!(run.status().unwrap(), diverged);
    assert_eq!(run.spec(), &spec());
}

#[test]
fn a_second_writer_is_told_who_holds_the_run_and_readers_are_not_disturbed() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    run.append_curve(1, &row(1)).unwrap();
    match store.create_or_open_run("a", &spec()) {
        Err(StoreError::Locked { run, holder }) => {
            assert_eq!((run.as_str(), holder.pid), ("a", Some(std::process::id())));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.remove_run("a"), Err(StoreError::Locked { .. })));
    assert_eq!(store.read_run("a").unwrap().curves().unwrap().len(), 1);
    drop(run);
    assert!(store.create_or_open_run("a", &spec()).is_ok());
}

/// Not a test of its own: what the test below runs in another process, to be killed there.
#[test]
fn holder_of_a_lock() {
    let Ok(root) = std::env::var("ISOFLOP_TEST_STORE") else { return };
    let mut run = Store::open(root).unwrap().create_or_open_run("a", &spec()).unwrap();
    // Bounded, should its parent die before killing it.
    for step in 1..50_000 {
        run.append_curve(step, &row(step)).unwrap();
        if step % 50 == 0 {
            save(&mut run, &format!("step-{step}"), step, false);
        }
    }
}

#[test]
fn a_killed_writer_loses_its_lock_and_nothing_it_had_written() {
    let (_dir, store) = store();
    for round in 0u64..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runs::holder_of_a_lock"])
            .env("ISOFLOP_TEST_STORE", store.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let checkpoints =
            |store: &Store| store.read_run("a").and_then(|r| r.checkpoints()).map_or(0, |c| c.complete.len());
        while checkpoints(&store) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(7 * round + 3));
        assert!(matches!(store.create_or_open_run("a", &spec()), Err(StoreError::Locked { .. })));
        child.kill().unwrap();
        child.wait().unwrap();

        let mut run = store.create_or_open_run("a", &spec()).unwrap();
        let resumed = run.resume(position).unwrap();
        assert!(resumed.passed_over.is_empty(), "{:?}", resumed.passed_over);
        let (_, position) = resumed.from.unwrap();
        let rows = run.curves().unwrap();
        assert_eq!(rows, (1..=position).map(row).collect::<Vec<_>>());
        // Nothing that can be gone on from: the run begins anew.
        let none = |_: &RunView, _: &Checkpoint| Err::<(), _>("not wanted");
        assert!(run.resume(none).unwrap().from.is_none());
        assert!(run.curves().unwrap().is_empty() && run.checkpoints().unwrap().complete.is_empty());
    }
}

#[test]
fn another_specification_is_refused_by_its_key() {
    let (_dir, store) = store();
    drop(store.create_or_open_run("a", &spec()).unwrap());
    let mut other = spec();
    other["train"]["lr"] = json!(0.002);
    let error = store.create_or_open_run("a", &other).unwrap_err().to_string();
    assert!(error.contains("`train.lr` is 0.001 there and 0.002 here"), "{error}");
    assert!(error.contains("hint: choose another store"), "{error}");
    assert_eq!(store.read_run("a").unwrap().spec(), &spec());
}

#[test]
fn a_record_torn_at_any_byte_is_cut_back_at_opening() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    for step in 1..=3 {
        run.append_curve(step, &row(step)).unwrap();
        run.add_point(step, &point("a", step, 1.0)).unwrap();
    }
    let dir = run.dir().to_owned();
    drop(run);
    for name in ["metrics.jsonl", "points.jsonl"] {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let two = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
        for cut in two..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            if name == "metrics.jsonl" {
                let mut run = store.create_or_open_run("a", &spec()).unwrap();
                assert_eq!(fs::read(&path).unwrap(), whole[..two], "cut at {cut}");
                run.append_curve(3, &row(3)).unwrap();
            } else {
                let mut run = store.create_or_open_run("a", &spec()).unwrap();
                assert_eq!(run.points().unwrap().len(), 2, "cut at {cut}");
                run.add_point(3, &point("a", 3, 1.0)).unwrap();
            }
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }
}

#[test]
fn an_altered_record_is_reported_with_its_line() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    for step in 1..=3 {
        run.append_curve(step, &row(step)).unwrap();
    }
    drop(run);
    let path = store.root().join("a/metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap().replacen("\"step\":2", "\"step\":7", 1);
    fs::write(&path, text).unwrap();
    let error = store.create_or_open_run("a", &spec()).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl:2: the record does not match its checksum"), "{error}");
    assert!(error.contains("hint: "), "{error}");
    let view = store.read_run("a").unwrap();
    assert!(matches!(view.curves(), Err(StoreError::CorruptRecord { line: 2, .. })));
    assert_eq!(view.health().problems.len(), 1);
}

#[test]
fn an_interrupted_and_resumed_run_has_the_logs_of_an_uninterrupted_one() {
    let (_dir, store) = store();
    let work = |run: &mut isoflop_store::Run, from: u64, to: u64| {
        for step in from + 1..=to {
            run.append_curve(step, &row(step)).unwrap();
            if step % 5 == 0 {
                run.add_point(step, &point("a", step, 1.0 / step as f64)).unwrap();
            }
            if step % 4 == 0 {
                save(run, &format!("step-{step}"), step, false);
            }
        }
    };
    let mut whole = store.create_or_open_run("whole", &spec()).unwrap();
    assert!(whole.resume(position).unwrap().from.is_none());
    work(&mut whole, 0, 20);

    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    let mut attempts = 0;
    for stop in [3, 7, 15, 16, 19, 20] {
        let resumed = run.resume(position).unwrap();
        attempts += usize::from(resumed.cut_back.attempt.is_some());
        let from = resumed.from.map_or(0, |(_, position)| position);
        work(&mut run, from, stop);
        drop(run);
        run = store.create_or_open_run("a", &spec()).unwrap();
    }
    for name in ["metrics.jsonl", "points.jsonl"] {
        let read = |id: &str| fs::read(store.root().join(id).join(name)).unwrap();
        assert_eq!(read("a"), read("whole"), "{name}");
    }
    // Beyond step 0, 4, 12 and 16; at 16 and 20 nothing lay beyond.
    assert_eq!((attempts, run.num_attempts().unwrap()), (4, 4));
    let set_aside = fs::read_to_string(store.root().join("a/attempts/3/metrics.jsonl")).unwrap();
    assert_eq!(set_aside.lines().count(), 3);
}

#[test]
fn a_record_at_position_zero_does_not_come_twice() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    run.append_curve(0, &row(0)).unwrap();
    let resumed = run.resume(position).unwrap();
    assert_eq!((resumed.cut_back.rows, resumed.cut_back.attempt), (1, Some(1)));
    run.append_curve(0, &row(0)).unwrap();
    save(&mut run, "step-0", 0, false);
    assert_eq!(run.resume(position).unwrap().cut_back, Default::default());
    assert_eq!(run.curves().unwrap().len(), 1);
}

#[test]
fn numbers_json_cannot_say_are_refused() {
    let (_dir, store) = store();
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    let mut bad = row(1);
    bad.train_loss = f64::NAN;
    assert!(matches!(run.append_curve(1, &bad), Err(StoreError::NotFinite { what: "train_loss", .. })));
    let bad = point("a", 1, f64::INFINITY);
    assert!(matches!(run.add_point(1, &bad), Err(StoreError::NotFinite { what: "loss", .. })));
    assert!(run.curves().unwrap().is_empty() && run.points().unwrap().is_empty());
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = Store::open(root).unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("hint: a file stands where"), "{error}");
    }
    let store = Store::open(dir.path()).unwrap();
    let error = store.create_or_open_run("file", &spec()).unwrap_err().to_string();
    assert!(error.contains("hint: a file stands where a directory is needed"), "{error}");
    // A run whose checkpoints directory is a file.
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    fs::write(run.dir().join("checkpoints"), "").unwrap();
    let error = run.begin_checkpoint("x", 1).unwrap_err().to_string();
    assert!(error.contains("hint: a file stands where a directory is needed"), "{error}");
    // The kernel's own file system refuses even root.
    if std::path::Path::new("/proc/self").exists() {
        let error = Store::open("/proc/isoflop").unwrap_err().to_string();
        assert!(error.contains("cannot write /proc/isoflop"), "{error}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (_dir, store) = store();
    for id in ["..", "../x", "a/b", "", ".hidden"] {
        assert!(matches!(store.create_or_open_run(id, &spec()), Err(StoreError::BadName { .. })), "{id}");
        assert!(matches!(store.read_run(id), Err(StoreError::NoSuchRun { .. })), "{id}");
    }
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    assert!(matches!(run.begin_checkpoint("../../x", 1), Err(StoreError::BadName { .. })));
    assert!(matches!(run.open_checkpoint("../.."), Err(StoreError::NoSuchCheckpoint { .. })));
}
