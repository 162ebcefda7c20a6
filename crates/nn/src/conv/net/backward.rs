//! The way back: by layer over the batch of the last forward pass, each gradient in the memory of what it replaces.
//!
//! The gradient of a block's output lies where that output was, in `outs`; that of a convolution's output where the
//! output was, in `z`. The gradient `d` of the sum before a block's last activation is made of them twice, for the
//! norms' sums and for the norms' gradients, a strip of rows at a time, and never kept. Inside a block `h` is first
//! what a convolution read, then its gradient `d`:
//!
//! ```text
//!   z = norm-backward(z, d)     dw += patches(h)ᵀ·z     h = leaky-backward(h, z * w')
//! ```

use super::sizes::{Division, group, strip_len};
use super::statistics::Channels;
use super::{ConvNet, Norm};
use crate::conv::config::{Features, Unit};
use isoflop_kernels::batchnorm::{self, Normed};
use isoflop_kernels::conv::Shape;
use isoflop_kernels::{Chunks, KernelSet, conv, leaky_relu, pooling, rows};

/// Elements of a gradient that one task adds up.
const SUM_BLOCK: usize = 16 * 1024;

/// One task's images of a unit: elements of their inputs and outputs.
#[derive(Clone, Copy)]
pub(super) struct Tasks {
    count: usize,
    pub(super) from: usize,
    to: usize,
    pub(super) group: usize,
}

impl Tasks {
    pub(super) fn of(unit: &Unit, count: usize) -> Self {
        let shape = unit.shape;
        Self {
            count,
            from: shape.pixels() * shape.inputs,
            to: shape.pixels() * shape.outputs,
            group: group(unit),
        }
    }
    pub(super) fn number(&self) -> usize {
        self.count.div_ceil(self.group)
    }
    pub(super) fn images(&self, t: usize) -> std::ops::Range<usize> {
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

/// `z = norm-backward(z, d)` of some rows.
pub(super) fn norm_backward(set: KernelSet, channels: &Channels, unit: &Unit, d: &[f32], z: &mut [f32]) {
    let own = unit.channel..unit.channel + unit.shape.outputs;
    let [scale, by_x, rest] =
        [&channels.scale, &channels.by_x, &channels.rest].map(|buffer| &buffer[own.clone()]);
    batchnorm::backward(set, z, d, scale, by_x, rest);
}

/// A share of (Σ d, Σ d·x̂).
pub(super) fn share_sums(
    set: KernelSet,
    channels: &Channels,
    unit: &Unit,
    z: &[f32],
    d: &[f32],
    share: &mut [f32],
) {
    let own = unit.channel..unit.channel + unit.shape.outputs;
    let share = bytemuck::cast_slice_mut(&mut share[..4 * unit.shape.outputs]);
    batchnorm::sums(set, z, d, &channels.mean[own.clone()], &channels.rstd[own], share);
}

/// Two rows of an image, which pooling reads together; the last one of an odd height alone.
pub(super) struct Strip {
    /// Elements of the convolution's output.
    pub(super) wide: std::ops::Range<usize>,
    /// Elements of the pooled output.
    pub(super) pooled: std::ops::Range<usize>,
    pub(super) rows: usize,
}

pub(super) fn strips(shape: Shape) -> impl Iterator<Item = Strip> {
    let (wide, pooled) = (shape.width * shape.outputs, shape.width / 2 * shape.outputs);
    (0..shape.height).step_by(2).map(move |first| {
        let rows = (shape.height - first).min(2);
        Strip {
            wide: first * wide..(first + rows) * wide,
            pooled: first / 2 * pooled..(first + rows) / 2 * pooled,
            rows,
        }
    })
}

/// `d` of one strip: the gradient of the sum before a block's last activation `a`, which is made again in its space.
pub(super) fn before_pooling(
    (set, slope): (KernelSet, f32),
    (rows, width): (usize, usize),
    z: Normed<'_>,
    round: Option<Normed<'_>>,
    dout: &[f32],
    [a, d]: [&mut [f32]; 2],
) {
    let c = z.scale.len();
    batchnorm::normalise(set, z, round, slope, a);
    pooling::max_backward(set, (rows, width, c), a, dout, d);
    leaky_relu::backward(set, slope, a, d);
}

impl ConvNet {
    /// Gradients of the weights (overwritten) from those of the features `[B,d]` of the last [`ConvNet::forward`],
    /// whose `images` these are again. What that pass kept is used up.
    ///
    /// Panics if there was none since the last call, or of another number of images.
    pub fn backward(&mut self, images: &[f32], dfeatures: &[f32]) {
        let (count, norm) = self.last.take().expect("a forward pass comes first");
        assert_eq!(images.len(), count * self.network.input, "the images of the last forward pass");
        assert_eq!(dfeatures.len(), count * self.network.features, "one gradient a feature");
        self.spread(dfeatures, count);
        let remade = self.sizes.remade;
        for b in (usize::from(remade.is_some())..self.network.blocks.len()).rev() {
            self.end_sums(b, count, norm);
            self.end_back(b, count);
            let block = self.network.blocks[b].clone();
            for i in (1..block.main.len()).rev() {
                let (unit, before) = (&block.main[i], &block.main[i - 1]);
                self.activate(before, count);
                self.weight_gradient(unit, Input::Inner, images, count);
                self.back_inside(unit, before, count, norm);
                self.norm_back(before, count);
            }
            // Both read the block's input before its gradient takes its place.
            let first = &block.main[0];
            for unit in block.shortcut.iter().chain([first]) {
                self.weight_gradient(unit, Input::Block(b), images, count);
            }
            if b > 0 {
                for unit in block.shortcut.iter().chain([first]) {
                    self.back_to_block(b - 1, unit, count, block.shortcut.is_some() && unit == first);
                }
            }
        }
        if let Some(unit) = &remade {
            self.first_sums(unit, images, count, norm);
            self.first_gradient(unit, images, count);
        }
    }

    /// The gradient of the last block's output.
    fn spread(&mut self, dfeatures: &[f32], count: usize) {
        let last = self.network.blocks.last().expect("a network has blocks");
        let (pixels, c, d) = (last.pooled(), last.last().shape.outputs, self.network.features);
        let how = self.config.features;
        let out = self.outs.last_mut().expect("one output a block");
        let g = Chunks::new(&mut out[..count * pixels * c], pixels * c);
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

    /// The sums of the norms at the end of block `b`, from the gradient of its output.
    fn end_sums(&mut self, b: usize, count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let (block, channels) = (&self.network.blocks[b], &self.channels);
        let last = block.last();
        let (shape, tasks) = (last.shape, Tasks::of(last, count));
        let (each, pooled) = (tasks.to, block.pooled() * shape.outputs);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (z, g) = (&self.z, &self.outs[b]);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut scratch, mut share) = (scratch.hold(thread), shares.hold(t));
            let (a, d) = scratch.split_at_mut(strip_len(shape));
            let d = &mut d[..tasks.outputs(t).len()];
            for (image, d) in tasks.images(t).zip(d.chunks_exact_mut(each)) {
                let (z_at, g_at) = (image * each, image * pooled);
                for strip in strips(shape) {
                    let of = |unit: &Unit| {
                        let z = &z[unit.index][z_at + strip.wide.start..z_at + strip.wide.end];
                        channels.normed(unit, z)
                    };
                    let dout = &g[g_at + strip.pooled.start..g_at + strip.pooled.end];
                    let (a, d) = (&mut a[..strip.wide.len()], &mut d[strip.wide.clone()]);
                    let round = block.shortcut.as_ref().map(of);
                    before_pooling((set, slope), (strip.rows, shape.width), of(last), round, dout, [a, d]);
                }
            }
            let (own, round) = share.split_at_mut(4 * shape.outputs);
            share_sums(set, channels, last, &z[last.index][tasks.outputs(t)], d, own);
            if let Some(unit) = &block.shortcut {
                share_sums(set, channels, unit, &z[unit.index][tasks.outputs(t)], d, round);
            }
        });
        let (last, round) = (*last, block.shortcut);
        self.join_sums(&last, 0, count, norm);
        if let Some(unit) = round {
            self.join_sums(&unit, 4 * shape.outputs, count, norm);
        }
    }

    /// The gradients of the outputs of the convolutions at the end of block `b`, in their places.
    fn end_back(&mut self, b: usize, count: usize) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let (block, channels) = (&self.network.blocks[b], &self.channels);
        let last = block.last();
        let (shape, tasks) = (last.shape, Tasks::of(last, count));
        let (each, pooled) = (tasks.to, block.pooled() * shape.outputs);
        let (z, behind) = self.z.split_at_mut(last.index + 1);
        let round = block
            .shortcut
            .as_ref()
            .map(|unit| (unit, Chunks::new(&mut behind[unit.index - last.index - 1][..count * each], each)));
        let z = Chunks::new(&mut z[last.index][..count * each], each);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let g = &self.outs[b];
        self.pool.run(tasks.number(), |t, thread| {
            let mut scratch = scratch.hold(thread);
            let (a, d) = scratch.split_at_mut(strip_len(shape));
            for image in tasks.images(t) {
                let mut z = z.hold(image);
                let mut round = round.as_ref().map(|(unit, z)| (*unit, z.hold(image)));
                for strip in strips(shape) {
                    let len = strip.wide.len();
                    let (a, d) = (&mut a[..len], &mut d[..len]);
                    let dout = &g[image * pooled..][strip.pooled.clone()];
                    let of_z = channels.normed(last, &z[strip.wide.clone()]);
                    let of_round =
                        round.as_ref().map(|(unit, z)| channels.normed(unit, &z[strip.wide.clone()]));
                    before_pooling(
                        (set, slope),
                        (strip.rows, shape.width),
                        of_z,
                        of_round,
                        dout,
                        [a, &mut *d],
                    );
                    norm_backward(set, channels, last, d, &mut z[strip.wide.clone()]);
                    if let Some((unit, z)) = &mut round {
                        norm_backward(set, channels, unit, d, &mut z[strip.wide.clone()]);
                    }
                }
            }
        });
    }

    /// Gradients of a norm from the shares that begin at `first`.
    pub(super) fn join_sums(&mut self, unit: &Unit, first: usize, count: usize, norm: Norm) {
        let (c, layout) = (unit.shape.outputs, &self.network.parameters);
        let shares = self.shares.chunks_exact(self.sizes.share).take(Tasks::of(unit, count).number());
        let shares = shares.map(|share| bytemuck::cast_slice::<f32, f64>(&share[first..first + 4 * c]));
        let (gamma, beta) = (layout.tensors[unit.gamma].range(), layout.tensors[unit.gamma + 1].range());
        let (head, tail) = self.gradients.split_at_mut(beta.start);
        let rows = count * unit.shape.pixels();
        self.channels.join_backward(unit, shares, norm, rows, &mut head[gamma], &mut tail[..c]);
    }

    /// `z = norm-backward(z, h)` over all images.
    fn norm_back(&mut self, unit: &Unit, count: usize) {
        let (set, tasks) = (self.options.kernels, Tasks::of(unit, count));
        let (channels, d) = (&self.channels, &self.h);
        let z = Chunks::new(&mut self.z[unit.index][..count * tasks.to], tasks.group * tasks.to);
        self.pool.run(tasks.number(), |t, _| {
            norm_backward(set, channels, unit, &d[tasks.outputs(t)], &mut z.hold(t));
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

    /// In `h`, the gradient of what the unit before gave, and its norm's sums: from the gradient of this unit's output.
    fn back_inside(&mut self, unit: &Unit, before: &Unit, count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let tasks = Tasks::of(unit, count);
        let (turned, packed) = (unit.shape.turned(), &self.packs[unit.index][1]);
        let h = Chunks::new(&mut self.h[..count * tasks.from], tasks.group * tasks.from);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (channels, z, e) = (&self.channels, &self.z[before.index], &self.z[unit.index]);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut h, mut scratch) = (h.hold(t), scratch.hold(thread));
            let (d, patches) = scratch.split_at_mut(sizes.images);
            let d = &mut d[..h.len()];
            conv::forward(set, turned, &e[tasks.outputs(t)], packed, d, patches);
            leaky_relu::backward(set, slope, &h, d);
            share_sums(set, channels, before, &z[tasks.inputs(t)], d, &mut shares.hold(t));
            h.copy_from_slice(d);
        });
        self.join_sums(before, 0, count, norm);
    }

    /// In the place of the output of `block`, its gradient: from that of the output of this unit, which read it. `adds`
    /// to what the way round left.
    fn back_to_block(&mut self, block: usize, unit: &Unit, count: usize, adds: bool) {
        let (set, sizes, tasks) = (self.options.kernels, &self.sizes, Tasks::of(unit, count));
        let (turned, packed, e) = (unit.shape.turned(), &self.packs[unit.index][1], &self.z[unit.index]);
        let g = Chunks::new(&mut self.outs[block][..count * tasks.from], tasks.group * tasks.from);
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

    /// The gradient of a unit's weights, from what it read and the gradient of its output.
    fn weight_gradient(&mut self, unit: &Unit, input: Input, images: &[f32], count: usize) {
        let (set, shape, sizes) = (self.options.kernels, unit.shape, &self.sizes);
        let x: &[f32] = match input {
            Input::Inner => &self.h,
            Input::Block(0) => images,
            Input::Block(b) => &self.outs[b - 1],
        };
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let (x, e) = (&x[..count * from], &self.z[unit.index][..count * to]);
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
                    conv::whole_weight_gradient(set, shape, x, e, &mut dw, &mut scratch[sizes.images..]);
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
pub(super) fn join_groups(pool: &isoflop_kernels::Pool, groups: &[f32], dw: &mut [f32]) {
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
