//! Token files: raw little-endian `u16` or `u32`, as nanoGPT writes, or any dialect of [`crate::dialect`],
//! memory-mapped.
//!
//! A JSON sidecar `FILE.json` ([`Sidecar`]) may say how the file was made. Opening costs the same for any size:
//! length, header, sidecar, and a sample of the ids.

use crate::dialect::{self, Layout, TokenDtype};
use crate::fingerprint::sha256;
use crate::map::Map;
use crate::tokenizer::{BYTE_VOCAB, GPT2_VOCAB, TokenizerKind};
use crate::{DataError, Tokens, read_checked};
use isoflop_base::bits::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Samples of this many tokens, this many of them, stand for a file too large to read.
const SAMPLE_TOKENS: u64 = 4096;
const SAMPLES: u64 = 64;

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
    /// Width of a token; else the sidecar's; else what the file gives away; else `u16`.
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
    /// Missing, empty, a directory, not readable, no whole number of tokens, a header or sidecar that contradicts the
    /// file, an unknown vocabulary, a sampled id beyond it.
    pub fn open(path: &Path, options: &BinOptions) -> Result<Self, DataError> {
        let map = Map::open(path)?;
        let sidecar = Sidecar::read(path)?;
        let found = dialect::recognised(path, map.bytes(), options.dtype.or(sidecar.dtype))?;
        let dtype =
            found.as_ref().map(|l| l.dtype).or(options.dtype).or(sidecar.dtype).unwrap_or(TokenDtype::U16);
        let offset = found.as_ref().map_or(0, |l| l.offset);
        let tokens = count_tokens(&map, offset, dtype)?;
        check_count(path, tokens, found.as_ref(), &sidecar)?;
        let known = options.vocab.or(sidecar.vocab).or(found.as_ref().and_then(|l| l.vocab));
        let vocab = match (known, dtype) {
            (Some(vocab), _) => vocab,
            (None, TokenDtype::U8) => BYTE_VOCAB,
            (None, TokenDtype::U16) => GPT2_VOCAB,
            (None, TokenDtype::U32 | TokenDtype::U64) => {
                let by = found.as_ref().map(|l| format!(", as its {} says,", l.by)).unwrap_or_default();
                return Err(DataError::UnknownVocab {
                    path: path.to_owned(),
                    dtype: dtype.name(),
                    by,
                    sidecar: Sidecar::path_of(path),
                });
            }
        };
        if vocab == 0 {
            let hint = "give the number of symbols, e.g. 50257".to_owned();
            return Err(DataError::Setting { what: format!("{}: a vocabulary of 0", path.display()), hint });
        }
        let tokenizer =
            TokenizerKind::of(sidecar.tokenizer.as_deref(), sidecar.tokenizer_sha256.as_deref(), vocab);
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

    /// SHA-256 of the file's bytes if it has at most 16 MiB, else of its length and 64 sampled places; and which of the
    /// two.
    pub fn fingerprint(&self) -> (String, &'static str) {
        const WHOLE: usize = 16 << 20;
        let bytes = self.map.bytes();
        if bytes.len() <= WHOLE {
            return (sha256(bytes), "whole file");
        }
        let mut hash = Sha256::new();
        hash.update((bytes.len() as u64).to_le_bytes());
        for (start, count) in self.samples() {
            hash.update(&self.map.bytes()[self.byte_range(start, count)]);
        }
        (hex(&hash.finalize()), "length and 64 sampled places of 4096 tokens")
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
        // What no `u32` holds is beyond every vocabulary, and will be called so.
        let wide =
            |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes")).try_into().unwrap_or(u32::MAX);
        match self.dtype {
            TokenDtype::U8 => out.iter_mut().zip(bytes).for_each(|(id, b)| *id = u32::from(*b)),
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
            TokenDtype::U64 => out.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(id, b)| *id = wide(b)),
        }
    }

    fn check_source(&self) -> Result<(), DataError> {
        self.map.still_whole()
    }

    fn will_read(&self, start: u64, count: usize) {
        self.map.will_read(self.byte_range(start, count));
    }
}

fn count_tokens(map: &Map, offset: usize, dtype: TokenDtype) -> Result<u64, DataError> {
    let (bytes, width) = (map.bytes().len().saturating_sub(offset) as u64, dtype.width());
    let path = map.path().to_owned();
    if bytes == 0 {
        return Err(DataError::Empty { path, hint: "it has a header but no tokens; write it again".into() });
    }
    if !bytes.is_multiple_of(width) {
        return Err(DataError::OddSize { path, bytes, width, dtype: dtype.name() });
    }
    Ok(bytes / width)
}

/// What the file and its sidecar count is what there is.
fn check_count(path: &Path, tokens: u64, found: Option<&Layout>, sidecar: &Sidecar) -> Result<(), DataError> {
    if let Some(Layout { tokens: Some(said), wraps, by, .. }) = found
        && *said != if *wraps { u64::from(tokens as u32) } else { tokens }
    {
        let what = format!("its {by} says {said} tokens, but {tokens} follow");
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
