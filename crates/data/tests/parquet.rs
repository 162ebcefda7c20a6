//! Parquet files of other writers (`fixtures/make_parquet.py`), our own, and damaged ones.

use isoflop_data::parquet::{Column, Value, read, write};
use proptest::prelude::*;
use std::path::Path;

const ROWS: usize = 40;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)).unwrap()
}

/// The table every fixture holds.
fn expected() -> Vec<Column> {
    let column = |name: &str, value: &dyn Fn(usize) -> Value| Column {
        name: name.to_owned(),
        values: (0..ROWS).map(value).collect(),
    };
    vec![
        column("run", &|i| Value::Text(format!("run-{}", i % 7))),
        column("params", &|i| Value::Int(1000 * (i as i64 + 1))),
        column("tokens", &|i| Value::Int(20_000_000_000 + (i * i) as i64)),
        column("loss", &|i| {
            if i % 9 == 4 { Value::Null } else { Value::Float(1.5 + 1.0 / (i as f64 + 1.0)) }
        }),
        column("done", &|i| Value::Bool(i % 3 == 0)),
    ]
}

const FIXTURES: [&str; 6] = [
    "duckdb.parquet",
    "polars.parquet",
    "pyarrow_gzip_v2.parquet",
    "pyarrow_lz4.parquet",
    "pyarrow_odd.parquet",
    "pyarrow_snappy.parquet",
];

#[test]
fn files_of_other_writers_are_read_to_the_last_bit() {
    for name in FIXTURES {
        let table = read(name, &bytes(name)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(table.rows, ROWS, "{name}");
        assert_eq!(table.columns[..5], expected()[..], "{name}");
    }
}

#[test]
fn odd_types_become_numbers_and_lists_are_left_out_with_a_note() {
    let table = read("odd", &bytes("pyarrow_odd.parquet")).unwrap();
    let first = |name: &str| table.columns.iter().find(|c| c.name == name).map(|c| c.values[0].clone());
    assert_eq!(first("config.lr"), Some(Value::Float(0.5)));
    assert_eq!(first("config.seed"), Some(Value::Int(0)));
    assert_eq!(first("price"), Some(Value::Float(-1.25)));
    assert_eq!(first("small"), Some(Value::Float(0.5)));
    assert_eq!(first("big"), Some(Value::Float(u64::MAX as f64)));
    assert_eq!(first("absent"), Some(Value::Null));
    assert!(table.columns.iter().all(|c| !c.name.starts_with("curve")));
    assert_eq!(table.notes.len(), 1);
    assert!(table.notes[0].contains("curve"), "{:?}", table.notes);
}

#[test]
fn what_is_written_is_read_back() {
    let columns = expected();
    let file = write(&columns);
    assert_eq!(read("own", &file).unwrap().columns, columns);
    let none = write(&[Column { name: "empty".into(), values: Vec::new() }]);
    let back = read("none", &none).unwrap();
    assert_eq!((back.rows, back.columns.len()), (0, 1));
}

#[test]
fn what_is_no_parquet_says_so() {
    let whole = bytes("polars.parquet");
    let cut = &whole[..whole.len() - 1];
    let mut long = whole.clone();
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (file, word) in [
        (&b""[..], "no Parquet"),
        (b"PAR1", "no Parquet"),
        (cut, "no Parquet"),
        (&long, "footer is longer"),
        (b"PAR1....PARE", "encryption"),
    ] {
        let error = read("points.parquet", file).unwrap_err().to_string();
        assert!(error.starts_with("points.parquet ") && error.contains(word), "{error}");
        assert!(error.contains("hint: "), "{error}");
    }
}

/// Changes a few bytes of a fixture; neither a panic nor a table of unequal columns may come of it.
fn survives(name: &str, changes: &[(usize, u8)], cut: Option<usize>) {
    let mut file = bytes(name);
    for (at, value) in changes {
        let at = at % file.len();
        file[at] = *value;
    }
    if let Some(cut) = cut {
        // The ends stay, so that the reader gets further than the magic bytes.
        let tail = file.split_off(file.len() - 8);
        file.truncate(cut % file.len().max(1));
        file.extend(tail);
    }
    if let Ok(table) = read(name, &file) {
        assert!(table.columns.iter().all(|c| c.values.len() == table.rows), "{name}: {changes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_the_reader_panic(
        file in 0..FIXTURES.len(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.1, any::<usize>()),
    ) {
        survives(FIXTURES[file], &changes, cut);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "minutes: cargo test --release -p isoflop-data --test parquet -- --ignored"]
    fn a_million_damaged_files_make_no_panic(
        file in 0..FIXTURES.len(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.1, any::<usize>()),
    ) {
        survives(FIXTURES[file], &changes, cut);
    }
}
