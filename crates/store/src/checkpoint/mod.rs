//! Checkpoints: Hugging Face GPT-2 directories, complete or invisible.
//!
//! `config.json`, `model.safetensors`, `optimizer.safetensors`, `state.json`, perhaps `tokenizer.json`, and
//! `MANIFEST.json` with every length and hash, written last. `transformers` loads the directory as it is.

mod manifest;
mod reader;
mod wrappers;
mod writer;

pub use reader::Checkpoint;
pub use writer::CheckpointWriter;

use crate::{StoreError, files};
use isoflop_base::Cost;
use manifest::Manifest;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The marker that makes a checkpoint complete.
pub(crate) const MANIFEST: &str = "MANIFEST.json";
/// Weights under their Hugging Face names.
const MODEL: &str = "model.safetensors";
/// Moments of the optimiser.
const OPTIMIZER: &str = "optimizer.safetensors";
/// Counters and the caller's state.
const STATE: &str = "state.json";
/// Hugging Face's description of the model.
const CONFIG: &str = "config.json";
/// The tokeniser, if the caller gave one.
const TOKENIZER: &str = "tokenizer.json";
/// Unpinned checkpoints kept.
const KEPT: usize = 2;

/// A complete checkpoint in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its label.
    pub label: String,
    /// Position in the run's linear program.
    pub position: u64,
    /// Whether it is kept until removed by label.
    pub pinned: bool,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Its directory.
    pub dir: PathBuf,
}

/// A checkpoint that must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its label.
    pub label: String,
    /// What is wrong with it.
    pub why: String,
}

/// The checkpoints of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Complete ones, newest first.
    pub complete: Vec<CheckpointInfo>,
    /// Damaged ones.
    pub damaged: Vec<Damaged>,
}

/// Lists the checkpoints in `dir`; manifests and lengths are checked, hashes are not.
pub(crate) fn list(dir: &Path) -> Result<Checkpoints, StoreError> {
    let mut found = Checkpoints::default();
    for label in files::names(dir)?.into_iter().filter(|n| !n.starts_with('.')) {
        let dir = dir.join(&label);
        match Manifest::read(&dir).and_then(|m| m.check_lengths(&dir).map(|()| m)) {
            Ok(manifest) => found.complete.push(CheckpointInfo {
                position: manifest.position,
                pinned: manifest.pinned,
                bytes: manifest.total_bytes(),
                label,
                dir,
            }),
            Err(why) => found.damaged.push(Damaged { label, why }),
        }
    }
    found.complete.sort_by(|a, b| b.position.cmp(&a.position).then_with(|| b.label.cmp(&a.label)));
    Ok(found)
}

/// What training had cost when a checkpoint was written, from its `state.json` alone: nothing is hashed, so this is for
/// showing, not for going on from. `None` if it does not say.
pub(crate) fn total_cost(info: &CheckpointInfo) -> Option<Cost> {
    let text = fs::read_to_string(info.dir.join(STATE)).ok()?;
    let document: serde_json::Value = serde_json::from_str(&text).ok()?;
    serde_json::from_value(document["state"]["total_cost"].clone()).ok()
}

/// Deletes all but the newest [`KEPT`] of the checkpoints that are not pinned.
fn retain(dir: &Path) -> Result<(), StoreError> {
    for old in list(dir)?.complete.iter().filter(|c| !c.pinned).skip(KEPT) {
        files::withdraw_directory(&old.dir)?;
    }
    Ok(())
}
