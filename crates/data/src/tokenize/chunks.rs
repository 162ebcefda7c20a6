//! Where a text can be cut without changing a token, so that its parts can be encoded by several threads or one after
//! the other.

/// A text in parts of about `bytes` each. Encoded one by one they give the tokens of the whole, under every pattern: a
/// cut is made between an ASCII letter and a space or line feed, where a piece always ends, whatever is around. A text
/// without such a place stays whole.
pub fn chunks(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = cut_from(rest.as_bytes(), bytes.max(1));
        let (chunk, behind) = rest.split_at(end);
        rest = behind;
        Some(chunk)
    })
}

/// The first place from `at` on where a text can be cut, or its end.
fn cut_from(text: &[u8], at: usize) -> usize {
    let pairs = text.get(at.saturating_sub(1)..).unwrap_or(&[]).windows(2);
    let cut =
        pairs.into_iter().position(|pair| pair[0].is_ascii_alphabetic() && matches!(pair[1], b' ' | b'\n'));
    cut.map_or(text.len(), |i| at.saturating_sub(1) + i + 1)
}
