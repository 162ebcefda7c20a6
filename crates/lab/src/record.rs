//! What happens while a study runs, told to whoever listens: a terminal, a live page, alarms.
//!
//! A run's rows and points go into its store first, through [`RunRecorder`]; a listener hears only of what is on disk.

use crate::instruments::Voice;
use crate::plan::Plan;
use isoflop_base::{CurveRow, Point};
use isoflop_store::Run;
use std::sync::Arc;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The study's cost is known; its runs begin.
    Planned(&'a Plan),
    /// The same of a study of another family: a text for people, and what is known of its runs.
    Expected(&'a str, Vec<ExpectedRun>),
    /// A run begins, or goes on after `done` of its optimiser `steps`.
    RunBegins {
        /// Its id.
        run: &'a str,
        /// Optimiser steps it executes in all, branches included.
        steps: u64,
        /// Those executed before.
        done: u64,
    },
    /// A step was done.
    Stepped {
        /// Optimiser steps of the run executed so far.
        executed: u64,
        /// `trunk`, or the branch's tokens.
        segment: &'a str,
        /// Mean training loss over about the last twenty steps.
        loss: f64,
    },
    /// A row of the training curve, at this position of the run's log.
    Row(u64, &'a CurveRow),
    /// A finished point is being scored.
    Evaluating,
    /// A finished point, at this position of the run's log.
    Point(u64, &'a Point),
    /// The current run is over, for now or for good.
    RunEnds,
    /// A run of the study that needs no training here: it is finished, diverged before, or another process holds it.
    RunLeft(&'a str),
    /// All runs are over; laws are being fitted.
    Fitting,
    /// Something a person should read.
    Note(&'a str),
}

/// What is known of a run before it starts, for its speed and for the remaining time.
#[derive(Debug, Clone)]
pub struct ExpectedRun {
    /// Run id.
    pub id: String,
    /// Seconds it should take.
    pub seconds: f64,
    /// Tokens or images per optimiser step.
    pub batch: u64,
    /// Training FLOPs of each.
    pub flops_each: f64,
    /// What they are: `tokens`, `images`.
    pub unit: &'static str,
}

/// Somebody who is told what happens.
pub trait Recorder {
    /// Takes note of an event.
    ///
    /// # Errors
    /// What keeps the event from being recorded and must end the run, such as a full disk. A listener that is merely
    /// gone (a closed terminal) is no error.
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()>;

    /// A way to say words at once from any thread, for what cannot wait for the next event.
    fn voice(&self) -> Voice {
        Arc::new(|_| {})
    }

    /// Takes note of words for a person.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    fn note(&mut self, words: &str) -> anyhow::Result<()> {
        self.record(&Event::Note(words))
    }
}

/// Nobody listens: tests, and all ranks of a group but the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Recorder for Silent {
    fn record(&mut self, _event: &Event<'_>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Several listeners, told in order.
#[derive(Default)]
pub struct All<'a>(pub Vec<Box<dyn Recorder + 'a>>);

impl Recorder for All<'_> {
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|recorder| recorder.record(event))
    }

    fn voice(&self) -> Voice {
        let voices: Vec<Voice> = self.0.iter().map(|recorder| recorder.voice()).collect();
        Arc::new(move |words| voices.iter().for_each(|voice| voice(words)))
    }
}

/// A run's own recorder: rows and points are in the store before anybody else hears of them.
pub struct RunRecorder<'a> {
    /// The run's directory: logs, TensorBoard files, checkpoints.
    pub run: &'a mut Run,
    /// Everybody else.
    pub world: &'a mut dyn Recorder,
}

impl Recorder for RunRecorder<'_> {
    fn record(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Row(position, row) => self.run.append_curve(*position, row)?,
            Event::Point(position, point) => self.run.add_point(*position, point)?,
            _ => {}
        }
        self.world.record(event)
    }
}
