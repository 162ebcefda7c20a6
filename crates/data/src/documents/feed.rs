//! A stream of text with a beginning to look at: unpacked, its byte order mark taken off, made UTF-8, and refused by
//! name where it is no text at all.

use super::encoding::Converted;
use super::packing::{Counted, LARGE_WINDOW, Packing, unpack};
use super::{Encoding, Source};
use crate::DataError;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are looked at.
const HEAD: usize = 64 << 10;
/// Bytes that are asked of the system at a time.
const BUFFER: usize = 256 << 10;

/// What to do with a file that is no text.
pub const BINARY_HINT: &str = "name files of text, JSON Lines, CSV, TSV or Parquet, as they are or packed with gzip, \
                               Zstandard, xz or bzip2";

/// An unpacked stream of text.
pub struct Feed {
    name: String,
    packing: Packing,
    inner: Box<dyn Read + Send>,
    /// The beginning, read ahead; `at` bytes of it were handed out.
    head: Vec<u8>,
    at: usize,
    /// Bytes before the text: a mark of three, or none.
    mark: usize,
    consumed: Arc<AtomicU64>,
    window: u64,
    /// The file itself, where reading may begin anywhere: it is not packed.
    plain: Option<File>,
    /// What went wrong, said again to whoever goes on reading: a decoder may take its own failure for the end.
    failed: Option<(io::ErrorKind, String)>,
}

impl Feed {
    /// Opens a source at its beginning.
    ///
    /// # Errors
    /// It cannot be read, is packed in a way that is not read here, is in another encoding than said, or is no text.
    pub fn open(source: &Source) -> Result<Self, DataError> {
        let fail = |e: io::Error| DataError::from_io(Path::new(&source.name), e);
        let (file, plain): (Box<dyn Read + Send>, Option<File>) = match &source.path {
            None => (Box::new(io::stdin()), None),
            Some(path) => {
                let file = File::open(path).map_err(fail)?;
                let seeks = file.metadata().is_ok_and(|found| found.is_file());
                let again = if seeks { Some(file.try_clone().map_err(fail)?) } else { None };
                (Box::new(file), again)
            }
        };
        let consumed = Arc::new(AtomicU64::new(0));
        let counted: Box<dyn Read + Send> = Box::new(Counted::new(file, Arc::clone(&consumed)));
        let mut buffered = BufReader::with_capacity(BUFFER, counted);
        let packing = Packing::of(buffered.fill_buf().map_err(fail)?).map_err(|what| {
            let (source_name, hint) = (source.name.clone(), BINARY_HINT);
            DataError::Compressed { source_name, what: format!("is {what}"), hint }
        })?;
        let (inner, window) = unpack(packing, buffered).map_err(|e| damaged(&source.name, packing, &e))?;
        let plain = plain.filter(|_| packing == Packing::None);
        let mut feed = Self {
            name: source.name.clone(),
            packing,
            inner,
            head: Vec::new(),
            at: 0,
            mark: 0,
            consumed,
            window,
            plain,
            failed: None,
        };
        feed.look_ahead()?;
        match encoding_of(&feed.name, packing, &feed.head, source.encoding)? {
            None => feed.mark = mark_of(&feed.name, packing, &feed.head)?,
            Some((encoding, mark)) => {
                let rest = std::mem::replace(&mut feed.inner, Box::new(io::empty()));
                let head = io::Cursor::new(feed.head.split_off(mark));
                feed.inner = Box::new(Converted::new(head.chain(rest), encoding));
                feed.plain = None;
                feed.look_ahead()?;
            }
        }
        feed.at = feed.mark;
        Ok(feed)
    }

    fn look_ahead(&mut self) -> Result<(), DataError> {
        self.head.clear();
        let read = self.inner.by_ref().take(HEAD as u64).read_to_end(&mut self.head);
        read.map(|_| ()).map_err(|e| damaged(&self.name, self.packing, &e))
    }

    /// The beginning, without its mark.
    pub fn head(&self) -> &[u8] {
        &self.head[self.mark..]
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether unpacking it takes much memory.
    pub(crate) fn needs_much(&self) -> bool {
        self.window > LARGE_WINDOW
    }

    /// Goes on from `offset` bytes behind the mark; nothing was handed out yet.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), DataError> {
        assert_eq!(self.at, self.mark, "a place is chosen before anything is read");
        if offset == 0 {
            return Ok(());
        }
        if let Some(mut file) = self.plain.take() {
            let from = self.mark as u64 + offset;
            let length = file.metadata().and_then(|found| {
                file.seek(SeekFrom::Start(from))?;
                Ok(found.len())
            });
            let length = length.map_err(|e| DataError::from_io(Path::new(&self.name), e))?;
            if length < from {
                return Err(self.shorter(from));
            }
            self.consumed.store(from, Ordering::Relaxed);
            let counted: Box<dyn Read + Send> = Box::new(Counted::new(file, Arc::clone(&self.consumed)));
            (self.inner, self.head, self.at, self.mark) = (counted, Vec::new(), 0, 0);
            return Ok(());
        }
        let (mut left, mut sink) = (offset, vec![0; BUFFER]);
        while left > 0 {
            let most = sink.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read(&mut sink[..most])? {
                0 => return Err(self.shorter(offset)),
                read => left -= read as u64,
            }
        }
        Ok(())
    }

    fn shorter(&self, was: u64) -> DataError {
        DataError::Setting {
            what: format!("{} became shorter: {was} bytes of it were read before", self.name),
            hint: "leave sources alone until they are prepared; begin again with --restart".to_owned(),
        }
    }

    /// Reads what comes next; 0 bytes are the end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, DataError> {
        if self.at < self.head.len() {
            let count = out.len().min(self.head.len() - self.at);
            out[..count].copy_from_slice(&self.head[self.at..self.at + count]);
            self.at += count;
            if self.at == self.head.len() {
                (self.head, self.at, self.mark) = (Vec::new(), 0, 0);
            }
            return Ok(count);
        }
        if let Some((kind, words)) = &self.failed {
            return Err(damaged(&self.name, self.packing, &io::Error::new(*kind, words.clone())));
        }
        loop {
            match self.inner.read(out) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failed = Some((e.kind(), e.to_string()));
                    return Err(damaged(&self.name, self.packing, &e));
                }
                Ok(read) => return Ok(read),
            }
        }
    }

    /// Appends `count` bytes, or as many as there are; whether there may be more.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, count: usize) -> Result<bool, DataError> {
        /// What is made room for at a time: most files are small.
        const STEP: usize = 128 << 10;
        let end = out.len() + count;
        let ahead = (self.head.len() - self.at).min(count);
        out.extend_from_slice(&self.head[self.at..self.at + ahead]);
        self.at += ahead;
        if self.at == self.head.len() {
            (self.head, self.at, self.mark) = (Vec::new(), 0, 0);
        }
        while out.len() < end {
            let filled = out.len();
            out.resize((filled + STEP).min(end), 0);
            let read = self.read(&mut out[filled..]);
            out.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of the file that were read, as it lies on disk.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }
}

/// Whether a text begins like JSON Lines: an object on its first line.
pub(crate) fn looks_like_objects(head: &[u8]) -> bool {
    let first = head.split(|&b| b == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    first.trim_ascii().starts_with(b"{\"")
        && (first.len() == head.len() || first.trim_ascii().ends_with(b"}"))
}

fn damaged(name: &str, packing: Packing, error: &io::Error) -> DataError {
    if packing == Packing::None {
        return DataError::from_io(Path::new(name), io::Error::new(error.kind(), error.to_string()));
    }
    DataError::Compressed { source_name: name.to_owned(), what: error.to_string(), hint: packing.test() }
}

/// What a stream has to be converted from, and the bytes of its mark; nothing for UTF-8.
fn encoding_of(
    name: &str,
    packing: Packing,
    head: &[u8],
    said: Encoding,
) -> Result<Option<(Encoding, usize)>, DataError> {
    let marked = Encoding::marked(head);
    match (said, marked) {
        (Encoding::Auto, marked) => Ok(marked),
        (said, Some((found, mark))) if said == found => Ok(Some((said, mark))),
        (said, None) if !head.starts_with(b"\xef\xbb\xbf") => {
            if matches!(said, Encoding::Latin1 | Encoding::Windows1252) {
                mark_of(name, packing, head)?;
            }
            Ok(Some((said, 0)))
        }
        (said, marked) => Err(DataError::NoText {
            name: name.to_owned(),
            what: format!("begins with the mark of {}", marked.map_or("utf-8", |(found, _)| found.word())),
            hint: format!("leave --encoding {} out: the mark is recognised", said.word()),
        }),
    }
}

/// Bytes of the mark at the beginning of a UTF-8 text.
fn mark_of(name: &str, packing: Packing, head: &[u8]) -> Result<usize, DataError> {
    let refuse = |what: &str, hint: String| {
        Err(DataError::NoText { name: name.to_owned(), what: what.to_owned(), hint })
    };
    let convert = |from: &str| format!("convert it first: {}", packing.convert(name, from));
    let wide = |order: &str| {
        let (lower, from) = (order.to_lowercase(), convert(&format!("UTF-16{order}")));
        format!("say so: --encoding utf-16{lower}; or {from}")
    };
    match head {
        [0xef, 0xbb, 0xbf, ..] => return Ok(3),
        [0xff, 0xfe, 0, 0, ..] => return refuse("is UTF-32", convert("UTF-32")),
        _ => {}
    }
    if head.get(257..262) == Some(b"ustar") {
        return refuse("is a tar archive", "unpack it with tar -xf, and name the folder".to_owned());
    }
    for (magic, what) in [
        (&b"%PDF"[..], "is a PDF"),
        (b"\x89PNG", "is a picture"),
        (b"\xff\xd8\xff", "is a picture"),
        (b"\x7fELF", "is a program"),
        (b"SQLite format 3", "is an SQLite database"),
        (b"ARROW1", "is an Arrow file (write it as Parquet)"),
        (b"PAR1", "is Parquet, which cannot come packed or through a pipe"),
    ] {
        if head.starts_with(magic) {
            return refuse(what, BINARY_HINT.to_owned());
        }
    }
    // Latin letters in UTF-16 have a zero in every second byte.
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), head.len() / 2);
    if half >= 2 && odd * 5 > half * 2 && even * 20 < half {
        return refuse("looks like UTF-16 (every second byte is zero)", wide("LE"));
    }
    if half >= 2 && even * 5 > half * 2 && odd * 20 < half {
        return refuse("looks like UTF-16 (every second byte is zero)", wide("BE"));
    }
    let control = head.iter().filter(|&&b| b < 9 || (14..27).contains(&b) || (28..32).contains(&b)).count();
    if control * 10 > head.len() && std::str::from_utf8(&head[..head.len().min(1024)]).is_err() {
        return refuse("is no text", BINARY_HINT.to_owned());
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{Packing, mark_of};

    #[test]
    fn marks_are_taken_off_and_other_encodings_named() {
        assert_eq!(mark_of("a", Packing::None, b"\xef\xbb\xbfabc").unwrap(), 3);
        assert_eq!(mark_of("a", Packing::None, "naïve 日本語".as_bytes()).unwrap(), 0);
        assert_eq!(mark_of("a", Packing::None, b"").unwrap(), 0);
        assert_eq!(mark_of("a", Packing::None, b"caf\xe9 au lait").unwrap(), 0);
        let wide = |text: &str| text.bytes().flat_map(|b| [b, 0]).collect::<Vec<u8>>();
        let swapped = |text: &str| text.bytes().flat_map(|b| [0, b]).collect::<Vec<u8>>();
        for (bytes, word) in [
            (wide("some words"), "--encoding utf-16le; or convert it first: iconv -f UTF-16LE -t UTF-8 a"),
            (swapped("some words"), "--encoding utf-16be; or convert it first: iconv -f UTF-16BE"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
            (b"%PDF-1.7 ...".to_vec(), "PDF"),
            ((0..=255).cycle().take(4096).collect::<Vec<u8>>(), "no text"),
        ] {
            let error = mark_of("a", Packing::None, &bytes).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("hint: "), "{error}");
        }
        let packed = mark_of("a.gz", Packing::Gzip, &wide("some words")).unwrap_err().to_string();
        assert!(packed.contains("gzip -dc a.gz | iconv -f UTF-16LE -t UTF-8 > utf8.txt"), "{packed}");
    }
}
