//! A prepared data set: a header and an array of pixels, memory-mapped.
//!
//! ```text
//!   "isoflop images 1\n"   17 bytes
//!   length of the header   u64, little-endian
//!   header                 JSON: side, channels, splits with classes and their counts, fingerprint
//!   zeros                  up to a multiple of 64
//!   pixels                 u8 [n, side, side, channels], split by split, class by class
//! ```

use crate::DataError;
use crate::episodes::EpisodeClass;
use crate::map::Map;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) const MAGIC: &[u8; 17] = b"isoflop images 1\n";
/// The pixels begin at a multiple of this.
const ALIGN: usize = 64;

/// What a prepared set says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Pixels of a side.
    pub side: usize,
    /// Channels, 1 or 3.
    pub channels: usize,
    /// Splits with their classes.
    pub splits: Vec<SplitHeader>,
    /// SHA-256 over what the set was made of: names and lengths of the files, and how they were prepared.
    pub fingerprint: String,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitHeader {
    /// Its name.
    pub name: String,
    /// Name and number of pictures of each class.
    pub classes: Vec<(String, usize)>,
}

impl Header {
    fn image(&self) -> usize {
        self.side * self.side * self.channels
    }

    fn images(&self) -> usize {
        self.splits.iter().flat_map(|split| &split.classes).map(|(_, count)| count).sum()
    }

    /// Bytes of all pixels, unless a damaged header asks for more than there can be.
    fn pixels(&self) -> Option<usize> {
        let each = self.side.checked_mul(self.side)?.checked_mul(self.channels)?;
        let mut counts = self.splits.iter().flat_map(|split| &split.classes).map(|(_, count)| *count);
        counts.try_fold(0usize, usize::checked_add)?.checked_mul(each)
    }

    /// What comes before the pixels.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a header is plain data");
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }
}

/// Where the bytes of a set are.
#[derive(Debug)]
enum Bytes {
    Mapped(Map),
    Held { name: &'static str, bytes: Vec<u8> },
}

impl Bytes {
    fn name(&self) -> String {
        match self {
            Self::Mapped(map) => map.path().display().to_string(),
            Self::Held { name, .. } => format!("the set `{name}`"),
        }
    }

    /// All of them. To be asked for before each use: a mapped file may have become shorter.
    fn whole(&self) -> Result<&[u8], DataError> {
        match self {
            Self::Mapped(map) => map.still_whole().map(|()| map.bytes()),
            Self::Held { bytes, .. } => Ok(bytes),
        }
    }
}

/// An open set.
#[derive(Debug)]
pub struct ImageSet {
    bytes: Bytes,
    header: Header,
    first: usize,
    inverted: bool,
}

impl ImageSet {
    /// Opens what [`super::prepare()`] made.
    ///
    /// # Errors
    /// Missing, not such a file, cut short.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let map = Map::open(path)?;
        let (header, first) = read_header(map.bytes()).map_err(|what| DataError::Image {
            path: path.to_owned(),
            what,
            hint: "prepare the pictures again".into(),
        })?;
        Ok(Self { bytes: Bytes::Mapped(map), header, first, inverted: false })
    }

    /// A set whose file is held in memory.
    pub(super) fn held(name: &'static str, bytes: Vec<u8>) -> Result<Self, String> {
        let (header, first) = read_header(&bytes)?;
        Ok(Self { bytes: Bytes::Held { name, bytes }, header, first, inverted: false })
    }

    /// The same pictures with light and dark exchanged.
    pub fn inverted(self) -> Self {
        Self { inverted: !self.inverted, ..self }
    }

    /// Pixels of a side.
    pub fn side(&self) -> usize {
        self.header.side
    }

    /// Channels, 1 or 3.
    pub fn channels(&self) -> usize {
        self.header.channels
    }

    /// Pictures of all splits.
    pub fn images(&self) -> usize {
        self.header.images()
    }

    /// What the set says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The classes of a split with the numbers of their pictures.
    ///
    /// # Errors
    /// [`DataError::Setting`] if there is no such split.
    pub fn classes(&self, split: &str) -> Result<Vec<EpisodeClass>, DataError> {
        let mut first = 0;
        for of in &self.header.splits {
            let mut classes = Vec::new();
            for (name, count) in &of.classes {
                classes.push(EpisodeClass { name: name.clone(), images: first..first + count });
                first += count;
            }
            if of.name == split {
                return Ok(classes);
            }
        }
        let names: Vec<&str> = self.header.splits.iter().map(|split| split.name.as_str()).collect();
        Err(DataError::Setting {
            what: format!("{} has no split `{split}`", self.bytes.name()),
            hint: format!("one of {}", names.join(", ")),
        })
    }

    /// Pixels `[side,side,channels]` of picture `index`, as f32 from 0 to 1.
    ///
    /// # Errors
    /// [`DataError::Shrunk`] if the file became shorter. Panics if there is no such picture.
    pub fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let each = self.header.image();
        assert!(index < self.images() && out.len() == each, "picture {index} does not fit");
        let bytes = &self.bytes.whole()?[self.first + index * each..][..each];
        let flip = if self.inverted { 255 } else { 0 };
        bytes.iter().zip(out).for_each(|(&byte, out)| *out = f32::from(byte ^ flip) / 255.0);
        Ok(())
    }
}

fn read_header(bytes: &[u8]) -> Result<(Header, usize), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not a prepared set of pictures")?;
    let (length, rest) = rest.split_first_chunk().ok_or("cut short")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())?;
    let json = rest.get(..length).ok_or("cut short")?;
    let header: Header =
        serde_json::from_slice(json).map_err(|e| format!("its header does not parse: {e}"))?;
    let first = (MAGIC.len() + 8 + length).next_multiple_of(ALIGN);
    let whole = header.pixels().and_then(|n| n.checked_add(first));
    if whole != Some(bytes.len()) {
        return Err(format!(
            "{} bytes where its header asks for {}",
            bytes.len(),
            whole.unwrap_or(usize::MAX)
        ));
    }
    Ok((header, first))
}
