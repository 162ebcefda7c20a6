//! The fast encoder against the naive one, and both against what tiktoken and `tokenizers` say
//! (`tokenize/goldens.json`).

use super::gpt2::gpt2;
use super::gpt2_split::Splitter;
use super::merge::{Merges, merge};
use super::pattern::Pattern;
use super::scan::Scanner;
use super::train::{TrainOptions, train};
use super::{Bytes, END_OF_TEXT, TokenStats, Tokenizer, bpe::Bpe, chunks, json, naive, open};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::LazyLock;

static GPT2: LazyLock<Bpe> = LazyLock::new(gpt2);

/// The built-in corpus.
fn literature() -> String {
    let compressed = include_bytes!("../../corpus/literature.txt.zst").as_slice();
    let mut text = String::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(compressed).unwrap();
    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
    text
}

fn split(text: &str) -> Vec<&str> {
    let (mut pieces, mut splitter) = (Vec::new(), Splitter::new(text));
    while let Some((base, starts)) = splitter.next_window() {
        pieces.extend(starts.windows(2).map(|b| &text[base + b[0] as usize..base + b[1] as usize]));
    }
    pieces
}

fn naive_ids(bpe: &Bpe, text: &str) -> Vec<u32> {
    let vocabulary = bpe.vocabulary();
    let merges: HashMap<(u32, u32), (u32, u32)> = (0..)
        .zip(&vocabulary.merges)
        .map(|(rank, &[left, right, made])| ((left, right), (rank, made)))
        .collect();
    let byte_ids: HashMap<u8, u32> =
        vocabulary.tokens.iter().zip(0..).filter(|(t, _)| t.len() == 1).map(|(t, id)| (t[0], id)).collect();
    let pieces = naive::gpt2_pieces(text);
    pieces
        .into_iter()
        .flat_map(|piece| {
            let mut ids = piece.bytes().map(|byte| byte_ids[&byte]).collect();
            naive::merge(&mut ids, &merges);
            ids
        })
        .collect()
}

/// Characters on which splitters stumble: every kind, in one, two, three and four bytes, contractions, line ends, NUL.
fn crooked() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z]{1,9}",
        2 => "[0-9]{1,5}",
        4 => "[ \t\n\r\u{b}\u{a0}\u{85}\u{3000}\u{2028}]{1,4}",
        2 => "[!-/:-@_`~]{1,4}",
        2 => "['’](s|t|re|ve|m|ll|d|S|r|l)?",
        2 => "[éßжλ文字ಠ\u{300}\u{17f}\u{2160}½²٣😀\u{1f1e6}\u{0}\u{7f}\u{10ffff}]{1,3}",
        1 => any::<char>().prop_map(String::from),
        1 => "(x|=| |ab|\u{3000}){60,90}",
    ];
    proptest::collection::vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_those_of_the_pattern(text in crooked()) {
        prop_assert_eq!(split(&text), naive::gpt2_pieces(&text));
    }

    #[test]
    fn ids_are_those_of_the_naive_encoder_and_decode_to_the_text(text in crooked()) {
        let ids = GPT2.encode(&text);
        prop_assert_eq!(&ids, &naive_ids(&GPT2, &text));
        let mut bytes = Vec::new();
        GPT2.decode_into(&ids, &mut bytes).unwrap();
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }

    #[test]
    fn every_pattern_gives_each_byte_to_one_piece_and_can_be_cut(text in crooked(), bytes in 1usize..300) {
        let parts: Vec<&str> = chunks(&text, bytes).collect();
        prop_assert_eq!(parts.concat(), text.as_str());
        for pattern in [Pattern::Cl100k, Pattern::O200k, Pattern::Llama3, Pattern::Qwen2] {
            prop_assert_eq!(scan(&text, pattern).concat(), text.as_str());
            let apart: Vec<&str> = parts.iter().flat_map(|part| scan(part, pattern)).collect();
            prop_assert_eq!(apart, scan(&text, pattern));
        }
        let apart: Vec<&str> = parts.iter().flat_map(|part| split(part)).collect();
        prop_assert_eq!(apart, split(&text));
    }

    /// Scanning and the heap take over from each other at a length; both must be the naive merge on either side of it.
    #[test]
    fn merging_is_the_naive_merge_at_any_length(
        text in "[a-d]{0,200}",
        pairs in proptest::collection::vec((0u32..40, 0u32..40), 1..40),
    ) {
        let known_before = |(&(left, right), made): (&(u32, u32), u32)| [left.min(made - 1), right.min(made - 1), made];
        let merges: Vec<[u32; 3]> = pairs.iter().zip(4..).map(known_before).collect();
        let mut known = HashMap::new();
        for (rank, &[left, right, made]) in (0..).zip(&merges) {
            known.entry((left, right)).or_insert((rank, made));
        }
        let ids: Vec<u32> = text.bytes().map(|byte| u32::from(byte - b'a')).collect();
        let (mut fast, mut slow) = (ids.clone(), ids);
        merge(&Merges::new(&merges), &mut fast);
        naive::merge(&mut slow, &known);
        prop_assert_eq!(fast, slow);
    }
}

fn scan(text: &str, pattern: Pattern) -> Vec<&str> {
    let (mut pieces, mut scanner) = (Vec::new(), Scanner::new(text, pattern));
    while let Some((base, starts)) = scanner.next_window() {
        pieces.extend(starts.windows(2).map(|b| &text[base + b[0] as usize..base + b[1] as usize]));
    }
    pieces
}

#[test]
fn the_vocabulary_is_gpt2s() {
    assert_eq!(GPT2.vocab_size(), 50_257);
    assert_eq!(GPT2.vocabulary().merges.len(), 50_000);
    assert_eq!(GPT2.encode("Hello world, it's 2019!\n\n"), [15496, 995, 11, 340, 338, 13130, 0, 628]);
    assert_eq!(GPT2.encode("\n\nx"), [198, 198, 87]);
    assert_eq!(GPT2.token(50_255), Some(" gazed".as_bytes()));
    assert_eq!((GPT2.token(50_256), GPT2.end_of_text()), (None, Some(50_256)));
}

#[test]
fn the_special_token_is_text_unless_asked_for() {
    let text = format!("a{END_OF_TEXT}b{END_OF_TEXT}");
    let (plain, mut special) = (GPT2.encode(&text), Vec::new());
    GPT2.encode_with_special_into(&text, &mut special);
    assert!(!plain.contains(&50_256) && plain.len() > 10, "{plain:?}");
    assert_eq!(special, [64, 50_256, 65, 50_256]);
    for ids in [plain, special] {
        let mut bytes = Vec::new();
        GPT2.decode_into(&ids, &mut bytes).unwrap();
        assert_eq!(bytes, text.as_bytes());
    }
    let error = GPT2.decode_into(&[1, 50_257], &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("50257") && error.contains("number 1"), "{error}");
}

/// Pieces that once overflowed tiktoken's stack or took it minutes.
#[test]
fn long_pieces_take_no_square_of_their_length() {
    // GPT-2 has "^^^^" and "aaaa", and no run of spaces.
    let long = [("^", 1_000_000, 250_000), ("a", 100_000, 25_000), (" ", 1_000_000, 1_000_000)];
    for (character, count, num_ids) in long {
        let text = character.repeat(count);
        let ids = GPT2.encode(&text);
        assert_eq!(ids.len(), num_ids, "{character:?}");
        let mut bytes = Vec::new();
        GPT2.decode_into(&ids, &mut bytes).unwrap();
        assert!(bytes == text.as_bytes());
    }
}

/// What splitters and merges stumble over, on one line of 20 MB.
#[test]
fn a_line_of_torture_is_the_naive_encoders() {
    let odd = (0x20..0x3000)
        .filter_map(char::from_u32)
        .filter(|c| !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'));
    let control: String = (0..0x20u8).map(char::from).filter(|c| !matches!(c, '\n' | '\r')).collect();
    let parts = [
        "Emoji 👩‍👩‍👧‍👦🏳️‍🌈 e\u{301}\u{327}é".to_owned(),
        "日本語の文章。한국어 텍스트 中文，".repeat(300),
        "\u{3000}".repeat(300),
        " ".repeat(3000),
        control.repeat(20),
        odd.collect(),
        "^".repeat(600),
        "don't DON'T it's ''s 's'll'".repeat(200),
        (0..30_000).map(|i| format!("{i} ")).collect(),
        "0123456789".repeat(60),
    ];
    let line = parts.concat();
    let ids = naive_ids(&GPT2, &line);
    assert!(GPT2.encode(&line) == ids);
    // The line ends with a number and begins with a letter: pieces end there, whatever stands before and behind.
    let times = 20_000_000_usize.div_ceil(line.len());
    assert!(GPT2.encode(&line.repeat(times)) == ids.repeat(times));
}

#[test]
fn the_corpus_whole_in_parts_and_by_threads_is_the_same() {
    let text = literature();
    let whole = GPT2.encode(&text);
    assert_eq!(whole.len(), 3_841_835);
    let parts: Vec<&str> = chunks(&text, 100_000).collect();
    assert!(parts.len() > 100);
    let encoded: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .chunks(parts.len().div_ceil(3))
            .map(|parts| scope.spawn(|| parts.iter().flat_map(|part| GPT2.encode(part)).collect()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(encoded.concat() == whole);
    let sample: String = text.chars().skip(5_000_000).take(300_000).collect();
    assert!(GPT2.encode(&sample) == naive_ids(&GPT2, &sample));
    let mut stats = TokenStats::new(GPT2.vocab_size());
    stats.add(text.len(), &whole);
    assert!((stats.bytes_per_token().unwrap() - 4.069).abs() < 0.001, "{:?}", stats.bytes_per_token());
}

#[test]
fn training_is_the_same_for_any_number_of_threads() {
    let text: String = literature().chars().take(2_000_000).collect();
    let trained = |threads| {
        let options = TrainOptions { vocab_size: 1000, pattern: Pattern::Gpt2, threads };
        train(&[&text], options, &mut |_| {}).unwrap()
    };
    let one = trained(1);
    assert_eq!(one.vocab_size(), 1000);
    assert_eq!(one.end_of_text(), Some(999));
    for threads in [2, 7] {
        assert!(trained(threads).vocabulary() == one.vocabulary());
    }
    assert_eq!(one.encode(&text[..50_000]), naive_ids(&one, &text[..50_000]));
    let read = json::read("trained", one.json().as_bytes()).unwrap();
    assert!(read.vocabulary() == one.vocabulary());
}

#[test]
fn training_stops_where_no_pair_is_left() {
    let options = TrainOptions { vocab_size: 400, pattern: Pattern::Gpt2, threads: 1 };
    let bpe = train(&["low low lower"], options, &mut |_| {}).unwrap();
    let made: Vec<&[u8]> = bpe.vocabulary().tokens[256..].iter().map(Vec::as_slice).collect();
    assert_eq!(made, [b"lo".as_slice(), b"low", b" low", b"er", b" lower"]);
    assert_eq!(bpe.encode("lower low"), [257, 259, 258]);
    let tiny = TrainOptions { vocab_size: 256, ..options };
    assert!(train(&["x"], tiny, &mut |_| {}).unwrap_err().to_string().contains("256 ids"));
}

#[test]
fn gpt2_survives_its_tokenizer_json() {
    let read = json::read("gpt2", GPT2.json().as_bytes()).unwrap();
    assert!(read.vocabulary() == GPT2.vocabulary());
}

#[test]
fn a_tokenizer_json_that_gives_other_ids_is_refused_by_name() {
    let mut base: serde_json::Value = serde_json::from_str(&Bytes.json()).unwrap();
    let refused = |path: &str, value: serde_json::Value, expected: &str| {
        let mut document = base.clone();
        *document.pointer_mut(path).unwrap() = value;
        let error = json::read("t.json", document.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("hint:"), "{path}: {error}");
    };
    refused("/model/type", "WordPiece".into(), "a WordPiece model");
    refused("/model/byte_fallback", true.into(), "not byte-level");
    refused("/model/dropout", 0.1.into(), "`dropout`");
    refused("/normalizer", serde_json::json!({"type": "NFC"}), "normalises text before it splits it (NFC)");
    refused("/pre_tokenizer/add_prefix_space", true.into(), "`add_prefix_space`");
    refused("/pre_tokenizer", serde_json::json!({"type": "Metaspace"}), "splits text by Metaspace");
    refused("/decoder", serde_json::json!({"type": "Fuse"}), "decodes by Fuse");
    refused("/model/vocab/A", (1u64 << 40).into(), "has an id 1099511627776");
    refused("/model/merges", serde_json::json!(["A ZZ"]), "a merge, number 1");
    base["model"]["vocab"].as_object_mut().unwrap().remove("A");
    let error = json::read("t.json", base.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("no token for 1 of the 256 bytes"), "{error}");
    let error = json::read("t.json", b"{").unwrap_err().to_string();
    assert!(error.contains("is no tokenizer.json"), "{error}");
}

#[test]
fn a_tokeniser_is_opened_by_name_or_says_what_there_is() {
    assert_eq!(open("bytes", None).unwrap().encode("aé"), [97, 0xc3, 0xa9]);
    assert_eq!(open("gpt2", None).unwrap().vocab_size(), 50_257);
    for (name, expected) in [("gtp2", "no tokeniser is named gtp2"), ("no/where.json", "no such file")] {
        let error = open(name, None).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("hint:"), "{error}");
    }
    assert!(open("gpt2", Some(Pattern::Cl100k)).err().unwrap().to_string().contains("has its own pattern"));
}

/// One text with the pieces that tiktoken or `tokenizers` finds in it.
#[derive(serde::Deserialize)]
struct Golden {
    pattern: String,
    text: String,
    pieces: Vec<String>,
}

#[test]
fn pieces_are_those_of_tiktoken_and_tokenizers() {
    let goldens: Vec<Golden> = serde_json::from_str(include_str!("../../tokenize/goldens.json")).unwrap();
    assert!(goldens.len() > 500, "{}", goldens.len());
    for Golden { pattern, text, pieces } in goldens {
        let pattern = Pattern::named(&pattern).unwrap();
        if pattern == Pattern::Gpt2 {
            assert_eq!(split(&text), pieces, "{text:?}");
        } else {
            assert_eq!(scan(&text, pattern), pieces, "{pattern:?} {text:?}");
        }
    }
}
