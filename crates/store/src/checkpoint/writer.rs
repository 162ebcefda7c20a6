//! Writing a checkpoint: tensors stream through into their files and hashes.

use super::{
    CONFIG, MANIFEST, MODEL, OPTIMIZER, STATE,
    manifest::{FileEntry, Manifest},
    retain,
};
use crate::{
    StoreError,
    files::{StagedDirectory, not_writable},
    safetensors,
};
use isoflop_base::{
    bits::hex,
    tensor::{TensorError, TensorGroup, TensorSink, TensorSpec},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// A checkpoint being written. Tensors stream through it into their files and hashes; nothing is held in memory.
#[derive(Debug)]
pub struct CheckpointWriter {
    staged: StagedDirectory,
    label: String,
    position: u64,
    pinned: bool,
    files: Vec<FileEntry>,
    streams: Vec<Stream>,
    counters: Map<String, Value>,
}

/// One safetensors file being written: its tensors in order, and how far it is.
#[derive(Debug)]
struct Stream {
    group: TensorGroup,
    file: HashedFile,
    specs: Vec<TensorSpec>,
    /// The tensor being written.
    current: usize,
    /// Bytes of it written.
    written: usize,
}

/// A file that hashes what passes through it.
#[derive(Debug)]
struct HashedFile {
    name: String,
    out: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
}

impl HashedFile {
    fn create(staged: &StagedDirectory, name: &str) -> Result<Self, StoreError> {
        let out = BufWriter::with_capacity(1 << 18, staged.create_file(name)?);
        Ok(Self { name: name.to_owned(), out, hasher: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file; its line of the manifest.
    fn close(mut self) -> io::Result<FileEntry> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(FileEntry { name: self.name, bytes: self.bytes, sha256: hex(&self.hasher.finalize()) })
    }
}

impl CheckpointWriter {
    pub(crate) fn begin(parent: &Path, label: &str, position: u64) -> Result<Self, StoreError> {
        Ok(Self {
            staged: StagedDirectory::begin(parent, label)?,
            label: label.to_owned(),
            position,
            pinned: false,
            files: Vec::new(),
            streams: Vec::new(),
            counters: Map::new(),
        })
    }

    /// Keeps this checkpoint until it is removed by label.
    pub fn pin(&mut self) {
        self.pinned = true;
    }

    /// Adds a text file, such as `tokenizer.json`.
    pub fn add_text(&mut self, name: &str, text: &str) -> Result<(), StoreError> {
        let reserved = [MANIFEST, MODEL, OPTIMIZER];
        assert!(
            !reserved.contains(&name) && !name.contains(['/', '\\']),
            "`{name}` is not a name for a text file"
        );
        let mut file = HashedFile::create(&self.staged, name)?;
        let entry = file.write(text.as_bytes()).and_then(|()| file.close());
        self.files.push(entry.map_err(not_writable(&self.staged.path().join(name)))?);
        Ok(())
    }

    /// Publishes the checkpoint with the caller's `state` and Hugging Face's `config.json`, then lets go of old ones.
    /// Errors if a tensor that was announced has not been written in full.
    pub fn finish(mut self, state: &Value, config: &Value) -> Result<(), StoreError> {
        if let Some(name) = self.unfinished() {
            return Err(StoreError::DamagedCheckpoint {
                path: self.staged.target().to_owned(),
                why: format!("tensor `{name}` was not written in full"),
            });
        }
        for stream in std::mem::take(&mut self.streams) {
            let path = self.staged.path().join(&stream.file.name);
            self.files.push(stream.file.close().map_err(not_writable(&path))?);
        }
        self.add_text(CONFIG, &pretty(config))?;
        let state = serde_json::json!({
            "position": self.position,
            "counters": std::mem::take(&mut self.counters),
            "state": state,
        });
        self.add_text(STATE, &pretty(&state))?;
        let manifest = Manifest::new(&self.label, self.position, self.pinned, self.files);
        let parent = self.staged.target().parent().expect("a checkpoint has a parent").to_owned();
        self.staged.publish(MANIFEST, manifest.to_json().as_bytes())?;
        retain(&parent)
    }

    /// The first tensor that lacks bytes, or the model's file if no tensors came at all.
    fn unfinished(&self) -> Option<&str> {
        if self.streams.is_empty() {
            return Some(MODEL);
        }
        self.streams.iter().find_map(|s| s.specs.get(s.current)).map(|s| s.name.as_str())
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON values are plain data") + "\n"
}

impl Stream {
    /// Steps over tensors that are complete, empty ones included.
    fn advance(&mut self) {
        while self.specs.get(self.current).is_some_and(|s| s.bytes() == self.written) {
            self.current += 1;
            self.written = 0;
        }
    }
}

/// The error of a tensor that could not be written to `path`, with what the user can do about it.
fn sink_error(tensor: &str, path: &Path, error: io::Error) -> TensorError {
    let kind = error.kind();
    let source = io::Error::new(kind, not_writable(path)(error));
    TensorError::Io { name: tensor.to_owned(), source }
}

impl TensorSink for CheckpointWriter {
    fn begin(&mut self, specs: &[TensorSpec]) -> Result<(), TensorError> {
        assert!(self.streams.is_empty(), "tensors are announced once");
        for (group, name) in [(TensorGroup::Model, MODEL), (TensorGroup::Optimizer, OPTIMIZER)] {
            let specs: Vec<TensorSpec> = specs.iter().filter(|s| s.group == group).cloned().collect();
            if specs.is_empty() {
                continue;
            }
            let path = self.staged.path().join(name);
            let mut file = HashedFile::create(&self.staged, name)
                .map_err(|e| TensorError::Io { name: name.to_owned(), source: io::Error::other(e) })?;
            file.write(&safetensors::header(specs.iter())).map_err(|e| sink_error(name, &path, e))?;
            let mut stream = Stream { group, file, specs, current: 0, written: 0 };
            stream.advance();
            self.streams.push(stream);
        }
        Ok(())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TensorError> {
        let next = |s: &&mut Stream| s.specs.get(s.current).is_some_and(|spec| spec.name == name);
        let Some(stream) = self.streams.iter_mut().find(next) else {
            if bytes.is_empty() {
                return Ok(());
            }
            panic!("tensor `{name}` was not announced, comes out of order, or is longer than announced");
        };
        let left = stream.specs[stream.current].bytes() - stream.written;
        assert!(bytes.len() <= left, "tensor `{name}` of {:?} is longer than announced", stream.group);
        let path = self.staged.path().join(&stream.file.name);
        stream.file.write(bytes).map_err(|e| sink_error(name, &path, e))?;
        stream.written += bytes.len();
        stream.advance();
        Ok(())
    }

    fn counter(&mut self, name: &str, value: u64) -> Result<(), TensorError> {
        self.counters.insert(name.to_owned(), value.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_a_hint() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = sink_error("w", Path::new("runs/a/model.safetensors"), full).to_string();
        assert!(error.starts_with("tensor `w`: cannot write runs/a/model.safetensors: "), "{error}");
        assert!(error.contains("hint: the disk is full"), "{error}");
    }
}
