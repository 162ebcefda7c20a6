//! Escaping, and a small balance check that the tests use.

/// Text made safe inside an element or a double-quoted attribute. Control characters that no document may hold are
/// shown by their code.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// [`escape`] for prose: exponents are raised and the indices of one-letter symbols lowered, `N^−0.11`, `D_eff`, and a
/// number stays on one line with its prefix or per cent.
pub(crate) fn prose(text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for at in 1..chars.len().saturating_sub(1) {
        let ends = chars.get(at + 2).is_none_or(|c| !c.is_alphanumeric());
        let unit = matches!(chars[at + 1], 'k' | 'M' | 'B' | 'G' | 'T' | '%');
        if chars[at] == ' ' && chars[at - 1].is_ascii_digit() && unit && ends {
            chars[at] = '\u{202f}';
        }
    }
    let (mut out, mut done, mut at) = (String::with_capacity(text.len() + 16), 0, 0);
    let plain = |from: usize, to: usize| escape(&chars[from..to].iter().collect::<String>());
    while at < chars.len() {
        let (tag, end) = match chars[at] {
            '^' => ("sup", exponent_end(&chars, at)),
            '_' => ("sub", index_end(&chars, at)),
            _ => ("", at),
        };
        if end > at + 1 {
            out += &format!("{}<{tag}>{}</{tag}>", plain(done, at), plain(at + 1, end));
            (done, at) = (end, end);
        } else {
            at += 1;
        }
    }
    out + &plain(done, chars.len())
}

/// Where the exponent after a `^` ends; no later than one after it where there is none.
fn exponent_end(chars: &[char], at: usize) -> usize {
    let base = at.checked_sub(1).is_some_and(|i| chars[i].is_alphanumeric() || chars[i] == ')');
    let sign = usize::from(matches!(chars.get(at + 1), Some('−' | '-')));
    let inside = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_');
    let mut end = at + 1 + sign + chars[at + 1 + sign..].iter().take_while(|c| inside(c)).count();
    // A full stop is the sentence's.
    while chars[end - 1] == '.' {
        end -= 1;
    }
    if base && end > at + 1 + sign { end } else { at }
}

/// Where the index after a `_` ends: of one capital or Greek letter, so that `batch_tokens` stays what it is.
fn index_end(chars: &[char], at: usize) -> usize {
    let is_symbol = |c: char| c.is_ascii_uppercase() || ('α'..='ω').contains(&c);
    let symbol = at.checked_sub(1).is_some_and(|i| is_symbol(chars[i]));
    let alone = at < 2 || !(chars[at - 2].is_alphanumeric() || chars[at - 2] == '_');
    let end = at + 1 + chars[at + 1..].iter().take_while(|c| c.is_ascii_alphanumeric()).count();
    if symbol && alone && chars.get(end) != Some(&'_') { end } else { at }
}

#[cfg(test)]
mod tests {
    use super::{escape, prose};

    #[test]
    fn nothing_dangerous_survives() {
        assert_eq!(
            escape("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
        assert_eq!(escape("a\u{0}b\u{1b}[0m"), "a\\x00b\\x1b[0m");
    }

    #[test]
    fn exponents_are_raised_and_indices_lowered() {
        for (text, html) in [
            ("as N^−α with", "as N<sup>−α</sup> with"),
            ("5·10³·N^0.74.", "5·10³·N<sup>0.74</sup>."),
            ("(1 − q)^g, D_eff/D", "(1 − q)<sup>g</sup>, D<sub>eff</sub>/D"),
            ("(N_c/N)^α_N", "(N<sub>c</sub>/N)<sup>α_N</sup>"),
            ("`train.batch_tokens` ALL_CAPS a_b X_y_z", "`train.batch_tokens` ALL_CAPS a_b X_y_z"),
            ("^ a^ ^b 2^(x)", "^ a^ ^b 2^(x)"),
            ("a^<b>", "a^&lt;b&gt;"),
            ("x^- y", "x^- y"),
            ("6.91 k (5 % of 3 Models, 2 M) k", "6.91\u{202f}k (5\u{202f}% of 3 Models, 2\u{202f}M) k"),
        ] {
            assert_eq!(prose(text), html);
        }
    }
}
