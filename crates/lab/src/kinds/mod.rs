//! Kinds of study: what runs a question needs, in which stages they are trained, and what the page then says.
//!
//! A kind is one module. It is asked four things and keeps no state: [`Kind::expand`] makes the runs,
//! [`Kind::stages`] orders them, [`Kind::is_of_the_law`] says which of them the study's scaling laws are fitted to, and
//! [`Kind::findings`] reads the finished points. Training, resuming, fitting and drawing are the same for all.

mod allocation;
mod batch;
mod branches;
mod data;
mod found;
mod isoflop;
mod lr;
mod scaling;
mod words;

pub use found::{Findings, Finished, Found};

use crate::error::UserError;
use crate::study::raw::RawStudy;
use crate::study::resolve::{Base, Notes};
use isoflop_base::study::{RunSpec, Study, StudyKind};

/// A kind of study.
pub trait Kind: Sync {
    /// The runs of a study, in the order in which they are trained: smaller models first.
    ///
    /// # Errors
    /// Keys this kind needs and does not find, or values that do not go together.
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError>;

    /// The runs in stages, all in one unless a kind says otherwise. What follows a stage is done once, by whoever
    /// finishes its last run.
    fn stages(&self, study: &Study) -> Vec<Stage> {
        vec![Stage { name: "runs", runs: (0..study.runs.len()).collect(), then: Then::GoOn }]
    }

    /// Whether a run is one of the series that the laws of the study are fitted to and the page draws; the others are
    /// arms that only the findings are about.
    fn is_of_the_law(&self, _study: &Study, _run: &RunSpec) -> bool {
        true
    }

    /// What the page says beyond what every study's does.
    fn findings(&self, found: &Found<'_>) -> Findings;
}

/// Runs of a study that are trained together, and what follows once all of them are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name, in messages.
    pub name: &'static str,
    /// Indices of its runs in the study.
    pub runs: Vec<usize>,
    /// What follows.
    pub then: Then,
}

/// What follows a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Nothing but the next stage.
    GoOn,
    /// The losses of these runs are forecast from what is finished, and written down before they are trained.
    Forecast(Vec<usize>),
}

/// The module of a kind.
pub fn of(kind: StudyKind) -> &'static dyn Kind {
    match kind {
        StudyKind::Scaling => &scaling::Scaling,
        StudyKind::Isoflop => &isoflop::Isoflop,
        StudyKind::Data => &data::Data,
        StudyKind::Batch => &batch::Batch,
        StudyKind::Lr => &lr::Lr,
    }
}

#[cfg(test)]
mod made;
#[cfg(test)]
mod tests;
