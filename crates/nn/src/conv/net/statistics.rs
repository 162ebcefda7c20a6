//! What each channel of the norms is multiplied with and raised by, from the shares of statistics that tasks left.

use super::Norm;
use crate::conv::config::Unit;
use isoflop_kernels::AlignedBuffer;
use isoflop_kernels::batchnorm::{EPSILON, MOMENTUM, Moments, Normed, centring, scale_and_shift};

/// Numbers of each channel, those of all norms behind each other.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) scale: AlignedBuffer,
    pub(super) shift: AlignedBuffer,
    pub(super) mean: AlignedBuffer,
    pub(super) rstd: AlignedBuffer,
    pub(super) by_x: AlignedBuffer,
    pub(super) rest: AlignedBuffer,
}

/// Buffers of [`Channels`].
const BUFFERS: u64 = 6;

impl Channels {
    pub(super) fn new(channels: usize) -> Self {
        let zeroed = || AlignedBuffer::zeroed(channels);
        Self {
            scale: zeroed(),
            shift: zeroed(),
            mean: zeroed(),
            rstd: zeroed(),
            by_x: zeroed(),
            rest: zeroed(),
        }
    }

    pub(super) fn planned(channels: usize) -> u64 {
        BUFFERS * AlignedBuffer::bytes(channels) as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        let all = [&self.scale, &self.shift, &self.mean, &self.rstd, &self.by_x, &self.rest];
        all.iter().map(|buffer| AlignedBuffer::bytes(buffer.len()) as u64).sum()
    }

    /// A unit's outputs with its factors.
    pub(super) fn normed<'a>(&'a self, unit: &Unit, x: &'a [f32]) -> Normed<'a> {
        let own = unit.channel..unit.channel + unit.shape.outputs;
        Normed { x, scale: &self.scale[own.clone()], shift: &self.shift[own] }
    }

    /// Factors of one channel from its mean and variance.
    fn set(&mut self, at: usize, mean: f64, variance: f64, gamma: f32, beta: f32) {
        (self.scale[at], self.shift[at]) = scale_and_shift(mean, variance, gamma, beta);
        self.mean[at] = mean as f32;
        self.rstd[at] = (1.0 / libm::sqrt(variance + EPSILON)) as f32;
    }

    /// Factors from running statistics.
    pub(super) fn freeze(&mut self, unit: &Unit, running: &[AlignedBuffer; 2], gamma: &[f32], beta: &[f32]) {
        for i in 0..unit.shape.outputs {
            let at = unit.channel + i;
            self.set(at, f64::from(running[0][at]), f64::from(running[1][at]), gamma[i], beta[i]);
        }
    }

    /// Factors from the tasks' shares of a batch's statistics, joined in order; `rows` gives the rows of each task. The
    /// running statistics follow.
    pub(super) fn join<'a>(
        &mut self,
        unit: &Unit,
        shares: impl Iterator<Item = (&'a [f64], usize)> + Clone,
        running: &mut [AlignedBuffer; 2],
        gamma: &[f32],
        beta: &[f32],
    ) {
        for i in 0..unit.shape.outputs {
            let mut all = Moments::default();
            for (share, rows) in shares.clone() {
                let share = &share[2 * i..2 * i + 2];
                all = all.join(Moments { rows: rows as f64, mean: share[0], squares: share[1] });
            }
            let at = unit.channel + i;
            self.set(at, all.mean, all.variance(), gamma[i], beta[i]);
            let batch = [all.mean, all.unbiased_variance()];
            for (running, batch) in running.iter_mut().zip(batch) {
                let was = f64::from(running[at]);
                running[at] = (was + MOMENTUM * (batch - was)) as f32;
            }
        }
    }

    /// Gradients of a norm's weight and bias from the tasks' shares (Σ d, Σ d·x̂), and the factors that the pass to its
    /// input needs. `rows` is that of the whole batch.
    pub(super) fn join_backward<'a>(
        &mut self,
        unit: &Unit,
        shares: impl Iterator<Item = &'a [f64]> + Clone,
        norm: Norm,
        rows: usize,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        for i in 0..unit.shape.outputs {
            let (mut sum, mut dot) = (0.0, 0.0);
            for share in shares.clone() {
                sum += share[2 * i];
                dot += share[2 * i + 1];
            }
            (dbeta[i], dgamma[i]) = (sum as f32, dot as f32);
            let at = unit.channel + i;
            let (mean, rstd, scale) =
                (f64::from(self.mean[at]), f64::from(self.rstd[at]), f64::from(self.scale[at]));
            let rows = rows as f64;
            (self.by_x[at], self.rest[at]) = match norm {
                Norm::Batch => centring(mean, rstd, scale, sum / rows, dot / rows),
                Norm::Running => (0.0, 0.0),
            };
        }
    }
}
