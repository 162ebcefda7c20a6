//! The way forth: by layer over a batch in training, image by image when only features are wanted.

use super::backward::strips;
use super::kept::pieces;
use super::sizes::{cut, group, strip_len};
use super::statistics::Channels;
use super::{ConvNet, Norm};
use crate::conv::ConvError;
use crate::conv::config::{Block, Features, Unit};
use isoflop_kernels::batchnorm::{self, Normed};
use isoflop_kernels::conv::Shape;
use isoflop_kernels::{AlignedBuffer, Chunks, KernelSet, conv, pooling};

/// What a convolution reads: images as they lie, or the activation of another unit's output.
#[derive(Clone, Copy)]
enum Source<'a> {
    Images(&'a [f32]),
    Activated(&'a Unit, &'a [f32]),
}

/// `out[…] = max-pool(leaky(norm(z) + norm(round)))` of one image, two rows at a time through `pair`.
fn pool_image(
    set: KernelSet,
    block: &Block,
    z: Normed<'_>,
    round: Option<Normed<'_>>,
    slope: f32,
    pair: &mut [f32],
    out: &mut [f32],
) {
    let shape = block.last().shape;
    let (w, c) = (shape.width, shape.outputs);
    for (row, out) in out.chunks_exact_mut(w / 2 * c).enumerate().take(shape.height / 2) {
        let at = row * 2 * w * c..(row + 1) * 2 * w * c;
        let (a, b) =
            (Normed { x: &z.x[at.clone()], ..z }, round.map(|r| Normed { x: &r.x[at.clone()], ..r }));
        pool_pair(set, shape, a, b, slope, pair, out);
    }
}

/// The same of two rows `z[2·W,O]`.
pub(super) fn pool_pair(
    set: KernelSet,
    shape: Shape,
    z: Normed<'_>,
    round: Option<Normed<'_>>,
    slope: f32,
    pair: &mut [f32],
    out: &mut [f32],
) {
    let pair = &mut pair[..2 * shape.width * shape.outputs];
    batchnorm::normalise(set, z, round, slope, pair);
    pooling::max_forward(set, (2, shape.width, shape.outputs), pair, out);
}

/// Features `[d]` of an image's last pixels `x[P,C]`.
fn gather(set: KernelSet, how: Features, pixels: usize, x: &[f32], features: &mut [f32]) {
    match how {
        Features::Mean => pooling::mean_forward(set, x, features),
        Features::Flatten => {
            let c = x.len() / pixels;
            for (i, f) in features.iter_mut().enumerate() {
                *f = x[i % pixels * c + i / pixels];
            }
        }
    }
}

impl ConvNet {
    /// Features `[B,d]` of `images[B,H,W,C]`; what [`ConvNet::backward`] needs is kept.
    ///
    /// # Errors
    /// [`ConvError::Batch`] if these are no whole images, or more than the network was built for.
    pub fn forward(&mut self, images: &[f32], norm: Norm) -> Result<&[f32], ConvError> {
        let count = self.count(images)?;
        let remade = self.sizes.remade;
        if let Some(unit) = &remade {
            self.first_statistics(unit, images, count, norm);
            self.first_pooled(unit, images, count);
        }
        for b in usize::from(remade.is_some())..self.network.blocks.len() {
            for i in 0..self.network.blocks[b].main.len() {
                self.convolve(b, Some(i), images, count, norm);
            }
            if self.network.blocks[b].shortcut.is_some() {
                self.convolve(b, None, images, count, norm);
            }
            self.end_block(b, count);
        }
        let (last, set, how) = (self.network.blocks.last(), self.options.kernels, self.config.features);
        let pixels = last.expect("a network has blocks").pooled();
        let out = self.outs.last().expect("one output a block");
        let (each, d) = (out.len() / self.options.images, self.network.features);
        let features = Chunks::new(&mut self.features[..count * d], d);
        self.pool.run(count, |i, _| {
            gather(set, how, pixels, &out[i * each..(i + 1) * each], &mut features.hold(i));
        });
        self.last = Some((count, norm));
        Ok(&self.features[..count * d])
    }

    /// One phase: unit `i` of block `b`, or its shortcut, over all images.
    fn convolve(&mut self, b: usize, i: Option<usize>, images: &[f32], count: usize, norm: Norm) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let block = &self.network.blocks[b];
        let unit = match i {
            Some(i) => block.main[i],
            None => block.shortcut.expect("the block has a shortcut"),
        };
        let (before, own) = self.z.split_at_mut(unit.index);
        let source = match i {
            Some(i) if i > 0 => {
                let last = &block.main[i - 1];
                Source::Activated(last, &before[last.index])
            }
            _ if b > 0 => Source::Images(&self.outs[b - 1]),
            _ => Source::Images(images),
        };
        let shape = unit.shape;
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let group = group(&unit);
        let tasks = count.div_ceil(group);
        let (keep, channels) = (sizes.keep, &self.channels);
        let z = Chunks::new(&mut own[0][..keep.floats(count * to)], keep.floats(group * to));
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let shares = Chunks::new(&mut self.shares, sizes.share);
        let packed = &self.packs[unit.index][0];
        self.pool.run(tasks, |t, thread| {
            let (mut z, mut scratch) = (z.hold(t), scratch.hold(thread));
            let (space, patches) = scratch.split_at_mut(sizes.images);
            let images = group.min(count - t * group);
            let at = t * group * from..(t * group + images) * from;
            let (space, output) = space.split_at_mut(images * from);
            let x = match source {
                Source::Images(x) => &x[at],
                Source::Activated(unit, z) => {
                    for (all, own) in pieces(at, shape.inputs) {
                        let z = keep.view(z, all).read(set, output);
                        batchnorm::normalise(set, channels.normed(unit, z), None, slope, &mut space[own]);
                    }
                    space
                }
            };
            keep.fill(set, &mut z, 0..images * to, output, |z| {
                conv::forward(set, shape, x, packed, z, patches);
                if norm == Norm::Batch {
                    let share = &mut shares.hold(t)[..4 * shape.outputs];
                    batchnorm::moments(set, z, bytemuck::cast_slice_mut(share));
                }
            });
        });
        self.statistics_of(&unit, count, norm);
    }

    /// What a unit's outputs are normalised with: the running statistics, or the shares that its tasks left.
    pub(super) fn statistics_of(&mut self, unit: &Unit, count: usize, norm: Norm) {
        let layout = &self.network.parameters;
        let gamma = layout.of(&self.weights, unit.gamma);
        let beta = layout.of(&self.weights, unit.gamma + 1);
        let (shape, group) = (unit.shape, group(unit));
        match norm {
            Norm::Running => self.channels.freeze(unit, &self.running, gamma, beta),
            Norm::Batch => {
                let shares = self.shares.chunks_exact(self.sizes.share).take(count.div_ceil(group));
                let shares = shares.enumerate().map(|(t, share)| {
                    let rows = group.min(count - t * group) * shape.pixels();
                    (&bytemuck::cast_slice::<f32, f64>(share)[..2 * shape.outputs], rows)
                });
                self.channels.join(unit, shares, &mut self.running, gamma, beta);
            }
        }
    }

    /// The last activation of block `b`, pooled.
    fn end_block(&mut self, b: usize, count: usize) {
        let (set, slope, sizes) = (self.options.kernels, self.config.slope as f32, &self.sizes);
        let (block, channels, keep) = (&self.network.blocks[b], &self.channels, sizes.keep);
        let last = block.last();
        let shape = last.shape;
        let (each, pooled) = (shape.pixels() * shape.outputs, block.pooled() * shape.outputs);
        let group = group(last);
        let out = Chunks::new(&mut self.outs[b][..count * pooled], group * pooled);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        let z = &self.z;
        self.pool.run(count.div_ceil(group), |t, thread| {
            let (mut out, mut scratch) = (out.hold(t), scratch.hold(thread));
            let [first, second, pair] = cut(&mut scratch, [strip_len(shape); 3]);
            for (k, out) in out.chunks_exact_mut(pooled).enumerate() {
                let at = (t * group + k) * each;
                for strip in strips(shape).filter(|strip| strip.rows == 2) {
                    let wide = at + strip.wide.start..at + strip.wide.end;
                    let of = channels.normed(last, keep.view(&z[last.index], wide.clone()).read(set, first));
                    let round = block.shortcut.as_ref().map(|unit| {
                        channels.normed(unit, keep.view(&z[unit.index], wide.clone()).read(set, second))
                    });
                    pool_pair(set, shape, of, round, slope, pair, &mut out[strip.pooled]);
                }
            }
        });
    }

    /// Features `out[B,d]` of any number of `images[B,H,W,C]`, with the running statistics: nothing is kept, and no
    /// gradient can follow. Each image's features are its own, whatever stands beside it.
    ///
    /// # Errors
    /// [`ConvError::Batch`] if these are no whole images, or `out` has another number of them.
    pub fn embed(&mut self, images: &[f32], out: &mut [f32]) -> Result<(), ConvError> {
        let (each, d) = (self.network.input, self.network.features);
        let count = images.len() / each;
        if images.len() != count * each || out.len() != count * d {
            return Err(ConvError::Batch { found: images.len(), most: out.len() / d, each });
        }
        for unit in self.network.units() {
            let layout = &self.network.parameters;
            let gamma = layout.of(&self.weights, unit.gamma);
            self.frozen.freeze(unit, &self.running, gamma, layout.of(&self.weights, unit.gamma + 1));
        }
        let sizes = &self.sizes;
        let walk = Walk {
            set: self.options.kernels,
            slope: self.config.slope as f32,
            packs: &self.packs,
            channels: &self.frozen,
        };
        let (blocks, how, pool) = (&self.network.blocks, self.config.features, &self.pool);
        let pixels = blocks.last().map_or(0, Block::pooled);
        let scratch = Chunks::new(&mut self.scratch, sizes.scratch());
        // So many images at once as there may be chunks.
        for (images, out) in images.chunks(Chunks::MAX * each).zip(out.chunks_mut(Chunks::MAX * d)) {
            let features = Chunks::new(out, d);
            pool.run(images.len() / each, |i, thread| {
                let mut scratch = scratch.hold(thread);
                let (space, patches) = scratch.split_at_mut(sizes.images);
                let mut spaces = cut(space, sizes.spaces);
                let mut len = None;
                for block in blocks {
                    let image = len.is_none().then(|| &images[i * each..(i + 1) * each]);
                    len = Some(walk.block(block, image, &mut spaces, patches));
                }
                let x = &spaces[0][..len.expect("a network has blocks")];
                gather(walk.set, how, pixels, x, &mut features.hold(i));
            });
        }
        Ok(())
    }
}

/// What the walk of one image through the network needs.
struct Walk<'a> {
    set: KernelSet,
    slope: f32,
    packs: &'a [[AlignedBuffer; 2]],
    channels: &'a Channels,
}

impl Walk<'_> {
    /// One block, from `image` or from the first space into the first space; returns the elements there.
    fn block(
        &self,
        block: &Block,
        image: Option<&[f32]>,
        spaces: &mut [&mut [f32]; 4],
        patches: &mut [f32],
    ) -> usize {
        let [a, b, c, d] = spaces;
        let first = block.main[0].shape;
        let input = first.pixels() * first.inputs;
        let len = first.pixels() * first.outputs;
        let x = image.unwrap_or_else(|| &a[..input]);
        let packed = |unit: &Unit| &self.packs[unit.index][0];
        conv::forward(self.set, first, x, packed(&block.main[0]), &mut b[..len], patches);
        if let Some(unit) = &block.shortcut {
            conv::forward(self.set, unit.shape, x, packed(unit), &mut d[..len], patches);
        }
        for pair in block.main.windows(2) {
            let normed = self.channels.normed(&pair[0], &b[..len]);
            batchnorm::normalise(self.set, normed, None, self.slope, &mut c[..len]);
            conv::forward(self.set, pair[1].shape, &c[..len], packed(&pair[1]), &mut b[..len], patches);
        }
        let round = block.shortcut.as_ref().map(|unit| self.channels.normed(unit, &d[..len]));
        let pooled = block.pooled() * first.outputs;
        let z = self.channels.normed(block.last(), &b[..len]);
        pool_image(self.set, block, z, round, self.slope, c, &mut a[..pooled]);
        pooled
    }
}
