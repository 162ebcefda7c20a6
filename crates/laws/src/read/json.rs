//! JSON tables: one object per line, an array of objects, an object of columns, or an object around one of these.

use super::{Cell, Raw, cells};
use crate::LawError;
use serde_json::{Map, Value};

/// Most columns of a table.
const MOST_KEYS: usize = 4096;

/// Header and records.
pub(super) fn records(text: &str, name: &str) -> Result<(Vec<String>, Vec<Raw>), LawError> {
    let bad = |what: String| LawError::BadTable {
        what,
        hint: "expected one JSON object per line, one array of objects, or one object of columns".to_owned(),
    };
    let objects = match serde_json::from_str::<Value>(text) {
        Ok(whole) => of_document(whole),
        Err(e) if text.trim_start().starts_with('[') => {
            return Err(bad(format!("{name} is no JSON array: {e}")));
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

/// The records of a whole document, numbered from 1.
fn of_document(whole: Value) -> Vec<(usize, Object)> {
    let of_array =
        |items: Vec<Value>| items.into_iter().enumerate().map(|(i, v)| (i + 1, object(v))).collect();
    match whole {
        Value::Array(items) => of_array(items),
        Value::Object(map) => {
            let lists = |v: &Value| v.as_array().is_some_and(|a| a.iter().any(Value::is_object));
            if map.values().filter(|v| lists(v)).count() == 1 {
                let inner = map.into_iter().find(|(_, v)| lists(v));
                return match inner {
                    Some((_, Value::Array(items))) => of_array(items),
                    _ => Vec::new(),
                };
            }
            let length = map.values().next().and_then(Value::as_array).map(Vec::len);
            match length {
                Some(n)
                    if map.len() > 1 && map.values().all(|v| v.as_array().is_some_and(|a| a.len() == n)) =>
                {
                    (0..n)
                        .map(|i| {
                            let row = map.iter().map(|(k, v)| (k.clone(), v[i].clone())).collect();
                            (i + 1, object(Value::Object(row)))
                        })
                        .collect()
                }
                _ => vec![(1, object(Value::Object(map)))],
            }
        }
        other => vec![(1, object(other))],
    }
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
