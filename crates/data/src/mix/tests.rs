//! Tests of mixtures of real sources and junk.

use super::*;
use crate::{ByteTokens, CorpusInfo, TokenizerKind, corpus};
use isoflop_base::mix::{Passages as PassagesSpec, StageSpec, StageStart};

const CONTEXT: usize = 16;

/// A source whose every token is `letter`-ish: which source a row is of shows in it.
fn text(name: &str, letter: u8, tokens: usize) -> CorpusSource {
    let bytes: Vec<u8> = (0..tokens).map(|i| letter + (mix(i as u64) % 16) as u8).collect();
    let info = CorpusInfo {
        name: name.to_owned(),
        vocab: 256,
        train_tokens: tokens as u64,
        val_tokens: 100,
        tokenizer: TokenizerKind::Bytes,
        bytes_per_token: Some(1.0),
        sha256: name.to_owned(),
        sha256_covers: "text".to_owned(),
        block_tokens: 64,
    };
    let val = ByteTokens::new(format!("{name}, held out"), bytes[..100].to_vec());
    let train = Arc::new(ByteTokens::new(name, bytes));
    CorpusSource { name: name.to_owned(), train, val: Some(Arc::new(val)), info, tokenizer_json: None }
}

fn tokens(source: &CorpusSource) -> SourceSpec {
    let origin = Origin::Tokens {
        fingerprint: source.info.sha256.clone(),
        train_tokens: source.info.train_tokens,
        val_tokens: source.info.val_tokens,
    };
    SourceSpec { name: source.name.clone(), origin, tag: Vec::new(), unique_tokens: None }
}

fn junk(kind: JunkKind, of: Option<usize>, passages: Option<PassagesSpec>) -> SourceSpec {
    let origin = Origin::Junk { kind, of, seed: 0, passages };
    SourceSpec { name: kind.word().to_owned(), origin, tag: Vec::new(), unique_tokens: None }
}

fn spec(sources: Vec<SourceSpec>, stages: &[(u64, &[u64])]) -> MixSpec {
    let stage = |(from_step, weights): &(u64, &[u64])| StageSpec {
        from: StageStart::Steps(*from_step),
        from_step: *from_step,
        weights: weights.to_vec(),
    };
    MixSpec { sources, stages: stages.iter().map(stage).collect(), held_out: vec![0] }
}

fn two() -> Corpus {
    corpus::of_several(vec![text("a", b'A', 5001), text("b", b'a', 2001)], 0).unwrap()
}

fn rows(mixture: &Mixture, first: u64, count: usize) -> Vec<Vec<u32>> {
    let mut batch = TokenBatch::zeroed(count, CONTEXT);
    mixture.fill(first, &mut batch).unwrap();
    (0..count).map(|row| batch.row(row).to_vec()).collect()
}

#[test]
fn a_run_reads_of_each_source_the_rows_it_would_read_of_it_alone() {
    let corpus = two();
    let [a, b] = [&corpus.sources[0], &corpus.sources[1]];
    let spec = spec(vec![tokens(a), tokens(b)], &[(0, &[3, 1]), (20, &[1, 4])]);
    let mixture = Mixture::new(&corpus, &spec, 7, CONTEXT, 4, 200).unwrap();
    let all = rows(&mixture, 0, 200);
    for (index, source) in [a, b].into_iter().enumerate() {
        let of_it: Vec<_> = (0..200).filter(|row| mixture.assignment.source(*row) == index).collect();
        let alone = Sampler::new(source.train.len(), CONTEXT, 7).unwrap();
        let alone = alone.batch(&*source.train, 0, of_it.len()).unwrap();
        for (number, row) in of_it.iter().enumerate() {
            assert_eq!(all[*row as usize], alone.row(number), "row {number} of {}", source.name);
        }
    }
    // 80 rows at 3:1, 120 at 1:4: exact to the token.
    let seen = mixture.seen(200);
    assert_eq!([seen[0].tokens, seen[1].tokens], [(60 + 24) * 16, (20 + 96) * 16]);
    // 5001 tokens hold 312 windows, 2001 hold 125.
    assert_eq!([seen[0].unique_tokens, seen[1].unique_tokens], [84 * 16, 116 * 16]);
    assert_eq!([seen[0].epochs, seen[1].epochs], [84.0 / 312.0, 116.0 / 125.0]);
}

#[test]
fn rows_are_the_same_in_batches_of_any_size_from_anywhere() {
    let corpus = two();
    let passages = PassagesSpec { tokens: 40, copies: None, count: 3 };
    let sources = vec![
        tokens(&corpus.sources[0]),
        junk(JunkKind::CharactersShuffled, Some(0), None),
        junk(JunkKind::Base64, None, None),
        junk(JunkKind::Repeated, Some(0), Some(passages)),
    ];
    let spec = spec(sources, &[(0, &[4, 2, 1, 1]), (10, &[1, 1, 1, 1])]);
    let mixture = Mixture::new(&corpus, &spec, 3, CONTEXT, 8, 400).unwrap();
    let all = rows(&mixture, 0, 400);
    for (first, count) in [(0, 1), (399, 1), (5, 8), (79, 3), (250, 150), (13, 64)] {
        let again = Mixture::new(&corpus, &spec, 3, CONTEXT, 8, 400).unwrap();
        assert_eq!(rows(&again, first, count), all[first as usize..first as usize + count]);
    }
    let other = Mixture::new(&corpus, &spec, 4, CONTEXT, 8, 400).unwrap();
    let same = rows(&other, 0, 400).iter().zip(&all).filter(|(a, b)| a == b).count();
    assert!(same < 20, "{same} of 400 rows are the same under another seed");
    // Three passages of 40 tokens are 120 predicted tokens, 7 whole windows.
    let seen = mixture.seen(400);
    assert_eq!((seen[3].unique_tokens, seen[3].epochs), (7 * 16, (10 + 80) as f64 / 7.0));
    assert_eq!((seen[2].unique_tokens, seen[2].epochs), (90 * 16, 0.0));
    assert_eq!(seen[1].epochs, f64::from(100 * 16) / 5001.0);
}

#[test]
fn a_tag_stands_before_every_row_of_its_source_and_no_token_is_lost_to_it() {
    let corpus = two();
    let mut b = tokens(&corpus.sources[1]);
    b.tag = vec![35, 35, 32];
    let spec = spec(vec![tokens(&corpus.sources[0]), b], &[(0, &[1, 1])]);
    let mixture = Mixture::new(&corpus, &spec, 1, CONTEXT, 4, 400).unwrap();
    let windows = 2000 / 13;
    let mut starts = Vec::new();
    for (number, row) in (1..2 * windows).step_by(2).enumerate() {
        let row = &rows(&mixture, row, 1)[0];
        assert_eq!(&row[..3], [35, 35, 32]);
        let start = mixture.sources[1].start(number as u64, 14);
        let mut expected = [0; 14];
        corpus.sources[1].train.read(start, &mut expected);
        assert_eq!(row[3..], expected);
        starts.push(start);
    }
    starts.sort_unstable();
    assert!(starts.iter().enumerate().all(|(i, start)| *start == 13 * i as u64), "13 new tokens a row");
    assert_eq!(
        mixture.seen(20)[1],
        SourceSeen { name: "b".to_owned(), tokens: 160, unique_tokens: 130, epochs: 10.0 / windows as f64 }
    );
    assert!(!rows(&mixture, 0, 1)[0].contains(&35));
}

#[test]
fn what_does_not_go_together_is_named() {
    let check = |result: Result<Corpus, DataError>, parts: &[&str]| {
        let message = result.map(|_| ()).unwrap_err().to_string();
        assert!(parts.iter().all(|p| message.contains(p)) && message.contains("hint:"), "{message}");
    };
    let mut other = text("b", b'a', 100);
    other.info.vocab = 300;
    check(corpus::of_several(vec![text("a", b'A', 100), other], 0), &["a has a vocabulary of 256", "b has"]);
    let bare = CorpusSource { val: None, ..text("b", b'a', 100) };
    check(corpus::of_several(vec![text("a", b'A', 100), bare], 1), &["nothing of b is held out", "held_out"]);

    let corpus = two();
    let mut long = tokens(&corpus.sources[1]);
    long.tag = vec![1; CONTEXT];
    let passages = PassagesSpec { tokens: 1000, copies: None, count: 6 };
    let broken: [(SourceSpec, &[&str]); 2] = [
        (long, &["tag of b", "16 tokens of 16"]),
        (junk(JunkKind::Repeated, Some(0), Some(passages)), &["a has 5 passages", "asked for are 6"]),
    ];
    for (source, parts) in broken {
        let spec = spec(vec![tokens(&corpus.sources[0]), source], &[(0, &[1, 1])]);
        check(Mixture::new(&corpus, &spec, 1, CONTEXT, 4, 40).map(|_| two()), parts);
    }
}

#[test]
fn an_id_beyond_the_vocabulary_is_found_in_whichever_source_it_is() {
    struct Bad;
    impl Tokens for Bad {
        fn len(&self) -> u64 {
            1000
        }
        fn vocab(&self) -> usize {
            256
        }
        fn name(&self) -> &str {
            "bad.bin"
        }
        fn read(&self, start: u64, out: &mut [u32]) {
            for (id, at) in out.iter_mut().zip(start..) {
                *id = if at == 500 { 999 } else { 1 };
            }
        }
    }
    let bad = CorpusSource { train: Arc::new(Bad), ..text("b", b'a', 1000) };
    let corpus = corpus::of_several(vec![text("a", b'A', 5000), bad], 0).unwrap();
    let spec = spec(corpus.sources.iter().map(tokens).collect(), &[(0, &[1, 1])]);
    let mixture = Mixture::new(&corpus, &spec, 1, CONTEXT, 4, 140).unwrap();
    let mut batch = TokenBatch::zeroed(140, CONTEXT);
    match mixture.fill(0, &mut batch).unwrap_err() {
        DataError::TokenBeyondVocab { source_name, position, id, .. } => {
            assert_eq!((source_name.as_str(), position, id), ("bad.bin", 500, 999));
        }
        other => panic!("{other}"),
    }
}
