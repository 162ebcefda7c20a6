//! Opening the pictures of a study: built in, or prepared once from files and kept beside the runs.

use super::study::{Pictures, Source};
use crate::error::UserError;
use isoflop_base::bits::mix;
use isoflop_base::fewshot::Base;
use isoflop_base::study::DataSpec;
use isoflop_data::DataError;
use isoflop_data::episodes::EpisodeClass;
use isoflop_data::images::{self, ImageSet, Index, Picture};
use std::path::Path;
use std::sync::Arc;

/// Folder of a store that holds prepared pictures.
const FOLDER: &str = "images";

/// Opens the pictures; those of files are decoded once, into `store/images`.
///
/// # Errors
/// A [`UserError`] naming the file that cannot be used; a store that cannot be written.
pub fn open(pictures: &Pictures, store: &Path, threads: usize) -> anyhow::Result<Arc<ImageSet>> {
    let index = match &pictures.source {
        Source::Icons => return Ok(Arc::new(images::icons().map_err(UserError::from_error)?)),
        Source::Folder(folder) => Index::of_folders(folder),
        Source::Lists { images, lists } => {
            let lists: Vec<(&str, &Path)> =
                lists.iter().map(|(split, path)| (*split, path.as_path())).collect();
            Index::of_lists(images, &lists)
        }
    };
    let index = index.map_err(UserError::from_error)?;
    let picture =
        Picture { short: pictures.resize, side: pictures.side, channels: pictures.channels, convert: true };
    let fingerprint = images::fingerprint(&index, &picture).map_err(UserError::from_error)?;
    let path = store.join(FOLDER).join(format!("{}.images", &fingerprint[..16]));
    if !path.exists() {
        isoflop_store::write_streamed(&path, |write| {
            images::prepare::<anyhow::Error>(&index, &picture, threads, &mut |bytes| {
                write(bytes).map_err(Into::into)
            })
        })
        .map_err(|error| match error.downcast::<DataError>() {
            Ok(error) => UserError::from_error(error).into(),
            Err(error) => error,
        })?;
    }
    let set = ImageSet::open(&path).map_err(UserError::from_error)?;
    Ok(Arc::new(set))
}

/// What identifies a set in a run.
pub fn data_spec(pictures: &Pictures, set: &ImageSet) -> DataSpec {
    let count = |split: &str| {
        let classes = set.classes(split).unwrap_or_default();
        classes.iter().map(|class| class.images.len() as u64).sum()
    };
    let corpus = match &pictures.source {
        Source::Icons => "icons".to_owned(),
        Source::Folder(path) | Source::Lists { images: path, .. } => {
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
        }
    };
    DataSpec {
        corpus,
        train: None,
        val: None,
        train_tokens: count("train"),
        val_tokens: count("val"),
        bytes_per_token: None,
        fingerprint: set.header().fingerprint.clone(),
        mix: None,
        end_of_text: None,
    }
}

/// The base classes that a run may use, and of each which pictures: an order that depends on their numbers alone, so
/// that less is always a part of more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImages {
    /// As the episodes see them: names, and ranges of `images`.
    pub classes: Vec<EpisodeClass>,
    /// Numbers of pictures in the set, class by class.
    pub images: Vec<usize>,
}

impl BaseImages {
    /// A part of the training split.
    ///
    /// # Errors
    /// No such split.
    pub fn new(set: &ImageSet, base: Base) -> Result<Self, DataError> {
        let mut all = set.classes("train")?;
        all.sort_by_key(|class| mix(class.images.start as u64 ^ 0x0063_6c61_7373));
        all.truncate(usize::try_from(base.classes).unwrap_or(usize::MAX));
        all.sort_by_key(|class| class.images.start);
        let (mut classes, mut images) = (Vec::new(), Vec::new());
        for class in all {
            let first = images.len();
            let mut own: Vec<usize> = class.images.collect();
            own.sort_by_key(|image| mix(*image as u64 ^ 0x0069_6d61_6765));
            own.truncate(usize::try_from(base.images).unwrap_or(usize::MAX));
            images.extend(own);
            classes.push(EpisodeClass { name: class.name, images: first..images.len() });
        }
        Ok(Self { classes, images })
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<u32> {
        let label = |(number, class): (usize, &EpisodeClass)| vec![number as u32; class.images.len()];
        self.classes.iter().enumerate().flat_map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_a_part_of_more() {
        let set = images::icons().unwrap();
        let part = |classes, images| BaseImages::new(&set, Base { classes, images }).unwrap();
        let (all, some, few) = (part(1 << 40, 1 << 40), part(20, 1 << 40), part(20, 7));
        assert_eq!(all.images.len() as u64, data_spec_of(&set).train_tokens);
        assert!(some.classes.iter().all(|class| all.classes.iter().any(|other| other.name == class.name)));
        assert!(few.images.iter().all(|image| some.images.contains(image)));
        assert_eq!((some.classes.len(), few.images.len(), few.labels().len()), (20, 140, 140));
        // Not merely the first ones: those would be the alphabet's first sets of drawings.
        let class = set.classes("train").unwrap()[0].images.clone();
        let own = &part(1 << 40, 7).images[..7];
        assert!(own.iter().all(|image| class.contains(image)));
        assert!(own.iter().any(|image| image - class.start > 7), "{own:?}");
    }

    fn data_spec_of(set: &ImageSet) -> DataSpec {
        let pictures = Pictures { source: Source::Icons, resize: 28, side: 28, channels: 1 };
        data_spec(&pictures, set)
    }
}
