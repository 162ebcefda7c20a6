//! Tests of junk: what is in it, that it is the same however it is read, and how much there is to learn.

use super::*;
use crate::{ByteTokens, DataError};
use flate2::{Compression, write::DeflateEncoder};
use proptest::prelude::*;
use std::io::Write as _;
use std::sync::OnceLock;

const SHUFFLED: [JunkKind; 2] = [JunkKind::WordsShuffled, JunkKind::CharactersShuffled];
const MADE: [JunkKind; 4] =
    [JunkKind::UniformSymbols, JunkKind::UniformAscii, JunkKind::Base64, JunkKind::Markup];

/// 2 MB of the built-in corpus.
fn books() -> Arc<dyn Tokens> {
    static BOOKS: OnceLock<Arc<ByteTokens>> = OnceLock::new();
    let books = BOOKS.get_or_init(|| {
        let corpus = crate::builtin().unwrap();
        let mut ids = vec![0; 2_000_000];
        corpus.train.read(0, &mut ids);
        Arc::new(ByteTokens::new("books", ids.iter().map(|id| *id as u8).collect()))
    });
    Arc::clone(books) as Arc<dyn Tokens>
}

fn junk(kind: JunkKind, seed: u64) -> Junk {
    let material = kind.has_material().then(books);
    Junk::new(kind, material, &TokenizerKind::Bytes, 256, seed).unwrap()
}

fn read(tokens: &dyn Tokens, start: u64, count: usize) -> Vec<u32> {
    let mut out = vec![0; count];
    tokens.read(start, &mut out);
    out
}

fn bytes(tokens: &dyn Tokens, count: usize) -> Vec<u8> {
    read(tokens, 0, count).iter().map(|id| u8::try_from(*id).unwrap()).collect()
}

/// Bits per byte by how often each byte occurs.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let n = bytes.len() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| *c as f64 / n).map(|p| -p * p.log2()).sum()
}

/// Bits per byte as DEFLATE packs it.
fn packed(bytes: &[u8]) -> f64 {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().len() as f64 * 8.0 / bytes.len() as f64
}

#[test]
fn each_kind_has_the_entropy_it_should() {
    let clean = bytes(&*books(), 1_000_000);
    let (clean_single, clean_packed) = (entropy(&clean), packed(&clean));
    assert!(
        (4.2..4.8).contains(&clean_single) && (2.7..3.2).contains(&clean_packed),
        "{clean_single} {clean_packed}"
    );
    // (kind, bits a byte by single bytes, bits a byte packed)
    let same = clean_single - 0.05..clean_single + 0.05;
    let uniform = |symbols: f64| symbols.log2() - 0.01..symbols.log2() + 1e-9;
    // A line feed after 76 characters, which costs H(1/77) and saves 6/77 bits.
    let (p, q) = (1.0 / 77.0_f64, 76.0 / 77.0_f64);
    let line = 6.0 * q - p * p.log2() - q * q.log2();
    let expected = [
        (JunkKind::WordsShuffled, same.clone(), clean_packed + 0.2..clean_packed + 0.9),
        (JunkKind::CharactersShuffled, same, 4.5..5.3),
        (JunkKind::UniformSymbols, uniform(256.0), 7.99..8.01),
        (JunkKind::UniformAscii, uniform(95.0), 6.5..6.8),
        (JunkKind::Base64, line - 0.01..line + 0.01, 5.95..6.15),
        (JunkKind::Markup, 4.5..5.6, 0.3..1.0),
    ];
    for (kind, single, pack) in expected {
        let text = bytes(&junk(kind, 1), 1_000_000);
        assert!(single.contains(&entropy(&text)), "{}: {} not in {single:?}", kind.word(), entropy(&text));
        assert!(pack.contains(&packed(&text)), "{}: packed {} not in {pack:?}", kind.word(), packed(&text));
    }
    let passage = Passages::new(books(), 4096, 1, 1).unwrap();
    let repeated: Vec<u8> = bytes(&passage, 4096).repeat(250);
    assert!(packed(&repeated) < 0.1, "{}", packed(&repeated));
}

proptest! {
    #[test]
    fn tokens_are_the_same_in_parts_of_any_length(
        kind in proptest::sample::select([SHUFFLED.as_slice(), &MADE].concat()),
        start in 0u64..40_000,
        parts in proptest::collection::vec(1usize..6000, 1..6),
    ) {
        let whole = read(&junk(kind, 5), start, parts.iter().sum());
        let again = junk(kind, 5);
        // From somewhere else first: what was made last is another block.
        read(&again, 1 << 40, 7);
        let mut at = start;
        for part in parts {
            let from = (at - start) as usize;
            prop_assert_eq!(&read(&again, at, part), &whole[from..from + part], "{} at {}", kind.word(), at);
            at += part as u64;
        }
    }

    #[test]
    fn passages_are_places_of_their_text_side_by_side(tokens in 1u64..5000, count in 1u64..20, seed: u64) {
        let passages = Passages::new(books(), tokens, count, seed).unwrap();
        prop_assert_eq!(passages.len(), tokens * count + 1);
        let whole = read(&passages, 0, (tokens * count + 1) as usize);
        prop_assert_eq!(whole[0], *whole.last().unwrap());
        let clean = bytes(&*books(), 2_000_000);
        for passage in whole.chunks_exact(tokens as usize).take(3) {
            let passage: Vec<u8> = passage.iter().map(|id| *id as u8).collect();
            let at = clean.chunks_exact(tokens as usize).any(|place| place == passage);
            prop_assert!(at, "a passage stands at a multiple of its length");
        }
    }
}

#[test]
fn junk_is_a_function_of_its_seed_and_never_the_same_block_twice() {
    for kind in [SHUFFLED.as_slice(), &MADE].concat() {
        let first = read(&junk(kind, 1), 0, 3 * BLOCK);
        assert_eq!(first, read(&junk(kind, 1), 0, 3 * BLOCK), "{}", kind.word());
        assert_ne!(first, read(&junk(kind, 2), 0, 3 * BLOCK), "{}", kind.word());
        assert_ne!(first[..BLOCK], first[BLOCK..2 * BLOCK], "{}", kind.word());
    }
}

#[test]
fn the_streams_are_pinned() {
    // Any change here makes old runs unrepeatable.
    let begins = |kind| String::from_utf8_lossy(&bytes(&junk(kind, 1), 40)).into_owned();
    let found: Vec<String> = [SHUFFLED.as_slice(), &MADE[1..]].concat().into_iter().map(begins).collect();
    assert_eq!(found, PINNED);
    assert_eq!(read(&junk(JunkKind::UniformSymbols, 1), 9000, 6), PINNED_SYMBOLS);
}

const PINNED: [&str; 5] = [
    " endeavouring every quarrel in away mere",
    " g l .nrd hi. uepe.wlia\"sgotaf tt abosrr",
    "@{&%dv$JfT<h:Qew/[)50l_2\"j|Hh[IU<; fPACv",
    "V9EDu6DcvjTwShu7KoGOLzqMBy+awnbjTSAvgWY6",
    "<nav class=\"navbar navbar-expand-lg navb",
];
const PINNED_SYMBOLS: [u32; 6] = [29, 245, 11, 41, 215, 210];

#[test]
fn a_shuffle_keeps_what_it_shuffles_and_only_within_its_block() {
    for kind in SHUFFLED {
        let junk = junk(kind, 3);
        let Maker::Shuffled { order, .. } = &junk.maker else { panic!("a shuffled kind") };
        for index in [0, 1, 77] {
            let mut made = read(&junk, index * BLOCK as u64, BLOCK);
            let mut from = read(&*books(), order.row_start(index), BLOCK);
            assert_ne!(made, from);
            if kind == JunkKind::WordsShuffled {
                let text = |ids: &[u32]| String::from_utf8(ids.iter().map(|id| *id as u8).collect()).unwrap();
                let (made, from) = (text(&made), text(&from));
                let mut words: [Vec<&str>; 2] =
                    [made.split_ascii_whitespace().collect(), from.split_ascii_whitespace().collect()];
                let in_place = words[0].iter().zip(&words[1]).filter(|(a, b)| a == b).count();
                assert!(in_place * 10 < words[1].len(), "{in_place} of {} words in place", words[1].len());
                words.iter_mut().for_each(|w| w.sort_unstable());
                // The block's first word, cut or not, has no white space before it, and joins the one it comes behind.
                let kept = words[0].iter().filter(|w| words[1].binary_search(w).is_ok()).count();
                assert!(kept + 2 >= words[1].len(), "{kept} of {} words", words[1].len());
            }
            made.sort_unstable();
            from.sort_unstable();
            assert_eq!(made, from, "the same characters");
        }
    }
}

#[test]
fn characters_of_several_bytes_stay_whole() {
    let text = "naïve — 日本語, ".repeat(2000);
    let material: Arc<dyn Tokens> = Arc::new(ByteTokens::new("t", text.into_bytes()));
    let junk =
        Junk::new(JunkKind::CharactersShuffled, Some(material), &TokenizerKind::Bytes, 256, 1).unwrap();
    let text = bytes(&junk, 4096);
    // A block may begin and end within one; then one half of it stands somewhere.
    let broken = String::from_utf8_lossy(&text).matches('\u{fffd}').count();
    assert!(broken <= 4, "{broken} broken characters");
}

#[test]
fn in_gpt2s_vocabulary_words_and_text_are_its_tokens() {
    let gpt2 = gpt2::gpt2();
    let ids = gpt2.encode(&String::from_utf8(bytes(&*books(), 200_000)).unwrap());
    let mut raw = Vec::new();
    ids.iter().for_each(|id| raw.extend_from_slice(&(*id as u16).to_le_bytes()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.bin");
    std::fs::write(&path, raw).unwrap();
    let material: Arc<dyn Tokens> =
        Arc::new(crate::BinFile::open(&path, &crate::BinOptions::default()).unwrap());
    for kind in [SHUFFLED.as_slice(), &MADE].concat() {
        let material = kind.has_material().then(|| Arc::clone(&material));
        let junk = Junk::new(kind, material, &TokenizerKind::Gpt2, 50_257, 1).unwrap();
        let ids = read(&junk, 0, 3 * BLOCK);
        assert!(ids.iter().all(|id| *id < 50_257));
        let mut text = Vec::new();
        gpt2.decode_into(&ids, &mut text).unwrap();
        match kind {
            JunkKind::WordsShuffled => {
                let words = String::from_utf8_lossy(&text);
                let the = words.split_whitespace().filter(|word| *word == "the").count();
                assert!(the > 100, "`the` {the} times");
            }
            JunkKind::Base64 => {
                assert!(text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/\n".contains(b)))
            }
            JunkKind::Markup => assert!(String::from_utf8(text).unwrap().contains("class=\"")),
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_made_is_named() {
    let check = |result: Result<Junk, DataError>, parts: &[&str]| {
        let message = result.map(|_| ()).unwrap_err().to_string();
        assert!(parts.iter().all(|p| message.contains(p)), "{message}");
    };
    let named = TokenizerKind::Named { name: "mine".into(), sha256: None };
    check(Junk::new(JunkKind::Base64, None, &named, 1000, 1), &["base64", "mine", "hint:"]);
    check(
        Junk::new(JunkKind::WordsShuffled, Some(books()), &TokenizerKind::Unknown, 256, 1),
        &["words-shuffled", "not known", "uniform-symbols"],
    );
    assert!(Junk::new(JunkKind::CharactersShuffled, Some(books()), &TokenizerKind::Unknown, 256, 1).is_ok());
    let one: Arc<dyn Tokens> = Arc::new(ByteTokens::new("t", vec![1]));
    check(Junk::new(JunkKind::CharactersShuffled, Some(one), &TokenizerKind::Bytes, 256, 1), &["1 tokens"]);
    assert!(matches!(Passages::new(books(), 3_000_000, 1, 1), Err(DataError::TooFewTokens { .. })));
    assert!(matches!(Passages::new(books(), 4096, 1_000, 1), Err(DataError::Setting { .. })));
}
