//! How a file's tokens are stored: recognised by its header, by what lies beside it, by its size, and by statistics.
//!
//! Raw tokens say nothing of themselves, and any file is a file of `u16` if it is read as one. What is certain is
//! read: NumPy's `.npy`, llm.c's headers, a count before the tokens, Megatron's index beside them, raw `u32` whose
//! upper halves are next to nothing. What is surely something else (text, an archive, compressed, the other byte
//! order) is refused, with what says otherwise.

use crate::DataError;
use crate::tokenizer::{GPT2_VOCAB, LLAMA3_VOCAB};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// Bytes of an llm.c header: 256 `i32`.
const HEADER_BYTES: usize = 1024;
/// llm.c's data magics, from its `dev/data/data_common.py`: GPT-2 (version 1, u16) and Llama 3 (version 7, u32).
const LLMC_GPT2: i32 = 20_240_520;
const LLMC_LLAMA3: i32 = 20_240_801;
/// Its other files, which hold no stream of tokens.
const LLMC_OTHERS: [(i32, &str); 3] =
    [(20_240_522, "evaluation"), (20_240_326, "model"), (20_240_327, "optimiser state")];

/// Least tokens for which a number before them that counts them is no accident.
const LEAST_COUNTED: u64 = 1024;
/// Least pairs of words for statistics.
const LEAST_PAIRS: usize = 16;
/// Places of this many bytes that statistics look at.
const PLACE_BYTES: usize = 4096;
const PLACES: usize = 64;

/// How wide a token is; signed numbers of the same width are read alike, since no id is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDtype {
    /// One byte.
    #[serde(alias = "uint8")]
    U8,
    /// Two bytes, vocabularies up to 65,536.
    #[serde(alias = "uint16", alias = "int16", alias = "i16")]
    U16,
    /// Four bytes.
    #[serde(alias = "uint32", alias = "int32", alias = "i32")]
    U32,
    /// Eight bytes.
    #[serde(alias = "uint64", alias = "int64", alias = "i64")]
    U64,
}

impl TokenDtype {
    /// All of them, narrowest first.
    pub const ALL: [Self; 4] = [Self::U8, Self::U16, Self::U32, Self::U64];

    /// Bytes of a token.
    pub fn width(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }

    /// `u16`, `u32`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    fn of_width(width: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.width() == width)
    }
}

/// Where the tokens of a file are, and what it says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: TokenDtype,
    /// Bytes before the first token.
    pub(crate) offset: usize,
    /// Tokens the file says it holds; only the low 32 bits where `wraps`.
    pub(crate) tokens: Option<u64>,
    /// llm.c counts in an `i32`, which wraps above 2^31 tokens.
    pub(crate) wraps: bool,
    /// Symbols in the vocabulary.
    pub(crate) vocab: Option<usize>,
    /// What it was recognised by.
    pub(crate) by: &'static str,
}

/// How a file's tokens are stored; `None` if nothing is known, hence raw tokens of the usual width.
///
/// `said` is the width that the user or the sidecar gives: then nothing is inferred from statistics.
///
/// # Errors
/// Surely no tokens, or not as they are said to be.
pub(crate) fn recognised(
    path: &Path,
    bytes: &[u8],
    said: Option<TokenDtype>,
) -> Result<Option<Layout>, DataError> {
    let found = match npy(path, bytes)? {
        Some(layout) => Some(layout),
        None => {
            foreign(path, bytes)?;
            match llmc(path, bytes)? {
                Some(layout) => Some(layout),
                None => counted(bytes, said).or(megatron(path)?),
            }
        }
    };
    match (found, said) {
        (Some(layout), Some(said)) if layout.dtype != said => {
            let what = format!("its {} says {}, not {}", layout.by, layout.dtype.name(), said.name());
            Err(DataError::Header { path: path.to_owned(), what })
        }
        (Some(layout), _) => Ok(Some(layout)),
        (None, Some(_)) => Ok(None),
        (None, None) => by_statistics(path, bytes),
    }
}

fn refused(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> DataError {
    DataError::NoTokens { path: path.to_owned(), what: what.into(), hint: hint.into() }
}

/// Files of other kinds, by their first bytes.
fn foreign(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let kinds: [(&[u8], &str, &str); 12] = [
        (
            b"PK\x03\x04",
            "a ZIP archive (NumPy's .npz, PyTorch's .pt)",
            "save the array alone: np.save(\"tokens.npy\", ids)",
        ),
        // With its method, of which there is one: two bytes alone are a token.
        (b"\x1f\x8b\x08", "compressed with gzip", "decompress it first: gunzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "decompress it first: unzstd"),
        (b"BZh", "compressed with bzip2", "decompress it first: bunzip2"),
        (b"\xfd7zXZ\0", "compressed with xz", "decompress it first: unxz"),
        (b"\x04\x22\x4d\x18", "compressed with LZ4", "decompress it first: unlz4"),
        (b"PAR1", "a Parquet table", "write its ids one after another: np.save(\"tokens.npy\", ids)"),
        (b"ARROW1", "an Arrow table", "write its ids one after another: np.save(\"tokens.npy\", ids)"),
        (
            b"\x89HDF\r\n\x1a\n",
            "an HDF5 file",
            "write its ids one after another: np.save(\"tokens.npy\", ids)",
        ),
        (b"MMIDIDX\0\0", "the index of a Megatron dataset", "name the .bin file beside it"),
        (b"GGUF", "a GGUF model", "name a file of tokens"),
        (b"\x80\x04\x95", "a Python pickle", "save the array alone: np.save(\"tokens.npy\", ids)"),
    ];
    match kinds.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        Some((_, what, hint)) => Err(refused(path, format!("is {what}, not a file of tokens"), *hint)),
        None => Ok(()),
    }
}

/// NumPy's format: magic, version, length of the header, a Python dictionary of type, order and shape.
/// Source: numpy.org, "NEP 1: A simple file format for NumPy arrays".
fn npy(path: &Path, bytes: &[u8]) -> Result<Option<Layout>, DataError> {
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else { return Ok(None) };
    let fail = |what: String| {
        let hint = format!(
            "save one row of whole numbers: np.save(\"tokens.npy\", np.load(\"{}\").astype(\"<u4\").ravel())",
            path.display()
        );
        refused(path, what, hint)
    };
    let cut = || fail("is a NumPy file whose header is cut short".to_owned());
    let (length, start) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
        [version, ..] if *version > 3 => {
            return Err(fail(format!("is a NumPy file of version {version}, which is not known")));
        }
        _ => return Err(cut()),
    };
    let offset = start + length;
    let header = bytes.get(start..offset).and_then(|h| std::str::from_utf8(h).ok()).ok_or_else(cut)?;
    let value = |key: &str| {
        let (_, after) = header.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    let quoted = |v: &str| v.strip_prefix('\'')?.split_once('\'').map(|(t, _)| t.to_owned());
    let descr =
        value("descr").and_then(quoted).ok_or_else(|| fail("is a NumPy file of records".to_owned()))?;
    let dtype = match descr.as_str() {
        "|u1" | "<u1" => TokenDtype::U8,
        "<u2" | "<i2" => TokenDtype::U16,
        "<u4" | "<i4" => TokenDtype::U32,
        "<u8" | "<i8" => TokenDtype::U64,
        other if other.starts_with('>') => {
            return Err(fail(format!("is a NumPy file in the other byte order (`{other}`)")));
        }
        other => return Err(fail(format!("is a NumPy file of `{other}`, not of whole numbers"))),
    };
    let shape =
        value("shape").and_then(|v| v.strip_prefix('(')?.split_once(')').map(|(s, _)| s)).ok_or_else(cut)?;
    let sides: Option<Vec<u64>> =
        shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect();
    let sides = sides.ok_or_else(cut)?;
    let tokens = sides.iter().try_fold(1_u64, |all, side| all.checked_mul(*side)).ok_or_else(cut)?;
    let long = sides.iter().filter(|s| **s > 1).count();
    if long > 1 && !value("fortran_order").is_some_and(|v| v.starts_with("False")) {
        return Err(fail("is a NumPy file in column order: its tokens do not follow each other".to_owned()));
    }
    Ok(Some(Layout { dtype, offset, tokens: Some(tokens), wraps: false, vocab: None, by: "NumPy header" }))
}

/// llm.c's header of 256 `i32`: magic, version, tokens. Read as `u16` tokens its magic would be id 55,432, which no
/// GPT-2 file holds, and as a `u32` token 20 million.
fn llmc(path: &Path, bytes: &[u8]) -> Result<Option<Layout>, DataError> {
    let word =
        |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")));
    let fail = |what: String| DataError::Header { path: path.to_owned(), what };
    let layout = |dtype, vocab| Layout {
        dtype,
        offset: HEADER_BYTES,
        tokens: Some(u64::from(word(2).unwrap_or(0) as u32)),
        wraps: true,
        vocab,
        by: "llm.c header",
    };
    let Some(magic) = word(0) else { return Ok(None) };
    if let Some((_, kind)) = LLMC_OTHERS.iter().find(|(m, _)| *m == magic) {
        let what = format!("is an llm.c {kind} file, not a stream of tokens");
        return Err(refused(
            path,
            what,
            "name a file that its dev/data scripts wrote, e.g. fineweb_val_000000.bin",
        ));
    }
    let (dtype, vocab, version) = match magic {
        LLMC_GPT2 => (TokenDtype::U16, GPT2_VOCAB, 1),
        LLMC_LLAMA3 => (TokenDtype::U32, LLAMA3_VOCAB, 7),
        _ => return Ok(like_llmc(bytes).map(|dtype| layout(dtype, None))),
    };
    if bytes.len() < HEADER_BYTES {
        return Err(fail(format!("has llm.c's magic, but only {} of its 1024 header bytes", bytes.len())));
    }
    match word(1) {
        Some(v) if v == version => Ok(Some(layout(dtype, Some(vocab)))),
        v => Err(fail(format!("llm.c header of version {}, not {version}", v.unwrap_or(0)))),
    }
}

/// The same header with another magic, as derived projects write: 253 zeros and a count that is the file's size.
fn like_llmc(bytes: &[u8]) -> Option<TokenDtype> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let count = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    let blank = header[12..].iter().all(|b| *b == 0);
    let width = (body.len() as u64)
        .checked_div(u64::from(count))
        .filter(|w| w * u64::from(count) == body.len() as u64)?;
    TokenDtype::of_width(width).filter(|_| blank && count > 0)
}

/// A count of the tokens before them, in four or eight bytes. A first token may happen to be such a number: of another
/// width than the file's, which what follows it gives away, or of the same, and then nothing tells the two apart and
/// the count is by far the likelier.
fn counted(bytes: &[u8], said: Option<TokenDtype>) -> Option<Layout> {
    let narrow =
        bytes.get(..4).map(|b| (4, u64::from(u32::from_le_bytes(b.try_into().expect("four bytes")))));
    let wide = bytes.get(..8).map(|b| (8, u64::from_le_bytes(b.try_into().expect("eight bytes"))));
    let of = |(offset, count): (usize, u64)| {
        let body = (bytes.len() - offset) as u64;
        let dtype = TokenDtype::of_width(body.checked_div(count)?)?;
        let exact = dtype.width().checked_mul(count) == Some(body) && count >= LEAST_COUNTED;
        let layout = Layout {
            dtype,
            offset,
            tokens: Some(count),
            wraps: false,
            vocab: None,
            by: "count before its tokens",
        };
        let fits = || !Words::of(&bytes[offset..]).refute(dtype);
        (exact && said.is_none_or(|s| s == dtype) && fits()).then_some(layout)
    };
    wide.and_then(of).or_else(|| narrow.and_then(of))
}

/// Megatron's (and GPT-NeoX's) `.idx` beside a `.bin`: magic, version in eight bytes, code of the type.
/// Source: megatron/core/datasets/indexed_dataset.py.
fn megatron(path: &Path) -> Result<Option<Layout>, DataError> {
    let index = path.with_extension("idx");
    let Ok(file) = std::fs::File::open(&index) else { return Ok(None) };
    let mut head = Vec::new();
    if file.take(18).read_to_end(&mut head).is_err() || head.len() < 18 || !head.starts_with(b"MMIDIDX\0\0") {
        return Ok(None);
    }
    let dtype = match head[17] {
        1 => TokenDtype::U8,
        3 | 8 => TokenDtype::U16,
        4 => TokenDtype::U32,
        5 => TokenDtype::U64,
        code => {
            let what =
                format!("its index {} gives it type {code}, which holds no token ids", index.display());
            return Err(refused(path, what, "write the dataset again with ids of int32 or uint16"));
        }
    };
    Ok(Some(Layout { dtype, offset: 0, tokens: None, wraps: false, vocab: None, by: "Megatron index" }))
}

/// What the bytes themselves give away.
fn by_statistics(path: &Path, bytes: &[u8]) -> Result<Option<Layout>, DataError> {
    let say =
        "say what it is with dtype (in the study's [data], with --dtype, or in the JSON file beside it)";
    if is_text(bytes) {
        let hint =
            format!("give text to a study as text = \"{}\"; if these are tokens, {say}", path.display());
        return Err(refused(path, "holds text, not token ids", hint));
    }
    let words = Words::of(bytes);
    let raw = |dtype| Layout {
        dtype,
        offset: 0,
        tokens: None,
        wraps: false,
        vocab: None,
        by: "every second 16-bit word",
    };
    if words.pairs < LEAST_PAIRS {
        return Ok(None);
    }
    if words.wide(4) && bytes.len().is_multiple_of(8) {
        return Ok(Some(raw(TokenDtype::U64)));
    }
    if words.wide(2) && bytes.len().is_multiple_of(4) {
        return Ok(Some(raw(TokenDtype::U32)));
    }
    if words.swapped() {
        let hint = format!(
            "turn them: np.fromfile(\"{}\", \">u2\").astype(\"<u2\").tofile(…); if they are right, {say}",
            path.display()
        );
        return Err(refused(path, "seems to hold 16-bit tokens in the other byte order", hint));
    }
    Ok(None)
}

/// What is seen of the 16-bit words of a file.
#[derive(Default)]
struct Words {
    pairs: usize,
    /// Largest word at each place of four.
    most: [u16; 4],
    words: usize,
    /// Words whose low, whose high byte is below 16.
    low_small: usize,
    high_small: usize,
}

impl Words {
    fn of(bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        let step = (bytes.len() / PLACES).max(PLACE_BYTES) & !7;
        for start in (0..bytes.len()).step_by(step) {
            let place = &bytes[start..bytes.len().min(start + PLACE_BYTES)];
            for (i, b) in place.chunks_exact(2).enumerate() {
                let word = u16::from_le_bytes([b[0], b[1]]);
                seen.most[i % 4] = seen.most[i % 4].max(word);
                seen.words += 1;
                seen.low_small += usize::from(b[0] < 16);
                seen.high_small += usize::from(b[1] < 16);
            }
            seen.pairs += place.len() / 4;
        }
        seen
    }

    /// Whether these are numbers of `span` words: the first of each varies, the second holds what little a vocabulary
    /// has beyond 65,536 (at most a million symbols), the others nothing.
    fn wide(&self, span: usize) -> bool {
        let place = |k: usize| (0..4).filter(move |i| i % span == k).map(|i| self.most[i]).max().unwrap_or(0);
        place(0) > 15 && place(1) <= 15 && (2..span).all(|k| place(k) == 0)
    }

    /// Whether these cannot be numbers of that width: those that were to be narrow are wider ones, every other wide one
    /// is zero, or the widest hold what is beyond a `u32`.
    fn refute(&self, dtype: TokenDtype) -> bool {
        self.pairs >= LEAST_PAIRS
            && match dtype {
                TokenDtype::U8 | TokenDtype::U16 => self.wide(2) || self.wide(4),
                TokenDtype::U32 => self.most[..2] == [0, 0] || self.most[2..] == [0, 0],
                TokenDtype::U64 => self.most[2..] != [0, 0],
            }
    }

    /// Whether the byte that should be the lower one is the one that is mostly small, as the upper byte of frequent ids
    /// is.
    fn swapped(&self) -> bool {
        let share = |count: usize| count as f64 / self.words as f64;
        self.words >= 1024 && share(self.low_small) > 0.5 && share(self.high_small) < 0.2
    }
}

/// Whether the first bytes are UTF-8 text of printable characters.
fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(PLACE_BYTES)];
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut at the end.
        Err(e) if start.len() - e.valid_up_to() < 4 => {
            std::str::from_utf8(&start[..e.valid_up_to()]).unwrap_or("")
        }
        Err(_) => return false,
    };
    valid.len() >= 64 && valid.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}
