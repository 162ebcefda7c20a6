//! The optimiser's step: one pass for the norm, one for clipping, AdamW and zeroing, one to pack the new weights.

use super::CpuGpt;
use super::form::Form;
use super::plain::Plain;
use super::sizes::Pack;
use super::tiled::Tiled;
use crate::Precision;
use crate::engine::EngineError;
use crate::layout::Layout;
use isoflop_kernels::adamw::{self, Step};
use isoflop_kernels::{Chunks, KernelSet, Pool, matmul};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Elements of one task. Fixed, so that sums do not depend on the number of threads.
pub(crate) const BLOCK: usize = 16 * 1024;

/// Σ g² over a flat buffer, blocks in order.
pub(crate) fn sum_of_squares(set: KernelSet, pool: &Pool, gradients: &[f32], partial: &[AtomicU64]) -> f64 {
    pool.run(partial.len(), |i, _| {
        let block = &gradients[i * BLOCK..gradients.len().min((i + 1) * BLOCK)];
        partial[i].store(adamw::sum_of_squares(set, block).to_bits(), Relaxed);
    });
    partial.iter().map(|bits| f64::from_bits(bits.load(Relaxed))).sum()
}

/// Packs every matrix anew, 32 columns of one a task.
fn pack_all<F: Form>(set: KernelSet, pool: &Pool, layout: &Layout, weights: &[f32], packs: &mut [Pack]) {
    pool.for_each_mut(packs, |_, pack, _| {
        let (spec, w) = (pack.spec, layout.of(weights, pack.spec.tensor));
        let blocks = spec.n.div_ceil(matmul::PANEL);
        for (block, out) in pack.data.chunks_exact_mut(spec.len / blocks).enumerate() {
            F::pack(set, &spec, w, block, out);
        }
    });
}

impl CpuGpt {
    /// Norm of the gradient; `NonFinite` if it is none.
    pub(super) fn checked_norm(&mut self) -> Result<f64, EngineError> {
        let squares = sum_of_squares(self.options.kernels, &self.pool, &self.gradients, &self.partial);
        if !self.loss_finite {
            return Err(EngineError::NonFinite { what: "the loss" });
        }
        if !squares.is_finite() {
            return Err(EngineError::NonFinite { what: "the gradient norm" });
        }
        Ok(squares.sqrt())
    }

    /// Step `self.step` of AdamW with gradients scaled by `clip`; gradients become zero.
    pub(super) fn apply(&mut self, lr: f32, clip: f64) {
        let (set, adamw, layout) = (self.options.kernels, &self.adamw, &self.sizes.layout);
        let t = self.step as i32;
        let step = |decays: bool| Step {
            lr,
            beta1: adamw.beta1 as f32,
            beta2: adamw.beta2 as f32,
            eps: adamw.eps as f32,
            weight_decay: if decays { adamw.weight_decay as f32 } else { 0.0 },
            correction1: (1.0 - libm::pow(adamw.beta1, f64::from(t))) as f32,
            correction2_root: libm::sqrt(1.0 - libm::pow(adamw.beta2, f64::from(t))) as f32,
            gradient_scale: clip as f32,
        };
        let steps = [step(false), step(true)];
        let (w, g) = (Chunks::new(&mut self.weights, BLOCK), Chunks::new(&mut self.gradients, BLOCK));
        let (m, v) = (Chunks::new(&mut self.first, BLOCK), Chunks::new(&mut self.second, BLOCK));
        self.pool.run(self.partial.len(), |block, _| {
            let (mut w, mut g, mut m, mut v) = (w.hold(block), g.hold(block), m.hold(block), v.hold(block));
            let (from, to) = (block * BLOCK, block * BLOCK + w.len());
            let first = layout.tensors.partition_point(|t| t.range().end <= from);
            for tensor in layout.tensors[first..].iter().take_while(|t| t.offset < to) {
                let r = tensor.offset.max(from) - from..tensor.range().end.min(to) - from;
                let step = &steps[usize::from(tensor.decays())];
                adamw::update(set, step, &mut w[r.clone()], &g[r.clone()], &mut m[r.clone()], &mut v[r]);
            }
            g.fill(0.0);
        });
        self.repack();
    }

    /// Brings the packed weights up to the weights.
    pub(super) fn repack(&mut self) {
        let pack = match self.options.precision {
            Precision::F32 => pack_all::<Plain>,
            Precision::Bf16 => pack_all::<Tiled>,
        };
        pack(self.options.kernels, &self.pool, &self.sizes.layout, &self.weights, &mut self.packs);
    }
}
