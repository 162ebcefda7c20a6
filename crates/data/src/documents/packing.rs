//! Packed streams, recognised by their first bytes: gzip, Zstandard, xz and bzip2 are unpacked as they are read;
//! others are named with what unpacks them.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Not at all.
    None,
    /// `.gz`, also several members one after another.
    Gzip,
    /// `.zst`, also several frames.
    Zstd,
    /// `.xz`, also several streams.
    Xz,
    /// `.bz2`, also several streams.
    Bzip2,
}

/// What it takes to unpack is at most this; beyond it a file is refused. The largest presets stay below.
const MOST_WINDOW: u64 = 128 << 20;
const MOST_XZ_WINDOW: u64 = 64 << 20;
/// A window from which on a file counts as large ([`super::Limits::large`]).
pub(crate) const LARGE_WINDOW: u64 = 16 << 20;

const OTHERS: [(&[u8], &str); 7] = [
    (b"\x04\x22\x4d\x18", "LZ4: unpack it with unlz4"),
    (b"PK\x03\x04", "a ZIP archive: unpack it with unzip, and name the folder"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it with 7z x, and name the folder"),
    (b"\x5d\x00\x00", "the old LZMA format: unpack it with unlzma"),
    (b"\x1f\x9d", "the format of compress(1): unpack it with uncompress"),
    (b"Rar!", "a RAR archive: unpack it with unrar, and name the folder"),
    (b"LZIP", "lzip: unpack it with lzip -d"),
];

impl Packing {
    /// The packing whose first bytes these are; words for one that is not read.
    pub fn of(head: &[u8]) -> Result<Self, &'static str> {
        let is = |magic: &[u8]| head.starts_with(magic);
        if is(&[0x1f, 0x8b]) {
            return Ok(Self::Gzip);
        }
        // A skippable frame may come first.
        if is(&[0x28, 0xb5, 0x2f, 0xfd])
            || head.len() > 3 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]
        {
            return Ok(Self::Zstd);
        }
        if is(b"\xfd7zXZ\0") {
            return Ok(Self::Xz);
        }
        if is(b"BZh") && head.get(4..7).is_none_or(|block| block == b"1AY" || block == b"\x17\x72\x45") {
            return Ok(Self::Bzip2);
        }
        match OTHERS.iter().find(|(magic, _)| is(magic)) {
            Some((_, what)) => Err(what),
            None => Ok(Self::None),
        }
    }

    /// The name without the packing's extension.
    pub(crate) fn stem(name: &str) -> &str {
        let known = [".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2", ".bgz"];
        let cut = known.iter().find_map(|end| {
            let at = name.len().checked_sub(end.len())?;
            name.get(at..).filter(|tail| tail.eq_ignore_ascii_case(end)).map(|_| at)
        });
        &name[..cut.unwrap_or(name.len())]
    }

    /// The command that makes a file of it UTF-8.
    pub(crate) fn convert(self, name: &str, from: &str) -> String {
        let unpack = match self {
            Self::None => return format!("iconv -f {from} -t UTF-8 {name} > utf8.txt"),
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        };
        format!("{unpack} -dc {name} | iconv -f {from} -t UTF-8 > utf8.txt")
    }

    /// What tests a file of it.
    pub(crate) fn test(self) -> &'static str {
        match self {
            Self::None => "the file cannot be read",
            Self::Gzip => "the file is damaged or cut short; test it with gzip -t",
            Self::Zstd => "the file is damaged or cut short; test it with zstd -t",
            Self::Xz => "the file is damaged or cut short; test it with xz -t",
            Self::Bzip2 => "the file is damaged or cut short; test it with bzip2 -t",
        }
    }
}

/// A stream that counts what went through it.
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R, count: Arc<AtomicU64>) -> Self {
        Self { inner, count }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What comes out of a packed stream, and the bytes of its window as far as its beginning tells.
pub(crate) fn unpack(
    packing: Packing,
    mut from: BufReader<Box<dyn Read + Send>>,
) -> io::Result<(Box<dyn Read + Send>, u64)> {
    Ok(match packing {
        Packing::None => (Box::new(from), 0),
        Packing::Gzip => (Box::new(flate2::bufread::MultiGzDecoder::new(from)), 0),
        Packing::Bzip2 => (Box::new(bzip2::bufread::MultiBzDecoder::new(from)), 0),
        Packing::Xz => {
            let window = xz_window(from.fill_buf()?).unwrap_or(0);
            bounded(window, MOST_XZ_WINDOW)?;
            // The decoder's own bound is in KiB, and covers later blocks.
            let most = (MOST_XZ_WINDOW / 1024) as u32 + 1024;
            (Box::new(lzma_rust2::XzReader::new_mem_limit(from, true, most)), window)
        }
        Packing::Zstd => {
            let window = zstd_window(from.fill_buf()?).unwrap_or(0);
            bounded(window, MOST_WINDOW)?;
            (Box::new(Frames { from: Some(from), frame: None }), window)
        }
    })
}

fn bounded(window: u64, most: u64) -> io::Result<()> {
    if window <= most {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "needs {} MiB of memory to unpack, {} are the most; pack it again with a smaller window",
        window >> 20,
        most >> 20
    )))
}

/// The dictionary of the first block of an xz stream, bytes: behind a header of 12, in the last filter's properties.
fn xz_window(head: &[u8]) -> Option<u64> {
    let size = (usize::from(*head.get(12)?) + 1) * 4;
    let block = head.get(12..12 + size)?;
    // LZMA2 is filter 0x21 with one byte of properties.
    let at = block.windows(2).position(|pair| pair == [0x21, 0x01])?;
    let bits = u32::from(*block.get(at + 2)? & 0x3f);
    Some(if bits >= 40 { u64::from(u32::MAX) } else { u64::from(2 | bits & 1) << (bits / 2 + 11) })
}

/// The window of a Zstandard frame, bytes.
fn zstd_window(head: &[u8]) -> Option<u64> {
    if head.get(..4)? != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    let flags = *head.get(4)?;
    if flags & 0x20 == 0 {
        let descriptor = *head.get(5)?;
        let base = 1u64 << (10 + u32::from(descriptor >> 3));
        return Some(base + base / 8 * u64::from(descriptor & 7));
    }
    // A single segment: its window is its content.
    let at = 5 + [0, 1, 2, 4][usize::from(flags & 3)];
    let width = [1, 2, 4, 8][usize::from(flags >> 6)];
    let mut size = [0; 8];
    size[..width].copy_from_slice(head.get(at..at + width)?);
    Some(u64::from_le_bytes(size) + if width == 2 { 256 } else { 0 })
}

type Bytes = BufReader<Box<dyn Read + Send>>;
type Frame = ruzstd::decoding::StreamingDecoder<Bytes, ruzstd::decoding::FrameDecoder>;

/// Zstandard frames one after another (`cat a.zst b.zst`), skippable ones between them.
struct Frames {
    from: Option<Bytes>,
    frame: Option<Box<Frame>>,
}

impl Read for Frames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
                check_sum(frame)?;
                self.from = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(mut from) = self.from.take() else { return Ok(0) };
            skip_skippable(&mut from)?;
            if from.fill_buf()?.is_empty() {
                return Ok(0);
            }
            if let Some(window) = zstd_window(from.fill_buf()?) {
                bounded(window, MOST_WINDOW)?;
            }
            let frame = Frame::new_with_max_window_size(from, MOST_WINDOW).map_err(io::Error::other)?;
            self.frame = Some(Box::new(frame));
        }
    }
}

fn check_sum(frame: &Frame) -> io::Result<()> {
    match (frame.decoder.get_checksum_from_data(), frame.decoder.get_calculated_checksum()) {
        (Some(said), Some(found)) if said != found => Err(io::Error::other("a checksum does not match")),
        _ => Ok(()),
    }
}

fn skip_skippable(from: &mut Bytes) -> io::Result<()> {
    loop {
        let head = from.fill_buf()?;
        let skippable = head.len() >= 8 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
        if !skippable {
            return Ok(());
        }
        let size = u64::from(u32::from_le_bytes(head[4..8].try_into().expect("four bytes"))) + 8;
        io::copy(&mut from.by_ref().take(size), &mut io::sink())?;
    }
}
