use super::*;
use crate::line::MOST;
use crate::message::{self, Detail, Laws};
use isoflop_base::instruments::{Alarm, AlarmKind};
use isoflop_base::{CurveRow, RunDocument, Status};
use isoflop_meter::Sample;
use isoflop_store::{Run as Writer, SideLog};
use serde_json::Value;

/// Tokens of a step of a made run.
const BATCH: u64 = 16;

fn row(run: &str, step: u64) -> CurveRow {
    CurveRow {
        run: run.to_owned(),
        segment: "trunk".to_owned(),
        step,
        tokens: step * BATCH,
        flops: step as f64 * 1e6,
        train_loss: 2.0 + 3.0 / step as f64,
        val_loss: step.is_multiple_of(50).then_some(2.5),
        lr: 1e-3,
        grad_norm: 1.0,
        decayed: false,
        tokens_per_s: Some(1600.0),
        data_wait: None,
        skipped: None,
        noise: None,
    }
}

/// A run of so many steps, open for writing.
fn writer(store: &Store, id: &str, steps: u64) -> Writer {
    let mut spec: RunSpec = serde_json::from_value(serde_json::json!({
        "id": id, "seed": 1, "role": "series",
        "model": { "family": "gpt2", "shape": "L1-d8-h1", "vocab": 256, "context": 8, "init": "scaled" },
        "data": { "corpus": "t", "train": null, "val": null, "train_tokens": 3000, "val_tokens": 300,
                  "bytes_per_token": 1.0, "fingerprint": "0" },
        "train": { "lr": 0.001, "batch_tokens": BATCH, "micro_batch": 2, "precision": "f32", "optimizer": "adamw",
                   "schedule": "cosine", "decay": 0.2, "warmup": { "share": 0.1 }, "warmup_steps": 1, "min_lr": 0.1,
                   "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0, "recompute": "none",
                   "eval_every": 0.2, "eval_tokens": 100, "curve_tokens": 100, "init_from": null,
                   "kernels": "portable" },
        "ends": [steps]
    }))
    .unwrap();
    spec.id = id.to_owned();
    store.open_run(&RunDocument::new("made", &spec)).unwrap()
}

/// A store with runs of these many rows, each of `steps` steps; those with all rows are done, the others have an alarm.
pub(crate) fn made_store(runs: &[(&str, u64)], steps: u64) -> (tempfile::TempDir, Seen) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (id, rows) in runs {
        let mut run = writer(&store, id, steps);
        for step in 1..=*rows {
            run.append_curve(step, &row(id, step)).unwrap();
        }
        let sample = Sample { unix_s: 1.7e9, watts: Some(41.0), celsius: Some(62.0), ..Sample::default() };
        run.side_logs().append(SideLog::Machine, 1, &sample).unwrap();
        if *rows == steps {
            run.set_status(Status::Done).unwrap();
        } else {
            let alarm = Alarm {
                run: (*id).to_owned(),
                alarm: AlarmKind::LossSpike,
                unix_s: 1,
                step: Some(30),
                words: "the loss is 9".to_owned(),
            };
            run.side_logs().append(SideLog::Alarms, 1, &alarm).unwrap();
        }
    }
    let seen = Seen::new(dir.path());
    (dir, seen)
}

fn read_all(seen: &mut Seen) {
    while seen.look() {}
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_store_is_seen_and_what_is_appended_is_news() {
    let (dir, mut seen) = made_store(&[("a", 100), ("b", 40)], 100);
    read_all(&mut seen);
    let whole = parsed(&message::whole(&seen, &Laws::new(), Detail::Full));
    assert_eq!(whole["studies"][0]["runs"], 2);
    assert_eq!(whole["studies"][0]["share"], 0.7);
    let b = &whole["runs"][1];
    assert_eq!(
        (&b["id"], &b["done"], &b["total"], &b["status"]),
        (&"b".into(), &40.into(), &100.into(), &"running".into())
    );
    assert_eq!(b["segments"][0]["train"]["x"].as_array().unwrap().len(), 40);
    assert_eq!(b["machine"]["watts"]["y"][0], 41);
    // Each row of 16 tokens at 1600 a second took 10 ms; 60 are left.
    assert!((b["segments"][0]["train"]["t"][39].as_f64().unwrap() - 0.4).abs() < 1e-6);
    assert!((b["eta_s"].as_f64().unwrap() - 0.6).abs() < 1e-6);
    assert_eq!(whole["alarms"][0]["run"], "b");
    seen.heard();
    assert_eq!(message::news(&seen, None), None);

    let mut run = writer(&Store::open(dir.path()).unwrap(), "b", 100);
    run.append_curve(41, &row("b", 41)).unwrap();
    read_all(&mut seen);
    let news = parsed(&message::news(&seen, None).unwrap());
    assert_eq!(news["runs"].as_array().unwrap().len(), 1);
    assert_eq!(news["runs"][0]["new"][0][1], 41);
    assert_eq!(news["runs"][0]["names"][0][0], "trunk");
}

#[test]
fn a_run_that_is_cut_back_or_gone_is_not_drawn_over() {
    let (dir, mut seen) = made_store(&[("a", 100), ("b", 40)], 100);
    read_all(&mut seen);
    seen.heard();
    let log = dir.path().join("b/metrics.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let kept: String = text.split_inclusive('\n').take(25).collect();
    std::fs::write(&log, kept).unwrap();
    read_all(&mut seen);
    let news = parsed(&message::news(&seen, None).unwrap());
    assert_eq!(news["runs"][0]["segments"][0]["train"]["x"].as_array().unwrap().len(), 25);
    seen.heard();
    std::fs::remove_dir_all(dir.path().join("b")).unwrap();
    (0..2 * RARELY).for_each(|_| read_all(&mut seen));
    let news = parsed(&message::news(&seen, None).unwrap());
    assert_eq!(news["removed"], serde_json::json!(["b"]));
    assert_eq!(seen.num_runs(), 1);
}

#[test]
fn traces_of_two_processes_are_not_joined() {
    let (dir, mut seen) = made_store(&[("a", 40)], 100);
    let run = writer(&Store::open(dir.path()).unwrap(), "a", 100);
    let sample = |unix_s: f64, since_s: f64, watts: Option<f64>| {
        let sample = Sample { unix_s, since_s, watts, celsius: Some(60.0), ..Sample::default() };
        run.side_logs().append(SideLog::Machine, unix_s as u64, &sample).unwrap();
    };
    // After that of 1.7e9: killed, gone on with five seconds later; the first reading of the power comes late.
    sample(1.7e9 + 5.0, 1.7e9 + 4.0, None);
    sample(1.7e9 + 7.0, 1.7e9 + 4.0, Some(42.0));
    sample(1.7e9 + 9.0, 1.7e9 + 4.0, Some(43.0));
    read_all(&mut seen);
    let whole = parsed(&message::whole(&seen, &Laws::new(), Detail::Full));
    let machine = &whole["runs"][0]["machine"];
    assert_eq!(machine["watts"]["y"], serde_json::json!([41, 42, 43]));
    for (line, gap) in [("watts", 1), ("celsius", 1)] {
        assert_eq!(machine[line]["apart"], serde_json::json!([gap]), "{line}");
    }
    // And as news: the mark stands beside the sample that follows the gap.
    seen.heard();
    sample(1.7e9 + 11.0, 1.7e9 + 4.0, Some(44.0));
    sample(1.7e9 + 13.0, 1.7e9 + 12.0, Some(45.0));
    read_all(&mut seen);
    let news = parsed(&message::news(&seen, None).unwrap());
    let apart = |i: usize| news["runs"][0]["samples"][i][1].as_u64().unwrap();
    assert_eq!((apart(0), apart(1)), (0, 1));
}

#[test]
fn a_store_that_comes_later_is_waited_for_and_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("later");
    let mut seen = Seen::new(&root);
    read_all(&mut seen);
    assert!(message::whole(&seen, &Laws::new(), Detail::Full).contains("is not there yet"));
    writer(&Store::open(&root).unwrap(), "a", 10);
    (0..2 * RARELY).for_each(|_| read_all(&mut seen));
    assert_eq!((seen.num_runs(), seen.problem.as_deref()), (1, None));
    std::fs::write(root.join("a/status.json"), "{").unwrap();
    (0..2 * RARELY).for_each(|_| read_all(&mut seen));
    assert!(seen.runs["a"].problem.as_deref().unwrap().contains("status.json"));
    std::fs::write(root.join("a/spec.json"), "\u{0}").unwrap();
    (0..2 * RARELY).for_each(|_| read_all(&mut seen));
    assert!(seen.problem.as_deref().unwrap().contains("spec.json"));
}

#[test]
fn what_is_remembered_of_a_week_is_bounded() {
    let (dir, mut seen) = made_store(&[("a", 0)], 10_000_000);
    let mut run = writer(&Store::open(dir.path()).unwrap(), "a", 10_000_000);
    let mut sizes = Vec::new();
    for day in 0..7 {
        // Rows faster than any run logs them, each look some thousands.
        for part in 0..10 {
            for i in 0..2000 {
                let step = 1 + (day * 10 + part) * 2000 + i;
                run.append_curve(step, &row("a", step)).unwrap();
            }
            read_all(&mut seen);
            let _ = message::news(&seen, None);
            seen.heard();
        }
        sizes.push(message::whole(&seen, &Laws::new(), Detail::Full).len());
    }
    let a = &seen.runs["a"];
    assert_eq!(a.rows, 140_000);
    assert!(a.segments[0].lines.iter().all(|line| line.dots().len() <= MOST));
    assert!(sizes[6] < 2 * sizes[0], "{sizes:?}");
}
