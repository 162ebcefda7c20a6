//! A log that is read while another process writes it: only what is new, by its place in the file.
//!
//! A resume cuts logs back and writes on; a run may be removed and made again. Either is seen, because the end of what
//! was read before no longer stands where it stood, and then everything is read anew. A line without its end is left
//! until it has one. Nothing here takes a lock or writes, so a reader is never in a writer's way.

use crate::{StoreError, files, log};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::SystemTime;

/// Bytes before the place read up to that must be as they were: the checksum of the last line and a little more.
const SEAM: usize = 64;

/// A place in a log, and how to tell that what lies before it is still what was read.
#[derive(Debug)]
pub struct Tail<T> {
    path: PathBuf,
    offset: u64,
    seam: Vec<u8>,
    /// Length and time of the file when it was last read to its end.
    seen: Option<(u64, SystemTime)>,
    _record: PhantomData<fn() -> T>,
}

/// What a log has gained.
#[derive(Debug, Clone, PartialEq)]
pub struct Grown<T> {
    /// The log was cut back, replaced or removed: `records` begin at its beginning, and what was read before is gone.
    pub restarted: bool,
    /// The new records, in order.
    pub records: Vec<T>,
    /// Indices of records before which damaged lines were left out; may be the number of records, for the end.
    pub gaps: Vec<usize>,
    /// Not all was read: there were more bytes than asked for.
    pub more: bool,
}

impl<T> Default for Grown<T> {
    fn default() -> Self {
        Self { restarted: false, records: Vec::new(), gaps: Vec::new(), more: false }
    }
}

impl<T> Tail<T> {
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { path, offset: 0, seam: Vec::new(), seen: None, _record: PhantomData }
    }

    /// When the file had last been written when it was last read; `None` before there was one.
    pub fn changed(&self) -> Option<SystemTime> {
        self.seen.map(|(_, time)| time)
    }

    /// From the beginning, and whether anything had been read.
    fn restart(&mut self) -> bool {
        let had = self.offset > 0;
        self.offset = 0;
        self.seam.clear();
        self.seen = None;
        had
    }
}

impl<T: DeserializeOwned> Tail<T> {
    /// What was written since the last call, at most about `most` bytes of it.
    ///
    /// # Errors
    /// The log is there and cannot be read.
    pub fn read(&mut self, most: u64) -> Result<Grown<T>, StoreError> {
        let unreadable = files::unreadable(&self.path);
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Grown { restarted: self.restart(), ..Grown::default() });
            }
            other => other.map_err(unreadable)?,
        };
        let about = file.metadata().map_err(files::unreadable(&self.path))?;
        let now = (about.len(), about.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        if self.seen == Some(now) {
            return Ok(Grown::default());
        }
        let whole = self.read_from(&mut file, now.0, most).map_err(files::unreadable(&self.path))?;
        // What is still to be read keeps the next call from taking the file as known.
        self.seen = (!whole.more).then_some(now);
        Ok(whole)
    }

    fn read_from(&mut self, file: &mut File, len: u64, most: u64) -> io::Result<Grown<T>> {
        let mut grown = Grown::default();
        if len < self.offset || !self.seam_holds(file)? {
            grown.restarted = self.restart();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let asked = most.max(1 << 16);
        file.take(asked).read_to_end(&mut bytes)?;
        grown.more = bytes.len() as u64 == asked;
        let end = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(newline) => newline + 1,
            // A line longer than anything that is written here is damage, and is passed over.
            None if grown.more => {
                grown.gaps.push(0);
                bytes.len()
            }
            None => 0,
        };
        for line in bytes[..end].split_inclusive(|b| *b == b'\n') {
            match line.strip_suffix(b"\n").map(log::decode_record) {
                Some(Ok(record)) => grown.records.push(record),
                _ if grown.gaps.last() != Some(&grown.records.len()) => grown.gaps.push(grown.records.len()),
                _ => {}
            }
        }
        self.offset += end as u64;
        // No more than the seam is kept: a buffer of each of many logs would be as large as the logs.
        let read = &bytes[end.saturating_sub(SEAM)..end];
        let kept = self.seam.len().min(SEAM - read.len());
        self.seam = [&self.seam[self.seam.len() - kept..], read].concat();
        Ok(grown)
    }

    /// Whether the end of what was read stands where it stood.
    fn seam_holds(&self, file: &mut File) -> io::Result<bool> {
        let mut there = vec![0; self.seam.len()];
        file.seek(SeekFrom::Start(self.offset - self.seam.len() as u64))?;
        match file.read_exact(&mut there) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|()| there == self.seam),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::io::Write as _;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Row {
        value: u64,
    }

    fn line(value: u64) -> Vec<u8> {
        log::encode(value, &Row { value })
    }

    fn append(path: &PathBuf, bytes: &[u8]) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn values(grown: &Grown<Row>) -> Vec<u64> {
        grown.records.iter().map(|row| row.value).collect()
    }

    #[test]
    fn what_is_new_is_read_once_and_half_a_line_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut tail = Tail::<Row>::of(path.clone());
        assert_eq!(tail.read(1 << 20).unwrap(), Grown::default());
        append(&path, &[line(1), line(2)].concat());
        assert_eq!(values(&tail.read(1 << 20).unwrap()), [1, 2]);
        assert_eq!(tail.read(1 << 20).unwrap(), Grown::default());
        let three = line(3);
        for cut in [1, three.len() / 2, three.len() - 1] {
            append(&path, &three[..cut]);
            assert_eq!(values(&tail.read(1 << 20).unwrap()), [0; 0], "cut at {cut}");
            append(&path, &three[cut..]);
            let grown = tail.read(1 << 20).unwrap();
            assert_eq!((values(&grown), grown.restarted), (vec![3], false), "cut at {cut}");
        }
    }

    #[test]
    fn a_log_that_is_cut_back_replaced_or_removed_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut tail = Tail::<Row>::of(path.clone());
        append(&path, &[line(1), line(2), line(3)].concat());
        tail.read(1 << 20).unwrap();
        // Cut back, and read while it is short.
        std::fs::write(&path, line(1)).unwrap();
        let grown = tail.read(1 << 20).unwrap();
        assert_eq!((values(&grown), grown.restarted), (vec![1], true));
        append(&path, &line(4));
        assert_eq!(values(&tail.read(1 << 20).unwrap()), [4]);
        // Cut back and grown beyond where it was, unseen.
        std::fs::write(&path, [line(1), line(5), line(6), line(7)].concat()).unwrap();
        let grown = tail.read(1 << 20).unwrap();
        assert_eq!((values(&grown), grown.restarted), (vec![1, 5, 6, 7], true));
        std::fs::remove_file(&path).unwrap();
        let grown = tail.read(1 << 20).unwrap();
        assert_eq!((values(&grown), grown.restarted), (vec![], true));
        assert_eq!(tail.read(1 << 20).unwrap(), Grown::default());
    }

    #[test]
    fn a_large_log_comes_in_parts_that_are_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        append(&path, &(0..20_000).flat_map(line).collect::<Vec<u8>>());
        let (mut tail, mut all, mut parts) = (Tail::<Row>::of(path), Vec::new(), 0);
        loop {
            let grown = tail.read(1).unwrap();
            all.extend(values(&grown));
            parts += 1;
            if !grown.more {
                break;
            }
        }
        assert!(parts > 5, "{parts}");
        assert!(tail.seam.len() == SEAM && tail.seam.capacity() <= 2 * SEAM, "{}", tail.seam.capacity());
        assert_eq!(all, (0..20_000).collect::<Vec<u64>>());
    }

    #[test]
    fn a_damaged_line_is_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut bad = line(2);
        bad[5] ^= 1;
        append(&path, &[line(1), bad.clone(), bad.clone(), line(3), bad, b"\xff\xfe\n".to_vec()].concat());
        let grown = Tail::<Row>::of(path.clone()).read(1 << 20).unwrap();
        assert_eq!((values(&grown), grown.gaps), (vec![1, 3], vec![1, 2]));
        std::fs::write(&path, vec![b'x'; 1 << 17]).unwrap();
        let grown = Tail::<Row>::of(path).read(1).unwrap();
        assert!(grown.records.is_empty() && grown.gaps == [0] && grown.more);
    }
}
