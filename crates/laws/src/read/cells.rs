//! One cell: empty, a number as people write it, or text.

use super::marks::{Column, Decimal};
use super::units;
use serde_json::Value;

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A number that was a number in the file.
    Number(f64),
    /// Text, a number or not: what its marks mean is decided from the whole table.
    Text(String),
    /// The whole record is broken, and why.
    Broken(String),
}

impl Cell {
    pub(super) fn of_json(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Empty,
            Some(Value::Number(n)) => n.as_f64().map_or(Self::Text(n.to_string()), Self::Number),
            Some(Value::String(s)) if s.trim().is_empty() => Self::Empty,
            Some(Value::String(s)) => Self::Text(s.clone()),
            Some(other) => Self::Text(other.to_string()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Number(v) => v.to_string(),
            Self::Text(t) => t.clone(),
            Self::Broken(why) => why.clone(),
        }
    }
}

/// A number as a cell states it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    pub(super) value: f64,
    /// The cell names its own multiple or unit (`1.2B`, `3 PF-days`), so a unit in the header adds none.
    pub(super) scaled: bool,
}

/// The number in a cell: `3.2`, `1.2B`, `300M`, `6e18`, `1,000,000`, `1_000`, or `3,2` where commas are decimal.
pub(super) fn number(cell: &Cell, column: &Column) -> Result<Number, String> {
    let text = match cell {
        Cell::Number(v) => return Ok(Number { value: *v, scaled: false }),
        Cell::Text(text) => text,
        Cell::Empty => return Err("empty".to_owned()),
        Cell::Broken(why) => return Err(why.clone()),
    };
    let none = || format!("`{}` is not a number", short(text));
    if let Some(decimal) = column.decimal {
        return parse(text, decimal).ok_or_else(none);
    }
    match (parse(text, Decimal::Point), parse(text, Decimal::Comma)) {
        (Some(point), Some(comma)) if point.value != comma.value => {
            Err(format!("`{}` is {} or {}", short(text), point.value, comma.value))
        }
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(none()),
    }
}

/// Whether a cell is a number, whatever its marks mean.
pub(super) fn is_number(cell: &Cell) -> bool {
    match cell {
        Cell::Number(_) => true,
        Cell::Text(text) => parse(text, Decimal::Point).or_else(|| parse(text, Decimal::Comma)).is_some(),
        Cell::Empty | Cell::Broken(_) => false,
    }
}

/// Words that programs write where there is nothing: R's `NA`, Excel's `#N/A`, SQL's `NULL`, Python's `None`, a dash.
pub(super) fn is_missing(cell: &Cell) -> bool {
    let missing = ["na", "n/a", "#n/a", "<na>", "null", "none", "-", "–", "—"];
    matches!(cell, Cell::Text(t) if missing.contains(&t.trim().to_lowercase().as_str()))
}

/// The number a text states if `decimal` is the mark before its decimals.
pub(super) fn parse(text: &str, decimal: Decimal) -> Option<Number> {
    let text = text.trim().replace('\u{2212}', "-");
    let plain = |value| Number { value, scaled: false };
    let (sign, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { "-" } else { "" }, rest),
        None => ("", text.as_str()),
    };
    if matches!(rest.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity") {
        return format!("{sign}{rest}").parse().ok().map(plain);
    }
    if let Some(exponent) = power(rest) {
        return format!("{sign}1e{exponent}").parse().ok().map(plain);
    }
    let end = rest.find(|c: char| !(c.is_ascii_digit() || is_mark(c))).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let digits = digits.trim_end_matches([' ', '\u{a0}', '\u{202f}', '\u{2009}']);
    let rest = rest.trim();
    // A mark before an exponent is the decimal one: nobody groups thousands there.
    let scientific = rest.starts_with(['e', 'E', '×', '*', 'x', '·']);
    let mantissa = unmarked(digits, decimal, scientific)?;
    let value = |exponent: &str| format!("{sign}{mantissa}e{exponent}").parse::<f64>().ok();
    if rest.is_empty() {
        return value("0").map(plain);
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']).filter(|e| e.parse::<i32>().is_ok()) {
        return value(exponent).map(plain);
    }
    if let Some(exponent) = rest.strip_prefix(['×', '*', 'x', '·']).and_then(power) {
        return value(&exponent.to_string()).map(plain);
    }
    // A multiple, a word for what is counted, or both; powers of ten are exact when read as an exponent.
    match units::in_cell(rest)? {
        units::InCell::Power(0) => value("0").map(plain),
        units::InCell::Power(p) => value(&p.to_string()).map(|value| Number { value, scaled: true }),
        units::InCell::Factor(f) => value("0").map(|value| Number { value: value * f, scaled: true }),
    }
}

/// Marks that stand between digits.
fn is_mark(c: char) -> bool {
    matches!(c, '.' | ',' | '_' | '\'' | '\u{2019}' | ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}')
}

/// The digits with a point before the decimals and nothing between thousands; `None` where the marks mean no number.
fn unmarked(digits: &str, decimal: Decimal, scientific: bool) -> Option<String> {
    let compact = digits.replace('_', "");
    let (mark, other) = match decimal {
        Decimal::Point => ('.', ','),
        Decimal::Comma => (',', '.'),
    };
    let mut parts = compact.split(mark);
    let (whole, fraction, more) = (parts.next()?, parts.next(), parts.next());
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if more.is_some() || !fraction.is_none_or(all_digits) {
        return None;
    }
    let group = whole.chars().find(|c| !c.is_ascii_digit());
    let whole = match group {
        None => whole.to_owned(),
        Some(g) if g == other && scientific => return None,
        Some(g) if grouped(whole, g) => whole.replace(g, ""),
        Some(_) => return None,
    };
    let fraction = fraction.unwrap_or("");
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    Some(format!(
        "{}.{}",
        if whole.is_empty() { "0" } else { &whole },
        if fraction.is_empty() { "0" } else { fraction }
    ))
}

/// `1,234,567`: groups of three after the first; or India's `12,34,567`, pairs before the last three.
fn grouped(whole: &str, mark: char) -> bool {
    let groups: Vec<&str> = whole.split(mark).collect();
    let (Some((first, rest)), Some(last)) = (groups.split_first(), groups.last()) else { return false };
    let digits = groups.iter().all(|g| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit()));
    let threes = first.len() <= 3 && rest.iter().all(|g| g.len() == 3);
    let india = mark == ','
        && groups.len() > 2
        && first.len() <= 2
        && last.len() == 3
        && groups[1..groups.len() - 1].iter().all(|g| g.len() == 2);
    digits && !first.starts_with('0') && (threes || india)
}

/// The exponent of `10^9`, `10**9`, `10^{9}` or `10⁹`.
pub(super) fn power(text: &str) -> Option<i32> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let rest = compact.strip_prefix("10")?;
    if let Some(rest) = rest.strip_prefix('^').or(rest.strip_prefix("**")) {
        return rest.trim_start_matches('{').trim_end_matches('}').parse().ok();
    }
    let raised: Option<String> = rest
        .chars()
        .map(|c| match c {
            '⁻' => Some('-'),
            c => "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|d| d == c).and_then(|d| char::from_digit(d as u32, 10)),
        })
        .collect();
    raised.filter(|r| !r.is_empty())?.parse().ok()
}

/// At most 40 characters, for messages.
pub(super) fn short(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect();
    if text.chars().count() > 40 { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_under_either_mark() {
        for (text, point, comma) in [
            ("125.000", Some(125.0), Some(125e3)),
            ("1,234", Some(1234.0), Some(1.234)),
            ("1.300.000", None, Some(1.3e6)),
            ("1,234.5", Some(1234.5), None),
            ("1.234,5", None, Some(1234.5)),
            ("0.125", Some(0.125), None),
            ("3,2", None, Some(3.2)),
            ("1,2E+09", None, Some(1.2e9)),
            ("1.234e9", Some(1.234e9), None),
            ("12,34,567", Some(1_234_567.0), None),
            ("1 234 567,5", None, Some(1_234_567.5)),
            ("1\u{2019}234\u{2019}567.5", Some(1_234_567.5), None),
            ("1.2B tokens", Some(1.2e9), None),
            ("1.2×10^9", Some(1.2e9), None),
            ("3·10⁸", Some(3e8), Some(3e8)),
            ("2 PF-days", Some(2.0 * 8.64e19), Some(2.0 * 8.64e19)),
            ("10^9", Some(1e9), Some(1e9)),
            ("−1_000", Some(-1e3), Some(-1e3)),
            (".5", Some(0.5), None),
            ("-Infinity", Some(f64::NEG_INFINITY), Some(f64::NEG_INFINITY)),
        ] {
            let read = |decimal| parse(text, decimal).map(|n| n.value);
            assert_eq!((read(Decimal::Point), read(Decimal::Comma)), (point, comma), "{text}");
        }
        for text in
            ["", "-", ".", "x", "1.2.3", "15.01.2024", "3 ± 1", "1,23,4", "1 2", "v1.2", "1.3GB", "12:30"]
        {
            for decimal in [Decimal::Point, Decimal::Comma] {
                assert_eq!(parse(text, decimal), None, "{text}");
            }
        }
    }
}
