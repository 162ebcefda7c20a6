//! A first block whose convolution is made again wherever it is read: one window over the few channels of an image.
//!
//! Its output is the largest thing of such a network (of 100 grey images of 28 pixels, 64 channels, 20 MB; of 84 pixels
//! in colour 180 MB), and costs the least to make. Kept, it is written once and read or written five times; made again,
//! two rows of pixels at a time, it stays in L1. Its gradient is not kept either: the weights are all that need it.

use super::backward::{Strip, Tasks, before_pooling, join_groups, norm_backward, strips};
use super::forward::pool_pair;
use super::kept::Shares;
use super::sizes::{Division, cut, strip_len};
use super::statistics::Channels;
use super::{ConvNet, Norm};
use crate::conv::config::{Architecture, Unit};
use isoflop_kernels::batchnorm::{self, Moments};
use isoflop_kernels::conv::{Shape, thin};
use isoflop_kernels::{AlignedBuffer, Chunks, KernelSet};

/// Floats of rows whose statistics are taken at once: they stay in L2.
const TALL: usize = 64 * 1024;

/// The unit that is made again, if the network has one.
pub(super) fn remade(network: &Architecture) -> Option<Unit> {
    let block = &network.blocks[0];
    match block.main[..] {
        [unit] if block.shortcut.is_none() && unit.shape.is_thin() => Some(unit),
        _ => None,
    }
}

/// Rows of pixels whose statistics are taken at once.
fn tall(shape: Shape) -> usize {
    (TALL / (shape.width * shape.outputs)).clamp(1, shape.height)
}

/// Floats a thread needs: a share of sums, a frame, and three strips or the rows of [`tall`].
pub(super) fn scratch(shape: Shape) -> usize {
    let (strips, tall) = (3 * strip_len(shape), tall(shape) * shape.width * shape.outputs);
    thin::frame_len(shape) + strips.max(tall) + 4 * shape.outputs
}

/// A thread's scratch.
struct Space<'a> {
    frame: &'a mut [f32],
    share: &'a mut [f32],
    strips: &'a mut [f32],
}

impl<'a> Space<'a> {
    fn cut(shape: Shape, scratch: &'a mut [f32]) -> Self {
        let (share, rest) = scratch.split_at_mut(4 * shape.outputs);
        let (frame, strips) = rest.split_at_mut(thin::frame_len(shape));
        Self { frame, share, strips }
    }
}

/// What makes an output again.
#[derive(Clone, Copy)]
struct Maker<'a> {
    set: KernelSet,
    shape: Shape,
    packed: &'a [f32],
}

impl<'a> Maker<'a> {
    fn new(set: KernelSet, unit: &Unit, packs: &'a [[AlignedBuffer; 2]]) -> Self {
        Self { set, shape: unit.shape, packed: &packs[unit.index][0] }
    }

    /// The outputs of a strip.
    fn make(self, frame: &[f32], first: usize, z: &mut [f32]) {
        let rows = z.len() / (self.shape.width * self.shape.outputs);
        thin::rows(self.set, self.shape, frame, first..first + rows, self.packed, z);
    }

    /// The outputs of a strip, and their gradients from those of the pooled image.
    fn make_both<'s>(
        self,
        strip: &Strip,
        dout: &[f32],
        (channels, unit, slope): (&Channels, &Unit, f32),
        frame: &[f32],
        strips: &'s mut [f32],
    ) -> [&'s mut [f32]; 2] {
        let [z, a, d] = cut(strips, [strip.wide.len(); 3]);
        self.make(frame, strip.first(self.shape), z);
        let (size, of) = ((strip.rows, self.shape.width), channels.normed(unit, z));
        before_pooling((self.set, slope), size, of, None, &dout[strip.pooled.clone()], [a, &mut *d]);
        [z, d]
    }
}

impl Strip {
    fn first(&self, shape: Shape) -> usize {
        self.wide.start / (shape.width * shape.outputs)
    }
}

impl ConvNet {
    /// The statistics of the block's outputs.
    pub(super) fn first_statistics(&mut self, unit: &Unit, images: &[f32], count: usize, norm: Norm) {
        let tasks = Tasks::of(unit, count);
        if norm == Norm::Batch {
            let (maker, sizes) = (Maker::new(self.options.kernels, unit, &self.packs), &self.sizes);
            let (shape, wide) = (unit.shape, unit.shape.width * unit.shape.outputs);
            let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
            let shares = Chunks::new(&mut self.shares, sizes.share);
            let (tall, set) = (tall(shape), self.options.kernels);
            self.pool.run(tasks.number(), |t, thread| {
                let (mut scratch, mut share) = (scratch.hold(thread), shares.hold(t));
                let all: &mut [f64] = bytemuck::cast_slice_mut(&mut share[..4 * shape.outputs]);
                let space = Space::cut(shape, &mut scratch);
                let own: &mut [f64] = bytemuck::cast_slice_mut(&mut space.share[..4 * shape.outputs]);
                let mut before = 0;
                for image in tasks.images(t) {
                    thin::frame(set, shape, &images[image * tasks.from..][..tasks.from], space.frame);
                    for first in (0..shape.height).step_by(tall) {
                        let z = &mut space.strips[..tall.min(shape.height - first) * wide];
                        maker.make(space.frame, first, z);
                        batchnorm::moments(set, z, own);
                        let rows = z.len() / shape.outputs;
                        join(all, before, own, rows);
                        before += rows;
                    }
                }
            });
        }
        self.statistics_of(unit, count, norm);
    }

    /// The block's output.
    pub(super) fn first_pooled(&mut self, unit: &Unit, images: &[f32], count: usize) {
        let (maker, sizes, channels) =
            (Maker::new(self.options.kernels, unit, &self.packs), &self.sizes, &self.channels);
        let (set, slope, shape) = (self.options.kernels, self.config.slope as f32, unit.shape);
        let pooled = self.network.blocks[0].pooled() * shape.outputs;
        let tasks = Tasks::of(unit, count);
        let out = Chunks::new(&mut self.outs[0][..count * pooled], tasks.group * pooled);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        self.pool.run(tasks.number(), |t, thread| {
            let (mut out, mut scratch) = (out.hold(t), scratch.hold(thread));
            let space = Space::cut(shape, &mut scratch);
            for (image, out) in tasks.images(t).zip(out.chunks_exact_mut(pooled)) {
                thin::frame(set, shape, &images[image * tasks.from..][..tasks.from], space.frame);
                for strip in strips(shape).filter(|strip| strip.rows == 2) {
                    let (z, a) = space.strips.split_at_mut(strip_len(shape));
                    maker.make(space.frame, strip.first(shape), z);
                    let of = channels.normed(unit, z);
                    pool_pair(set, shape, of, None, slope, a, &mut out[strip.pooled]);
                }
            }
        });
    }

    /// The sums of the norm, from the gradient of the block's output.
    pub(super) fn first_sums(&mut self, unit: &Unit, images: &[f32], count: usize, norm: Norm) {
        let (maker, sizes, channels) =
            (Maker::new(self.options.kernels, unit, &self.packs), &self.sizes, &self.channels);
        let (set, slope, shape) = (self.options.kernels, self.config.slope as f32, unit.shape);
        let pooled = self.network.blocks[0].pooled() * shape.outputs;
        let (tasks, g) = (Tasks::of(unit, count), &self.outs[0]);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut scratch, mut share) = (scratch.hold(thread), shares.hold(t));
            let space = Space::cut(shape, &mut scratch);
            let mut sums = Shares::none(set, channels, unit, &mut share, space.share);
            for image in tasks.images(t) {
                thin::frame(set, shape, &images[image * tasks.from..][..tasks.from], space.frame);
                for strip in strips(shape) {
                    let of = (channels, unit, slope);
                    let [z, d] = maker.make_both(&strip, &g[image * pooled..], of, space.frame, space.strips);
                    sums.add(z, d);
                }
            }
        });
        self.join_sums(unit, 0, count, norm);
    }

    /// The gradient of the block's weights, from that of its output.
    pub(super) fn first_gradient(&mut self, unit: &Unit, images: &[f32], count: usize) {
        let (maker, sizes, channels) =
            (Maker::new(self.options.kernels, unit, &self.packs), &self.sizes, &self.channels);
        let (set, slope, shape) = (self.options.kernels, self.config.slope as f32, unit.shape);
        let pooled = self.network.blocks[0].pooled() * shape.outputs;
        let (tasks, g) = (Tasks::of(unit, count), &self.outs[0]);
        let Division::Images(groups) = Division::of(unit, count) else {
            unreachable!("a window over a few channels has few weights")
        };
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let partial = &mut self.partial_gradients[..groups * shape.weights()];
        let parts = Chunks::new(partial, shape.weights());
        self.pool.run(groups, |group, thread| {
            let (mut dw, mut scratch) = (parts.hold(group), scratch.hold(thread));
            dw.fill(0.0);
            let space = Space::cut(shape, &mut scratch);
            for image in group * count / groups..(group + 1) * count / groups {
                thin::frame(set, shape, &images[image * tasks.from..][..tasks.from], space.frame);
                for strip in strips(shape) {
                    let of = (channels, unit, slope);
                    let [z, d] = maker.make_both(&strip, &g[image * pooled..], of, space.frame, space.strips);
                    norm_backward(set, channels, unit, d, z);
                    let first = strip.first(shape);
                    thin::rows_gradient(set, shape, space.frame, first..first + strip.rows, z, &mut dw);
                }
            }
        });
        let dw = self.network.parameters.of_mut(&mut self.gradients, unit.weight);
        join_groups(&self.pool, &self.partial_gradients[..groups * shape.weights()], dw);
    }
}

/// `all`, the moments of `before` rows, joined with those of `rows` more.
fn join(all: &mut [f64], before: usize, more: &[f64], rows: usize) {
    for (all, more) in all.chunks_exact_mut(2).zip(more.chunks_exact(2)) {
        let of = |rows: usize, of: &[f64]| Moments { rows: rows as f64, mean: of[0], squares: of[1] };
        let joined = if before == 0 { of(rows, more) } else { of(before, all).join(of(rows, more)) };
        (all[0], all[1]) = (joined.mean, joined.squares);
    }
}
