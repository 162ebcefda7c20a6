//! The head by ranges of positions whose logits fit their space, each row's loss and gradient in one go.

use super::super::dims::CommonMut;
use super::super::form::HeadBuffers;
use super::super::gradient::{Gradient, sum_by_groups};
use super::super::model::Model;
use super::backward::{head_backward, sum_share, task_rows};
use super::forward;
use super::sizes::KeptEnd;
use isoflop_base::TokenBatch;
use isoflop_kernels::{Chunks, cross_entropy};

/// See [`super::Form::head`].
pub(super) fn head(model: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>) {
    let (s, set, t) = (model.sizes, model.set, batch.length());
    let (c, v, stride, most) = (s.width, s.vocab, s.logits_stride, s.needs.positions);
    let HeadBuffers { pool, kept, work, logits, losses, gradients, fresh, .. } = buffers;
    let end = |sequence: usize| KeptEnd::of(s, s.end(&kept[sequence * s.kept..]));
    for from in (0..t).step_by(most) {
        let n = most.min(t - from);
        let rows = from * c..(from + n) * c;
        {
            let logits = Chunks::new(logits, most * stride);
            let losses = Chunks::new(losses, s.length);
            let work = Chunks::new(work, s.needs.work);
            pool.run(batch.sequences(), |sequence, _| {
                let (mut logits, mut losses) = (logits.hold(sequence), losses.hold(sequence));
                let logits = &mut logits[..n * stride];
                forward::logits(model, &end(sequence).normed[rows.clone()], logits);
                let targets = &batch.targets(sequence)[from..from + n];
                let losses = &mut losses[from..from + n];
                cross_entropy::forward_backward(set, logits, v, targets, scale.unwrap_or(0.0), losses);
                if scale.is_some() {
                    let mut work = work.hold(sequence);
                    head_backward(model, logits, &mut CommonMut::of(s, &mut work).dx1[rows.clone()]);
                }
            });
        }
        if scale.is_some() {
            let logits: &[f32] = logits;
            let dhead = s.layout.of_mut(gradients, s.layout.head);
            let list = [Gradient::new((v, c), task_rows(v, s.threads), dhead, &mut [])];
            let sequences = batch.sequences();
            // One group of all.
            sum_by_groups(pool, &list, (sequences, sequences), fresh && from == 0, |share, dw, _| {
                let operands = |s: usize| {
                    (&logits[s * most * stride..(s * most + n) * stride], &end(s).normed[rows.clone()], n)
                };
                sum_share(set, &list[0], &share, stride, operands, dw);
            });
        }
    }
}
