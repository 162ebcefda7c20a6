//! A store as it is seen from outside: its runs, read as they grow, in bounded room and in small pieces.

use crate::run::Run;
use isoflop_base::study::RunSpec;
use isoflop_store::Store;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of curves read in one turn: a page need not wait for the whole of a large store.
const CURVES_A_TURN: u64 = 24 << 20;
/// Bytes of one curve read at once.
const CURVE_AT_ONCE: u64 = 8 << 20;
/// Turns between two looks at runs that are over, and for new runs.
const RARELY: u64 = 8;

/// A store that is watched.
#[derive(Debug)]
pub struct Seen {
    root: PathBuf,
    turn: u64,
    pub(crate) runs: BTreeMap<String, Run>,
    /// Runs that are planned and not begun, with the seconds they should take.
    pub(crate) planned: Vec<Planned>,
    plan_study: String,
    /// Runs that are gone since the page last heard.
    pub(crate) removed: Vec<String>,
    /// Why nothing is seen.
    pub(crate) problem: Option<String>,
    /// Curves that are not read yet.
    unread: BTreeSet<String>,
}

/// A run of the plan beside the store.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Planned {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) flops: f64,
    #[serde(default)]
    pub(crate) params: Option<u64>,
    #[serde(default)]
    pub(crate) points_tokens: Vec<u64>,
    #[serde(default)]
    seconds: Option<Seconds>,
}

#[derive(Debug, Clone, Deserialize)]
struct Seconds {
    value: Option<f64>,
}

impl Planned {
    pub(crate) fn seconds(&self) -> Option<f64> {
        self.seconds.as_ref().and_then(|s| s.value)
    }
}

#[derive(Debug, Deserialize)]
struct Plan {
    #[serde(default)]
    study: String,
    #[serde(default)]
    rows: Vec<Planned>,
}

impl Seen {
    /// A store that may not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            turn: 0,
            runs: BTreeMap::new(),
            planned: Vec::new(),
            plan_study: String::new(),
            removed: Vec::new(),
            problem: None,
            unread: BTreeSet::new(),
        }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads what is new, a bounded piece of it; whether there is more to read at once.
    pub fn look(&mut self) -> bool {
        let rarely = self.turn.is_multiple_of(RARELY);
        self.turn += 1;
        if rarely {
            self.find_runs();
        }
        for (id, run) in &mut self.runs {
            if run.is_live() || rarely {
                run.read_state();
                self.unread.insert(id.clone());
            }
        }
        let mut left = CURVES_A_TURN;
        while left > 0
            && let Some(id) = self.unread.pop_first()
        {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            let before = run.rows;
            if run.read_curve(CURVE_AT_ONCE) {
                self.unread.insert(id);
                left = left.saturating_sub(CURVE_AT_ONCE);
            } else {
                // About what a row takes.
                left = left.saturating_sub(400 * run.rows.saturating_sub(before));
            }
        }
        !self.unread.is_empty()
    }

    /// Takes notice of runs that came, went, or are others under the same name.
    fn find_runs(&mut self) {
        self.problem = None;
        let ids = match Store::open_existing(&self.root) {
            Ok(store) => store.run_ids().map(|ids| (store, ids)),
            Err(_) => {
                self.problem = Some(format!("{} is not there yet", self.root.display()));
                self.forget(&BTreeSet::new());
                return;
            }
        };
        let (store, ids) = match ids {
            Ok(found) => found,
            Err(e) => {
                self.problem = Some(e.to_string());
                return;
            }
        };
        self.forget(&ids.iter().cloned().collect());
        for id in ids {
            if self.runs.get(&id).is_some_and(|run| !run.is_other()) {
                continue;
            }
            match store.read_run(&id) {
                Ok(view) => {
                    let mut run = Run::open(view);
                    run.fresh.reset = true;
                    self.runs.insert(id, run);
                }
                Err(e) => self.problem = Some(e.to_string().lines().next().unwrap_or_default().to_owned()),
            }
        }
        self.read_plan();
    }

    fn forget(&mut self, present: &BTreeSet<String>) {
        let gone: Vec<String> = self.runs.keys().filter(|id| !present.contains(*id)).cloned().collect();
        for id in gone {
            self.runs.remove(&id);
            self.unread.remove(&id);
            self.removed.push(id);
        }
    }

    /// A study writes its plan beside its store; runs that are not begun are known from there.
    fn read_plan(&mut self) {
        let path = self.root.parent().map(|out| out.join(isoflop_lab::out::PLAN));
        let plan: Option<Plan> =
            path.and_then(|path| std::fs::read(path).ok()).and_then(|b| serde_json::from_slice(&b).ok());
        let Some(plan) = plan else {
            self.planned.clear();
            return;
        };
        // Of another study's plan nothing is waiting here.
        let ours = self.runs.values().any(|run| run.study() == plan.study) || self.runs.is_empty();
        self.planned =
            plan.rows.into_iter().filter(|row| ours && !self.runs.contains_key(&row.run)).collect();
        self.plan_study = plan.study;
    }

    /// Runs it has.
    pub fn num_runs(&self) -> usize {
        self.runs.len()
    }

    /// Runs whose curves have been read, and all.
    pub(crate) fn read_so_far(&self) -> (usize, usize) {
        (self.runs.values().filter(|run| run.read).count(), self.runs.len())
    }

    /// The studies of the store by name, with their runs' ids.
    pub(crate) fn studies(&self) -> BTreeMap<&str, Vec<&Run>> {
        let mut studies: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in self.runs.values() {
            studies.entry(run.study()).or_default().push(run);
        }
        studies
    }

    /// Planned runs of a study.
    pub(crate) fn planned_of(&self, study: &str) -> &[Planned] {
        if study == self.plan_study { &self.planned } else { &[] }
    }

    /// Progress of a study: the share of its work that is done, and the seconds left, as far as they can be told.
    pub(crate) fn progress(&self, study: &str, runs: &[&Run]) -> Progress {
        let (mut done, mut all, mut rate_flops, mut rate_s) = (0.0, 0.0, 0.0, 0.0);
        let mut known = true;
        for run in runs {
            let over = !run.is_live();
            match (run.steps(), run.flops_per_step()) {
                (Some((d, t)), Some(each)) => {
                    done += d as f64 * each;
                    // What diverged or failed will do no more by itself.
                    all += if over { d as f64 * each } else { t as f64 * each };
                    if let Some(cost) = run.cost.filter(|cost| cost.seconds > 0.0) {
                        rate_flops += d as f64 * each;
                        rate_s += cost.seconds;
                    }
                }
                _ => known &= over,
            }
        }
        let waiting = self.planned_of(study);
        all += waiting.iter().map(|row| row.flops).sum::<f64>();
        // The plan's own estimate, mended by how long what is done really took.
        let current: Option<f64> = runs.iter().filter(|run| run.is_live()).map(|run| run.eta_s()).sum();
        let planned: Option<f64> = waiting.iter().map(Planned::seconds).sum();
        let by_rate =
            (rate_s > 0.0).then(|| waiting.iter().map(|row| row.flops).sum::<f64>() * rate_s / rate_flops);
        Progress {
            share: (known && all > 0.0).then(|| (done / all).min(1.0)),
            eta_s: current.zip(by_rate.or(planned)).map(|(a, b)| a + b).filter(|s| s.is_finite()),
        }
    }

    /// Marks all as heard.
    pub(crate) fn heard(&mut self) {
        self.removed.clear();
        for run in self.runs.values_mut() {
            run.fresh = Default::default();
        }
    }
}

/// How far a study is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Progress {
    pub(crate) share: Option<f64>,
    pub(crate) eta_s: Option<f64>,
}

/// Specifications of runs.
pub(crate) fn specs<'a>(runs: &[&'a Run]) -> Vec<&'a RunSpec> {
    runs.iter().filter_map(|run| Some(&run.facts.as_ref()?.spec)).collect()
}

#[cfg(test)]
pub(crate) mod tests;
