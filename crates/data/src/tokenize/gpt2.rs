//! GPT-2's vocabulary, built in: 256 bytes, 50,000 merges, `<|endoftext|>`.

use crate::tokenize::bpe::{Bpe, Vocabulary};
use crate::tokenize::pattern::Pattern;
use crate::tokenize::{END_OF_TEXT, Special};

/// Two little-endian `u16` a merge, in the order they were learnt: `tokenize/build.py` writes it from OpenAI's
/// `vocab.bpe`.
const MERGES: &[u8] = include_bytes!("../../tokenize/gpt2.merges");

/// The bytes in the order of GPT-2's first 256 ids, and of every vocabulary trained since: those that print in Latin-1,
/// then the others.
pub(crate) fn byte_order() -> impl Iterator<Item = u8> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    (0..=255).filter(prints).chain((0..=255).filter(move |byte| !prints(byte)))
}

/// GPT-2's BPE: 50,257 ids, those of tiktoken's `gpt2` and `r50k_base` and of Hugging Face's `gpt2`.
pub fn gpt2() -> Bpe {
    let mut tokens: Vec<Vec<u8>> = byte_order().map(|byte| vec![byte]).collect();
    let mut merges = Vec::with_capacity(MERGES.len() / 4);
    for (merge, made) in MERGES.chunks_exact(4).zip(256..) {
        let part = |at: usize| u32::from(u16::from_le_bytes([merge[at], merge[at + 1]]));
        tokens.push([tokens[part(0) as usize].as_slice(), &tokens[part(2) as usize]].concat());
        merges.push([part(0), part(2), made]);
    }
    let special = vec![Special { text: END_OF_TEXT.to_owned(), id: tokens.len() as u32 }];
    let vocabulary = Vocabulary { tokens, merges, special, pattern: Pattern::Gpt2, whole_first: false };
    Bpe::new("gpt2", vocabulary).expect("the vocabulary is ours")
}
