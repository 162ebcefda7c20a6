//! From files to the bytes of a prepared set, by several threads, in an order that does not depend on them.

use super::decode::decode;
use super::index::Index;
use super::resize::resize_and_crop;
use super::set::{Header, SplitHeader};
use crate::DataError;
use isoflop_base::bits::hex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Pictures decoded between two writes.
const BLOCK: usize = 256;

/// How each picture becomes one of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of the shorter side after resizing.
    pub short: usize,
    /// Pixels of a side of the middle that is kept.
    pub side: usize,
    /// Channels, 1 or 3.
    pub channels: usize,
    /// Whether pictures of other channels are converted; else they are an error.
    pub convert: bool,
}

impl Picture {
    /// mini-ImageNet from the original photographs: 92, of which the middle 84, in colour. Some of those photographs
    /// are grey, so that channels are converted.
    pub fn mini_imagenet() -> Self {
        Self { short: 92, side: 84, channels: 3, convert: true }
    }

    fn check(&self) -> Result<(), DataError> {
        if self.side == 0 || self.side > self.short || ![1, 3].contains(&self.channels) {
            return Err(DataError::Setting {
                what: format!(
                    "pictures of {} pixels from {}, {} channels",
                    self.side, self.short, self.channels
                ),
                hint: "give a side of at least 1 and at most the resized one, and 1 or 3 channels".into(),
            });
        }
        Ok(())
    }
}

/// One prepared picture, with the hash of the file it was.
type Prepared = (Vec<u8>, [u8; 32]);

/// Hands the bytes of a prepared set to `write`, in order, and returns what the set says of itself.
///
/// # Errors
/// The first file, in the order of the index, that cannot be used; the same picture in two splits; what `write`
/// failed with.
pub fn prepare<E: From<DataError>>(
    index: &Index,
    picture: &Picture,
    threads: usize,
    write: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Header, E> {
    picture.check()?;
    let header = header_of(index, picture)?;
    write(&header.bytes())?;
    let files: Vec<(usize, &Path)> = index
        .splits
        .iter()
        .enumerate()
        .flat_map(|(split, of)| {
            of.classes.iter().flat_map(move |c| c.files.iter().map(move |f| (split, f.as_path())))
        })
        .collect();
    let mut seen: HashMap<[u8; 32], (usize, &Path)> = HashMap::new();
    for block in files.chunks(BLOCK) {
        for (result, &(split, path)) in decode_block(block, picture, threads.max(1)).into_iter().zip(block) {
            let (pixels, hash) = result?;
            match seen.get(&hash) {
                Some((other, before)) if *other != split => {
                    let (first, second) = (before.display().to_string(), path.display().to_string());
                    return Err(DataError::InTwoSplits { first, second, what: "picture" }.into());
                }
                Some(_) => {}
                None => {
                    seen.insert(hash, (split, path));
                }
            }
            write(&pixels)?;
        }
    }
    Ok(header)
}

/// The pictures of a block, each in its place.
fn decode_block(
    block: &[(usize, &Path)],
    picture: &Picture,
    threads: usize,
) -> Vec<Result<Prepared, DataError>> {
    let share = block.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let work = |files: &'_ [(usize, &Path)]| -> Vec<_> {
            files.iter().map(|(_, path)| one(path, picture)).collect()
        };
        let (own, others) = block.split_at(share);
        let others: Vec<_> = others.chunks(share).map(|files| scope.spawn(move || work(files))).collect();
        let mut results = work(own);
        for thread in others {
            results.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// One picture as those of a set, `[side,side,channels]` from 0 to 1.
///
/// # Errors
/// A file that is no picture, or of other channels where they are not converted.
pub fn read_picture(path: &Path, picture: &Picture) -> Result<Vec<f32>, DataError> {
    picture.check()?;
    Ok(one(path, picture)?.0.into_iter().map(|byte| f32::from(byte) / 255.0).collect())
}

fn one(path: &Path, picture: &Picture) -> Result<Prepared, DataError> {
    let bytes = std::fs::read(path).map_err(|e| DataError::from_io(path, e))?;
    let decoded = decode(path, &bytes, picture.short)?;
    if decoded.channels != picture.channels && !picture.convert {
        let name = |channels| match channels {
            1 => "grey",
            2 => "grey with alpha",
            3 => "colour",
            _ => "colour with alpha",
        };
        return Err(DataError::Image {
            path: path.to_owned(),
            what: format!(
                "{} ({} channels) where {} ({}) is asked for",
                name(decoded.channels),
                decoded.channels,
                name(picture.channels),
                picture.channels
            ),
            hint: "set `channels` to what the pictures have, or let them be converted".into(),
        });
    }
    let mut pixels = Vec::new();
    resize_and_crop(&decoded.convert(picture.channels), picture.short, picture.side, &mut pixels);
    Ok((pixels, Sha256::digest(&bytes).into()))
}

/// What identifies a set before it is made: names and lengths of its files, and how they are prepared.
///
/// # Errors
/// A file that is not there any more, an impossible picture.
pub fn fingerprint(index: &Index, picture: &Picture) -> Result<String, DataError> {
    picture.check()?;
    Ok(header_of(index, picture)?.fingerprint)
}

fn header_of(index: &Index, picture: &Picture) -> Result<Header, DataError> {
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {}\n", picture.short, picture.side, picture.channels));
    for (split, class, file) in index.splits.iter().flat_map(|split| {
        split.classes.iter().flat_map(move |class| class.files.iter().map(move |file| (split, class, file)))
    }) {
        let length = std::fs::metadata(file).map_err(|e| DataError::from_io(file, e))?.len();
        let name = file.file_name().map(PathBuf::from).unwrap_or_default();
        hash.update(format!("{}\t{}\t{}\t{length}\n", split.name, class.name, name.display()));
    }
    let fingerprint = hex(&hash.finalize());
    let splits = index.splits.iter().map(|split| SplitHeader {
        name: split.name.clone(),
        classes: split.classes.iter().map(|class| (class.name.clone(), class.files.len())).collect(),
    });
    Ok(Header { side: picture.side, channels: picture.channels, splits: splits.collect(), fingerprint })
}
