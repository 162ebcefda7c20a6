//! How far a preparation is, in a file that is replaced at once: what a process that was killed is gone on from.

use super::shards::Stream;
use crate::error::UserError;
use isoflop_data::documents::{Position, ProblemKind};
use isoflop_store::JobFolder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The file.
pub const UNFINISHED: &str = "unfinished.json";
const SCHEMA: &str = "isoflop.prepare.unfinished/1";

/// Everything that is not in the files of the shards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Progress {
    schema: String,
    /// What determines the bytes.
    pub identity: Value,
    /// The source that comes next, and where it is gone on with.
    pub source: usize,
    /// Where in it.
    pub position: Position,
    /// What each source came to, as far as they were begun.
    pub sources: Vec<SourceTally>,
    /// To train on.
    pub train: Stream,
    /// Held out.
    pub val: Stream,
    /// Lengths of the lists, bytes.
    pub problems_bytes: u64,
    /// Of removed copies.
    pub removed_bytes: u64,
    /// Of documents seen.
    pub seen_bytes: u64,
}

/// What a source came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceTally {
    /// Documents in it, those that were removed too.
    pub documents: u64,
    /// Bytes of text in them.
    pub text_bytes: u64,
    /// Documents without text.
    pub empty: u64,
    /// Documents that were removed as copies.
    pub removed: u64,
    /// What could not be used, by kind.
    pub problems: BTreeMap<ProblemKind, u64>,
    /// SHA-256 over the digests of its documents, each behind what came before it.
    pub digest: String,
}

impl Progress {
    /// At the beginning.
    pub fn new(identity: Value) -> Self {
        Self { schema: SCHEMA.to_owned(), identity, ..Self::default() }
    }

    /// What was left in a folder, if anything was.
    ///
    /// # Errors
    /// A [`UserError`] where it is damaged, or of a preparation with other settings: the first that differs is named.
    pub fn find(folder: &JobFolder, identity: &Value) -> anyhow::Result<Option<Self>> {
        let path = folder.path().join(UNFINISHED);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let damaged = |what: String| {
            UserError::new(format!("{}: {what}", path.display()))
                .hint("begin again with --restart, which throws away what was done")
        };
        let found: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if found.schema != SCHEMA {
            return Err(damaged(format!("is of another version, {}", found.schema)).into());
        }
        if let Some(words) = first_difference(&found.identity, identity) {
            return Err(UserError::new(format!(
                "{} holds a preparation that was not finished, with other settings: {words}",
                folder.path().display()
            ))
            .hint("give the same settings to go on with it, --restart to throw it away, or another --out")
            .into());
        }
        Ok(Some(found))
    }

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, folder: &JobFolder) -> anyhow::Result<()> {
        Ok(folder.replace(UNFINISHED, &serde_json::to_vec(self)?)?)
    }
}

/// The first key in which two identities differ, in words.
pub(super) fn first_difference(there: &Value, here: &Value) -> Option<String> {
    let keys = here.as_object()?.keys();
    for key in keys {
        let (there, here) = (&there[key], &here[key]);
        if there == here {
            continue;
        }
        return Some(match (there.as_array(), here.as_array()) {
            (Some(there), Some(here)) if key == "sources" => {
                let changed = there.iter().zip(here).find(|(a, b)| a != b);
                match changed {
                    Some((a, b)) if a[0] == b[0] => format!("{} has changed since", b[0]),
                    Some((a, b)) => format!("source {} there, {} here", a[0], b[0]),
                    None => format!("{} sources there, {} here", there.len(), here.len()),
                }
            }
            _ => format!("{key} is {there} there and {here} here"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::first_difference;
    use serde_json::json;

    #[test]
    fn what_differs_is_named() {
        let there = json!({"sources": [["a", "text", 3, 1]], "dtype": "u16"});
        let check = |here, expected: Option<&str>| {
            assert_eq!(first_difference(&there, &here).as_deref(), expected);
        };
        check(there.clone(), None);
        check(json!({"sources": [["a", "text", 4, 1]], "dtype": "u16"}), Some("\"a\" has changed since"));
        check(
            json!({"sources": [["b", "text", 3, 1]], "dtype": "u16"}),
            Some("source \"a\" there, \"b\" here"),
        );
        check(json!({"sources": [], "dtype": "u16"}), Some("1 sources there, 0 here"));
        check(
            json!({"sources": [["a", "text", 3, 1]], "dtype": "u32"}),
            Some("dtype is \"u16\" there and \"u32\" here"),
        );
    }
}
