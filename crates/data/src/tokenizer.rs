//! How text became tokens, as far as known; and bytes as tokens: id = byte value, vocabulary 256.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Symbols of GPT-2's vocabulary: what a `u16` file without a sidecar is taken to hold, as nanoGPT's are.
pub const GPT2_VOCAB: usize = 50_257;
/// Symbols of Llama 3's.
pub(crate) const LLAMA3_VOCAB: usize = 128_256;

/// Symbols of the byte vocabulary.
pub const BYTE_VOCAB: usize = 256;

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TokenizerKind {
    /// Byte values, vocabulary 256.
    Bytes,
    /// GPT-2's BPE, vocabulary 50,257.
    Gpt2,
    /// Another, named by the file's sidecar.
    Named {
        /// Its name.
        name: String,
        /// SHA-256 of its `tokenizer.json`, if known.
        sha256: Option<String>,
    },
    /// Not known.
    Unknown,
}

impl TokenizerKind {
    /// The tokeniser of a name, or of a vocabulary alone. `sha256` is that of its `tokenizer.json`.
    pub fn of(name: Option<&str>, sha256: Option<&str>, vocab: usize) -> Self {
        match (name, vocab) {
            (Some("bytes" | "byte"), _) => Self::Bytes,
            (Some("gpt2" | "r50k_base"), _) | (None, GPT2_VOCAB) => Self::Gpt2,
            (Some(name), _) => Self::Named { name: name.to_owned(), sha256: sha256.map(str::to_owned) },
            (None, _) => Self::Unknown,
        }
    }

    /// Whether it gives the same ids, as far as known: the same `tokenizer.json` where both have one, whatever the
    /// file was called.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named { sha256: Some(a), .. }, Self::Named { sha256: Some(b), .. }) => a == b,
            (a, b) => a == b,
        }
    }

    /// SHA-256 of its `tokenizer.json`, if known.
    pub(crate) fn sha256(&self) -> Option<&str> {
        match self {
            Self::Named { sha256, .. } => sha256.as_deref(),
            _ => None,
        }
    }
}

impl std::fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Gpt2 => f.write_str("GPT-2's BPE"),
            Self::Named { name, sha256: None } => write!(f, "`{name}`"),
            Self::Named { name, sha256: Some(hash) } => {
                write!(f, "`{name}`, SHA-256 {}…", hash.get(..12).unwrap_or(hash))
            }
            Self::Unknown => f.write_str("a tokeniser that is not known"),
        }
    }
}

/// The ids of a text: its UTF-8 bytes.
pub fn encode_bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The text of byte ids. What is not UTF-8, as an untrained model writes, becomes U+FFFD; so do ids above 255.
pub fn decode_bytes(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().map(|&id| u8::try_from(id).unwrap_or(0xff)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A `tokenizer.json` for Hugging Face `tokenizers` that does the same: a byte-level BPE without merges, whose 256
/// symbols have the byte values as ids.
pub fn byte_tokenizer_json() -> String {
    let vocab: Map<String, Value> =
        byte_symbols().into_iter().zip(0..).map(|(symbol, id)| (symbol.to_string(), json!(id))).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    crate::tokenize::json::document(&[], &byte_level, &byte_level, false, &vocab, &[])
}

/// GPT-2's printable stand-ins for the 256 bytes (`bytes_to_unicode` in OpenAI's encoder.py): printable Latin-1 stands
/// for itself, the others are numbered on from U+0100.
pub(crate) fn byte_symbols() -> [char; 256] {
    let mut symbols = ['\0'; 256];
    let mut next = 0x100;
    for (symbol, byte) in symbols.iter_mut().zip(0u8..=255) {
        *symbol = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("below the surrogates")
            }
        };
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives() {
        for text in ["", "Call me Ishmael.\n", "naïve — 日本"] {
            assert_eq!(decode_bytes(&encode_bytes(text)), text);
        }
        assert_eq!(decode_bytes(&[b'a'.into(), 0xc3]), "a\u{fffd}");
    }

    #[test]
    fn the_json_has_the_byte_values_as_ids() {
        let document: Value = serde_json::from_str(&byte_tokenizer_json()).unwrap();
        let vocab = document["model"]["vocab"].as_object().unwrap();
        assert_eq!(vocab.len(), 256);
        // GPT-2 writes a space as Ġ and a line feed as Ċ.
        for (symbol, id) in [("A", 65), ("~", 126), ("Ġ", 32), ("Ċ", 10), ("é", 0xe9), ("Ń", 0xad)] {
            assert_eq!(vocab[symbol], id, "{symbol}");
        }
    }
}
