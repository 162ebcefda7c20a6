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

use super::kept::{PIECE, Shares, pieces};
use super::sizes::{BLOCK, Division, cut, group, strip_len};
use super::statistics::Channels;
use super::{ConvNet, Norm};
use crate::conv::config::{Features, Unit};
use isoflop_kernels::batchnorm::{self, Normed};
use isoflop_kernels::conv::{Pixels, Shape};
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
        let (block, channels, keep) = (&self.network.blocks[b], &self.channels, sizes.keep);
        let last = block.last();
        let (shape, tasks) = (last.shape, Tasks::of(last, count));
        let (each, pooled) = (tasks.to, block.pooled() * shape.outputs);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (z, g) = (&self.z, &self.outs[b]);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut scratch, mut share) = (scratch.hold(thread), shares.hold(t));
            let (strips_at, rest) = scratch.split_at_mut(4 * strip_len(shape));
            let [first, second, a, d] = cut(strips_at, [strip_len(shape); 4]);
            let (own, round) = share.split_at_mut(4 * shape.outputs);
            let (own_space, round_space) = rest.split_at_mut(4 * shape.outputs);
            let mut own = Shares::none(set, channels, last, own, own_space);
            let mut round =
                block.shortcut.as_ref().map(|unit| Shares::none(set, channels, unit, round, round_space));
            for image in tasks.images(t) {
                for strip in strips(shape) {
                    let wide = image * each + strip.wide.start..image * each + strip.wide.end;
                    let of = |unit: &Unit| keep.view(&z[unit.index], wide.clone());
                    let way = of(last).read(set, first);
                    let other = block.shortcut.as_ref().map(|unit| of(unit).read(set, second));
                    let dout = &g[image * pooled..][strip.pooled.clone()];
                    let (a, d) = (&mut a[..way.len()], &mut d[..way.len()]);
                    let normed = block.shortcut.as_ref().zip(other).map(|(unit, z)| channels.normed(unit, z));
                    let size = (strip.rows, shape.width);
                    before_pooling(
                        (set, slope),
                        size,
                        channels.normed(last, way),
                        normed,
                        dout,
                        [a, &mut *d],
                    );
                    own.add(way, d);
                    if let Some((round, other)) = round.as_mut().zip(other) {
                        round.add(other, d);
                    }
                }
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
        let (block, channels, keep) = (&self.network.blocks[b], &self.channels, sizes.keep);
        let last = block.last();
        let (shape, tasks) = (last.shape, Tasks::of(last, count));
        let (each, pooled) = (keep.floats(tasks.to), block.pooled() * shape.outputs);
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
            let [first, second, a, d] = cut(&mut scratch, [strip_len(shape); 4]);
            for image in tasks.images(t) {
                let mut z = z.hold(image);
                let mut round = round.as_ref().map(|(unit, z)| (*unit, z.hold(image)));
                for strip in strips(shape) {
                    let len = strip.wide.len();
                    let (a, d) = (&mut a[..len], &mut d[..len]);
                    let dout = &g[image * pooled..][strip.pooled.clone()];
                    let mut back = |z: &mut [f32], round: Option<(&Unit, &mut [f32])>| {
                        let other = round.as_ref().map(|(unit, z)| channels.normed(unit, z));
                        let (way, size) = (channels.normed(last, z), (strip.rows, shape.width));
                        before_pooling((set, slope), size, way, other, dout, [&mut *a, &mut *d]);
                        norm_backward(set, channels, last, d, z);
                        if let Some((unit, z)) = round {
                            norm_backward(set, channels, unit, d, z);
                        }
                    };
                    keep.alter(set, &mut z, strip.wide.clone(), first, |z| match &mut round {
                        None => back(z, None),
                        Some((unit, other)) => {
                            keep.alter(set, other, strip.wide.clone(), second, |other| {
                                back(z, Some((*unit, other)));
                            });
                        }
                    });
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
        let (set, keep, tasks) = (self.options.kernels, self.sizes.keep, Tasks::of(unit, count));
        let (channels, h) = (&self.channels, &self.h);
        let z = &mut self.z[unit.index][..keep.floats(count * tasks.to)];
        let z = Chunks::new(z, keep.floats(tasks.group * tasks.to));
        let scratch = Chunks::new(&mut self.scratch, self.sizes.scratch());
        self.pool.run(tasks.number(), |t, thread| {
            let (mut z, mut scratch) = (z.hold(t), scratch.hold(thread));
            let (space, other) = scratch.split_at_mut(PIECE.max(unit.shape.outputs));
            for (all, own) in pieces(tasks.outputs(t), unit.shape.outputs) {
                let d = keep.view(h, all).read(set, other);
                keep.alter(set, &mut z, own, space, |z| norm_backward(set, channels, unit, d, z));
            }
        });
    }

    /// `h`, the activation of a unit's output, which the next one read.
    fn activate(&mut self, unit: &Unit, count: usize) {
        let (set, slope, tasks) = (self.options.kernels, self.config.slope as f32, Tasks::of(unit, count));
        let (channels, keep, z) = (&self.channels, self.sizes.keep, &self.z[unit.index]);
        let h = &mut self.h[..keep.floats(count * tasks.to)];
        let h = Chunks::new(h, keep.floats(tasks.group * tasks.to));
        let scratch = Chunks::new(&mut self.scratch, self.sizes.scratch());
        self.pool.run(tasks.number(), |t, thread| {
            let (mut h, mut scratch) = (h.hold(t), scratch.hold(thread));
            let (space, other) = scratch.split_at_mut(PIECE.max(unit.shape.outputs));
            for (all, own) in pieces(tasks.outputs(t), unit.shape.outputs) {
                let z = keep.view(z, all).read(set, other);
                keep.fill(set, &mut h, own, space, |h| {
                    batchnorm::normalise(set, channels.normed(unit, z), None, slope, h);
                });
            }
        });
    }

    /// In `h`, the gradient of what the unit before gave, and its norm's sums: from the gradient of this unit's output.
    fn back_inside(&mut self, unit: &Unit, before: &Unit, count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let (tasks, keep) = (Tasks::of(unit, count), sizes.keep);
        let (turned, packed) = (unit.shape.turned(), &self.packs[unit.index][1]);
        let h = &mut self.h[..keep.floats(count * tasks.from)];
        let h = Chunks::new(h, keep.floats(tasks.group * tasks.from));
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let (channels, z, e) = (&self.channels, &self.z[before.index], &self.z[unit.index]);
        self.pool.run(tasks.number(), |t, thread| {
            let (mut h, mut scratch, mut shares) = (h.hold(t), scratch.hold(thread), shares.hold(t));
            let (space, patches) = scratch.split_at_mut(sizes.images);
            let at = tasks.inputs(t);
            // Sums come first: they are f64, and an image may have an odd number of floats.
            let (share, space) = space.split_at_mut(4 * before.shape.outputs);
            let (d, space) = space.split_at_mut(at.len());
            conv::forward(set, turned, keep.view(e, tasks.outputs(t)), packed, d, patches);
            let mut sums = Shares::none(set, channels, before, &mut shares, share);
            for (all, own) in pieces(at, before.shape.outputs) {
                let d = &mut d[own.clone()];
                keep.alter(set, &mut h, own, space, |h| {
                    leaky_relu::backward(set, slope, h, d);
                    h.copy_from_slice(d);
                });
                let z = keep.view(z, all).read(set, space);
                sums.add(z, d);
            }
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
            let e = sizes.keep.view(e, tasks.outputs(t));
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
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let keep = sizes.keep;
        let x = match input {
            Input::Inner => keep.view(&self.h, 0..count * from),
            Input::Block(0) => Pixels::F32(images),
            Input::Block(b) => Pixels::F32(&self.outs[b - 1][..count * from]),
        };
        let z = &self.z[unit.index];
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let dw = self.network.parameters.of_mut(&mut self.gradients, unit.weight);
        match Division::of(unit, count) {
            Division::Rows(rows) => {
                let parts = Chunks::new(dw, rows * shape.outputs);
                self.pool.run(shape.depth().div_ceil(rows), |t, thread| {
                    let (mut dw, mut scratch) = (parts.hold(t), scratch.hold(thread));
                    let own = t * rows..shape.depth().min((t + 1) * rows);
                    dw.fill(0.0);
                    let e = keep.view(z, 0..count * to);
                    conv::weight_gradient(set, shape, x, e, own, &mut dw, &mut scratch[sizes.images..]);
                });
            }
            Division::Channels(inputs, outputs) => {
                let len = 9 * BLOCK * BLOCK;
                let parts = Chunks::new(&mut self.partial_gradients[..inputs * outputs * len], len);
                self.pool.run(inputs * outputs, |t, thread| {
                    let (mut dw, mut scratch) = (parts.hold(t), scratch.hold(thread));
                    let of = (block_of(t / outputs, shape.inputs), block_of(t % outputs, shape.outputs));
                    let dw = &mut dw[..9 * of.0.len() * of.1.len()];
                    let (e, space) = (keep.view(z, 0..count * to), &mut scratch[sizes.images..]);
                    dw.fill(0.0);
                    conv::block_weight_gradient(set, shape, of, x, e, dw, space);
                });
                join_blocks(&self.pool, shape, &self.partial_gradients, dw);
            }
            Division::Images(groups) => {
                let len = shape.weights();
                let partial = &mut self.partial_gradients[..groups * len];
                let parts = Chunks::new(partial, len);
                self.pool.run(groups, |t, thread| {
                    let (mut dw, mut scratch) = (parts.hold(t), scratch.hold(thread));
                    let (first, end) = (t * count / groups, (t + 1) * count / groups);
                    let (x, e) = (x.slice(first * from..end * from), keep.view(z, first * to..end * to));
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

/// The channels of a block.
fn block_of(block: usize, channels: usize) -> std::ops::Range<usize> {
    block * BLOCK..channels.min((block + 1) * BLOCK)
}

/// `dw[3,3,I,O]` from its blocks of channels `[3,3,I',O']`, each in a buffer of a whole one.
fn join_blocks(pool: &isoflop_kernels::Pool, shape: Shape, blocks: &[f32], dw: &mut [f32]) {
    let (n, m) = (shape.inputs, shape.outputs);
    let rows = (SUM_BLOCK / m).max(1);
    let parts = Chunks::new(dw, rows * m);
    pool.run((9 * n).div_ceil(rows), |t, _| {
        for (row, dw) in (t * rows..).zip(parts.hold(t).chunks_exact_mut(m)) {
            let (tap, i) = (row / n, row % n);
            let own = block_of(i / BLOCK, n);
            for (block, dw) in dw.chunks_mut(BLOCK).enumerate() {
                let first = (i / BLOCK * m.div_ceil(BLOCK) + block) * 9 * BLOCK * BLOCK;
                let from = first + (tap * own.len() + i - own.start) * dw.len();
                dw.copy_from_slice(&blocks[from..from + dw.len()]);
            }
        }
    });
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
