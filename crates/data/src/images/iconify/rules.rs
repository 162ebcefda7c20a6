//! Which sets and which of their drawings are taken, and what each is called.

use super::package::SetInfo;
use super::words::{BRANDS, EMOJI_LEFT_OUT, EMOJI_LOOSE, KIN, LOOSE, STYLE, SYNONYMS, VAGUE};
use std::collections::{HashMap, HashSet};

/// Licences that ask for a notice and nothing else.
const LICENCES: [&str; 7] =
    ["MIT", "Apache-2.0", "ISC", "CC0-1.0", "BSD-2-Clause", "BSD-3-Clause", "Unlicense"];

/// What is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawings {
    /// Icons of one colour under permissive licences, 28 × 28 pixels of ink: the built-in set.
    Icons,
    /// Emoji in several styles, in colour on white.
    Emoji,
}

impl Drawings {
    /// Fewest drawings of a class: more than an episode of 5 shots and 15 queries takes, or 5 and 4, for there are no
    /// more than a dozen styles of emoji.
    pub fn fewest(self) -> usize {
        match self {
            Self::Icons => 20,
            Self::Emoji => 9,
        }
    }

    /// Channels of a picture.
    pub fn channels(self) -> usize {
        match self {
            Self::Icons => 1,
            Self::Emoji => 3,
        }
    }
}

pub(super) struct Rules {
    pub(super) drawings: Drawings,
    style: HashSet<&'static str>,
    left_out: HashSet<&'static str>,
    loose: HashSet<&'static str>,
    same: HashMap<&'static str, &'static str>,
    kin: HashMap<&'static str, &'static str>,
}

impl Rules {
    pub(super) fn new(drawings: Drawings) -> Self {
        let words = |text: &'static str| text.split_whitespace();
        let icons = drawings == Drawings::Icons;
        let kin = KIN.iter().flat_map(|kin| words(kin).map(|word| (word, words(kin).next().unwrap_or(word))));
        let same = SYNONYMS.iter().flat_map(|(name, others)| words(others).map(|other| (other, *name)));
        Self {
            drawings,
            style: words(if icons { STYLE } else { "" }).collect(),
            left_out: if icons { words(BRANDS).chain(words(VAGUE)).collect() } else { HashSet::new() },
            loose: words(if icons { LOOSE } else { EMOJI_LOOSE }).collect(),
            same: if icons { same.collect() } else { HashMap::new() },
            kin: if icons { kin.collect() } else { HashMap::new() },
        }
    }

    /// Whether drawings of a set are taken. Logos and flags are no things, and have colours that are the point of them.
    pub(super) fn takes(&self, set: &SetInfo) -> bool {
        let category = set.category.as_deref();
        match self.drawings {
            Drawings::Icons => {
                !set.palette
                    && !["Logos", "Flags / Maps", "Emoji"].iter().any(|other| category == Some(other))
                    && LICENCES.iter().any(|licence| set.license.spdx.as_deref() == Some(licence))
            }
            // A set that the package hides, since another has the same drawings flat, has no category.
            Drawings::Emoji => {
                category == Some("Emoji") || (category.is_none() && set.name.ends_with("Emoji"))
            }
        }
    }

    /// What is drawn under a name, or nothing.
    pub(super) fn class_of(&self, name: &str) -> Option<String> {
        match self.drawings {
            Drawings::Icons => {
                let told = |word: &&str| {
                    let digits = word.strip_suffix("px").unwrap_or(word);
                    let size = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                    !word.is_empty() && !self.style.contains(word) && !size
                };
                let joined = name.split('-').filter(told).collect::<Vec<_>>().join("-");
                let word = self.same.get(joined.as_str()).map_or(joined.as_str(), |word| word);
                (!word.is_empty() && !self.left_out.contains(word)).then(|| word.to_owned())
            }
            Drawings::Emoji => {
                let left_out = |word: &str| {
                    EMOJI_LEFT_OUT.split_whitespace().any(|other| word == other)
                        || word.bytes().all(|b| b.is_ascii_digit())
                };
                (!name.split('-').any(left_out)).then(|| name.to_owned())
            }
        }
    }

    /// Under which key drawings of a class are put together: some sets write names in one word.
    pub(super) fn key(&self, class: &str) -> String {
        match self.drawings {
            Drawings::Icons => class.to_owned(),
            Drawings::Emoji => class.replace('-', ""),
        }
    }

    /// Families of classes that share a telling word, each one list.
    pub(super) fn families(&self, names: &[String]) -> Vec<Vec<String>> {
        let mut parent: Vec<usize> = (0..names.len()).collect();
        fn root(parent: &[usize], of: usize) -> usize {
            if parent[of] == of { of } else { root(parent, parent[of]) }
        }
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (number, name) in names.iter().enumerate() {
            let alone = !name.contains('-');
            for word in name.split('-').filter(|word| alone || !self.loose.contains(word)) {
                let word = self.kin.get(word).copied().unwrap_or(word);
                match first.get(word) {
                    Some(&other) => {
                        let (own, other) = (root(&parent, number), root(&parent, other));
                        parent[own] = other;
                    }
                    None => drop(first.insert(word, number)),
                }
            }
        }
        let mut lists: Vec<(usize, Vec<String>)> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let own = root(&parent, number);
            match lists.iter_mut().find(|(root, _)| *root == own) {
                Some((_, list)) => list.push(name.clone()),
                None => lists.push((own, vec![name.clone()])),
            }
        }
        lists.into_iter().map(|(_, list)| list).collect()
    }
}
