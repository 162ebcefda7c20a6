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
    let plain = if decimal_comma && text.matches(',').count() == 1 && !text.contains('.') {
        text.replace(',', ".")
    } else if thousands(text) {
        text.replace(',', "")
    } else {
        text.to_owned()
    };
    let (sign, digits) = plain.strip_prefix('-').map_or((1.0, plain.as_str()), |rest| (-1.0, rest));
    parse_count(digits).map(|v| sign * v).map_err(|_| format!("`{}` is not a number", short(text)))
}

/// `1,234,567.8`: groups of three after the first.
fn thousands(text: &str) -> bool {
    let whole = text.trim_start_matches('-').split('.').next().unwrap_or("");
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or("");
    let digits = |g: &str| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit());
    text.contains(',') && digits(first) && first.len() <= 3 && groups.all(|g| g.len() == 3 && digits(g))
}

/// At most 40 characters, for messages.
pub(super) fn short(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect();
    if text.chars().count() > 40 { format!("{clean}…") } else { clean }
}
