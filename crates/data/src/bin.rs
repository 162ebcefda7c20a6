//! Token files: raw little-endian `u16` or `u32`, as nanoGPT writes, memory-mapped.
//!
//! Two things may stand beside or before the tokens. A JSON sidecar `FILE.json` ([`Sidecar`]) says how the file was made.
//! A header of 256 little-endian `i32`, as llm.c writes, is recognised by its magic: read as `u16` tokens the magic would be
//! id 55,432, which no GPT-2 file holds, and as a `u32` token 20 million.
//!
//! Opening costs the same for any size: length, header, sidecar, and a sample of the ids.

use crate::map::Map;
use crate::{DataError, TokenizerKind, Tokens, read_checked};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Symbols of GPT-2's vocabulary: what a `u16` file without a sidecar is taken to hold, as nanoGPT's are.
pub const GPT2_VOCAB: usize = 50_257;

/// Bytes of an llm.c header: 256 `i32`.
const HEADER_BYTES: usize = 1024;
/// llm.c's data magics, from its `dev/data/data_common.py`: GPT-2 (version 1, u16) and Llama 3 (version 7, u32).
const LLMC_GPT2: i32 = 20_240_520;
const LLMC_LLAMA3: i32 = 20_240_801;
const LLAMA3_VOCAB: usize = 128_256;

/// Samples of this many tokens, this many of them, stand for a file too large to read.
const SAMPLE_TOKENS: u64 = 4096;
const SAMPLES: u64 = 64;

/// How wide a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDtype {
    /// Two bytes, vocabularies up to 65,536.
    U16,
    /// Four bytes.
    U32,
}

impl TokenDtype {
    /// Bytes of a token.
    pub fn width(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    /// `u16`, `u32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U16 => "u16",
            Self::U32 => "u32",
        }
    }
}

/// How much of a file's ids is compared with the vocabulary when it is opened. Every batch is compared anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// 64 places spread over the file, its first and last tokens among them.
    #[default]
    Sample,
    /// All of it: reads the file once.
    Full,
    /// None.
    Off,
}

/// What is known of a token file besides its bytes. What is given here wins over the sidecar.
#[derive(Debug, Clone, Default)]
pub struct BinOptions {
    /// Width of a token; else the sidecar's; else `u16`.
    pub dtype: Option<TokenDtype>,
    /// Symbols in the vocabulary; else the sidecar's; else GPT-2's for `u16`.
    pub vocab: Option<usize>,
    /// Mean bytes of text per token; else from the sidecar.
    pub bytes_per_token: Option<f64>,
    /// Ids to check at open.
    pub scan: Scan,
}

/// The JSON file beside a token file, `train.bin.json` beside `train.bin`. Every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sidecar {
    /// `gpt2`, `bytes`, or any name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// SHA-256 of the `tokenizer.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// Symbols in the vocabulary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// `u16` or `u32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<TokenDtype>,
    /// Tokens in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Bytes of text they were made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_bytes: Option<u64>,
    /// SHA-256 of that text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Mean bytes of text per token; else `source_bytes / tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_token: Option<f64>,
}

impl Sidecar {
    /// Where the sidecar of a token file lies.
    pub fn path_of(bin: &Path) -> PathBuf {
        let mut name = bin.as_os_str().to_owned();
        name.push(".json");
        PathBuf::from(name)
    }

    fn read(bin: &Path) -> Result<Self, DataError> {
        let path = Self::path_of(bin);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|e| DataError::Sidecar { path, what: format!("not a sidecar: {e}") }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(DataError::from_io(&path, e)),
        }
    }
}

/// An open token file.
#[derive(Debug)]
pub struct BinFile {
    map: Map,
    name: String,
    dtype: TokenDtype,
    /// Bytes before the first token.
    offset: usize,
    tokens: u64,
    vocab: usize,
    tokenizer: TokenizerKind,
    bytes_per_token: Option<f64>,
}

impl BinFile {
    /// Maps a token file and checks what can be checked without reading it.
    ///
    /// # Errors
    /// Missing, empty, a directory, not readable, no whole number of tokens, a header or sidecar that contradicts the file,
    /// an unknown vocabulary, a sampled id beyond it.
    pub fn open(path: &Path, options: &BinOptions) -> Result<Self, DataError> {
        let map = Map::open(path)?;
        let sidecar = Sidecar::read(path)?;
        let header = Header::find(&map)?;
        let dtype =
            header.as_ref().map(|h| h.dtype).or(options.dtype).or(sidecar.dtype).unwrap_or(TokenDtype::U16);
        if let (Some(asked), Some(h)) = (options.dtype, &header)
            && asked != h.dtype
        {
            let what = format!("its llm.c header says {}, not {}", h.dtype.name(), asked.name());
            return Err(DataError::Header { path: path.to_owned(), what });
        }
        let offset = header.as_ref().map_or(0, |_| HEADER_BYTES);
        let tokens = count_tokens(&map, offset, dtype)?;
        check_count(path, tokens, header.as_ref(), &sidecar)?;
        let known = options.vocab.or(sidecar.vocab).or(header.as_ref().map(|h| h.vocab));
        let vocab = match (known, dtype) {
            (Some(vocab), _) => vocab,
            (None, TokenDtype::U16) => GPT2_VOCAB,
            (None, TokenDtype::U32) => {
                let sidecar = Sidecar::path_of(path);
                return Err(DataError::UnknownVocab { path: path.to_owned(), sidecar });
            }
        };
        if vocab == 0 {
            let hint = "give the number of symbols, e.g. 50257".to_owned();
            return Err(DataError::Setting { what: format!("{}: a vocabulary of 0", path.display()), hint });
        }
        let tokenizer = TokenizerKind::of_file(&sidecar, vocab);
        let bytes_per_token = bytes_per_token(options, &sidecar, &tokenizer, tokens);
        let name = path.display().to_string();
        let file = Self { map, name, dtype, offset, tokens, vocab, tokenizer, bytes_per_token };
        file.scan(options.scan)?;
        Ok(file)
    }

    /// Width of a token.
    pub fn dtype(&self) -> TokenDtype {
        self.dtype
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// How its text became tokens, as far as known.
    pub fn tokenizer(&self) -> &TokenizerKind {
        &self.tokenizer
    }

    /// Mean bytes of text per token, if known.
    pub fn bytes_per_token(&self) -> Option<f64> {
        self.bytes_per_token
    }

    /// SHA-256 of the file's bytes if it has at most 16 MiB, else of its length and 64 sampled places; and which of the two.
    pub fn fingerprint(&self) -> (String, &'static str) {
        const WHOLE: usize = 16 << 20;
        let bytes = self.map.bytes();
        let mut hash = Sha256::new();
        if bytes.len() <= WHOLE {
            hash.update(bytes);
            return (crate::corpus::hex(&hash.finalize()), "whole file");
        }
        hash.update((bytes.len() as u64).to_le_bytes());
        for (start, count) in self.samples() {
            hash.update(&self.map.bytes()[self.byte_range(start, count)]);
        }
        (crate::corpus::hex(&hash.finalize()), "length and 64 sampled places of 4096 tokens")
    }

    /// (first token, tokens) of the places that stand for the whole file.
    fn samples(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let length = self.tokens.min(SAMPLE_TOKENS);
        let room = self.tokens - length;
        let count = self.tokens.div_ceil(SAMPLE_TOKENS).min(SAMPLES);
        (0..count).map(move |i| {
            // u128: a token count times 64 may exceed u64 only in theory, but costs nothing to rule out.
            let start = u128::from(room) * u128::from(i) / u128::from((count - 1).max(1));
            (start as u64, length as usize)
        })
    }

    fn scan(&self, scan: Scan) -> Result<(), DataError> {
        let mut ids = vec![0; SAMPLE_TOKENS as usize];
        match scan {
            Scan::Off => Ok(()),
            Scan::Sample => {
                self.samples().try_for_each(|(start, count)| read_checked(self, start, &mut ids[..count]))
            }
            Scan::Full => (0..self.tokens).step_by(SAMPLE_TOKENS as usize).try_for_each(|start| {
                let count = (self.tokens - start).min(SAMPLE_TOKENS) as usize;
                read_checked(self, start, &mut ids[..count])
            }),
        }
    }

    fn byte_range(&self, start: u64, count: usize) -> std::ops::Range<usize> {
        assert!(start + count as u64 <= self.tokens, "tokens {start}+{count} of {}", self.tokens);
        let width = self.dtype.width() as usize;
        let first = self.offset + start as usize * width;
        first..first + count * width
    }
}

impl Tokens for BinFile {
    fn len(&self) -> u64 {
        self.tokens
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        let bytes = &self.map.bytes()[self.byte_range(start, out.len())];
        match self.dtype {
            TokenDtype::U16 => {
                for (id, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *id = u32::from(u16::from_le_bytes([b[0], b[1]]));
                }
            }
            TokenDtype::U32 => {
                for (id, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *id = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
        }
    }

    fn check_source(&self) -> Result<(), DataError> {
        self.map.still_whole()
    }
}

/// What an llm.c header says.
struct Header {
    dtype: TokenDtype,
    vocab: usize,
    tokens: i32,
}

impl Header {
    fn find(map: &Map) -> Result<Option<Self>, DataError> {
        let bytes = map.bytes();
        let word = |i: usize| {
            bytes.get(4 * i..4 * i + 4).map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")))
        };
        let (dtype, vocab, version) = match word(0) {
            Some(LLMC_GPT2) => (TokenDtype::U16, GPT2_VOCAB, 1),
            Some(LLMC_LLAMA3) => (TokenDtype::U32, LLAMA3_VOCAB, 7),
            _ => return Ok(None),
        };
        let fail = |what: String| DataError::Header { path: map.path().to_owned(), what };
        if bytes.len() < HEADER_BYTES {
            return Err(fail(format!(
                "has llm.c's magic, but only {} of its 1024 header bytes",
                bytes.len()
            )));
        }
        match word(1) {
            Some(v) if v == version => {}
            v => return Err(fail(format!("llm.c header of version {}, not {version}", v.unwrap_or(0)))),
        }
        Ok(Some(Self { dtype, vocab, tokens: word(2).unwrap_or(0) }))
    }
}

fn count_tokens(map: &Map, offset: usize, dtype: TokenDtype) -> Result<u64, DataError> {
    let (bytes, width) = ((map.bytes().len() - offset) as u64, dtype.width());
    let path = map.path().to_owned();
    if bytes == 0 {
        return Err(DataError::Empty { path, hint: "it has a header but no tokens; write it again".into() });
    }
    if !bytes.is_multiple_of(width) {
        return Err(DataError::OddSize { path, bytes, width, dtype: dtype.name() });
    }
    Ok(bytes / width)
}

/// llm.c counts in an `i32`, which wraps above 2^31 tokens, so it is compared modulo 2^32.
fn check_count(
    path: &Path,
    tokens: u64,
    header: Option<&Header>,
    sidecar: &Sidecar,
) -> Result<(), DataError> {
    if let Some(h) = header
        && h.tokens as u32 != tokens as u32
    {
        let what = format!("its header says {} tokens, but {tokens} follow", h.tokens);
        return Err(DataError::Header { path: path.to_owned(), what });
    }
    match sidecar.tokens {
        Some(said) if said != tokens => {
            let what = format!("says {said} tokens, but {} holds {tokens}", path.display());
            Err(DataError::Sidecar { path: Sidecar::path_of(path), what })
        }
        _ => Ok(()),
    }
}

fn bytes_per_token(
    options: &BinOptions,
    sidecar: &Sidecar,
    tokenizer: &TokenizerKind,
    tokens: u64,
) -> Option<f64> {
    let usable = |x: &f64| x.is_finite() && *x > 0.0;
    let counted = sidecar.source_bytes.map(|bytes| bytes as f64 / tokens as f64);
    let known = options.bytes_per_token.or(sidecar.bytes_per_token).or(counted);
    known.or(matches!(tokenizer, TokenizerKind::Bytes).then_some(1.0)).filter(usable)
}
