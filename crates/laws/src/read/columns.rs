//! Which column is which.

use super::names::{CORE, COUNTS, FILLERS, MEASURED, SYNONYMS, WORDS};
use super::units::{self, LossUnit, Meaning, Title};
use crate::table::same_level;
use crate::{LawError, Table};
use isoflop_base::nearest::distance;

/// What a header says of its cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Unit {
    factor: f64,
    loss: Option<LossUnit>,
}

impl Unit {
    const NONE: Self = Self { factor: 1.0, loss: None };

    /// The unit a header names for a canonical column, [`Unit::NONE`] if none; `Err` has the words nobody understands.
    ///
    /// `chosen`: somebody said that this is the column, whatever its name.
    pub(super) fn of(header: &str, canonical: &str, chosen: bool) -> Result<Self, String> {
        let title = Title::of(header);
        let is_named = |name: &str| {
            named(&plain(name), canonical) || last_part(name).is_some_and(|l| named(&plain(l), canonical))
        };
        let mut unit = Self::NONE;
        let at_the_end = title.short.iter().filter(|(short, found)| {
            let multiple = matches!(found, Meaning::Factor(_)) && !COUNTS.contains(&canonical);
            !multiple && !is_named(&title.name) && (chosen || is_named(short) || is_compute(&title))
        });
        let whole = units::flop(&title.name).filter(|_| canonical == "c").map(Meaning::Flop);
        let mut found: Vec<Meaning> = at_the_end.map(|(_, m)| *m).chain(whole).collect();
        for text in &title.brackets {
            // `Parameters (N)`: the name once more.
            let again = plain(text) == canonical || named(&plain(text), canonical);
            let not_counted = || format!("`{}`", super::cells::short(text));
            match units::meaning(text) {
                Some(Meaning::Flop(_)) if canonical != "c" && canonical != "c_min" => {
                    return Err(not_counted());
                }
                Some(Meaning::Loss(_)) if canonical != "loss" && canonical != "loss_se" => {
                    return Err(not_counted());
                }
                Some(meaning) => found.push(meaning),
                None if again => {}
                None => return Err(not_counted()),
            }
        }
        for meaning in found {
            match meaning {
                Meaning::Factor(f) | Meaning::Flop(f) => unit.factor *= f,
                Meaning::Loss(loss) => unit.loss = Some(loss),
                Meaning::Description => {}
            }
        }
        Ok(unit)
    }

    /// What a cell is multiplied with.
    pub(super) fn factor(self) -> f64 {
        self.factor
    }
}

/// Whether a header without case and punctuation is one of the names of a canonical column.
fn named(p: &str, canonical: &str) -> bool {
    SYNONYMS.iter().any(|(c, names)| *c == canonical && names.iter().any(|n| is_name(p, n)))
}

/// As it stands, or without a word before it (`Number of Parameters`, `best val loss`), unless that says something
/// else (`best lr` is the best of a sweep).
fn is_name(p: &str, name: &str) -> bool {
    let means_another = || SYNONYMS.iter().any(|(_, names)| names.contains(&p));
    p == name || FILLERS.iter().any(|f| p.strip_prefix(f) == Some(name)) && !means_another()
}

/// The unit that a loss column's name says.
fn unit_of_loss(plain: &str) -> Option<&'static str> {
    let ends = |list: &[&str]| list.iter().any(|s| plain.ends_with(s));
    match () {
        () if ends(&["bpb", "bitsperbyte"]) => Some("bits per byte"),
        () if ends(&["bpc", "bitsperchar", "bitspercharacter"]) => Some("bits per character"),
        () if ends(&["bitspertoken"]) => Some("bits per token"),
        () => None,
    }
}

/// Whether a header means a name, with its unit or without.
fn means(header: &str, name: &str) -> bool {
    let title = Title::of(header);
    is_name(&plain(&title.name), name) || title.short.iter().any(|(short, _)| is_name(&plain(short), name))
}

/// `PF-days`, `compute_exaflops`: a header that is a unit of FLOP. Not `train_tflops`, which is a speed where it is
/// logged.
fn is_compute(title: &Title) -> bool {
    let base = |short: &str| {
        let p = plain(short);
        ["compute", "totalcompute", "trainingcompute", "traincompute", "budget"].contains(&p.as_str())
    };
    matches!(&title.short, Some((short, Meaning::Flop(_))) if base(short))
}

fn is_bare_unit_of_compute(header: &str) -> bool {
    let title = Title::of(header);
    is_compute(&title) || units::flop(&title.name).is_some_and(|f| f >= 1e18)
}

/// Whether a header, or the last part of a nested one, means the loss.
pub(super) fn names_a_loss(header: &str) -> bool {
    let names = SYNONYMS.iter().find(|(c, _)| *c == "loss").map_or(&[][..], |(_, names)| names);
    names.iter().any(|n| means(header, n) || last_part(header).is_some_and(|l| means(l, n)))
}

/// Header without case, unit, spaces and punctuation.
fn plain(header: &str) -> String {
    let name = Title::of(header).name.to_lowercase();
    name.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Whether a name says that the column holds logarithms: `log10(params)`, `ln_N`.
fn is_logarithm(header: &str) -> bool {
    let lower = header.to_lowercase();
    let first = lower.split(|c: char| !c.is_alphanumeric()).find(|w| !w.is_empty());
    first.is_some_and(|w| ["log", "ln", "lg", "log2", "log10"].contains(&w))
}

fn positions(header: &[String], is: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    header.iter().enumerate().filter(move |(_, h)| is(h)).map(|(i, _)| i)
}

/// What follows the last dot or slash of a nested name; those in brackets (`petaflop/s-days`) are none.
fn last_part(header: &str) -> Option<&str> {
    let name = header.split(['(', '[', '{']).next().unwrap_or(header);
    name.rfind(['.', '/']).map(|at| &header[at + 1..])
}

/// Which header stands for which canonical column.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    found: Vec<(String, usize, Unit)>,
    /// Remarks: choices among several candidates.
    pub notes: Vec<String>,
    /// The loss column holds perplexities.
    pub perplexity: bool,
    /// Unit of the loss, where its column names one.
    pub loss_unit: Option<&'static str>,
    /// Columns the user chose.
    pub chosen: Vec<usize>,
    /// Canonical columns that are there in a unit nobody understands, in words.
    pub not_understood: Vec<(String, String)>,
}

impl Mapping {
    /// Maps a header, the user's own choices first.
    ///
    /// `numeric(i)` tells whether column i holds any number: a `param_count` of words is no N.
    ///
    /// # Errors
    /// A chosen column that does not exist, or no loss column.
    pub fn of(
        header: &[String],
        chosen: &[(String, String)],
        name: &str,
        loss_optional: bool,
        numeric: &dyn Fn(usize) -> bool,
    ) -> Result<Self, LawError> {
        let mut out = Self::default();
        for (canonical, wanted) in chosen {
            let canonical = canonical_name(canonical);
            let (index, factor) = choose(header, &canonical, wanted, name)?;
            if COUNTS.contains(&canonical.as_str()) && is_logarithm(&header[index]) {
                return Err(LawError::BadTable {
                    what: format!(
                        "{name}: `{}` holds logarithms, {canonical} is read as it is",
                        header[index]
                    ),
                    hint: "add a column of the numbers themselves, 10**x or exp(x)".to_owned(),
                });
            }
            out.found.retain(|(c, _, _)| *c != canonical);
            out.chosen.push(index);
            let unit = match factor {
                Some(factor) => Unit { factor, loss: None },
                None => Unit::of(&header[index], &canonical, true)
                    .map_err(|unit| unknown_unit(&unit, &header[index], &canonical, name))?,
            };
            out.found.push((canonical, index, unit));
        }
        for (canonical, names) in SYNONYMS {
            if out.index(canonical).is_some() {
                continue;
            }
            let taken = |i: usize| out.found.iter().any(|(_, j, _)| *j == i);
            // The whole header first, then what follows its last dot or slash (`config.n_params`, `summary/loss`).
            let whole = names.iter().flat_map(|n| positions(header, move |h| means(h, n)));
            let last = names
                .iter()
                .flat_map(|n| positions(header, move |h| last_part(h).is_some_and(|l| means(l, n))));
            let unit = positions(header, |h| *canonical == "c" && is_bare_unit_of_compute(h));
            let free: Vec<usize> = whole.chain(last).chain(unit).filter(|i| !taken(*i)).collect();
            let words = WORDS.contains(canonical);
            let mut matches: Vec<usize> = Vec::new();
            for i in free.iter().copied().filter(|i| words || numeric(*i)) {
                if !matches.contains(&i) {
                    matches.push(i);
                }
            }
            if matches.is_empty() && *canonical == "loss" && !loss_optional {
                // Without numbers every row will be listed with what its cell holds, which tells more than a missing
                // column.
                matches.extend(free.first());
            }
            let Some(&index) = matches.first() else { continue };
            if let Some(twin) = matches[1..].iter().find(|i| header[**i] == header[index]) {
                return Err(LawError::BadTable {
                    what: format!(
                        "{name}: columns {} and {} are both called `{}`",
                        index + 1,
                        twin + 1,
                        header[index]
                    ),
                    hint: "rename or delete one of them: a name must say which is meant".to_owned(),
                });
            }
            if CORE.contains(canonical) && matches.len() > 1 {
                let others: Vec<&str> = matches[1..].iter().map(|i| header[*i].as_str()).collect();
                out.notes.push(format!(
                    "`{}` was read as {canonical}; also there: {} (choose with --column {canonical}=NAME)",
                    header[index],
                    others.join(", ")
                ));
            }
            let words = WORDS.contains(canonical) || *canonical == "seed";
            match Unit::of(&header[index], canonical, false) {
                Ok(unit) => out.found.push(((*canonical).to_owned(), index, unit)),
                Err(_) if words => out.found.push(((*canonical).to_owned(), index, Unit::NONE)),
                Err(unit) if MEASURED.contains(canonical) => {
                    return Err(unknown_unit(&unit, &header[index], canonical, name));
                }
                // Of a column that few laws ask for: kept under its own name, and a law that asks is told.
                Err(unit) => {
                    let what = format!("the unit {unit} in its column `{}` is not understood", header[index]);
                    out.notes.push(format!(
                        "`{}` is not read as {canonical}: the unit {unit} is not understood",
                        header[index]
                    ));
                    out.not_understood.push(((*canonical).to_owned(), what));
                }
            }
        }
        if let Some(index) = out.index("loss") {
            let p = plain(last_part(&header[index]).unwrap_or(&header[index]));
            out.perplexity = p.ends_with("perplexity") || p.ends_with("ppl");
            out.loss_unit = unit_of_loss(&p);
            match out.unit("loss").loss {
                Some(LossUnit::Other(unit)) => out.loss_unit = Some(unit),
                Some(LossUnit::Perplexity) => out.perplexity = true,
                Some(LossUnit::NatsPerToken) | None => {}
            }
        }
        out.name_the_near(header, numeric);
        if !loss_optional && out.index("loss").is_none() {
            return Err(LawError::BadTable {
                what: format!("{name} has no column for the loss"),
                hint: format!("{}; choose one with --column loss=NAME", there_is("loss", header)),
            });
        }
        Ok(out)
    }

    /// Columns of numbers whose names speak of sizes, tokens or compute that were not read as any of them: said, never
    /// replaced in silence.
    fn name_the_near(&mut self, header: &[String], numeric: &dyn Fn(usize) -> bool) {
        for (canonical, words) in
            [("n", &["param", "modelsize"][..]), ("d", &["token"][..]), ("c", &["flop", "compute"][..])]
        {
            if self.index(canonical).is_some() {
                continue;
            }
            let near: Vec<&str> = (0..header.len())
                .filter(|i| !self.found.iter().any(|(_, j, _)| j == i) && numeric(*i))
                .map(|i| header[i].as_str())
                .filter(|h| words.iter().any(|w| plain(h).contains(w)))
                .collect();
            if !near.is_empty() {
                self.notes.push(format!(
                    "no column was read as {canonical}; near it: {} (choose with --column {canonical}=NAME)",
                    near.join(", ")
                ));
            }
        }
    }

    /// Index of a canonical column.
    pub fn index(&self, canonical: &str) -> Option<usize> {
        self.found.iter().find(|(c, _, _)| c == canonical).map(|(_, i, _)| *i)
    }

    /// Every column that was recognised: canonical name and index.
    pub fn recognised(&self) -> impl Iterator<Item = (&str, usize)> {
        self.found.iter().map(|(c, i, _)| (c.as_str(), *i))
    }

    /// Unit of a canonical column.
    pub(super) fn unit(&self, canonical: &str) -> Unit {
        self.found.iter().find(|(c, _, _)| c == canonical).map_or(Unit::NONE, |(_, _, u)| *u)
    }

    /// The name under which column `index` is kept.
    pub fn key(&self, index: usize, title: &str) -> String {
        self.found
            .iter()
            .find(|(_, i, _)| *i == index)
            .map_or_else(|| title.trim().to_lowercase(), |(c, _, _)| c.clone())
    }
}

impl Table {
    /// The rows whose column, number or text, has this value.
    pub fn with_value(&self, column: &str, value: &str) -> Self {
        let key = canonical_name(column);
        let wanted = isoflop_base::units::parse_count(value).ok();
        self.filtered(|r| {
            let text = r.labels.get(&key).or_else(|| r.labels.get(column));
            let matches_run = key == "run" && r.run == value;
            let same_number = match (r.get(&key).or_else(|| r.get(column)), wanted) {
                (Some(have), Some(want)) => have == want || same_level(have, want) && want > 100.0,
                _ => false,
            };
            matches_run || text.is_some_and(|t| t == value) || same_number
        })
    }
}

/// The canonical name people mean by `N`, `params`, `tokens`, …
pub fn canonical_name(name: &str) -> String {
    let title = Title::of(name);
    let forms = [Some(plain(&title.name)), title.short.as_ref().map(|(short, _)| plain(short))];
    let known = forms.into_iter().flatten().find_map(|p| {
        SYNONYMS
            .iter()
            .find(|(c, names)| plain(c) == p || names.contains(&p.as_str()))
            .map(|(c, _)| (*c).to_owned())
    });
    known.unwrap_or_else(|| name.trim().to_lowercase())
}

/// The column somebody named, and the factor behind it in `HEADER*1e6`.
fn choose(
    header: &[String],
    canonical: &str,
    wanted: &str,
    table: &str,
) -> Result<(usize, Option<f64>), LawError> {
    let exact = |w: &str| header.iter().position(|h| h == w);
    // Without case and outer spaces, where only one column is meant.
    let loose = |w: &str| {
        let mut same = positions(header, |h| h.trim().to_lowercase() == w.trim().to_lowercase());
        same.next().filter(|_| same.next().is_none())
    };
    if let Some(index) = exact(wanted).or_else(|| loose(wanted)) {
        return Ok((index, None));
    }
    let scaled = wanted.rsplit_once('*').and_then(|(column, factor)| {
        let factor = factor.trim().parse::<f64>().ok().filter(|f| f.is_finite() && *f > 0.0)?;
        Some((exact(column.trim()).or_else(|| loose(column))?, Some(factor)))
    });
    scaled.ok_or_else(|| LawError::BadTable {
        what: format!("{table} has no column `{wanted}`"),
        hint: match nearest(&wanted.to_lowercase(), header) {
            Some(near) => {
                format!("did you mean --column '{canonical}={near}'? Its columns are: {}", listed(header))
            }
            None => format!("its columns are: {}", listed(header)),
        },
    })
}

fn unknown_unit(unit: &str, header: &str, canonical: &str, table: &str) -> LawError {
    LawError::BadTable {
        what: format!(
            "{table}: the unit {unit} in the header `{header}` (read as {canonical}) is not understood"
        ),
        hint: format!(
            "write a multiple, e.g. (M), (1e9) or (PF-days), or give the factor, --column \
             '{canonical}={header}*1e6' (*1 for none)"
        ),
    }
}

/// What there is where a canonical column was looked for: the columns, the nearest of them first.
pub(super) fn there_is(canonical: &str, header: &[String]) -> String {
    let names = SYNONYMS.iter().find(|(c, _)| *c == canonical).map_or(&[][..], |(_, names)| names);
    let near = header
        .iter()
        .filter_map(|h| {
            let p = plain(h);
            let far = |name: &&&str| {
                let within =
                    name.len() > 3 && (p.contains(**name) || p.len() > 3 && name.contains(p.as_str()));
                if within { 1 } else { distance(&p, name) }
            };
            let best = names.iter().min_by_key(far)?;
            let edits = far(&best);
            (edits * 3 <= best.len().min(p.len())).then_some((edits, h))
        })
        .min_by_key(|(d, _)| *d);
    match near {
        Some((_, near)) => format!("its column `{near}` comes nearest; its columns are: {}", listed(header)),
        None => format!("its columns are: {}", listed(header)),
    }
}

/// At most forty names.
fn listed(header: &[String]) -> String {
    let shown: Vec<String> = header.iter().take(40).map(|h| super::cells::short(h)).collect();
    let more = if header.len() > 40 { format!(" and {} more", header.len() - 40) } else { String::new() };
    shown.join(", ") + &more
}

/// The header nearest to a word, if it is near at all.
fn nearest<'a>(word: &str, header: &'a [String]) -> Option<&'a str> {
    let far = |h: &str| distance(word, &h.trim().to_lowercase());
    let best = header.iter().min_by_key(|h| far(h))?;
    (far(best) * 2 <= word.chars().count().max(2)).then_some(best)
}
