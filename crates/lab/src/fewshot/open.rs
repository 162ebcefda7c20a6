//! Opening a few-shot study: its file, its pictures, its runs.

use super::runs::{FewShotStudy, Place};
use super::study::asked;
use super::vocabulary::VOCABULARY;
use super::{pictures, task};
use crate::error::UserError;
use crate::machine::machine;
use crate::plan::memory;
use crate::study::raw::RawStudy;
use isoflop_base::units::bytes;
use isoflop_data::images::ImageSet;
use pictures::Also;
use std::path::Path;
use std::sync::Arc;

/// A study with its pictures.
pub struct Opened {
    /// What is to be done.
    pub study: FewShotStudy,
    /// What it is trained and tested on.
    pub set: Arc<ImageSet>,
    /// What it is only tested on.
    pub also: Vec<Also>,
}

/// Reads a study's file, opens its pictures (which the store keeps prepared) and lays out its runs.
///
/// # Errors
/// A [`UserError`] for all that is wrong with the file, its values or its pictures.
pub fn open(path: &Path, sets: &[String], store: &Path) -> anyhow::Result<Opened> {
    let (name, text) = crate::study::text(path)?;
    parsed(&name, &text, sets, store)
}

/// The same from a text.
///
/// # Errors
/// As [`open`].
pub fn parsed(name: &str, text: &str, sets: &[String], store: &Path) -> anyhow::Result<Opened> {
    let raw = RawStudy::parse_as(&VOCABULARY, name, text, sets)?;
    let machine = machine()?;
    let asked = asked(&raw, &machine)?;
    let set = pictures::open(&asked.pictures, store, asked.machine.threads)?;
    let also = pictures::open_also(&asked, store)?;
    let study = FewShotStudy::new(asked, &set, &Place { store, kernels: &machine.kernels })?;
    for run in &study.runs {
        task::memory_plan(run, study.machine())?;
    }
    Ok(Opened { study, set, also })
}

/// Refuses a study that this machine's memory does not hold.
///
/// # Errors
/// A [`UserError`] naming the run, its bytes, and what would be smaller.
pub fn check_memory(study: &FewShotStudy) -> Result<(), UserError> {
    let Some(free) = memory::available() else { return Ok(()) };
    for run in &study.runs {
        let needed = task::memory_plan(run, study.machine())?.total();
        if needed > free {
            return Err(UserError::new(format!(
                "{} needs {}, {} are free",
                run.id,
                bytes(needed),
                bytes(free)
            ))
            .hint("choose a smaller pretrain.batch, episodes.per_pass, width or side"));
        }
    }
    Ok(())
}
