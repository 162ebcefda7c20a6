//! `data`: what data are worth. The arms of a study say which question it asks: how much junk a law takes (`junk`,
//! `shares`, `tagged`), how often text can be read again (`unique`), where duplicates lie (`copies`), how sources are
//! best mixed (`mixes`); clean text is trained on always, and the study's laws are those of the clean arm.
//!
//! Shares of junk and branch points are chosen as powers of two where equal clean and equal total tokens are to be one
//! grid: 2 M tokens of which half are junk have the clean tokens of 1 M without.

mod compare;
mod copies;
mod junk;
mod mixture;
mod overfit;
mod repeat;
mod several;

use super::{Findings, Found, Kind};
use crate::error::UserError;
use crate::study::arms;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Base, Notes};
use isoflop_base::study::{RunSpec, Study};

/// Keys of `[arms]`.
const KEYS: [&str; 11] = [
    "junk",
    "shares",
    "tagged",
    "tagged_shares",
    "tag",
    "unique",
    "weight_decay",
    "copies",
    "copies_share",
    "passage_tokens",
    "mixes",
];

pub(super) struct Data;

impl Kind for Data {
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError> {
        let known: Vec<&str> = KEYS.into_iter().chain(["held_out"]).collect();
        arms::only(raw, "data", &known)?;
        arms::runs(raw, &arms::of_data(raw, base)?, &resolve::models(raw)?, notes)
    }

    fn is_of_the_law(&self, study: &Study, run: &RunSpec) -> bool {
        match run.arm.get("junk").map(String::as_str) {
            Some("none") => true,
            Some(_) => false,
            None if run.arm.contains_key("mix") => run.arm == study.runs[0].arm,
            None => run.arm.is_empty(),
        }
    }

    fn findings(&self, found: &Found<'_>) -> Findings {
        let mut all = Findings::default();
        for of_question in
            [junk::findings, repeat::findings, overfit::findings, copies::findings, mixture::findings]
        {
            let Findings { answer, sections, verdicts } = of_question(found);
            all.answer = all.answer.or(answer);
            all.sections.extend(sections);
            all.verdicts.extend(verdicts);
        }
        all
    }
}
