//! Documents seen before, exactly or nearly: a table in memory of where they are listed, and the list on disk.
//!
//! An entry of the table is eight bytes: 36 bits of a key and the number of a document in the list, where its whole
//! identity and its place are. A document has one entry under its digest, or one for each of the 14 bands of its
//! MinHash signature: at the 85 % to which the table is filled, 9.4 or 132 bytes of memory a document.
//!
//! Only documents that are kept enter, so a removed one is always a copy of one that is there.

use crate::error::UserError;
use isoflop_data::documents::minhash::{BANDS, SIZE, Signature};
use isoflop_store::{Growing, JobFolder};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// The list while it grows.
pub(super) const LIST: &str = "seen.part";
/// Bytes that wait to be appended to the list.
const WAITING: usize = 1 << 20;
/// Entries of one band that are compared: passages that everybody has would otherwise be compared with each other.
const MOST_IN_BAND: usize = 16;

/// Where a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Index of its source.
    pub source: u32,
    /// Its record, from 0.
    pub record: u64,
    /// Its line, from 0.
    pub line: u64,
}

/// A document that was seen before, and how much the two have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copy {
    /// The earlier one.
    pub of: Place,
    /// 1 for the same words.
    pub similarity: f64,
}

/// What was seen.
pub struct Seen {
    nearly: Option<f64>,
    table: Table,
    list: Growing,
    path: PathBuf,
    reader: Option<File>,
    /// Records of the list that are not on disk yet.
    waiting: Vec<u8>,
    written: u64,
    most_bytes: u64,
}

/// A record of the list: digest, place, and the signature where there is one.
const DIGEST: usize = 16;
const PLACE: usize = 20;
const PLAIN: usize = DIGEST + PLACE;
const SIGNED: usize = PLAIN + 4 * SIZE;

impl Seen {
    /// Goes on with a list of so many bytes; `nearly` is the similarity from which on documents count as copies, or
    /// nothing for exact ones. The table takes at most `most_bytes`.
    ///
    /// # Errors
    /// The list cannot be read, or does not fit into memory.
    pub fn open(folder: &JobFolder, keep: u64, nearly: Option<f64>, most_bytes: u64) -> anyhow::Result<Self> {
        let list = folder.grow(LIST, keep)?;
        let mut seen = Self {
            nearly,
            table: Table::new(),
            list,
            path: folder.path().join(LIST),
            reader: None,
            waiting: Vec::new(),
            written: 0,
            most_bytes,
        };
        let mut record = vec![0; seen.width()];
        let mut from = std::io::BufReader::with_capacity(1 << 20, File::open(&seen.path)?);
        for _ in 0..keep / seen.width() as u64 {
            from.read_exact(&mut record)?;
            seen.enter(&record)?;
            seen.written += 1;
        }
        Ok(seen)
    }

    fn width(&self) -> usize {
        if self.nearly.is_some() { SIGNED } else { PLAIN }
    }

    /// The earlier document that this one is a copy of; if there is none, this one counts as seen from now on.
    ///
    /// # Errors
    /// The list cannot be read or written; the table would take more than it may.
    pub fn check(
        &mut self,
        digest: u128,
        signature: Option<&Signature>,
        place: Place,
    ) -> anyhow::Result<Option<Copy>> {
        let copy = match (self.nearly, signature) {
            (None, _) => self.exact(digest)?,
            (Some(least), Some(signature)) => self.nearly(signature, least)?,
            // Nothing but punctuation: nearly alike to anything, and kept.
            (Some(_), None) => return Ok(None),
        };
        if copy.is_some() {
            return Ok(copy);
        }
        let mut record = Vec::with_capacity(self.width());
        record.extend_from_slice(&digest.to_le_bytes());
        record.extend_from_slice(&place.source.to_le_bytes());
        record.extend_from_slice(&place.record.to_le_bytes());
        record.extend_from_slice(&place.line.to_le_bytes());
        if let (Some(_), Some(signature)) = (self.nearly, signature) {
            record.extend(signature.0.iter().flat_map(|number| number.to_le_bytes()));
        }
        self.enter(&record)?;
        self.waiting.extend_from_slice(&record);
        if self.waiting.len() > WAITING {
            self.flush()?;
        }
        Ok(None)
    }

    fn exact(&mut self, digest: u128) -> anyhow::Result<Option<Copy>> {
        for number in self.table.find(key_of(digest)) {
            let record = self.record(number)?;
            if record[..DIGEST] == digest.to_le_bytes() {
                return Ok(Some(Copy { of: place_of(&record), similarity: 1.0 }));
            }
        }
        Ok(None)
    }

    /// The earliest document that is alike enough.
    fn nearly(&mut self, signature: &Signature, least: f64) -> anyhow::Result<Option<Copy>> {
        let mut candidates: Vec<u64> = signature.bands().flat_map(|band| self.table.find(band)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        for number in candidates {
            let record = self.record(number)?;
            let similarity = signature.similarity(&signature_of(&record));
            if similarity >= least {
                return Ok(Some(Copy { of: place_of(&record), similarity }));
            }
        }
        Ok(None)
    }

    /// Puts a record of the list into the table.
    fn enter(&mut self, record: &[u8]) -> anyhow::Result<()> {
        let number = self.table.documents;
        if self.table.is_full(BANDS) && !self.table.grow(self.most_bytes) {
            let each = if self.nearly.is_some() { 132.0 } else { 9.4 };
            return Err(UserError::new(format!(
                "the table of {number} documents seen takes {} MiB, as much as it may",
                self.most_bytes >> 20
            ))
            .hint(format!(
                "a document takes {each} bytes; allow more with --dedup-memory, the same command then goes on"
            ))
            .into());
        }
        if self.nearly.is_some() {
            for band in signature_of(record).bands() {
                self.table.put(band, number, MOST_IN_BAND);
            }
        } else {
            let digest = record[..DIGEST].try_into().expect("sixteen bytes");
            self.table.put(key_of(u128::from_le_bytes(digest)), number, usize::MAX);
        }
        self.table.documents += 1;
        Ok(())
    }

    fn record(&mut self, number: u64) -> anyhow::Result<Vec<u8>> {
        let width = self.width();
        if let Some(waits) = number.checked_sub(self.written) {
            let from = waits as usize * width;
            return Ok(self.waiting[from..from + width].to_vec());
        }
        let mut record = vec![0; width];
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(File::open(&self.path)?),
        };
        reader.seek(SeekFrom::Start(number * width as u64))?;
        reader.read_exact(&mut record)?;
        Ok(record)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.list.append(&self.waiting)?;
        self.written += (self.waiting.len() / self.width()) as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Brings the list to disk; its length.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&mut self) -> anyhow::Result<u64> {
        self.flush()?;
        self.list.sync()?;
        Ok(self.list.length())
    }
}

fn key_of(digest: u128) -> u64 {
    // What decides on training or validation are the upper bits.
    digest as u64
}

fn place_of(record: &[u8]) -> Place {
    let long = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    Place {
        source: u32::from_le_bytes(record[DIGEST..DIGEST + 4].try_into().expect("four bytes")),
        record: long(DIGEST + 4),
        line: long(DIGEST + 12),
    }
}

fn signature_of(record: &[u8]) -> Signature {
    let mut out = [0; SIZE];
    for (number, bytes) in out.iter_mut().zip(record[PLAIN..].chunks_exact(4)) {
        *number = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
    Signature(out)
}

/// Numbers of documents by key: open addressing, several under one key.
struct Table {
    /// 36 bits of a key above 28 of a document's number and one; 0 is empty.
    slots: Vec<u64>,
    used: usize,
    documents: u64,
}

const NUMBER_BITS: u32 = 28;
/// Slots of the smallest table, and of the largest before it takes all it may.
const FIRST: usize = 1 << 16;
const DOUBLED: usize = 1 << 23;

impl Table {
    fn new() -> Self {
        Self { slots: vec![0; FIRST], used: 0, documents: 0 }
    }

    /// Whether `more` entries might not fit into 85 %.
    fn is_full(&self, more: usize) -> bool {
        (self.used + more) * 20 > self.slots.len() * 17
    }

    /// Makes room, if it may.
    fn grow(&mut self, most_bytes: u64) -> bool {
        let most = usize::try_from(most_bytes / 8).unwrap_or(usize::MAX);
        // The last step is a large one, so that old and new together stay near what is allowed.
        let wanted = if self.slots.len() < DOUBLED { 2 * self.slots.len() } else { most };
        let size = wanted.min(most);
        if size <= self.slots.len() || self.documents >> NUMBER_BITS != 0 {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        // From an empty slot on, so that entries of one key stay in their order.
        let begin = old.iter().position(|&slot| slot == 0).map_or(0, |empty| empty + 1);
        for slot in old[begin..].iter().chain(&old[..begin]).filter(|&&slot| slot != 0) {
            let at = self.empty_from(self.start(slot >> NUMBER_BITS));
            self.slots[at] = *slot;
        }
        true
    }

    /// Where the search for a key begins: keys in order, so that any size will do.
    fn start(&self, tag: u64) -> usize {
        ((u128::from(tag) * self.slots.len() as u128) >> (64 - NUMBER_BITS)) as usize
    }

    fn empty_from(&self, mut at: usize) -> usize {
        while self.slots[at] != 0 {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// Numbers under a key, and a few under others that look the same.
    fn find(&self, key: u64) -> Vec<u64> {
        let tag = key >> NUMBER_BITS;
        let (mut at, mut out) = (self.start(tag), Vec::new());
        while self.slots[at] != 0 {
            if self.slots[at] >> NUMBER_BITS == tag {
                out.push((self.slots[at] & ((1 << NUMBER_BITS) - 1)) - 1);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        out
    }

    /// Enters a number under a key, unless `most` are there.
    fn put(&mut self, key: u64, number: u64, most: usize) {
        if self.find(key).len() >= most {
            return;
        }
        let tag = key >> NUMBER_BITS;
        let at = self.empty_from(self.start(tag));
        self.slots[at] = tag << NUMBER_BITS | (number + 1);
        self.used += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::bits::SplitMix64;

    fn place(record: u64) -> Place {
        Place { source: 3, record, line: 2 * record }
    }

    #[test]
    fn copies_are_found_with_their_place_also_after_going_on() {
        let dir = tempfile::tempdir().unwrap();
        let folder = JobFolder::take(dir.path()).unwrap();
        let mut random = SplitMix64(1);
        let mut digest = || u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let digests: Vec<u128> = (0..200_000).map(|_| digest()).collect();
        let mut seen = Seen::open(&folder, 0, None, 8 << 20).unwrap();
        for (digest, record) in digests.iter().zip(0..) {
            assert_eq!(seen.check(*digest, None, place(record)).unwrap(), None);
        }
        let length = seen.save().unwrap();
        assert_eq!(length, 200_000 * PLAIN as u64);
        // What came after the last save is cut away, and new again.
        seen.check(7, None, place(9)).unwrap();
        seen.save().unwrap();
        drop(seen);
        let mut seen = Seen::open(&folder, length, None, 8 << 20).unwrap();
        assert_eq!(seen.check(7, None, place(9)).unwrap(), None);
        for record in [0, 77_777, 199_999] {
            let copy = seen.check(digests[record as usize], None, place(1)).unwrap().unwrap();
            assert_eq!(copy, Copy { of: place(record), similarity: 1.0 });
        }
    }

    #[test]
    fn near_copies_are_found_and_memory_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = JobFolder::take(dir.path()).unwrap();
        let mut seen = Seen::open(&folder, 0, Some(0.8), 1 << 20).unwrap();
        let text = |from: usize| (from..from + 300).map(|i| format!("w{i} ")).collect::<String>();
        let sign = |text: &str| Signature::of(text).unwrap();
        assert_eq!(seen.check(1, Some(&sign(&text(0))), place(0)).unwrap(), None);
        assert_eq!(seen.check(2, Some(&sign(&text(1000))), place(1)).unwrap(), None);
        let near = text(0).replace("w150", "other");
        let copy = seen.check(3, Some(&sign(&near)), place(2)).unwrap().unwrap();
        assert!(copy.of == place(0) && copy.similarity > 0.9, "{copy:?}");
        let mut error = None;
        for i in 2..10_000 {
            error = seen.check(4, Some(&sign(&format!("{i} {i}a {i}b {i}c {i}d"))), place(i)).err();
            if error.is_some() {
                // 1 MiB at 132 bytes a document.
                assert!((7_800..8_000).contains(&i), "{i}");
                break;
            }
        }
        assert!(error.unwrap().to_string().contains("--dedup-memory"));
    }
}
