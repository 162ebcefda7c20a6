//! What a complete checkpoint consists of, byte for byte.

use super::MANIFEST;
use isoflop_base::bits::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

const SCHEMA: &str = "isoflop.checkpoint/1";

/// `MANIFEST.json`: names, lengths and hashes of a checkpoint's files, and its own hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    schema: String,
    pub(super) label: String,
    pub(super) position: u64,
    pub(super) pinned: bool,
    pub(super) files: Vec<FileEntry>,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(flatten)]
    manifest: Manifest,
    /// Hash of the manifest as compact JSON without this member.
    manifest_sha256: String,
}

impl Manifest {
    pub(super) fn new(label: &str, position: u64, pinned: bool, files: Vec<FileEntry>) -> Self {
        Self { schema: SCHEMA.to_owned(), label: label.to_owned(), position, pinned, files }
    }

    fn digest(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).expect("a manifest is plain data")))
    }

    /// The text of `MANIFEST.json`.
    pub(super) fn to_json(&self) -> String {
        let document = Document { manifest: self.clone(), manifest_sha256: self.digest() };
        serde_json::to_string_pretty(&document).expect("a manifest is plain data") + "\n"
    }

    /// Reads the manifest of the checkpoint in `dir` and checks its own hash. Errors are in words.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(dir.join(MANIFEST)).map_err(|e| format!("{MANIFEST}: {e}"))?;
        let Document { manifest, manifest_sha256 } =
            serde_json::from_str(&text).map_err(|e| format!("{MANIFEST} does not parse: {e}"))?;
        if manifest.schema != SCHEMA {
            return Err(format!(
                "{MANIFEST} is of schema `{}`, this version reads `{SCHEMA}`",
                manifest.schema
            ));
        }
        if manifest.digest() != manifest_sha256 {
            return Err(format!("{MANIFEST} does not match its own hash"));
        }
        // Names from a file must not lead out of the directory.
        if let Some(file) = manifest.files.iter().find(|f| f.name.contains(['/', '\\']) || f.name == "..") {
            return Err(format!("{MANIFEST} names `{}`", file.name));
        }
        Ok(manifest)
    }

    /// Whether every file is there in its full length.
    pub(super) fn check_lengths(&self, dir: &Path) -> Result<(), String> {
        for file in &self.files {
            let found = fs::metadata(dir.join(&file.name)).map_err(|e| format!("{}: {e}", file.name))?.len();
            if found != file.bytes {
                return Err(format!("{} has {found} bytes, its manifest says {}", file.name, file.bytes));
            }
        }
        Ok(())
    }

    /// Whether every file has its hash.
    pub(super) fn check_hashes(&self, dir: &Path) -> Result<(), String> {
        self.check_lengths(dir)?;
        for file in &self.files {
            let found = hash_file(&dir.join(&file.name)).map_err(|e| format!("{}: {e}", file.name))?;
            if found != file.sha256 {
                return Err(format!("{} was altered: its hash is not the one in its manifest", file.name));
            }
        }
        Ok(())
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}
