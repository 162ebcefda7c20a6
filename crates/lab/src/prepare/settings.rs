//! What was asked for, resolved: sources found, the tokeniser opened, `auto` decided. And what of it determines the
//! bytes of the shards, by which an interrupted preparation is recognised.

use super::shards::Form;
use crate::error::UserError;
use isoflop_base::Word;
use isoflop_data::TokenDtype;
use isoflop_data::documents::{Divide, Encoding, Fields, Format, Found};
use isoflop_data::tokenize::Tokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Which documents are removed as copies of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dedup {
    /// None.
    #[default]
    None,
    /// Those with the same words.
    Exact,
    /// Those with nearly the same words.
    MinHash,
}

impl Dedup {
    /// Its name in options and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Exact => "exact",
            Self::MinHash => "minhash",
        }
    }
}

impl Word for Dedup {
    const WORDS: &'static [&'static str] = &["none", "exact", "minhash"];

    fn from_word(word: &str) -> Option<Self> {
        [Self::None, Self::Exact, Self::MinHash].into_iter().find(|dedup| dedup.word() == word)
    }
}

/// A preparation, ready to be done.
pub struct Settings {
    /// The sources, and files that are left out.
    pub found: Found,
    /// Where texts are in them.
    pub fields: Fields,
    /// How text becomes tokens.
    pub tokenizer: Box<dyn Tokenizer>,
    /// Width of a token.
    pub dtype: TokenDtype,
    /// Tokens of a shard.
    pub shard_tokens: u64,
    /// Share of documents that are held out.
    pub val_share: f64,
    /// Which copies are removed.
    pub dedup: Dedup,
    /// Estimated Jaccard similarity from which on two documents are copies.
    pub similarity: f64,
    /// Bytes that the table of documents seen may take.
    pub dedup_bytes: u64,
    /// Whether the first record that cannot be used ends it.
    pub strict: bool,
    /// Threads that read and encode.
    pub threads: usize,
    /// Seconds between two checkpoints.
    pub checkpoint_s: f64,
    /// Where shards go.
    pub out: PathBuf,
    /// Whether what an earlier preparation left there is thrown away.
    pub restart: bool,
}

/// About what is held out of a corpus whose size is known.
const VAL_BYTES: u64 = 8 << 20;

impl Settings {
    /// The share to hold out when nobody says: a power of two that makes about 8 MB of what lies on disk, between 1/16
    /// and 1/2048; 1/128 of a stream.
    pub fn auto_val_share(found: &Found) -> f64 {
        let bytes: u64 = found.sources.iter().map(|source| source.bytes).sum();
        let halvings = if bytes == 0 { 7 } else { (bytes / VAL_BYTES).max(1).ilog2().clamp(4, 11) };
        0.5f64.powi(halvings as i32)
    }

    /// The width that holds every id, or the one asked for.
    ///
    /// # Errors
    /// The one asked for does not hold every id.
    pub fn dtype(tokenizer: &dyn Tokenizer, asked: Option<TokenDtype>) -> Result<TokenDtype, UserError> {
        let largest = tokenizer.vocab_size().saturating_sub(1);
        let fits = |dtype| match dtype {
            TokenDtype::U16 => largest <= usize::from(u16::MAX),
            _ => u32::try_from(largest).is_ok(),
        };
        match asked {
            None if fits(TokenDtype::U16) => Ok(TokenDtype::U16),
            None => Ok(TokenDtype::U32),
            Some(dtype) if fits(dtype) => Ok(dtype),
            Some(dtype) => {
                let name = tokenizer.name();
                Err(UserError::new(format!("the ids of {name} go up to {largest}, beyond {}", dtype.name()))
                    .hint("leave --dtype out, or give u32"))
            }
        }
    }

    /// How the streams lie in their files.
    pub fn form(&self) -> Form {
        let (dtype, shard_tokens) = (self.dtype, self.shard_tokens);
        Form { dtype, shard_tokens, separator: separator(&*self.tokenizer) }
    }

    /// All that determines the bytes of the shards, and the sources by what is known without reading them.
    pub fn identity(&self) -> Value {
        let sources: Vec<Value> = self
            .found
            .sources
            .iter()
            .map(|source| json!([source.name, source.format.word(), source.bytes, source.modified_ns]))
            .collect();
        let encoding = self.found.sources.first().map(|source| source.encoding).unwrap_or_default();
        let mut identity = json!({
            "sources": sources,
            "field": self.fields.text,
            "divide": divide_word(&self.fields.divide),
            "tokenizer": self.tokenizer.name(),
            "tokenizer_sha256": sha256(self.tokenizer.json().as_bytes()),
            "dtype": self.dtype.name(),
            "shard_tokens": self.shard_tokens,
            "val_share": self.val_share,
            "dedup": self.dedup.word(),
            "similarity": (self.dedup == Dedup::MinHash).then_some(self.similarity),
        });
        if encoding != Encoding::Auto {
            identity["encoding"] = json!(encoding.word());
        }
        identity
    }

    /// Whether any source is plain text, for which it is said how it is divided.
    pub fn has_plain_text(&self) -> bool {
        self.found.sources.iter().any(|source| source.format == Format::Text)
    }
}

/// What stands between two documents: end-of-text, or for a vocabulary without one the ids of a blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Separator {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Bytes of text that it stands for.
    pub bytes: u64,
}

fn separator(tokenizer: &dyn Tokenizer) -> Separator {
    match tokenizer.end_of_text() {
        Some(id) => Separator { ids: vec![id], bytes: 0 },
        None => Separator { ids: tokenizer.encode("\n\n"), bytes: 2 },
    }
}

fn divide_word(divide: &Divide) -> String {
    match divide {
        Divide::File => "file".to_owned(),
        Divide::Line => "line".to_owned(),
        Divide::BlankLine => "blank-line".to_owned(),
        Divide::Marker(marker) => format!("marker {marker}"),
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    isoflop_base::bits::hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_data::documents::Source;
    use isoflop_data::tokenize::{Special, gpt2::gpt2};

    /// A vocabulary of so many ids.
    struct Wide(usize);

    impl Tokenizer for Wide {
        fn name(&self) -> &str {
            "wide"
        }
        fn vocab_size(&self) -> usize {
            self.0
        }
        fn encode_into(&self, _: &str, _: &mut Vec<u32>) {}
        fn token(&self, _: u32) -> Option<&[u8]> {
            None
        }
        fn special(&self) -> &[Special] {
            &[]
        }
        fn json(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn ids_beyond_16_bits_take_32() {
        let of = |ids, asked| Settings::dtype(&Wide(ids), asked);
        assert_eq!(of(65_536, None), Ok(TokenDtype::U16));
        assert_eq!(of(65_537, None), Ok(TokenDtype::U32));
        assert_eq!(of(65_537, Some(TokenDtype::U32)), Ok(TokenDtype::U32));
        assert_eq!(of(300, Some(TokenDtype::U32)), Ok(TokenDtype::U32));
        let refused = of(65_537, Some(TokenDtype::U16)).unwrap_err().to_string();
        assert!(refused.contains("go up to 65536") && refused.contains("hint: "), "{refused}");
    }

    #[test]
    fn about_eight_megabytes_are_held_out() {
        let share = |bytes| {
            let source = Source {
                name: "a".to_owned(),
                path: None,
                format: Format::Text,
                is_guess: false,
                encoding: Encoding::Auto,
                bytes,
                modified_ns: 0,
            };
            Settings::auto_val_share(&Found { sources: vec![source], left_out: Vec::new() })
        };
        for (bytes, expected) in
            [(0, 1.0 / 128.0), (1000, 1.0 / 16.0), (1 << 30, 1.0 / 128.0), (1 << 50, 1.0 / 2048.0)]
        {
            assert_eq!(share(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn between_documents_stands_end_of_text_or_a_blank_line() {
        assert_eq!(separator(&gpt2()), Separator { ids: vec![50_256], bytes: 0 });
        let bytes = separator(&isoflop_data::tokenize::Bytes);
        assert_eq!(bytes, Separator { ids: vec![10, 10], bytes: 2 });
    }
}
