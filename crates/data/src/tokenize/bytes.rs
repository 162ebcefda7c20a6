//! Bytes as tokens, behind the trait.

use crate::tokenize::{Special, Tokenizer};
use crate::tokenizer::{BYTE_VOCAB, byte_tokenizer_json};

/// Id = byte value, vocabulary 256.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bytes;

/// All bytes, each a token.
static TOKENS: [u8; BYTE_VOCAB] = {
    let mut tokens = [0; BYTE_VOCAB];
    let mut i = 0;
    while i < BYTE_VOCAB {
        tokens[i] = i as u8;
        i += 1;
    }
    tokens
};

impl Tokenizer for Bytes {
    fn name(&self) -> &str {
        "bytes"
    }

    fn vocab_size(&self) -> usize {
        BYTE_VOCAB
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        ids.extend(text.bytes().map(u32::from));
    }

    fn token(&self, id: u32) -> Option<&[u8]> {
        TOKENS.get(id as usize..=id as usize)
    }

    fn special(&self) -> &[Special] {
        &[]
    }

    fn json(&self) -> String {
        byte_tokenizer_json()
    }
}
