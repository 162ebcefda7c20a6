//! The one place of this crate with `unsafe`: a read-only memory map, so that a file of any size is opened without
//! being read. What cannot be mapped, a pipe or stdin (`-`), is read into memory.

use crate::DataError;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes from which on a file may not fit into memory, so that what will be read is worth saying. Smaller ones are
/// taken to stay in memory once they were read.
#[cfg(unix)]
const LARGE: usize = 4 << 30;

/// A read-only map of a whole file, with the length it had at open.
#[derive(Debug)]
pub(crate) struct Map {
    path: PathBuf,
    /// The mapped file; nothing for what was read.
    file: Option<File>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl Map {
    /// Maps `path`.
    ///
    /// # Errors
    /// Missing, a directory, not readable, empty.
    #[expect(unsafe_code, reason = "the only way to map a file; argued at the block")]
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let empty = || {
            let hint = "the program that writes it has not finished or failed; write it again".to_owned();
            DataError::Empty { path: path.to_owned(), hint }
        };
        let read = |mut from: Box<dyn Read>| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map_err(|e| DataError::from_io(path, e))?;
            let whole = Self { path: path.to_owned(), file: None, bytes: Bytes::Read(bytes) };
            if whole.bytes().is_empty() { Err(empty()) } else { Ok(whole) }
        };
        if path.as_os_str() == "-" {
            return read(Box::new(std::io::stdin()));
        }
        let file = File::open(path).map_err(|e| DataError::from_io(path, e))?;
        let metadata = file.metadata().map_err(|e| DataError::from_io(path, e))?;
        if metadata.is_dir() {
            return Err(DataError::directory(path));
        }
        if !metadata.is_file() {
            return read(Box::new(file));
        }
        if metadata.len() == 0 {
            return Err(empty());
        }
        // SAFETY: `Mmap::map` asks that the file is not changed while it is mapped. We map read-only and private to
        // this struct, hand out nothing but shared byte slices tied to its lifetime, copy out of them at once
        // (`BinFile::read`), and never form a reference to a type with invalid bit patterns, so a writer in another
        // process can give us other token ids, which are checked against the vocabulary, but no invalid value. A file
        // that is truncated while mapped raises SIGBUS on access beyond its new end. That ends the process; it does
        // not corrupt it. `still_whole` asks for the file's length before every batch and turns all but a race of
        // microseconds into an error.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| DataError::from_io(path, e))?;
        Ok(Self { path: path.to_owned(), file: Some(file), bytes: Bytes::Mapped(bytes) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }

    /// Says that bytes of the file are about to be read: of a large file they are fetched by the system while others
    /// are looked at, without what lies around them. A hint; that it is not taken changes nothing.
    pub(crate) fn will_read(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes
            && map.len() >= LARGE
        {
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Whether the file is still as long as it was at open: to be asked before its bytes are touched.
    pub(crate) fn still_whole(&self) -> Result<(), DataError> {
        let Some(file) = &self.file else { return Ok(()) };
        let now = file.metadata().map_err(|e| DataError::from_io(&self.path, e))?.len();
        let was = self.bytes().len() as u64;
        if now < was { Err(DataError::Shrunk { path: self.path.clone(), was, now }) } else { Ok(()) }
    }
}
