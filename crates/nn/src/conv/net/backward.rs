//! The way back: by layer over the batch of the last forward pass.
//!
//! In each block `d` holds the gradient of the sum before the last activation. The way round is taken first, into `g`;
//! then the way through, back and forth between `d` and `e`:
//!
//! ```text
//!   e = norm-backward(z, d)     dw += patches(h)ᵀ·e     d = leaky-backward(h, e * w')
//! ```

use super::sizes::{Division, group};
use super::statistics::Channels;
use super::{ConvNet, Norm};
use crate::conv::config::{Features, Unit};
use isoflop_kernels::batchnorm::{self, Normed};
use isoflop_kernels::{Chunks, KernelSet, conv, leaky_relu, pooling, rows};

/// Elements of a gradient that one task adds up.
const SUM_BLOCK: usize = 16 * 1024;

/// One task's images of a unit: elements of their inputs and outputs.
#[derive(Clone, Copy)]
struct Tasks {
    count: usize,
    from: usize,
    to: usize,
    group: usize,
}

impl Tasks {
    fn of(unit: &Unit, count: usize) -> Self {
        let shape = unit.shape;
        Self {
            count,
            from: shape.pixels() * shape.inputs,
            to: shape.pixels() * shape.outputs,
            group: group(unit),
        }
    }
    fn number(&self) -> usize {
        self.count.div_ceil(self.group)
    }
    fn images(&self, t: usize) -> std::ops::Range<usize> {
        t * self.group..self.count.min((t + 1) * self.group)
    }
    fn inputs(&self, t: usize) -> std::ops::Range<usize> {
        let images = self.images(t);
        images.start * self.from..images.end * self.from
    }
    fn outputs(&self, t: usize) -> std::ops::Range<usize> {
        let images = self.images(t);
        images.start * self.to..images.end * self.to
    }
}

/// `e = norm-backward(z, d)` of some rows.
fn norm_backward(set: KernelSet, channels: &Channels, unit: &Unit, z: &[f32], d: &[f32], e: &mut [f32]) {
    let own = unit.channel..unit.channel + unit.shape.outputs;
    let [scale, by_x, rest] =
        [&channels.scale, &channels.by_x, &channels.rest].map(|buffer| &buffer[own.clone()]);
    batchnorm::backward(set, z, d, scale, by_x, rest, e);
}

/// A share of (Σ d, Σ d·x̂).
fn share_sums(set: KernelSet, channels: &Channels, unit: &Unit, z: &[f32], d: &[f32], share: &mut [f32]) {
    let own = unit.channel..unit.channel + unit.shape.outputs;
    let share = bytemuck::cast_slice_mut(&mut share[..4 * unit.shape.outputs]);
    batchnorm::sums(set, z, d, &channels.mean[own.clone()], &channels.rstd[own], share);
}

impl ConvNet {
    /// Gradients of the weights (overwritten) from those of the features `[B,d]` of the last [`ConvNet::forward`],
    /// whose `images` these are again.
    ///
    /// Panics if there was none, or of another number of images.
    pub fn backward(&mut self, images: &[f32], dfeatures: &[f32]) {
        let (count, norm) = self.last.expect("a forward pass comes first");
        assert_eq!(images.len(), count * self.network.input, "the images of the last forward pass");
        assert_eq!(dfeatures.len(), count * self.network.features, "one gradient a feature");
        self.spread(dfeatures, count);
        for b in (0..self.network.blocks.len()).rev() {
            self.enter_block(b, count, norm);
            let block = self.network.blocks[b].clone();
            if let Some(unit) = &block.shortcut {
                self.norm_back(unit, count);
                self.weight_gradient(unit, Input::Block(b), images, count);
                if b > 0 {
                    self.back_to_block(unit, count, false);
                }
            }
            for i in (0..block.main.len()).rev() {
                let unit = &block.main[i];
                self.norm_back(unit, count);
                if i > 0 {
                    self.activate(&block.main[i - 1], count);
                    self.weight_gradient(unit, Input::Inner, images, count);
                    self.back_inside(unit, &block.main[i - 1], count, norm);
                } else {
                    self.weight_gradient(unit, Input::Block(b), images, count);
                    if b > 0 {
                        self.back_to_block(unit, count, block.shortcut.is_some());
                    }
                }
            }
        }
    }

    /// The gradient of the last block's output, into `g`.
    fn spread(&mut self, dfeatures: &[f32], count: usize) {
        let last = self.network.blocks.last().expect("a network has blocks");
        let (pixels, c, d) = (last.pooled(), last.last().shape.outputs, self.network.features);
        let how = self.config.features;
        let g = Chunks::new(&mut self.g[..count * pixels * c], pixels * c);
        self.pool.run(count, |i, _| {
            let (df, mut g) = (&dfeatures[i * d..(i + 1) * d], g.hold(i));
            match how {
                Features::Mean => pooling::mean_backward(df, &mut g),
                Features::Flatten => {
                    for (i, df) in df.iter().enumerate() {
                        g[i % pixels * c + i / pixels] = *df;
                    }
                }
            }
        });
    }

    /// From `g`, the gradient of block `b`'s output, to `d`, that of the sum before its last activation; and the
    /// norms' sums.
    fn enter_block(&mut self, b: usize, count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let (block, channels) = (&self.network.blocks[b], &self.channels);
        let last = block.last();
        let (shape, tasks) = (last.shape, Tasks::of(last, count));
        let (each, pooled) = (tasks.to, block.pooled() * shape.outputs);
        let d = Chunks::new(&mut self.d[..count * each], tasks.group * each);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (z, g) = (&self.z, &self.g);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut d, mut scratch, mut share) = (d.hold(t), scratch.hold(thread), shares.hold(t));
            for (image, d) in tasks.images(t).zip(d.chunks_exact_mut(each)) {
                let of =
                    |unit: &Unit| channels.normed(unit, &z[unit.index][image * each..(image + 1) * each]);
                let a = &mut scratch[..each];
                batchnorm::normalise(set, of(last), block.shortcut.as_ref().map(of), slope, a);
                let dout = &g[image * pooled..(image + 1) * pooled];
                pooling::max_backward(set, (shape.height, shape.width, shape.outputs), a, dout, d);
                leaky_relu::backward(set, slope, a, d);
            }
            let (own, round) = share.split_at_mut(4 * shape.outputs);
            share_sums(set, channels, last, &z[last.index][tasks.outputs(t)], &d, own);
            if let Some(unit) = &block.shortcut {
                share_sums(set, channels, unit, &z[unit.index][tasks.outputs(t)], &d, round);
            }
        });
        let (last, round) = (*last, block.shortcut);
        self.join_sums(&last, 0, count, norm);
        if let Some(unit) = round {
            self.join_sums(&unit, 4 * shape.outputs, count, norm);
        }
    }

    /// Gradients of a norm from the shares that begin at `first`.
    fn join_sums(&mut self, unit: &Unit, first: usize, count: usize, norm: Norm) {
        let (c, layout) = (unit.shape.outputs, &self.network.parameters);
        let shares = self.shares.chunks_exact(self.sizes.share).take(Tasks::of(unit, count).number());
        let shares = shares.map(|share| bytemuck::cast_slice::<f32, f64>(&share[first..first + 4 * c]));
        let (gamma, beta) = (layout.tensors[unit.gamma].range(), layout.tensors[unit.gamma + 1].range());
        let (head, tail) = self.gradients.split_at_mut(beta.start);
        let rows = count * unit.shape.pixels();
        self.channels.join_backward(unit, shares, norm, rows, &mut head[gamma], &mut tail[..c]);
    }

    /// `e = norm-backward(z, d)` over all images.
    fn norm_back(&mut self, unit: &Unit, count: usize) {
        let (set, tasks) = (self.options.kernels, Tasks::of(unit, count));
        let (channels, z, d) = (&self.channels, &self.z[unit.index], &self.d);
        let e = Chunks::new(&mut self.e[..count * tasks.to], tasks.group * tasks.to);
        self.pool.run(tasks.number(), |t, _| {
            let at = tasks.outputs(t);
            norm_backward(set, channels, unit, &z[at.clone()], &d[at], &mut e.hold(t));
        });
    }

    /// `h`, the activation of a unit's output, which the next one read.
    fn activate(&mut self, unit: &Unit, count: usize) {
        let (set, slope, tasks) = (self.options.kernels, self.config.slope as f32, Tasks::of(unit, count));
        let of = self.channels.normed(unit, &self.z[unit.index]);
        let h = Chunks::new(&mut self.h[..count * tasks.to], tasks.group * tasks.to);
        self.pool.run(tasks.number(), |t, _| {
            batchnorm::normalise(
                set,
                Normed { x: &of.x[tasks.outputs(t)], ..of },
                None,
                slope,
                &mut h.hold(t),
            );
        });
    }

    /// `d`, the gradient of the output of the unit before, and its norm's sums: from `e`, that of this unit's output.
    fn back_inside(&mut self, unit: &Unit, before: &Unit, count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let tasks = Tasks::of(unit, count);
        let (turned, packed) = (unit.shape.turned(), &self.packs[unit.index][1]);
        let d = Chunks::new(&mut self.d[..count * tasks.from], tasks.group * tasks.from);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (channels, z, e, h) = (&self.channels, &self.z[before.index], &self.e, &self.h);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut d, mut scratch) = (d.hold(t), scratch.hold(thread));
            conv::forward(set, turned, &e[tasks.outputs(t)], packed, &mut d, &mut scratch[sizes.images..]);
            leaky_relu::backward(set, slope, &h[tasks.inputs(t)], &mut d);
            share_sums(set, channels, before, &z[tasks.inputs(t)], &d, &mut shares.hold(t));
        });
        self.join_sums(before, 0, count, norm);
    }

    /// `g`, the gradient of the block's input: from `e`, that of this unit's output. `adds` to what the way round left.
    fn back_to_block(&mut self, unit: &Unit, count: usize, adds: bool) {
        let (set, sizes, tasks) = (self.options.kernels, &self.sizes, Tasks::of(unit, count));
        let (turned, packed, e) = (unit.shape.turned(), &self.packs[unit.index][1], &self.e);
        let g = Chunks::new(&mut self.g[..count * tasks.from], tasks.group * tasks.from);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        self.pool.run(tasks.number(), |t, thread| {
            let (mut g, mut scratch) = (g.hold(t), scratch.hold(thread));
            let (image, patches) = scratch.split_at_mut(sizes.images);
            let e = &e[tasks.outputs(t)];
            if adds {
                let more = &mut image[..g.len()];
                conv::forward(set, turned, e, packed, more, patches);
                rows::add_assign(more, &mut g);
            } else {
                conv::forward(set, turned, e, packed, &mut g, patches);
            }
        });
    }

    /// The gradient of a unit's weights, from what it read and `e`.
    fn weight_gradient(&mut self, unit: &Unit, input: Input, images: &[f32], count: usize) {
        let (set, shape, sizes) = (self.options.kernels, unit.shape, &self.sizes);
        let x: &[f32] = match input {
            Input::Inner => &self.h,
            Input::Block(0) => images,
            Input::Block(b) => &self.outs[b - 1],
        };
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let (x, e) = (&x[..count * from], &self.e[..count * to]);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let dw = self.network.parameters.of_mut(&mut self.gradients, unit.weight);
        match Division::of(unit, count) {
            Division::Rows(rows) => {
                let parts = Chunks::new(dw, rows * shape.outputs);
                self.pool.run(shape.depth().div_ceil(rows), |t, thread| {
                    let (mut dw, mut scratch) = (parts.hold(t), scratch.hold(thread));
                    let own = t * rows..shape.depth().min((t + 1) * rows);
                    dw.fill(0.0);
                    conv::weight_gradient(set, shape, x, e, own, &mut dw, &mut scratch[sizes.images..]);
                });
            }
            Division::Images(groups) => {
                let len = shape.weights();
                let partial = &mut self.partial_gradients[..groups * len];
                let parts = Chunks::new(partial, len);
                self.pool.run(groups, |t, thread| {
                    let (mut dw, mut scratch) = (parts.hold(t), scratch.hold(thread));
                    let (first, end) = (t * count / groups, (t + 1) * count / groups);
                    let (x, e) = (&x[first * from..end * from], &e[first * to..end * to]);
                    dw.fill(0.0);
                    let all = 0..shape.depth();
                    conv::weight_gradient(set, shape, x, e, all, &mut dw, &mut scratch[sizes.images..]);
                });
                join_groups(&self.pool, &self.partial_gradients[..groups * len], dw);
            }
        }
    }
}

/// What a convolution read.
#[derive(Clone, Copy)]
enum Input {
    /// The input of this block.
    Block(usize),
    /// The activation that `h` holds.
    Inner,
}

/// `dw = Σ over groups`, in order.
fn join_groups(pool: &isoflop_kernels::Pool, groups: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    let parts = Chunks::new(dw, SUM_BLOCK);
    pool.run(len.div_ceil(SUM_BLOCK), |t, _| {
        let mut dw = parts.hold(t);
        let own = t * SUM_BLOCK..t * SUM_BLOCK + dw.len();
        dw.copy_from_slice(&groups[own.clone()]);
        for group in groups.chunks_exact(len).skip(1) {
            rows::add_assign(&group[own.clone()], &mut dw);
        }
    });
}
