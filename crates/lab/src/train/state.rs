//! Where a run stands: all that decides, together with the engine's tensors, what comes next.

use super::laps::{Activity, Spent};
use isoflop_base::{Cost, NoisePairs};
use serde::{Deserialize, Serialize};

/// Version of `state.json`.
pub const STATE_SCHEMA: &str = "isoflop.state/1";

/// What a step left to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stepped {
    /// Mean loss of the batch, nats per token.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
}

/// Where a run stands in its program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub(super) schema: String,
    /// Things done so far (steps, rows, points): grows with each, also where the step goes back to a fork.
    pub position: u64,
    /// Index of the segment.
    pub segment: usize,
    /// Steps from the start along the path that led here, in batches of the trunk; those an engine skipped are among
    /// them.
    pub step: u64,
    /// The segment's ending has been dealt with; the next one is to be entered.
    pub segment_done: bool,
    /// Ends of the points up to and including the one this segment leads to: the part of the program that is behind.
    /// Empty in checkpoints of the first format.
    #[serde(default)]
    pub ends: Vec<u64>,
    /// The last step, while its row is not written.
    pub unlogged: Option<Stepped>,
    /// Smoothed training loss and its weight, for the progress line.
    pub(super) smooth: (f64, f64),
    /// Cost of training along the path.
    pub path_cost: Cost,
    /// Cost of training in all, branches included.
    pub total_cost: Cost,
    /// Costs of everything, by activity.
    #[serde(default)]
    pub spent: Spent,
    /// Seconds spent waiting for batches.
    #[serde(default)]
    pub waited_s: f64,
    /// Steps along the path whose gradients overflowed under the loss scale, so that the weights did not move.
    #[serde(default)]
    pub skipped: u64,
    /// The gradient norm of the last step that was made: a skipped one has none.
    #[serde(default)]
    pub(super) grad_norm: f64,
    /// Steps and seconds since the last row.
    pub(super) since_row: (u64, f64),
    /// Seconds of those spent waiting for batches.
    #[serde(default)]
    pub(super) waited_since_row_s: f64,
    /// Pairs of gradient norms since the last row.
    #[serde(default)]
    pub(super) noise: Option<NoisePairs>,
}

/// The time between two rows of a training curve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    steps: u64,
    seconds: f64,
    waited_s: f64,
}

impl Interval {
    /// Tokens per second.
    pub(super) fn tokens_per_s(self, batch_tokens: u64) -> Option<f64> {
        self.measured().then(|| (self.steps * batch_tokens) as f64 / self.seconds)
    }

    /// Share of the time spent waiting for batches.
    pub(super) fn data_wait(self) -> Option<f64> {
        self.measured().then(|| self.waited_s / self.seconds)
    }

    fn measured(self) -> bool {
        self.steps > 0 && self.seconds > 0.0
    }
}

impl Place {
    /// The very beginning, on the way to a first point.
    pub fn start(ends: Vec<u64>) -> Self {
        Self {
            schema: STATE_SCHEMA.to_owned(),
            position: 0,
            segment: 0,
            step: 0,
            segment_done: false,
            ends,
            unlogged: None,
            smooth: (0.0, 0.0),
            path_cost: Cost::NOTHING,
            total_cost: Cost::NOTHING,
            spent: Spent::default(),
            waited_s: 0.0,
            skipped: 0,
            grad_norm: 0.0,
            since_row: (0, 0.0),
            waited_since_row_s: 0.0,
            noise: None,
        }
    }

    /// A step of so many batches was done in so many seconds, of which it waited some for them.
    pub fn stepped(&mut self, step: Stepped, batches: u64, seconds: f64, waited_s: f64) {
        self.waited_s += waited_s;
        self.waited_since_row_s += waited_s;
        self.position += 1;
        self.step += batches;
        self.smooth = (0.95 * self.smooth.0 + 0.05 * step.loss, 0.95 * self.smooth.1 + 0.05);
        self.unlogged = Some(step);
        self.since_row = (self.since_row.0 + batches, self.since_row.1 + seconds);
    }

    /// A lap has ended.
    pub fn charge(&mut self, (activity, cost): (Activity, Cost)) {
        if activity == Activity::Training {
            self.path_cost.add(cost);
            self.total_cost.add(cost);
        }
    }

    /// A step measured the gradient of a small and a big batch.
    pub fn saw_noise(&mut self, pair: NoisePairs) {
        self.noise = Some(self.noise.map_or(pair, |before| before.with(pair)));
    }

    /// Means over the pairs since the last row.
    pub fn take_noise(&mut self) -> Option<NoisePairs> {
        self.noise.take()
    }

    /// Mean training loss over about the last twenty steps.
    pub fn smooth_loss(&self) -> f64 {
        if self.smooth.1 > 0.0 { self.smooth.0 / self.smooth.1 } else { f64::NAN }
    }

    /// What was measured since the last row; the next one begins.
    pub(super) fn take_interval(&mut self) -> Interval {
        let (steps, seconds) = std::mem::take(&mut self.since_row);
        Interval { steps, seconds, waited_s: std::mem::take(&mut self.waited_since_row_s) }
    }

    /// This place as it is returned to from further on: what was spent and logged since stays so.
    pub fn returned_to_from(self, later: &Self) -> Self {
        Self {
            position: later.position,
            total_cost: later.total_cost,
            spent: later.spent,
            waited_s: later.waited_s,
            ..self
        }
    }
}
