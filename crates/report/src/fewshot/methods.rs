//! The methods of a study, in one order everywhere, each with its colour and mark on every figure.

use super::FewShotInput;
use crate::html::escape;
use crate::palette::Ground;
use crate::svg::Svg;
use std::collections::BTreeSet;

/// How a method is told apart: a colour on each ground, and a mark, filled or hollow.
#[derive(Debug, Clone, Copy)]
struct Look {
    light: &'static str,
    dark: &'static str,
    mark: usize,
    hollow: bool,
}

const fn look(light: &'static str, dark: &'static str, mark: usize, hollow: bool) -> Look {
    Look { light, dark, mark, hollow }
}

/// Methods this page can say a word about, in the order they are shown in.
const KNOWN: [(&str, &str, Look); 8] = [
    ("nearest-mean", "class means of frozen features", look("#5b6672", "#a4afba", 1, true)),
    ("baseline++", "cosine softmax on frozen features", look("#8a6200", "#dfb84e", 2, true)),
    ("proto", "class means, trained on episodes", look("#20558a", "#8fbcea", 0, false)),
    ("proto-scratch", "class means, on episodes from scratch", look("#3f7f2f", "#93cf7f", 3, true)),
    ("ccd", "attention in place of the means, as reported", look("#b8430f", "#f0875c", 3, false)),
    ("ccd-residual", "means plus that attention", look("#7d3c9c", "#cf9bea", 1, false)),
    ("ccd-mha", "attention of eight heads in their place", look("#b3306f", "#f284b4", 2, false)),
    ("feat", "means plus attention, normalised; auxiliary loss", look("#00757d", "#45c4cc", 0, true)),
];

/// Looks of methods that are not known, by their order; more than these begin anew.
const OTHERS: [Look; 5] = [
    look("#69700a", "#c3cc4f", 3, true),
    look("#4b48b5", "#a9a7f7", 2, false),
    look("#8c4a3a", "#dba08f", 1, true),
    look("#33691e", "#93c47a", 0, false),
    look("#a03050", "#ef8fa6", 3, false),
];

/// All methods that the page names.
#[derive(Debug)]
pub(super) struct Methods<'a> {
    names: Vec<&'a str>,
    attend: BTreeSet<&'a str>,
}

impl<'a> Methods<'a> {
    pub(super) fn of(input: &'a FewShotInput) -> Self {
        let rows = input.rows.iter().map(|row| row.method.as_str());
        let pairs = input.differences.iter().flat_map(|d| [d.against.as_str(), d.method.as_str()]);
        let swept = input.sweeps.iter().map(|row| row.method.as_str());
        let laws = input.laws.iter().map(|law| law.method.as_str());
        let said = input.episodes.iter().flat_map(|e| &e.queries).flat_map(|q| q.said.keys());
        let mut names: Vec<&str> = Vec::new();
        for name in rows.chain(pairs).chain(swept).chain(laws).chain(said.map(String::as_str)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| known(name).unwrap_or(KNOWN.len()));
        let attends = |row: &&super::input::MethodRow| row.geometry.is_some_and(|g| g.entropy.is_some());
        let attend = input.rows.iter().filter(attends).map(|row| row.method.as_str()).collect();
        Self { names, attend }
    }

    /// All names, in the page's order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.names.iter().copied()
    }

    /// Place of a method in the page's order.
    pub(super) fn place(&self, name: &str) -> usize {
        self.names.iter().position(|n| *n == name).unwrap_or(self.names.len())
    }

    /// Whether its prototypes attend to each other: a row has an entropy of attention.
    pub(super) fn attends(&self, name: &str) -> bool {
        self.attend.contains(name)
    }

    /// Class of a method's series.
    pub(super) fn class(&self, name: &str) -> String {
        format!("m{}", self.place(name))
    }

    fn look(&self, name: &str) -> Look {
        known(name).map_or_else(
            || {
                let before = self.names.iter().take_while(|n| **n != name);
                OTHERS[before.filter(|n| known(n).is_none()).count() % OTHERS.len()]
            },
            |k| KNOWN[k].2,
        )
    }

    /// The mark of a method at a point.
    pub(super) fn mark(&self, svg: &mut Svg, name: &str, x: f64, y: f64, radius: f64, tip: &str) {
        let look = self.look(name);
        svg.mark(look.mark, if look.hollow { "dot hollow" } else { "dot" }, x, y, radius, tip);
    }

    /// CSS that sets `--c` for classes `m0…` on the ground.
    pub(super) fn css(&self, ground: Ground) -> String {
        let colour = |look: Look| match ground {
            Ground::Light => look.light,
            Ground::Dark => look.dark,
        };
        let rules = self.names().enumerate().map(|(i, name)| {
            let colour = colour(self.look(name));
            format!(".m{i}{{--c:{colour}}}")
        });
        rules.collect()
    }

    /// The name with its colour, as markup.
    pub(super) fn named(&self, name: &str) -> String {
        format!("<span class=\"swatch {}\"></span>{}", self.class(name), escape(name))
    }
}

fn known(name: &str) -> Option<usize> {
    KNOWN.iter().position(|(n, ..)| *n == name)
}

/// What a method is, in a few words; nothing for one that is not known here.
pub(super) fn about(name: &str) -> &'static str {
    known(name).map_or("", |k| KNOWN[k].1)
}
