//! Shares, points and lists as people say them.

use crate::numbers::{self, fixed};
use crate::plot::text_width;

/// `76.63 %`.
pub(super) fn percent(share: f64, digits: usize) -> String {
    if share.is_finite() {
        format!("{}\u{202f}%", fixed(100.0 * share, digits))
    } else {
        numbers::NONE.to_owned()
    }
}

/// ` ± 0.42`, of a share, in points; nothing for what is no number.
pub(super) fn plus_minus(half: f64, digits: usize) -> String {
    if half.is_finite() { format!(" ± {}", fixed(100.0 * half, digits)) } else { String::new() }
}

/// `+2.31`, in points.
pub(super) fn signed(share: f64, digits: usize) -> String {
    let text = fixed(100.0 * share, digits);
    let zero = text.chars().all(|c| matches!(c, '0' | '.'));
    if share > 0.0 && !zero { format!("+{text}") } else { text }
}

/// `1 shot`, `5 shots`.
pub(super) fn shots(count: usize) -> String {
    plural(count as u64, "shot", "shots")
}

/// A count with its noun: `1 seed`, `2,000 episodes`.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Thousands apart: `111,680`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `a, b and c`.
pub(super) fn and(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The text cut so that it takes at most `width` pixels in a figure.
pub(super) fn fitted(text: &str, width: f64) -> String {
    // Labels are a little larger and bolder than what `text_width` measures.
    let wide = |t: &str| 1.15 * text_width(t) > width;
    if !wide(text) {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut: String = kept.iter().chain(['…'].iter()).collect();
        if !wide(&cut) {
            return cut;
        }
    }
    "…".to_owned()
}

/// A capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::super::input::Interval;
    use super::*;

    #[test]
    fn counts_shares_and_lists_read_well() {
        for (got, want) in [
            (grouped(7), "7"),
            (grouped(111_680), "111,680"),
            (grouped(1_000), "1,000"),
            (shots(1), "1 shot"),
            (signed(0.0231, 2), "+2.31"),
            (signed(-0.532, 1), "−53.2"),
            (signed(0.00001, 2), "0.00"),
            (percent(f64::NAN, 1), numbers::NONE),
            (plus_minus(f64::NAN, 1), ""),
            (and(&["a".into(), "b".into(), "c".into()]), "a, b and c"),
        ] {
            assert_eq!(got, want);
        }
        assert_eq!(Interval { mean: 0.0, half: 0.1, seeds_half: Some(0.3) }.wider(), 0.3);
        assert_eq!(Interval { mean: 0.0, half: 0.1, seeds_half: None }.wider(), 0.1);
        assert!(fitted("a name that is much longer than its place", 90.0).ends_with('…'));
        assert_eq!(fitted("short", 90.0), "short");
    }
}
