//! JSON tables: one object per line, an array of objects, an object of columns, or an object around one of these.

use super::{Cell, Raw, cells};
use crate::LawError;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Most columns of a table.
const MOST_KEYS: usize = 4096;

/// Header and records.
pub(super) fn records(text: &str, name: &str) -> Result<(Vec<String>, Vec<Raw>), LawError> {
    let bad = |what: String| LawError::BadTable {
        what,
        hint: "expected one JSON object per line, one array of objects, or one object of columns".to_owned(),
    };
    let quoted = bare_words_quoted(text);
    let text = quoted.as_ref();
    let objects = match serde_json::from_str::<Value>(text) {
        Ok(whole) => of_document(whole),
        Err(e) if text.trim_start().starts_with('[') => {
            let repr = text.trim_start().trim_start_matches('[').trim_start().starts_with("{'");
            let why = if repr {
                "its quotes are single, as Python prints a list; json.dump writes JSON".to_owned()
            } else {
                e.to_string()
            };
            return Err(bad(format!("{name} is no JSON array: {why}")));
        }
        Err(_) => text
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim().is_empty())
            .map(|(i, line)| {
                let parsed = serde_json::from_str::<Value>(line)
                    .map_err(|e| format!("not JSON ({e})"))
                    .and_then(object);
                (i + 1, parsed)
            })
            .collect(),
    };
    let mut header: Vec<String> = Vec::new();
    for map in objects.iter().filter_map(|(_, o)| o.as_ref().ok()) {
        for key in map.keys() {
            if !header.contains(key) {
                header.push(key.clone());
            }
        }
        if header.len() > MOST_KEYS {
            return Err(bad(format!("{name} has more than {MOST_KEYS} different keys")));
        }
    }
    if header.is_empty() {
        let why = objects.iter().find_map(|(i, o)| o.as_ref().err().map(|e| format!("line {i}: {e}")));
        return Err(bad(format!("{name} holds no JSON object ({})", why.unwrap_or_default())));
    }
    let raws = objects
        .into_iter()
        .map(|(line, map)| Raw {
            line,
            cells: match map {
                Ok(map) => header.iter().map(|h| Cell::of_json(map.get(h))).collect(),
                Err(why) => vec![Cell::Broken(why)],
            },
        })
        .collect();
    Ok((header, raws))
}

/// An object, or why it is none.
type Object = Result<Map<String, Value>, String>;

/// The text with `NaN`, `Infinity` and `-Infinity` in quotes: Python's `json` writes them bare, and JSON has no such
/// words.
fn bare_words_quoted(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !in_string
            && let Some(word) = ["-Infinity", "Infinity", "NaN"].iter().find(|w| rest.starts_with(**w))
        {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        // A string ends at its line in JSON Lines that a killed writer left half a record in.
        in_string = c != '\n' && (in_string != (c == '"' && !escaped));
        escaped = in_string && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out.into()
}

/// The records of a whole document, numbered from 1.
fn of_document(whole: Value) -> Vec<(usize, Object)> {
    match whole {
        Value::Array(items) => numbered(items),
        Value::Object(map) => {
            if let Some(rows) = by_columns(&map) {
                return numbered(rows);
            }
            let lists = |v: &Value| v.as_array().is_some_and(|a| a.iter().any(Value::is_object));
            if map.values().filter(|v| lists(v)).count() == 1 {
                return match map.into_iter().find(|(_, v)| lists(v)) {
                    Some((_, Value::Array(items))) => numbered(items),
                    _ => Vec::new(),
                };
            }
            vec![(1, object(Value::Object(map)))]
        }
        other => vec![(1, object(other))],
    }
}

fn numbered(items: Vec<Value>) -> Vec<(usize, Object)> {
    items.into_iter().enumerate().map(|(i, v)| (i + 1, object(v))).collect()
}

/// The rows of a document that holds columns, in any of these shapes:
/// `{"a": [1, 2], "b": [3, 4]}`; pandas' `{"a": {"0": 1, "1": 2}, …}`, its transpose `{"0": {"a": 1, …}, …}`, and
/// `{"columns": ["a", "b"], "data": [[1, 3], [2, 4]]}`; polars' `{"columns": [{"name": "a", "values": [1, 2]}, …]}`.
fn by_columns(map: &Map<String, Value>) -> Option<Vec<Value>> {
    let row = |cells: Vec<(String, Value)>| Value::Object(cells.into_iter().collect());
    if let (Some(Value::Array(names)), Some(Value::Array(data))) = (map.get("columns"), map.get("data")) {
        let names: Vec<String> =
            names.iter().map(|n| n.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        let cells = |r: &Value| r.as_array().filter(|r| r.len() == names.len()).cloned();
        return data.iter().map(|r| Some(row(names.iter().cloned().zip(cells(r)?).collect()))).collect();
    }
    if let (1, Some(Value::Array(columns))) = (map.len(), map.get("columns")) {
        let named = |c: &Value| Some((c["name"].as_str()?.to_owned(), c["values"].as_array()?.clone()));
        let columns: Vec<(String, Vec<Value>)> = columns.iter().map(named).collect::<Option<_>>()?;
        return transposed(&columns);
    }
    if map.len() > 1 && map.values().all(Value::is_array) {
        let columns: Vec<_> =
            map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_array()?.clone()))).collect();
        return transposed(&columns);
    }
    // Objects of plain values under the same keys: an index of rows, or columns of an index.
    let inner: Vec<(&String, &Map<String, Value>)> =
        map.iter().map(|(k, v)| Some((k, v.as_object()?))).collect::<Option<_>>()?;
    let keys: Vec<&String> = inner.first()?.1.keys().collect();
    let plain = |m: &Map<String, Value>| {
        m.keys().eq(keys.iter().copied()) && m.values().all(|v| !v.is_object() && !v.is_array())
    };
    if inner.len() < 2 || !inner.iter().all(|(_, m)| plain(m)) {
        return None;
    }
    let whole = |keys: &[&String]| keys.iter().all(|k| k.parse::<u64>().is_ok());
    if whole(&inner.iter().map(|(k, _)| *k).collect::<Vec<_>>()) {
        let mut rows: Vec<(u64, Value)> =
            inner.iter().map(|(k, m)| (k.parse().unwrap_or(0), Value::Object((*m).clone()))).collect();
        rows.sort_by_key(|(k, _)| *k);
        return Some(rows.into_iter().map(|(_, r)| r).collect());
    }
    if whole(&keys) {
        let mut order = keys.clone();
        order.sort_by_key(|k| k.parse::<u64>().unwrap_or(0));
        let cells = |k: &String| inner.iter().map(|(name, m)| ((*name).clone(), m[k].clone())).collect();
        return Some(order.into_iter().map(|k| row(cells(k))).collect());
    }
    None
}

/// Rows of columns of one length.
fn transposed(columns: &[(String, Vec<Value>)]) -> Option<Vec<Value>> {
    let rows = columns.first()?.1.len();
    let even = columns.iter().all(|(_, values)| values.len() == rows);
    let row = |i: usize| columns.iter().map(|(name, values)| (name.clone(), values[i].clone())).collect();
    even.then(|| (0..rows).map(|i| Value::Object(row(i))).collect())
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(map) => {
            let mut flat = Map::new();
            flatten("", map, 0, &mut flat);
            Ok(flat)
        }
        other => Err(format!("not an object but {}", cells::short(&other.to_string()))),
    }
}

/// Nested objects become dotted keys, to a depth no table has.
fn flatten(prefix: &str, map: Map<String, Value>, depth: usize, out: &mut Map<String, Value>) {
    for (key, value) in map {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) if depth < 8 => flatten(&name, inner, depth + 1, out),
            other => {
                out.insert(name, other);
            }
        }
    }
}
