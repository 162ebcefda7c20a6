//! Kinds of study: what runs a question needs, in which stages they are trained, and what the page then says.
//!
//! A kind is one module. It is asked three things and keeps no state: [`Kind::expand`] makes the runs,
//! [`Kind::stages`] orders them, [`Kind::findings`] reads the finished points. Training, resuming, fitting and
//! drawing are the same for all.

mod allocation;
mod isoflop;
mod scaling;

use crate::error::UserError;
use crate::study::raw::RawStudy;
use crate::study::resolve::{Base, Notes};
use isoflop_base::study::{RunSpec, Study, StudyKind};
use isoflop_laws::LawDocument;
use isoflop_report::Section;

/// A kind of study.
pub trait Kind: Sync {
    /// The runs of a study, in the order in which they are trained: smaller models first.
    ///
    /// # Errors
    /// Keys this kind needs and does not find, or values that do not go together.
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError>;

    /// The runs in stages. What follows a stage is done once, by whoever finishes its last run.
    fn stages(&self, study: &Study) -> Vec<Stage>;

    /// Sections of the page beyond those that every study has.
    fn findings(&self, study: &Study, laws: Option<&LawDocument>) -> Vec<Section>;
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
    }
}

#[cfg(test)]
mod tests;
