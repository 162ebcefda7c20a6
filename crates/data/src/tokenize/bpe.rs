//! Byte-level BPE: a text is cut into pieces by a pattern, and the bytes of each piece are merged.
//!
//! What a piece becomes is looked up, and merged only where it is not known. Any number of threads may encode at once:
//! what one writes to (its tables of known pieces, some 10 MiB) it takes from a shelf for the time of a call and puts
//! back, so that there are never more than calls at the same time.

use crate::error::DataError;
use crate::tokenize::cache::{Cache, INLINE, Key, Long, MAX_PIECE};
use crate::tokenize::gpt2_split::{self, Splitter};
use crate::tokenize::merge::{MAX_IDS, Merges, merge};
use crate::tokenize::pattern::Pattern;
use crate::tokenize::scan::Scanner;
use crate::tokenize::{Special, Tokenizer, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What a [`Bpe`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// The bytes of each id; none for an id that is special or not given.
    pub tokens: Vec<Vec<u8>>,
    /// (left id, right id, the id they become), the first to be merged first.
    pub merges: Vec<[u32; 3]>,
    /// Tokens that stand for no text of their own.
    pub special: Vec<Special>,
    /// How text is cut into pieces.
    pub pattern: Pattern,
    /// A piece that is a token is that token, whatever merging would make of it (`ignore_merges`, and tiktoken always).
    pub whole_first: bool,
}

/// A byte-level BPE with its encoder.
pub struct Bpe {
    name: String,
    vocabulary: Vocabulary,
    vocab_size: usize,
    byte_ids: [u32; 256],
    merges: Merges,
    /// Tokens that merging does not make, where whole pieces come first.
    unreachable: HashMap<Vec<u8>, u32>,
    shelf: Mutex<Vec<Scratch>>,
}

/// What one call writes to.
struct Scratch {
    cache: Cache,
    long: Long,
    /// Ids of a batch, and what an entry has beyond its count.
    ids: Box<[u32; BATCH * INLINE]>,
    piece: Vec<u32>,
}

/// Pieces whose ids are gathered before they are appended.
const BATCH: usize = 64;

impl Bpe {
    /// A BPE of this vocabulary.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] if a byte has no token, a merge does not make what it says, or there are 2²¹ ids or
    /// more.
    pub fn new(name: &str, vocabulary: Vocabulary) -> Result<Self, DataError> {
        let wrong = |what: String| DataError::Tokenizer {
            name: name.to_owned(),
            what,
            hint: "only byte-level BPE vocabularies can be used, in which each of the 256 bytes is a token"
                .to_owned(),
        };
        let special_ids = vocabulary.special.iter().map(|special| special.id as usize + 1).max().unwrap_or(0);
        let vocab_size = vocabulary.tokens.len().max(special_ids);
        if vocab_size > MAX_IDS || vocabulary.merges.len() > MAX_IDS {
            return Err(wrong(format!("has {vocab_size} ids; fewer than {MAX_IDS} can be used")));
        }
        let mut byte_ids = [u32::MAX; 256];
        for (token, id) in vocabulary.tokens.iter().zip(0..) {
            if let [byte] = token[..] {
                byte_ids[usize::from(byte)] = id;
            }
        }
        let missing = byte_ids.iter().filter(|&&id| id == u32::MAX).count();
        if missing > 0 {
            return Err(wrong(format!("has no token for {missing} of the 256 bytes")));
        }
        let bytes = |id: u32| vocabulary.tokens.get(id as usize).map_or(&[][..], Vec::as_slice);
        for (&[left, right, made], rank) in vocabulary.merges.iter().zip(1..) {
            if bytes(left).is_empty()
                || bytes(right).is_empty()
                || [bytes(left), bytes(right)].concat() != bytes(made)
            {
                return Err(wrong(format!("merge {rank} of ids {left} and {right} does not make id {made}")));
            }
        }
        let merges = Merges::new(&vocabulary.merges);
        let mut bpe = Self {
            name: name.to_owned(),
            vocabulary,
            vocab_size,
            byte_ids,
            merges,
            unreachable: HashMap::new(),
            shelf: Mutex::new(Vec::new()),
        };
        if bpe.vocabulary.whole_first {
            bpe.unreachable = bpe.unreachable_tokens();
        }
        Ok(bpe)
    }

    /// What it is made of.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn unreachable_tokens(&self) -> HashMap<Vec<u8>, u32> {
        let mut ids = Vec::new();
        let tokens = self.vocabulary.tokens.iter().zip(0..).filter(|(token, _)| !token.is_empty());
        let unreachable = tokens.filter(|&(token, id)| {
            self.merge_bytes(token, &mut ids);
            ids != [id]
        });
        unreachable.map(|(token, id)| (token.clone(), id)).collect()
    }

    fn merge_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        ids.clear();
        ids.extend(bytes.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        merge(&self.merges, ids);
    }

    /// Encodes pieces that stand side by side in `text`; `starts` has where each begins and where the last one ends.
    fn encode_window(&self, text: &[u8], starts: &[u32], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let mut from = 0;
        while from + 1 < starts.len() {
            let to = starts.len().min(from + BATCH + 1);
            self.encode_batch(text, &starts[from..to], scratch, out);
            from = to - 1;
        }
    }

    fn encode_batch(&self, text: &[u8], starts: &[u32], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let mut count = 0;
        for bounds in starts.windows(2) {
            let (from, to) = (bounds[0] as usize, bounds[1] as usize);
            let key = Key::new(sixteen(text, from), to - from);
            let (entry, found) = scratch.cache.get(key);
            let more = entry.count();
            if !found | (more > INLINE) {
                out.extend_from_slice(&scratch.ids[..count]);
                count = 0;
                self.encode_piece(&text[from..to], key, scratch, out);
                continue;
            }
            let room = scratch.ids[count..].first_chunk_mut().expect("four for each piece of a batch");
            *room = entry.inline();
            count += more;
        }
        out.extend_from_slice(&scratch.ids[..count]);
    }

    /// Appends the ids of a piece that is not kept, or has many.
    #[cold]
    fn encode_piece(&self, bytes: &[u8], key: Key, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { cache, long, piece, .. } = scratch;
        let is_short = bytes.len() <= MAX_PIECE;
        let known = match (is_short, cache.get(key)) {
            (true, (entry, true)) => Some(cache.listed(entry)),
            (true, _) => None,
            (false, _) => long.get(bytes),
        };
        if let Some(ids) = known {
            out.extend_from_slice(ids);
            return;
        }
        match self.unreachable.get(bytes) {
            Some(&id) => {
                piece.clear();
                piece.push(id);
            }
            None => self.merge_bytes(bytes, piece),
        }
        out.extend_from_slice(piece);
        if is_short {
            cache.put(key, piece);
        } else {
            long.put(bytes, piece);
        }
    }
}

impl Tokenizer for Bpe {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let shelf = || self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = shelf().pop();
        let mut scratch = taken.unwrap_or_else(Scratch::new);
        let bytes = text.as_bytes();
        if self.vocabulary.pattern == Pattern::Gpt2 {
            let mut splitter = Splitter::new(text);
            while let Some((base, starts)) = splitter.next_window() {
                self.encode_window(&bytes[base..], starts, &mut scratch, ids);
            }
        } else {
            let mut scanner = Scanner::new(text, self.vocabulary.pattern);
            while let Some((base, starts)) = scanner.next_window() {
                self.encode_window(&bytes[base..], starts, &mut scratch, ids);
            }
        }
        shelf().push(scratch);
    }

    fn token(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary.tokens.get(id as usize).map(Vec::as_slice).filter(|token| !token.is_empty())
    }

    fn special(&self) -> &[Special] {
        &self.vocabulary.special
    }

    fn json(&self) -> String {
        json::write(&self.vocabulary)
    }
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe")
            .field("name", &self.name)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

impl Scratch {
    fn new() -> Self {
        Self {
            cache: Cache::new(),
            long: Long::default(),
            ids: Box::new([0; BATCH * INLINE]),
            piece: Vec::new(),
        }
    }
}

/// The 16 bytes from `at` on, 0 beyond the end.
#[inline(always)]
fn sixteen(text: &[u8], at: usize) -> [u64; 2] {
    let bytes: [u8; 16] = match text[at..].first_chunk() {
        Some(&chunk) => chunk,
        None => padded(&text[at..]),
    };
    let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    [half(0), half(8)]
}

#[cold]
fn padded(rest: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// The pieces of a text, for counting.
pub(crate) fn for_each_piece<'t>(text: &'t str, pattern: Pattern, mut each: impl FnMut(&'t [u8])) {
    let bytes = text.as_bytes();
    let mut window = |base: usize, starts: &[u32]| {
        for bounds in starts.windows(2) {
            each(&bytes[base + bounds[0] as usize..base + bounds[1] as usize]);
        }
    };
    if pattern == Pattern::Gpt2 {
        let mut splitter = gpt2_split::Splitter::new(text);
        while let Some((base, starts)) = splitter.next_window() {
            window(base, starts);
        }
    } else {
        let mut scanner = Scanner::new(text, pattern);
        while let Some((base, starts)) = scanner.next_window() {
            window(base, starts);
        }
    }
}
