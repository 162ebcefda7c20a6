//! Numbers as people write and read them: `12M`, `1.2B`, `1e13`, `60s`, `5%`.

use std::fmt::Write as _;

/// Why a text is no number of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}\nhint: {hint}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    hint: &'static str,
}

/// A count such as `12M`, `1.2B`, `300k`, `2T`, `1e13`, `4096`: decimal multiples.
pub fn parse_count(text: &str) -> Result<f64, UnitError> {
    let fail = || UnitError {
        text: text.to_owned(),
        what: "a count",
        hint: "write 4096, 300k, 12M, 1.2B, 2T or 1e13",
    };
    let t = text.trim().replace('_', "");
    let (digits, exponent) = match t.chars().last() {
        Some('k' | 'K') => (&t[..t.len() - 1], "e3"),
        Some('m' | 'M') => (&t[..t.len() - 1], "e6"),
        Some('b' | 'B' | 'g' | 'G') => (&t[..t.len() - 1], "e9"),
        Some('t' | 'T') => (&t[..t.len() - 1], "e12"),
        _ => (t.as_str(), ""),
    };
    // By exponent, not by a product: 1.005·1000 is no whole number in doubles.
    let value: f64 = format!("{}{exponent}", digits.trim()).parse().map_err(|_| fail())?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(fail()) }
}

/// Most tokens, steps or parameters that are counted: up to here a double holds every whole number, and products of
/// two counts that occur together still fit 128 bits.
pub const MOST: u64 = 9_000_000_000_000_000;

/// The whole number at or below a count; `None` for what is not finite, below zero or beyond [`MOST`]. The only way
/// from a number of a study to an integer: a cast would clamp without a word.
pub fn whole(value: f64) -> Option<u64> {
    (0.0..=MOST as f64).contains(&value).then_some(value.floor() as u64)
}

/// A whole count of at most [`MOST`], for tokens and steps.
pub fn parse_whole(text: &str) -> Result<u64, UnitError> {
    let value = parse_count(text)?;
    if let Some(whole) = whole(value).filter(|_| value.fract() == 0.0) {
        Ok(whole)
    } else {
        Err(UnitError {
            text: text.to_owned(),
            what: "a whole count up to 9e15",
            hint: "write 4096, 12M or 1e9",
        })
    }
}

/// A duration such as `60s`, `10m`, `2h`, `3d`, `500ms` in seconds.
pub fn parse_seconds(text: &str) -> Result<f64, UnitError> {
    let fail =
        || UnitError { text: text.to_owned(), what: "a duration", hint: "write 500ms, 60s, 10m, 2h or 3d" };
    let t = text.trim();
    let (digits, scale) = if let Some(d) = t.strip_suffix("ms") {
        (d, 1e-3)
    } else if let Some(d) = t.strip_suffix('s') {
        (d, 1.0)
    } else if let Some(d) = t.strip_suffix("min").or(t.strip_suffix('m')) {
        (d, 60.0)
    } else if let Some(d) = t.strip_suffix('h') {
        (d, 3600.0)
    } else if let Some(d) = t.strip_suffix('d') {
        (d, 86_400.0)
    } else {
        (t, 1.0)
    };
    let value = digits.trim().parse::<f64>().map_err(|_| fail())? * scale;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(fail()) }
}

/// A share such as `5%` or `0.05`, in 0..=1.
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let fail = || UnitError { text: text.to_owned(), what: "a share from 0 to 1", hint: "write 5% or 0.05" };
    let t = text.trim();
    let value = match t.strip_suffix('%') {
        Some(d) => d.trim().parse::<f64>().map_err(|_| fail())? / 100.0,
        None => t.parse::<f64>().map_err(|_| fail())?,
    };
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(fail()) }
}

/// `1.54 M`: three significant digits with a decimal multiple.
pub fn si(value: f64) -> String {
    let magnitude = value.abs();
    let (scale, suffix) = match magnitude {
        m if m >= 0.9995e15 => return format!("{value:.2e}"),
        m if m >= 0.9995e12 => (1e12, " T"),
        m if m >= 0.9995e9 => (1e9, " G"),
        m if m >= 0.9995e6 => (1e6, " M"),
        m if m >= 0.9995e3 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let v = value / scale;
    let digits = match v.abs() {
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        _ if scale == 1.0 && v.fract() == 0.0 => 0,
        _ => 2,
    };
    format!("{v:.digits$}{suffix}")
}

/// `1.2 GiB`, binary multiples.
pub fn bytes(value: u64) -> String {
    let v = value as f64;
    match value {
        b if b >= 1 << 30 => format!("{:.2} GiB", v / (1u64 << 30) as f64),
        b if b >= 1 << 20 => format!("{:.1} MiB", v / (1u64 << 20) as f64),
        b if b >= 1 << 10 => format!("{:.1} KiB", v / 1024.0),
        _ => format!("{value} B"),
    }
}

/// `12.5 %`, `0.02 %`: a share with two digits behind the point, none of them an empty zero.
pub fn percent(share: f64) -> String {
    let text = format!("{:.2}", 100.0 * share);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `1h 02m 03s`, `4m 05s`, `6.7s`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    let total = seconds.round() as u64;
    let (d, h, m, s) = (total / 86_400, total / 3600 % 24, total / 60 % 60, total % 60);
    let mut out = String::new();
    if d > 0 {
        let _ = write!(out, "{d}d {h:02}h {m:02}m");
    } else if h > 0 {
        let _ = write!(out, "{h}h {m:02}m {s:02}s");
    } else if m > 0 {
        let _ = write!(out, "{m}m {s:02}s");
    } else {
        let _ = write!(out, "{s}s");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_write_them() {
        for (text, value) in [
            ("12M", 12e6),
            ("1.2B", 1.2e9),
            ("300k", 3e5),
            ("1e13", 1e13),
            ("4096", 4096.0),
            ("1_000", 1e3),
            ("2T", 2e12),
        ] {
            assert_eq!(parse_count(text).unwrap(), value, "{text}");
        }
        for text in ["", "M", "12X", "-3", "nan", "inf", "1e999"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        assert_eq!(parse_whole("2.5k").unwrap(), 2500);
        assert_eq!(parse_whole("9e15").unwrap(), MOST);
        for text in ["0.5", "9.1e15", "1e30", "18446744073709551617", "20000000000B"] {
            assert!(parse_whole(text).is_err(), "{text}");
        }
        let edges = [
            (0.9, Some(0)),
            (9e15, Some(MOST)),
            (9.1e15, None),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ];
        for (value, expected) in edges {
            assert_eq!(whole(value), expected, "{value}");
        }
    }

    #[test]
    fn durations_and_shares() {
        assert_eq!([0.125, 0.0002, 0.25, 1.0].map(percent), ["12.5 %", "0.02 %", "25 %", "100 %"]);
        assert_eq!(parse_seconds("90s").unwrap(), 90.0);
        assert_eq!(parse_seconds("2h").unwrap(), 7200.0);
        assert_eq!(parse_seconds("250ms").unwrap(), 0.25);
        assert_eq!(parse_share("5%").unwrap(), 0.05);
        assert!(parse_share("120%").is_err());
        assert_eq!(duration(3723.0), "1h 02m 03s");
        assert_eq!(duration(65.4), "1m 05s");
    }

    #[test]
    fn si_keeps_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (1536.0, "1.54 k"),
            (1_536_000.0, "1.54 M"),
            (12e6, "12.0 M"),
            (999_999.0, "1.00 M"),
            (2.75e14, "275 T"),
        ] {
            assert_eq!(si(value), text);
        }
    }
}
