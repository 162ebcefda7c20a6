//! A listener between a run and the world: what it hears of the training curve is judged by the alarms' rules.

use super::{Instruments, alarms};
use crate::record::{Event, Recorder};
use isoflop_base::CurveRow;
use isoflop_base::instruments::AlarmKind;
use std::sync::atomic::Ordering;

/// Rows that are kept for the rules: more than any of them looks back on.
const KEPT: usize = 120;

/// Hears of one run, and passes on everything.
pub struct Watch<'a> {
    instruments: &'a Instruments,
    world: &'a mut dyn Recorder,
    /// The last rows of the current segment.
    rows: Vec<CurveRow>,
}

impl<'a> Watch<'a> {
    /// Listens to the run that was attached.
    pub fn new(instruments: &'a Instruments, world: &'a mut dyn Recorder) -> Self {
        Self { instruments, world, rows: Vec::new() }
    }

    /// The run's loss or gradient became no number, at this step.
    pub fn diverged(&self, step: u64, segment: &str) {
        let words = format!("loss or gradient is no number at step {step} of {segment}; the run ends there");
        self.instruments.raise(AlarmKind::NonFinite, segment, Some(step), &words);
    }

    fn row(&mut self, row: &CurveRow) {
        if self.rows.last().is_some_and(|last| last.segment != row.segment) {
            self.rows.clear();
        }
        if self.rows.len() == KEPT {
            self.rows.remove(0);
        }
        self.rows.push(row.clone());
        for (kind, words) in alarms::of_rows(&self.rows) {
            self.instruments.raise(kind, &row.segment, Some(row.step), &words);
        }
    }
}

impl Recorder for Watch<'_> {
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        let shared = &self.instruments.shared;
        match event {
            Event::Stepped { executed, .. } => {
                shared.steps.store(*executed, Ordering::Relaxed);
                shared.scoring.store(false, Ordering::Relaxed);
            }
            Event::Evaluating => shared.scoring.store(true, Ordering::Relaxed),
            Event::Row(_, row) if !shared.spec.meter.no_samples => self.row(row),
            _ => {}
        }
        self.world.record(event)
    }
}
