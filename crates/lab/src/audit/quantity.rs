//! Quantities as reports write them: `48h`, `35 kWh`, `97.5 TFLOP/s`.

use isoflop_base::units::{parse_count, parse_seconds};

/// Hours: a plain number, or a duration with its unit (`48h`, `3d`, `90m`). Returns seconds.
pub fn seconds(text: &str) -> Result<f64, String> {
    let t = text.trim();
    let value = match t.parse::<f64>() {
        Ok(hours) => hours * 3600.0,
        Err(_) => parse_seconds(t).map_err(|_| "not a time\nhint: write 48, 48h, 3d or 90m".to_owned())?,
    };
    positive(value, "a time")
}

/// Energy: a plain number is kWh, else `35kWh`, `900Wh`, `1.2MWh`, `126MJ`. Returns joules.
pub fn joules(text: &str) -> Result<f64, String> {
    let t = text.trim();
    let lower = t.to_ascii_lowercase();
    const UNITS: &[(&str, f64)] = &[
        ("kwh", 3.6e6),
        ("mwh", 3.6e9),
        ("gwh", 3.6e12),
        ("wh", 3.6e3),
        ("kj", 1e3),
        ("mj", 1e6),
        ("gj", 1e9),
        ("j", 1.0),
    ];
    let found =
        UNITS.iter().find_map(|(unit, scale)| Some((lower.strip_suffix(unit)?.trim().to_owned(), *scale)));
    let (digits, scale) = found.unwrap_or((lower, 3.6e6));
    let value = digits
        .parse::<f64>()
        .map_err(|_| "not an energy\nhint: write 35, 35kWh, 1.2MWh or 126MJ".to_owned())?;
    positive(value * scale, "an energy")
}

/// A count or a number of operations: `1.2e18`, `150M`, `1.2e18 FLOP`, `1.5 PFLOP`.
pub fn count(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = ["flops", "flop", "params", "parameters", "tokens"].iter().find_map(|w| lower.strip_suffix(w));
    operations(bare.unwrap_or(&lower), "a count", "write 1.2e18, 150M or 300B")
}

/// A rate: `97.5T`, `97.5 TFLOP/s`, `989 TFLOPS`, `312e12`.
pub fn rate(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = ["flop/s", "flops/s", "flops", "flop"].iter().find_map(|w| lower.strip_suffix(w));
    operations(bare.unwrap_or(&lower), "a rate in FLOP/s", "write 97.5T, 97.5TFLOP/s or 9.75e13")
}

/// A number with the multiples of `parse_count`, and peta and exa beyond them.
fn operations(text: &str, what: &str, hint: &str) -> Result<f64, String> {
    let t = text.trim();
    let (digits, scale) = match (t.strip_suffix('p'), t.strip_suffix('e')) {
        (Some(d), _) => (d, 1e15),
        (_, Some(d)) => (d, 1e18),
        _ => (t, 1.0),
    };
    let digits: String = digits.split_whitespace().collect();
    let value = parse_count(&digits).map_err(|_| format!("not {what}\nhint: {hint}"))?;
    positive(value * scale, what)
}

fn positive(value: f64, what: &str) -> Result<f64, String> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(format!("{what} must be above zero")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parser = fn(&str) -> Result<f64, String>;

    fn check(parse: Parser, good: &[(&str, f64)], bad: &[&str]) {
        for &(text, value) in good {
            let read = parse(text).unwrap();
            assert!((read / value - 1.0).abs() < 1e-12, "{text}: {read}, not {value}");
        }
        for text in bad {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_read_as_reports_write_them() {
        let day = 86_400.0;
        check(
            seconds,
            &[("48", 2.0 * day), ("48h", 2.0 * day), ("3d", 3.0 * day), ("90m", 5400.0)],
            &["0", "x", "-1", ""],
        );
        check(
            joules,
            &[
                ("35", 1.26e8),
                ("35kWh", 1.26e8),
                ("35 kWh", 1.26e8),
                ("900Wh", 3.24e6),
                ("1.2MWh", 4.32e9),
                ("126MJ", 1.26e8),
            ],
            &["0kWh", "kWh", "35 bananas"],
        );
        check(
            count,
            &[("1.2e18", 1.2e18), ("150M", 1.5e8), ("1.2e18 FLOP", 1.2e18), ("1.5 PFLOP", 1.5e15)],
            &["many", "0", "-2"],
        );
        check(
            rate,
            &[("97.5T", 9.75e13), ("97.5 TFLOP/s", 9.75e13), ("989 TFLOPS", 9.89e14), ("9.75e13", 9.75e13)],
            &["fast"],
        );
    }
}
