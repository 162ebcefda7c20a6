//! `[arms]`: what a study varies beside size and length. Every arm is the study's series under another text, batch or
//! rate; a run is named after its arm and keeps its place in the study, value by axis ([`RunSpec::arm`]).

use super::mix::{PASSAGE_TOKENS, WEIGHT_UNITS, encoded, gcd};
use super::raw::RawStudy;
use super::resolve::{Arm, Base, Notes, TEXT};
use super::series;
use crate::error::UserError;
use isoflop_base::mix::{MixSpec, Origin, Passages, SourceSpec, StageSpec, StageStart};
use isoflop_base::recipe::{Init, ScheduleKind, Word};
use isoflop_base::study::{BranchBatch, RunSpec, Warmup};
use isoflop_base::units::{parse_count, parse_share, parse_whole, percent, si};
use isoflop_base::{JunkKind, ModelShape};

/// What stands before each row of junk in the tagged arms, where the study does not say.
const TAG: &str = "<junk>";
/// How the rate follows the batch, where the study does not say: the square root, as noise in Adam's updates does
/// (Malladi et al. 2022, arXiv:2205.10287).
const RATE_EXPONENT: f64 = 0.5;
/// Batches of the trunk that a step of a branch may take.
const MOST_BATCHES: u64 = 4096;

/// The study's series under each of these bases, smaller models first, arms in their order.
///
/// # Errors
/// As [`series::runs`].
pub fn runs(
    raw: &RawStudy,
    arms: &[Base],
    models: &[ModelShape],
    notes: &mut Notes,
) -> Result<Vec<RunSpec>, UserError> {
    let mut runs = Vec::new();
    for base in arms {
        let mut own = Notes::default();
        runs.extend(series::runs(raw, base, models, &mut own)?);
        let new: Vec<_> =
            own.0.into_iter().filter(|note| !notes.0.iter().any(|n| n.key == note.key)).collect();
        notes.0.extend(new);
    }
    runs.sort_by_key(|run| (run.model.params(), run.gpt().shape));
    Ok(runs)
}

/// That a kind of study is given only what it knows.
///
/// # Errors
/// A key of `[arms]` that belongs to another kind.
pub fn only(raw: &RawStudy, kind: &str, known: &[&str]) -> Result<(), UserError> {
    let mut given = raw.entries.keys().filter_map(|key| key.strip_prefix("arms."));
    let Some(key) = given.find(|key| !known.contains(key)) else { return Ok(()) };
    let place = raw.place(&format!("arms.{key}"));
    let error = UserError::new(format!("{place}: not a key of a study of kind = \"{kind}\""));
    Err(error.hint(match known {
        [] => "[arms] are of kind = \"data\", \"batch\" or \"lr\"".to_owned(),
        known => format!("its [arms] have {}", known.join(", ")),
    }))
}

/// The arms of a study of data: clean text first, then junk, repetition, duplicates, in the order of their keys.
///
/// # Errors
/// Keys that do not go together, shares and counts that make no sense.
pub fn of_data(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    if base.data.mix.is_some() {
        return mixtures(raw, base);
    }
    for key in ["arms.mixes", "arms.held_out"] {
        if raw.entries.contains_key(key) {
            return Err(UserError::new(format!("{}: without [data.mix]", raw.place(key)))
                .hint("name two sources or more under [data.mix]"));
        }
    }
    let junk = junk_arms(raw, base)?;
    let mut clean = base.clone();
    if !junk.is_empty() {
        clean.arm = Arm::new("", [("junk", "none".to_owned()), ("share", "0".to_owned())]);
    }
    let mut arms = vec![clean];
    arms.extend(junk);
    arms.extend(unique_arms(raw, base)?);
    arms.extend(copies_arms(raw, base)?);
    Ok(arms)
}

/// Kinds of junk by shares, and the tagged twins.
fn junk_arms(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    let kinds = words(raw, "arms.junk", JunkKind::word)?;
    let tagged = words(raw, "arms.tagged", JunkKind::word)?;
    if let Some(kind) = tagged.iter().find(|kind| !kinds.contains(kind)) {
        return Err(UserError::new(format!(
            "{}: {} is not among arms.junk",
            raw.place("arms.tagged"),
            kind.word()
        ))
        .hint("a tagged arm is compared with the same junk without a tag"));
    }
    let shares = shares(raw, "arms.shares")?;
    if kinds.is_empty() || shares.is_empty() {
        return match (kinds.is_empty(), shares.is_empty()) {
            (true, true) => Ok(Vec::new()),
            (true, false) => {
                Err(UserError::new(format!("{}: shares of which junk?", raw.place("arms.shares"))).hint(
                    format!("write junk = [\"words-shuffled\"]; kinds: {}", JunkKind::WORDS.join(", ")),
                ))
            }
            (false, _) => Err(UserError::new(format!("{}: in which shares?", raw.place("arms.junk")))
                .hint("write shares = [0.5, 0.75, 0.875] under [arms]")),
        };
    }
    let tagged_shares = match raw.entries.contains_key("arms.tagged_shares") {
        true => self::shares(raw, "arms.tagged_shares")?,
        false => shares.clone(),
    };
    if let Some(share) = tagged_shares.iter().find(|share| !shares.contains(share)) {
        return Err(UserError::new(format!(
            "{}: {share} is not among arms.shares",
            raw.place("arms.tagged_shares")
        ))
        .hint("a tagged arm is compared with the same junk without a tag"));
    }
    let passage_tokens = raw.whole("arms.passage_tokens", PASSAGE_TOKENS)?;
    let tag = raw.text("arms.tag")?.unwrap_or_else(|| TAG.to_owned());
    let mut arms = Vec::new();
    for kind in kinds {
        let passages = (kind == JunkKind::Repeated).then_some(Passages {
            tokens: passage_tokens,
            copies: None,
            count: 1,
        });
        for &share in &shares {
            for with_tag in [false, true] {
                if with_tag && !(tagged.contains(&kind) && tagged_shares.contains(&share)) {
                    continue;
                }
                let mut source = junk(kind, passages);
                let mut arm = Arm::new(
                    format!("{}-{}", kind.word(), percent(share).trim_end_matches(" %")),
                    [("junk", kind.word().to_owned()), ("share", share.to_string())],
                );
                if with_tag {
                    source.tag = encoded(raw, "arms.tag", &tag, &base.tokenizer)?;
                    arm.label += "-tagged";
                    arm.values.insert("tag".to_owned(), tag.clone());
                }
                arms.push(mixed(base, arm, source, share));
            }
        }
    }
    Ok(arms)
}

/// Few unique tokens, read over and over; the fewest of them also under other weight decays.
fn unique_arms(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    let key = "arms.unique";
    let mut counts = raw.parsed_list(key, parse_count)?.unwrap_or_default();
    raw.no_repeats(key, &counts)?;
    counts.sort_by(f64::total_cmp);
    let decays = raw.parsed_list("arms.weight_decay", number)?.unwrap_or_default();
    if let Some(wrong) = decays.iter().find(|d| !(0.0..10.0).contains(*d)) {
        return Err(UserError::new(format!("{}: {wrong} is out of range", raw.place("arms.weight_decay")))
            .hint("choose 0 to 10"));
    }
    if counts.is_empty() && !decays.is_empty() {
        return Err(UserError::new(format!("{}: of which arms?", raw.place("arms.weight_decay")))
            .hint("write unique = [\"375k\"]: the fewest unique tokens are trained under each of them too"));
    }
    let arm = |unique: f64, decay: Option<f64>| -> Result<Base, UserError> {
        let tokens = unique as u64;
        if tokens <= base.context as u64 || tokens > base.data.train_tokens {
            return Err(UserError::new(format!("{}: {} unique tokens", raw.place(key), si(unique))).hint(
                format!(
                    "choose more than a context, {}, and no more than there are, {}",
                    base.context,
                    si(base.data.train_tokens as f64)
                ),
            ));
        }
        let mut arm = Arm::new(format!("u{}", short(unique)), [("unique", tokens.to_string())]);
        let mut base = base.clone();
        if let Some(decay) = decay {
            base.train.weight_decay = decay;
            arm.label += &format!("-wd{decay}");
            arm.values.insert("weight_decay".to_owned(), decay.to_string());
        }
        let mut only = text(&base);
        only.unique_tokens = Some(tokens);
        base.data.mix =
            Some(MixSpec { sources: vec![only], stages: vec![from_the_start(vec![1])], held_out: vec![0] });
        base.arm = arm;
        Ok(base)
    };
    let mut arms = Vec::new();
    for (index, unique) in counts.iter().enumerate() {
        arms.push(arm(*unique, None)?);
        if index == 0 {
            for decay in &decays {
                arms.push(arm(*unique, Some(*decay))?);
            }
        }
    }
    Ok(arms)
}

/// The same share of repeated text, as few passages often or many rarely.
fn copies_arms(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    let key = "arms.copies";
    let copies = raw.parsed_list(key, parse_count)?.unwrap_or_default();
    raw.no_repeats(key, &copies)?;
    if let Some(few) = copies.iter().find(|copies| !(1.0..=1e15).contains(*copies)) {
        return Err(UserError::new(format!("{}: {few} copies of a passage", raw.place(key)))
            .hint("write copies = [2, 8, 32, 128], each at least 1"));
    }
    let share = raw.parsed("arms.copies_share", parse_share)?.unwrap_or(0.5);
    if !(0.0 < share && share < 1.0) {
        return Err(UserError::new(format!("{}: {share} is out of range", raw.place("arms.copies_share")))
            .hint("choose a share between 0 and 1, such as 0.5"));
    }
    let tokens = raw.whole("arms.passage_tokens", PASSAGE_TOKENS)?;
    let arm = |copies: f64| {
        let passages = Passages { tokens, copies: Some(copies), count: 1 };
        let values = [("copies", copies.to_string()), ("share", share.to_string())];
        mixed(
            base,
            Arm::new(format!("copies{copies}"), values),
            junk(JunkKind::Repeated, Some(passages)),
            share,
        )
    };
    Ok(copies.into_iter().map(arm).collect())
}

/// The sources of `[data.mix]` in several mixtures.
fn mixtures(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    let mix = base.data.mix.as_ref().expect("the caller looked");
    for key in ["arms.junk", "arms.shares", "arms.tagged", "arms.tagged_shares", "arms.unique", "arms.copies"]
    {
        if raw.entries.contains_key(key) {
            return Err(UserError::new(format!("{}: stands beside [data.mix]", raw.place(key)))
                .hint("its arms are mixtures of its sources: write mixes = [\"1:0\", \"1:1\", \"0:1\"]"));
        }
    }
    let parse = |text: &str| -> Result<Vec<u64>, String> {
        let weights: Vec<u64> = text
            .split(':')
            .map(|part| parse_whole(part.trim()).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?;
        match weights.len() == mix.sources.len() && weights.iter().sum::<u64>() > 0 {
            true => Ok(weights),
            false => Err(format!(
                "`{text}` is no mixture of {} sources\nhint: write a weight for each, such as 1:3",
                mix.sources.len()
            )),
        }
    };
    let fitted = raw.parsed_list("arms.mixes", parse)?.unwrap_or_default();
    let held_out = raw.parsed_list("arms.held_out", parse)?.unwrap_or_default();
    if fitted.is_empty() {
        return match held_out.is_empty() {
            true => Ok(vec![base.clone()]),
            false => {
                Err(UserError::new(format!("{}: nothing to predict them from", raw.place("arms.held_out")))
                    .hint("write mixes = [\"1:0\", \"3:1\", \"1:1\", \"1:3\", \"0:1\"] under [arms]"))
            }
        };
    }
    let arm = |weights: &Vec<u64>, held_out: bool| {
        let sum: u64 = weights.iter().sum();
        let words: Vec<String> = weights.iter().map(ToString::to_string).collect();
        let mut arm = Arm::new(format!("mix{}", words.join("-")), [("mix", words.join(":"))]);
        for (source, weight) in mix.sources.iter().zip(weights) {
            arm.values.insert(format!("share_{}", source.name), (*weight as f64 / sum as f64).to_string());
        }
        if held_out {
            arm.values.insert("held_out".to_owned(), "yes".to_owned());
        }
        let mut base = base.clone();
        let stages = vec![from_the_start(weights.clone())];
        base.data.mix = Some(MixSpec { stages, ..mix.clone() });
        base.arm = arm;
        base
    };
    Ok(fitted.iter().map(|w| arm(w, false)).chain(held_out.iter().map(|w| arm(w, true))).collect())
}

/// The arms of a study of batches or rates: every batch at every multiple of the rate.
///
/// The rate at a batch of B tokens is the study's times (B/B₀)^`rate_exponent` times the arm's multiple, B₀ the study's
/// own `batch_tokens`. A warm-up in tokens stays one. With `pairs` steps are divided so that the gradient's noise can
/// be estimated.
///
/// # Errors
/// Multiples that are none, batches that are no whole number of sequences.
pub fn of_settings(raw: &RawStudy, base: &Base, rates: &[f64], pairs: bool) -> Result<Vec<Base>, UserError> {
    let exponent =
        raw.number("arms.rate_exponent", RATE_EXPONENT, |v| (-2.0..=2.0).contains(&v), "-2 to 2")?;
    let rates = raw.parsed_list("arms.rates", number)?.unwrap_or_else(|| rates.to_vec());
    raw.no_repeats("arms.rates", &rates)?;
    if let Some(wrong) = rates.iter().find(|rate| !(**rate > 0.0 && rate.is_finite())) {
        return Err(UserError::new(format!("{}: {wrong} is no multiple of a rate", raw.place("arms.rates")))
            .hint("write rates = [0.5, 1, 2]"));
    }
    let own = base.train.batch_tokens;
    let batches = raw.parsed_list("arms.batches", parse_count)?.unwrap_or_else(|| vec![own as f64]);
    raw.no_repeats("arms.batches", &batches)?;
    let inits = match words(raw, "arms.init", Init::word)? {
        none if none.is_empty() => vec![base.init],
        inits => inits,
    };
    let mut arms = Vec::new();
    for batch in batches {
        let tokens = whole_sequences(raw, base, batch)?;
        for &init in &inits {
            for &rate in &rates {
                arms.push(setting(base, (tokens, init, rate), exponent, inits.len() > 1, pairs));
            }
        }
    }
    Ok(arms)
}

/// The arms of the branching method: the trunk's own batch in its decayed branches, and multiples of it from the same
/// forks. At k batches a step the branches' rate is the study's times k^`branch_rate_exponent`.
///
/// # Errors
/// Multiples that are none; a schedule without branches.
pub fn of_branches(raw: &RawStudy, base: &Base) -> Result<Vec<Base>, UserError> {
    let key = "arms.branch_batches";
    let multiples = raw.parsed_list(key, parse_whole)?.unwrap_or_default();
    raw.no_repeats(key, &multiples)?;
    if multiples.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(wrong) = multiples.iter().find(|k| !(2..=MOST_BATCHES).contains(*k)) {
        return Err(UserError::new(format!("{}: {wrong} of the trunk's batches", raw.place(key))).hint(
            format!("write 2 to {MOST_BATCHES}, such as [2, 4, 8, 16, 32]; the trunk's own is there anyway"),
        ));
    }
    if base.train.schedule != ScheduleKind::Wsd {
        return Err(UserError::new(format!(
            "{}: schedule = \"{}\" has no branches",
            raw.place(key),
            base.train.schedule.word()
        ))
        .hint("write schedule = \"wsd\" under [train]"));
    }
    let key = "arms.branch_rate_exponent";
    let exponent = raw.number(key, RATE_EXPONENT, |v| (-2.0..=2.0).contains(&v), "-2 to 2")?;
    let arm = |batches: u64| {
        let mut arm = Arm::new(format!("branch{batches}"), [("branch", batches.to_string())]);
        arm.pairs = true;
        let mut base = base.clone();
        if batches > 1 {
            base.train.branch = Some(BranchBatch { batches, rate: (batches as f64).powf(exponent) });
        }
        base.arm = arm;
        base
    };
    Ok(std::iter::once(1).chain(multiples).map(arm).collect())
}

fn whole_sequences(raw: &RawStudy, base: &Base, batch: f64) -> Result<u64, UserError> {
    let (tokens, context) = (batch as u64, base.context as u64);
    if tokens > 0 && tokens as f64 == batch && tokens.is_multiple_of(context) && tokens <= 1 << 30 {
        return Ok(tokens);
    }
    Err(UserError::new(format!(
        "{}: {batch} tokens are no whole number of sequences of {context}",
        raw.place("arms.batches")
    ))
    .hint(format!(
        "write multiples of {context}, such as {}",
        ((batch / context as f64).round().max(1.0)) as u64 * context
    )))
}

fn setting(
    base: &Base,
    (tokens, init, rate): (u64, Init, f64),
    exponent: f64,
    name_init: bool,
    pairs: bool,
) -> Base {
    let ratio = tokens as f64 / base.train.batch_tokens as f64;
    let mut arm =
        Arm::new(format!("b{tokens}-x{rate}"), [("batch", tokens.to_string()), ("rate", rate.to_string())]);
    if name_init {
        arm.label = format!("{}-{}", init.word(), arm.label);
        arm.values.insert("init".to_owned(), init.word().to_owned());
    }
    arm.rate = Some(rate * ratio.powf(exponent));
    arm.pairs = pairs;
    let mut base = base.clone();
    base.init = init;
    base.train.batch_tokens = tokens;
    if let Warmup::Steps(steps) = base.train.warmup {
        base.train.warmup = Warmup::Steps((steps as f64 / ratio).round() as u64);
    }
    base.arm = arm;
    base
}

/// The study's text with a share of another source.
fn mixed(base: &Base, arm: Arm, other: SourceSpec, share: f64) -> Base {
    let part = (share * WEIGHT_UNITS).round() as u64;
    let whole = WEIGHT_UNITS as u64;
    let divisor = gcd(part, whole);
    let weights = vec![(whole - part) / divisor, part / divisor];
    let mut base = base.clone();
    let sources = vec![text(&base), other];
    base.data.mix = Some(MixSpec { sources, stages: vec![from_the_start(weights)], held_out: vec![0] });
    base.arm = arm;
    base
}

fn text(base: &Base) -> SourceSpec {
    SourceSpec {
        name: TEXT.to_owned(),
        origin: Origin::Tokens {
            fingerprint: base.data.fingerprint.clone(),
            train_tokens: base.data.train_tokens,
            val_tokens: base.data.val_tokens,
        },
        tag: Vec::new(),
        unique_tokens: None,
    }
}

fn junk(kind: JunkKind, passages: Option<Passages>) -> SourceSpec {
    SourceSpec {
        name: kind.word().to_owned(),
        origin: Origin::Junk { kind, of: kind.has_material().then_some(0), seed: 0, passages },
        tag: Vec::new(),
        unique_tokens: None,
    }
}

fn from_the_start(weights: Vec<u64>) -> StageSpec {
    StageSpec { from: StageStart::Steps(0), from_step: 0, weights }
}

/// A list of a recipe's words, each once.
fn words<T: Word>(raw: &RawStudy, key: &str, word: fn(T) -> &'static str) -> Result<Vec<T>, UserError> {
    let parse = |text: &str| {
        T::from_word(text).ok_or_else(|| {
            format!("\"{text}\" is not one of them\nhint: write one of: {}", T::WORDS.join(", "))
        })
    };
    let list = raw.parsed_list(key, parse)?.unwrap_or_default();
    let names: Vec<&str> = list.iter().map(|value| word(*value)).collect();
    raw.no_repeats(key, &names)?;
    Ok(list)
}

/// Shares above 0 and below 1, ascending.
fn shares(raw: &RawStudy, key: &str) -> Result<Vec<f64>, UserError> {
    let mut shares = raw.parsed_list(key, parse_share)?.unwrap_or_default();
    raw.no_repeats(key, &shares)?;
    if let Some(wrong) = shares.iter().find(|share| !(**share > 0.0 && **share < 1.0)) {
        return Err(UserError::new(format!("{}: {wrong} is out of range", raw.place(key)))
            .hint("choose shares between 0 and 1, such as 0.5: clean text is trained on anyway"));
    }
    shares.sort_by(f64::total_cmp);
    Ok(shares)
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

/// `375k`, for names.
fn short(count: f64) -> String {
    [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(unit, _)| count >= *unit)
        .map_or_else(|| count.to_string(), |(unit, word)| format!("{}{word}", count / unit))
}
