//! Drawings of things by many hands, out of the npm package `@iconify/json`: the built-in icons, and emoji.
//!
//! A class is a word that many sets draw; a set gives it one drawing at most, or the outline and the solid form of one
//! hand would stand on both sides of an episode. Words of style ("outline", "24") are dropped from names, synonyms
//! merged. Drawings that are nearly equal (sets are forks of sets) count once. Classes that share a telling word stay
//! on one side of the split. All is decided by names and by hashes of names and drawings, so that the outcome is a
//! function of the package.

mod package;
mod rules;
mod words;

pub use rules::Drawings;

use super::set::{Header, SplitHeader};
use super::svg;
use crate::DataError;
use crate::fingerprint::sha256;
use package::{Package, SetInfo};
use rules::Rules;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

/// Most drawings of a class.
const MOST: usize = 48;
/// Two drawings of a class with less than this share of their ink apart are one.
const APART: f64 = 0.15;
/// Shares of the classes that are trained on, chosen by and tested on: those of mini-ImageNet.
const SPLITS: [(&str, f64); 3] = [("train", 0.64), ("val", 0.16), ("test", 0.2)];

/// What was gathered.
#[derive(Debug)]
pub struct Gathered {
    /// Classes of each split.
    pub header: Header,
    pixels: Vec<u8>,
    version: String,
    drawings: Drawings,
    sets: Vec<(SetInfo, usize)>,
}

/// One set's drawing of a class: names are ranked by their number of words, for the plainest has the fewest.
struct Candidate {
    rank: (usize, String),
    document: String,
}

/// Drawings of a class by set.
#[derive(Default)]
struct Class {
    name: String,
    drawings: BTreeMap<String, Candidate>,
}

/// One drawing that is kept: how much is drawn on each pixel `[side,side,channels]`, 0 nothing to 255.
struct Kept {
    prefix: String,
    ink: Vec<u8>,
    hash: String,
}

/// Gathers drawings of `side × side` pixels from the package at `path`, a folder or an archive.
///
/// # Errors
/// [`DataError`]: no such package, or not whole; a side of 0; no class with enough drawings.
pub fn gather(path: &Path, drawings: Drawings, side: usize, threads: usize) -> Result<Gathered, DataError> {
    if !(1..=512).contains(&side) {
        let hint = "give a side of 1 to 512".into();
        return Err(DataError::Setting { what: format!("pictures of {side} pixels"), hint });
    }
    let (package, rules) = (Package::open(path)?, Rules::new(drawings));
    let mut taken = HashSet::new();
    let mut found: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
    for (key, class) in collect(&package, &rules, side)? {
        if class.drawings.len() < drawings.fewest() {
            continue;
        }
        let kept = choose(&key, class.drawings, side, drawings.channels(), threads, &taken);
        if kept.len() >= drawings.fewest() {
            taken.extend(kept.iter().map(|one| one.hash.clone()));
            found.insert(class.name, kept);
        }
    }
    if found.is_empty() {
        let what = format!("no thing is drawn by {} sets", drawings.fewest());
        return Err(DataError::Image { path: path.to_owned(), what, hint: "give the whole package".into() });
    }
    Ok(assemble(&package, &rules, found, side))
}

/// For each class and set the drawing with the plainest name.
fn collect(package: &Package, rules: &Rules, side: usize) -> Result<BTreeMap<String, Class>, DataError> {
    let mut prefixes: Vec<&str> =
        package.sets.iter().filter(|(_, set)| rules.takes(set)).map(|(prefix, _)| prefix.as_str()).collect();
    prefixes.sort_unstable();
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    package.each_set(&prefixes, &mut |prefix, set| {
        for (name, icon) in set.icons.iter().filter(|(_, icon)| !icon.hidden) {
            let Some(word) = rules.class_of(name) else { continue };
            let class = classes.entry(rules.key(&word)).or_default();
            let words = |name: &str| name.bytes().filter(|b| *b == b'-').count();
            // The spelling in the most words, then the first of them, whichever set is read first.
            let plainer = |new: &str, old: &str| (words(old), new) < (words(new), old);
            if class.name.is_empty() || plainer(&word, &class.name) {
                class.name.clone_from(&word);
            }
            let rank = (name.split('-').count(), name.clone());
            let better = class.drawings.get(prefix).is_none_or(|best| rank < best.rank);
            if better {
                let document = icon.document(&set, side);
                class.drawings.insert(prefix.to_owned(), Candidate { rank, document });
            }
        }
    })?;
    Ok(classes)
}

/// Drawings of a class that are drawn at all and unlike each other, in the order of a hash.
fn choose(
    key: &str,
    drawings: BTreeMap<String, Candidate>,
    side: usize,
    channels: usize,
    threads: usize,
    taken: &HashSet<String>,
) -> Vec<Kept> {
    let mut order: Vec<(String, String, Candidate)> = drawings
        .into_iter()
        .map(|(prefix, candidate)| (sha256(format!("{key} {prefix}").as_bytes()), prefix, candidate))
        .collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    let share = order.len().div_ceil(threads.max(1));
    let drawn: Vec<Option<Vec<u8>>> = std::thread::scope(|scope| {
        let draw_all = |part: &[(String, String, Candidate)]| -> Vec<_> {
            part.iter().map(|(.., candidate)| draw(&candidate.document, side, channels)).collect()
        };
        let parts: Vec<_> = order.chunks(share).map(|part| scope.spawn(move || draw_all(part))).collect();
        let joined = parts.into_iter().map(|thread| thread.join());
        joined.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut kept: Vec<Kept> = Vec::new();
    for ((_, prefix, _), ink) in order.into_iter().zip(drawn) {
        if kept.len() == MOST {
            break;
        }
        let Some(ink) = ink else { continue };
        let hash = sha256(&ink);
        // One drawing for two words would be right and wrong at once.
        if !taken.contains(&hash) && kept.iter().all(|other| apart(&ink, &other.ink) > APART) {
            kept.push(Kept { prefix, ink, hash });
        }
    }
    kept
}

/// How much is drawn on each pixel, in 16 levels for ink; nothing of what does not draw or is all or hardly any ink.
fn draw(document: &str, side: usize, channels: usize) -> Option<Vec<u8>> {
    let drawn = svg::render(document.as_bytes(), side).ok()?;
    let ink: Vec<u8> = match channels {
        1 => drawn
            .pixels
            .chunks_exact(4)
            .map(|pixel| (f32::from(pixel[3]) / 17.0).round() as u8 * 17)
            .collect(),
        _ => drawn.convert(channels).pixels.into_iter().map(|value| 255 - value).collect(),
    };
    let share = ink.iter().map(|x| f64::from(*x)).sum::<f64>() / (255.0 * ink.len() as f64);
    (share > 0.02 && share < 0.9).then_some(ink)
}

/// Share of the ink that two drawings do not have in common.
fn apart(a: &[u8], b: &[u8]) -> f64 {
    let (mut different, mut all) = (0u64, 0u64);
    for (a, b) in a.iter().zip(b) {
        different += u64::from(a.abs_diff(*b));
        all += u64::from(*a.max(b));
    }
    different as f64 / all as f64
}

/// Families to the three splits, the largest first, each to the one that lacks most.
fn divide(mut families: Vec<Vec<String>>, total: usize) -> Vec<(&'static str, Vec<String>)> {
    families.sort_by_cached_key(|list| (std::cmp::Reverse(list.len()), sha256(list[0].as_bytes())));
    let mut splits: Vec<(&str, f64, Vec<String>)> =
        SPLITS.iter().map(|(name, share)| (*name, share * total as f64, Vec::new())).collect();
    for family in families {
        let lack = |(_, wanted, classes): &(&str, f64, Vec<String>)| (wanted - classes.len() as f64) / wanted;
        let mut most = 0;
        for number in 1..splits.len() {
            if lack(&splits[number]) > lack(&splits[most]) {
                most = number;
            }
        }
        splits[most].2.extend(family);
    }
    let sorted = |(name, _, mut classes): (&'static str, f64, Vec<String>)| {
        classes.sort_unstable();
        (name, classes)
    };
    splits.into_iter().map(sorted).collect()
}

fn assemble(package: &Package, rules: &Rules, found: BTreeMap<String, Vec<Kept>>, side: usize) -> Gathered {
    let names: Vec<String> = found.keys().cloned().collect();
    let splits = divide(rules.families(&names), names.len());
    let classes = || splits.iter().flat_map(|(_, classes)| classes).map(|class| &found[class]);
    let kept = || classes().flatten();
    let hashes: Vec<&str> = kept().map(|one| one.hash.as_str()).collect();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    kept().for_each(|one| *used.entry(&one.prefix).or_default() += 1);
    let sets = used.iter().map(|(prefix, count)| (package.sets[*prefix].clone(), *count)).collect();
    // Ink is light on a dark ground; colours are drawn on white.
    let icons = rules.drawings == Drawings::Icons;
    let pixels =
        kept().flat_map(|one| one.ink.iter().map(|ink| if icons { *ink } else { 255 - ink })).collect();
    let split = |(name, classes): &(&str, Vec<String>)| SplitHeader {
        name: (*name).to_owned(),
        classes: classes.iter().map(|class| (class.clone(), found[class].len())).collect(),
    };
    Gathered {
        header: Header {
            side,
            channels: rules.drawings.channels(),
            splits: splits.iter().map(split).collect(),
            fingerprint: sha256(hashes.join("\n").as_bytes()),
        },
        pixels,
        version: package.version.clone(),
        drawings: rules.drawings,
        sets,
    }
}

impl Gathered {
    /// The bytes of a prepared set.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.bytes();
        bytes.extend_from_slice(&self.pixels);
        bytes
    }

    /// Classes, drawings and sets, in words.
    pub fn words(&self) -> String {
        let sizes =
            self.header.splits.iter().map(|split| format!("{} to {}", split.classes.len(), split.name));
        format!(
            "{} drawings of {} things ({}) from {} sets of @iconify/json {}",
            self.images(),
            self.header.splits.iter().map(|split| split.classes.len()).sum::<usize>(),
            sizes.collect::<Vec<_>>().join(", "),
            self.sets.len(),
            self.version
        )
    }

    /// Number of drawings.
    pub fn images(&self) -> usize {
        self.sets.iter().map(|(_, count)| count).sum()
    }

    /// Who drew them, and under which licence each set is used, in Markdown.
    pub fn credits(&self) -> String {
        let (side, file) = (self.header.side, self.drawings.file());
        let pixels = match self.drawings {
            Drawings::Icons => format!("{side} × {side} pixels of ink in 16 levels"),
            Drawings::Emoji => format!("{side} × {side} pixels in colour on white"),
        };
        let mut text = format!(
            "# Drawings and their licences\n\n`{file}`: {},\n{pixels}. We thank those who drew and gathered them.\n\
             `isoflop fewshot prepare-icons` makes the file. Each set is used under its own licence:\n\n\
             | set | by | licence | drawings |\n|---|---|---|---:|\n",
            self.words().replace(") from", ")\nfrom")
        );
        let link = |text: &str, url: &Option<String>| match url {
            Some(url) => format!("[{text}]({url})"),
            None => text.to_owned(),
        };
        for (set, count) in &self.sets {
            let (by, licence) =
                (link(&set.author.name, &set.author.url), link(set.license.word(), &set.license.url));
            let _ = writeln!(text, "| {} | {by} | {licence} | {count} |", set.name);
        }
        text
    }
}

impl Drawings {
    /// What the file of them is called.
    pub fn file(self) -> &'static str {
        match self {
            Self::Icons => "icons.images",
            Self::Emoji => "emoji.images",
        }
    }
}
