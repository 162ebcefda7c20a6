//! The npm package `@iconify/json`: a folder, or the archive that `npm pack` leaves.

use crate::DataError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// What `collections.json` says of a set of drawings.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SetInfo {
    pub(super) name: String,
    pub(super) author: Author,
    pub(super) license: License,
    pub(super) category: Option<String>,
    /// Whether it has colours of its own.
    #[serde(default)]
    pub(super) palette: bool,
}

/// Who drew it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Author {
    pub(super) name: String,
    pub(super) url: Option<String>,
}

/// Under which terms.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct License {
    pub(super) title: String,
    pub(super) spdx: Option<String>,
    pub(super) url: Option<String>,
}

impl License {
    /// Its identifier, or what it is called where it has none.
    pub(super) fn word(&self) -> &str {
        self.spdx.as_deref().unwrap_or(&self.title)
    }
}

/// One set: its drawings by name, and what holds for all that do not say otherwise.
#[derive(Debug, Deserialize)]
pub(super) struct IconSet {
    pub(super) icons: BTreeMap<String, Icon>,
    left: Option<f64>,
    top: Option<f64>,
    width: Option<f64>,
    height: Option<f64>,
}

/// One drawing: the inside of an SVG document, and its box.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Icon {
    body: String,
    left: Option<f64>,
    top: Option<f64>,
    width: Option<f64>,
    height: Option<f64>,
    #[serde(default)]
    pub(super) hidden: bool,
}

impl Icon {
    /// The SVG document of a drawing of this set, in the middle of a square of `side` pixels.
    pub(super) fn document(&self, of: &IconSet, side: usize) -> String {
        let (left, top) = (self.left.or(of.left).unwrap_or(0.0), self.top.or(of.top).unwrap_or(0.0));
        let width = self.width.or(of.width).unwrap_or(16.0);
        let height = self.height.or(of.height).unwrap_or(16.0);
        let square = width.max(height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
             width=\"{side}\" height=\"{side}\" viewBox=\"{} {} {square} {square}\" color=\"black\">{}</svg>",
            left - (square - width) / 2.0,
            top - (square - height) / 2.0,
            self.body
        )
    }
}

/// Takes a file of the package: its name in it, its bytes.
type Take<'a> = dyn FnMut(&str, &[u8]) -> Result<(), DataError> + 'a;

/// A package that is looked into.
pub(super) struct Package {
    path: PathBuf,
    /// The folder, unless it is an archive.
    folder: Option<PathBuf>,
    pub(super) version: String,
    pub(super) sets: BTreeMap<String, SetInfo>,
}

#[derive(Deserialize)]
struct Manifest {
    version: String,
}

const HINT: &str = "give what `npm pack @iconify/json` leaves, or the folder it unpacks to";

impl Package {
    /// Opens a folder (of the package, or with the package in `package` or `node_modules`) or a `.tgz`.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let metadata = std::fs::metadata(path).map_err(|e| DataError::from_io(path, e))?;
        let folder = match metadata.is_dir() {
            false => None,
            true => {
                let places = ["", "package", "node_modules/@iconify/json"].map(|place| path.join(place));
                let found = places.into_iter().find(|place| place.join("collections.json").is_file());
                Some(found.ok_or_else(|| wrong(path, "no collections.json is in it".into()))?)
            }
        };
        let mut package =
            Self { path: path.to_owned(), folder, version: String::new(), sets: BTreeMap::new() };
        let (mut manifest, mut sets) = (None::<Manifest>, None);
        package.each(&["package.json", "collections.json"], &mut |name, bytes| {
            match name {
                "package.json" => manifest = Some(package.parsed(name, bytes)?),
                _ => sets = Some(package.parsed(name, bytes)?),
            }
            Ok(())
        })?;
        let missing = |name| wrong(path, format!("no {name} is in it"));
        package.version = manifest.ok_or_else(|| missing("package.json"))?.version;
        package.sets = sets.ok_or_else(|| missing("collections.json"))?;
        Ok(package)
    }

    /// Hands out the sets of these names, one at a time, in no order that matters.
    pub(super) fn each_set(
        &self,
        prefixes: &[&str],
        take: &mut dyn FnMut(&str, IconSet),
    ) -> Result<(), DataError> {
        let names: Vec<String> = prefixes.iter().map(|prefix| format!("json/{prefix}.json")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut found = 0;
        self.each(&names, &mut |name, bytes| {
            let set = self.parsed(name, bytes)?;
            found += 1;
            take(name.trim_start_matches("json/").trim_end_matches(".json"), set);
            Ok(())
        })?;
        if found == prefixes.len() {
            return Ok(());
        }
        Err(wrong(&self.path, format!("{found} of the {} sets it names are in it", prefixes.len())))
    }

    fn parsed<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, DataError> {
        serde_json::from_slice(bytes).map_err(|e| wrong(&self.path, format!("{name} does not parse: {e}")))
    }

    /// Hands out files of the package by their names in it.
    fn each(&self, names: &[&str], take: &mut Take<'_>) -> Result<(), DataError> {
        if let Some(folder) = &self.folder {
            for name in names {
                let path = folder.join(name);
                take(name, &std::fs::read(&path).map_err(|e| DataError::from_io(&path, e))?)?;
            }
            return Ok(());
        }
        let file = File::open(&self.path).map_err(|e| DataError::from_io(&self.path, e))?;
        let mut archive = flate2::read::GzDecoder::new(BufReader::new(file));
        let damaged = |e: io::Error| wrong(&self.path, format!("it is no archive, or not whole ({e})"));
        while let Some((name, length)) = next_entry(&mut archive).map_err(damaged)? {
            // All of npm's archives have their files in one folder.
            let own = name.split_once('/').map_or("", |(_, own)| own);
            if !names.contains(&own) {
                skip(&mut archive, length.next_multiple_of(BLOCK)).map_err(damaged)?;
                continue;
            }
            let mut bytes = Vec::new();
            archive.by_ref().take(length).read_to_end(&mut bytes).map_err(damaged)?;
            if bytes.len() as u64 != length {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            take(own, &bytes)?;
            skip(&mut archive, length.next_multiple_of(BLOCK) - length).map_err(damaged)?;
        }
        Ok(())
    }
}

fn wrong(path: &Path, what: String) -> DataError {
    DataError::Image { path: path.to_owned(), what, hint: HINT.into() }
}

/// A tar archive is headers and files, each filled up to so many bytes.
const BLOCK: u64 = 512;

/// Name and length of the next file of a tar archive (POSIX.1-1988, `ustar`), whose bytes follow; none at its end.
fn next_entry(archive: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    loop {
        let mut header = [0u8; BLOCK as usize];
        archive.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let octal = |field: &[u8]| {
            let digits: String =
                field.iter().map(|b| char::from(*b)).filter(|c| !['\0', ' '].contains(c)).collect();
            u64::from_str_radix(&digits, 8).map_err(|_| io::Error::other("a header that is none"))
        };
        // The field of the sum itself counts as blanks.
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum::<u64>()
            - header[148..156].iter().map(|b| u64::from(*b)).sum::<u64>()
            + 8 * u64::from(b' ');
        if octal(&header[148..156])? != sum {
            return Err(io::Error::other("a header whose sum is wrong"));
        }
        let length = octal(&header[124..136])?;
        let text = |field: &[u8]| {
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        if matches!(header[156], b'0' | 0) {
            return Ok(Some((text(&header[..100]), length)));
        }
        // Folders, links, and what later formats add.
        skip(archive, length.next_multiple_of(BLOCK))?;
    }
}

fn skip(archive: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut archive.take(bytes), &mut io::sink())? == bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
