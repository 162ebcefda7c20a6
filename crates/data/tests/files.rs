//! What a user's files can be, and what is said of each.

use isoflop_data::{
    BUILTIN, BinFile, BinOptions, Corpus, DataError, Sampler, Scan, TokenDtype, TokenizerKind, Tokens,
    builtin, builtin_named, eval_windows, from_bin, from_text, read_checked,
};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn u16_bytes(ids: impl IntoIterator<Item = u16>) -> Vec<u8> {
    ids.into_iter().flat_map(u16::to_le_bytes).collect()
}

fn u32_bytes(ids: impl IntoIterator<Item = u32>) -> Vec<u8> {
    ids.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn llmc(magic: i32, version: i32, tokens: i32, body: &[u8]) -> Vec<u8> {
    let mut words = [0i32; 256];
    (words[0], words[1], words[2]) = (magic, version, tokens);
    let mut bytes: Vec<u8> = words.into_iter().flat_map(i32::to_le_bytes).collect();
    bytes.extend_from_slice(body);
    bytes
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn read_all(file: &BinFile) -> Vec<u32> {
    let mut ids = vec![0; file.len() as usize];
    read_checked(file, 0, &mut ids).unwrap();
    ids
}

/// The error's message: it must hold every given part, and tell what to do.
fn check_error<T>(result: Result<T, DataError>, parts: &[&str]) {
    let message = match result {
        Ok(_) => panic!("no error; expected one with {parts:?}"),
        Err(e) => e.to_string(),
    };
    for part in parts.iter().chain(&["\nhint: "]) {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn open(path: &Path) -> Result<BinFile, DataError> {
    BinFile::open(path, &BinOptions::default())
}

#[test]
fn raw_u16_tokens_are_gpt2_unless_told_otherwise() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &u16_bytes([0, 1, 50_256, 258]));
    let file = open(&path).unwrap();
    assert_eq!(read_all(&file), [0, 1, 50_256, 258]);
    assert_eq!(
        (file.vocab(), file.tokenizer(), file.bytes_per_token()),
        (50_257, &TokenizerKind::Gpt2, None)
    );
    let mut two = [0; 2];
    file.read(2, &mut two);
    assert_eq!(two, [50_256, 258]);
    let options = BinOptions { vocab: Some(60_000), ..BinOptions::default() };
    assert_eq!(BinFile::open(&path, &options).unwrap().tokenizer(), &TokenizerKind::Unknown);
}

#[test]
fn u32_tokens_need_to_be_named_and_need_a_vocabulary() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &u32_bytes([7, 100_000, 3]));
    let named = BinOptions { dtype: Some(TokenDtype::U32), ..BinOptions::default() };
    check_error(BinFile::open(&path, &named), &["vocabulary", "a.bin.json"]);
    let full = BinOptions { vocab: Some(100_001), ..named };
    assert_eq!(read_all(&BinFile::open(&path, &full).unwrap()), [7, 100_000, 3]);
    fs::write(dir.path().join("a.bin.json"), r#"{"dtype": "u32", "vocab": 100001, "tokenizer": "mine"}"#)
        .unwrap();
    let file = open(&path).unwrap();
    assert_eq!(read_all(&file), [7, 100_000, 3]);
    assert_eq!(file.tokenizer(), &TokenizerKind::Named { name: "mine".into(), sha256: None });
}

#[test]
fn a_sidecar_is_believed_and_checked() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &u16_bytes([104, 105]));
    let sidecar = dir.path().join("a.bin.json");
    fs::write(&sidecar, r#"{"tokenizer": "bytes", "vocab": 256, "tokens": 2, "source_bytes": 2}"#).unwrap();
    let file = open(&path).unwrap();
    assert_eq!(
        (file.vocab(), file.tokenizer(), file.bytes_per_token()),
        (256, &TokenizerKind::Bytes, Some(1.0))
    );
    fs::write(&sidecar, r#"{"tokens": 3}"#).unwrap();
    check_error(open(&path), &["a.bin.json", "3 tokens", "holds 2"]);
    fs::write(&sidecar, r#"{"tokens": "#).unwrap();
    check_error(open(&path), &["a.bin.json", "not a sidecar"]);
}

#[test]
fn llmc_headers_are_recognised() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &llmc(20_240_520, 1, 3, &u16_bytes([5, 6, 50_256])));
    assert_eq!(read_all(&open(&path).unwrap()), [5, 6, 50_256]);
    let path = write(&dir, "l3.bin", &llmc(20_240_801, 7, 2, &u32_bytes([5, 128_255])));
    let file = open(&path).unwrap();
    assert_eq!((read_all(&file), file.vocab()), (vec![5, 128_255], 128_256));
    let options = BinOptions { dtype: Some(TokenDtype::U16), ..BinOptions::default() };
    check_error(BinFile::open(&path, &options), &["header says u32"]);
    let path = write(&dir, "short.bin", &llmc(20_240_520, 1, 3, &u16_bytes([5, 6])));
    check_error(open(&path), &["says 3 tokens", "2 follow"]);
    let path = write(&dir, "none.bin", &llmc(20_240_520, 1, 0, &[]));
    check_error(open(&path), &["empty", "no tokens"]);
    let path = write(&dir, "cut.bin", &llmc(20_240_520, 1, 3, &[])[..600]);
    check_error(open(&path), &["600 of its 1024"]);
    let path = write(&dir, "v9.bin", &llmc(20_240_520, 9, 1, &u16_bytes([5])));
    check_error(open(&path), &["version 9"]);
}

#[test]
fn bad_token_files_are_named_with_a_hint() {
    let dir = TempDir::new().unwrap();
    write(&dir, "train.bin", &u16_bytes([1, 2]));
    check_error(open(&dir.path().join("trian.bin")), &["trian.bin", "no such file", "holds train.bin"]);
    check_error(open(&dir.path().join("no/train.bin")), &["no such file", "folder", "does not exist either"]);
    check_error(open(dir.path()), &["is a directory", "train.bin"]);
    check_error(open(&write(&dir, "empty.bin", &[])), &["empty.bin", "empty"]);
    check_error(open(&write(&dir, "odd.bin", &[1, 2, 3])), &["odd.bin", "3 bytes", "2-byte"]);
    let u32s = BinOptions { dtype: Some(TokenDtype::U32), vocab: Some(9), ..BinOptions::default() };
    check_error(BinFile::open(&write(&dir, "odd.bin", &[1, 2, 3, 4, 5, 6]), &u32s), &["4-byte", "u32"]);
    let zero = BinOptions { vocab: Some(0), ..BinOptions::default() };
    check_error(BinFile::open(&dir.path().join("train.bin"), &zero), &["vocabulary of 0"]);
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_said_to_be_so() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "secret.bin", &u16_bytes([1]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        return; // The superuser reads everything.
    }
    check_error(open(&path), &["secret.bin", "permission denied", "chmod"]);
}

#[test]
fn ids_beyond_the_vocabulary_are_found_at_open_or_when_read() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &u16_bytes([1, 2, 50_257]));
    check_error(open(&path), &["token 2 is 50257", "vocabulary of 50257"]);
    // A single bad id between the sampled places: not seen by the sample, by the full scan and by the batch.
    let mut ids = vec![7u16; 2_000_000];
    ids[5000] = 60_000;
    let path = write(&dir, "b.bin", &u16_bytes(ids));
    let full = BinOptions { scan: Scan::Full, ..BinOptions::default() };
    check_error(BinFile::open(&path, &full), &["token 5000 is 60000"]);
    let file = open(&path).unwrap();
    let sampler = Sampler::new(file.len(), 100, 1).unwrap();
    let row = (0..sampler.windows()).find(|&i| sampler.row_start(i) == 5000).unwrap();
    check_error(sampler.batch(&file, row, 1), &["b.bin", "token 5000 is 60000"]);
    let clean = (0..sampler.windows()).find(|&i| sampler.row_start(i) == 6000).unwrap();
    assert_eq!(sampler.batch(&file, clean, 1).unwrap().row(0), [7; 101]);
}

#[test]
fn a_file_that_shrinks_while_mapped_is_an_error_and_no_crash() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "a.bin", &u16_bytes(vec![1; 100_000]));
    let file = open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    check_error(read_checked(&file, 90_000, &mut [0; 10]), &["became shorter", "200000", "1000"]);
}

#[test]
fn two_files_make_a_corpus() {
    let dir = TempDir::new().unwrap();
    let train = write(&dir, "train.bin", &u16_bytes((0..5000).map(|i| i % 300)));
    let val = write(&dir, "val.bin", &u16_bytes(0..400));
    let corpus = from_bin(&train, &val, &BinOptions::default()).unwrap();
    let info = &corpus.info;
    assert_eq!(
        (info.train_tokens, info.val_tokens, info.vocab, info.block_tokens),
        (5000, 400, 50_257, 8192)
    );
    assert!(corpus.tokenizer_json().unwrap().contains("endoftext"));
    corpus.check_context(399).unwrap();
    check_error(corpus.check_context(400), &["val.bin", "400 tokens", "needs 401"]);
    fs::write(&val, u16_bytes(1..401)).unwrap();
    assert_ne!(from_bin(&train, &val, &BinOptions::default()).unwrap().info.sha256, info.sha256);
    let with = |bytes| BinOptions { bytes_per_token: Some(bytes), ..BinOptions::default() };
    assert_eq!(from_bin(&train, &val, &with(4.5)).unwrap().info.block_tokens, 7282);
    fs::write(dir.path().join("val.bin.json"), r#"{"tokenizer": "bytes", "vocab": 512}"#).unwrap();
    check_error(from_bin(&train, &val, &BinOptions::default()), &["do not go together", "512"]);
}

#[test]
fn a_huge_file_opens_without_being_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sparse.bin");
    // 200 GB of zeros that take no disk: reading them would take a minute.
    if fs::File::create(&path).unwrap().set_len(200_000_000_000).is_err() {
        return; // A file system without sparse files of this size.
    }
    let start = std::time::Instant::now();
    let corpus = from_bin(&path, &path, &BinOptions::default()).unwrap();
    let sampler = Sampler::new(corpus.info.train_tokens, 1024, 1).unwrap();
    assert_eq!(sampler.batch(corpus.train.as_ref(), 12_345, 4).unwrap().predicted(), 4 * 1024);
    assert!(corpus.info.sha256_covers.contains("sampled"));
    assert!(start.elapsed().as_secs_f64() < 10.0, "{:?}", start.elapsed());
}

#[test]
fn text_is_split_by_blocks_and_bad_text_is_located() {
    let dir = TempDir::new().unwrap();
    let line = "It is a truth universally acknowledged\n";
    let path = write(&dir, "a.txt", line.repeat(20_000).as_bytes());
    let corpus = from_text(&path).unwrap();
    assert_eq!(corpus.info.train_tokens + corpus.info.val_tokens, 20_000 * line.len() as u64);
    assert_eq!(corpus.info.val_tokens % 32_768, 0);
    assert_eq!((corpus.info.vocab, corpus.info.bytes_per_token), (256, Some(1.0)));
    let mut bytes = line.repeat(3).into_bytes();
    bytes[line.len() + 4] = 0xe9;
    check_error(from_text(&write(&dir, "b.txt", &bytes)), &["at byte 43 (line 2", "0xe9", "iconv"]);
    check_error(from_text(&write(&dir, "c.txt", b"short")), &["5 bytes are too few", "65536"]);
    check_error(from_text(&write(&dir, "d.txt", b"")), &["d.txt", "empty"]);
    check_error(from_text(&write(&dir, "e.txt.zst", b"not zstd")), &["e.txt.zst", "Zstandard"]);
    check_error(from_text(&dir.path().join("f.txt")), &["no such file"]);
    check_error(from_text(dir.path()), &["is a directory"]);
}

#[test]
fn verse_and_prose_are_the_builtin_corpus_in_two() {
    let [all, verse, prose] = BUILTIN.map(|name| builtin_named(name).unwrap().unwrap());
    let bytes = |corpus: &Corpus| corpus.info.train_tokens + corpus.info.val_tokens;
    assert_eq!(bytes(&verse) + bytes(&prose), bytes(&all));
    // The first line of Blake's, of Emma, and what follows where verse was cut out: Alice.
    let start = |corpus: &Corpus, at: u64, length: usize| {
        let mut row = vec![0; length];
        corpus.train.read(at, &mut row);
        row.iter().map(|id| *id as u8 as char).collect::<String>()
    };
    assert_eq!(start(&verse, 0, 33), "SONGS OF INNOCENCE AND OF EXPERIE");
    assert_eq!(start(&prose, 0, 33), start(&all, 0, 33));
    let whole = |corpus: &Corpus| start(corpus, 0, corpus.info.train_tokens as usize);
    for (text, own, foreign) in
        [(whole(&verse), "Achilles", "Dashwood"), (whole(&prose), "Dashwood", "Patroclus")]
    {
        assert!(text.contains(own) && !text.contains(foreign), "{own}, not {foreign}");
    }
    assert!(builtin_named("builtin-letters").is_none());
}

#[test]
fn the_builtin_corpus_is_the_text_it_says_it_is() {
    let corpus = builtin().unwrap();
    let Corpus { train, val, info, .. } = &corpus;
    assert_eq!((info.train_tokens, info.val_tokens), (train.len(), val.len()));
    assert_eq!(info.train_tokens + info.val_tokens, 15_634_298);
    let share = info.val_tokens as f64 / 15_634_298.0;
    assert!((0.055..0.07).contains(&share), "{share}");
    assert!(corpus.tokenizer_json().is_some());
    // Plain ASCII on both sides.
    for tokens in [train, val] {
        let mut ids = vec![0; tokens.len() as usize];
        read_checked(tokens.as_ref(), 0, &mut ids).unwrap();
        assert!(ids.iter().all(|&id| id < 128));
    }
    let blocks: std::collections::HashSet<u32> =
        eval_windows(val.len(), 256, info.block_tokens, Some(1_000_000)).map(|w| w.block).collect();
    assert_eq!(blocks.len() as u64, val.len() / info.block_tokens);
}

#[test]
fn the_same_text_compressed_is_the_same_corpus() {
    let dir = TempDir::new().unwrap();
    let zst = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/literature.txt.zst");
    let ours = builtin().unwrap().info;
    let theirs = from_text(&zst).unwrap().info;
    assert_eq!((theirs.sha256, theirs.train_tokens), (ours.sha256, ours.train_tokens));
    // A frame cut short is no text.
    let whole = fs::read(&zst).unwrap();
    check_error(from_text(&write(&dir, "cut.zst", &whole[..100_000])), &["cut.zst"]);
}
