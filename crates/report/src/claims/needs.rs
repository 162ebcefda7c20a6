//! Preconditions of claims: what must hold of a series before it can speak about one.

use crate::input::ReportInput;
use crate::numbers::{count, fixed};
use isoflop_base::{Point, Status};

/// A size counts as converged when its last doubling of tokens lowered its loss by less than this share.
const CONVERGED_SHARE: f64 = 0.005;

/// What is known of the series that claims make conditions on. `None`: not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `bytes`, `bpe`, …
    pub tokenizer: Option<String>,
    /// Smallest Kaplan N.
    pub smallest_n: Option<f64>,
    /// Fewest training tokens of a finished point.
    pub fewest_tokens: Option<f64>,
    /// Fewest tokens per parameter of a size's longest run.
    pub fewest_tokens_per_param: Option<f64>,
    /// Most passes over the training text.
    pub most_epochs: Option<f64>,
    /// Number of distinct sizes.
    pub num_sizes: Option<f64>,
    /// Vocabulary.
    pub vocab: Option<f64>,
    /// Runs with a finished point.
    pub runs: Option<f64>,
    /// Seconds that training took.
    pub seconds: Option<f64>,
    /// Largest relative fall of a size's loss over its last doubling of tokens.
    pub last_doubling: Option<f64>,
}

impl Facts {
    /// The facts of a report's points and corpus.
    pub fn of(input: &ReportInput) -> Self {
        let done = |p: &&Point| *input.status(&p.run) == Status::Done && p.loss.is_finite() && p.params > 0;
        let points: Vec<_> = input.points.iter().filter(done).collect();
        let least = |values: &mut dyn Iterator<Item = f64>| values.filter(|v| v.is_finite()).reduce(f64::min);
        let most = |values: &mut dyn Iterator<Item = f64>| values.filter(|v| v.is_finite()).reduce(f64::max);
        let mut sizes: Vec<u64> = points.iter().map(|p| p.params).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let longest =
            |n: u64| points.iter().filter(|p| p.params == n).map(|p| p.tokens).max().unwrap_or(0) as f64;
        let doublings = sizes.iter().filter_map(|n| {
            let mut own: Vec<(u64, f64)> = points
                .iter()
                .filter(|p| p.params == *n && p.tokens > 0)
                .map(|p| (p.tokens, p.loss))
                .collect();
            own.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            own.dedup_by_key(|p| p.0);
            let [.., before, last] = own.as_slice() else { return None };
            let doublings = (last.0 as f64 / before.0 as f64).log2();
            Some(1.0 - (last.1 / before.1).powf(1.0 / doublings))
        });
        Self {
            tokenizer: input.corpus.as_ref().map(|c| c.tokenizer.clone()).filter(|t| !t.is_empty()),
            smallest_n: sizes.first().map(|n| *n as f64),
            fewest_tokens: least(&mut points.iter().map(|p| p.tokens as f64)),
            fewest_tokens_per_param: least(&mut sizes.iter().map(|n| longest(*n) / *n as f64)),
            most_epochs: most(&mut points.iter().map(|p| p.epochs)),
            num_sizes: (!sizes.is_empty()).then_some(sizes.len() as f64),
            vocab: input.corpus.as_ref().map(|c| c.vocab as f64).filter(|v| *v > 0.0),
            runs: {
                let names: std::collections::BTreeSet<&str> = points.iter().map(|p| p.run.as_str()).collect();
                (!names.is_empty()).then_some(names.len() as f64)
            },
            seconds: input.totals.seconds.value().copied().filter(|s| s.is_finite()),
            last_doubling: most(&mut doublings.into_iter()),
        }
    }
}

/// What a claim can need, for messages; a comparison may have another sign and another count.
pub const CONDITIONS: &[&str] = &[
    "converged",
    "bpe",
    "bytes",
    "n >= 1e6",
    "d >= 1e9",
    "d/n >= 20",
    "epochs <= 1",
    "sizes >= 4",
    "vocab >= 50257",
];

/// Whether a need is one that is understood.
pub fn is_condition(need: &str) -> bool {
    let need = need.trim();
    let names = ["n", "d", "d/n", "epochs", "sizes", "vocab"];
    ["converged", "bpe", "bytes"].contains(&need.to_ascii_lowercase().as_str())
        || split(need).is_some_and(|(name, ..)| names.contains(&name.to_ascii_lowercase().as_str()))
}

/// The first need that does not hold and why, as a sentence; `None` when all hold.
///
/// Understood: `converged`, `bpe`, `bytes`, and comparisons `n`, `d`, `d/n`, `epochs`, `sizes`, `vocab` with `>=`,
/// `<=`, `>`, `<` and a count (`n >= 1e6`). What is not understood, or not known, does not hold.
pub fn unmet(needs: &[String], facts: &Facts) -> Option<String> {
    needs
        .iter()
        .find_map(|need| check(need, facts).err().map(|why| format!("It needs `{}`: {why}.", need.trim())))
}

fn check(need: &str, facts: &Facts) -> Result<(), String> {
    let need = need.trim();
    match need.to_ascii_lowercase().as_str() {
        "converged" => return converged(facts),
        word @ ("bpe" | "bytes") => {
            return match facts.tokenizer.as_deref() {
                Some(t) if t.to_ascii_lowercase().contains(word) => Ok(()),
                Some("bytes") => Err("here a token is a byte".to_owned()),
                Some(t) => Err(format!("the tokens here are {t}")),
                None => Err("the tokeniser is not known".to_owned()),
            };
        }
        _ => {}
    }
    let unknown = || format!("`{need}` is not a condition known here");
    let (name, sign, bound) = split(need).ok_or_else(unknown)?;
    let (what, value) = match name {
        "n" | "N" => ("the smallest N", facts.smallest_n),
        "d" | "D" => ("the fewest training tokens", facts.fewest_tokens),
        "d/n" | "D/N" => ("the fewest tokens per parameter", facts.fewest_tokens_per_param),
        "epochs" => ("the most passes over the text", facts.most_epochs),
        "sizes" => ("the number of sizes", facts.num_sizes),
        "vocab" => ("the vocabulary", facts.vocab),
        _ => return Err(unknown()),
    };
    let value = value.ok_or_else(|| format!("{what} is not known"))?;
    let holds = match sign {
        ">=" => value >= bound,
        "<=" => value <= bound,
        ">" => value > bound,
        _ => value < bound,
    };
    if holds { Ok(()) } else { Err(format!("{what} here is {}", count(value))) }
}

fn converged(facts: &Facts) -> Result<(), String> {
    match facts.last_doubling {
        Some(share) if share < CONVERGED_SHARE => Ok(()),
        Some(share) => Err(format!(
            "a doubling of the tokens still lowers the loss by up to {}\u{202f}%, converged would be under {}\u{202f}%",
            fixed(100.0 * share, 1),
            fixed(100.0 * CONVERGED_SHARE, 1)
        )),
        None => Err("with one token count per size nothing shows convergence".to_owned()),
    }
}

fn split(need: &str) -> Option<(&str, &str, f64)> {
    for sign in [">=", "<=", ">", "<"] {
        if let Some((name, bound)) = need.split_once(sign) {
            let bound = isoflop_base::units::parse_count(bound.trim()).ok()?;
            return Some((name.trim(), sign, bound));
        }
    }
    None
}
