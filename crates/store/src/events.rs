//! TensorBoard event files, derived from the curve rows: `tensorboard --logdir runs` shows a store live.
//!
//! A record is a length, its masked CRC-32C, an `Event` message in protobuf's wire format, and that one's masked
//! CRC-32C (TensorFlow, `tsl/lib/io/record_writer.h` and `event.proto`). Segments repeat steps, so each has a directory
//! of its own, which TensorBoard takes for a run. Each process writes new files; the first event in one tells
//! TensorBoard to forget what an interrupted process had logged from that step on. Nothing here reads them back.

use crate::{StoreError, files, files::Appender, names};
use isoflop_base::{
    CurveRow,
    columns::{CURVE_COLUMNS, Cell, Kind},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Writes the curve rows of one run; a file per segment, opened at its first row.
#[derive(Debug)]
pub(crate) struct EventFiles {
    dir: PathBuf,
    open: BTreeMap<String, Appender>,
}

impl EventFiles {
    /// Event files below `dir`. Nothing is created yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: BTreeMap::new() }
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
        other => other,
    }
}

/// A protobuf message being encoded.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

/// One TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] = [&len, &masked(&len).to_le_bytes(), data, &masked(data).to_le_bytes()];
    parts.concat()
}

/// TensorFlow masks checksums so that one of a text that contains checksums stays meaningful.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial, bit by bit: a row has some hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::NoisePairs;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

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
        let mut events = EventFiles::new(dir.path());
        events.append(&row("trunk", 1)).unwrap();
        events.append(&row("trunk", 2)).unwrap();
        events.append(&row("3000000", 2)).unwrap();
        events.restart();
        events.append(&row("trunk", 300)).unwrap();
        assert_eq!(files::names(dir.path()).unwrap(), ["3000000", "trunk"]);
        let trunk = files::names(&dir.path().join("trunk")).unwrap();
        assert_eq!(trunk.len(), 2);
        let first = records(&dir.path().join("trunk").join(&trunk[0]));
        assert_eq!(first.len(), 4);
        assert!(first[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(first[1][9..], [0x10, 1, 0x3a, 2, 8, 1]);
        let second = records(&dir.path().join("trunk").join(&trunk[1]));
        assert_eq!(second[1][9..], [0x10, 0xac, 2, 0x3a, 2, 8, 1]);
        let loss = [b"\x0a\x0atrain/loss\x15".as_slice(), &2.5f32.to_le_bytes()].concat();
        assert!(second[2].windows(loss.len()).any(|w| w == loss));
        assert!(!second[2].windows(8).any(|w| w == b"val/loss"));
        assert!(!second[2].windows(6).any(|w| w == b"noise/"));
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
