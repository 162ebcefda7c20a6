//! Units: what stands in a header's brackets (`params (M)`, `compute (PF-days)`, `tokens [1e9]`) or behind a cell's
//! digits.
//!
//! What is not understood is never dropped: a unit nobody knows is a law in wrong units that looks right.

use super::cells;

/// FLOP of a petaflop/s-day are 8.64e19: seconds of the time units that rates are multiplied with.
const TIMES: &[(&str, f64)] = &[
    ("days", 86_400.0),
    ("day", 86_400.0),
    ("hours", 3600.0),
    ("hour", 3600.0),
    ("hrs", 3600.0),
    ("years", 365.25 * 86_400.0),
    ("year", 365.25 * 86_400.0),
    ("seconds", 1.0),
    ("second", 1.0),
];

/// Decimal multiples as they stand alone or before a noun.
const MULTIPLES: &[(&str, i32)] = &[
    ("k", 3),
    ("thousand", 3),
    ("thousands", 3),
    ("m", 6),
    ("mm", 6),
    ("mn", 6),
    ("mio", 6),
    ("mil", 6),
    ("million", 6),
    ("millions", 6),
    ("b", 9),
    ("bn", 9),
    ("g", 9),
    ("billion", 9),
    ("billions", 9),
    ("t", 12),
    ("tn", 12),
    ("trillion", 12),
    ("trillions", 12),
    ("quadrillion", 15),
    ("quadrillions", 15),
];

/// What is counted: adds nothing to a number.
const NOUNS: &[&str] = &[
    "tokens",
    "token",
    "toks",
    "tok",
    "parameters",
    "parameter",
    "params",
    "param",
    "flops",
    "flop",
    "nats",
    "nat",
    "steps",
    "step",
    "sequences",
    "seqs",
    "updates",
    "iterations",
    "iters",
    "epochs",
];

/// Words in brackets that say which one is meant, not how it is counted.
const DESCRIPTIONS: &[&str] = &[
    "val",
    "valid",
    "validation",
    "test",
    "train",
    "training",
    "eval",
    "evaluation",
    "dev",
    "held",
    "out",
    "heldout",
    "final",
    "best",
    "last",
    "min",
    "max",
    "mean",
    "avg",
    "average",
    "median",
    "smoothed",
    "smooth",
    "ema",
    "total",
    "all",
    "non",
    "excl",
    "excluding",
    "without",
    "incl",
    "including",
    "with",
    "embedding",
    "embeddings",
    "nonembedding",
    "emb",
    "embed",
    "exact",
    "est",
    "estimate",
    "estimated",
    "approx",
    "approximate",
    "theoretical",
    "nominal",
    "actual",
    "measured",
    "6nd",
    "6n",
    "kaplan",
    "chinchilla",
    "hoffmann",
    "peak",
    "seen",
    "unique",
    "model",
    "size",
    "per",
    "the",
    "of",
    "in",
    "number",
    "count",
    "num",
    "raw",
    "dense",
    "active",
    "activated",
    "trainable",
    "loss",
    "ce",
    "cross",
    "entropy",
    "crossentropy",
    "nll",
    "ln",
    "teacher",
    "forced",
    "c4",
    "pile",
    "openwebtext",
    "owt",
    "owt2",
    "webtext",
    "webtext2",
    "wikitext",
    "wikitext103",
    "103",
    "fineweb",
    "edu",
    "fineweb-edu",
    "lambada",
    "slimpajama",
    "redpajama",
    "dclm",
    "dolma",
    "refinedweb",
    "massivetext",
    "enwik8",
    "ptb",
    "optional",
];

/// What the loss is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossUnit {
    /// The table's default.
    NatsPerToken,
    /// Any other, in words.
    Other(&'static str),
    /// exp of the loss.
    Perplexity,
}

/// What an annotation says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// Cells are to be multiplied with this.
    Factor(f64),
    /// The same, in FLOP.
    Flop(f64),
    /// The unit of a loss.
    Loss(LossUnit),
    /// A word that changes no number.
    Description,
}

/// What follows the digits of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum InCell {
    /// A power of ten; 0 for a mere noun.
    Power(i32),
    Factor(f64),
}

/// `B`, `bn`, `million`, `B tokens`, `flops`, `PF-days` behind the digits of a cell.
pub(super) fn in_cell(text: &str) -> Option<InCell> {
    match multiple(text) {
        Some(power) => Some(InCell::Power(power)),
        None => flop(text).map(InCell::Factor),
    }
}

/// What an annotation means; `None` where nobody knows.
pub(super) fn meaning(text: &str) -> Option<Meaning> {
    let text = text.trim();
    let lower = text.to_lowercase();
    let bare = lower.strip_prefix("in ").unwrap_or(&lower);
    let bare = bare.trim_start_matches(['×', '*', '·', '/', 'x', ' ']);
    if !lower.chars().any(char::is_alphanumeric) && lower != "%" {
        return Some(Meaning::Description);
    }
    if lower == "%" || lower == "percent" {
        return Some(Meaning::Factor(0.01));
    }
    if let Some(unit) = loss_unit(&lower) {
        return Some(Meaning::Loss(unit));
    }
    if let Some(factor) = factor(bare) {
        return Some(Meaning::Factor(factor));
    }
    match multiple(bare.trim_end_matches("'s")) {
        Some(0) => return Some(Meaning::Description),
        Some(power) => return format!("1e{power}").parse().ok().map(Meaning::Factor),
        None => {}
    }
    if let Some(flop) = flop(bare) {
        return Some(Meaning::Flop(flop));
    }
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.all(|w| DESCRIPTIONS.contains(&w) || NOUNS.contains(&w)).then_some(Meaning::Description)
}

/// A bare factor: `1e9`, `10^9`, `10⁹`, `1,000,000`, with a noun or without.
fn factor(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_whitespace()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let noun = rest.trim();
    let noun = noun.strip_prefix("of ").unwrap_or(noun);
    if !noun.is_empty() && !NOUNS.contains(&noun) {
        return None;
    }
    let starts = number.starts_with(|c: char| c.is_ascii_digit());
    let number = cells::parse(number, super::Decimal::Point).filter(|n| starts && !n.scaled)?;
    // `wikitext (103)` and `C4 (2020)` are no factors; powers of ten are.
    let exponent = number.value.log10();
    (number.value >= 10.0 && (exponent - exponent.round()).abs() < 1e-12).then_some(number.value)
}

/// Power of ten of `B`, `million`, `M params`, `billions of tokens`; 0 for a mere noun.
fn multiple(text: &str) -> Option<i32> {
    let lower = text.trim().to_lowercase();
    let power = |word: &str| MULTIPLES.iter().find(|(name, _)| *name == word).map(|(_, p)| *p);
    if NOUNS.contains(&lower.as_str()) {
        return Some(0);
    }
    if let Some(p) = power(&lower) {
        return Some(p);
    }
    let (first, noun) = lower.split_once([' ', '-', '_'])?;
    let noun = noun.trim();
    NOUNS.contains(&noun.strip_prefix("of ").unwrap_or(noun)).then(|| power(first)).flatten()
}

/// FLOP of a multiple or of a rate times a time: `EFLOPs`, `PF-days`, `petaflop/s-days`, `TFLOP/s·hours`.
pub(super) fn flop(text: &str) -> Option<f64> {
    let lower = text.trim().to_lowercase();
    let rate = lower.contains("/s");
    let letters: String =
        lower.chars().filter(|c| !matches!(c, ' ' | '-' | '_' | '/' | '·' | '*' | '.' | '⋅')).collect();
    let time = TIMES.iter().find_map(|(name, s)| letters.strip_suffix(name).map(|rest| (rest, *s)));
    let (what, seconds) = time.map_or((letters.as_str(), None), |(rest, s)| (rest, Some(s)));
    let stems = ["flops", "flop", "fs", "f"];
    let stem = stems.iter().find_map(|s| what.strip_suffix(s).map(|prefix| (prefix, *s)))?;
    let prefix = match stem.0 {
        "" if stem.1.starts_with("fl") => 1.0,
        "k" | "kilo" => 1e3,
        "m" | "mega" => 1e6,
        "g" | "giga" => 1e9,
        "t" | "tera" => 1e12,
        "p" | "peta" => 1e15,
        "e" | "exa" => 1e18,
        "z" | "zetta" => 1e21,
        "y" | "yotta" => 1e24,
        _ => return None,
    };
    match seconds {
        Some(s) => Some(prefix * s),
        // A rate without a time is no amount, and a bare `pf` no word.
        None => (!rate && stem.1.starts_with("fl")).then_some(prefix),
    }
}

/// `nats`, `bits per byte`, `ppl`, and how they are also written.
pub(super) fn loss_unit(text: &str) -> Option<LossUnit> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && *w != "per").collect();
    Some(match words.as_slice() {
        ["nats" | "nat"] | ["nats" | "nat", "token" | "tok" | "tokens"] => LossUnit::NatsPerToken,
        ["bits" | "bit"] | ["bits" | "bit", "token" | "tok" | "tokens"] | ["bpt"] => {
            LossUnit::Other("bits per token")
        }
        ["bpb"] | ["bits" | "bit", "byte" | "bytes"] => LossUnit::Other("bits per byte"),
        ["bpc"] | ["bits" | "bit", "char" | "character" | "characters"] => {
            LossUnit::Other("bits per character")
        }
        ["nats" | "nat", "byte" | "bytes"] => LossUnit::Other("nats per byte"),
        ["nats" | "nat", "char" | "character"] => LossUnit::Other("nats per character"),
        ["ppl" | "perplexity"] => LossUnit::Perplexity,
        _ => return None,
    })
}

/// A header taken apart: its name, and what it says of its unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Title {
    /// The header without its brackets.
    pub(super) name: String,
    /// `name` without a unit at its end (`_millions`, `_M`, `, nats`, `/1e9`), and that unit.
    pub(super) short: Option<(String, Meaning)>,
    /// What stands in brackets.
    pub(super) brackets: Vec<String>,
}

impl Title {
    pub(super) fn of(header: &str) -> Self {
        let (mut name, mut brackets, mut inner) = (String::new(), Vec::new(), String::new());
        let mut depth = 0_usize;
        for c in header.trim().chars() {
            match c {
                '(' | '[' | '{' => {
                    depth += 1;
                    if depth > 1 {
                        inner.push(c);
                    }
                }
                ')' | ']' | '}' if depth > 0 => {
                    depth -= 1;
                    if depth == 0 {
                        brackets.push(std::mem::take(&mut inner));
                    } else {
                        inner.push(c);
                    }
                }
                c if depth > 0 => inner.push(c),
                c => name.push(c),
            }
        }
        if depth > 0 {
            brackets.push(inner);
        }
        // `10^{9}` and the like were taken for brackets of their own.
        brackets.retain(|b| !b.trim().is_empty());
        let name = name.trim().to_owned();
        let short = at_the_end(&name);
        Self { name, short, brackets }
    }
}

/// A unit at the end of a name that has no brackets: only what can be nothing else.
fn at_the_end(name: &str) -> Option<(String, Meaning)> {
    // After a comma, a slash or a times sign: `Loss, nats`, `N / 1e6`, `tokens ×10^9`.
    for mark in [',', '/', '×', '*'] {
        if let Some((base, rest)) = name.rsplit_once(mark) {
            let number = factor(rest.trim()).map(Meaning::Factor);
            let found = if mark == ',' { meaning(rest) } else { number };
            if let Some(found) = found.filter(|_| !base.trim().is_empty()) {
                return Some((base.trim().to_owned(), found));
            }
        }
    }
    let words: Vec<&str> = name.split(['_', ' ', '-']).collect();
    for count in (1..=3.min(words.len().saturating_sub(1))).rev() {
        let (base, tail) = words.split_at(words.len() - count);
        let joined = tail.join(" ");
        let lower = joined.to_lowercase();
        let bare = lower.strip_prefix("in ").unwrap_or(&lower);
        // `model_size_M`, but not `tokens_m`: of single letters only a capital is a unit.
        let letter = count == 1 && matches!(joined.as_str(), "K" | "M" | "B" | "G" | "T");
        let found = match multiple(bare).filter(|p| *p > 0 && (letter || bare.len() > 2)) {
            Some(power) => format!("1e{power}").parse().ok().map(Meaning::Factor),
            None => factor(bare)
                .filter(|_| bare.contains(['e', '^', '⁰', '¹', '⁸', '⁹', '⁶']))
                .map(Meaning::Factor)
                .or_else(|| flop(bare).filter(|f| *f != 1.0).map(Meaning::Flop)),
        };
        if let Some(found) = found {
            let mut base = base.to_vec();
            if base.last() == Some(&"in") {
                base.pop();
            }
            let base = base.join(" ").trim().to_owned();
            return (!base.is_empty()).then_some((base, found));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_understood_or_not() {
        let flop = |f| Some(Meaning::Flop(f));
        let factor = |f| Some(Meaning::Factor(f));
        for (text, expected) in [
            ("M", factor(1e6)),
            ("millions", factor(1e6)),
            ("in billions", factor(1e9)),
            ("B tokens", factor(1e9)),
            ("millions of parameters", factor(1e6)),
            ("1e18", factor(1e18)),
            ("×10^9", factor(1e9)),
            ("10⁶", factor(1e6)),
            ("x 1e9", factor(1e9)),
            ("1e9 tokens", factor(1e9)),
            ("1,000,000", factor(1e6)),
            ("%", factor(0.01)),
            ("PF-days", flop(8.64e19)),
            ("petaflop/s-days", flop(8.64e19)),
            ("PFLOP/s-day", flop(8.64e19)),
            ("TFLOP/s·hours", flop(3.6e15)),
            ("EFLOPs", flop(1e18)),
            ("exaFLOP", flop(1e18)),
            ("FLOPs", Some(Meaning::Description)),
            ("nats", Some(Meaning::Loss(LossUnit::NatsPerToken))),
            ("nats/token", Some(Meaning::Loss(LossUnit::NatsPerToken))),
            ("bits per byte", Some(Meaning::Loss(LossUnit::Other("bits per byte")))),
            ("non-embedding", Some(Meaning::Description)),
            ("held-out", Some(Meaning::Description)),
            ("WikiText-103", Some(Meaning::Description)),
            ("↓", Some(Meaning::Description)),
            ("GB", None),
            ("A100-hours", None),
            ("GPU days", None),
            ("TFLOP/s", None),
            ("GMACs", None),
            ("PF", None),
            ("2020", None),
            ("12", None),
            ("furlongs", None),
        ] {
            assert_eq!(meaning(text), expected, "{text}");
        }
    }

    #[test]
    fn units_at_the_end_of_a_name_are_found() {
        let short = |header: &str| Title::of(header).short;
        let factor = |name: &str, f| Some((name.to_owned(), Meaning::Factor(f)));
        for (header, expected) in [
            ("N_millions", factor("N", 1e6)),
            ("model_size_M", factor("model size", 1e6)),
            ("Params M", factor("Params", 1e6)),
            ("tokens_in_billions", factor("tokens", 1e9)),
            ("params, M", factor("params", 1e6)),
            ("N / 1e6", factor("N", 1e6)),
            ("Tokens ×10^9", factor("Tokens", 1e9)),
            ("flops_1e18", factor("flops", 1e18)),
            ("compute_pf_days", Some(("compute".to_owned(), Meaning::Flop(8.64e19)))),
            ("train_exaflops", Some(("train".to_owned(), Meaning::Flop(1e18)))),
            ("tokens_m", None),
            ("train/loss", None),
            ("train_flops", None),
            ("n", None),
            ("loss_c4_val", None),
        ] {
            assert_eq!(short(header), expected, "{header}");
        }
    }
}
