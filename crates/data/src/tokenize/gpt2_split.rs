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
//! So a window is words of 64 bits, a bit for each byte, one for each question that matters: is it a letter, a number,
//! white space? Where pieces begin is a handful of operations on these, and nothing branches for a byte. The bytes of a
//! character beyond ASCII all get its class, so that runs go on through them. `naive::gpt2_pieces` is the same, written
//! from the pattern.

use crate::tokenize::classes::{Class, class_of, is_white};
use isoflop_kernels::text::{AsciiBits as Block, BLOCK, ascii_bits};

/// Blocks of a window.
const BLOCKS: usize = 8;
/// Bytes of a window.
const WINDOW: usize = BLOCK * BLOCKS;

/// A piece may begin at every byte of a window; and then there are the first one, the end, and what a block of eight
/// too many writes.
const MAX_STARTS: usize = WINDOW + 2 + 64;

/// Splits a text, window after window.
pub(crate) struct Splitter<'t> {
    text: &'t str,
    /// First byte of the next window; always a character's first.
    at: usize,
    /// What the byte before the next block is: its bits, in the lowest place.
    before: Before,
    /// Beginnings that a contraction of the block before put here, and one that it took away: bit `i` for byte `i`.
    begin: u64,
    inside: u64,
    /// The window's bytes where the text ends in it, 0 behind.
    last: [u8; WINDOW],
    /// Of the window's bytes; in the last one, whether white space comes next.
    blocks: [Block; BLOCKS + 1],
    /// Where pieces begin, counted from `base`; the first one went on into this window.
    starts: [u32; MAX_STARTS],
    base: usize,
}

/// What goes on into a block: 1 if the byte before it is so. At a text's start nothing is.
#[derive(Clone, Copy, Default)]
struct Before {
    letter: u64,
    number: u64,
    other: u64,
    white: u64,
    space: u64,
}

impl<'t> Splitter<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            before: Before::default(),
            begin: 0,
            inside: 0,
            last: [0; WINDOW],
            blocks: [Block::default(); BLOCKS + 1],
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
        let (len, wide_white) = self.look();
        let mut begins = [0; BLOCKS];
        let lengths = (0..len).step_by(64).map(|from| (len - from).min(64));
        for (block, (begins, len)) in begins.iter_mut().zip(lengths).enumerate() {
            *begins = self.begins(block, len);
        }
        if wide_white {
            self.whole_characters(&mut begins);
        }
        let mut count = usize::from(self.at > 0);
        let offset = u32::try_from(self.at - self.base).expect("a piece is shorter than 4 GiB");
        for (from, begins) in (0..len).step_by(64).zip(begins) {
            let begins = self.with_contractions(from, (len - from).min(64), begins);
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

    /// Fills `blocks` for the next window. Its bytes, fewer than a whole one's where the text ends or a character is
    /// cut, and whether there is white space beyond ASCII.
    fn look(&mut self) -> (usize, bool) {
        let rest = &self.text.as_bytes()[self.at..];
        let (bytes, mut len) = match rest.first_chunk::<WINDOW>() {
            Some(window) => (window, WINDOW),
            None => {
                self.last[..rest.len()].copy_from_slice(rest);
                self.last[rest.len()..].fill(0);
                (&self.last, rest.len())
            }
        };
        ascii_bits(bytes, &mut self.blocks[..BLOCKS]);
        let wide = self.blocks[..BLOCKS].iter().fold(0, |wide, block| wide | block.wide);
        let mut wide_white = false;
        if wide != 0 {
            (len, wide_white) = beyond_ascii(&bytes[..len], &mut self.blocks);
        }
        // White space at the text's very end is followed by none that it would leave its last to.
        let goes_on = u64::from(!starts_solid(&rest[len..])) << (len % 64);
        let white = &mut self.blocks[len / 64].white;
        *white = *white & ((1 << (len % 64)) - 1) | goes_on;
        (len, wide_white)
    }

    /// Where the classes of a block of `len` bytes let pieces begin: bit `i` for byte `i`.
    #[inline(always)]
    fn begins(&mut self, block: usize, len: usize) -> u64 {
        let Block { letters, numbers, white, spaces, .. } = self.blocks[block];
        let others = !(letters | numbers | white);
        let before = self.before;
        let behind = |bits: u64, before: u64| bits << 1 | before;
        let space = behind(spaces, before.space);
        let next_white = white >> 1 | self.blocks[block + 1].white << 63;
        let begins = letters & !(behind(letters, before.letter) | space)
            | numbers & !(behind(numbers, before.number) | space)
            | others & !(behind(others, before.other) | space)
            | white & !(behind(white, before.white) & next_white);
        let last = |bits: u64| bits >> (len - 1) & 1;
        self.before = Before {
            letter: last(letters),
            number: last(numbers),
            other: last(others),
            white: last(white),
            space: last(spaces),
        };
        // Bits behind the block's end are those of a character that is cut, or of no text.
        begins & (!0 >> (64 - len))
    }

    /// The last byte of a character of white space cannot begin a piece; its first byte does.
    #[cold]
    fn whole_characters(&self, begins: &mut [u64; BLOCKS]) {
        let text = &self.text.as_bytes()[self.at..];
        for i in 0..WINDOW.min(text.len()) {
            if begins[i / 64] >> (i % 64) & 1 != 0 && text[i] & 0xc0 == 0x80 {
                begins[i / 64] &= !(1 << (i % 64));
                let first = (0..i).rev().find(|&j| text[j] & 0xc0 != 0x80).unwrap_or(0);
                begins[first / 64] |= 1 << (first % 64);
            }
        }
    }

    /// The beginnings of the block of `len` bytes at `from`, contractions seen to.
    #[inline(always)]
    fn with_contractions(&mut self, from: usize, len: usize, begins: u64) -> u64 {
        let quotes = begins & self.blocks[from / 64].quotes;
        let begins = (begins & !self.inside | self.begin) & (!0 >> (64 - len));
        (self.begin, self.inside) = (0, 0);
        if quotes != 0 { self.contractions(from, len, begins, quotes) } else { begins }
    }

    /// `begins` with contractions as pieces of their own.
    #[inline(never)]
    fn contractions(&mut self, from: usize, len: usize, begins: u64, mut quotes: u64) -> u64 {
        let text = &self.text.as_bytes()[self.at + from..];
        // Twice as wide, for what falls into the next block.
        let (mut begin, mut inside) = (u128::from(begins), 0u128);
        while quotes != 0 {
            let i = quotes.trailing_zeros() as usize;
            quotes &= quotes - 1;
            if let Some(length) = contraction(&text[i + 1..]) {
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

/// Classes of the characters beyond ASCII. Returns the window's bytes, fewer if its last character is cut, and whether
/// white space is among them.
#[cold]
fn beyond_ascii(bytes: &[u8], blocks: &mut [Block; BLOCKS + 1]) -> (usize, bool) {
    let (mut at, mut wide_white) = (0, false);
    while let Some(ascii) = bytes[at..].iter().position(|&byte| byte >= 0x80) {
        at += ascii;
        let (code, width) = decode(&bytes[at..]);
        if at + width > bytes.len() {
            return (at, wide_white);
        }
        let of: fn(&mut Block) -> &mut u64 = match class_of(code) {
            class if class.is_letter() => |block| &mut block.letters,
            Class::Number => |block| &mut block.numbers,
            _ if is_white(code) => {
                wide_white = true;
                |block| &mut block.white
            }
            // What is in no class is a sign.
            _ => |block| &mut block.wide,
        };
        for i in at..at + width {
            *of(&mut blocks[i / 64]) |= 1 << (i % 64);
        }
        at += width;
    }
    (bytes.len(), wide_white)
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
