//! Whether two specifications are the same run.

use serde_json::Value;

/// Keys whose values describe a machine or a moment, not a run.
const VOLATILE: [&str; 2] = ["measured", "volatile"];

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

/// All differences in the order of `left`'s keys, then those that only `right` has. Keys named `measured` or
/// `volatile` and the paths in `ignored` (`train.threads`) are skipped; numbers compare by value.
pub fn differences(left: &Value, right: &Value, ignored: &[&str]) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(Some(left), Some(right), "", ignored, &mut found);
    found
}

fn compare(
    left: Option<&Value>,
    right: Option<&Value>,
    path: &str,
    ignored: &[&str],
    found: &mut Vec<Difference>,
) {
    if ignored.contains(&path) {
        return;
    }
    match (left, right) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for key in keys.filter(|k| !VOLATILE.contains(&k.as_str())) {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(a.get(key), b.get(key), &inner, ignored, found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                compare(Some(x), Some(y), &format!("{path}[{i}]"), ignored, found);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(left: Value, right: Value, ignored: &[&str], expected: &[(&str, &str, &str)]) {
        let found: Vec<_> =
            differences(&left, &right, ignored).into_iter().map(|d| (d.key, d.left, d.right)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(k, l, r)| (k.to_string(), l.to_string(), r.to_string())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn differences_are_named_by_their_path() {
        check(json!({"a": 1, "b": [1, 2]}), json!({"b": [1, 2.0], "a": 1.0}), &[], &[]);
        check(
            json!({"train": {"lr": 0.001, "seed": 1}}),
            json!({"train": {"lr": 0.002, "seed": 1}}),
            &[],
            &[("train.lr", "0.001", "0.002")],
        );
        check(
            json!({"m": [{"d": 1}, {"d": 2}]}),
            json!({"m": [{"d": 1}, {"d": 3}]}),
            &[],
            &[("m[1].d", "2", "3")],
        );
        check(json!({"a": 1}), json!({"b": "x"}), &[], &[("a", "1", "nothing"), ("b", "nothing", "\"x\"")]);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), &[], &[("a", "[1]", "[1,2]")]);
    }

    #[test]
    fn volatile_and_ignored_keys_do_not_count() {
        check(
            json!({"measured": {"gflops": 1}, "x": {"volatile": 1, "y": 2}, "train": {"threads": 1}}),
            json!({"measured": {"gflops": 9}, "x": {"volatile": 7, "y": 2}, "train": {"threads": 2}}),
            &["train.threads"],
            &[],
        );
    }
}
