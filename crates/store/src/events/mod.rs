//! TensorBoard event files, derived from the curve rows: `tensorboard --logdir runs` shows a store live.
//!
//! A record is a length, its masked CRC-32C, an `Event` message in protobuf's wire format, and that one's masked
//! CRC-32C (TensorFlow, `tsl/lib/io/record_writer.h` and `event.proto`). Segments repeat steps, so each has a directory
//! of its own, which TensorBoard takes for a run. Each process writes new files; the first event in one tells
//! TensorBoard to forget what an interrupted process had logged from that step on. Nothing here reads them back.

mod plugins;
mod wire;

use crate::{StoreError, files, files::Appender, names};
use isoflop_base::{
    CurveRow, Status,
    columns::{CURVE_COLUMNS, Cell, Kind},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use wire::{Message, frame};

/// Writes the curve rows of one run; a file per segment, opened at its first row. Each begins with the run's settings,
/// for TensorBoard's plugins of hyper-parameters and of text.
#[derive(Debug)]
pub(crate) struct EventFiles {
    dir: PathBuf,
    spec: Value,
    open: BTreeMap<String, Appender>,
}

impl EventFiles {
    /// Event files below `dir`. Nothing is created yet.
    pub(crate) fn new(dir: &Path, spec: &Value) -> Self {
        Self { dir: dir.to_owned(), spec: spec.clone(), open: BTreeMap::new() }
    }

    /// Notes how the run ended in the files of this process.
    pub(crate) fn end(&mut self, status: &Status) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let event = frame(&plugins::session_end(now, status));
        self.open.values_mut().try_for_each(|file| file.append(&event))
    }

    /// Closes the files: what follows goes to new ones, which take the place of what was logged from their first
    /// step on.
    pub(crate) fn restart(&mut self) {
        self.open.clear();
    }

    /// Appends one row.
    pub(crate) fn append(&mut self, row: &CurveRow) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let segment = names::check("segment", &row.segment).map_or("segment", |()| &row.segment);
        if !self.open.contains_key(segment) {
            let dir = self.dir.join(segment);
            files::make_directory(&dir)?;
            // TensorBoard reads the files of a directory in the order of their names.
            let name = format!("events.out.tfevents.{}.{:09}.isoflop", now.as_secs(), now.subsec_nanos());
            let mut file = Appender::open(&dir.join(name), 0)?;
            file.append(&frame(&version_event(now)))?;
            file.append(&frame(&start_event(now, row.step)))?;
            file.append(&frame(&plugins::session_start(now, &self.spec)))?;
            file.append(&frame(&plugins::text(now, "specification", &self.spec)))?;
            self.open.insert(segment.to_owned(), file);
        }
        let file = self.open.get_mut(segment).expect("opened above");
        file.append(&frame(&scalar_event(now, row)))
    }
}

/// `Event { wall_time = 1, file_version = 3 }`, which must come first in a file.
fn version_event(now: Duration) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, now.as_secs_f64());
    event.bytes(3, b"brain.Event:2");
    event.0
}

/// `Event { wall_time = 1, step = 2, session_log = 7 { status = 1: START } }`.
fn start_event(now: Duration, step: u64) -> Vec<u8> {
    let mut log = Message::default();
    log.integer(1, 1);
    let mut event = Message::default();
    event.double(1, now.as_secs_f64());
    event.integer(2, step);
    event.bytes(7, &log.0);
    event.0
}

/// `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } … } }`.
fn scalar_event(now: Duration, row: &CurveRow) -> Vec<u8> {
    let mut summary = Message::default();
    // FLOPs are a measure of how far the run is, as the step is.
    for column in CURVE_COLUMNS.iter().filter(|c| c.kind == Kind::Real && c.name != "flops") {
        if let Cell::Real(value) = (column.of)(row) {
            let mut scalar = Message::default();
            scalar.bytes(1, tag(column.name).as_bytes());
            scalar.float(2, value as f32);
            summary.bytes(1, &scalar.0);
        }
    }
    let mut event = Message::default();
    event.double(1, now.as_secs_f64());
    event.integer(2, row.step);
    event.bytes(5, &summary.0);
    event.0
}

/// TensorBoard groups scalars by what stands before a slash.
fn tag(column: &'static str) -> &'static str {
    match column {
        "train_loss" => "train/loss",
        "val_loss" => "val/loss",
        "tokens_per_s" => "tokens/s",
        "noise_small_sq" => "noise/small_sq",
        "noise_big_sq" => "noise/big_sq",
        "data_wait" => "data/wait",
        "skipped" => "train/skipped",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::NoisePairs;
    use serde_json::json;
    use wire::masked;

    fn row(segment: &str, step: u64) -> CurveRow {
        CurveRow {
            run: "a".into(),
            segment: segment.into(),
            step,
            tokens: 1,
            flops: 1.0,
            train_loss: 2.5,
            val_loss: None,
            lr: 0.5,
            grad_norm: 1.0,
            decayed: false,
            tokens_per_s: None,
            noise: None,
            data_wait: None,
            skipped: None,
        }
    }

    /// The records of a file, their checksums verified.
    fn records(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]).to_le_bytes());
            let data = &rest[12..12 + len];
            assert_eq!(rest[12 + len..16 + len], masked(data).to_le_bytes());
            found.push(data.to_vec());
            rest = &rest[16 + len..];
        }
        found
    }

    #[test]
    fn each_segment_and_each_session_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFiles::new(
            dir.path(),
            &json!({ "run": { "seed": 7, "train": { "lr": 0.5, "schedule": "wsd" } } }),
        );
        events.append(&row("trunk", 1)).unwrap();
        events.append(&row("trunk", 2)).unwrap();
        events.append(&row("3000000", 2)).unwrap();
        events.restart();
        events.append(&row("trunk", 300)).unwrap();
        assert_eq!(files::names(dir.path()).unwrap(), ["3000000", "trunk"]);
        let trunk = files::names(&dir.path().join("trunk")).unwrap();
        assert_eq!(trunk.len(), 2);
        let first = records(&dir.path().join("trunk").join(&trunk[0]));
        assert_eq!(first.len(), 6);
        let holds = |record: &[u8], part: &[u8]| record.windows(part.len()).any(|w| w == part);
        for part in ["_hparams_/session_start_info", "hparams", "seed", "train.lr", "train.schedule", "wsd"] {
            assert!(holds(&first[2], part.as_bytes()), "{part}");
        }
        assert!(holds(&first[3], b"\"schedule\": \"wsd\"") && holds(&first[3], b"text"));
        assert!(first[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(first[1][9..], [0x10, 1, 0x3a, 2, 8, 1]);
        let second = records(&dir.path().join("trunk").join(&trunk[1]));
        assert_eq!(second[1][9..], [0x10, 0xac, 2, 0x3a, 2, 8, 1]);
        let loss = [b"\x0a\x0atrain/loss\x15".as_slice(), &2.5f32.to_le_bytes()].concat();
        assert!(holds(&second[4], &loss) && !holds(&second[4], b"val/loss") && !holds(&second[4], b"noise/"));
        events.end(&Status::Done).unwrap();
        let ended = records(&dir.path().join("trunk").join(&trunk[1]));
        assert!(holds(&ended[5], b"_hparams_/session_end_info"));
    }

    #[test]
    fn gradient_norms_of_both_batches_are_scalars() {
        let pairs = NoisePairs { pairs: 2, small_tokens: 8, small_sq: 4.0, big_tokens: 32, big_sq: 1.5 };
        let event = scalar_event(Duration::ZERO, &CurveRow { noise: Some(pairs), ..row("trunk", 1) });
        for (tag, value) in [("\x0a\x0enoise/small_sq\x15", 4f32), ("\x0a\x0cnoise/big_sq\x15", 1.5)] {
            let scalar = [tag.as_bytes(), &value.to_le_bytes()].concat();
            assert!(event.windows(scalar.len()).any(|w| w == scalar), "{tag:?}");
        }
    }
}
