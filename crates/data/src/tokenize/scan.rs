//! The patterns of cl100k, o200k, Llama 3 and Qwen 2, character by character. GPT-2's, which text is prepared with
//! most, has a splitter of its own (`gpt2_split`).

use crate::tokenize::classes::{Class, class_of, is_white};
use crate::tokenize::pattern::Pattern;

/// Beginnings of a window.
const WINDOW: usize = 512;

/// Splits a text by a pattern other than GPT-2's.
pub(crate) struct Scanner<'t> {
    text: &'t str,
    pattern: Pattern,
    at: usize,
    starts: Vec<u32>,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str, pattern: Pattern) -> Self {
        Self { text, pattern, at: 0, starts: Vec::with_capacity(WINDOW + 1) }
    }

    /// Offset of the next pieces, and where each begins and the last one ends, counted from there.
    pub(crate) fn next_window(&mut self) -> Option<(usize, &[u32])> {
        let base = self.at;
        self.starts.clear();
        self.starts.push(0);
        while self.at < self.text.len() && self.starts.len() <= WINDOW {
            let piece = piece(&self.text[self.at..], self.pattern);
            // A window begins anew behind a piece so long that offsets might not fit.
            self.at += piece;
            self.starts
                .push(u32::try_from(self.at - base).expect("pieces of a window are shorter than 4 GiB"));
            if piece > 1 << 20 {
                break;
            }
        }
        (self.starts.len() > 1).then_some((base, self.starts.as_slice()))
    }
}

/// Bytes of the piece at the start of a text that is not empty.
pub(crate) fn piece(text: &str, pattern: Pattern) -> usize {
    let length = match pattern {
        Pattern::Whole => text.len(),
        Pattern::O200k => {
            o200k_word(text).or_else(|| number(text, 3)).unwrap_or_else(|| signs_or_white(text, pattern))
        }
        Pattern::Gpt2 | Pattern::Cl100k | Pattern::Llama3 | Pattern::Qwen2 => {
            let digits = if pattern == Pattern::Qwen2 { 1 } else { 3 };
            contraction(text)
                .or_else(|| word(text))
                .or_else(|| number(text, digits))
                .unwrap_or_else(|| signs_or_white(text, pattern))
        }
    };
    debug_assert!(length > 0);
    length
}

/// What a pattern sees of a character.
fn class(c: char) -> Class {
    class_of(c.into())
}

fn is_sign(c: char) -> bool {
    class(c) != Class::Number && !class(c).is_letter() && !is_white(c.into())
}

/// `[^\r\n\p{L}\p{N}]`, what may stand before the letters of a word.
fn leads_word(c: char) -> bool {
    c != '\r' && c != '\n' && class(c) != Class::Number && !class(c).is_letter()
}

/// Bytes of the longest start of `text` whose characters are all so.
fn run(text: &str, is_so: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_so(c)).unwrap_or(text.len())
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`. Case folding makes the long s an s.
fn contraction(text: &str) -> Option<usize> {
    let mut chars = text.strip_prefix('\'')?.chars();
    let first = chars.next()?;
    let second = chars.next().map(|c| c.to_ascii_lowercase());
    match (first.to_ascii_lowercase(), second) {
        ('s' | 't' | 'm' | 'd' | '\u{17f}', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+`
fn word(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let lead = if leads_word(first) { first.len_utf8() } else { 0 };
    let letters = run(&text[lead..], |c| class(c).is_letter());
    (letters > 0).then_some(lead + letters)
}

/// `\p{N}{1,most}`
fn number(text: &str, most: usize) -> Option<usize> {
    let digits = text.chars().take(most).take_while(|&c| class(c) == Class::Number);
    let length: usize = digits.map(char::len_utf8).sum();
    (length > 0).then_some(length)
}

/// The alternatives for signs and for white space, which all patterns have, each a little differently.
fn signs_or_white(text: &str, pattern: Pattern) -> usize {
    let space = usize::from(text.starts_with(' '));
    let signs = run(&text[space..], is_sign);
    if signs > 0 {
        let end = space + signs;
        return end
            + run(&text[end..], |c| matches!(c, '\r' | '\n') || c == '/' && pattern == Pattern::O200k);
    }
    let white = run(text, |c| is_white(c.into()));
    let at_end = white == text.len();
    // tiktoken's `\s++$` comes before the line breaks, in cl100k only.
    if at_end && pattern == Pattern::Cl100k {
        return white;
    }
    if let Some(line_break) = text[..white].rfind(['\r', '\n']) {
        return line_break + 1;
    }
    let last = text[..white].chars().next_back().map_or(0, char::len_utf8);
    if at_end || last == white { white } else { white - last }
}

/// o200k's two alternatives for words: capitals then small letters, or capitals; letters without case and marks are
/// both.
fn o200k_word(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    // With what leads the word if it can, or else without, for each alternative in turn.
    let leads = leads_word(first).then_some(first.len_utf8());
    let tries = [leads, Some(0)];
    let attempt = |end: fn(&str) -> Option<usize>| {
        tries.into_iter().flatten().find_map(|lead| Some(lead + end(&text[lead..])?))
    };
    let end = attempt(capitals_then_small).or_else(|| attempt(capitals))?;
    Some(end + contraction(&text[end..]).unwrap_or(0))
}

fn is_capital(c: char) -> bool {
    matches!(class(c), Class::Upper | Class::Caseless | Class::Mark)
}

fn is_small(c: char) -> bool {
    matches!(class(c), Class::Lower | Class::Caseless | Class::Mark)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
fn capitals_then_small(text: &str) -> Option<usize> {
    let capitals = run(text, is_capital);
    let small = run(&text[capitals..], is_small);
    if small > 0 {
        return Some(capitals + small);
    }
    // The capitals give back as many as it takes for the last of them to be small as well.
    let (at, c) = text[..capitals].char_indices().rev().find(|&(_, c)| is_small(c))?;
    Some(at + c.len_utf8())
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+`; small letters behind would have been the other alternative's.
fn capitals(text: &str) -> Option<usize> {
    let capitals = run(text, is_capital);
    (capitals > 0).then_some(capitals)
}
