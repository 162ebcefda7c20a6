//! Names of runs and checkpoints, and the nearest ones to a mistyped one.

use crate::StoreError;

/// Accepts a name that is a plain file name on every system.
pub(crate) fn check(what: &'static str, name: &str) -> Result<(), StoreError> {
    let why = match name.chars().next() {
        None => "it is empty",
        Some(_) if name.len() > 128 => "it is too long",
        Some(c) if !c.is_ascii_alphanumeric() => "it begins with neither a letter nor a digit",
        Some(_) if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) => {
            "it holds another character"
        }
        Some(_) if name.ends_with('.') => "it ends with a dot",
        Some(_) => return Ok(()),
    };
    Err(StoreError::BadName { what, name: name.to_owned(), why })
}

/// Up to three of `known` that look like `name`, nearest first: those that contain it, then those within a third of
/// its length in edits.
pub(crate) fn nearest(name: &str, known: &[String]) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut scored: Vec<(usize, &String)> = known
        .iter()
        .filter_map(|k| {
            let distance = edits(&lower, &k.to_lowercase());
            let contains = !name.is_empty() && k.to_lowercase().contains(&lower);
            (contains || distance <= name.len().div_ceil(3).max(2)).then_some((distance, k))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, k)| k.clone()).collect()
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_file_names() {
        for good in ["L4-d128-h4-s1", "a", "step_00001.5"] {
            assert!(check("run id", good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".", "..", "a/b", "-x", "a b", "ä", "a.", long.as_str(), "a\0b"] {
            assert!(check("run id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_names_come_first() {
        let known: Vec<String> =
            ["L2-d32-h2-s1", "L4-d128-h4-s1", "L4-d128-h4-s2", "zebra"].map(String::from).to_vec();
        assert_eq!(nearest("L4-d128-h4-s1x", &known)[0], "L4-d128-h4-s1");
        assert_eq!(nearest("l4-d128", &known), ["L4-d128-h4-s1", "L4-d128-h4-s2"]);
        assert!(nearest("quite-something-else", &known).is_empty());
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
