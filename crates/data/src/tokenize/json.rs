//! Hugging Face `tokenizer.json`: byte-level BPE vocabularies, read and written.
//!
//! What would give other ids than we do is refused by name. What only adds tokens around a text (`post_processor`) or
//! looks for added tokens inside it is left out: ids are those of `encode(text, add_special_tokens=False)` for a text
//! without any.

use crate::error::DataError;
use crate::tokenize::Special;
use crate::tokenize::bpe::{Bpe, Vocabulary};
use crate::tokenize::merge::MAX_IDS;
use crate::tokenize::pattern::Pattern;
use crate::tokenizer::byte_symbols;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The parts of a `tokenizer.json` that decide on ids.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<PairText>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge: `"a b"`, or since `tokenizers` 0.20 `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum PairText {
    Joined(String),
    Apart(String, String),
}

/// A BPE from a `tokenizer.json`.
pub(crate) fn read(name: &str, file: &[u8]) -> Result<Bpe, DataError> {
    let error = |what: String, hint: &str| DataError::Tokenizer {
        name: name.to_owned(),
        what,
        hint: hint.to_owned(),
    };
    let other = "byte-level BPE is read (as of GPT-2, Llama 3, Qwen 2); encode with another program and give the \
                 token file";
    let document: Document = serde_json::from_slice(file).map_err(|e| {
        error(format!("is no tokenizer.json: {e}"), "save it with `tokenizer.save(\"tokenizer.json\")`")
    })?;
    let model = &document.model;
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(error(format!("has a {} model", model.kind.as_deref().unwrap_or_default()), other));
    }
    if model.dropout.is_some_and(|share| share > 0.0) {
        return Err(error("drops merges at random (`dropout`)".to_owned(), "set it to null in the file"));
    }
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if model.byte_fallback || affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        let what = "marks subwords or falls back to bytes, so it is not byte-level".to_owned();
        return Err(error(what, other));
    }
    if !is_nothing(&document.normalizer, "normalizers") {
        let what = format!("normalises text before it splits it ({})", kind(&document.normalizer));
        return Err(error(what, "set `normalizer` to null in the file if your text is normalised already"));
    }
    let pattern = pattern(&document.pre_tokenizer).map_err(|what| error(what, other))?;
    if !document.decoder.is_null() && kind(&document.decoder) != "ByteLevel" {
        return Err(error(format!("decodes by {}", kind(&document.decoder)), other));
    }
    let Value::Object(vocab) = &model.vocab else {
        return Err(error("has no `vocab` of symbols and ids".to_owned(), other));
    };
    let vocabulary = vocabulary(vocab, &document, pattern).map_err(|what| error(what, other))?;
    Bpe::new(name, vocabulary)
}

fn vocabulary(
    vocab: &Map<String, Value>,
    document: &Document,
    pattern: Pattern,
) -> Result<Vocabulary, String> {
    let byte_of: HashMap<char, u8> = byte_symbols().into_iter().zip(0..=255).collect();
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(vocab.len());
    let special = |id: u32| document.added_tokens.iter().any(|token| token.id == id);
    for (symbol, id) in vocab {
        let id =
            id.as_u64().filter(|&id| id < MAX_IDS as u64).ok_or_else(|| format!("has an id {id}"))? as u32;
        ids.insert(symbol, id);
        if special(id) {
            continue;
        }
        let bytes: Option<Vec<u8>> = symbol.chars().map(|c| byte_of.get(&c).copied()).collect();
        let bytes = bytes.ok_or_else(|| {
            format!("has the symbol {symbol:?}, which is not written in byte-level letters")
        })?;
        if tokens.len() <= id as usize {
            tokens.resize(id as usize + 1, Vec::new());
        }
        tokens[id as usize] = bytes;
    }
    let mut merges = Vec::with_capacity(document.model.merges.len());
    for (merge, number) in document.model.merges.iter().zip(1..) {
        let parts = match merge {
            PairText::Joined(text) => text.split_once(' '),
            PairText::Apart(left, right) => Some((left.as_str(), right.as_str())),
        };
        let found = parts.and_then(|(left, right)| {
            Some([*ids.get(left)?, *ids.get(right)?, *ids.get(format!("{left}{right}").as_str())?])
        });
        merges
            .push(found.ok_or_else(|| {
                format!("has a merge, number {number}, of symbols that are not in `vocab`")
            })?);
    }
    let special =
        document.added_tokens.iter().map(|token| Special { text: token.content.clone(), id: token.id });
    let special: Vec<Special> = special.collect();
    if let Some(token) = special.iter().find(|token| token.id as usize >= MAX_IDS) {
        return Err(format!("has an id {}", token.id));
    }
    Ok(Vocabulary { tokens, merges, special, pattern, whole_first: document.model.ignore_merges })
}

/// The pattern of a `pre_tokenizer`, or what it does that we do not.
fn pattern(pre_tokenizer: &Value) -> Result<Pattern, String> {
    let steps = match kind(pre_tokenizer) {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    let (byte_level, splits) = steps.split_last().ok_or("does not split text into pieces")?;
    if kind(byte_level) != "ByteLevel" {
        return Err(format!("splits text by {}", kind(byte_level)));
    }
    // `add_prefix_space` and `use_regex` are true where they are not given.
    if byte_level["add_prefix_space"].as_bool().unwrap_or(true) {
        return Err("puts a space before each text (`add_prefix_space`)".to_owned());
    }
    let by_regex = byte_level["use_regex"].as_bool().unwrap_or(true);
    match (splits, by_regex) {
        ([], true) => Ok(Pattern::Gpt2),
        ([], false) => Ok(Pattern::Whole),
        ([split], false) if kind(split) == "Split" => {
            // All of these patterns match every character, so that what is kept is the matches either way.
            let matches_kept = match split["behavior"].as_str() {
                Some("Isolated") => true,
                Some("Removed") => split["invert"] == true,
                _ => false,
            };
            let regex = split["pattern"]["Regex"].as_str().filter(|_| matches_kept);
            let known = regex.and_then(Pattern::of_regex);
            known.ok_or_else(|| format!("splits text by a pattern that is not known: {}", split["pattern"]))
        }
        _ => {
            let kinds: Vec<&str> = steps.iter().map(kind).collect();
            Err(format!("splits text in {} steps ({})", steps.len(), kinds.join(", ")))
        }
    }
}

/// A part's `type`.
fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or("nothing")
}

/// Whether a part is absent, or a sequence of no parts.
fn is_nothing(part: &Value, parts: &str) -> bool {
    part.is_null() || kind(part) == "Sequence" && part[parts].as_array().is_some_and(Vec::is_empty)
}

/// The `tokenizer.json` of a vocabulary.
pub(crate) fn write(vocabulary: &Vocabulary) -> String {
    let symbols = byte_symbols();
    let symbol = |id: u32| -> String {
        vocabulary.tokens[id as usize].iter().map(|&byte| symbols[usize::from(byte)]).collect()
    };
    let ids = (0u32..).zip(&vocabulary.tokens).filter(|(_, token)| !token.is_empty());
    let mut vocab: Map<String, Value> = ids.map(|(id, _)| (symbol(id), json!(id))).collect();
    vocab.extend(vocabulary.special.iter().map(|special| (special.text.clone(), json!(special.id))));
    let merges: Vec<String> = vocabulary
        .merges
        .iter()
        .map(|&[left, right, _]| format!("{} {}", symbol(left), symbol(right)))
        .collect();
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let pre_tokenizer = match vocabulary.pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Whole => byte_level(false),
        other => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": other.regex()}, "behavior": "Isolated", "invert": false},
            byte_level(false)
        ]}),
    };
    let added = |special: &Special| {
        json!({
            "id": special.id, "content": special.text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let added: Vec<Value> = vocabulary.special.iter().map(added).collect();
    document(&added, &pre_tokenizer, &byte_level(true), vocabulary.whole_first, &vocab, &merges)
}

/// A `tokenizer.json` of a byte-level BPE.
pub(crate) fn document(
    added: &[Value],
    pre_tokenizer: &Value,
    decoder: &Value,
    whole_first: bool,
    vocab: &Map<String, Value>,
    merges: &[String],
) -> String {
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": whole_first,
            "vocab": vocab,
            "merges": merges
        }
    });
    serde_json::to_string_pretty(&document).expect("a JSON value can be written")
}
