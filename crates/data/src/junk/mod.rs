//! Text that teaches nothing, or little: what a law can take of it is a question of its own.
//!
//! All of it is a stream of tokens that is a pure function of (seed, position), made a block of [`BLOCK`] tokens at a
//! time as it is read, in any order and in parts of any length. Per byte, as `xz` packs it, English text has 2.3 to 2.7
//! bits; these are on both sides of it.
//!
//! | kind | what is left of language |
//! |---|---|
//! | repeated | everything, of a few passages ([`Passages`]) |
//! | words-shuffled | the words and how often each is used, in about 750 at a time; no syntax |
//! | characters-shuffled | how often each character is used |
//! | uniform-symbols, uniform-ascii | nothing |
//! | base64 | nothing, of 64 characters |
//! | markup | nothing but the form of a web page: little to learn, and that soon |

mod passages;
mod shuffle;
#[cfg(test)]
mod tests;
mod text;

use crate::sampler::{Sampler, mix};
use crate::tokenize::{Bytes, Tokenizer, gpt2};
use crate::{DataError, TokenizerKind, Tokens};
use isoflop_base::JunkKind;
pub use passages::Passages;
use shuffle::Marks;
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens that are made together.
pub const BLOCK: usize = 4096;

/// Further seeds are mixed with these, so that no two streams of a run are made of the same numbers.
const MATERIAL: u64 = 0x6d61_7465_7269_616c;

/// Junk of one kind as a stream of tokens without an end. Made of another stream where its kind is; that one is read
/// block by block in an order of its own, and from its beginning again when it ends, otherwise shuffled then.
pub struct Junk {
    name: String,
    vocab: usize,
    seed: u64,
    maker: Maker,
    /// The block made last: a reader goes on from where it was.
    last: Mutex<(u64, Vec<u32>)>,
}

enum Maker {
    Shuffled { material: Arc<dyn Tokens>, order: Sampler, block: usize, units: Marks },
    Uniform,
    Text { tokenizer: Box<dyn Tokenizer>, write: fn(u64, &mut String) },
}

impl Junk {
    /// A stream of this kind in a vocabulary; `material` is the stream it is made of, where the kind has one.
    ///
    /// # Errors
    /// [`DataError::Setting`]: [`JunkKind::Repeated`], which is [`Passages`]; a kind that needs a tokeniser that is
    /// known, and there is none. [`DataError::TooFewTokens`] of the material.
    ///
    /// # Panics
    /// If a kind that is made of text has no material.
    pub fn new(
        kind: JunkKind,
        material: Option<Arc<dyn Tokens>>,
        tokenizer: &TokenizerKind,
        vocab: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let shuffled = |units: Marks| -> Result<Maker, DataError> {
            let material = material.expect("a kind that is made of text");
            let block = BLOCK.min(material.len().saturating_sub(1) as usize).max(1);
            let order = Sampler::new(material.len(), block, mix(seed ^ MATERIAL))?;
            Ok(Maker::Shuffled { material, order, block, units })
        };
        let text = |write| Ok(Maker::Text { tokenizer: known(tokenizer, kind)?, write });
        let maker = match kind {
            JunkKind::Repeated => {
                return Err(DataError::Setting {
                    what: "repeated passages are no stream without an end".to_owned(),
                    hint: "say how many passages there are".to_owned(),
                });
            }
            JunkKind::WordsShuffled => shuffled(Marks::words(&*known(tokenizer, kind)?))?,
            JunkKind::CharactersShuffled => shuffled(Marks::characters(tokenizer))?,
            JunkKind::UniformSymbols => Maker::Uniform,
            JunkKind::UniformAscii => text(text::uniform_ascii)?,
            JunkKind::Base64 => text(text::base64)?,
            JunkKind::Markup => text(text::markup)?,
        };
        let name = format!("junk, {}", kind.word());
        Ok(Self { name, vocab, seed, maker, last: Mutex::new((u64::MAX, Vec::new())) })
    }

    /// Tokens of the material; none if there is no material.
    pub fn material_tokens(&self) -> Option<u64> {
        match &self.maker {
            Maker::Shuffled { material, .. } => Some(material.len()),
            Maker::Uniform | Maker::Text { .. } => None,
        }
    }

    fn block_tokens(&self) -> usize {
        match &self.maker {
            Maker::Shuffled { block, .. } => *block,
            Maker::Uniform | Maker::Text { .. } => BLOCK,
        }
    }

    /// Makes a block anew.
    fn make(&self, index: u64, block: &mut Vec<u32>) {
        let seed = mix(self.seed ^ mix(index.wrapping_add(1)));
        match &self.maker {
            Maker::Shuffled { material, order, block: length, units } => {
                block.resize(*length, 0);
                material.read(order.row_start(index), block);
                units.shuffle(seed, block);
            }
            Maker::Uniform => shuffle::uniform(seed, self.vocab as u64, block),
            Maker::Text { tokenizer, write } => {
                let mut text = String::with_capacity(2 * BLOCK);
                let mut part = 0;
                block.clear();
                // A token is one byte or several: until there are enough.
                while block.len() < BLOCK {
                    write(mix(seed ^ mix(part)), &mut text);
                    block.clear();
                    tokenizer.encode_into(&text, block);
                    part += 1;
                }
                block.truncate(BLOCK);
            }
        }
    }
}

impl Tokens for Junk {
    fn len(&self) -> u64 {
        u64::MAX >> 1
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, start: u64, out: &mut [u32]) {
        let block_tokens = self.block_tokens();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut done) = (start, 0);
        while done < out.len() {
            let (index, from) = (at / block_tokens as u64, (at % block_tokens as u64) as usize);
            if last.0 != index {
                self.make(index, &mut last.1);
                last.0 = index;
            }
            let count = (block_tokens - from).min(out.len() - done);
            out[done..done + count].copy_from_slice(&last.1[from..from + count]);
            (at, done) = (at + count as u64, done + count);
        }
    }

    fn check_source(&self) -> Result<(), DataError> {
        match &self.maker {
            Maker::Shuffled { material, .. } => material.check_source(),
            Maker::Uniform | Maker::Text { .. } => Ok(()),
        }
    }
}

/// The tokeniser of a vocabulary.
///
/// # Errors
/// One that is not built in.
pub fn known_tokenizer(kind: &TokenizerKind) -> Result<Box<dyn Tokenizer>, DataError> {
    match kind {
        TokenizerKind::Bytes => Ok(Box::new(Bytes)),
        TokenizerKind::Gpt2 => Ok(Box::new(gpt2::gpt2())),
        other => Err(DataError::Setting {
            what: match other {
                TokenizerKind::Named { name, .. } => {
                    format!("the tokens' tokeniser, {name}, is not built in")
                }
                _ => "which tokeniser the tokens were made with is not known".to_owned(),
            },
            hint: "use tokens of bytes or of GPT-2's BPE, or name it in the token file's .json".to_owned(),
        }),
    }
}

fn known(tokenizer: &TokenizerKind, kind: JunkKind) -> Result<Box<dyn Tokenizer>, DataError> {
    known_tokenizer(tokenizer).map_err(|e| match e {
        DataError::Setting { what, .. } => DataError::Setting {
            what: format!("junk = \"{}\" is made of text, but {what}", kind.word()),
            hint: "use tokens of bytes or of GPT-2's BPE, junk = \"uniform-symbols\" or \"characters-shuffled\", or a \
                   token file of junk as a source"
                .to_owned(),
        },
        other => other,
    })
}
