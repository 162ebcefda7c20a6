//! A network where it is trained: what [`FewShotEngine`](super::FewShotEngine) knows of the processor, or of graphics
//! cards. Heads, losses, the order of a step and checkpoints are the engine's, once for both.

use super::config::Architecture;
use super::engine::{FewShotConfig, trained};
use super::net::{ConvNet, ConvOptions, Norm};
use super::optimizer::OptimizerState;
use super::{ConvError, told};
use crate::engine::{Buffer, Group, StepSums};
use crate::{EngineError, MemoryPlan};
use isoflop_kernels::{AlignedBuffer, Pool};

/// What of a network is kept in a checkpoint, each flat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its weights.
    Weights,
    /// Running means of all channels.
    RunningMean,
    /// Running variances of all channels.
    RunningVariance,
    /// A moment of the optimiser, as [`OptimizerConfig::names`](super::OptimizerConfig::names) counts them.
    Moment(usize),
}

/// A network with its gradients and its optimiser.
pub trait Backbone {
    /// Its units, and the layout of its weights.
    fn network(&self) -> &Architecture;

    /// Threads of the processor, for what stands behind it.
    fn pool(&self) -> &Pool;

    /// Features `[B,d]` of `images[B,H,W,C]`; what [`Backbone::backward`] needs is kept.
    ///
    /// # Errors
    /// No whole images, or too many; the device's.
    fn forward(&mut self, images: &[f32], norm: Norm) -> Result<&[f32], EngineError>;

    /// Adds the gradients of the weights from those of the features `[B,d]` of the last [`Backbone::forward`], whose
    /// `images` these are again. `first`: those of a step before go.
    ///
    /// # Errors
    /// The device's.
    fn backward(&mut self, images: &[f32], dfeatures: &[f32], first: bool) -> Result<(), EngineError>;

    /// Features `out[B,d]` of any number of images by the running statistics; no gradient can follow.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    fn embed(&mut self, images: &[f32], out: &mut [f32]) -> Result<(), EngineError>;

    /// |g|² of the step so far.
    ///
    /// # Errors
    /// The device's.
    fn squares(&mut self) -> Result<f64, EngineError>;

    /// Joins gradients and sums over a group.
    ///
    /// # Errors
    /// The group's, the device's.
    fn join(&mut self, sums: &mut StepSums, group: &mut dyn Group) -> Result<(), EngineError>;

    /// One step of the optimiser with gradients scaled by `scale`.
    ///
    /// # Errors
    /// A norm that is not finite: then nothing was changed; the device's.
    fn update(&mut self, lr: f64, scale: f64) -> Result<(), EngineError>;

    /// Reads what is kept.
    ///
    /// # Errors
    /// The device's.
    fn read(&self, what: Kept, out: &mut [f32]) -> Result<(), EngineError>;

    /// Takes it back.
    ///
    /// # Errors
    /// The device's.
    fn write(&mut self, what: Kept, values: &[f32]) -> Result<(), EngineError>;

    /// Says how many steps the moments have seen, and begins a new one.
    ///
    /// # Errors
    /// The device's.
    fn go_on_after(&mut self, steps: u64) -> Result<(), EngineError>;

    /// Whether its memory is the processor's, as is that of what stands behind it.
    fn on_processor(&self) -> bool;

    /// Bytes held, by what they hold.
    fn memory(&self) -> MemoryPlan;
}

/// A network in training on the processor.
pub(super) struct Host {
    net: ConvNet,
    moments: OptimizerState,
    /// Added up over a step of several micro-batches.
    gradients: AlignedBuffer,
    options: ConvOptions,
}

impl Host {
    pub(super) fn new(config: &FewShotConfig, options: &ConvOptions) -> Result<Self, ConvError> {
        let net = ConvNet::new(&config.network, options)?;
        let len = trained(config, net.network());
        Ok(Self {
            moments: OptimizerState::new(config.optimizer, len),
            gradients: AlignedBuffer::zeroed(len),
            net,
            options: *options,
        })
    }

    /// Bytes it will hold.
    pub(super) fn plan(config: &FewShotConfig, options: &ConvOptions) -> Result<MemoryPlan, ConvError> {
        let len = trained(config, &Architecture::new(&config.network)?);
        let mut plan = ConvNet::plan(&config.network, options)?;
        plan.groups.extend(Self::beside(config.optimizer.bytes(len), len));
        Ok(plan)
    }

    /// What is held beside the network.
    fn beside(moments: u64, len: usize) -> [(&'static str, u64); 2] {
        [("moments", moments), ("gradients of a step", AlignedBuffer::bytes(len) as u64)]
    }
}

impl Backbone for Host {
    fn network(&self) -> &Architecture {
        self.net.network()
    }

    fn pool(&self) -> &Pool {
        self.net.pool()
    }

    fn forward(&mut self, images: &[f32], norm: Norm) -> Result<&[f32], EngineError> {
        self.net.forward(images, norm).map_err(told)
    }

    fn backward(&mut self, images: &[f32], dfeatures: &[f32], first: bool) -> Result<(), EngineError> {
        self.net.backward(images, dfeatures);
        let own = self.net.gradients();
        if first {
            self.gradients.copy_from_slice(own);
        } else {
            self.gradients.iter_mut().zip(own).for_each(|(sum, g)| *sum += g);
        }
        Ok(())
    }

    fn embed(&mut self, images: &[f32], out: &mut [f32]) -> Result<(), EngineError> {
        self.net.embed(images, out).map_err(told)
    }

    fn squares(&mut self) -> Result<f64, EngineError> {
        let norm = self.moments.norm(self.options.kernels, self.net.pool(), &self.gradients);
        Ok(norm * norm)
    }

    fn join(&mut self, sums: &mut StepSums, group: &mut dyn Group) -> Result<(), EngineError> {
        sums.join(Buffer::Host(&mut self.gradients), group)
    }

    fn update(&mut self, lr: f64, scale: f64) -> Result<(), EngineError> {
        if self.gradients.is_empty() {
            return Ok(());
        }
        let (set, moments, gradients) = (self.options.kernels, &mut self.moments, &self.gradients);
        let step = self.net.update(|pool, weights, _| moments.step(set, pool, lr, scale, weights, gradients));
        step.map(drop).map_err(told)
    }

    fn read(&self, what: Kept, out: &mut [f32]) -> Result<(), EngineError> {
        let [mean, variance] = self.net.running();
        out.copy_from_slice(match what {
            Kept::Weights => self.net.weights(),
            Kept::RunningMean => mean,
            Kept::RunningVariance => variance,
            Kept::Moment(index) => self.moments.moments().nth(index).expect("a moment of this number").1,
        });
        Ok(())
    }

    fn write(&mut self, what: Kept, values: &[f32]) -> Result<(), EngineError> {
        let [mean, variance] = self.net.running().map(<[f32]>::to_vec);
        match what {
            Kept::Weights => self.net.update(|_, weights, _| weights.copy_from_slice(values)),
            Kept::RunningMean => self.net.set_running(values, &variance),
            Kept::RunningVariance => self.net.set_running(&mean, values),
            Kept::Moment(index) => {
                let moment = self.moments.moments_mut().nth(index).expect("a moment of this number").1;
                moment.copy_from_slice(values);
            }
        }
        Ok(())
    }

    fn go_on_after(&mut self, steps: u64) -> Result<(), EngineError> {
        self.moments.go_on_after(steps);
        self.gradients.fill(0.0);
        Ok(())
    }

    fn on_processor(&self) -> bool {
        true
    }

    fn memory(&self) -> MemoryPlan {
        let len = self.gradients.len();
        let moments =
            self.moments.moments().map(|(_, moment)| AlignedBuffer::bytes(moment.len()) as u64).sum();
        let mut plan = self.net.memory();
        plan.groups.extend(Self::beside(moments, len));
        plan
    }
}
