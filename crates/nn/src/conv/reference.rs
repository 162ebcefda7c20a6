//! A network forward and backward in plain loops over `f32` or `f64`: the page to read first, and the oracle.
//!
//! ```text
//!   per block, from x [B,P,I]:   z₁ = x * w₁,  h₁ = leaky(norm(z₁)),  z₂ = h₁ * w₂, …
//!                                a = leaky(norm(z_k) + norm(x * w_s))      the second summand with a shortcut only
//!                                x ← max-pool(a)
//!   features = all pixels of the last x, or their mean                     [B,d]
//! ```
//!
//! Nothing here is shared with the fast network but the layout of the weights.

use super::ConvError;
use super::config::{Architecture, Block, ConvConfig, Features, Unit};
use super::net::Norm;
use isoflop_kernels::{Real, batchnorm, conv, leaky_relu, pooling};

/// A network with its weights, gradients and running statistics in one number type.
#[derive(Debug, Clone)]
pub struct Reference<T> {
    config: ConvConfig,
    network: Architecture,
    /// Weights, flat.
    pub weights: Vec<T>,
    /// Gradients, flat.
    pub gradients: Vec<T>,
    /// Running means of all norms.
    pub running_mean: Vec<T>,
    /// Running variances.
    pub running_variance: Vec<T>,
    kept: Vec<Kept<T>>,
}

/// What the backward pass of a block needs of its forward.
#[derive(Debug, Clone)]
struct Kept<T> {
    /// Input of each convolution.
    inputs: Vec<Vec<T>>,
    /// Each unit's output before its norm, and its mean and variance; the shortcut's last.
    units: Vec<Normed<T>>,
    /// The last activation.
    active: Vec<T>,
    fixed: bool,
}

#[derive(Debug, Clone)]
struct Normed<T> {
    z: Vec<T>,
    mean: Vec<T>,
    variance: Vec<T>,
}

impl<T: Real> Reference<T> {
    /// A network with these weights; running means 0, variances 1.
    ///
    /// # Errors
    /// As [`Architecture::new`].
    pub fn new(config: &ConvConfig, weights: Vec<T>) -> Result<Self, ConvError> {
        let network = Architecture::new(config)?;
        assert_eq!(weights.len(), network.parameters.len);
        Ok(Self {
            config: config.clone(),
            gradients: vec![T::default(); weights.len()],
            running_mean: vec![T::default(); network.channels],
            running_variance: vec![T::of(1.0); network.channels],
            network,
            weights,
            kept: Vec::new(),
        })
    }

    /// The units and the layout of the weights.
    pub fn network(&self) -> &Architecture {
        &self.network
    }

    /// Features `[B,d]` of `images[B,H,W,C]`; what [`Self::backward`] needs is kept.
    pub fn forward(&mut self, images: &[T], norm: Norm) -> Vec<T> {
        self.kept.clear();
        let mut x = images.to_vec();
        for block in self.network.blocks.clone() {
            x = self.block(&block, x, norm);
        }
        self.gather(&x)
    }

    /// `z = x * w` over all images, and the statistics that normalise it.
    fn convolve(&mut self, unit: &Unit, x: &[T], norm: Norm) -> Normed<T> {
        let shape = unit.shape;
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let mut z = vec![T::default(); x.len() / from * to];
        let w = self.network.parameters.of(&self.weights, unit.weight);
        for (x, z) in x.chunks_exact(from).zip(z.chunks_exact_mut(to)) {
            conv::naive::forward(shape, x, w, z);
        }
        let own = unit.channel..unit.channel + shape.outputs;
        let (mut mean, mut variance) =
            (self.running_mean[own.clone()].to_vec(), self.running_variance[own].to_vec());
        if norm == Norm::Batch {
            batchnorm::naive::statistics(&z, &mut mean, &mut variance);
            let rows = (z.len() / shape.outputs) as f64;
            let (momentum, unbiased) = (T::of(batchnorm::MOMENTUM), T::of(rows / (rows - 1.0)));
            for i in 0..shape.outputs {
                let (m, v) =
                    (&mut self.running_mean[unit.channel + i], &mut self.running_variance[unit.channel + i]);
                *m += momentum * (mean[i] - *m);
                *v += momentum * (variance[i] * unbiased - *v);
            }
        }
        Normed { z, mean, variance }
    }

    fn normalise(&self, unit: &Unit, of: &Normed<T>) -> Vec<T> {
        let mut y = vec![T::default(); of.z.len()];
        let gamma = self.network.parameters.of(&self.weights, unit.gamma);
        let beta = self.network.parameters.of(&self.weights, unit.gamma + 1);
        batchnorm::naive::forward(&of.z, &of.mean, &of.variance, gamma, beta, &mut y);
        y
    }

    fn block(&mut self, block: &Block, x: Vec<T>, norm: Norm) -> Vec<T> {
        let slope = T::of(self.config.slope);
        let (mut inputs, mut units) = (vec![x], Vec::new());
        let mut active = Vec::new();
        for (i, unit) in block.main.iter().enumerate() {
            let normed = self.convolve(unit, &inputs[i].clone(), norm);
            active = self.normalise(unit, &normed);
            units.push(normed);
            if i + 1 < block.main.len() {
                leaky_relu::naive::forward(slope, &mut active);
                inputs.push(active.clone());
            }
        }
        if let Some(unit) = &block.shortcut {
            let normed = self.convolve(unit, &inputs[0].clone(), norm);
            let round = self.normalise(unit, &normed);
            active.iter_mut().zip(&round).for_each(|(a, r)| *a += *r);
            units.push(normed);
        }
        leaky_relu::naive::forward(slope, &mut active);
        let shape = block.last().shape;
        let (h, w, c) = (shape.height, shape.width, shape.outputs);
        let mut out = vec![T::default(); active.len() / (h * w) * block.pooled()];
        for (a, out) in active.chunks_exact(h * w * c).zip(out.chunks_exact_mut(block.pooled() * c)) {
            pooling::naive::max_forward((h, w, c), a, out);
        }
        self.kept.push(Kept { inputs, units, active, fixed: norm == Norm::Running });
        out
    }

    /// Pixels and channels of the last block's output.
    fn end(&self) -> (usize, usize) {
        let last = self.network.blocks.last().expect("a network has blocks");
        (last.pooled(), last.last().shape.outputs)
    }

    fn gather(&self, x: &[T]) -> Vec<T> {
        let ((pixels, c), d) = (self.end(), self.network.features);
        let mut features = vec![T::default(); x.len() / (pixels * c) * d];
        for (x, f) in x.chunks_exact(pixels * c).zip(features.chunks_exact_mut(d)) {
            match self.config.features {
                Features::Mean => pooling::naive::mean_forward(x, f),
                Features::Flatten => (0..d).for_each(|i| f[i] = x[i % pixels * c + i / pixels]),
            }
        }
        features
    }

    /// Gradients of the weights (overwritten) from those of the last forward's features `[B,d]`.
    pub fn backward(&mut self, dfeatures: &[T]) {
        let ((pixels, c), d) = (self.end(), self.network.features);
        let mut dx = vec![T::default(); dfeatures.len() / d * pixels * c];
        for (df, dx) in dfeatures.chunks_exact(d).zip(dx.chunks_exact_mut(pixels * c)) {
            match self.config.features {
                Features::Mean => pooling::naive::mean_backward(df, dx),
                Features::Flatten => (0..d).for_each(|i| dx[i % pixels * c + i / pixels] = df[i]),
            }
        }
        self.gradients.fill(T::default());
        for block in self.network.blocks.clone().iter().rev() {
            let kept = self.kept.pop().expect("one record per block");
            dx = self.block_backward(block, &kept, &dx);
        }
    }

    /// From the gradient of a norm's output to that of its convolution's input.
    fn unit_backward(&mut self, unit: &Unit, x: &[T], of: &Normed<T>, d: &[T], fixed: bool) -> Vec<T> {
        let (shape, layout) = (unit.shape, &self.network.parameters);
        let mut dz = vec![T::default(); d.len()];
        let (mut dgamma, mut dbeta) = (vec![T::default(); shape.outputs], vec![T::default(); shape.outputs]);
        let gamma = layout.of(&self.weights, unit.gamma);
        let statistics = (&of.mean[..], &of.variance[..]);
        batchnorm::naive::backward(&of.z, statistics, gamma, d, fixed, &mut dz, (&mut dgamma, &mut dbeta));
        layout.of_mut(&mut self.gradients, unit.gamma).copy_from_slice(&dgamma);
        layout.of_mut(&mut self.gradients, unit.gamma + 1).copy_from_slice(&dbeta);
        let mut dx = vec![T::default(); x.len()];
        let (from, to) = (shape.pixels() * shape.inputs, shape.pixels() * shape.outputs);
        let images = x.chunks_exact(from).zip(dz.chunks_exact(to)).zip(dx.chunks_exact_mut(from));
        for ((x, dz), dx) in images {
            conv::naive::weight_gradient(shape, x, dz, layout.of_mut(&mut self.gradients, unit.weight));
            conv::naive::input_gradient(shape, dz, layout.of(&self.weights, unit.weight), dx);
        }
        dx
    }

    fn block_backward(&mut self, block: &Block, kept: &Kept<T>, dout: &[T]) -> Vec<T> {
        let slope = T::of(self.config.slope);
        let shape = block.last().shape;
        let (h, w, c) = (shape.height, shape.width, shape.outputs);
        let mut d = vec![T::default(); kept.active.len()];
        let images = kept.active.chunks_exact(h * w * c).zip(dout.chunks_exact(block.pooled() * c));
        for ((a, dout), d) in images.zip(d.chunks_exact_mut(h * w * c)) {
            pooling::naive::max_backward((h, w, c), a, dout, d);
        }
        leaky_relu::naive::backward(slope, &kept.active, &mut d);
        let round = block.shortcut.as_ref().map(|unit| {
            let of = kept.units.last().expect("the shortcut's record");
            self.unit_backward(unit, &kept.inputs[0], of, &d, kept.fixed)
        });
        for (i, unit) in block.main.iter().enumerate().rev() {
            d = self.unit_backward(unit, &kept.inputs[i], &kept.units[i], &d, kept.fixed);
            if i > 0 {
                leaky_relu::naive::backward(slope, &kept.inputs[i], &mut d);
            }
        }
        if let Some(round) = round {
            d.iter_mut().zip(&round).for_each(|(d, r)| *d += *r);
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::mix;

    fn value(i: usize) -> f64 {
        (mix(i as u64) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    /// A network small enough to perturb every weight, far from an initialisation.
    fn small(config: &ConvConfig) -> (Reference<f64>, Vec<f64>, Vec<f64>) {
        let network = Architecture::new(config).unwrap();
        let mut weights: Vec<f64> = (0..network.parameters.len).map(value).collect();
        for unit in network.units() {
            network.parameters.of_mut(&mut weights, unit.gamma).iter_mut().for_each(|w| *w += 1.0);
        }
        let images = (0..3 * network.input).map(|i| value(i + 9000)).collect();
        let dfeatures = (0..3 * network.features).map(|i| value(i + 70_000)).collect();
        (Reference::new(config, weights).unwrap(), images, dfeatures)
    }

    #[test]
    fn every_gradient_is_the_limit_of_differences() {
        let block = |width, convs, shortcut| BlockConfig { width, convs, shortcut };
        use super::super::config::BlockConfig;
        let plain =
            ConvConfig { blocks: vec![block(3, 1, false), block(2, 1, false)], ..ConvConfig::conv4(7, 2, 1) };
        let residual = ConvConfig {
            blocks: vec![block(2, 2, true), block(3, 3, true)],
            ..ConvConfig::resnet12(6, 1, [1; 4])
        };
        for (config, norm) in [(&plain, Norm::Batch), (&residual, Norm::Batch), (&residual, Norm::Running)] {
            let (mut model, images, dfeatures) = small(config);
            model.running_variance.iter_mut().enumerate().for_each(|(i, v)| *v += 0.3 * value(i));
            let loss = |model: &Reference<f64>| -> f64 {
                let features = model.clone().forward(&images, norm);
                features.iter().zip(&dfeatures).map(|(f, d)| f * d).sum()
            };
            let mut twin = model.clone();
            twin.forward(&images, norm);
            twin.backward(&dfeatures);
            let h = 1e-6;
            for tensor in model.network().parameters.tensors.clone() {
                for i in tensor.range() {
                    let w = model.weights[i];
                    model.weights[i] = w + h;
                    let up = loss(&model);
                    model.weights[i] = w - h;
                    let difference = (up - loss(&model)) / (2.0 * h);
                    model.weights[i] = w;
                    let exact = twin.gradients[i];
                    assert!(
                        (difference - exact).abs() < 1e-7 * (1.0 + exact.abs()),
                        "{} [{i}]: {difference} {exact}",
                        tensor.name
                    );
                }
            }
        }
    }
}
