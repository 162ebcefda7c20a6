//! The finished point a run has come to.

use crate::task::{Score, Seen};
use isoflop_base::study::RunSpec;
use isoflop_base::{Cost, Measured, Point, PointKind, SourceLoss, SourceSeen};

/// What is known of a run at the end of one of its points.
pub(super) struct Finished {
    pub(super) kind: PointKind,
    pub(super) steps: u64,
    pub(super) seen: Seen,
    pub(super) score: Score,
    /// Training along the path that led there.
    pub(super) cost: Cost,
    pub(super) energy_j: Measured<f64>,
    /// What the machine reaches at most.
    pub(super) peak_flops_per_s: Measured<f64>,
    pub(super) sources: Vec<SourceSeen>,
    pub(super) held_out: Vec<SourceLoss>,
}

impl Finished {
    pub(super) fn point(self, spec: &RunSpec) -> Point {
        let Self { kind, steps, seen, score, cost, energy_j, peak_flops_per_s, sources, held_out } = self;
        let peak_share = match cost.seconds > 0.0 {
            true => peak_flops_per_s.map(|peak| seen.flops / cost.seconds / peak),
            false => Measured::missing("no time was measured"),
        };
        let (train, gpt) = (&spec.train, spec.model.gpt());
        let init = match &train.init_from {
            Some(_) => "checkpoint",
            None => gpt.map_or("own", |gpt| gpt.init.word()),
        };
        let per_byte = spec.data.bytes_per_token.map(|bytes| score.loss / std::f64::consts::LN_2 / bytes);
        Point {
            run: spec.id.clone(),
            kind,
            shape: gpt.map(|gpt| gpt.shape),
            params: spec.model.params(),
            params_total: spec.model.params_total(),
            tokens: seen.samples,
            flops: seen.flops,
            flops_6nd: 6.0 * spec.model.params() as f64 * seen.samples as f64,
            loss: score.loss,
            loss_se: score.se,
            bits_per_byte: per_byte,
            epochs: seen.epochs,
            unique_tokens: seen.unique,
            steps,
            batch_tokens: train.batch_tokens,
            lr: train.lr,
            schedule: train.schedule.word().to_owned(),
            init: init.to_owned(),
            context: gpt.map(|gpt| gpt.context),
            vocab: gpt.map(|gpt| gpt.vocab),
            seed: spec.seed,
            precision: train.precision.word().to_owned(),
            kernels: train.kernels.clone(),
            seconds: Measured::measured(cost.seconds),
            tokens_per_s: match cost.seconds > 0.0 {
                true => Measured::measured(seen.samples as f64 / cost.seconds),
                false => Measured::missing("no time was measured"),
            },
            energy_j,
            peak_share,
            sources,
            held_out,
            arm: spec.arm.clone(),
            blocks: score.blocks,
        }
    }
}
