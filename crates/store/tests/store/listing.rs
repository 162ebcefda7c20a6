use crate::{point, row, spec, store};
use isoflop_base::{Status, columns::Frame};
use isoflop_store::{Collected, Store, StoreError, csv, json_lines, write_artifact};
use serde_json::{Value, json};
use std::fs;

fn make_run(store: &Store, id: &str, loss: f64) {
    let mut run = store.create_or_open_run(id, &spec()).unwrap();
    run.append_curve(1, &row(1)).unwrap();
    run.add_point(1, &point(id, 1000, loss + 1.0)).unwrap();
    run.add_point(2, &point(id, 2000, loss)).unwrap();
    run.set_status(Status::Done).unwrap();
}

#[test]
fn a_list_is_the_same_with_a_cold_a_warm_and_a_broken_index() {
    let (_dir, store) = store();
    make_run(&store, "b", 3.0);
    make_run(&store, "a", 2.5);
    let cold = store.list().unwrap();
    assert_eq!(cold.notes, [""; 0]);
    let seen: Vec<_> = cold.runs.iter().map(|r| (r.id.as_str(), r.tokens, r.loss, r.num_points)).collect();
    assert_eq!(seen, [("a", Some(2000), Some(2.5), 2), ("b", Some(2000), Some(3.0), 2)]);
    assert_eq!(cold.runs[0].params, Some(24_576));
    let warm = store.list().unwrap();
    assert_eq!((&warm.runs, warm.notes.len()), (&cold.runs, 0));

    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(store.root().join(format!("index.sqlite{suffix}")));
    }
    fs::write(
        store.root().join("index.sqlite"),
        "this is no database, and long enough to be looked at".repeat(40),
    )
    .unwrap();
    let broken = store.list().unwrap();
    assert_eq!(broken.runs, cold.runs);
    assert!(broken.notes[0].contains("hint: `isoflop runs reindex`"), "{:?}", broken.notes);
    let rebuilt = store.reindex().unwrap();
    assert_eq!((&rebuilt.runs, rebuilt.notes.len()), (&cold.runs, 0));
    assert!(store.list().unwrap().notes.is_empty());

    // Even a directory in the index's place does no harm.
    fs::remove_file(store.root().join("index.sqlite")).unwrap();
    fs::create_dir(store.root().join("index.sqlite")).unwrap();
    assert_eq!(store.list().unwrap().runs, cold.runs);
}

#[test]
fn the_index_follows_new_changed_and_removed_runs() {
    let (_dir, store) = store();
    make_run(&store, "a", 2.5);
    assert_eq!(store.list().unwrap().runs.len(), 1);
    make_run(&store, "b", 3.0);
    let mut run = store.create_or_open_run("a", &spec()).unwrap();
    run.add_point(3, &point("a", 3000, 2.0)).unwrap();
    drop(run);
    let list = store.list().unwrap().runs;
    assert_eq!((list[0].tokens, list[0].loss, list.len()), (Some(3000), Some(2.0), 2));
    store.remove_run("a").unwrap();
    let left: Vec<_> = store.list().unwrap().runs.into_iter().map(|r| r.id).collect();
    assert_eq!(left, ["b"]);
    assert!(!store.root().join("a").exists());
    assert!(matches!(store.read_run("a"), Err(StoreError::NoSuchRun { .. })));
}

#[test]
fn a_run_without_points_takes_its_size_from_its_specification() {
    let (_dir, store) = store();
    drop(store.create_or_open_run("a", &json!({"series": {"model": "L2-d32-h2"}})).unwrap());
    let list = store.list().unwrap().runs;
    assert_eq!((list[0].params, list[0].tokens, list[0].loss), (Some(24_576), None, None));
    assert_eq!(list[0].status, Status::Running);
}

#[test]
fn a_damaged_run_is_noted_and_does_not_hide_the_others() {
    let (_dir, store) = store();
    make_run(&store, "a", 2.5);
    make_run(&store, "b", 3.0);
    crate::flip_byte(&store.root().join("a/points.jsonl"), 30);
    let list = store.list().unwrap();
    assert_eq!(list.runs.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(list.notes[0].contains("run `a` is left out") && list.notes[0].contains("points.jsonl:1"));
}

#[test]
fn even_a_run_whose_specification_is_damaged_can_be_removed() {
    let (_dir, store) = store();
    make_run(&store, "a", 2.5);
    fs::write(store.root().join("a/spec.json"), "{").unwrap();
    assert!(matches!(store.read_run("a"), Err(StoreError::CorruptFile { .. })));
    store.remove_run("a").unwrap();
    assert!(store.run_ids().unwrap().is_empty());
}

#[test]
fn many_threads_may_list_and_write_at_once() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for i in 0..6 {
            let store = store.clone();
            scope.spawn(move || {
                make_run(&store, &format!("r{i}"), 2.0 + f64::from(i));
                for _ in 0..3 {
                    let list = store.list().unwrap();
                    assert!(list.notes.is_empty(), "{:?}", list.notes);
                    assert!(list.runs.iter().any(|r| r.id == format!("r{i}")));
                }
            });
        }
    });
    assert_eq!(store.list().unwrap().runs.len(), 6);
}

#[test]
fn an_unknown_run_names_its_neighbours() {
    let (_dir, store) = store();
    make_run(&store, "L4-d128-h4-s1", 2.5);
    let error = store.read_run("L4-d128-h4-s2").unwrap_err().to_string();
    assert!(error.contains("nearest: `L4-d128-h4-s1`") && error.contains("hint: "), "{error}");
    let error = Store::open_existing(store.root().join("none")).unwrap_err().to_string();
    assert!(error.contains("there is no store"), "{error}");
}

#[test]
fn runs_are_collected_with_their_status_and_in_the_order_asked_for() {
    let (_dir, store) = store();
    make_run(&store, "b", 3.0);
    make_run(&store, "a", 2.5);
    let diverged = Status::Diverged { step: 7, segment: "trunk".into() };
    store.create_or_open_run("b", &spec()).unwrap().set_status(diverged.clone()).unwrap();
    let words = |collected: &Collected| -> Vec<(String, f64, Status)> {
        collected.points().map(|(p, status)| (p.run.clone(), p.loss, status.clone())).collect()
    };
    let (a, b) = ([("a", 3.5), ("a", 2.5)], [("b", 4.0), ("b", 3.0)]);
    let expected = |rows: &[(&str, f64)]| -> Vec<(String, f64, Status)> {
        let status = |run: &str| if run == "a" { Status::Done } else { diverged.clone() };
        rows.iter().map(|(run, loss)| ((*run).to_owned(), *loss, status(run))).collect()
    };
    let all = store.collect().unwrap();
    assert_eq!(words(&all), expected(&[a, b].concat()));
    assert_eq!(
        all.runs.iter().map(|r| (r.id(), r.is_done())).collect::<Vec<_>>(),
        [("a", true), ("b", false)]
    );
    assert_eq!((all.runs[0].spec(), all.curves().unwrap()), (&spec(), vec![row(1), row(1)]));
    assert_eq!(words(&store.collect_runs(&["b", "a"]).unwrap()), expected(&[b, a].concat()));
    assert!(matches!(store.collect_runs(&["a", "zz"]), Err(StoreError::NoSuchRun { .. })));
    assert_eq!(words(&store.collect_begun(&["zz", "b"]).unwrap()), expected(&b));

    // A damaged curve keeps no point from being fitted.
    crate::flip_byte(&store.root().join("a/metrics.jsonl"), 30);
    let again = store.collect().unwrap();
    assert_eq!(words(&again), words(&all));
    assert!(matches!(again.curves(), Err(StoreError::CorruptRecord { .. })));
}

#[test]
fn tables_have_the_promised_columns() {
    let (_dir, store) = store();
    make_run(&store, "a", 2.5);
    let collected = store.collect().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let points = text(csv(&collected.points_frame()));
    assert!(points.starts_with("run,params,params_total,tokens,flops,"), "{points}");
    assert_eq!(points.lines().count(), 3);
    assert!(points.lines().nth(2).unwrap().starts_with("a,24576,50000,2000,333333333333.3333,"));
    let curves = text(csv(&Frame::of_curves(&collected.curves().unwrap())));
    assert!(curves.starts_with("run,segment,step,") && curves.lines().count() == 2);

    let lines = text(json_lines(&collected.points_frame()));
    let first: serde_json::Map<String, Value> = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["status"], &first["loss"], &first["energy_j"]),
        (&json!("done"), &json!(3.5), &Value::Null)
    );
    let header: Vec<&str> = points.lines().next().unwrap().split(',').collect();
    assert_eq!(first.keys().collect::<Vec<_>>(), header);

    let out = store.root().join("out");
    write_artifact(out.join("deep/law.json"), b"{}").unwrap();
    store.write_artifact("points.csv", b"x").unwrap();
    assert!(out.join("deep/law.json").exists() && store.root().join("points.csv").exists());
}

#[test]
fn the_index_holds_typed_columns_of_points() {
    let (_dir, store) = store();
    make_run(&store, "a", 2.5);
    store.list().unwrap();
    let db = rusqlite::Connection::open(store.root().join("index.sqlite")).unwrap();
    let types: String = db
        .query_row(
            "SELECT group_concat(typeof(run) || ' ' || typeof(tokens) || ' ' || typeof(lr) || ' ' || typeof(energy_j), ';')
             FROM points",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(types, "text integer real null;text integer real null");
    let columns: i64 =
        db.query_row("SELECT count(*) FROM pragma_table_info('points')", [], |row| row.get(0)).unwrap();
    assert_eq!(columns as usize, isoflop_base::columns::POINT_COLUMNS.len());
    // An index of another layout, as an earlier version left it, is made anew.
    db.execute_batch("DROP TABLE points; CREATE TABLE points (run TEXT); PRAGMA user_version = 1;").unwrap();
    drop(db);
    assert_eq!(store.list().unwrap().notes, [""; 0]);
    let db = rusqlite::Connection::open(store.root().join("index.sqlite")).unwrap();
    let best: f64 = db.query_row("SELECT min(loss) FROM points", [], |row| row.get(0)).unwrap();
    assert_eq!(best, 2.5);
}
