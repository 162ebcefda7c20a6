//! Opening a study: its file, its corpus, its runs, and whether they fit this machine.

use crate::error::UserError;
use crate::kinds;
use crate::machine::machine;
use crate::plan::memory;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Machine, Notes};
use crate::study::{self, claims};
use isoflop_base::study::{Study, StudyKind};
use isoflop_data::Corpus;
use std::path::Path;
use std::sync::Arc;

/// A resolved study and the tokens it is about.
pub struct Opened {
    /// Its file as it was written, with what `--set` changed.
    pub raw: RawStudy,
    /// The study.
    pub study: Study,
    /// Its corpus.
    pub corpus: Arc<Corpus>,
}

/// Reads a study's file, opens its corpus and resolves it for this machine, whatever memory that would take.
///
/// # Errors
/// A [`UserError`] for all that is wrong with the file, its values or its tokens.
pub fn open(path: &Path, sets: &[String]) -> Result<Opened, UserError> {
    let raw = study::read(path, sets)?;
    let corpus = Arc::new(resolve::open_corpus(&raw)?);
    let study = resolve(&raw, &corpus, &machine()?)?;
    Ok(Opened { raw, study, corpus })
}

/// Resolves a parsed study: what its runs share, then the runs that its kind makes of it.
///
/// # Errors
/// A [`UserError`] for a value that is wrong or does not go with the others.
pub fn resolve(raw: &RawStudy, corpus: &Corpus, machine: &Machine) -> Result<Study, UserError> {
    let mut notes = Notes::default();
    let kind = raw.word("kind", StudyKind::from_word, StudyKind::WORDS)?.unwrap_or(StudyKind::Scaling);
    let base = resolve::base(raw, corpus, machine, &mut notes)?;
    let runs = kinds::of(kind).expand(raw, &base, &mut notes)?;
    resolve::check_sizes(raw, &runs)?;
    resolve::check_mixes(corpus, &runs)?;
    let mut batches: Vec<usize> = runs.iter().map(|run| run.train.micro_batch).collect();
    batches.sort_unstable();
    batches.dedup();
    if base.micro_batch.is_none() {
        let batches: Vec<String> = batches.iter().map(ToString::to_string).collect();
        let reason = match base.cards {
            Some(_) => "the most that the card's memory holds, or that make a product faster",
            None => "the most whose activations stay under 1 GiB",
        };
        notes.add("train.micro_batch", format!("{} sequences", batches.join(", ")), reason, false);
    }
    Ok(Study {
        name: base.name,
        kind,
        runs,
        machine: base.machine,
        claims: claims::claims(raw)?,
        resolutions: notes.0,
    })
}

/// Refuses a study that this machine's memory does not hold.
///
/// # Errors
/// A [`UserError`] naming the model, its bytes, and the smallest change that fits.
pub fn check_memory(study: &Study) -> anyhow::Result<()> {
    match memory::available_to(study) {
        Some(free) => memory::check(study, free),
        None => Ok(()),
    }
}
