//! A corpus: tokens to train on, tokens held out, and what is known of both.

use crate::bin::{BinFile, BinOptions};
use crate::boundaries::Separated;
use crate::fingerprint::sha256;
use crate::prepared::{Prepared, TOKENIZER};
use crate::split::{BLOCK_BYTES, split};
use crate::tokenize::Tokenizer as _;
use crate::tokenize::gpt2::gpt2;
use crate::tokenizer::TokenizerKind;
use crate::{ByteTokens, DataError, Tokens, tokenizer, unpack};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Twenty-five public-domain books and plays; `corpus/CREDITS.md` names them.
const LITERATURE_ZST: &[u8] = include_bytes!("../corpus/literature.txt.zst");
/// Bytes of the text.
const LITERATURE_BYTES: usize = 15_634_298;
/// SHA-256 of the text.
const LITERATURE_SHA256: &str = "bad27c9315c73df97e096fe093f404f1b6a9acd6cf32f4a10454c7a39dbffe43";

/// A clustering block of tokens whose bytes are not counted: 32 kB at 4 bytes a token, near what GPT-2's tokeniser
/// gives on English.
const DEFAULT_BLOCK_TOKENS: u64 = 8192;

/// Text as two streams of tokens.
pub struct Corpus {
    /// To train on.
    pub train: Box<dyn Tokens>,
    /// Held out.
    pub val: Box<dyn Tokens>,
    /// What is known of it.
    pub info: CorpusInfo,
    /// The texts it is of, where there are several; then `train` is the first one's, and `val` that of the one whose
    /// held-out loss is reported.
    pub sources: Vec<CorpusSource>,
    /// The `tokenizer.json` it was made with, where that came with it.
    pub tokenizer_json: Option<String>,
}

/// One text of several.
pub struct CorpusSource {
    /// Its name in the study.
    pub name: String,
    /// To train on.
    pub train: Arc<dyn Tokens>,
    /// Held out, if something is.
    pub val: Option<Arc<dyn Tokens>>,
    /// What is known of it.
    pub info: CorpusInfo,
    /// The `tokenizer.json` it was made with, where that came with it.
    pub tokenizer_json: Option<String>,
}

/// What is known of a corpus; stored with every run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorpusInfo {
    /// `builtin`, or the files.
    pub name: String,
    /// Symbols in the vocabulary.
    pub vocab: usize,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens held out.
    pub val_tokens: u64,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
    /// Mean bytes of text per held-out token, if known: turns nats per token into bits per byte.
    pub bytes_per_token: Option<f64>,
    /// SHA-256 of what `sha256_covers` names.
    pub sha256: String,
    /// `text`, or `train and val: whole file`, or that only samples were hashed, since a huge file is never read whole.
    pub sha256_covers: String,
    /// Tokens of a clustering block: the unit of [`crate::Window::block`].
    pub block_tokens: u64,
}

impl Corpus {
    /// Whether both splits hold at least one window of this context.
    ///
    /// # Errors
    /// [`DataError::TooFewTokens`] naming the split.
    pub fn check_context(&self, context: usize) -> Result<(), DataError> {
        for tokens in [&self.train, &self.val] {
            if tokens.len() <= context as u64 {
                return Err(DataError::TooFewTokens {
                    source_name: tokens.name().to_owned(),
                    tokens: tokens.len(),
                    context,
                });
            }
        }
        Ok(())
    }

    /// The same, read in windows that do not reach from one document into the next ([`crate::boundaries`]): of the
    /// text, or of each text that has documents where there are several. `end_of_text` is the id between them, else
    /// the tokeniser's.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a tokeniser whose id is not known, and where no text has documents.
    pub fn separated(mut self, end_of_text: Option<u32>) -> Result<Self, DataError> {
        let id = end_of_text.map_or_else(|| self.end_of_text(), Ok)?;
        if self.sources.is_empty() {
            self.train = Box::new(Separated::new(Arc::from(self.train), id)?);
            return Ok(self);
        }
        let (mut separated, mut refused) = (0, None);
        for source in &mut self.sources {
            match Separated::new(Arc::clone(&source.train), id) {
                Ok(tokens) => (source.train, separated) = (Arc::new(tokens), separated + 1),
                Err(e @ DataError::Setting { .. }) => refused = Some(e),
                Err(e) => return Err(e),
            }
        }
        match refused {
            Some(e) if separated == 0 => Err(e),
            _ => Ok(Self { train: Box::new(Arc::clone(&self.sources[0].train)), ..self }),
        }
    }

    /// The id between documents.
    ///
    /// # Errors
    /// A tokeniser that has none, or is not known.
    pub fn end_of_text(&self) -> Result<u32, DataError> {
        let id = match (&self.tokenizer_json, &self.info.tokenizer) {
            (Some(json), _) => crate::tokenize::json::read(&self.info.name, json.as_bytes())?.end_of_text(),
            (None, TokenizerKind::Gpt2) => gpt2().end_of_text(),
            (None, _) => None,
        };
        id.ok_or_else(|| DataError::Setting {
            what: format!("what stands between the documents of {} is not known", self.info.name),
            hint:
                "name its id with end_of_text under [data], or prepare the text with a tokeniser that has an \
                   end-of-text, such as gpt2"
                    .to_owned(),
        })
    }

    /// The `tokenizer.json` that belongs into a checkpoint trained on this corpus, if we have it.
    pub fn tokenizer_json(&self) -> Option<String> {
        let known = || match self.info.tokenizer {
            TokenizerKind::Bytes => Some(tokenizer::byte_tokenizer_json()),
            TokenizerKind::Gpt2 => {
                static JSON: OnceLock<String> = OnceLock::new();
                Some(JSON.get_or_init(|| gpt2().json()).clone())
            }
            _ => None,
        };
        self.tokenizer_json.clone().or_else(known)
    }
}

/// Names of the built-in corpus and its two parts, verse and plays against prose, for mixtures of real sources.
pub const BUILTIN: [&str; 3] = ["builtin", "builtin-verse", "builtin-prose"];

/// Where verse and plays lie in the text, in bytes: Blake; Milton, Shakespeare, Whitman; Pope's Homer. The works and
/// their lengths are in `corpus/CREDITS.md`, with two bytes between neighbours.
const VERSE: [std::ops::Range<usize>; 3] =
    [2_017_828..2_054_200, 5_481_269..7_003_486, 9_629_679..10_727_186];

/// The built-in corpus: 15.6 MB of English literature, bytes as tokens.
///
/// # Errors
/// [`DataError::Builtin`] if the embedded text does not decompress to what was embedded.
pub fn builtin() -> Result<Corpus, DataError> {
    let (text, sha256) = literature()?;
    from_bytes(BUILTIN[0], &text, sha256)
}

/// The built-in corpus or a part of it by name; `None` if there is none of that name.
///
/// # Errors
/// As [`builtin`].
pub fn builtin_named(name: &str) -> Option<Result<Corpus, DataError>> {
    let verse = match BUILTIN.iter().position(|known| *known == name)? {
        0 => return Some(builtin()),
        index => index == 1,
    };
    Some(literature().and_then(|(text, _)| {
        let part: Vec<u8> = match verse {
            true => VERSE.iter().flat_map(|range| &text[range.clone()]).copied().collect(),
            false => {
                let starts = [0].into_iter().chain(VERSE.iter().map(|range| range.end));
                let ends = VERSE.iter().map(|range| range.start).chain([text.len()]);
                starts.zip(ends).flat_map(|(start, end)| &text[start..end]).copied().collect()
            }
        };
        from_bytes(name, &part, sha256(&part))
    }))
}

/// The embedded text and its hash.
fn literature() -> Result<(Vec<u8>, String), DataError> {
    let damaged = |what: String| DataError::Builtin { what };
    let text = unpack::unzstd(LITERATURE_ZST).map_err(damaged)?;
    let sha256 = sha256(&text);
    if text.len() != LITERATURE_BYTES || sha256 != LITERATURE_SHA256 {
        return Err(damaged(format!("{} bytes with SHA-256 {sha256}", text.len())));
    }
    Ok((text, sha256))
}

/// A UTF-8 text file, or one compressed with Zstandard (`.zst`), bytes as tokens, a sixteenth held out
/// ([`crate::split`]).
///
/// # Errors
/// Missing, empty, a directory, not readable, not UTF-8 (with the byte's offset), too small to hold a block out.
pub fn from_text(path: &Path) -> Result<Corpus, DataError> {
    let raw = std::fs::read(path).map_err(|e| match path.is_dir() {
        true => DataError::directory(path),
        false => DataError::from_io(path, e),
    })?;
    let name = path.display().to_string();
    let text = if path.extension().is_some_and(|e| e == "zst") {
        unpack::unzstd(&raw).map_err(|what| unpack::damaged_zstd(&name, what))?
    } else {
        unpack::unpacked(&name, raw)?
    };
    if text.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), hint: "give a file with text in it".into() });
    }
    if let Err(e) = std::str::from_utf8(&text) {
        let offset = e.valid_up_to();
        let line = 1 + text[..offset].iter().filter(|&&b| b == b'\n').count();
        return Err(DataError::NotUtf8 { path: path.to_owned(), offset, line, byte: text[offset] });
    }
    let sha256 = sha256(&text);
    from_bytes(&name, &text, sha256)
}

fn from_bytes(name: &str, text: &[u8], sha256: String) -> Result<Corpus, DataError> {
    let (train, val) = split(name, text)?;
    let info = CorpusInfo {
        name: name.to_owned(),
        vocab: tokenizer::BYTE_VOCAB,
        train_tokens: train.len() as u64,
        val_tokens: val.len() as u64,
        tokenizer: TokenizerKind::Bytes,
        bytes_per_token: Some(1.0),
        sha256,
        sha256_covers: "text".to_owned(),
        block_tokens: BLOCK_BYTES as u64,
    };
    let train = Box::new(ByteTokens::new(format!("{name}, training split"), train));
    let val = Box::new(ByteTokens::new(format!("{name}, validation split"), val));
    Ok(Corpus { train, val, info, sources: Vec::new(), tokenizer_json: None })
}

/// Two token files, memory-mapped: any size, not read at open beyond a few samples.
///
/// # Errors
/// What [`BinFile::open`] says of either; files of different vocabularies or tokenisers.
pub fn from_bin(train: &Path, val: &Path, options: &BinOptions) -> Result<Corpus, DataError> {
    let (train, val) = (BinFile::open(train, options)?, BinFile::open(val, options)?);
    if train.vocab() != val.vocab() || !train.tokenizer().is(val.tokenizer()) {
        let (train, val) = (describe(&train), describe(&val));
        return Err(DataError::Setting {
            what: format!("training and validation tokens do not go together: {train}; {val}"),
            hint: "make both files with the same tokeniser".into(),
        });
    }
    let ((train_hash, train_covers), (val_hash, val_covers)) = (train.fingerprint(), val.fingerprint());
    let bytes_per_token = val.bytes_per_token();
    let info = CorpusInfo {
        name: format!("{} + {}", train.name(), val.name()),
        vocab: train.vocab(),
        train_tokens: train.len(),
        val_tokens: val.len(),
        tokenizer: train.tokenizer().clone(),
        bytes_per_token,
        sha256: sha256(format!("{train_hash}{val_hash}").as_bytes()),
        sha256_covers: format!("hashes of train ({train_covers}) and val ({val_covers})"),
        block_tokens: block_tokens(bytes_per_token),
    };
    let tokenizer_json = tokenizer_beside(&train);
    Ok(Corpus { train: Box::new(train), val: Box::new(val), info, sources: Vec::new(), tokenizer_json })
}

impl Corpus {
    /// The corpus as its own only source, so that runs can mix it with junk or read a part of it.
    #[must_use]
    pub fn with_itself_as(self, name: &str) -> Self {
        let (train, val): (Arc<dyn Tokens>, Arc<dyn Tokens>) = (Arc::from(self.train), Arc::from(self.val));
        let source = CorpusSource {
            name: name.to_owned(),
            train: Arc::clone(&train),
            val: Some(Arc::clone(&val)),
            info: self.info.clone(),
            tokenizer_json: self.tokenizer_json.clone(),
        };
        Self { train: Box::new(train), val: Box::new(val), sources: vec![source], ..self }
    }
}

impl CorpusSource {
    /// A corpus as one of several.
    pub fn new(name: &str, corpus: Corpus) -> Self {
        let Corpus { train, val, info, tokenizer_json, .. } = corpus;
        let (train, val) = (Arc::from(train), Some(Arc::from(val)));
        Self { name: name.to_owned(), train, val, info, tokenizer_json }
    }

    /// One token file, nothing of it held out.
    ///
    /// # Errors
    /// What [`BinFile::open`] says.
    pub fn from_bin(name: &str, train: &Path, options: &BinOptions) -> Result<Self, DataError> {
        let train = BinFile::open(train, options)?;
        let (sha256, sha256_covers) = train.fingerprint();
        let info = CorpusInfo {
            name: train.name().to_owned(),
            vocab: train.vocab(),
            train_tokens: train.len(),
            val_tokens: 0,
            tokenizer: train.tokenizer().clone(),
            bytes_per_token: train.bytes_per_token(),
            sha256,
            sha256_covers: sha256_covers.to_owned(),
            block_tokens: block_tokens(train.bytes_per_token()),
        };
        let tokenizer_json = tokenizer_beside(&train);
        Ok(Self { name: name.to_owned(), train: Arc::new(train), val: None, info, tokenizer_json })
    }
}

/// Several texts of one vocabulary as a corpus, about whose source number `held_out` the reported loss is.
///
/// # Errors
/// [`DataError::Setting`]: texts that do not go together, or one of which nothing is held out.
///
/// # Panics
/// Without sources, or without that one.
pub fn of_several(sources: Vec<CorpusSource>, held_out: usize) -> Result<Corpus, DataError> {
    let (first, scored) = (&sources[0], &sources[held_out]);
    let words =
        |s: &CorpusSource| format!("{} has a vocabulary of {} ({})", s.name, s.info.vocab, s.info.tokenizer);
    let fits =
        |s: &&CorpusSource| s.info.vocab == first.info.vocab && s.info.tokenizer.is(&first.info.tokenizer);
    if let Some(other) = sources.iter().find(|s| !fits(s)) {
        return Err(DataError::Setting {
            what: format!("the sources do not go together: {}; {}", words(first), words(other)),
            hint: "make all of them with the same tokeniser, e.g. isoflop prepare --tokenizer gpt2".into(),
        });
    }
    let tokenizer_json = sources.iter().find_map(|s| s.tokenizer_json.clone());
    let Some(val) = scored.val.clone() else {
        return Err(DataError::Setting {
            what: format!("nothing of {} is held out, so its loss cannot be scored", scored.name),
            hint: "give it val = \"….bin\", or name another source in held_out".into(),
        });
    };
    let hashes: Vec<&str> = sources.iter().map(|s| s.info.sha256.as_str()).collect();
    let info = CorpusInfo {
        name: sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" + "),
        train_tokens: sources.iter().map(|s| s.info.train_tokens).sum(),
        val_tokens: scored.info.val_tokens,
        bytes_per_token: scored.info.bytes_per_token,
        sha256: sha256(hashes.concat().as_bytes()),
        sha256_covers: format!("hashes of {} sources", sources.len()),
        block_tokens: scored.info.block_tokens,
        ..first.info.clone()
    };
    let train = Box::new(Arc::clone(&first.train));
    Ok(Corpus { train, val: Box::new(val), info, sources, tokenizer_json })
}

/// A directory that `isoflop prepare` has made: any number of shards, with their tokeniser and its bytes per token.
///
/// # Errors
/// What [`Prepared::open`] and [`Prepared::corpus`] say.
pub fn from_prepared(dir: &Path) -> Result<Corpus, DataError> {
    Prepared::open(dir)?.corpus(dir)
}

/// Tokens of a clustering block of 32 kB.
pub fn block_tokens(bytes_per_token: Option<f64>) -> u64 {
    match bytes_per_token {
        Some(bytes) => ((BLOCK_BYTES as f64 / bytes).round() as u64).max(1),
        None => DEFAULT_BLOCK_TOKENS,
    }
}

fn describe(file: &BinFile) -> String {
    format!("{} has a vocabulary of {} ({})", file.name(), file.vocab(), file.tokenizer())
}

/// The `tokenizer.json` in a token file's directory, if it is the one the file says it was made with.
fn tokenizer_beside(file: &BinFile) -> Option<String> {
    let said = file.tokenizer().sha256()?;
    let text = std::fs::read_to_string(file.path().with_file_name(TOKENIZER)).ok()?;
    (sha256(text.as_bytes()) == said).then_some(text)
}
