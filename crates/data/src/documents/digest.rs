//! What identifies a text: XXH3 with 128 bits of its words, white space between them counted as one space.
//!
//! Texts that differ in line ends, indentation or blank lines are the same text. A document is held out or not by this
//! number, so copies lie on one side, and documents added to a corpus move none of the others. It is no defence against
//! somebody who looks for two texts with one number.

use twox_hash::XxHash3_128;

/// Bytes that are hashed at a time.
const BLOCK: usize = 1024;

/// The identity of a text.
pub fn digest(text: &str) -> u128 {
    let bytes = text.trim_start().as_bytes();
    let mut hash = Blocks { hash: XxHash3_128::new(), block: [0; BLOCK], filled: 0 };
    // What stands between `from` and `at` is as it should be: words with single spaces between them.
    let (mut from, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let regular = match KIND[usize::from(byte)] {
            WORD => 1,
            SPACE if bytes.get(at + 1).is_some_and(|next| KIND[usize::from(*next)] == WORD) => 2,
            FIRST if white(&bytes[at..]) == 0 => 1,
            _ => 0,
        };
        if regular > 0 {
            at += regular;
            continue;
        }
        hash.put(&bytes[from..at]);
        while at < bytes.len() {
            match white(&bytes[at..]) {
                0 => break,
                width => at += width,
            }
        }
        if at < bytes.len() {
            hash.put(b" ");
        }
        from = at;
    }
    hash.put(&bytes[from..]);
    hash.hash.write(&hash.block[..hash.filled]);
    hash.hash.finish_128()
}

/// Bytes on their way into the hash, which likes them many at a time.
struct Blocks {
    hash: XxHash3_128,
    block: [u8; BLOCK],
    filled: usize,
}

impl Blocks {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK - self.filled);
            self.block[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == BLOCK {
                self.hash.write(&self.block);
                self.filled = 0;
            }
        }
    }
}

const WORD: u8 = 0;
const SPACE: u8 = 1;
const OTHER_WHITE: u8 = 2;
/// The first byte of a character that may be white space.
const FIRST: u8 = 3;

const KIND: [u8; 256] = {
    let mut kinds = [WORD; 256];
    kinds[b' ' as usize] = SPACE;
    let mut byte = 9;
    while byte <= 13 {
        kinds[byte] = OTHER_WHITE;
        byte += 1;
    }
    kinds[0xc2] = FIRST;
    kinds[0xe1] = FIRST;
    kinds[0xe2] = FIRST;
    kinds[0xe3] = FIRST;
    kinds
};

/// Bytes of the white space that UTF-8 begins with; 0 for none.
fn white(bytes: &[u8]) -> usize {
    match bytes {
        [b' ' | 9..=13, ..] => 1,
        [0xc2, 0x85 | 0xa0, ..] => 2,
        // U+1680, U+2000 to 200A, 2028, 2029, 202F, 205F, 3000.
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

/// Words between white space, as [`str::split_whitespace`] gives them; ASCII without decoding.
pub(super) struct Words<'t>(pub(super) &'t str);

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let text = self.0;
        let start = text.len() - text.trim_start().len();
        let bytes = text.as_bytes();
        let mut end = start;
        while let Some(&byte) = bytes.get(end) {
            if byte < 0x80 {
                if matches!(byte, b' ' | 9..=13) {
                    break;
                }
                end += 1;
                continue;
            }
            let c = text[end..].chars().next().expect("a character begins here");
            if c.is_whitespace() {
                break;
            }
            end += c.len_utf8();
        }
        self.0 = &text[end..];
        (end > start).then(|| &text[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_makes_no_difference_and_words_do() {
        let text = "Call me  Ishmael.\r\n\tSome years\u{a0}ago—never\u{3000}mind";
        assert!(Words(text).eq(text.split_whitespace()));
        assert_eq!(digest(text), digest(" Call me Ishmael. Some years ago—never mind\n"));
        assert_ne!(digest(text), digest("Call me Ishmael. Some years ago—nevermind"));
        assert_eq!(digest(" \n"), digest(""));
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let width = if c.is_whitespace() { c.len_utf8() } else { 0 };
            assert_eq!(white(c.to_string().as_bytes()), width, "{c:?}");
        }
        for text in ["a —b", "a  —  b", "a\u{2003}\u{2009}b ", "a b c", "a\n\nb", "—", "a \u{a0}", "日本 語"]
        {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(digest(text), XxHash3_128::oneshot(words.as_bytes()), "{text:?}");
        }
        // Pinned, since what is held out depends on it: XXH3-128 of the words themselves.
        assert_eq!(digest("a b"), XxHash3_128::oneshot(b"a b"));
        let long = "word ".repeat(1000);
        assert_eq!(digest(&long), XxHash3_128::oneshot(long.trim_end().as_bytes()));
        assert_eq!(digest(""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
