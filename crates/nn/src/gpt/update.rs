//! The optimiser's step in two passes: the gradient's norm, then for each part of the weights clipping, the optimiser
//! and packing while it is in the cache.

use super::CpuGpt;
use super::form::{Across, Form};
use super::moments::{MomentMut, Place};
use super::sizes::Sizes;
use isoflop_kernels::adamw::{self, Step};
use isoflop_kernels::adamw8bit::{self, BLOCK as EIGHT_BIT_BLOCK};
use isoflop_kernels::pieces::{Parts, Region};
use isoflop_kernels::{Cut, KernelSet, Pool};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Elements whose squares one task sums. Fixed, so that sums do not depend on the number of threads.
pub(crate) const BLOCK: usize = 16 * 1024;
/// Rows packed at once: 32 columns of the transposed operand.
const STRIP: usize = 32;

/// Σ g² over a flat buffer, blocks in order.
pub(crate) fn sum_of_squares(set: KernelSet, pool: &Pool, gradients: &[f32], partial: &[AtomicU64]) -> f64 {
    pool.run(partial.len(), |i, _| {
        let block = &gradients[i * BLOCK..gradients.len().min((i + 1) * BLOCK)];
        partial[i].store(adamw::sum_of_squares(set, block).to_bits(), Relaxed);
    });
    partial.iter().map(|bits| f64::from_bits(bits.load(Relaxed))).sum()
}

/// A tensor, or some rows of one, that one task moves and packs.
#[derive(Debug, Clone, Copy)]
struct Task {
    /// Elements of a row, if it is packed.
    columns: Option<usize>,
    decays: bool,
    eight_bit: bool,
}

/// How the weights are divided among tasks, and everything that belongs to them with them.
#[derive(Debug)]
pub(crate) struct Division {
    tasks: Vec<Task>,
    weights: Cut,
    /// Two regions a task: rows of the operand W, columns of Wᵀ.
    packs: Cut,
    moments: Cut,
    codes: Cut,
    scales: Cut,
}

impl Division {
    pub(crate) fn new<F: Form>(sizes: &Sizes) -> Self {
        let layout = &sizes.layout;
        // Two regions a task must fit a cut.
        let least = BLOCK.max(layout.len / (Cut::MAX / 4));
        let none = Region::run(0, 0);
        let (mut tasks, mut weights, mut packs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut moments, mut codes, mut scales) = (Vec::new(), Vec::new(), Vec::new());
        for (index, tensor) in layout.tensors.iter().enumerate() {
            let pair: Vec<_> = sizes.packs.iter().filter(|pack| pack.tensor == index).collect();
            let packed = !pair.is_empty();
            let columns = if packed { tensor.shape[1] } else { 1 };
            // Whole strips for the packs, whole blocks for 8-bit moments.
            let mut rows = if packed { STRIP } else { EIGHT_BIT_BLOCK };
            while rows * columns % EIGHT_BIT_BLOCK != 0 {
                rows *= 2;
            }
            let rows = rows * least.div_ceil(rows * columns);
            for from in (0..tensor.len).step_by(rows * columns) {
                let len = (rows * columns).min(tensor.len - from);
                let place = sizes.moments.places[index];
                tasks.push(Task {
                    columns: packed.then_some(columns),
                    decays: tensor.decays(),
                    eight_bit: matches!(place, Place::Eight(..)),
                });
                weights.push(Region::run(tensor.offset + from, len));
                let (wide, code, scale) = match place {
                    Place::F32(at) => (Region::run(at + from, len), none, none),
                    Place::Eight(at, scale) => {
                        let blocks = len.div_ceil(EIGHT_BIT_BLOCK);
                        let first = scale + from / EIGHT_BIT_BLOCK;
                        (none, Region::run(at + from, len), Region::run(first, blocks))
                    }
                };
                moments.push(wide);
                codes.push(code);
                scales.push(scale);
                for transposed in [false, true] {
                    let spec = pair.iter().find(|spec| spec.transposed == transposed);
                    packs.push(spec.map_or(none, |spec| {
                        let panel = spec.len / spec.n.div_ceil(STRIP);
                        let (first, count) = (from / columns, len / columns);
                        if transposed {
                            Region::run(spec.offset + first / STRIP * panel, count.div_ceil(STRIP) * panel)
                        } else {
                            let start = spec.offset + F::rows_len(first);
                            let len = F::rows_len(count);
                            Region { start, len, stride: panel, count: spec.n.div_ceil(STRIP) }
                        }
                    }));
                }
            }
        }
        let [weights, packs, moments, codes, scales] = [weights, packs, moments, codes, scales].map(Cut::new);
        Self { tasks, weights, packs, moments, codes, scales }
    }
}

impl Division {
    fn share<'a>(&'a self, moment: MomentMut<'a>) -> SharedMoment<'a> {
        SharedMoment {
            wide: self.moments.share(moment.wide),
            codes: self.codes.share(moment.codes),
            scales: self.scales.share(moment.scales),
        }
    }
}

/// One moment, divided among tasks.
struct SharedMoment<'a> {
    wide: Parts<'a, f32>,
    codes: Parts<'a, u8>,
    scales: Parts<'a, f32>,
}

/// Packs the rows of a task.
fn pack<F: Form>(set: KernelSet, division: &Division, index: usize, w: &[f32], packs: &Parts<'_, f32>) {
    let Some(columns) = division.tasks[index].columns else { return };
    let (mut across, mut along) = (packs.take(2 * index), packs.take(2 * index + 1));
    let along = along.run(0);
    let strips = w.len().div_ceil(STRIP * columns);
    let panel = along.len() / strips;
    for (strip, (w, along)) in w.chunks(STRIP * columns).zip(along.chunks_exact_mut(panel)).enumerate() {
        let (from, len) = (strip * F::rows_len(STRIP), F::rows_len(w.len() / columns));
        F::pack(set, w, columns, Across { part: &mut across, from, len }, along);
    }
}

impl CpuGpt {
    /// Step `self.step` of AdamW with gradients scaled by `clip`.
    pub(super) fn apply(&mut self, lr: f32, clip: f64) {
        in_form!(self.options.precision, F => self.apply_in::<F>(lr, clip));
    }

    fn apply_in<F: Form>(&mut self, lr: f32, clip: f64) {
        let (set, adamw, division) = (self.set, &self.options.adamw, &self.division);
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
        let (w, g) = (division.weights.share(&mut self.weights), division.weights.share(&mut self.gradients));
        let packs = division.packs.share(&mut self.packs);
        let [first, second] = &mut self.moments;
        let (m, v) = (division.share(first.parts()), division.share(second.parts()));
        self.pool.run(division.tasks.len(), |index, _| {
            let task = &division.tasks[index];
            let (mut w, mut g) = (w.take(index), g.take(index));
            let (w, g) = (w.run(0), g.run(0));
            let step = &steps[usize::from(task.decays)];
            if task.eight_bit {
                let (mut first, mut first_scales) = (m.codes.take(index), m.scales.take(index));
                let (mut second, mut second_scales) = (v.codes.take(index), v.scales.take(index));
                let moments = adamw8bit::Moments {
                    first: first.run(0),
                    first_scales: first_scales.run(0),
                    second: second.run(0),
                    second_scales: second_scales.run(0),
                };
                adamw8bit::update(set, step, w, g, moments);
            } else {
                let (mut first, mut second) = (m.wide.take(index), v.wide.take(index));
                adamw::update(set, step, w, g, first.run(0), second.run(0));
            }
            pack::<F>(set, division, index, w, &packs);
        });
    }

    /// Brings the packed weights up to the weights.
    pub(super) fn repack(&mut self) {
        let (set, division) = (self.set, &self.division);
        let pack = in_form!(self.options.precision, F => pack::<F>);
        let packs = division.packs.share(&mut self.packs);
        let weights = division.weights.share(&mut self.weights);
        self.pool.run(division.tasks.len(), |index, _| {
            pack(set, division, index, weights.take(index).run(0), &packs);
        });
    }
}
