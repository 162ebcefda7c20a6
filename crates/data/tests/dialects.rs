//! Token files as other programs write them, with the ids known: read right, or refused, never read as something else.

use isoflop_data::{BinFile, BinOptions, DataError, TokenDtype, Tokens, read_checked};
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

/// Writes files and opens them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, name: &str, bytes: &[u8], options: &BinOptions) -> Result<BinFile, DataError> {
        BinFile::open(&self.write(name, bytes), options)
    }

    /// The ids of a file under a vocabulary.
    fn ids(&self, name: &str, bytes: &[u8], vocab: usize) -> Result<Vec<u32>, DataError> {
        let file = self.open(name, bytes, &BinOptions { vocab: Some(vocab), ..BinOptions::default() })?;
        let mut ids = vec![0; file.len() as usize];
        read_checked(&file, 0, &mut ids)?;
        Ok(ids)
    }

    fn refused(&self, name: &str, bytes: &[u8], parts: &[&str]) {
        let message = self.open(name, bytes, &BinOptions::default()).unwrap_err().to_string();
        for part in parts.iter().chain(&["\nhint: "]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

fn stored(ids: &[u32], dtype: TokenDtype) -> Vec<u8> {
    let width = dtype.width() as usize;
    ids.iter().flat_map(|id| u64::from(*id).to_le_bytes()[..width].to_vec()).collect()
}

/// What `np.save` writes: a header padded so that the data begin at a multiple of 64.
fn npy(version: u8, descr: &str, order: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let dictionary = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': ({shape}), }}");
    let start = if version == 1 { 10 } else { 12 };
    let length = (start + dictionary.len() + 1).next_multiple_of(64) - start;
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([version, 0]);
    out.extend(&(length as u32).to_le_bytes()[..start - 8]);
    out.extend(dictionary.bytes());
    out.resize(start + length - 1, b' ');
    out.push(b'\n');
    out.extend(body);
    out
}

fn llmc(magic: i32, version: i32, tokens: u32, body: &[u8]) -> Vec<u8> {
    let mut header = [0_i32; 256];
    (header[0], header[1], header[2]) = (magic, version, tokens as i32);
    header.into_iter().flat_map(i32::to_le_bytes).chain(body.iter().copied()).collect()
}

/// Ids as a tokeniser's: most of them small, all below `vocab`.
fn ids(vocab: u32) -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![3 => 0..vocab.min(4000), 1 => 0..vocab];
    proptest::collection::vec(id, 1030..2000)
}

/// Whether raw tokens begin with what is also the count, in four or eight bytes, of those behind it in the same width
/// (or of the bytes behind it, as tokens of one byte): then the file is both, bit for bit, and is read as counted.
fn begins_with_its_count(ids: &[u32], dtype: TokenDtype) -> bool {
    let bytes = stored(ids, dtype);
    [4, 8].into_iter().any(|header| {
        let count = bytes[..header].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let body = (bytes.len() - header) as u64;
        let is_of = |width: u64| count.checked_mul(width) == Some(body);
        is_of(dtype.width()) || (dtype == TokenDtype::U16 && is_of(1))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_dialect_gives_its_ids(ids in ids(50_257), wide in ids(128_256)) {
        for dtype in [TokenDtype::U16, TokenDtype::U32, TokenDtype::U64] {
            prop_assume!(!begins_with_its_count(&ids, dtype));
        }
        prop_assume!(!begins_with_its_count(&wide, TokenDtype::U32));
        let folder = Folder::new();
        let n = ids.len();
        let body = |dtype| stored(&ids, dtype);
        let (u16s, u32s, u64s) = (body(TokenDtype::U16), body(TokenDtype::U32), body(TokenDtype::U64));
        let count = |width: usize| (n as u64).to_le_bytes()[..width].to_vec();
        let files = [
            ("raw16.bin", u16s.clone()),
            ("raw32.bin", u32s.clone()),
            ("raw64.bin", u64s.clone()),
            ("u2.npy", npy(1, "'<u2'", "False", &format!("{n},"), &u16s)),
            ("i4.npy", npy(2, "'<i4'", "False", &format!("{n},"), &u32s)),
            ("i8.npy", npy(3, "'<i8'", "False", &format!("1, {n}"), &u64s)),
            ("llmc.bin", llmc(20_240_520, 1, n as u32, &u16s)),
            ("other-magic.bin", llmc(278_895_051, 3, n as u32, &u16s)),
            ("other-magic32.bin", llmc(7, 1, n as u32, &u32s)),
            ("count4.bin", [count(4), u16s.clone()].concat()),
            ("count8.bin", [count(8), u32s.clone()].concat()),
        ];
        for (name, bytes) in files {
            let read = folder.ids(name, &bytes, 50_257).map_err(|e| TestCaseError::fail(format!("{name}: {e}")))?;
            prop_assert!(read == ids, "{name}: {} ids for {n}: {:?}", read.len(), &read[..8]);
        }
        // A vocabulary beyond 65,536: the upper halves are small, not zero.
        prop_assert!(folder.ids("wide.bin", &stored(&wide, TokenDtype::U32), 128_256).unwrap() == wide);
        // Megatron's index beside the tokens says their type.
        let mut index = b"MMIDIDX\0\0".to_vec();
        index.extend(1_u64.to_le_bytes());
        index.push(4);
        folder.write("mega.idx", &index);
        prop_assert!(folder.ids("mega.bin", &u32s, 50_257).unwrap() == ids);
    }

    #[test]
    fn no_damage_makes_it_panic_or_read_beyond_the_vocabulary(
        ids in ids(50_257),
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
    ) {
        let folder = Folder::new();
        let body = stored(&ids, TokenDtype::U16);
        let mut bytes = match which {
            0 => npy(1, "'<u2'", "False", &format!("{},", ids.len()), &body),
            1 => llmc(20_240_520, 1, ids.len() as u32, &body),
            2 => [(ids.len() as u64).to_le_bytes().to_vec(), body].concat(),
            _ => stored(&ids, TokenDtype::U32),
        };
        for (at, value) in changes {
            // Mostly in the header.
            let at = at % if value % 4 == 0 { bytes.len() } else { 140.min(bytes.len()) };
            bytes[at] = value;
        }
        if cut % 3 == 0 {
            bytes.truncate(cut / 3 % (bytes.len() + 1));
        }
        if let Ok(read) = folder.ids("a.bin", &bytes, 50_257) {
            prop_assert!(read.iter().all(|id| *id < 50_257));
        }
    }
}

#[test]
fn a_first_token_that_is_another_widths_count_is_a_token() {
    let folder = Folder::new();
    let n = 1501_usize;
    let raw = |first: u32, vocab: u32, dtype| {
        let ids: Vec<u32> = std::iter::once(first)
            .chain((1..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab))
            .collect();
        let read = folder.ids("a.bin", &stored(&ids, dtype), vocab as usize);
        assert_eq!(read.unwrap(), ids, "{first} of {}", dtype.name());
    };
    let rest = n as u32 - 1;
    // As a count of u16, of bytes; of u32 before a file of u64, of which every other would be zero.
    for vocab in [50_257, 128_256] {
        raw(2 * rest, vocab, TokenDtype::U32);
        raw(4 * rest, vocab, TokenDtype::U32);
        raw(2 * rest + 1, vocab, TokenDtype::U64);
        raw(4 * rest + 2, vocab, TokenDtype::U64);
    }
    // As a count of u64: half as many as there are, of which the least that is a count is 1,024.
    let ids: Vec<u32> = std::iter::once(1024).chain((0..2048).map(|i| i * 24)).collect();
    assert_eq!(folder.ids("b.bin", &stored(&ids, TokenDtype::U32), 50_257).unwrap(), ids);
    // Of its own width it is a count: nothing tells the two apart.
    let ids: Vec<u32> = std::iter::once(1500).chain(1..=1500).collect();
    assert_eq!(folder.ids("c.bin", &stored(&ids, TokenDtype::U32), 50_257).unwrap(), ids[1..]);
    // gzip's two first bytes are a token.
    let ids: Vec<u32> = std::iter::once(35_615).chain(1..1500).collect();
    assert_eq!(folder.ids("d.bin", &stored(&ids, TokenDtype::U32), 50_257).unwrap(), ids);
}

#[test]
fn what_is_no_file_of_tokens_is_named() {
    let folder = Folder::new();
    let prose = "It is a truth universally acknowledged, that a single man in possession of a good fortune, \
                 must be in want of a wife — however little known. "
        .repeat(40);
    folder.refused("text.bin", prose.as_bytes(), &["holds text", "text = ", "dtype"]);
    folder.refused("a.npz", b"PK\x03\x04........", &["ZIP archive (NumPy's .npz", "np.save"]);
    folder.refused("a.bin.gz", b"\x1f\x8b\x08\0....", &["compressed with gzip", "gunzip"]);
    folder.refused("a.idx", b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08", &["index of a Megatron dataset", ".bin"]);
    folder.refused("a.parquet", b"PAR1........", &["Parquet"]);
    folder.refused("eval.bin", &llmc(20_240_522, 1, 8, &[0; 16]), &["llm.c evaluation file"]);
    folder.refused("gpt2.bin", &llmc(20_240_326, 3, 8, &[0; 16]), &["llm.c model file"]);
    let eight = [0; 64];
    folder.refused(
        "f.npy",
        &npy(1, "'<f8'", "False", "8,", &eight),
        &["`<f8`, not of whole numbers", "np.load"],
    );
    folder.refused("b.npy", &npy(1, "'>u2'", "False", "32,", &eight), &["other byte order", "astype"]);
    folder.refused("o.npy", &npy(1, "[('a', '<u2')]", "False", "32,", &eight), &["records"]);
    folder.refused("t.npy", &npy(1, "'<u2'", "True", "4, 8", &eight), &["column order", "ravel"]);
    folder.refused("n.npy", &npy(1, "'<u2'", "False", "33,", &eight), &["says 33 tokens, but 32 follow"]);
    folder.refused("v.npy", b"\x93NUMPY\x09\0..", &["version 9"]);
    folder.refused("c.npy", &npy(1, "'<u2'", "False", "32,", &eight)[..40], &["cut short"]);
    // Ids as frequent as a tokeniser's, written by a machine of the other order.
    let swapped: Vec<u8> = (0..4096_u32).flat_map(|i| ((i * i % 3000) as u16).to_be_bytes()).collect();
    folder.refused("swapped.bin", &swapped, &["other byte order", "dtype"]);
}

#[test]
fn what_is_said_wins_over_what_is_inferred_and_not_over_a_header() {
    let folder = Folder::new();
    let wide = stored(&(0..4096).map(|i| i * 7 % 5000).collect::<Vec<_>>(), TokenDtype::U32);
    let said = |dtype| BinOptions { dtype: Some(dtype), vocab: Some(50_257), ..BinOptions::default() };
    // Without a vocabulary the width is known and the vocabulary asked for.
    folder.refused("wide.bin", &wide, &["u32", "every second 16-bit word", "vocab"]);
    assert_eq!(folder.open("wide.bin", &wide, &said(TokenDtype::U16)).unwrap().len(), 8192);
    assert_eq!(folder.open("wide.bin", &wide, &said(TokenDtype::U32)).unwrap().len(), 4096);
    let array = npy(1, "'<u4'", "False", "4096,", &wide);
    assert_eq!(folder.open("a.npy", &array, &said(TokenDtype::U32)).unwrap().len(), 4096);
    let error = folder.open("a.npy", &array, &said(TokenDtype::U16)).unwrap_err().to_string();
    assert!(error.contains("its NumPy header says u32, not u16"), "{error}");
    // The sidecar's words may be NumPy's.
    folder.write("s.bin.json", br#"{"dtype": "int32", "vocab": 6000}"#);
    assert_eq!(folder.open("s.bin", &wide, &BinOptions::default()).unwrap().dtype(), TokenDtype::U32);
    // A stream of few symbols is no wide one.
    let few: Vec<u8> = (0..4096_u32).flat_map(|i| ((i % 2) as u16 * (i % 13) as u16).to_le_bytes()).collect();
    assert_eq!(folder.open("few.bin", &few, &said(TokenDtype::U16)).unwrap().len(), 4096);
    let plain = BinOptions { vocab: Some(16), ..BinOptions::default() };
    assert_eq!(folder.open("few.bin", &few, &plain).unwrap().dtype(), TokenDtype::U16);
}

/// A mask of -100, as loss functions ignore it, is no id, and not the number it wraps to.
#[test]
fn negative_ids_are_called_negative() {
    let folder = Folder::new();
    let ids: Vec<i64> = std::iter::once(-100).chain(0..2000).collect();
    let body: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let wide = npy(1, "'<i8'", "False", "2001,", &body);
    let body: Vec<u8> = ids.iter().flat_map(|id| (*id as i32).to_le_bytes()).collect();
    let narrow = npy(1, "'<i4'", "False", "2001,", &body);
    for (name, bytes) in [("i8.npy", wide), ("i4.npy", narrow)] {
        let message = folder.ids(name, &bytes, 50_257).unwrap_err().to_string();
        assert!(message.contains("token 0 is negative") && !message.contains("429496"), "{message}");
    }
}
