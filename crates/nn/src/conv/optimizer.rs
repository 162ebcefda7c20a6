//! SGD with Nesterov's momentum and AdamW over a flat buffer, as PyTorch's have them: decay applies to every tensor.

use super::ConvError;
use isoflop_kernels::{AlignedBuffer, Chunks, KernelSet, Pool, adamw, sgd};
use serde::{Deserialize, Serialize};

/// Elements that one task moves. Fixed, so that no sum depends on the number of threads.
const BLOCK: usize = 16 * 1024;

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// `torch.optim.SGD`.
    Sgd {
        /// Decay of the velocity.
        momentum: f64,
        /// Whether the gradient is taken where the velocity leads.
        nesterov: bool,
        /// L2 decay, added to the gradient.
        weight_decay: f64,
    },
    /// `torch.optim.AdamW`.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
        /// Decoupled decay.
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// What ResNet-12 is trained with (MetaOptNet's recipe).
    pub fn sgd() -> Self {
        Self::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 }
    }

    /// What Conv-4 is trained with: Adam, for decay is 0.
    pub fn adam() -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }

    /// What PyTorch calls the moments.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &["momentum_buffer"],
            Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// Bytes of the moments of `len` weights.
    pub fn bytes(&self, len: usize) -> u64 {
        (self.names().len() * AlignedBuffer::bytes(len)) as u64
    }
}

/// An optimiser with its moments.
#[derive(Debug)]
pub struct OptimizerState {
    config: OptimizerConfig,
    moments: Vec<AlignedBuffer>,
    squares: AlignedBuffer,
    /// Steps made.
    step: u64,
}

impl OptimizerState {
    /// Moments of zero for a flat buffer of `len` weights.
    pub fn new(config: OptimizerConfig, len: usize) -> Self {
        let moments = (0..config.names().len()).map(|_| AlignedBuffer::zeroed(len)).collect();
        let squares = AlignedBuffer::zeroed(2 * len.div_ceil(block(len)));
        Self { config, moments, squares, step: 0 }
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Its moments with PyTorch's names for them, each in the layout of the weights.
    pub fn moments(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        self.config.names().iter().copied().zip(self.moments.iter().map(|moment| &**moment))
    }

    /// The same, to be filled by a checkpoint; then tell the steps by [`OptimizerState::go_on_after`].
    pub fn moments_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut [f32])> {
        self.config.names().iter().copied().zip(self.moments.iter_mut().map(|moment| &mut **moment))
    }

    /// Says how many steps the moments have seen.
    pub fn go_on_after(&mut self, steps: u64) {
        self.step = steps;
    }

    /// One step with gradients scaled by `scale`; returns their norm before scaling.
    ///
    /// # Errors
    /// [`ConvError::NonFinite`] if the norm is none; then nothing was changed.
    pub fn step(
        &mut self,
        set: KernelSet,
        pool: &Pool,
        lr: f64,
        scale: f64,
        weights: &mut [f32],
        gradients: &[f32],
    ) -> Result<f64, ConvError> {
        assert!(weights.len() == gradients.len() && weights.len() == self.moments[0].len());
        if weights.is_empty() {
            self.step += 1;
            return Ok(0.0);
        }
        let norm = self.norm(set, pool, gradients);
        if !norm.is_finite() {
            return Err(ConvError::NonFinite { what: "the gradient norm" });
        }
        self.step += 1;
        let size = block(weights.len());
        let tasks = weights.len().div_ceil(size);
        let part = |i: usize| &gradients[i * size..gradients.len().min((i + 1) * size)];
        let w = Chunks::new(weights, size);
        let mut moments = self.moments.iter_mut();
        let first = Chunks::new(moments.next().expect("at least one moment"), size);
        match (self.config, moments.next()) {
            (OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay }, Some(second)) => {
                let t = self.step as f64;
                let step = adamw::Step {
                    lr: lr as f32,
                    beta1: beta1 as f32,
                    beta2: beta2 as f32,
                    eps: eps as f32,
                    weight_decay: weight_decay as f32,
                    correction1: (1.0 - libm::pow(beta1, t)) as f32,
                    correction2_root: libm::sqrt(1.0 - libm::pow(beta2, t)) as f32,
                    gradient_scale: scale as f32,
                };
                let second = Chunks::new(second, size);
                pool.run(tasks, |i, _| {
                    adamw::update(
                        set,
                        &step,
                        &mut w.hold(i),
                        part(i),
                        &mut first.hold(i),
                        &mut second.hold(i),
                    );
                });
            }
            (OptimizerConfig::Sgd { momentum, nesterov, weight_decay }, _) => {
                let step = sgd::Step {
                    lr: lr as f32,
                    momentum: momentum as f32,
                    nesterov,
                    weight_decay: weight_decay as f32,
                    gradient_scale: scale as f32,
                };
                pool.run(tasks, |i, _| {
                    sgd::update(set, &step, &mut w.hold(i), part(i), &mut first.hold(i));
                });
            }
            (OptimizerConfig::AdamW { .. }, None) => unreachable!("AdamW has two moments"),
        }
        Ok(norm)
    }

    /// √Σ g², blocks in order.
    pub(super) fn norm(&mut self, set: KernelSet, pool: &Pool, gradients: &[f32]) -> f64 {
        if gradients.is_empty() {
            return 0.0;
        }
        let size = block(gradients.len());
        let tasks = gradients.len().div_ceil(size);
        let squares = Chunks::new(&mut self.squares, 2);
        pool.run(tasks, |i, _| {
            let own = &gradients[i * size..gradients.len().min((i + 1) * size)];
            bytemuck::cast_slice_mut::<f32, f64>(&mut squares.hold(i))[0] = adamw::sum_of_squares(set, own);
        });
        libm::sqrt(bytemuck::cast_slice::<f32, f64>(&self.squares[..2 * tasks]).iter().sum())
    }
}

/// Elements of a task, so that there are not too many tasks.
fn block(len: usize) -> usize {
    BLOCK.max(len.div_ceil(Chunks::MAX).next_multiple_of(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_no_bit_and_nothing_changes_without_a_norm() {
        let len = 3 * BLOCK + 77;
        let gradients: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
        for config in [OptimizerConfig::sgd(), OptimizerConfig::adam()] {
            let run = |threads: usize| {
                let pool = Pool::new(threads).unwrap();
                let mut state = OptimizerState::new(config, len);
                let mut weights = vec![0.5f32; len];
                let mut norms = Vec::new();
                for _ in 0..3 {
                    let set = KernelSet::detect();
                    norms.push(state.step(set, &pool, 0.1, 0.5, &mut weights, &gradients).unwrap());
                }
                let mut bad = gradients.clone();
                bad[7] = f32::NAN;
                let before = weights.clone();
                assert!(state.step(KernelSet::detect(), &pool, 0.1, 1.0, &mut weights, &bad).is_err());
                assert!(weights == before && state.steps() == 3);
                (weights, norms)
            };
            let (weights, norms) = run(1);
            assert!((weights.clone(), norms.clone()) == run(3));
            let exact = gradients.iter().map(|&g| f64::from(g * g)).sum::<f64>().sqrt();
            assert!((norms[0] / exact - 1.0).abs() < 1e-6);
            assert!(
                weights
                    .iter()
                    .zip(&gradients)
                    .filter(|(_, g)| g.abs() > 0.1)
                    .all(|(w, g)| (*w < 0.5) == (*g > 0.0))
            );
        }
    }
}
