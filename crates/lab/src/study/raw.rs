//! A study file as written: parsed strictly, every key known, every value with the line it stands on.
//!
//! Nothing is interpreted here. `--set a.b=c` replaces one value and becomes its origin.

use super::vocabulary::CLAIM_KEYS;
pub use super::vocabulary::{LANGUAGE, Vocabulary};
use crate::error::UserError;
use isoflop_base::Word;
use isoflop_base::nearest::nearest;
use isoflop_base::units::parse_whole;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// How numbers are written, for those that cannot be.
const NUMBERS: &str = "write numbers such as 4096, 3e-3, 1e12, or with a multiple in quotes, \"12M\"";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Line of the file, from 1.
    Line(usize),
    /// `--set`.
    Set,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct Entry {
    pub value: toml::Value,
    pub origin: Origin,
}

/// The file's values by dotted key, and its claims in order.
#[derive(Debug, Clone)]
pub struct RawStudy {
    /// What the file is called in messages.
    pub file: String,
    /// What it may say.
    vocabulary: &'static Vocabulary,
    pub entries: BTreeMap<String, Entry>,
    pub claims: Vec<(String, Entry)>,
    /// Names of the sources of `[data.mix]`, in the order of the file.
    pub mix: Vec<String>,
}

impl RawStudy {
    /// Parses the text of a study of language models and applies `--set` overrides.
    pub fn parse(file: &str, text: &str, sets: &[String]) -> Result<Self, UserError> {
        Self::parse_as(&LANGUAGE, file, text, sets)
    }

    /// Parses the text of a study of some family and applies `--set` overrides.
    pub fn parse_as(
        vocabulary: &'static Vocabulary,
        file: &str,
        text: &str,
        sets: &[String],
    ) -> Result<Self, UserError> {
        let table = DeTable::parse(text).map_err(|e| {
            let line = e.span().map_or(String::new(), |s| format!(":{}", line_of(text, s.start)));
            UserError::new(format!("{file}{line}: {}", e.message().trim_end())).hint(format!(
                "a study is TOML: `key = value` lines under [{}]",
                vocabulary.sections.join("], [")
            ))
        })?;
        let kind = table.get_ref().get("kind").and_then(|kind| kind.get_ref().as_str());
        if kind == Some("fewshot") && *vocabulary == LANGUAGE {
            return Err(UserError::new(format!("{file} is a few-shot study"))
                .hint(format!("isoflop fewshot run {file}")));
        }
        let (entries, claims, mix) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut raw = Self { file: file.to_owned(), vocabulary, entries, claims, mix };
        for (key, value) in table.get_ref() {
            let line = line_of(text, key.span().start);
            let name = key.get_ref().as_ref();
            match (vocabulary.sections.contains(&name), value.get_ref()) {
                (true, DeValue::Table(section)) if name == "claims" => raw.take_claims(text, section)?,
                (true, DeValue::Table(section)) => {
                    for (key, value) in section {
                        let line = line_of(text, key.span().start);
                        match (name, key.get_ref().as_ref()) {
                            ("data", "mix") if is_known(vocabulary, "data.mix.a.weight") => {
                                raw.take_mix(text, value.get_ref(), line)?
                            }
                            (_, key) => raw.insert(format!("{name}.{key}"), value.get_ref(), line)?,
                        }
                    }
                }
                (true, other) => {
                    return Err(UserError::new(format!(
                        "{file}:{line}: `{name}` should be a section, found {}",
                        describe_de(other)
                    ))
                    .hint(format!("write [{name}] on a line of its own")));
                }
                (false, other) => raw.insert(name.to_owned(), other, line)?,
            }
        }
        for set in sets {
            raw.apply_set(set)?;
        }
        Ok(raw)
    }

    fn insert(&mut self, key: String, value: &DeValue<'_>, line: usize) -> Result<(), UserError> {
        if !is_known(self.vocabulary, &key) {
            return Err(unknown_key(self.vocabulary, &format!("{}:{line}: ", self.file), &key));
        }
        let value = plain(value)
            .map_err(|why| UserError::new(format!("{}:{line}: `{key}`: {why}", self.file)).hint(NUMBERS))?;
        self.entries.insert(key, Entry { value, origin: Origin::Line(line) });
        Ok(())
    }

    /// The sources of `[data.mix]`, each a table.
    fn take_mix(&mut self, text: &str, mix: &DeValue<'_>, line: usize) -> Result<(), UserError> {
        let file = self.file.clone();
        let wrong = |line: usize, what: String| {
            UserError::new(format!("{file}:{line}: {what}"))
                .hint("write sources under [data.mix], e.g. books = { corpus = \"builtin\", weight = 0.5 }")
        };
        let DeValue::Table(sources) = mix else {
            return Err(wrong(line, format!("`data.mix` should be a table, found {}", describe_de(mix))));
        };
        let mut names: Vec<(usize, String)> = Vec::new();
        for (key, value) in sources {
            let (at, name) = (key.span().start, key.get_ref().to_string());
            let line = line_of(text, at);
            let DeValue::Table(fields) = value.get_ref() else {
                return Err(wrong(
                    line,
                    format!("the source `{name}` should be a table, found {}", describe_de(value.get_ref())),
                ));
            };
            if !is_source_name(&name) {
                return Err(wrong(
                    line,
                    format!("\"{name}\" cannot name a source: use letters, digits, `_`, `-`"),
                ));
            }
            for (field, value) in fields {
                let line = line_of(text, field.span().start);
                self.insert(format!("data.mix.{name}.{}", field.get_ref()), value.get_ref(), line)?;
            }
            names.push((at, name));
        }
        names.sort();
        self.mix = names.into_iter().map(|(_, name)| name).collect();
        Ok(())
    }

    fn take_claims(&mut self, text: &str, section: &DeTable<'_>) -> Result<(), UserError> {
        for (key, value) in section {
            let line = line_of(text, key.span().start);
            let claim = key.get_ref().to_string();
            let DeValue::Table(fields) = value.get_ref() else {
                return Err(UserError::new(format!(
                    "{}:{line}: claim \"{claim}\" should be a table, found {}",
                    self.file,
                    describe_de(value.get_ref())
                ))
                .hint("write \"alpha = 0.076\" = { law = \"l_n\", param = \"alpha\", within = 0.02 }"));
            };
            for (field, _) in fields {
                let name = field.get_ref().as_ref();
                if !CLAIM_KEYS.contains(&name) {
                    let nearest = nearest(name, CLAIM_KEYS.iter().copied()).unwrap_or("law");
                    return Err(UserError::new(format!(
                        "{}:{}: unknown key `{name}` in claim \"{claim}\"",
                        self.file,
                        line_of(text, field.span().start)
                    ))
                    .hint(format!("did you mean `{nearest}`? known: {}", CLAIM_KEYS.join(", "))));
                }
            }
            let value = plain(value.get_ref()).map_err(|why| {
                UserError::new(format!("{}:{line}: claim \"{claim}\": {why}", self.file)).hint(NUMBERS)
            })?;
            self.claims.push((claim, Entry { value, origin: Origin::Line(line) }));
        }
        Ok(())
    }

    /// `train.lr=3e-3`: the right side is a TOML value, or else a string as it stands.
    fn apply_set(&mut self, set: &str) -> Result<(), UserError> {
        let Some((key, text)) = set.split_once('=') else {
            return Err(UserError::new(format!("`--set {set}` has no `=`"))
                .hint("write --set train.lr=3e-3, key and value joined by `=`"));
        };
        let (key, text) = (key.trim(), text.trim());
        if !is_known(self.vocabulary, key) {
            return Err(unknown_key(self.vocabulary, "--set: ", key));
        }
        if let Some((name, _)) = source_key(key)
            && !self.mix.iter().any(|known| known == name)
        {
            self.mix.push(name.to_owned());
        }
        let value = match DeValue::parse(text) {
            Ok(value) => plain(value.get_ref())
                .map_err(|why| UserError::new(format!("--set {key}: {why}")).hint(NUMBERS))?,
            Err(_) => toml::Value::String(text.to_owned()),
        };
        self.entries.insert(key.to_owned(), Entry { value, origin: Origin::Set });
        Ok(())
    }

    /// `file:line: key` for messages.
    pub fn place(&self, key: &str) -> String {
        match self.entries.get(key).map(|e| &e.origin) {
            Some(Origin::Line(line)) => format!("{}:{line}: `{key}`", self.file),
            Some(Origin::Set) => format!("--set: `{key}`"),
            None => format!("{}: `{key}`", self.file),
        }
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &toml::Value) -> UserError {
        UserError::new(format!("{} should be {wanted}, found {}", self.place(key), describe(found)))
            .hint(format!("{} shows how each key is written", self.vocabulary.example))
    }

    /// A string, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<String>, UserError> {
        match self.entries.get(key).map(|e| &e.value) {
            None => Ok(None),
            Some(toml::Value::String(s)) => Ok(Some(s.clone())),
            Some(other) => {
                Err(self.wrong_type(key, "a string", other).hint(format!("write {key} = \"…\" in quotes")))
            }
        }
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, UserError> {
        match self.entries.get(key).map(|e| &e.value) {
            None => Ok(None),
            Some(toml::Value::Boolean(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong_type(key, "true or false", other).hint("write true or false")),
        }
    }

    /// A number or a string such as `"12M"` or `"5%"` as text for the unit parsers; `None` also for `"auto"`.
    pub fn quantity(&self, key: &str) -> Result<Option<String>, UserError> {
        match self.entries.get(key).map(|e| &e.value) {
            None => Ok(None),
            Some(value) => {
                let text = quantity_text(value)
                    .ok_or_else(|| self.wrong_type(key, "a number or a string like \"12M\"", value))?;
                Ok((text != "auto").then_some(text))
            }
        }
    }

    /// Parses a quantity with one of `base::units`' parsers.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, UserError> {
        self.quantity(key)?
            .map(|text| parse(&text).map_err(|e| UserError::new(format!("{}: {e}", self.place(key)))))
            .transpose()
    }

    /// One of a fixed set of words.
    pub fn word<T>(
        &self,
        key: &str,
        parse: fn(&str) -> Option<T>,
        words: &[&str],
    ) -> Result<Option<T>, UserError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(UserError::new(format!("{}: \"{text}\" is not one of them", self.place(key)))
                .hint(format!("write one of: {}", words.join(", ")))),
        }
    }

    /// One of a recipe's choices.
    pub fn choice<T: Word>(&self, key: &str) -> Result<Option<T>, UserError> {
        self.word(key, T::from_word, T::WORDS)
    }

    /// A number inside a range.
    pub fn number(
        &self,
        key: &str,
        default: f64,
        ok: fn(f64) -> bool,
        range: &str,
    ) -> Result<f64, UserError> {
        let parse = |t: &str| {
            t.parse::<f64>()
                .map_err(|_| format!("`{t}` is not a number\nhint: write a number such as 0.1 or 1e-3"))
        };
        let value = self.parsed(key, parse)?.unwrap_or(default);
        if ok(value) {
            Ok(value)
        } else {
            Err(UserError::new(format!("{}: {value} is out of range", self.place(key)))
                .hint(format!("choose {range}")))
        }
    }

    /// A whole number of at least 1.
    pub fn whole(&self, key: &str, default: u64) -> Result<u64, UserError> {
        match self.parsed(key, parse_whole)?.unwrap_or(default) {
            0 => Err(UserError::new(format!("{}: must be at least 1", self.place(key)))
                .hint(format!("leave it out for {default}"))),
            value => Ok(value),
        }
    }

    /// A list of quantities.
    pub fn parsed_list<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>, UserError> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        let toml::Value::Array(items) = &entry.value else {
            return Err(self.wrong_type(key, "a list", &entry.value).hint(format!("write {key} = [ … ]")));
        };
        let one = |item: &toml::Value| {
            let text = quantity_text(item)
                .ok_or_else(|| self.wrong_type(key, "a list of numbers or strings", item))?;
            parse(&text).map_err(|e| UserError::new(format!("{}: {e}", self.place(key))))
        };
        items.iter().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// That a list says nothing twice: it would count for more, or for nothing.
    pub fn no_repeats<T: PartialEq + std::fmt::Display>(
        &self,
        key: &str,
        values: &[T],
    ) -> Result<(), UserError> {
        match values.iter().enumerate().find(|(i, v)| values[..*i].contains(v)) {
            None => Ok(()),
            Some((_, twice)) => Err(UserError::new(format!("{}: {twice} is listed twice", self.place(key)))
                .hint("list each value once; for repeated runs, list more seeds")),
        }
    }
}

/// Source and key of `data.mix.<source>.<key>`.
fn source_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("data.mix.")?.split_once('.')
}

/// Whether a study may have this key.
fn is_known(vocabulary: &Vocabulary, key: &str) -> bool {
    let known = |key: &str| vocabulary.keys.contains(&key);
    match source_key(key) {
        Some((name, key)) => is_source_name(name) && known(&format!("data.mix.*.{key}")),
        None => known(key),
    }
}

fn is_source_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// The error for a key no study has, with the nearest one that exists.
fn unknown_key(vocabulary: &'static Vocabulary, place: &str, key: &str) -> UserError {
    let keys = vocabulary.keys;
    let of_source: Vec<&str> = keys.iter().filter_map(|k| k.strip_prefix("data.mix.*.")).collect();
    if let Some((name, wrong)) = source_key(key).filter(|_| !of_source.is_empty()) {
        let nearest = nearest(wrong, of_source.iter().copied()).unwrap_or("weight");
        return UserError::new(format!("{place}unknown key `{wrong}` of the source `{name}`"))
            .hint(format!("did you mean `{nearest}`? known: {}", of_source.join(", ")));
    }
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let bare = key.rsplit('.').next().unwrap_or(key);
    let elsewhere = keys.iter().find(|k| k.rsplit('.').next() == Some(bare));
    let message = format!("{place}unknown key `{key}`");
    if let Some(known) = elsewhere {
        return UserError::new(message).hint(format!("`{bare}` belongs elsewhere: did you mean `{known}`?"));
    }
    let sections = vocabulary.sections.iter().copied().filter(|_| section.is_empty());
    let in_section =
        keys.iter().copied().filter(|k| k.rsplit_once('.').map_or("", |(section, _)| section) == section);
    let candidate = nearest(key, sections.chain(in_section)).or_else(|| nearest(key, keys.iter().copied()));
    UserError::new(message).hint(match candidate {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("see {} for every key", vocabulary.example),
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes()[..byte.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

/// A value without its spans; whole numbers must fit 64 bits.
fn plain(value: &DeValue<'_>) -> Result<toml::Value, String> {
    Ok(match value {
        DeValue::String(s) => toml::Value::String(s.to_string()),
        DeValue::Integer(i) => toml::Value::Integer(
            i64::from_str_radix(&i.as_str().replace('_', ""), i.radix())
                .map_err(|_| format!("{} does not fit 64 bits", i.as_str()))?,
        ),
        DeValue::Float(f) => toml::Value::Float(
            f.as_str()
                .replace('_', "")
                .parse()
                .ok()
                .filter(|v: &f64| v.is_finite())
                .ok_or_else(|| format!("{} is not a finite number", f.as_str()))?,
        ),
        DeValue::Boolean(b) => toml::Value::Boolean(*b),
        DeValue::Datetime(d) => toml::Value::Datetime(*d),
        DeValue::Array(items) => {
            toml::Value::Array(items.iter().map(|i| plain(i.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(k, v)| Ok((k.get_ref().to_string(), plain(v.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

/// A number or string as text.
pub fn quantity_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(i) => Some(i.to_string()),
        toml::Value::Float(f) => Some(f.to_string()),
        _ => None,
    }
}

fn describe(value: &toml::Value) -> String {
    match value {
        toml::Value::String(s) => format!("the string \"{s}\""),
        toml::Value::Integer(i) => format!("the number {i}"),
        toml::Value::Float(f) => format!("the number {f}"),
        toml::Value::Boolean(b) => format!("{b}"),
        toml::Value::Datetime(d) => format!("the date {d}"),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
    }
}

fn describe_de(value: &DeValue<'_>) -> String {
    plain(value).map_or_else(|why| why, |v| describe(&v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, sets: &[&str], parts: &[&str]) {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let message = RawStudy::parse("s.toml", text, &sets).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
        assert!(message.contains("hint: "), "{message}");
    }

    #[test]
    fn unknown_keys_name_key_line_and_nearest() {
        check("[train]\n\ncontxt = 3", &[], &["s.toml:3", "`train.contxt`", "did you mean `train.context`"]);
        check("[train]\ntokens = 3", &[], &["s.toml:2", "`series.tokens`"]);
        check("nmae = 'x'", &[], &["s.toml:1", "`name`"]);
        check("[trian]\nlr = 1", &[], &["`trian`"]);
        check("", &["train.clp=1"], &["--set", "`train.clip`"]);
        check("", &["train.clip"], &["no `=`"]);
        check("[claims]\n'a = 1' = { low = 'l_n' }", &[], &["s.toml:2", "`low`", "`law`"]);
        check("train = 3", &[], &["should be a section"]);
        check("name = ", &[], &["s.toml:1"]);
        check("[data.mix]\na = { wieght = 1 }", &[], &["s.toml:2", "`wieght` of the source `a`", "`weight`"]);
        check("[data]\nmix = 3", &[], &["s.toml:2", "`data.mix` should be a table"]);
        check("[data.mix]\na = 'builtin'", &[], &["s.toml:2", "source `a` should be a table"]);
        check("[data.mix]\n'a:b' = { weight = 1 }", &[], &["s.toml:2", "cannot name a source"]);
        check("", &["data.mix.a.wieght=1"], &["--set", "`wieght`"]);
    }

    #[test]
    fn sources_keep_the_order_of_the_file_and_can_be_set() {
        let text = "[data.mix.z]\nweight = 1\n[data.mix]\nb = { weight = 2 }\n[data.mix.a]\nweight = 3";
        let raw = RawStudy::parse("s", text, &["data.mix.b.weight=5".into(), "data.mix.c.weight=1".into()]);
        let raw = raw.unwrap();
        assert_eq!(raw.mix, ["z", "b", "a", "c"]);
        assert_eq!(raw.quantity("data.mix.b.weight").unwrap().unwrap(), "5");
        assert_eq!(raw.place("data.mix.a.weight"), "s:6: `data.mix.a.weight`");
    }

    #[test]
    fn overrides_replace_and_keep_their_origin() {
        let raw = RawStudy::parse("s", "[train]\nlr = 1.0", &["train.lr=3e-3".into()]).unwrap();
        assert_eq!(raw.quantity("train.lr").unwrap().unwrap(), "0.003");
        assert_eq!(raw.entries["train.lr"].origin, Origin::Set);
        let raw =
            RawStudy::parse("s", "", &["series.tokens=12M".into(), "series.seeds=[1, 2]".into()]).unwrap();
        assert_eq!(raw.quantity("series.tokens").unwrap().unwrap(), "12M");
        assert_eq!(
            raw.parsed_list("series.seeds", isoflop_base::units::parse_whole).unwrap().unwrap(),
            [1, 2]
        );
    }

    #[test]
    fn wrong_types_say_what_was_found() {
        let raw =
            RawStudy::parse("s", "name = 3\n[train]\ncontext = [1]\n[series]\nmodels = 'x'", &[]).unwrap();
        for message in [
            raw.text("name").unwrap_err().to_string(),
            raw.quantity("train.context").unwrap_err().to_string(),
            raw.parsed_list("series.models", |t| t.parse::<isoflop_base::ModelShape>())
                .unwrap_err()
                .to_string(),
        ] {
            assert!(message.contains("should be") && message.contains("found"), "{message}");
        }
    }
}
