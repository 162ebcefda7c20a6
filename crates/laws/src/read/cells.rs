//! One cell: empty, a number as people write it, or text.

use isoflop_base::units::parse_count;
use serde_json::Value;

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A number that was a number in the file.
    Number(f64),
    /// Text; the flag says that a comma may be the decimal point (tables separated by semicolons).
    Text(String, bool),
    /// The whole record is broken, and why.
    Broken(String),
}

impl Cell {
    pub(super) fn of_json(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Empty,
            Some(Value::Number(n)) => n.as_f64().map_or(Self::Text(n.to_string(), false), Self::Number),
            Some(Value::String(s)) if s.trim().is_empty() => Self::Empty,
            Some(Value::String(s)) => Self::Text(s.clone(), false),
            Some(other) => Self::Text(other.to_string(), false),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Number(v) => v.to_string(),
            Self::Text(t, _) => t.clone(),
            Self::Broken(why) => why.clone(),
        }
    }
}

/// The number in a cell: `3.2`, `1.2B`, `300M`, `6e18`, `1,000,000`, `1_000`, `3,2` between semicolons.
pub(super) fn number(cell: &Cell) -> Result<f64, String> {
    let (text, decimal_comma) = match cell {
        Cell::Number(v) => return Ok(*v),
        Cell::Text(text, flag) => (text.trim(), *flag),
        Cell::Empty => return Err("empty".to_owned()),
        Cell::Broken(why) => return Err(why.clone()),
    };
    if let Ok(v) = text.parse::<f64>() {
        return Ok(v);
    }
    let plain = unified(text, decimal_comma);
    if let Ok(v) = plain.parse::<f64>() {
        return Ok(v);
    }
    if let Some(v) = power_of_ten(&plain) {
        return Ok(v);
    }
    let (sign, digits) = plain.strip_prefix('-').map_or((1.0, plain.as_str()), |rest| (-1.0, rest));
    parse_count(digits).map(|v| sign * v).map_err(|_| format!("`{}` is not a number", short(text)))
}

/// The number with a decimal point, without marks between thousands, and without a word for what is counted.
fn unified(text: &str, decimal_comma: bool) -> String {
    let lower = text.to_ascii_lowercase();
    let counted = ["tokens", "token", "parameters", "params", "flops", "flop", "nats"];
    let word = counted.iter().find(|w| lower.ends_with(*w)).map_or(0, |w| w.len());
    let mut out = text[..text.len() - word].trim_end().to_owned();
    for (short, long) in [("bn", "b"), ("mn", "m"), ("billion", "b"), ("million", "m"), ("trillion", "t")] {
        if out.to_ascii_lowercase().ends_with(short) {
            out.truncate(out.len() - short.len());
            out.push_str(long);
            break;
        }
    }
    for space in [' ', '\u{a0}', '\u{202f}', '\u{2009}', '\''] {
        if thousands(&out, space, if decimal_comma { ',' } else { '.' }) {
            out = out.replace(space, "");
        }
    }
    let one_comma = out.matches(',').count() == 1 && !out.contains('.');
    if decimal_comma && one_comma {
        out.replace(',', ".")
    } else if thousands(&out, '.', ',') && (out.matches('.').count() > 1 || out.contains(',')) {
        out.replace('.', "").replace(',', ".")
    } else if thousands(&out, ',', '.') {
        out.replace(',', "")
    } else {
        out
    }
}

/// `1.2×10^9`, `1.2*10^9`, `10^9`.
fn power_of_ten(text: &str) -> Option<f64> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (mantissa, exponent) = match compact.split_once(['×', '*', 'x', '·']) {
        Some((m, rest)) => (m.parse::<f64>().ok()?, rest.strip_prefix("10^")?),
        None => (1.0, compact.strip_prefix("10^")?),
    };
    // Parsed as one number, so that it is the nearest one.
    format!("{mantissa}e{}", exponent.trim_matches(['{', '}']).parse::<i32>().ok()?).parse().ok()
}

/// `1,234,567.8`: groups of three after the first, up to the decimal mark, then nothing but digits and letters.
fn thousands(text: &str, mark: char, decimal: char) -> bool {
    let whole = text.trim_start_matches('-').split(decimal).next().unwrap_or("");
    let mut groups = whole.split(mark);
    let first = groups.next().unwrap_or("");
    let digits = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit());
    whole.contains(mark) && digits(first) && first.len() <= 3 && groups.all(|g| g.len() == 3 && digits(g))
}

/// At most 40 characters, for messages.
pub(super) fn short(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect();
    if text.chars().count() > 40 { format!("{clean}…") } else { clean }
}
