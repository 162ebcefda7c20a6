//! GPT-2's pattern, a window of bytes at a time.
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! Where a piece begins depends on a byte's class, on that of the byte before and, in white space, on that of the one
//! after; only the seven contractions look further:
//!
//! - a letter, number or other sign begins a piece unless its class goes on or a space (U+0020) is before it;
//! - white space begins a piece where it follows none, and where it is the last of a run that does not end the text:
//!   `\s+(?!\S)` leaves that one to what comes after;
//! - a piece that begins with an apostrophe and `s`, `t`, `m`, `d`, `re`, `ve` or `ll` ends behind them.
//!
//! So a window goes through plain loops over bytes, without a branch, which the compiler turns into vectors of whatever
//! width there is: classes, then beginnings, then one bit for each. The bytes of a character beyond ASCII all get its
//! class, so that runs go on through them. `naive::gpt2_pieces` is the same, written from the pattern.

use crate::tokenize::classes::{Class, class_of, is_white};

/// Bytes of a window, a multiple of 64: classes and marks of one stay in L1 beside the tables of the encoder.
const WINDOW: usize = 512;

/// Kinds of byte. A byte begins no piece behind one whose kind has its bit.
const LETTER: u8 = 1;
const NUMBER: u8 = 2;
const OTHER: u8 = 4;
const WHITE: u8 = 8;
/// U+0020: white space that whatever follows goes on from.
const SPACE: u8 = LETTER | NUMBER | OTHER | WHITE;

/// A piece may begin at every byte of a window; and then there are the first one, the end, and what a block of eight
/// too many writes.
const MAX_STARTS: usize = WINDOW + 2 + 64;

/// Splits a text, window after window.
pub(crate) struct Splitter<'t> {
    text: &'t str,
    /// First byte of the next window; always a character's first.
    at: usize,
    /// Kind of the byte before it.
    before: u8,
    /// Beginnings that a contraction of the block before put here, and one that it took away: bit `i` for byte `i`.
    begin: u64,
    inside: u64,
    /// The window's bytes where the text ends in it, 0 behind.
    last: [u8; WINDOW],
    /// Kinds, of the byte before the window first and of the byte behind it last.
    kinds: [u8; WINDOW + 2],
    /// [`BEGIN`] and [`QUOTE`].
    marks: [u8; WINDOW],
    /// Where pieces begin, counted from `base`; the first one went on into this window.
    starts: [u32; MAX_STARTS],
    base: usize,
}

/// A piece begins.
const BEGIN: u8 = 1;
/// A piece begins with an apostrophe.
const QUOTE: u8 = 2;

impl<'t> Splitter<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            before: 0,
            begin: 0,
            inside: 0,
            last: [0; WINDOW],
            kinds: [0; WINDOW + 2],
            marks: [0; WINDOW],
            starts: [0; MAX_STARTS],
            base: 0,
        }
    }

    /// The pieces that end in the next window, as offset of the first one's beginning and, from there, where each
    /// begins and the last one ends. None when the text has ended.
    pub(crate) fn next_window(&mut self) -> Option<(usize, &[u32])> {
        if self.at == self.text.len() {
            return None;
        }
        let len = self.mark();
        let mut count = usize::from(self.at > 0);
        let offset = u32::try_from(self.at - self.base).expect("a piece is shorter than 4 GiB");
        for (block, from) in (0..len).step_by(64).enumerate() {
            let begins = self.begins(64 * block, (len - from).min(64));
            count = push(&mut self.starts, count, offset + from as u32, begins);
        }
        self.at += len;
        let first = self.base;
        if self.at == self.text.len() {
            self.starts[count] = offset + len as u32;
            return Some((first, &self.starts[..=count]));
        }
        self.base += self.starts[count - 1] as usize;
        // The last piece is still open: it is the first of the next window, counted from its own beginning.
        let starts = &self.starts[..count];
        Some((first, starts))
    }

    /// Fills `marks` for the next window; its bytes, fewer than a whole one's where the text ends or a character is
    /// cut.
    fn mark(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let (bytes, mut len) = match rest.first_chunk::<WINDOW>() {
            Some(window) => (window, WINDOW),
            None => {
                self.last[..rest.len()].copy_from_slice(rest);
                (&self.last, rest.len())
            }
        };
        let kinds = &mut self.kinds;
        kinds[0] = self.before;
        let ascii = ascii_kinds(bytes, (&mut kinds[1..=WINDOW]).try_into().expect("as long as a window"));
        let mut wide_white = false;
        if !ascii {
            (len, wide_white) = other_kinds(&bytes[..len], &mut kinds[1..=WINDOW]);
        }
        kinds[len + 1] = if starts_solid(&rest[len..]) { OTHER } else { WHITE };
        self.before = kinds[len];
        marks(bytes, kinds, &mut self.marks);
        if wide_white {
            // The last byte of a character of white space cannot begin a piece; its first byte does.
            for i in 1..len {
                if self.marks[i] & BEGIN != 0 && bytes[i] & 0xc0 == 0x80 {
                    self.marks[i] = 0;
                    let first = (0..i).rev().find(|&j| bytes[j] & 0xc0 != 0x80).unwrap_or(0);
                    self.marks[first] = BEGIN;
                }
            }
        }
        len
    }

    /// The beginnings of the block of `len` bytes at `from`, bit `i` for byte `i`, contractions seen to.
    fn begins(&mut self, from: usize, len: usize) -> u64 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let block: &[u8; 64] = (&self.marks[from..from + 64]).try_into().expect("windows are whole blocks");
        let (mut begins, mut any) = (0, 0);
        for (eight, shift) in block.chunks_exact(8).zip((0..64).step_by(8)) {
            let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
            any |= word;
            // The low bits of eight bytes side by side.
            begins |= ((word & ONES).wrapping_mul(0x0102_0408_1020_4080) >> 56) << shift;
        }
        // Marks behind the block's end are those of a character that is cut.
        begins = (begins & !self.inside | self.begin) & (!0 >> (64 - len));
        (self.begin, self.inside) = (0, 0);
        if any & (ONES * u64::from(QUOTE)) != 0 {
            begins = self.contractions(from, len, begins);
        }
        begins
    }

    /// `begins` with contractions as pieces of their own.
    #[cold]
    fn contractions(&mut self, from: usize, len: usize, begins: u64) -> u64 {
        let text = self.text.as_bytes();
        // Twice as wide, for what falls into the next block.
        let (mut begin, mut inside) = (u128::from(begins), 0u128);
        for i in (0..len).filter(|i| self.marks[from + i] & QUOTE != 0) {
            if let Some(length) = contraction(&text[self.at + from + i + 1..]) {
                inside |= 1 << (i + 1);
                begin |= 1 << (i + 1 + length);
            }
        }
        begin &= !inside;
        (self.begin, self.inside) = ((begin >> len) as u64, (inside >> len) as u64);
        begin as u64 & (!0 >> (64 - len))
    }
}

/// Appends `base + i` for each bit `i`, and returns how many there are then. Eight at a time are written, whether they
/// are there or not: how many there are is what a processor cannot foresee.
#[inline(always)]
fn push(starts: &mut [u32; MAX_STARTS], len: usize, base: u32, mut mask: u64) -> usize {
    let count = mask.count_ones() as usize;
    let room: &mut [u32; 64] = (&mut starts[len..len + 64]).try_into().expect("there is room for a block");
    for eight in room.chunks_exact_mut(8).take(count.div_ceil(8)) {
        for slot in eight {
            // The top bit keeps the count of zeros below 64 once the mask is empty.
            *slot = base + (mask | 1 << 63).trailing_zeros();
            mask &= mask.wrapping_sub(1);
        }
    }
    len + count
}

/// Kinds of a window's bytes; whether all are ASCII. Those that are not are [`OTHER`] until `other_kinds`.
#[inline(never)]
fn ascii_kinds(bytes: &[u8; WINDOW], kinds: &mut [u8; WINDOW]) -> bool {
    let mut all = 0;
    for (&byte, kind) in bytes.iter().zip(kinds) {
        all |= byte;
        let within = |from: u8, count: u8, kind: u8| if byte.wrapping_sub(from) < count { kind } else { 0 };
        let letter = if (byte | 0x20).wrapping_sub(b'a') < 26 { LETTER } else { 0 };
        let known = letter | within(b'0', 10, NUMBER) | within(b'\t', 5, WHITE) | within(b' ', 1, SPACE);
        *kind = if known == 0 { OTHER } else { known };
    }
    all < 0x80
}

/// Kinds of the characters beyond ASCII. Returns the window's bytes, fewer if its last character is cut, and whether
/// white space is among them.
#[cold]
fn other_kinds(bytes: &[u8], kinds: &mut [u8]) -> (usize, bool) {
    let (mut at, mut wide_white) = (0, false);
    while let Some(ascii) = bytes[at..].iter().position(|&byte| byte >= 0x80) {
        at += ascii;
        let (code, width) = decode(&bytes[at..]);
        if at + width > bytes.len() {
            return (at, wide_white);
        }
        let kind = match class_of(code) {
            class if class.is_letter() => LETTER,
            Class::Number => NUMBER,
            _ if is_white(code) => WHITE,
            _ => OTHER,
        };
        wide_white |= kind == WHITE;
        kinds[at..at + width].fill(kind);
        at += width;
    }
    (bytes.len(), wide_white)
}

/// Where pieces begin, as the header says.
#[inline(never)]
fn marks(bytes: &[u8; WINDOW], kinds: &[u8; WINDOW + 2], marks: &mut [u8; WINDOW]) {
    for (i, mark) in marks.iter_mut().enumerate() {
        let (before, here, behind) = (kinds[i], kinds[i + 1], kinds[i + 2]);
        let white = here & WHITE;
        let kind = if white != 0 { WHITE } else { here };
        let new = if kind & before == 0 { BEGIN } else { 0 };
        let last = if white & !behind != 0 { BEGIN } else { 0 };
        let quote = if bytes[i] == b'\'' { QUOTE } else { 0 };
        let begin = new | last;
        *mark = begin | begin << 1 & quote;
    }
}

/// Whether something other than white space comes next.
fn starts_solid(rest: &[u8]) -> bool {
    match rest {
        [] => false,
        [byte @ 0..0x80, ..] => !is_white(u32::from(*byte)),
        _ => !is_white(decode(rest).0),
    }
}

/// Bytes of the contraction that stands behind an apostrophe.
pub(crate) fn contraction(rest: &[u8]) -> Option<usize> {
    match rest {
        [b's' | b't' | b'm' | b'd', ..] => Some(1),
        [b'r', b'e', ..] | [b'v', b'e', ..] | [b'l', b'l', ..] => Some(2),
        _ => None,
    }
}

/// The character beyond ASCII at the start of valid UTF-8, and its bytes; where it is cut, only those.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let low = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0) & 0x3f);
    let first = u32::from(bytes[0]);
    match first {
        0..0xe0 => ((first & 0x1f) << 6 | low(1), 2),
        0xe0..0xf0 => ((first & 0x0f) << 12 | low(1) << 6 | low(2), 3),
        _ => ((first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
    }
}
