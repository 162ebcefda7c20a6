//! Numbers as text. Nothing here ever writes `NaN` or `inf`: a value that is not finite is a dash.

use isoflop_base::{Measured, units};

/// What stands for a value that does not exist.
pub(crate) const NONE: &str = "–";

/// A true minus sign before negative numbers.
fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// `digits` decimals.
pub(crate) fn fixed(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value.abs() >= 1e9 { scientific(value) } else { minus(format!("{value:.digits$}")) }
}

/// About `digits` significant digits, trailing zeros kept.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-4..5).contains(&exponent) {
        return scientific(value);
    }
    fixed(value, (digits as i32 - 1 - exponent).max(0) as usize)
}

/// `12 M`, `13.8 k`: three significant digits, trailing zeros dropped.
pub(crate) fn count(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value.abs() >= 1e15 {
        return scientific(value);
    }
    let text = units::si(value);
    let (digits, suffix) = match text.split_once(' ') {
        // Parameters and tokens are counted in billions, not in giga.
        Some((digits, suffix)) => (digits, format!("\u{202f}{}", suffix.replace('G', "B"))),
        None => (text.as_str(), String::new()),
    };
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    minus(format!("{digits}{suffix}"))
}

/// `2.75×10¹⁴`.
pub(crate) fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.2e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let power = superscript(exponent.parse().unwrap_or(0));
    match mantissa {
        "1" => format!("10{power}"),
        _ => minus(format!("{mantissa}×10{power}")),
    }
}

/// `¹⁴`.
pub(crate) fn superscript(exponent: i32) -> String {
    exponent
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '0'..='9' => char::from_u32('⁰' as u32 + c as u32 - '0' as u32).unwrap_or(c),
            other => other,
        })
        .collect()
}

/// `lo to hi`, with `digits` decimals; a side without a bound is said in words.
pub(crate) fn interval(lo: f64, hi: f64, digits: usize) -> String {
    match (lo.is_finite(), hi.is_finite()) {
        (true, true) => format!("{} to {}", fixed(lo, digits), fixed(hi, digits)),
        (true, false) => format!("above {}", fixed(lo, digits)),
        (false, true) => format!("below {}", fixed(hi, digits)),
        (false, false) => "no interval".to_owned(),
    }
}

/// A percentage with sign: `+1.2 %`.
pub(crate) fn signed_percent(share: f64, digits: usize) -> String {
    if !share.is_finite() {
        return NONE.to_owned();
    }
    let text = fixed(100.0 * share, digits);
    let zero = text.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if share > 0.0 && !zero { "+" } else { "" };
    format!("{sign}{text}\u{202f}%")
}

/// A parameter's name as it is printed.
pub(crate) fn greek(name: &str) -> String {
    let (head, tail) = name.split_once('_').map_or((name, None), |(h, t)| (h, Some(t)));
    let head = match head {
        "alpha" => "α",
        "beta" => "β",
        "gamma" => "γ",
        "eta" => "η",
        other => other,
    };
    match tail {
        Some(tail) => format!("{head}_{tail}"),
        None => head.to_owned(),
    }
}

/// A measured value as HTML, its provenance visible: an estimate is marked and says how on hovering, a missing value
/// says why.
pub(crate) fn provenance<T>(value: &Measured<T>, show: impl Fn(&T) -> String) -> String {
    let esc = crate::html::escape;
    match value {
        Measured::Measured { value } => esc(&show(value)),
        Measured::Estimated { value, how } => {
            format!("<span class=\"est\" title=\"estimated: {}\">≈ {}</span>", esc(how), esc(&show(value)))
        }
        Measured::Missing { reason } => {
            format!("<span class=\"missing\" title=\"missing: {}\">missing</span>", esc(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (got, want) in [
            (count(12e6), "12\u{202f}M"),
            (count(13_824.0), "13.8\u{202f}k"),
            (count(7.0), "7"),
            (count(1.2e9), "1.2\u{202f}B"),
            (count(2.5e20), "2.5×10²⁰"),
            (scientific(2.75e14), "2.75×10¹⁴"),
            (scientific(1e-3), "10⁻³"),
            (fixed(-0.0004, 3), "0.000"),
            (fixed(-1.5, 2), "−1.50"),
            (significant(0.07612, 3), "0.0761"),
            (signed_percent(0.0123, 1), "+1.2\u{202f}%"),
            (signed_percent(-0.00001, 1), "0.0\u{202f}%"),
            (interval(0.1, f64::INFINITY, 2), "above 0.10"),
        ] {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn what_is_not_finite_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(fixed(value, 2), NONE);
            assert_eq!(count(value), NONE);
            assert_eq!(significant(value, 3), NONE);
            assert_eq!(signed_percent(value, 3), NONE);
        }
    }
}
