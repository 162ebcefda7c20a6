//! A BPE vocabulary from a text (Sennrich, Haddow & Birch 2016, on bytes as GPT-2 has it).
//!
//! The text's pieces are counted, by several threads; then the pair of neighbours that occurs most often becomes a
//! token, again and again. Counts are kept, not recounted: a merge touches only the pieces that have the pair, and a
//! heap has the most frequent one, its entries checked when they come up. Of pairs that occur equally often the one
//! with the smallest ids is merged, so that the vocabulary is a function of the text and its size, whatever the number
//! of threads; and these are the ties of Hugging Face's own trainer, whose merges are the same.

use crate::error::DataError;
use crate::tokenize::bpe::{Bpe, Vocabulary, for_each_piece};
use crate::tokenize::chunks::chunks;
use crate::tokenize::gpt2::byte_order;
use crate::tokenize::pattern::Pattern;
use crate::tokenize::{END_OF_TEXT, Special};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of text that a thread counts at a time.
const CHUNK: usize = 1 << 20;

/// How to train.
#[derive(Debug, Clone, Copy)]
pub struct TrainOptions {
    /// Ids of the vocabulary: 256 bytes, merges, and `<|endoftext|>`, which is the last one.
    pub vocab_size: usize,
    /// How text is cut into pieces.
    pub pattern: Pattern,
    /// Threads that count. The result is the same for any number.
    pub threads: usize,
}

/// A piece of the text, as ids, and how often it occurs.
struct Word {
    ids: Vec<u32>,
    count: u64,
}

/// How often a pair occurs, and the words it was seen in, some of which may have lost it since.
#[derive(Default)]
struct Pair {
    count: u64,
    words: Vec<u32>,
}

/// Trains on texts; `progress` is told how many ids there are.
///
/// The vocabulary is smaller than asked for when every piece has become one token before.
///
/// # Errors
/// [`DataError::Setting`] for a vocabulary that has no room for the bytes, or too many ids.
pub fn train(
    texts: &[&str],
    options: TrainOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Bpe, DataError> {
    let least = 256 + 1;
    if !(least..crate::tokenize::merge::MAX_IDS).contains(&options.vocab_size) {
        return Err(DataError::Setting {
            what: format!("a vocabulary of {} ids cannot be trained", options.vocab_size),
            hint: format!("ask for {least} (bytes and {END_OF_TEXT}) to 1,000,000, e.g. 4096"),
        });
    }
    let tokens = byte_order().map(|byte| vec![byte]).collect();
    let mut trainer = Trainer::new(count_words(texts, options), tokens);
    while trainer.tokens.len() < options.vocab_size - 1 && trainer.merge_next() {
        progress(trainer.tokens.len());
    }
    let Trainer { tokens, merges, .. } = trainer;
    let special = vec![Special { text: END_OF_TEXT.to_owned(), id: tokens.len() as u32 }];
    let vocabulary = Vocabulary { tokens, merges, special, pattern: options.pattern, whole_first: false };
    Bpe::new("trained", vocabulary)
}

/// The pieces of the texts with their counts, in the order of their bytes.
fn count_words(texts: &[&str], options: TrainOptions) -> BTreeMap<Vec<u8>, u64> {
    let chunks: Vec<&str> = texts.iter().flat_map(|text| chunks(text, CHUNK)).collect();
    let next = AtomicUsize::new(0);
    let count = || {
        let mut counts: HashMap<&[u8], u64> = HashMap::new();
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            for_each_piece(chunk, options.pattern, |piece| *counts.entry(piece).or_default() += 1);
        }
        counts
    };
    let mut words: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(count)).collect();
        for thread in threads {
            let counts = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (piece, count) in counts {
                match words.get_mut(piece) {
                    Some(sum) => *sum += count,
                    None => {
                        words.insert(piece.to_owned(), count);
                    }
                }
            }
        }
    });
    words
}

struct Trainer {
    words: Vec<Word>,
    tokens: Vec<Vec<u8>>,
    merges: Vec<[u32; 3]>,
    pairs: HashMap<(u32, u32), Pair>,
    /// (count, pair): the largest count first, then the smallest ids. Counts that have fallen since are found out when
    /// they come up; every count that rises gets a new entry.
    queue: BinaryHeap<(u64, Reverse<(u32, u32)>)>,
}

impl Trainer {
    fn new(counts: BTreeMap<Vec<u8>, u64>, tokens: Vec<Vec<u8>>) -> Self {
        let mut id_of = [0; 256];
        for (byte, id) in byte_order().zip(0..) {
            id_of[usize::from(byte)] = id;
        }
        let ids = |piece: &[u8]| piece.iter().map(|&byte| id_of[usize::from(byte)]).collect();
        let words: Vec<Word> =
            counts.into_iter().map(|(piece, count)| Word { ids: ids(&piece), count }).collect();
        let mut pairs: HashMap<(u32, u32), Pair> = HashMap::new();
        for (word, number) in words.iter().zip(0..) {
            for pair in neighbours(&word.ids) {
                let pair = pairs.entry(pair).or_default();
                pair.count += word.count;
                if pair.words.last() != Some(&number) {
                    pair.words.push(number);
                }
            }
        }
        let queue = pairs.iter().map(|(&ids, pair)| (pair.count, Reverse(ids))).collect();
        Self { words, tokens, merges: Vec::new(), pairs, queue }
    }

    /// Makes the most frequent pair a token. False when there is none left.
    fn merge_next(&mut self) -> bool {
        let (left, right, pair) = loop {
            let Some((count, Reverse((left, right)))) = self.queue.pop() else { return false };
            let now = self.pairs.get(&(left, right)).map_or(0, |pair| pair.count);
            if now == count && count > 0 {
                break (left, right, self.pairs.remove(&(left, right)).unwrap_or_default());
            }
            if now > 0 {
                self.queue.push((now, Reverse((left, right))));
            }
        };
        let made = self.tokens.len() as u32;
        self.tokens.push([self.tokens[left as usize].as_slice(), &self.tokens[right as usize]].concat());
        self.merges.push([left, right, made]);
        let mut risen = Vec::new();
        for &number in &pair.words {
            let word = &mut self.words[number as usize];
            let Some(merged) = merged(&word.ids, left, right, made) else { continue };
            for gone in neighbours(&word.ids).filter(|&pair| pair != (left, right)) {
                if let Some(pair) = self.pairs.get_mut(&gone) {
                    pair.count -= word.count;
                }
            }
            word.ids = merged;
            for new in neighbours(&word.ids) {
                let pair = self.pairs.entry(new).or_default();
                pair.count += word.count;
                // Words are gone through in order, so that one that is in the list already is its last or was there
                // before.
                if (new.0 == made || new.1 == made) && pair.words.last() != Some(&number) {
                    pair.words.push(number);
                    risen.push(new);
                }
            }
        }
        risen.sort_unstable();
        risen.dedup();
        self.queue.extend(risen.into_iter().map(|pair| (self.pairs[&pair].count, Reverse(pair))));
        true
    }
}

fn neighbours(ids: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    ids.windows(2).map(|pair| (pair[0], pair[1]))
}

/// A word with a pair merged, leftmost first; none if it does not have it.
fn merged(ids: &[u32], left: u32, right: u32, made: u32) -> Option<Vec<u32>> {
    let mut merged = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while let [first, behind @ ..] = rest {
        if *first == left && behind.first() == Some(&right) {
            merged.push(made);
            rest = &behind[1..];
        } else {
            merged.push(*first);
            rest = behind;
        }
    }
    (merged.len() < ids.len()).then_some(merged)
}
