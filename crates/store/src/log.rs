//! Append-only logs: one JSON object a line, each with its position and a CRC-32 of its own.
//!
//! `{"position":12,…the record's fields…,"crc32":"1a2b3c4d"}`: the checksum covers the line without its last member.
//! Any reader of JSON lines reads them. A torn last line is what a killed process leaves; it is no damage. Any
//! earlier line that does not match was altered, and is reported with its number.

use crate::{StoreError, files};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// `,"crc32":"` + 8 digits + `"}`.
const SUFFIX_LEN: usize = 20;

/// A record read back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record<T> {
    /// Where in the run's program it was written.
    pub(crate) position: u64,
    /// Bytes of the file up to and including its line.
    pub(crate) end: u64,
    pub(crate) value: T,
}

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Log<T> {
    path: PathBuf,
    pub(crate) records: Vec<Record<T>>,
    /// Bytes of the torn last line; 0 if there is none.
    pub(crate) torn_bytes: u64,
    /// Damaged lines: number and reason.
    pub(crate) corrupt: Vec<(usize, String)>,
    /// Bytes of the file without the torn line.
    pub(crate) len: u64,
}

/// One line, newline included.
pub(crate) fn encode<T: Serialize>(position: u64, record: &T) -> Vec<u8> {
    let fields = serde_json::to_string(record).expect("records are plain structs with text keys");
    let fields = fields.strip_prefix('{').expect("a record is an object");
    let body = format!("{{\"position\":{position},{fields}");
    let crc = crc32fast::hash(body.as_bytes());
    let mut line = body;
    line.pop();
    line.push_str(&format!(",\"crc32\":\"{crc:08x}\"}}\n"));
    line.into_bytes()
}

/// What a line holds without its checksum, which was found to be right.
fn sound(line: &[u8]) -> Result<Vec<u8>, String> {
    let bad = "the record does not match its checksum";
    let (body, suffix) = line.split_at_checked(line.len().saturating_sub(SUFFIX_LEN)).ok_or(bad)?;
    let digits = suffix.strip_prefix(b",\"crc32\":\"").and_then(|s| s.strip_suffix(b"\"}")).ok_or(bad)?;
    let digits = std::str::from_utf8(digits).map_err(|_| bad)?;
    let crc = u32::from_str_radix(digits, 16).map_err(|_| bad)?;
    let body = [body, b"}"].concat();
    if crc32fast::hash(&body) == crc { Ok(body) } else { Err(bad.to_owned()) }
}

/// The record of a line, without the newline at its end.
pub(crate) fn decode_record<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(&sound(line)?)
        .map_err(|e| format!("the record is sound, but not one this version reads: {e}"))
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<(u64, T), String> {
    #[derive(Deserialize)]
    struct Position {
        position: u64,
    }
    let body = sound(line)?;
    let wrong = |e: serde_json::Error| format!("the record is sound, but not one this version reads: {e}");
    let Position { position } = serde_json::from_slice(&body).map_err(wrong)?;
    Ok((position, serde_json::from_slice(&body).map_err(wrong)?))
}

/// Reads a log; one that does not exist is empty.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Log<T>, StoreError> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(files::unreadable(path))?,
    };
    let mut log =
        Log { path: path.to_owned(), records: Vec::new(), torn_bytes: 0, corrupt: Vec::new(), len: 0 };
    for (index, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let end = log.len + line.len() as u64;
        let is_last = end == bytes.len() as u64;
        let decoded = match line.strip_suffix(b"\n") {
            Some(line) => decode(line),
            None => Err("the record has no end".to_owned()),
        };
        match decoded {
            Ok((position, value)) => log.records.push(Record { position, end, value }),
            Err(_) if is_last && is_torn(line) => {
                log.torn_bytes = line.len() as u64;
                break;
            }
            Err(why) => log.corrupt.push((index + 1, why)),
        }
        log.len = end;
    }
    Ok(log)
}

/// Whether a last line is what a death in mid-write leaves: no newline (a killed process), or bytes that were never
/// written though the file had grown (a loss of power). Anything else was altered.
fn is_torn(line: &[u8]) -> bool {
    !line.ends_with(b"\n") || line.contains(&0)
}

/// The last sound record, from the end of the file: cheap for long logs.
pub(crate) fn last<T: DeserializeOwned>(path: &Path) -> Option<T> {
    const TAIL: u64 = 1 << 16;
    let mut file = File::open(path).ok()?;
    let start = file.metadata().ok()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    bytes.split(|&b| b == b'\n').rev().find_map(|line| decode(line).ok()).map(|(_, value)| value)
}

impl<T> Log<T> {
    /// The log, if no line before the last is damaged.
    pub(crate) fn sound(self) -> Result<Self, StoreError> {
        match self.corrupt.first() {
            None => Ok(self),
            Some((line, why)) => {
                Err(StoreError::CorruptRecord { path: self.path, line: *line, why: why.clone() })
            }
        }
    }

    /// The records' values.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.records.into_iter().map(|r| r.value).collect()
    }

    /// Bytes of the records whose position is at most `position`, and how many records lie beyond.
    pub(crate) fn split_at(&self, position: u64) -> (u64, usize) {
        let kept = self.records.iter().take_while(|r| r.position <= position).count();
        let end = if kept == 0 { 0 } else { self.records[kept - 1].end };
        (end, self.records.len() - kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Row {
        name: String,
        loss: f64,
        val: Option<f64>,
    }

    fn row(i: u64) -> Row {
        Row {
            name: format!("ä\"{i}"), loss: 1.0 / (i as f64 + 3.0), val: i.is_multiple_of(2).then_some(0.1)
        }
    }

    fn file(rows: u64) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let bytes: Vec<u8> = (0..rows).flat_map(|i| encode(i * 10, &row(i))).collect();
        fs::write(&path, &bytes).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn records_come_back_bit_for_bit() {
        let (_dir, path, bytes) = file(5);
        let log = read::<Row>(&path).unwrap().sound().unwrap();
        assert_eq!(log.records.iter().map(|r| r.position).collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
        assert_eq!((log.len, log.torn_bytes), (bytes.len() as u64, 0));
        assert_eq!(log.into_values(), (0..5).map(row).collect::<Vec<_>>());
        assert_eq!(last::<Row>(&path), Some(row(4)));
        let first: serde_json::Value =
            serde_json::from_slice(bytes.split(|&b| b == b'\n').next().unwrap()).unwrap();
        assert_eq!(first["position"], 0);
        assert_eq!(first["name"], "ä\"0");
    }

    #[test]
    fn a_last_line_torn_anywhere_is_cut_back() {
        let (_dir, path, bytes) = file(3);
        let two = read::<Row>(&path).unwrap().records[1].end;
        for cut in two..bytes.len() as u64 {
            fs::write(&path, &bytes[..cut as usize]).unwrap();
            let log = read::<Row>(&path).unwrap().sound().unwrap();
            assert_eq!((log.records.len(), log.len, log.torn_bytes), (2, two, cut - two), "cut at {cut}");
        }
        let zeros = [&bytes[..two as usize], &[0; 40], b"\n"].concat();
        fs::write(&path, zeros).unwrap();
        assert_eq!(read::<Row>(&path).unwrap().sound().unwrap().len, two);
    }

    #[test]
    fn an_altered_line_is_reported_with_its_number() {
        let (_dir, path, bytes) = file(3);
        let ends: Vec<usize> = read::<Row>(&path).unwrap().records.iter().map(|r| r.end as usize).collect();
        for at in ends[0]..ends[1] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            fs::write(&path, &altered).unwrap();
            let error = read::<Row>(&path).unwrap().sound().unwrap_err().to_string();
            assert!(error.contains("log.jsonl:2: "), "byte {at}: {error}");
        }
    }

    #[test]
    fn a_log_splits_at_a_position() {
        let (_dir, path, _) = file(4);
        let log = read::<Row>(&path).unwrap();
        assert_eq!(log.split_at(15), (log.records[1].end, 2));
        assert_eq!(log.split_at(30), (log.len, 0));
        assert_eq!(read::<Row>(&path.with_extension("none")).unwrap().split_at(7), (0, 0));
    }
}
