//! Opening a few-shot study: its file, its pictures, its runs.

use super::runs::{FewShotStudy, Place};
use super::study::asked;
use super::vocabulary::VOCABULARY;
use super::{pictures, task};
use crate::error::UserError;
use crate::machine::{Hardware, machine};
use crate::plan::memory;
use crate::study::device;
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
    // What stands behind a network on cards is the processor's: both determine a run's bits.
    let kernels = match device::device(&raw)?.1 {
        Some(cards) => format!("{}+{}", cards.facts().kernels, machine.kernels),
        None => machine.kernels,
    };
    let study = FewShotStudy::new(asked, &set, &Place { store, kernels: &kernels })?;
    for run in &study.runs {
        task::memory_plan(run, study.machine())?;
    }
    Ok(Opened { study, set, also })
}

/// The graphics cards of a study, if it names some.
///
/// # Errors
/// A [`UserError`]: no such cards, or no driver.
pub fn cards(study: &FewShotStudy) -> Result<Option<Hardware>, UserError> {
    let device = &study.machine().device;
    Hardware::is_cards(device).then(|| Hardware::cards(device)).transpose()
}

/// Refuses a study that the memory of this machine or of its cards does not hold, and one for cards that are not here.
///
/// # Errors
/// A [`UserError`] naming the run, its bytes, and what would be smaller.
pub fn check_memory(study: &FewShotStudy) -> Result<(), UserError> {
    let free = match cards(study)? {
        Some(Hardware::Absent(absent)) => {
            return Err(UserError::new(format!("{} is planned for and not here", absent.facts().name))
                .hint("write device = \"cuda\" to train on this machine's card"));
        }
        Some(cards) => cards.available(),
        None => memory::available(),
    };
    let Some(free) = free else { return Ok(()) };
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
