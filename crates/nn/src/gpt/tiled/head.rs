//! The head in cells of bf16, by strips of rows whose logits stay in a thread's cache: losses, gradients of the logits,
//! back to the normed rows. Only gradients of logits, rounded, wait in memory for the embedding's gradient.

use super::super::dims::CommonMut;
use super::super::form::HeadBuffers;
use super::super::gradient::{Gradient, sum_by_groups};
use super::super::model::Model;
use super::sizes::{HeadScratchMut, KeptEnd, Work, WorkMut, head_groups, strip_rows};
use super::{narrow, narrow_mut, right, start};
use isoflop_base::TokenBatch;
use isoflop_kernels::tiles::{CELL, Cells, SIDE, cells, convert, product};
use isoflop_kernels::{Chunks, cross_entropy};

/// See [`super::Form::head`].
pub(super) fn head(m: &Model<'_>, batch: &TokenBatch, scale: Option<f32>, buffers: HeadBuffers<'_>) {
    let (s, t, c) = (m.sizes, batch.length(), m.sizes.width);
    let HeadBuffers { pool, kept, work, logits, losses, scratch, partial, gradients, fresh } = buffers;
    let end = |sequence: usize| KeptEnd::of(s, s.end(&kept[sequence * s.kept..]));
    let most = s.needs.positions;
    for from in (0..t).step_by(most) {
        let n = most.min(t - from);
        {
            let logits = Chunks::new(logits, s.needs.logits);
            let losses = Chunks::new(losses, s.length);
            let (work, scratch) = (Chunks::new(work, s.needs.work), Chunks::new(scratch, s.needs.scratch));
            pool.run(batch.sequences(), |sequence, thread| {
                let normed = narrow(end(sequence).normed);
                let (mut dlogits, mut losses) = (logits.hold(sequence), losses.hold(sequence));
                let (mut work, mut scratch) = (work.hold(sequence), scratch.hold(thread));
                for first in (from..from + n).step_by(strip_rows(s)) {
                    let rows = strip_rows(s).min(from + n - first);
                    let strip = Strip { first, targets: &batch.targets(sequence)[first..first + rows] };
                    let dnormed = &mut CommonMut::of(s, &mut work).dx1[first * c..(first + rows) * c];
                    let dlogits = &mut narrow_mut(&mut dlogits)[(first - from) * cells(s.vocab) * SIDE..];
                    let losses = &mut losses[first..first + rows];
                    strip.walk(m, normed, scale, losses, dnormed, dlogits, &mut scratch);
                }
                if scale.is_some() && from == 0 {
                    convert::interleave(m.set, normed, (t, c), narrow_mut(WorkMut::of(s, &mut work).dout));
                }
            });
        }
        if scale.is_some() {
            let (logits, work): (&[f32], &[f32]) = (logits, work);
            let dhead = s.layout.of_mut(gradients, s.layout.head);
            let list = [Gradient::new((s.vocab, c), SIDE, dhead, partial)];
            let scratch = Chunks::new(scratch, s.needs.scratch);
            let sequences = batch.sequences();
            let each = if head_groups(s) > 1 { s.group() } else { sequences };
            sum_by_groups(pool, &list, (sequences, each), fresh && from == 0, |share, dw, thread| {
                let operand = |index: usize| {
                    let sequence = share.sequences.start + index;
                    let dlogits = narrow(&logits[sequence * s.needs.logits..]);
                    let normed = narrow(Work::of(s, &work[sequence * s.needs.work..]).dout);
                    (Cells::whole(dlogits, s.vocab), Cells::whole(normed, t).from_k(from), n)
                };
                let (stretches, mut space) = (share.sequences.len(), scratch.hold(thread));
                let (space, start) = (narrow_mut(&mut space), start(share.fresh));
                let shape = (s.vocab, c);
                let rows = share.block * SIDE..s.vocab.min((share.block + 1) * SIDE);
                product::weight_gradient(m.set, shape, rows, stretches, operand, space, start, dw);
            });
        }
    }
}

/// Some rows of one sequence.
struct Strip<'a> {
    first: usize,
    targets: &'a [u32],
}

impl Strip<'_> {
    /// Losses; with `scale` also `dnormed[R,C]` and the gradients of the logits `dlogits[R,V]`, a left operand.
    fn walk(
        &self,
        m: &Model<'_>,
        normed: &[u16],
        scale: Option<f32>,
        losses: &mut [f32],
        dnormed: &mut [f32],
        dlogits: &mut [u16],
        scratch: &mut [f32],
    ) {
        let (s, c, v, rows) = (m.sizes, m.sizes.width, m.sizes.vocab, self.targets.len());
        let space = HeadScratchMut::of(s, scratch);
        let logits = &mut space.logits[..rows * s.logits_stride];
        let normed = Cells::whole(&normed[self.first / SIDE * cells(c) * CELL..], c);
        let head = right(m.pack_of_head());
        product::rows(m.set, (rows, v, c), normed, head, None, None, logits, s.logits_stride);
        let factors = &mut space.factors[..rows];
        cross_entropy::exponentials(m.set, logits, v, self.targets, losses, factors);
        let Some(scale) = scale else { return };
        factors.iter_mut().for_each(|factor| *factor *= scale);
        convert::left_scaled(m.set, logits, (rows, v), s.logits_stride, factors, dlogits);
        let back = right(m.pack_of_head_transposed());
        product::rows(m.set, (rows, c, v), Cells::whole(dlogits, v), back, None, None, dnormed, c);
    }
}

/// See [`super::Form::last_logits`].
pub(super) fn last_logits(m: &Model<'_>, t: usize, kept: &[f32], scratch: &mut [f32], logits: &mut [f32]) {
    let s = m.sizes;
    let (c, block, rows) = (s.width, (t - 1) / SIDE, (t - 1) % SIDE + 1);
    let normed = &narrow(KeptEnd::of(s, s.end(kept)).normed)[block * cells(c) * CELL..];
    let strip = &mut HeadScratchMut::of(s, scratch).logits[..rows * s.logits_stride];
    let head = right(m.pack_of_head());
    product::rows(
        m.set,
        (rows, s.vocab, c),
        Cells::whole(normed, c),
        head,
        None,
        None,
        strip,
        s.logits_stride,
    );
    logits[..s.vocab].copy_from_slice(&strip[(rows - 1) * s.logits_stride..][..s.vocab]);
}
