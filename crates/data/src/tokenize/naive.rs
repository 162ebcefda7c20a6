//! The encoder in plain loops, from the definitions: what a reader opens first, and what the fast one is tested
//! against.

use crate::tokenize::classes::{Class, class_of, is_white};
use std::collections::HashMap;

/// GPT-2's pattern, alternative after alternative at each place, as a regular expression would try them:
///
/// ```text
/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// ```
#[cfg_attr(not(test), expect(dead_code, reason = "the page to read first, and the oracle of the tests"))]
pub(crate) fn gpt2_pieces(text: &str) -> Vec<&str> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let offset = |i: usize| chars.get(i).map_or(text.len(), |&(offset, _)| offset);
    let is = |i: usize, kind: fn(char) -> bool| chars.get(i).is_some_and(|&(_, c)| kind(c));
    let white = |c: char| is_white(c.into());
    let letter = |c: char| class_of(c.into()).is_letter();
    let number = |c: char| class_of(c.into()) == Class::Number;
    let sign = |c: char| {
        !is_white(c.into()) && !class_of(c.into()).is_letter() && class_of(c.into()) != Class::Number
    };
    let (mut pieces, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        let rest = &text[offset(i)..];
        let from = i;
        if let Some(suffix) =
            ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].iter().find(|s| rest.starts_with(**s))
        {
            i += suffix.len();
        } else if let Some(kind) =
            [letter, number, sign].into_iter().find(|&kind| is(i + usize::from(rest.starts_with(' ')), kind))
        {
            i += usize::from(rest.starts_with(' '));
            while is(i, kind) {
                i += 1;
            }
        } else {
            while is(i, white) {
                i += 1;
            }
            // `\s+(?!\S)` gives one back where something follows, unless that is all it has.
            if i < chars.len() && i - from > 1 {
                i -= 1;
            }
        }
        pieces.push(&text[offset(from)..offset(i)]);
    }
    pieces
}

/// Merges a piece: looks through all neighbours for the lowest rank, leftmost first, merges that pair, and begins anew.
///
/// `merges` has (left, right) → (rank, what they become).
pub(crate) fn merge(ids: &mut Vec<u32>, merges: &HashMap<(u32, u32), (u32, u32)>) {
    loop {
        let known = ids.windows(2).enumerate().filter_map(|(i, w)| merges.get(&(w[0], w[1])).map(|m| (m, i)));
        let Some((&(_, made), at)) = known.min_by_key(|&((rank, _), i)| (*rank, i)) else { return };
        ids[at] = made;
        ids.remove(at + 1);
    }
}
