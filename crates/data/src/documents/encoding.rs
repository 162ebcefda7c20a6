//! Text in other encodings, made UTF-8 as it is read.
//!
//! UTF-16 with a byte order mark is recognised; what nothing in a file tells has to be said. Half a surrogate pair, and
//! half a unit at the end, become bytes that are no UTF-8, so that whoever reads documents counts the record they stand
//! in and says where it is.

use isoflop_base::Word;
use std::io::{self, Read};

/// How characters are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8, or UTF-16 where a mark says so.
    #[default]
    Auto,
    /// UTF-16, the lower byte first.
    Utf16Le,
    /// UTF-16, the higher byte first.
    Utf16Be,
    /// ISO 8859-1: a byte is the character of its number.
    Latin1,
    /// Windows' Latin-1: quotes, dashes and letters in place of the controls 0x80 to 0x9f.
    Windows1252,
}

impl Word for Encoding {
    const WORDS: &'static [&'static str] = &["auto", "utf-16le", "utf-16be", "latin-1", "windows-1252"];

    fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Auto, Self::Utf16Le, Self::Utf16Be, Self::Latin1, Self::Windows1252];
        all.into_iter().find(|encoding| encoding.word() == word)
    }
}

impl Encoding {
    /// Its name in options and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Utf16Le => "utf-16le",
            Self::Utf16Be => "utf-16be",
            Self::Latin1 => "latin-1",
            Self::Windows1252 => "windows-1252",
        }
    }

    /// The one a file's mark tells, with the mark's bytes. UTF-32's begins like one of UTF-16's.
    pub(super) fn marked(head: &[u8]) -> Option<(Self, usize)> {
        match head {
            [0xff, 0xfe, 0, 0, ..] => None,
            [0xff, 0xfe, ..] => Some((Self::Utf16Le, 2)),
            [0xfe, 0xff, ..] => Some((Self::Utf16Be, 2)),
            _ => None,
        }
    }
}

/// What the bytes 0x80 to 0x9f are in Windows-1252; five of them are nothing, and stay the controls they are in
/// Latin-1, as browsers have it (WHATWG Encoding, index windows-1252).
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', //
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Bytes that are asked of the stream below at a time.
const CHUNK: usize = 64 << 10;

/// A stream in one of the encodings but [`Encoding::Auto`], as UTF-8.
pub(super) struct Converted<R> {
    inner: R,
    encoding: Encoding,
    raw: Vec<u8>,
    /// Bytes at the beginning of `raw` that were read and not converted: half a unit.
    kept: usize,
    out: Vec<u8>,
    at: usize,
    /// A first half of a pair, whose second may follow.
    high: Option<u16>,
    ended: bool,
}

impl<R: Read> Converted<R> {
    pub(super) fn new(inner: R, encoding: Encoding) -> Self {
        let raw = vec![0; CHUNK];
        Self { inner, encoding, raw, kept: 0, out: Vec::new(), at: 0, high: None, ended: false }
    }

    fn more(&mut self) -> io::Result<()> {
        let read = match self.inner.read(&mut self.raw[self.kept..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        (self.at, self.ended) = (0, read == 0);
        self.out.clear();
        let filled = self.kept + read;
        match self.encoding {
            Encoding::Utf16Le | Encoding::Utf16Be => self.units(filled),
            Encoding::Windows1252 => {
                let wide = |byte: u8| match byte {
                    0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
                    _ => char::from(byte),
                };
                push_all(&mut self.out, self.raw[..filled].iter().map(|byte| wide(*byte)));
            }
            Encoding::Latin1 | Encoding::Auto => {
                push_all(&mut self.out, self.raw[..filled].iter().map(|byte| char::from(*byte)));
            }
        }
        Ok(())
    }

    fn units(&mut self, filled: usize) {
        let big = self.encoding == Encoding::Utf16Be;
        for pair in self.raw[..filled].chunks_exact(2) {
            let pair = [pair[0], pair[1]];
            let unit = if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
            match (self.high.take(), unit) {
                (Some(high), 0xdc00..=0xdfff) => {
                    let code = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                    push_all(&mut self.out, char::from_u32(code));
                }
                (high, unit) => {
                    half(&mut self.out, high);
                    match unit {
                        0xd800..=0xdbff => self.high = Some(unit),
                        0xdc00..=0xdfff => half(&mut self.out, Some(unit)),
                        _ => push_all(&mut self.out, char::from_u32(unit.into())),
                    }
                }
            }
        }
        self.kept = filled % 2;
        self.raw[0] = self.raw[filled.saturating_sub(1)];
        if self.ended {
            half(&mut self.out, self.high.take());
            self.out.extend(std::iter::repeat_n(0xff, std::mem::take(&mut self.kept)));
        }
    }
}

/// A surrogate that stands alone, in the three bytes that UTF-8 would have for it if it had.
fn half(out: &mut Vec<u8>, unit: Option<u16>) {
    if let Some(unit) = unit {
        out.extend([0xed, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]);
    }
}

fn push_all(out: &mut Vec<u8>, characters: impl IntoIterator<Item = char>) {
    for character in characters {
        match u8::try_from(character) {
            Ok(ascii @ 0..=0x7f) => out.push(ascii),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

impl<R: Read> Read for Converted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() && !self.ended {
            self.more()?;
        }
        let count = out.len().min(self.out.len() - self.at);
        out[..count].copy_from_slice(&self.out[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands out so many bytes at a time, so that units are cut everywhere.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn converted(bytes: &[u8], encoding: Encoding, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Converted::new(Drip(bytes, step), encoding).read_to_end(&mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn any_text_in_utf_16_comes_back(text in "\\PC{0,40}", step in 1usize..7) {
            for (encoding, bytes) in [
                (Encoding::Utf16Le, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
                (Encoding::Utf16Be, text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            ] {
                prop_assert_eq!(converted(&bytes, encoding, step), text.as_bytes());
            }
        }

        #[test]
        fn any_units_are_the_text_they_are_or_no_utf_8(units in prop::collection::vec(any::<u16>(), 0..20)) {
            let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let out = converted(&bytes, Encoding::Utf16Le, 3);
            match String::from_utf16(&units) {
                Ok(text) => prop_assert_eq!(out, text.as_bytes()),
                Err(_) => prop_assert!(std::str::from_utf8(&out).is_err()),
            }
        }
    }

    #[test]
    fn single_bytes_are_their_characters() {
        let bytes = b"caf\xe9 \x93so\x94 \x80 \x81";
        assert_eq!(converted(bytes, Encoding::Latin1, 2), "café \u{93}so\u{94} \u{80} \u{81}".as_bytes());
        assert_eq!(converted(bytes, Encoding::Windows1252, 2), "café “so” € \u{81}".as_bytes());
    }

    #[test]
    fn half_a_unit_at_the_end_is_no_utf_8() {
        assert_eq!(converted(b"a\0b\0c", Encoding::Utf16Le, 2), b"ab\xff");
        assert_eq!(converted(b"", Encoding::Utf16Le, 2), b"");
        for word in Encoding::WORDS {
            assert_eq!(Encoding::from_word(word).unwrap().word(), *word);
        }
    }
}
