//! One card's copy of a network, and the passes over its share of a batch. Nothing here waits for the card.
//!
//! What is kept for the way back is the output of each convolution alone, as on the processor: patches read it through
//! its norm and activation.

use super::kernels::{ConvKernels, FeatureShape};
use super::sizes::{Parts, Sizes, chunks};
use crate::abi::{AdamWArgs, GemmArgs, NormArgs, PatchArgs, PoolArgs, StepNorm, epilogue};
use crate::driver::{Context, DeviceMemory, Driver, DriverError, Span, Stream};
use crate::kernels::{Form, Kernels};
use crate::sizes::{Buffer, UPDATE, splits};
use isoflop_nn::Precision;
use isoflop_nn::conv::config::{Block, Unit};
use isoflop_nn::conv::{Features, Norm, OptimizerConfig};
use std::ops::Range;
use std::rc::Rc;

/// What a convolution reads.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// The input of this block.
    Block(usize),
    /// The activation of this unit's output.
    Inner(&'a Unit),
}

/// A card's network.
pub(super) struct Card {
    sizes: Rc<Sizes>,
    kernels: Kernels,
    conv: ConvKernels,
    pub(super) stream: Stream,
    arena: DeviceMemory,
    /// Its number among the cards.
    index: usize,
    /// Images of its share.
    pub(super) count: usize,
}

impl Card {
    /// With its memory allocated, all zero, and its kernels loaded.
    pub(super) fn new(
        driver: &Driver,
        (number, index): (u32, usize),
        image: &[u8],
        sizes: &Rc<Sizes>,
    ) -> Result<Self, DriverError> {
        let context: Context = driver.context(number)?;
        // The kernels of attention and of layer norm are there and not used.
        let kernels = Kernels::load(&context, image, Precision::F32, 64, 64)?;
        let conv = ConvKernels::load(&kernels.module)?;
        let arena = context.allocate(sizes.total())?;
        let stream = context.stream()?;
        stream.clear(arena.span())?;
        let card = Self { sizes: Rc::clone(sizes), kernels, conv, stream, arena, index, count: 0 };
        let (blocks, to) = (sizes.blocks(), card.at(sizes.update_blocks));
        if to.bytes > 0 {
            card.stream.upload(to, bytemuck::cast_slice(&blocks))?;
        }
        Ok(card)
    }

    /// Where a buffer lies.
    pub(super) fn at(&self, buffer: Buffer) -> Span {
        buffer.of(self.arena.span())
    }

    /// Elements of a buffer of f32.
    pub(super) fn part(&self, buffer: Buffer, elements: Range<usize>) -> Span {
        self.at(buffer).part(4 * elements.start as u64, 4 * elements.len() as u64)
    }

    fn weight(&self, buffer: Buffer, tensor: usize) -> Span {
        self.part(buffer, self.sizes.network.parameters.tensors[tensor].range())
    }

    /// A unit's channels of a buffer of all.
    fn channels(&self, buffer: Buffer, unit: &Unit) -> Span {
        self.part(buffer, unit.channel..unit.channel + unit.shape.outputs)
    }

    /// What a unit reads, of some images: where, and factors of the norm that is applied on the way.
    fn source(&self, unit: &Unit, input: Input<'_>, images: &Range<usize>) -> (Span, Option<[Span; 2]>) {
        let each = unit.shape.pixels() * unit.shape.inputs;
        let elements = images.start * each..images.end * each;
        let factors = &self.sizes.factors;
        match input {
            Input::Block(0) => (self.part(self.sizes.input, elements), None),
            Input::Block(b) => (self.part(self.sizes.outs[b - 1], elements), None),
            Input::Inner(before) => {
                let of = |buffer| self.channels(buffer, before);
                let norm = [of(factors.scale), of(factors.shift)];
                (self.part(self.sizes.z[before.index], elements), Some(norm))
            }
        }
    }

    fn patch_args(
        &self,
        unit: &Unit,
        (x, norm): (Span, Option<[Span; 2]>),
        images: &Range<usize>,
    ) -> PatchArgs {
        let shape = unit.shape;
        let [scale, shift] = norm.map_or([0, 0], |norm| norm.map(|span| span.address));
        PatchArgs {
            x: x.address,
            scale,
            shift,
            columns: self.at(self.sizes.columns).address,
            images: images.len() as i32,
            height: shape.height as i32,
            width: shape.width as i32,
            channels: shape.inputs as i32,
            side: shape.side as i32,
            slope: self.sizes.config.network.slope as f32,
            ..PatchArgs::default()
        }
    }

    /// The patches of some images of a unit, where products read them: a window of one pixel reads the images.
    fn patches(&self, unit: &Unit, input: Input<'_>, images: &Range<usize>) -> Result<Span, DriverError> {
        let source = self.source(unit, input, images);
        if unit.shape.side == 1 {
            assert!(source.1.is_none(), "a way round reads a block's input");
            return Ok(source.0);
        }
        self.conv.patches(&self.stream, &self.patch_args(unit, source, images))?;
        Ok(self.part(self.sizes.columns, 0..images.len() * unit.shape.pixels() * unit.shape.depth()))
    }

    /// A product of rows that follow each other.
    fn product(
        &self,
        form: Form,
        (a, b, out): (Span, Span, Span),
        (m, n, k): (usize, usize, usize),
        (k_split, parts): (usize, usize),
        epilogue: i32,
    ) -> Result<(), DriverError> {
        let args = GemmArgs {
            a: a.address,
            b: b.address,
            out: out.address,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            lda: if form == Form::Tn { m } else { k } as i32,
            ldb: if form == Form::Nt { k } else { n } as i32,
            ldo: n as i32,
            k_split: k_split as i32,
            epilogue,
            ..GemmArgs::default()
        };
        self.kernels.gemm(&self.stream, form, 64, parts, &args)
    }

    /// `z = patches · w` of a unit.
    pub(super) fn convolve(&self, unit: &Unit, input: Input<'_>) -> Result<(), DriverError> {
        let (shape, w) = (unit.shape, self.weight(self.sizes.weights, unit.weight));
        for images in chunks(unit, self.sizes.images, self.count) {
            let x = self.patches(unit, input, &images)?;
            let rows = images.len() * shape.pixels();
            let z = self.outputs(self.sizes.z[unit.index], unit, &images);
            let sizes = (rows, shape.outputs, shape.depth());
            self.product(Form::Nn, (x, w, z), sizes, (sizes.2, 1), epilogue::STORE_F32)?;
        }
        Ok(())
    }

    fn outputs(&self, buffer: Buffer, unit: &Unit, images: &Range<usize>) -> Span {
        let each = unit.shape.pixels() * unit.shape.outputs;
        self.part(buffer, images.start * each..images.end * each)
    }

    fn all(&self, buffer: Buffer, unit: &Unit) -> Span {
        self.outputs(buffer, unit, &(0..self.count))
    }

    fn rows(&self, unit: &Unit) -> usize {
        self.count * unit.shape.pixels()
    }

    /// Where shares of a unit's channels lie: some of all cards'.
    pub(super) fn shares(&self, unit: &Unit, own: &Range<usize>) -> Span {
        let each = 2 * unit.shape.outputs;
        self.part(self.sizes.parts, own.start * each..own.end * each)
    }

    /// Its shares of a unit's moments.
    pub(super) fn moments(&self, unit: &Unit, parts: &Parts) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        let (z, c) = (self.all(self.sizes.z[unit.index], unit), unit.shape.outputs);
        let to = self.shares(unit, &parts.own[self.index][unit.index]);
        self.conv.channel_moments(&self.stream, (z, to), (self.rows(unit), c))
    }

    /// Its shares of (Σ d, Σ d·x̂).
    pub(super) fn sums(&self, unit: &Unit, parts: &Parts) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        let (factors, c) = (&self.sizes.factors, unit.shape.outputs);
        let (z, d) = (self.all(self.sizes.z[unit.index], unit), self.all(self.sizes.d, unit));
        let to = self.shares(unit, &parts.own[self.index][unit.index]);
        let of = |buffer| self.channels(buffer, unit);
        let by = (of(factors.mean), of(factors.rstd));
        self.conv.channel_sums(&self.stream, (z, d, to), by, (self.rows(unit), c))
    }

    fn norm_args(&self, unit: &Unit, parts: &Parts, norm: Norm, gradients: bool) -> NormArgs {
        let (sizes, factors) = (&self.sizes, &self.sizes.factors);
        let of = |buffer| self.channels(buffer, unit).address;
        let weight = |buffer, tensor| self.weight(buffer, tensor).address;
        let all = parts.of_unit.get(unit.index).cloned().unwrap_or_default();
        let own = parts.own.get(self.index).map_or(0..0, |own| own[unit.index].clone());
        let part_rows = if all.is_empty() { 0 } else { self.part(sizes.part_rows, all.clone()).address };
        NormArgs {
            parts: self.at(sizes.parts).address,
            part_rows,
            weight: weight(sizes.weights, unit.gamma),
            bias: weight(sizes.weights, unit.gamma + 1),
            running_mean: of(sizes.running[0]),
            running_variance: of(sizes.running[1]),
            mean: of(factors.mean),
            rstd: of(factors.rstd),
            scale: of(factors.scale),
            shift: of(factors.shift),
            by_x: of(factors.by_x),
            rest: of(factors.rest),
            dweight: if gradients { weight(sizes.gradients, unit.gamma) } else { 0 },
            dbias: if gradients { weight(sizes.gradients, unit.gamma + 1) } else { 0 },
            c: unit.shape.outputs as i32,
            parts_count: all.len() as i32,
            own_first: own.start as i32,
            own_count: own.len() as i32,
            fixed: i32::from(norm == Norm::Running),
            pad: 0,
        }
    }

    /// What a unit's outputs are multiplied with and raised by.
    pub(super) fn factors(&self, unit: &Unit, parts: &Parts, norm: Norm) -> Result<(), DriverError> {
        self.conv.norm_factors(&self.stream, &self.norm_args(unit, parts, norm, false))
    }

    /// Adds the gradients of a unit's norm.
    pub(super) fn norm_gradients(&self, unit: &Unit, parts: &Parts, norm: Norm) -> Result<(), DriverError> {
        self.conv.norm_gradients(&self.stream, &self.norm_args(unit, parts, norm, true))
    }

    fn pool_args(&self, b: usize, block: &Block) -> PoolArgs {
        let (sizes, last, factors) = (&self.sizes, block.last(), &self.sizes.factors);
        let of = |unit: &Unit| {
            let [scale, shift] =
                [factors.scale, factors.shift].map(|buffer| self.channels(buffer, unit).address);
            [self.at(sizes.z[unit.index]).address, scale, shift]
        };
        let [z, scale, shift] = of(last);
        let [round, round_scale, round_shift] = block.shortcut.as_ref().map_or([0; 3], of);
        PoolArgs {
            z,
            scale,
            shift,
            round,
            round_scale,
            round_shift,
            out: self.at(sizes.outs[b]).address,
            dout: self.at(sizes.g).address,
            d: self.at(sizes.d).address,
            images: self.count as i32,
            height: last.shape.height as i32,
            width: last.shape.width as i32,
            c: last.shape.outputs as i32,
            slope: sizes.config.network.slope as f32,
            pad: 0,
        }
    }

    /// The last activation of block `b`, pooled.
    pub(super) fn end_block(&self, b: usize, block: &Block) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        self.conv.pool_forward(&self.stream, &self.pool_args(b, block))
    }

    /// From `g`, the gradient of block `b`'s output, to `d`, that of the sum before its last activation.
    pub(super) fn enter_block(&self, b: usize, block: &Block) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        self.conv.pool_backward(&self.stream, &self.pool_args(b, block))
    }

    fn feature_shape(&self) -> FeatureShape {
        let last = self.sizes.network.blocks.last().expect("a network has blocks");
        let mean = self.sizes.config.network.features == Features::Mean;
        (self.count, last.pooled(), last.last().shape.outputs, mean)
    }

    /// Features of the last block's pixels.
    pub(super) fn features(&self) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        let from = self.at(*self.sizes.outs.last().expect("one output a block"));
        self.conv.features_forward(&self.stream, (from, self.at(self.sizes.features)), self.feature_shape())
    }

    /// The gradient of the last block's output, into `g`.
    pub(super) fn spread(&self) -> Result<(), DriverError> {
        if self.count == 0 {
            return Ok(());
        }
        let (from, to) = (self.at(self.sizes.dfeatures), self.at(self.sizes.g));
        self.conv.features_backward(&self.stream, (from, to), self.feature_shape())
    }

    /// `e = norm-backward(z, d)` of a unit.
    pub(super) fn norm_back(&self, unit: &Unit) -> Result<(), DriverError> {
        let (sizes, factors, c) = (&self.sizes, &self.sizes.factors, unit.shape.outputs);
        let n = self.rows(unit) * c;
        if n == 0 {
            return Ok(());
        }
        let by = [factors.scale, factors.by_x, factors.rest].map(|buffer| self.channels(buffer, unit));
        let spans = (self.at(sizes.z[unit.index]), self.at(sizes.d), self.at(sizes.e));
        self.conv.batchnorm_backward(&self.stream, spans, by, (n, c))
    }

    /// Adds the gradient of a unit's weights, from what it read and `e`.
    pub(super) fn weight_gradient(&self, unit: &Unit, input: Input<'_>) -> Result<(), DriverError> {
        let (sizes, shape) = (&self.sizes, unit.shape);
        let (dw, parts) = (self.weight(sizes.gradients, unit.weight), self.at(sizes.splits));
        let (m, n) = (shape.depth(), shape.outputs);
        for images in chunks(unit, sizes.images, self.count) {
            let x = self.patches(unit, input, &images)?;
            let e = self.outputs(sizes.e, unit, &images);
            let rows = images.len() * shape.pixels();
            let (part, count) = splits(Precision::F32, m, n, rows);
            if count == 1 {
                self.product(Form::Tn, (x, e, dw), (m, n, rows), (part, 1), epilogue::ADD_F32)?;
            } else {
                self.product(Form::Tn, (x, e, parts), (m, n, rows), (part, count), epilogue::STORE_F32)?;
                self.kernels.reduce_parts(&self.stream, parts.address, dw, (m * n, count, m * n), true)?;
            }
        }
        Ok(())
    }

    /// The gradient of what a unit read, from `e`: of the unit before, through its activation, into `d`; or of the
    /// block's input, into `g`, where `adds` adds it to what the way round left.
    pub(super) fn back(&self, unit: &Unit, input: Input<'_>, adds: bool) -> Result<(), DriverError> {
        let (sizes, shape) = (&self.sizes, unit.shape);
        let (w, each) = (self.weight(sizes.weights, unit.weight), shape.pixels() * shape.inputs);
        let to = if matches!(input, Input::Inner(_)) { sizes.d } else { sizes.g };
        for images in chunks(unit, sizes.images, self.count) {
            let (e, rows) = (self.outputs(sizes.e, unit, &images), images.len() * shape.pixels());
            let dx = self.part(to, images.start * each..images.end * each);
            let k = (shape.outputs, 1);
            if shape.side == 1 {
                let epilogue = if adds { epilogue::ADD_F32 } else { epilogue::STORE_F32 };
                self.product(Form::Nt, (e, w, dx), (rows, shape.inputs, shape.outputs), k, epilogue)?;
                continue;
            }
            let columns = self.part(sizes.columns, 0..rows * shape.depth());
            let all = (rows, shape.depth(), shape.outputs);
            self.product(Form::Nt, (e, w, columns), all, k, epilogue::STORE_F32)?;
            let args = PatchArgs {
                dx: dx.address,
                accumulate: i32::from(adds),
                ..self.patch_args(unit, self.source(unit, input, &images), &images)
            };
            self.conv.patches_backward(&self.stream, &args)?;
        }
        Ok(())
    }

    /// |g|² on its way to the card's `StepNorm`.
    pub(super) fn squares(&self) -> Result<(), DriverError> {
        let (sizes, n) = (&self.sizes, self.sizes.network.parameters.len);
        let (g, parts, norm) = (self.at(sizes.gradients), self.at(sizes.squares), self.at(sizes.norm));
        self.kernels.norm(&self.stream, (g, n), parts, (1.0, 0.0), norm)
    }

    /// Step `t` of the optimiser with gradients scaled by `scale`.
    pub(super) fn update(&self, lr: f64, scale: f64, t: u64) -> Result<(), DriverError> {
        let sizes = &self.sizes;
        let norm = StepNorm { squares: 0.0, norm: 0.0, factor: scale as f32, finite: 1 };
        self.stream.upload(self.at(sizes.norm), bytemuck::bytes_of(&norm))?;
        let (w, g, norm) = (self.at(sizes.weights), self.at(sizes.gradients), self.at(sizes.norm));
        let moment = |index: usize| self.at(sizes.moments[index]);
        match sizes.config.optimizer {
            OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
                let rates = (lr, momentum, weight_decay, nesterov);
                self.conv.sgd(&self.stream, (w, g, moment(0), norm), rates)
            }
            OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay } => {
                let args = AdamWArgs {
                    w: w.address,
                    g: g.address,
                    m: moment(0).address,
                    v: moment(1).address,
                    blocks: self.at(sizes.update_blocks).address,
                    norm: norm.address,
                    ..AdamWArgs::rates(lr as f32, (beta1, beta2), eps, weight_decay, t)
                };
                let blocks = sizes.network.parameters.len.div_ceil(UPDATE);
                self.kernels.adamw(&self.stream, &args, blocks)
            }
        }
    }
}
