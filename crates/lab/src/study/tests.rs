//! Studies as people write them: a number means what it says in every notation, in the file and in `--set`, and what
//! cannot be meant is an error that names its key. Never a panic, never another number.

use super::raw::{Origin, RawStudy};
use super::resolve::{Machine, open_corpus};
use super::vocabulary::KEYS;
use crate::fewshot::study::asked;
use crate::fewshot::vocabulary::VOCABULARY;
use crate::open::resolve;
use isoflop_base::Precision;
use isoflop_base::study::Study;
use isoflop_data::Corpus;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::OnceLock;

fn machine() -> Machine {
    Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None }
}

/// A study of the built-in text with other lines than usual, by dotted key.
fn text(changes: &[(&str, &str)]) -> String {
    let usual = [
        ("name", "\"t\""),
        ("data.corpus", "\"builtin\""),
        ("series.models", "[\"L1-d8-h1\"]"),
        ("series.tokens", "64000"),
        ("train.context", "16"),
        ("train.batch_tokens", "64"),
    ];
    let mut lines: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (key, value) in usual.iter().chain(changes) {
        lines.insert(key.rsplit_once('.').unwrap_or(("", key)), value);
    }
    let (mut out, mut section) = (String::new(), "");
    for ((of, key), value) in lines {
        if of != section {
            out += &format!("[{of}]\n");
            section = of;
        }
        out += &format!("{key} = {value}\n");
    }
    out
}

fn resolved(text: &str, sets: &[String]) -> Result<Study, String> {
    let raw = RawStudy::parse("t.toml", text, sets).map_err(|e| e.to_string())?;
    // The usual text is opened once: thousands of studies are read here.
    static USUAL: OnceLock<Corpus> = OnceLock::new();
    let of_data: Vec<&String> = raw.entries.keys().filter(|key| key.starts_with("data.")).collect();
    let builtin = raw.text("data.corpus").is_ok_and(|name| name.as_deref() == Some("builtin"));
    if of_data == ["data.corpus"] && builtin && raw.text("kind").is_ok_and(|kind| kind.is_none()) {
        let corpus = USUAL.get_or_init(|| open_corpus(&raw).unwrap());
        return resolve(&raw, corpus, &machine()).map_err(|e| e.to_string());
    }
    let corpus = open_corpus(&raw).map_err(|e| e.to_string())?;
    resolve(&raw, &corpus, &machine()).map_err(|e| e.to_string())
}

/// Numbers that a study has one of, what each becomes, and the unit its values come in.
type Number = (&'static str, fn(&Study) -> f64);
const NUMBERS: &[Number] = &[
    ("series.tokens", |s| s.runs[0].tokens_at(s.runs[0].end()) as f64),
    ("train.context", |s| s.runs[0].gpt().context as f64),
    ("train.batch_tokens", |s| s.runs[0].train.batch_tokens as f64),
    ("train.micro_batch", |s| s.runs[0].train.micro_batch as f64),
    ("train.eval_tokens", |s| s.runs[0].train.eval_tokens as f64),
    ("train.curve_tokens", |s| s.runs[0].train.curve_tokens as f64),
    ("train.threads", |s| s.machine.threads as f64),
    ("train.checkpoint_every", |s| s.machine.checkpoint_every_s),
    ("train.lr", |s| s.runs[0].train.lr),
    ("train.min_lr", |s| s.runs[0].train.min_lr),
    ("train.beta1", |s| s.runs[0].train.beta1),
    ("train.beta2", |s| s.runs[0].train.beta2),
    ("train.eps", |s| s.runs[0].train.eps),
    ("train.weight_decay", |s| s.runs[0].train.weight_decay),
    ("train.clip", |s| s.runs[0].train.clip),
    ("train.decay", |s| s.runs[0].train.decay),
    ("train.eval_every", |s| s.runs[0].train.eval_every),
];

/// What nobody can mean for any of them, as TOML.
const NONSENSE: &[&str] = &[
    "-1",
    "-0.5",
    "nan",
    "+inf",
    "-inf",
    "1e400",
    "\"NaN\"",
    "\"inf\"",
    "\"-5M\"",
    "\"twelve\"",
    "\"\"",
    "\"12Q\"",
    "\"1e400\"",
    "\"١٢\"",
    "\"0x10\"",
    "\"1,5\"",
    "\"5 %%\"",
    "true",
    "[1]",
    "[]",
    "{ a = 1 }",
    "1979-05-27",
    "18446744073709551616",
    "-9223372036854775809",
    "9223372036854775807",
    "1e30",
    "\"20000000000000B\"",
    "\"99999999999999999999999999\"",
];

/// A value as TOML from its text on the command line.
fn set(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

fn named(message: &str, key: &str) -> bool {
    let mentions = message.contains(&format!("`{key}`")) || message.contains(&format!("--set {key}:"));
    mentions && message.contains("\nhint: ")
}

#[test]
fn nonsense_is_an_error_that_names_its_key() {
    for (key, of) in NUMBERS {
        for value in NONSENSE {
            // Seconds and norms may be as large as one likes.
            let large = value.parse::<f64>().is_ok_and(|v| v > 1e6 && v.is_finite());
            let free = ["train.checkpoint_every", "train.clip", "train.lr"].contains(key) && large
                || *value == "\"99999999999999999999999999\"";
            for outcome in [resolved(&text(&[(key, value)]), &[]), resolved(&text(&[]), &[set(key, value)])] {
                match outcome {
                    Err(message) => {
                        // A length is also wrong by what the models make of it; a context by its batch.
                        let other = message.contains("`train.batch_tokens`") && *key == "train.context";
                        assert!(named(&message, key) || other, "{key} = {value}: {message}");
                    }
                    Ok(study) => {
                        let list = value.starts_with('[') && *key == "series.tokens";
                        let given: f64 = value.trim_matches('"').parse().unwrap_or(f64::NAN);
                        let text_of_tokens = *key == "train.eval_tokens" || *key == "train.curve_tokens";
                        assert!(
                            free && of(&study) == given || list || text_of_tokens && given > of(&study),
                            "{key} = {value} became {}",
                            of(&study)
                        );
                    }
                }
            }
        }
    }
}

/// The same whole number in the notations of TOML and of this project.
fn notations(value: u64) -> Vec<String> {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(d);
    }
    let shifted = |places: usize| {
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, part) = padded.split_at(padded.len() - places);
        let part = part.trim_end_matches('0');
        if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
    };
    vec![
        digits.clone(),
        grouped.clone(),
        format!("{value:#x}"),
        format!("{value:#o}"),
        format!("{value:#b}"),
        format!("{value}.0"),
        format!("{}e3", shifted(3)),
        format!("\"{digits}\""),
        format!("\"{grouped}\""),
        format!("\"{}k\"", shifted(3)),
        format!("\"{} M\"", shifted(6)),
        format!("\"{}B\"", shifted(9)),
        format!("\"{}e6\"", shifted(6)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_notation_is_the_same_number(batches in 10_u64..5_000_000_000, sequences in 1_u64..5000) {
        let batch = sequences * 16;
        let tokens = batches * batch;
        for (tokens, batch) in notations(tokens).iter().zip(notations(batch)) {
            let changes = [("series.tokens", tokens.as_str()), ("train.batch_tokens", batch.as_str())];
            let sets: Vec<String> = changes.iter().map(|(k, v)| set(k, v)).collect();
            for outcome in [resolved(&text(&changes), &[]), resolved(&text(&[]), &sets)] {
                let study = outcome.map_err(|e| TestCaseError::fail(format!("{changes:?}: {e}")))?;
                let run = &study.runs[0];
                prop_assert_eq!((run.end(), run.train.batch_tokens), (batches, sequences * 16), "{:?}", changes);
            }
        }
    }

    #[test]
    fn shares_and_rates_are_what_is_written(share in 0.0001_f64..0.9, percent in 1_u32..90) {
        for key in ["train.min_lr", "train.beta1", "train.decay", "train.weight_decay", "train.lr", "train.clip"] {
            let of = NUMBERS.iter().find(|(k, _)| *k == key).unwrap().1;
            for value in [format!("{share:?}"), format!("{share:e}"), format!("\"{share:?}\"")] {
                let study = resolved(&text(&[(key, &value)]), &[]);
                let study = study.map_err(|e| TestCaseError::fail(format!("{key} = {value}: {e}")))?;
                prop_assert_eq!(of(&study), share, "{} = {}", key, value);
            }
        }
        let study = resolved(&text(&[("train.decay", &format!("\"{percent}%\""))]), &[]).unwrap();
        prop_assert_eq!(study.runs[0].train.decay, f64::from(percent) / 100.0);
    }

    /// Any bytes after any key: what is read is what was written, or the error says which key it is.
    #[test]
    fn no_value_makes_it_panic(which in any::<proptest::sample::Index>(), value in ".{0,24}", quoted: bool) {
        let key = which.get(KEYS).replace('*', "books");
        let value = if quoted { format!("{value:?}") } else { value };
        let _ = resolved(&text(&[(&key, &value)]), &[]);
        let sets = [set(&key, &value)];
        if let Err(message) = resolved(&text(&[]), &sets) {
            prop_assert!(message.contains("hint: "), "{key} = {value}: {message}");
        }
        let key: &&str = which.get(VOCABULARY.keys);
        let fewshot = [set(key, &value)];
        let outcome = RawStudy::parse_as(&VOCABULARY, "f.toml", "kind = \"fewshot\"\n", &fewshot)
            .and_then(|raw| asked(&raw, &machine()).map(|_| ()));
        if let Err(error) = outcome {
            prop_assert!(error.to_string().contains("hint: "), "{fewshot:?}: {error}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line(which in any::<proptest::sample::Index>(), at in any::<usize>()) {
        let key = which.get(NUMBERS).0;
        let (section, name) = key.split_once('.').unwrap();
        let at = at % name.len();
        let wrong = format!("{section}.{}{}", &name[..at], &name[at + 1..]);
        prop_assume!(!KEYS.contains(&wrong.as_str()) && name.len() > 2);
        let text = text(&[(&wrong, "1")]);
        let line = text.lines().position(|l| l == format!("{} = 1", &wrong[section.len() + 1..])).unwrap() + 1;
        let message = resolved(&text, &[]).unwrap_err();
        let place = format!("t.toml:{line}: unknown key `{wrong}`");
        prop_assert!(message.contains(&place) && message.contains("hint: did you mean"), "{message}");
    }
}

/// As of language models on a processor, and f32 alone on cards.
#[test]
fn few_shot_studies_multiply_in_what_is_faster() {
    let of = |bf16: bool, keys: &[(&str, &str)]| {
        let sets: Vec<_> = keys.iter().map(|(key, value)| set(key, &format!("\"{value}\""))).collect();
        let machine = Machine { bf16, ..machine() };
        RawStudy::parse_as(&VOCABULARY, "f.toml", "kind = \"fewshot\"\n", &sets)
            .and_then(|raw| asked(&raw, &machine).map(|asked| asked.precision))
            .map_err(|e| e.to_string())
    };
    assert_eq!(of(true, &[]), Ok(Precision::Bf16));
    assert_eq!(of(false, &[]), Ok(Precision::F32));
    assert_eq!(of(true, &[("train.precision", "f32")]), Ok(Precision::F32));
    assert!(of(false, &[("train.precision", "bf16")]).unwrap_err().contains("train.precision"));
    let card = ("train.device", "RTX 4080");
    assert_eq!(of(true, &[card]), Ok(Precision::F32));
    let refused = of(true, &[card, ("train.precision", "bf16")]).unwrap_err();
    assert!(refused.contains("in f32, not in bf16") && refused.contains("hint: "), "{refused}");
}

#[test]
fn every_numeric_key_of_few_shot_studies_refuses_nonsense() {
    let mut checked = 0;
    for key in VOCABULARY.keys {
        let parse = |value: &str| {
            RawStudy::parse_as(&VOCABULARY, "f.toml", "kind = \"fewshot\"\n", &[set(key, value)])
                .and_then(|raw| asked(&raw, &machine()).map(|_| raw))
        };
        // A key is numeric if 2 or 0.5 goes through and a word does not.
        let numeric = ["2", "0.5"].iter().any(|v| parse(v).is_ok()) && parse("\"no such word\"").is_err();
        if !numeric {
            continue;
        }
        checked += 1;
        for value in ["-1", "nan", "1e400", "\"-5M\"", "true", "18446744073709551616", "{ a = 1 }"] {
            let message = parse(value).map(|raw| format!("{:?}", raw.entries)).unwrap_err().to_string();
            assert!(named(&message, key), "{key} = {value}: {message}");
        }
    }
    assert!(checked >= 15, "{checked} numeric keys");
}

#[test]
fn lengths_in_a_list_all_count() {
    let changes = [("series.tokens_per_param", "[20, 40]"), ("series.tokens", "64000")];
    let one_amount = text(&changes).replace("tokens = 64000\n", "");
    let study = resolved(&one_amount, &[]).unwrap();
    let params = study.runs[0].gpt().shape.params() as f64;
    let expected: Vec<u64> = [20.0, 40.0].map(|ratio| (ratio * params / 64.0) as u64).to_vec();
    assert_eq!(study.runs[0].ends, expected);
}

#[test]
fn a_warm_up_longer_than_its_run_is_refused() {
    for schedule in ["\"cosine\"", "\"wsd\""] {
        let changes = [("train.schedule", schedule), ("train.warmup", "\"64M\"")];
        let message = resolved(&text(&changes), &[]).unwrap_err();
        assert!(named(&message, "train.warmup"), "{schedule}: {message}");
    }
}

#[test]
fn a_value_set_twice_keeps_the_last_and_where_it_came_from() {
    let sets = [set("train.lr", "1"), set("train.lr", "2e-3")];
    let raw = RawStudy::parse("t.toml", &text(&[("train.lr", "5")]), &sets).unwrap();
    let entry = &raw.entries["train.lr"];
    assert_eq!((entry.value.as_float(), &entry.origin), (Some(2e-3), &Origin::Set));
}
