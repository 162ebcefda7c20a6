//! Whether two specifications are the same run.

use isoflop_base::ModelShape;
use serde_json::Value;

/// A key at which two specifications differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path, e.g. `train.lr` or `models[1].d`.
    pub key: String,
    /// The first specification's value as JSON; `nothing` if absent.
    pub left: String,
    /// The second's.
    pub right: String,
}

/// All differences in the order of `left`'s keys, then those that only `right` has. Numbers compare by value.
pub fn differences(left: &Value, right: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(Some(left), Some(right), "", &mut found);
    found
}

fn compare(left: Option<&Value>, right: Option<&Value>, path: &str, found: &mut Vec<Difference>) {
    match (left, right) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(a.get(key), b.get(key), &inner, found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                compare(Some(x), Some(y), &format!("{path}[{i}]"), found);
            }
        }
        (Some(Value::Number(a)), Some(Value::Number(b))) if a == b || a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => {
            let words = |v: Option<&Value>| v.map_or_else(|| "nothing".to_owned(), Value::to_string);
            found.push(Difference { key: path.to_owned(), left: words(a), right: words(b) });
        }
    }
}

/// The first value in a specification, outer ones before inner ones, that stands under one of these keys and that
/// `read` understands.
pub(crate) fn find<T>(spec: &Value, keys: &[&str], read: fn(&Value) -> Option<T>) -> Option<T> {
    let fields = spec.as_object()?;
    let own = keys.iter().find_map(|key| read(fields.get(*key)?));
    own.or_else(|| fields.values().find_map(|inner| find(inner, keys, read)))
}

/// The shape of the model in a specification.
pub(crate) fn shape(spec: &Value) -> Option<ModelShape> {
    find(spec, &["model", "shape"], |value| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(left: Value, right: Value, expected: &[(&str, &str, &str)]) {
        let found: Vec<_> =
            differences(&left, &right).into_iter().map(|d| (d.key, d.left, d.right)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(k, l, r)| (k.to_string(), l.to_string(), r.to_string())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn differences_are_named_by_their_path() {
        check(json!({"a": 1, "b": [1, 2]}), json!({"b": [1, 2.0], "a": 1.0}), &[]);
        check(
            json!({"train": {"lr": 0.001, "seed": 1}}),
            json!({"train": {"lr": 0.002, "seed": 1}}),
            &[("train.lr", "0.001", "0.002")],
        );
        check(
            json!({"m": [{"d": 1}, {"d": 2}]}),
            json!({"m": [{"d": 1}, {"d": 3}]}),
            &[("m[1].d", "2", "3")],
        );
        check(json!({"a": 1}), json!({"b": "x"}), &[("a", "1", "nothing"), ("b", "nothing", "\"x\"")]);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), &[("a", "[1]", "[1,2]")]);
    }
}
