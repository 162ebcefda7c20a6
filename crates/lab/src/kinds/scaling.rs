//! `scaling`: loss against model size, tokens and compute. A grid of models and lengths; the two largest sizes are
//! forecast before they are trained.

use super::{Findings, Found, Kind, Stage, Then};
use crate::error::UserError;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Base, Notes};
use crate::study::{arms, series};
use isoflop_base::study::{RunSpec, Study};

/// Sizes that are forecast.
const HELD_BACK: usize = 2;
/// Sizes a forecast is made from at least.
const LEAST_SIZES: usize = 3;

pub(super) struct Scaling;

impl Kind for Scaling {
    fn expand(&self, raw: &RawStudy, base: &Base, notes: &mut Notes) -> Result<Vec<RunSpec>, UserError> {
        arms::only(raw, "scaling", &[])?;
        series::runs(raw, base, &resolve::models(raw)?, notes)
    }

    fn stages(&self, study: &Study) -> Vec<Stage> {
        let all: Vec<usize> = (0..study.runs.len()).collect();
        let models = study.one_of_each_model();
        if models.len() < HELD_BACK + LEAST_SIZES {
            return vec![Stage { name: "series", runs: all, then: Then::GoOn }];
        }
        let held_back: Vec<&RunSpec> = models[models.len() - HELD_BACK..].to_vec();
        let is_large = |i: &usize| held_back.iter().any(|run| run.model == study.runs[*i].model);
        let (large, small): (Vec<usize>, Vec<usize>) = all.into_iter().partition(is_large);
        vec![
            Stage { name: "smaller sizes", runs: small, then: Then::Forecast(large.clone()) },
            Stage { name: "largest sizes", runs: large, then: Then::GoOn },
        ]
    }

    fn findings(&self, _found: &Found<'_>) -> Findings {
        Findings::default()
    }
}
