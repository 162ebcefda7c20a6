//! What training an entry of a few-shot study cost, as its store has it.

use super::runs::{Entry, FewShotStudy};
use super::task;
use crate::collect;
use isoflop_base::Measured;
use isoflop_store::Store;

/// Seconds, joules, operations and bytes of an entry's training.
pub struct Spent {
    /// Of the training on episodes.
    pub seconds: Measured<f64>,
    /// Of the pre-training.
    pub start_seconds: Measured<f64>,
    /// Of both.
    pub joules: Measured<f64>,
    /// Of both.
    pub flops: f64,
    /// Episodes it was trained on.
    pub episodes: u64,
    /// Held in training.
    pub memory_bytes: Measured<u64>,
}

impl Spent {
    /// As the store has it.
    ///
    /// # Errors
    /// A store that cannot be read; networks that cannot be made.
    pub fn of(study: &FewShotStudy, entry: &Entry, store: &Store) -> anyhow::Result<Self> {
        let read = |index: usize| store.read_run(&study.runs[index].id);
        let cost = |index: usize| read(index).and_then(|run| run.cost());
        let seconds = |index: usize| -> anyhow::Result<Measured<f64>> {
            let missing = || Measured::missing("the run has no checkpoint");
            Ok(cost(index)?.map_or_else(missing, |cost| Measured::measured(cost.seconds)))
        };
        let trained = entry.method.is_trained();
        let all: Vec<usize> = entry.start.into_iter().chain(trained.then_some(entry.run)).collect();
        let (mut joules, mut flops) = (Measured::measured(0.0), 0.0);
        for index in all {
            let run = &study.runs[index];
            joules = joules.plus(collect::joules_of(cost(index)?, &read(index)?.points()?));
            flops += task::flops_per_image(run) * run.tokens_at(run.end()) as f64;
        }
        let run = &study.runs[entry.run];
        let memory = task::memory_plan(run, study.machine())?;
        Ok(Self {
            seconds: if trained { seconds(entry.run)? } else { Measured::measured(0.0) },
            start_seconds: entry.start.map_or(Ok(Measured::measured(0.0)), seconds)?,
            joules,
            flops,
            episodes: if trained { task::episodes(run) } else { 0 },
            memory_bytes: Measured::measured(memory.total()),
        })
    }
}
