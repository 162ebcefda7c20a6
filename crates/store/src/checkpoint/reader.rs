//! Reading a checkpoint, ours or one made by `transformers`.

use super::{
    CONFIG, MANIFEST, MODEL, OPTIMIZER, STATE, TOKENIZER,
    manifest::{Manifest, hash_file},
    wrappers::Bare,
};
use crate::{
    StoreError,
    files::{self, unreadable},
    safetensors::TensorFile,
};
use isoflop_base::bits::hex;
use isoflop_base::tensor::{TensorError, TensorGroup, TensorSource};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The list of parts of a model too large for one file.
const SHARDS: &str = "model.safetensors.index.json";

/// An open checkpoint, ours or one made by `transformers`.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    label: String,
    position: u64,
    config: Value,
    state: Value,
    counters: Value,
    model: Vec<TensorFile>,
    /// The model's tensors without the wrappers that training programs leave in their names.
    bare: Bare,
    optimizer: Vec<TensorFile>,
}

impl Checkpoint {
    /// Opens any GPT-2 directory in Hugging Face's layout (`config.json`, `model.safetensors`). If it has a manifest,
    /// lengths and hashes are verified.
    pub fn open_dir(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = path.as_ref();
        let damaged = |why: String| StoreError::DamagedCheckpoint { path: dir.to_owned(), why };
        let manifest = match dir.join(MANIFEST).exists() {
            true => Some(Manifest::read(dir).map_err(damaged)?),
            false => None,
        };
        if let Some(manifest) = &manifest {
            manifest.check_hashes(dir).map_err(damaged)?;
        }
        let config = read_json(&dir.join(CONFIG))?;
        let model = open_model(dir)?;
        let Some(config) = config else {
            return Err(not_a_checkpoint(
                dir,
                "it has no config.json",
                "point at the directory that `save_pretrained` wrote",
            ));
        };
        check_config(dir, &config)?;
        let bare = Bare::of(&model).map_err(damaged)?;
        let optimizer = match dir.join(OPTIMIZER) {
            path if path.exists() => {
                vec![TensorFile::open(&path).map_err(|e| damaged(format!("{OPTIMIZER}: {e}")))?]
            }
            _ => Vec::new(),
        };
        // Only a directory with a manifest is ours; another program's state.json is none of our business.
        let state = match manifest {
            Some(_) => read_json(&dir.join(STATE))?.unwrap_or_default(),
            None => Value::Null,
        };
        let name = dir.canonicalize().ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            dir: dir.to_owned(),
            position: manifest.as_ref().map_or(0, |m| m.position),
            label: manifest.map(|m| m.label).or(name).unwrap_or_default(),
            config,
            counters: state["counters"].clone(),
            state: state["state"].clone(),
            model,
            bare,
            optimizer,
        })
    }

    /// The caller's state; `null` in a directory that was not written here.
    pub fn state(&self) -> &Value {
        &self.state
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Position in the run's linear program; 0 in a directory that was not written here.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Its label; the directory's name elsewhere.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// SHA-256 over the hashes of the files that hold the weights: what a run started from, wherever it lies.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn weights_sha256(&self) -> Result<String, StoreError> {
        let is_model = |name: &String| name.starts_with("model") && name.ends_with(".safetensors");
        let mut hasher = Sha256::new();
        for name in files::names(&self.dir)?.into_iter().filter(is_model) {
            let path = self.dir.join(&name);
            hasher.update(hash_file(&path).map_err(unreadable(&path))?);
        }
        Ok(hex(&hasher.finalize()))
    }

    /// Text of `tokenizer.json`, if there is one.
    pub fn tokenizer(&self) -> Result<Option<String>, StoreError> {
        let path = self.dir.join(TOKENIZER);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unreadable(&path)(e)),
        }
    }

    /// The file that has the tensor, and the name it has there.
    fn find(&self, group: TensorGroup, name: &str) -> Option<(usize, String)> {
        let (index, stored) = match group {
            TensorGroup::Model => self.bare.find(name)?,
            TensorGroup::Optimizer => {
                (self.optimizer.iter().position(|f| f.tensors.contains_key(name))?, name)
            }
        };
        Some((index, stored.to_owned()))
    }

    /// The file and name of a tensor of exactly this shape.
    fn locate(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
    ) -> Result<(&mut TensorFile, String), TensorError> {
        let (index, stored) = self.find(group, name).ok_or_else(|| TensorError::Missing(name.to_owned()))?;
        let file = match group {
            TensorGroup::Model => &mut self.model[index],
            TensorGroup::Optimizer => &mut self.optimizer[index],
        };
        let found = &file.tensors[&stored].shape;
        if found != shape {
            return Err(TensorError::Shape {
                name: name.to_owned(),
                found: found.clone(),
                needed: shape.to_vec(),
            });
        }
        Ok((file, stored))
    }
}

impl TensorSource for Checkpoint {
    fn has(&self, group: TensorGroup, name: &str) -> bool {
        self.find(group, name).is_some()
    }

    fn read_f32(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        assert_eq!(out.len(), shape.iter().product::<usize>(), "room for `{name}`");
        let (file, stored) = self.locate(group, name, shape)?;
        file.read_f32(&stored, out)
    }

    fn read_u8(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [u8],
    ) -> Result<(), TensorError> {
        assert_eq!(out.len(), shape.iter().product::<usize>(), "room for `{name}`");
        let (file, stored) = self.locate(group, name, shape)?;
        file.read_u8(&stored, out)
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.counters[name].as_u64()
    }
}

fn not_a_checkpoint(dir: &Path, why: impl Into<String>, hint: &'static str) -> StoreError {
    StoreError::NotACheckpoint { path: dir.to_owned(), why: why.into(), hint }
}

/// The document at `path`, if there is one.
fn read_json(path: &Path) -> Result<Option<Value>, StoreError> {
    let text = match fs::read_to_string(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(unreadable(path))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|e| StoreError::CorruptFile {
        path: path.to_owned(),
        why: format!("it does not parse: {e}"),
    })
}

/// `model.safetensors`, or the parts its index names.
fn open_model(dir: &Path) -> Result<Vec<TensorFile>, StoreError> {
    let names = match (dir.join(MODEL).exists(), read_json(&dir.join(SHARDS))?) {
        (true, _) => BTreeSet::from([MODEL.to_owned()]),
        (false, Some(index)) => {
            let map = index["weight_map"].as_object().cloned().unwrap_or_default();
            map.values().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        }
        (false, None) => BTreeSet::new(),
    };
    if names.is_empty() {
        return Err(no_model(dir));
    }
    let open = |name: &String| {
        let damaged =
            |e: String| StoreError::DamagedCheckpoint { path: dir.to_owned(), why: format!("{name}: {e}") };
        if name.contains(['/', '\\']) {
            return Err(damaged("a part outside the directory".to_owned()));
        }
        TensorFile::open(&dir.join(name)).map_err(damaged)
    };
    names.iter().map(open).collect()
}

fn no_model(dir: &Path) -> StoreError {
    const POINT: &str = "point at a directory with config.json and model.safetensors";
    if !dir.is_dir() {
        let why = if dir.exists() { "it is a file" } else { "it does not exist" };
        return not_a_checkpoint(dir, why, POINT);
    }
    if dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists() {
        return not_a_checkpoint(
            dir,
            "its weights are a pickle (pytorch_model.bin), which can run code when it is read",
            "convert it: python -c \"from transformers import GPT2LMHeadModel as M; \
             M.from_pretrained('DIR').save_pretrained('DIR', safe_serialization=True)\"",
        );
    }
    not_a_checkpoint(dir, "it has no model.safetensors", POINT)
}

/// Families of models that engines here know, as `config.json` names them.
const FAMILIES: [&str; 2] = ["gpt2", "isoflop-fewshot"];

/// Refuses models of another family. What is a variant of GPT-2 is the reader of the configuration's to judge.
fn check_config(dir: &Path, config: &Value) -> Result<(), StoreError> {
    let kind = config["model_type"].as_str().unwrap_or("gpt2");
    if !FAMILIES.contains(&kind) {
        return Err(not_a_checkpoint(
            dir,
            format!("its model_type is `{kind}`"),
            "only GPT-2 and few-shot networks made here are read",
        ));
    }
    Ok(())
}
