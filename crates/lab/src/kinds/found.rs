//! What a kind of study reads once its runs are over, and what it says of them.

use isoflop_base::study::{RunSpec, Study};
use isoflop_base::{CurveRow, Point, Status};
use isoflop_laws::{LawDocument, Options, Table};
use isoflop_report::{Answer, Section, Verdict};
use isoflop_store::Collected;
use std::collections::BTreeSet;

/// The finished points of a study's runs, with their place in it.
pub struct Found<'a> {
    /// The study.
    pub study: &'a Study,
    /// Finished points of runs that are done, in the order of the runs, each run's by rising tokens.
    pub points: Vec<Finished<'a>>,
    /// Training curves of all runs.
    pub curves: &'a [CurveRow],
    /// The laws of the study's series.
    pub laws: Option<&'a LawDocument>,
    /// How further laws are fitted.
    pub options: &'a Options,
}

/// A finished point and the run it is of.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    /// The run.
    pub run: &'a RunSpec,
    /// The point.
    pub point: &'a Point,
}

/// What a kind of study says.
#[derive(Default)]
pub struct Findings {
    /// The answer to the study's question, which its page begins with.
    pub answer: Option<Answer>,
    /// Sections of the page.
    pub sections: Vec<Section>,
    /// Published claims that its runs can judge.
    pub verdicts: Vec<Verdict>,
}

impl<'a> Found<'a> {
    /// What the runs of a study have left. Points of runs that are not done say nothing.
    pub fn of(
        study: &'a Study,
        collected: &'a Collected,
        curves: &'a [CurveRow],
        laws: Option<&'a LawDocument>,
        options: &'a Options,
    ) -> Self {
        let mut points = Vec::new();
        for run in &study.runs {
            let of_run = collected.runs.iter().filter(|r| r.id() == run.id && r.status == Status::Done);
            points.extend(of_run.flat_map(|r| &r.points).map(|point| Finished { run, point }));
        }
        Self { study, points, curves, laws, options }
    }

    /// Seeds of the study's runs, each counted once.
    pub fn seeds(&self) -> usize {
        self.study.runs.iter().map(|run| run.seed).collect::<BTreeSet<_>>().len()
    }

    /// How one form is fitted to a few rows, for its estimate and profile alone.
    pub fn options_of(&self, form: &str) -> Options {
        Options {
            forms: vec![form.to_owned()],
            dense: false,
            holdout: false,
            bootstrap: 0,
            ..self.options.clone()
        }
    }

    /// The points of runs for which `keep` holds, as a table for the laws.
    pub fn table(&self, keep: impl Fn(&RunSpec) -> bool) -> Table {
        let kept = self.points.iter().filter(|f| keep(f.run));
        let mut table = Table::from_points(kept.map(|f| (f.point, &Status::Done)));
        // Arms and seeds are named in the run: what a point was stored with may be of another study.
        for row in &mut table.rows {
            if let Some(run) = self.study.runs.iter().find(|run| run.id == row.run) {
                match run.junk_share() {
                    Some(share) => row.extra.insert("junk".to_owned(), share),
                    None => row.extra.remove("junk"),
                };
            }
        }
        table
    }
}

impl Finished<'_> {
    /// Its run's value on an axis of the study.
    pub fn arm(&self, axis: &str) -> Option<&str> {
        self.run.arm.get(axis).map(String::as_str)
    }

    /// The same as a number.
    pub fn arm_number(&self, axis: &str) -> Option<f64> {
        self.run.arm_number(axis)
    }
}
