//! The kernels of networks of images, as `kernels/abi.h` says their arguments and geometry.

use super::sizes::CHANNEL_ROWS;
use crate::abi::{NormArgs, PatchArgs, PoolArgs};
use crate::driver::{Arg, DriverError, Function, Module, Span, Stream};
use crate::kernels::{grid, line};
use bytemuck::bytes_of;
use std::sync::Arc;

/// Those of an f32 image.
#[derive(Debug)]
pub(crate) struct ConvKernels {
    patches: Function,
    patches_backward: Function,
    channel_moments: Function,
    norm_factors: Function,
    channel_sums: Function,
    norm_gradients: Function,
    batchnorm_backward: Function,
    pool_forward: Function,
    pool_backward: Function,
    features_forward: Function,
    features_backward: Function,
    sgd: Function,
}

/// Images, pixels and channels of features, and whether they are the mean over pixels.
pub(crate) type FeatureShape = (usize, usize, usize, bool);

impl ConvKernels {
    pub(crate) fn load(module: &Arc<Module>) -> Result<Self, DriverError> {
        let find = |name: &str| module.function(name, 0);
        Ok(Self {
            patches: find("patches")?,
            patches_backward: find("patches_backward")?,
            channel_moments: find("channel_moments")?,
            norm_factors: find("norm_factors")?,
            channel_sums: find("channel_sums")?,
            norm_gradients: find("norm_gradients")?,
            batchnorm_backward: find("batchnorm_backward")?,
            pool_forward: find("pool_forward")?,
            pool_backward: find("pool_backward")?,
            features_forward: find("features_forward")?,
            features_backward: find("features_backward")?,
            sgd: find("sgd")?,
        })
    }

    /// Columns of patches.
    pub(crate) fn patches(&self, stream: &Stream, args: &PatchArgs) -> Result<(), DriverError> {
        let depth = (args.side * args.side * args.channels) as usize;
        let elements = pixels(args) * depth;
        stream.launch(&self.patches, grid(line(elements, 256), 256), &[Arg::Bytes(bytes_of(args))])
    }

    /// The gradient of what patches were made of.
    pub(crate) fn patches_backward(&self, stream: &Stream, args: &PatchArgs) -> Result<(), DriverError> {
        let elements = pixels(args) * args.channels as usize;
        stream.launch(&self.patches_backward, grid(line(elements, 256), 256), &[Arg::Bytes(bytes_of(args))])
    }

    /// Shares of mean and squared deviations of `z[R,C]`.
    pub(crate) fn channel_moments(
        &self,
        stream: &Stream,
        (z, parts): (Span, Span),
        (rows, c): (usize, usize),
    ) -> Result<(), DriverError> {
        let args = [z.into(), parts.into(), (rows as i32).into(), (c as i32).into(), per_block()];
        stream.launch(&self.channel_moments, grid(by_channels(rows, c), 256), &args)
    }

    /// Shares of Σ d and Σ d·x̂.
    pub(crate) fn channel_sums(
        &self,
        stream: &Stream,
        (z, d, parts): (Span, Span, Span),
        (mean, rstd): (Span, Span),
        (rows, c): (usize, usize),
    ) -> Result<(), DriverError> {
        let sizes = [(rows as i32).into(), (c as i32).into(), per_block()];
        let spans = [z, d, mean, rstd, parts].map(Arg::from);
        let args: Vec<Arg<'_>> = spans.into_iter().chain(sizes).collect();
        stream.launch(&self.channel_sums, grid(by_channels(rows, c), 256), &args)
    }

    /// Factors of a norm.
    pub(crate) fn norm_factors(&self, stream: &Stream, args: &NormArgs) -> Result<(), DriverError> {
        stream.launch(&self.norm_factors, grid(line(args.c as usize, 64), 64), &[Arg::Bytes(bytes_of(args))])
    }

    /// Gradients of a norm, and the factors of the pass to its input.
    pub(crate) fn norm_gradients(&self, stream: &Stream, args: &NormArgs) -> Result<(), DriverError> {
        stream.launch(
            &self.norm_gradients,
            grid(line(args.c as usize, 64), 64),
            &[Arg::Bytes(bytes_of(args))],
        )
    }

    /// `e = scale·d + by_x·z + rest`.
    pub(crate) fn batchnorm_backward(
        &self,
        stream: &Stream,
        (z, d, e): (Span, Span, Span),
        factors: [Span; 3],
        (n, c): (usize, usize),
    ) -> Result<(), DriverError> {
        let [scale, by_x, rest] = factors;
        let spans = [z, d, scale, by_x, rest, e].map(Arg::from);
        let args: Vec<Arg<'_>> = spans.into_iter().chain([(n as u64).into(), (c as i32).into()]).collect();
        stream.launch(&self.batchnorm_backward, grid(line(n, 256), 256), &args)
    }

    /// The end of a block.
    pub(crate) fn pool_forward(&self, stream: &Stream, args: &PoolArgs) -> Result<(), DriverError> {
        let windows = (args.height / 2 * (args.width / 2)) as usize;
        let elements = args.images as usize * windows * args.c as usize;
        stream.launch(&self.pool_forward, grid(line(elements, 256), 256), &[Arg::Bytes(bytes_of(args))])
    }

    /// The gradient of the sum before a block's last activation.
    pub(crate) fn pool_backward(&self, stream: &Stream, args: &PoolArgs) -> Result<(), DriverError> {
        let windows = ((args.height + 1) / 2 * ((args.width + 1) / 2)) as usize;
        let elements = args.images as usize * windows * args.c as usize;
        stream.launch(&self.pool_backward, grid(line(elements, 256), 256), &[Arg::Bytes(bytes_of(args))])
    }

    /// Features of the last block's pixels.
    pub(crate) fn features_forward(
        &self,
        stream: &Stream,
        (x, features): (Span, Span),
        shape: FeatureShape,
    ) -> Result<(), DriverError> {
        let (images, pixels, c, mean) = shape;
        let elements = images * c * if mean { 1 } else { pixels };
        let args = feature_args(x, features, shape);
        stream.launch(&self.features_forward, grid(line(elements, 256), 256), &args)
    }

    /// The gradient of the last block's pixels.
    pub(crate) fn features_backward(
        &self,
        stream: &Stream,
        (dfeatures, dx): (Span, Span),
        shape: FeatureShape,
    ) -> Result<(), DriverError> {
        let (images, pixels, c, _) = shape;
        let args = feature_args(dfeatures, dx, shape);
        stream.launch(&self.features_backward, grid(line(images * pixels * c, 256), 256), &args)
    }

    /// One step of SGD.
    pub(crate) fn sgd(
        &self,
        stream: &Stream,
        (w, g, v, norm): (Span, Span, Span, Span),
        (lr, momentum, weight_decay, nesterov): (f64, f64, f64, bool),
    ) -> Result<(), DriverError> {
        let n = w.bytes / 4;
        let spans = [w, g, v, norm].map(Arg::from);
        let rates = [lr, momentum, weight_decay].map(|x| Arg::from(x as f32));
        let rest = [Arg::from(i32::from(nesterov))];
        let args: Vec<Arg<'_>> = spans.into_iter().chain([n.into()]).chain(rates).chain(rest).collect();
        stream.launch(&self.sgd, grid(line(n as usize, 256), 256), &args)
    }
}

fn pixels(args: &PatchArgs) -> usize {
    args.images as usize * args.height as usize * args.width as usize
}

fn per_block() -> Arg<'static> {
    (CHANNEL_ROWS as i32).into()
}

fn by_channels(rows: usize, c: usize) -> (u32, u32, u32) {
    (c.div_ceil(64) as u32, rows.div_ceil(CHANNEL_ROWS) as u32, 1)
}

fn feature_args(from: Span, to: Span, (images, pixels, c, mean): FeatureShape) -> [Arg<'static>; 6] {
    [
        from.into(),
        to.into(),
        (images as i32).into(),
        (pixels as i32).into(),
        (c as i32).into(),
        i32::from(mean).into(),
    ]
}
