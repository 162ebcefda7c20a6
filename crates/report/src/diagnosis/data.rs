//! Rules about data: repeated too often, too few, junk among them, too few held out.

use super::{Diagnosis, Fault, POINTS, Seen, mean, model, of, place, those, worst};
use crate::numbers::{count, fixed, significant};
use isoflop_base::{BlockLoss, CurveRow, Point};
use isoflop_laws::arms::slope;
use std::collections::{BTreeMap, BTreeSet};

/// Up to four passes are worth nearly as much as fresh data (Muennighoff et al. 2023, arXiv 2305.16264).
const MOST_EPOCHS: f64 = 4.0;
/// Data that are read more than once at all, rounding of a pass aside.
const MORE_THAN_ONCE: f64 = 1.05;
/// Growth of the gap between training and held-out loss, as a share of the loss, that is memorising: curves of fresh
/// data keep theirs within the noise of a step.
const GAP_GROWTH: f64 = 0.02;

pub(super) fn repeated(seen: &Seen<'_>) -> Option<Diagnosis> {
    let passes = |p: &Point| p.epochs.max(p.tokens as f64 / (p.unique_tokens.max(1)) as f64);
    let often: Vec<&Point> = seen.points.iter().copied().filter(|p| passes(p) > MOST_EPOCHS).collect();
    let again = seen.points.iter().filter(|p| passes(p) > MORE_THAN_ONCE);
    let runs: BTreeSet<&str> = again.map(|p| p.run.as_str()).collect();
    let gaps: Vec<(&str, f64)> = runs
        .iter()
        .filter_map(|run| Some((*run, gap_growth(&seen.input.curves, run)?)))
        .filter(|(_, growth)| *growth > GAP_GROWTH)
        .collect();
    if often.is_empty() && gaps.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    if let Some(most) = worst(&often, passes) {
        parts.push(format!(
            "{} more than {MOST_EPOCHS} times; the most: {}, {} distinct tokens, {} passes",
            those(often.len(), seen.points.len(), POINTS, ["read its data", "read their data"]),
            place(most),
            count(most.unique_tokens as f64),
            fixed(passes(most), 1)
        ));
    }
    if let Some((run, growth)) = worst(&gaps, |g| g.1) {
        parts.push(format!(
            "the gap between training and held-out loss grows over the later half of {} (most: {run}, by {} % of the loss)",
            of(gaps.len(), runs.len(), ["run that reads data again", "runs that read data again"]),
            significant(100.0 * growth, 2)
        ));
    }
    Some(Diagnosis::found(
        Fault::Repeated,
        parts.join("; "),
        "use more text, or fewer tokens for the larger sizes; fit the law `repeat`, which counts what a repeated token is worth",
    ))
}

/// How much the gap (held-out − training loss) grows from the middle of a run's trunk to its end, as a share of the
/// loss. Training losses are means over the rows around an evaluation.
fn gap_growth(curves: &[CurveRow], run: &str) -> Option<f64> {
    const AROUND: usize = 4;
    let rows: Vec<&CurveRow> = curves.iter().filter(|r| r.run == run && r.segment == "trunk").collect();
    let gap = |at: usize| {
        let near = &rows[at.saturating_sub(AROUND)..=at];
        Some(rows[at].val_loss? - mean(near.iter().map(|r| r.train_loss))?)
    };
    let end = rows.last()?.tokens;
    let evaluated: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].val_loss.is_some()).collect();
    let middle = *evaluated.iter().find(|i| 2 * rows[**i].tokens >= end)?;
    let last = *evaluated.last()?;
    (last > middle).then(|| Some((gap(last)? - gap(middle)?) / rows[last].val_loss?)).flatten()
}

/// D ≥ 5·10³·N^0.74 keeps overfitting within the noise of a seed (Kaplan et al. 2020, arXiv 2001.08361, section 4.2).
fn enough(params: u64) -> f64 {
    5e3 * (params as f64).powf(0.74)
}

/// Kaplan's condition is about distinct tokens; below a tenth of it the data term is most of what is measured, and
/// between the two the page has the figure in its other rules.
pub(super) fn too_few_tokens(seen: &Seen<'_>) -> Option<Diagnosis> {
    let sizes = seen.last_of_each_size();
    let short = |p: &Point| enough(p.params) / (p.unique_tokens.min(p.tokens)) as f64;
    let few: Vec<&Point> = sizes.iter().copied().filter(|p| short(p) > 1.0).collect();
    let most = worst(&few, short)?;
    Some(Diagnosis::found(
        Fault::TooFewTokens,
        format!(
            "{} fewer distinct tokens than 5·10³·N^0.74; the shortest: {}, which asks for {} ({} tokens a parameter here)",
            those(few.len(), sizes.len(), ["size", "sizes"], ["has", "have"]),
            place(most),
            count(enough(most.params)),
            significant(most.tokens as f64 / most.params as f64, 2)
        ),
        "train the larger sizes on more tokens, or compare only sizes that have enough; fit L(N, D) rather than L(N)",
    ))
}

/// A share of junk that is worth a word: what 5 % fewer tokens cost is below the noise of a seed, what harms is not.
const JUNK_SHARE: f64 = 0.05;
/// Training text this much harder than held-out text is other text.
const HARDER: f64 = 1.15;

pub(super) fn junk(seen: &Seen<'_>) -> Option<Diagnosis> {
    let mut parts = Vec::new();
    if let Some((share, p)) = known_junk(seen).filter(|(share, _)| *share >= JUNK_SHARE) {
        parts.push(format!(
            "{} % of what {} read is junk by the study's own mix",
            fixed(100.0 * share, 0),
            place(p)
        ));
    }
    parts.extend(of_no_use_to_larger(seen));
    let harder = || harder_to_train_on(seen).filter(|_| parts.is_empty());
    if let Some((run, ratio)) = harder() {
        parts.push(format!(
            "the training loss of {run} ends {} % above its held-out loss: part of what it reads is not like what it is measured on",
            fixed(100.0 * (ratio - 1.0), 0)
        ));
    }
    let largest = seen.last_of_each_size().into_iter().max_by_key(|p| p.params);
    if let Some((two, p)) = largest.and_then(|p| Some((two_kinds(&p.blocks)?, p))) {
        parts.push(format!(
            "the held-out blocks of {} are of two kinds: {} near {} and {} near {}",
            place(p),
            two[0].0,
            fixed(two[0].1, 2),
            two[1].0,
            fixed(two[1].1, 2)
        ));
    }
    (!parts.is_empty()).then(|| {
        Diagnosis::found(
            Fault::Junk,
            parts.join("; "),
            "look at the text of both splits (`isoflop prepare --dedup` finds what repeats); score sources apart with `data.held_out`; the \
             law `junk` says what a share of it costs",
        )
    })
}

/// Sizes that tell how a source's loss falls with them: two have no line.
const LEAST_SIZES: usize = 3;
/// Of how fast the other sources' losses fall with size, what is hardly at all: sources of real text differ by a factor
/// of two, noise and what is learnt by heart at once fall not at all.
const HARDLY: f64 = 0.25;
/// The fall of the others, of ln L on ln N, below which nothing falls and none can be told by it: a plateau has 0.008,
/// the series of this program 0.05 to 0.1.
const FALLS: f64 = 0.02;

/// By source: ln N and ln L of the longest points.
type BySource = BTreeMap<String, Vec<(f64, f64)>>;

/// Sources that were read, whose held-out loss hardly falls with the size where that of the others does: what larger
/// models learn nothing more of. Junk by the study's own mix is known already, and no measure for others.
fn of_no_use_to_larger(seen: &Seen<'_>) -> Option<String> {
    let mut known = BTreeSet::new();
    junk_sources(&seen.input.study, &mut known);
    let longest = seen.points.iter().map(|p| p.tokens).max()?;
    // By arm, since mixes differ between them.
    let mut arms: BTreeMap<&BTreeMap<String, String>, BySource> = BTreeMap::new();
    for p in seen.points.iter().filter(|p| !p.held_out.is_empty() && p.tokens as f64 > 0.95 * longest as f64)
    {
        let read = |name: &str| p.sources.iter().any(|s| s.name == name && s.tokens > 0);
        // Unnamed where it was not read: a measure for the others, and no suspect.
        let first = measured_on(&seen.input.study, &p.run).filter(|name| read(name)).unwrap_or_default();
        let others = p.held_out.iter().filter(|s| read(&s.name)).map(|s| (s.name.clone(), s.loss));
        for (name, loss) in std::iter::once((first, p.loss)).chain(others) {
            if loss > 0.0 && !known.contains(&name) {
                let row = ((p.params as f64).ln(), loss.ln());
                arms.entry(&p.arm).or_default().entry(name).or_default().push(row);
            }
        }
    }
    let mut named: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for sources in arms.values() {
        let falls: Vec<(&String, f64)> =
            sources.iter().filter_map(|(name, rows)| Some((name, fall_with_size(rows)?))).collect();
        for (name, own) in falls.iter().filter(|f| !f.0.is_empty()) {
            let mut others: Vec<f64> = falls.iter().filter(|f| f.0 != *name).map(|f| f.1).collect();
            others.sort_by(f64::total_cmp);
            let Some(middle) = others.get(others.len() / 2) else { continue };
            if *middle >= FALLS && *own < HARDLY * middle {
                named.insert((*name).clone(), (*own, *middle));
            }
        }
    }
    let one = |(name, (own, others)): (&String, &(f64, f64))| {
        format!(
            "the held-out loss of `{name}` hardly falls with the size (as N^{}, where others fall as N^{}): larger models \
             learn nothing more of it",
            fixed(-own, 3),
            fixed(-others, 3)
        )
    };
    (!named.is_empty()).then(|| named.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// The exponent by which a loss falls, from (ln N, ln L) of enough sizes.
fn fall_with_size(rows: &[(f64, f64)]) -> Option<f64> {
    let (x, y): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
    let mut sizes = x.clone();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    if sizes.len() < LEAST_SIZES {
        return None;
    }
    Some(-slope(&x, &y, 0.95)?.value)
}

/// The source of a run's mix that its points' own loss is of.
fn measured_on(study: &serde_json::Value, run: &str) -> Option<String> {
    let runs = study.get("runs")?.as_array()?;
    let mix = runs.iter().find(|r| r.get("id").is_some_and(|id| id == run))?.get("data")?.get("mix")?;
    let first = mix.get("held_out")?.as_array()?.first()?.as_u64()?;
    Some(mix.get("sources")?.get(first as usize)?.get("name")?.as_str()?.to_owned())
}

/// The largest share of a point's tokens that came of junk sources, where the study says which those are.
fn known_junk<'a>(seen: &Seen<'a>) -> Option<(f64, &'a Point)> {
    let mut names = BTreeSet::new();
    junk_sources(&seen.input.study, &mut names);
    let share = |p: &Point| {
        let all: u64 = p.sources.iter().map(|s| s.tokens).sum();
        let junk: u64 = p.sources.iter().filter(|s| names.contains(&s.name)).map(|s| s.tokens).sum();
        if all == 0 { 0.0 } else { junk as f64 / all as f64 }
    };
    let p = worst(&seen.points, share)?;
    Some((share(p), p))
}

/// Names of the sources whose origin is junk, wherever they stand in the resolved study.
fn junk_sources(value: &serde_json::Value, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            let from = map.get("origin").and_then(|o| o.get("from")).and_then(|f| f.as_str());
            if let (Some("junk"), Some(name)) = (from, map.get("name").and_then(|n| n.as_str())) {
                names.insert(name.to_owned());
            }
            map.values().for_each(|v| junk_sources(v, names));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| junk_sources(v, names)),
        _ => {}
    }
}

/// The run whose training loss ends most above its held-out loss, if it is [`HARDER`] by enough.
fn harder_to_train_on<'a>(seen: &Seen<'a>) -> Option<(&'a str, f64)> {
    let runs: BTreeSet<&str> = seen.points.iter().map(|p| p.run.as_str()).collect();
    let ratio = |run: &str| {
        let rows: Vec<&CurveRow> =
            seen.input.curves.iter().filter(|r| r.run == run && r.segment == "trunk").collect();
        let last = rows.iter().rposition(|r| r.val_loss.is_some())?;
        let near = &rows[last - last.min(rows.len() / 10)..=last];
        Some(mean(near.iter().map(|r| r.train_loss))? / rows[last].val_loss?)
    };
    let all: Vec<(&'a str, f64)> = runs.into_iter().filter_map(|run| Some((run, ratio(run)?))).collect();
    worst(&all, |r| r.1).filter(|r| r.1 > HARDER)
}

/// Splits the blocks' mean losses in two where that explains most (Otsu): the two counts and means, if it explains
/// more than 0.9 of the variance (a normal spread gives 0.64, a flat one 0.75), the means lie a quarter of the loss
/// apart, and the smaller part is no accident.
fn two_kinds(blocks: &[BlockLoss]) -> Option<[(usize, f64); 2]> {
    const EXPLAINED: f64 = 0.9;
    const APART: f64 = 0.25;
    const FEWEST: usize = 3;
    let mut means: Vec<f64> = blocks
        .iter()
        .filter(|b| b.tokens > 0)
        .map(|b| b.sum / b.tokens as f64)
        .filter(|m| m.is_finite())
        .collect();
    means.sort_by(f64::total_cmp);
    let average = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    if means.len() < 4 * FEWEST {
        return None;
    }
    let middle = average(&means);
    let total: f64 = means.iter().map(|m| (m - middle) * (m - middle)).sum();
    let between = |cut: usize| {
        let (low, high) = (average(&means[..cut]), average(&means[cut..]));
        cut as f64 * (low - middle).powi(2) + (means.len() - cut) as f64 * (high - middle).powi(2)
    };
    let cut = (1..means.len()).max_by(|a, b| between(*a).total_cmp(&between(*b)))?;
    let (low, high) = (average(&means[..cut]), average(&means[cut..]));
    let enough = cut.min(means.len() - cut) >= FEWEST && high - low > APART * middle;
    (total > 0.0 && between(cut) / total > EXPLAINED && enough)
        .then_some([(cut, low), (means.len() - cut, high)])
}

/// Standard errors by which a difference is told from none, at 95 %.
const TELL: f64 = 1.96;

/// Differences between neighbouring sizes against their standard errors, paired on the same held-out blocks where the
/// laws have them so, else from the points' own.
pub(super) fn held_out(seen: &Seen<'_>) -> Option<Diagnosis> {
    let paired = seen.input.laws.as_ref().map_or(&[][..], |l| &l.paired);
    let mut pairs: Vec<(f64, f64, String)> = paired
        .iter()
        .filter_map(|p| {
            let words = format!("{} and {} at {} tokens", p.small, p.large, count(p.tokens));
            Some((p.difference, p.se?, words))
        })
        .collect();
    let how = if pairs.is_empty() { "" } else { "paired " };
    if pairs.is_empty() {
        pairs = seen
            .neighbours()
            .into_iter()
            .filter_map(|(a, b)| {
                let se = (a.loss_se?.powi(2) + b.loss_se?.powi(2)).sqrt();
                Some((a.loss - b.loss, se, format!("{} and {}", model(a), place(b))))
            })
            .collect();
    }
    let unclear: Vec<&(f64, f64, String)> =
        pairs.iter().filter(|(difference, se, _)| difference.abs() < TELL * se).collect();
    let (difference, se, words) = worst(&unclear, |(d, se, _)| se / d.abs().max(1e-12))?;
    Some(Diagnosis::found(
        Fault::HeldOut,
        format!(
            "{} within {TELL} {how}standard errors of each other; {words}: {} ± {}",
            those(
                unclear.len(),
                pairs.len(),
                ["pair of neighbouring sizes", "pairs of neighbouring sizes"],
                ["lies", "lie"]
            ),
            fixed(*difference, 4),
            fixed(*se, 4)
        ),
        "evaluate on more held-out text (`train.eval_tokens`), or place the sizes further apart",
    ))
}
