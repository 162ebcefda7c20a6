//! A network on the kernels: the walk of [`super::reference`] over whole batches, by all threads.
//!
//! A batch norm needs every image before the next convolution may begin, so the walk is by layer: each convolution is
//! one phase whose tasks are a few images. A task normalises and activates what the convolution reads in its own
//! scratch, multiplies, and takes its share of the statistics while the output is in its cache. What is kept for the
//! backward pass is the output of each convolution (but a first one over few channels, which [`remade`] makes again)
//! and of each block; activations are computed again, and gradients take the place of what they are the gradients of.
//! Outputs are [`kept`] in bf16 where convolutions multiply in it.
//!
//! Tasks and the groups in which weight gradients are added are functions of the shapes, not of the threads: the same
//! bits for any number of them. All memory is allocated by [`ConvNet::new`], in the sizes of [`sizes`].

mod backward;
mod forward;
mod kept;
mod remade;
mod sizes;
mod statistics;

use super::ConvError;
use super::config::{Architecture, ConvConfig};
use crate::{MemoryPlan, Precision};
use isoflop_kernels::{AlignedBuffer, Chunks, KernelSet, Pool, conv};
use sizes::Sizes;
use statistics::Channels;

/// Which statistics a forward pass normalises with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The batch's own; the running ones follow.
    Batch,
    /// The running ones, as constants: a frozen norm.
    Running,
}

/// How to run a network on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Kernels.
    pub kernels: KernelSet,
    /// Threads, at least one.
    pub threads: usize,
    /// Most images of one forward pass.
    pub images: usize,
    /// Seed of the initial weights.
    pub seed: u64,
    /// What convolutions multiply in: f32, or bf16 with sums in f32. All else is f32 either way.
    pub precision: Precision,
}

/// A network with its weights, gradients and running statistics.
#[derive(Debug)]
pub struct ConvNet {
    config: ConvConfig,
    network: Architecture,
    options: ConvOptions,
    sizes: Sizes,
    pool: Pool,
    weights: AlignedBuffer,
    gradients: AlignedBuffer,
    /// Running mean and variance of every channel.
    running: [AlignedBuffer; 2],
    /// What the last forward pass normalised with.
    channels: Channels,
    /// What [`ConvNet::embed`] normalises with.
    frozen: Channels,
    /// Packed weights of each unit, for the way forth and the way back.
    packs: Vec<[AlignedBuffer; 2]>,
    /// Output of each convolution that is kept, then its gradient.
    z: Vec<AlignedBuffer>,
    /// Output of each block, then its gradient.
    outs: Vec<AlignedBuffer>,
    features: AlignedBuffer,
    /// Inside a block, what a convolution read, then its gradient.
    h: AlignedBuffer,
    /// Shares of sums, two f64 a channel.
    shares: AlignedBuffer,
    partial_gradients: AlignedBuffer,
    scratch: AlignedBuffer,
    /// Images and statistics of the last forward pass, until a backward pass uses up what it kept.
    last: Option<(usize, Norm)>,
}

impl ConvNet {
    /// A network with fresh weights, a function of the seed; running means 0, variances 1.
    ///
    /// # Errors
    /// An impossible network or batch, kernels that cannot run here, no threads.
    pub fn new(config: &ConvConfig, options: &ConvOptions) -> Result<Self, ConvError> {
        let set = options.kernels;
        if let Err(why) = set.supported() {
            return Err(isoflop_kernels::KernelError::Unsupported { name: set.name(), why }.into());
        }
        let network = Architecture::new(config)?.in_precision(options.precision)?;
        let sizes = Sizes::new(&network, options)?;
        let pool = Pool::new(options.threads.max(1)).map_err(ConvError::Threads)?;
        let all = |lens: &[usize]| lens.iter().map(|&len| AlignedBuffer::zeroed(len)).collect();
        let mut net = Self {
            pool,
            weights: AlignedBuffer::zeroed(network.parameters.len),
            gradients: AlignedBuffer::zeroed(network.parameters.len),
            running: [AlignedBuffer::zeroed(network.channels), AlignedBuffer::zeroed(network.channels)],
            channels: Channels::new(network.channels),
            frozen: Channels::new(network.channels),
            packs: sizes.packs.iter().map(|lens| lens.map(AlignedBuffer::zeroed)).collect(),
            z: all(&sizes.z),
            outs: all(&sizes.outs),
            features: AlignedBuffer::zeroed(sizes.features),
            h: AlignedBuffer::zeroed(sizes.inner),
            shares: AlignedBuffer::zeroed(sizes.shares),
            partial_gradients: AlignedBuffer::zeroed(sizes.partial_gradients),
            scratch: AlignedBuffer::zeroed(sizes.threads * sizes.scratch()),
            last: None,
            config: config.clone(),
            options: *options,
            network,
            sizes,
        };
        net.network.parameters.start(options.seed, &mut net.weights);
        net.running[1].fill(1.0);
        net.pack();
        Ok(net)
    }

    /// Bytes [`ConvNet::new`] will allocate, by what they hold.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub fn plan(config: &ConvConfig, options: &ConvOptions) -> Result<MemoryPlan, ConvError> {
        let network = Architecture::new(config)?.in_precision(options.precision)?;
        Ok(Sizes::new(&network, options)?.plan(&network))
    }

    /// Bytes held, by what they hold.
    pub fn memory(&self) -> MemoryPlan {
        let bytes = |buffers: &[&AlignedBuffer]| {
            buffers.iter().map(|buffer| AlignedBuffer::bytes(buffer.len()) as u64).sum::<u64>()
        };
        let list = |buffers: &[AlignedBuffer]| bytes(&buffers.iter().collect::<Vec<_>>());
        let groups = vec![
            ("weights", bytes(&[&self.weights])),
            ("gradients", bytes(&[&self.gradients])),
            ("packed weights", self.packs.iter().map(|pair| list(pair)).sum()),
            ("statistics", list(&self.running) + self.channels.bytes() + self.frozen.bytes()),
            ("activations", list(&self.z) + list(&self.outs) + bytes(&[&self.features])),
            ("backward", bytes(&[&self.h, &self.partial_gradients])),
            ("scratch", bytes(&[&self.scratch, &self.shares])),
        ];
        MemoryPlan { groups }
    }

    /// What the network is.
    pub fn config(&self) -> &ConvConfig {
        &self.config
    }

    /// Its units, and the layout of its weights.
    pub fn network(&self) -> &Architecture {
        &self.network
    }

    /// Its threads, for what else has to be done between two steps.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Weights, flat.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Gradients of the last [`ConvNet::backward`], flat.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Running means and variances of all channels.
    pub fn running(&self) -> [&[f32]; 2] {
        let [mean, variance] = &self.running;
        [mean, variance]
    }

    /// Sets the running means and variances.
    pub fn set_running(&mut self, mean: &[f32], variance: &[f32]) {
        self.running[0].copy_from_slice(mean);
        self.running[1].copy_from_slice(variance);
    }

    /// Lets `change` alter weights, given the threads, the weights and the gradients; then packs them.
    pub fn update<R>(&mut self, change: impl FnOnce(&Pool, &mut [f32], &[f32]) -> R) -> R {
        let result = change(&self.pool, &mut self.weights, &self.gradients);
        self.pack();
        result
    }

    /// Brings the packed weights up to the weights.
    fn pack(&mut self) {
        for (unit, packs) in self.network.units().zip(&mut self.packs) {
            let w = self.network.parameters.of(&self.weights, unit.weight);
            let [forth, back] = packs;
            let turned = unit.shape.turned();
            let panels = Chunks::new(forth, unit.shape.panel_len());
            self.pool.run(unit.shape.panels(), |p, _| conv::pack(unit.shape, w, p, &mut panels.hold(p)));
            if !back.is_empty() {
                let panels = Chunks::new(back, turned.panel_len());
                self.pool
                    .run(turned.panels(), |p, _| conv::pack_turned(unit.shape, w, p, &mut panels.hold(p)));
            }
        }
    }

    /// Images in a batch.
    fn count(&self, images: &[f32]) -> Result<usize, ConvError> {
        let each = self.network.input;
        let fits = !images.is_empty() && images.len().is_multiple_of(each);
        if !fits || images.len() / each > self.options.images {
            return Err(ConvError::Batch { found: images.len(), most: self.options.images, each });
        }
        Ok(images.len() / each)
    }
}
