//! What a few-shot study will cost, at a speed measured here and now.

use super::open;
use super::pictures::BaseImages;
use super::runs::FewShotStudy;
use super::task::{self, ImageTask};
use crate::error::UserError;
use crate::machine::Hardware;
use crate::record::ExpectedRun;
use crate::stop::Stop;
use crate::task::Task as _;
use isoflop_base::Measured;
use isoflop_base::fewshot::Learns;
use isoflop_base::study::{PROCESSOR, RunSpec};
use isoflop_base::units::{bytes, duration, si};
use isoflop_data::images::ImageSet;
use isoflop_nn::{Engine as _, SingleDevice};
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

/// Seconds for which each kind of run is timed.
const TIMING_S: f64 = 0.5;
/// An image that is only looked at costs a third of one that is trained on.
const EVALUATION_SHARE: f64 = 1.0 / 3.0;

/// Training speed of runs that cost alike.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// The first run that has it.
    pub run: String,
    /// Images per second.
    pub images_per_s: f64,
}

/// One run's cost.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its id.
    pub run: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Images of a step.
    pub batch_images: u64,
    /// Images in all.
    pub images: u64,
    /// Whole episodes of a step, if it is trained on episodes.
    pub episodes_per_step: Option<u64>,
    /// Training FLOPs.
    pub flops: f64,
    /// Images per second.
    pub images_per_s: Measured<f64>,
    /// Seconds, evaluation included.
    pub seconds: Measured<f64>,
    /// Bytes held, of the processor's memory or of each card's.
    pub memory_bytes: u64,
    /// They by what they hold.
    pub memory: Vec<(&'static str, u64)>,
}

/// The cost of a study.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Schema of the document.
    pub schema: &'static str,
    /// The study.
    pub study: String,
    /// What it is for: `cpu`, or graphics cards.
    pub device: String,
    /// Its runs.
    pub rows: Vec<Row>,
    /// Training FLOPs.
    pub flops: f64,
    /// Seconds.
    pub seconds: Measured<f64>,
    /// Most that is held at once.
    pub peak_memory_bytes: u64,
}

/// What runs that cost alike have in common.
fn alike(a: &RunSpec, b: &RunSpec) -> bool {
    let (x, y) = (task::model(a), task::model(b));
    let kind = |of: &Learns| matches!(of, Learns::Classes { .. });
    x.width == y.width
        && x.frozen == y.frozen
        && kind(&x.learns) == kind(&y.learns)
        && a.train.micro_batch == b.train.micro_batch
}

/// Times one run of each kind for a moment on its own batches; of cards that are not here nothing is known. Nothing of
/// it enters a run.
///
/// # Errors
/// [`crate::Stopped`]; engines that cannot be made.
pub fn time(study: &FewShotStudy, set: &Arc<ImageSet>, stop: &Stop) -> anyhow::Result<Vec<Speed>> {
    let mut speeds: Vec<Speed> = Vec::new();
    if let Some(Hardware::Absent(_)) = open::cards(study)? {
        return Ok(speeds);
    }
    let mut timed: Vec<&RunSpec> = Vec::new();
    for run in &study.runs {
        if timed.iter().any(|other| alike(other, run)) {
            continue;
        }
        timed.push(run);
        let mut engine = task::engine(run, study.machine())?;
        // What a frozen backbone makes of the images is nothing to the speed.
        let base = BaseImages::new(set, task::model(run).base).map_err(UserError::from_error)?;
        let count = base.images.len() * engine.network().features;
        let features = task::model(run).frozen.then(|| (0..count).map(|i| (i as f32 * 0.37).sin()).collect());
        let mut task = ImageTask::new(run, set, features)?;
        let (mut images, mut started) = (0u64, None::<Instant>);
        for step in 0.. {
            stop.check()?;
            let batches = task.micro_batches(step..step + 1)?;
            let share = 1.0 / batches.len() as f32;
            for batch in batches {
                engine.accumulate(batch, share)?;
            }
            engine.reduce(&mut SingleDevice)?;
            engine.update(1e-6)?;
            images += run.train.batch_tokens;
            match started {
                // The first step warms caches, pages and threads.
                None => (images, started) = (0, Some(Instant::now())),
                Some(since) if since.elapsed().as_secs_f64() >= TIMING_S => {
                    let images_per_s = images as f64 / since.elapsed().as_secs_f64();
                    speeds.push(Speed { run: run.id.clone(), images_per_s });
                    break;
                }
                Some(_) => {}
            }
        }
    }
    Ok(speeds)
}

/// The cost of a study at these speeds.
///
/// # Errors
/// Networks that cannot be made.
pub fn plan(study: &FewShotStudy, speeds: &[Speed]) -> anyhow::Result<Plan> {
    let mut rows = Vec::new();
    for run in &study.runs {
        let (train, steps) = (&run.train, run.end());
        let like = |speed: &&Speed| study.runs.iter().any(|r| r.id == speed.run && alike(r, run));
        let rate = speeds.iter().find(like).map(|speed| speed.images_per_s);
        let images = run.tokens_at(steps);
        // Of an episode that is scored, its support is looked at too: about as often as its queries are judged.
        let scored = (train.eval_tokens as f64 + train.curve_tokens as f64 / train.eval_every) * 1.2;
        let work = images as f64 + EVALUATION_SHARE * scored;
        let episodes = match &task::model(run).learns {
            Learns::Classes { .. } => None,
            Learns::Episodes { shape, .. } => Some(train.batch_tokens / shape.images() as u64),
        };
        let memory = task::memory_plan(run, study.machine())?;
        rows.push(Row {
            run: run.id.clone(),
            steps,
            batch_images: train.batch_tokens,
            images,
            episodes_per_step: episodes,
            flops: images as f64 * task::flops_per_image(run),
            images_per_s: rate.map_or_else(|| Measured::missing("not timed"), Measured::measured),
            seconds: match rate {
                Some(rate) => Measured::estimated(work / rate, "a quick timing"),
                None => Measured::missing("not timed"),
            },
            memory_bytes: memory.total(),
            memory: memory.groups,
        });
    }
    let total: Option<f64> = rows.iter().map(|row| row.seconds.value().copied()).sum();
    Ok(Plan {
        schema: "isoflop.fewshot-plan/1",
        study: study.asked.name.clone(),
        device: study.machine().device.clone(),
        flops: rows.iter().map(|row| row.flops).sum(),
        seconds: match total {
            Some(seconds) => Measured::estimated(seconds, "a quick timing of each kind of run"),
            None => Measured::missing("not every run was timed"),
        },
        peak_memory_bytes: rows.iter().map(|row| row.memory_bytes).max().unwrap_or(0),
        rows,
    })
}

impl Plan {
    /// A table for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<34} {:>7} {:>9} {:>10} {:>9} {:>8} {:>9}\n",
            "run", "steps", "images", "FLOPs", "images/s", "time", "memory"
        );
        let words = |value: &Measured<f64>, show: &dyn Fn(f64) -> String| {
            value.value().map_or_else(|| "–".to_owned(), |v| show(*v))
        };
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<34} {:>7} {:>9} {:>10} {:>9} {:>8} {:>9}",
                row.run,
                row.steps,
                si(row.images as f64),
                format!("{:.2e}", row.flops),
                words(&row.images_per_s, &si),
                words(&row.seconds, &duration),
                bytes(row.memory_bytes)
            );
        }
        let _ = write!(
            text,
            "{} runs, {:.2e} FLOPs, about {}, at most {} of {}",
            self.rows.len(),
            self.flops,
            words(&self.seconds, &duration),
            bytes(self.peak_memory_bytes),
            match self.device.as_str() {
                PROCESSOR => "memory".to_owned(),
                cards => format!("each card's memory ({cards})"),
            }
        );
        text
    }

    /// What a listener expects of the runs.
    pub fn expected(&self) -> Vec<ExpectedRun> {
        let of = |row: &Row| ExpectedRun {
            id: row.run.clone(),
            seconds: row.seconds.value().copied().unwrap_or(0.0),
            batch: row.batch_images,
            flops_each: row.flops / row.images as f64,
            unit: "images",
        };
        self.rows.iter().map(of).collect()
    }
}
