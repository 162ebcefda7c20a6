//! Tokens in another order, and tokens in none.

use crate::TokenizerKind;
use crate::tokenize::Tokenizer;
use isoflop_base::bits::SplitMix64;

/// What an id's text begins and ends with, as far as it matters to where a unit begins.
const BEGINS_WHITE: u8 = 1;
const ENDS_WHITE: u8 = 2;
/// It begins inside a character.
const CONTINUES: u8 = 4;

/// Where the units that are shuffled begin, by id.
pub(super) struct Marks {
    /// Flags of each id; empty where every token is a unit.
    of_id: Vec<u8>,
    words: bool,
}

impl Marks {
    /// Words, each with the white space before it.
    pub(super) fn words(tokenizer: &dyn Tokenizer) -> Self {
        Self { of_id: flags(tokenizer), words: true }
    }

    /// Characters where tokens are bytes, else tokens.
    pub(super) fn characters(tokenizer: &TokenizerKind) -> Self {
        let of_id = match tokenizer {
            TokenizerKind::Bytes => flags(&crate::tokenize::Bytes),
            _ => Vec::new(),
        };
        Self { of_id, words: false }
    }

    fn flags(&self, id: u32) -> u8 {
        self.of_id.get(id as usize).copied().unwrap_or(0)
    }

    /// Whether a unit begins with `id` behind `before`.
    fn begins(&self, before: u32, id: u32) -> bool {
        let (before, this) = (self.flags(before), self.flags(id));
        if self.words { this & BEGINS_WHITE != 0 && before & ENDS_WHITE == 0 } else { this & CONTINUES == 0 }
    }

    /// Puts the units of a block in an order chosen by the seed: every order is as likely (Fisher & Yates).
    pub(super) fn shuffle(&self, seed: u64, block: &mut [u32]) {
        let inner = (1..block.len()).filter(|&i| self.begins(block[i - 1], block[i]));
        let starts: Vec<usize> = std::iter::once(0).chain(inner).chain([block.len()]).collect();
        let mut units: Vec<(usize, usize)> = starts.windows(2).map(|w| (w[0], w[1])).collect();
        let mut random = SplitMix64(seed);
        for last in (1..units.len()).rev() {
            units.swap(last, below(&mut random, last as u64 + 1) as usize);
        }
        let from = block.to_vec();
        let mut at = 0;
        for (first, end) in units {
            block[at..at + end - first].copy_from_slice(&from[first..end]);
            at += end - first;
        }
    }
}

fn flags(tokenizer: &dyn Tokenizer) -> Vec<u8> {
    let white = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let of = |id: u32| {
        let bytes = tokenizer.token(id).unwrap_or_default();
        let begins = if white(bytes.first()) { BEGINS_WHITE } else { 0 };
        let ends = if white(bytes.last()) { ENDS_WHITE } else { 0 };
        let continues = if bytes.first().is_some_and(|byte| byte & 0xc0 == 0x80) { CONTINUES } else { 0 };
        begins | ends | continues
    };
    (0..tokenizer.vocab_size() as u32).map(of).collect()
}

/// A block of ids, each as likely as any other.
pub(super) fn uniform(seed: u64, vocab: u64, block: &mut Vec<u32>) {
    let mut random = SplitMix64(seed);
    block.clear();
    block.extend((0..super::BLOCK).map(|_| below(&mut random, vocab) as u32));
}

/// A number below `bound`; uneven by less than bound/2⁶⁴.
pub(super) fn below(random: &mut SplitMix64, bound: u64) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(bound)) >> 64) as u64
}
