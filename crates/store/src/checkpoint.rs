//! Checkpoints: Hugging Face GPT-2 directories, complete or invisible.

use crate::StoreError;
use isoflop_base::tensor::{TensorError, TensorGroup, TensorSink, TensorSource, TensorSpec};
use serde_json::Value;
use std::path::{Path, PathBuf};

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

/// A checkpoint being written. Tensors stream through it into their files and hashes; nothing is held in memory.
#[derive(Debug)]
pub struct CheckpointWriter {}

impl CheckpointWriter {
    /// Keeps this checkpoint until it is removed by label.
    pub fn pin(&mut self) {
        unimplemented!()
    }

    /// Adds a text file, such as `tokenizer.json`.
    pub fn add_text(&mut self, name: &str, text: &str) -> Result<(), StoreError> {
        let _ = (name, text);
        unimplemented!()
    }

    /// Publishes the checkpoint with the caller's `state` and Hugging Face's `config.json`, then lets go of old ones.
    /// Errors if a tensor that was announced has not been written in full.
    pub fn finish(self, state: &Value, config: &Value) -> Result<(), StoreError> {
        let _ = (state, config);
        unimplemented!()
    }
}

impl TensorSink for CheckpointWriter {
    fn begin(&mut self, _specs: &[TensorSpec]) -> Result<(), TensorError> {
        unimplemented!()
    }
    fn write(&mut self, _name: &str, _bytes: &[u8]) -> Result<(), TensorError> {
        unimplemented!()
    }
    fn counter(&mut self, _name: &str, _value: u64) -> Result<(), TensorError> {
        unimplemented!()
    }
}

/// An open checkpoint, ours or one made by `transformers`.
#[derive(Debug)]
pub struct Checkpoint {}

impl Checkpoint {
    /// Opens any GPT-2 directory in Hugging Face's layout (`config.json`, `model.safetensors`). If it has a manifest, lengths and
    /// hashes are verified.
    pub fn open_dir(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let _ = path.as_ref();
        unimplemented!()
    }

    /// The caller's state; `null` in a directory that was not written here.
    pub fn state(&self) -> &Value {
        unimplemented!()
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        unimplemented!()
    }

    /// Position in the run's linear program; 0 in a directory that was not written here.
    pub fn position(&self) -> u64 {
        unimplemented!()
    }

    /// Its label; the directory's name elsewhere.
    pub fn label(&self) -> &str {
        unimplemented!()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        unimplemented!()
    }

    /// Names of the tensors in a group, as they are in the file.
    pub fn tensor_names(&self, _group: TensorGroup) -> Vec<String> {
        unimplemented!()
    }

    /// Text of `tokenizer.json`, if there is one.
    pub fn tokenizer(&self) -> Result<Option<String>, StoreError> {
        unimplemented!()
    }
}

impl TensorSource for Checkpoint {
    fn has(&self, _group: TensorGroup, _name: &str) -> bool {
        unimplemented!()
    }
    fn read_f32(
        &mut self,
        _g: TensorGroup,
        _n: &str,
        _s: &[usize],
        _o: &mut [f32],
    ) -> Result<(), TensorError> {
        unimplemented!()
    }
    fn read_u8(&mut self, _g: TensorGroup, _n: &str, _s: &[usize], _o: &mut [u8]) -> Result<(), TensorError> {
        unimplemented!()
    }
    fn counter(&self, _name: &str) -> Option<u64> {
        unimplemented!()
    }
}
