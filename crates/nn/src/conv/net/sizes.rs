//! Every length of a network's memory, and how its work is divided: functions of the shapes and the batch alone.

use super::ConvOptions;
use super::kept::{Keep, PIECE};
use super::remade::{remade, scratch};
use super::statistics::Channels;
use crate::MemoryPlan;
use crate::conv::ConvError;
use crate::conv::config::{Architecture, Unit};
use isoflop_kernels::conv::Shape;
use isoflop_kernels::{AlignedBuffer, Chunks, weight_gradient};

/// Pixels that a task has about: few images of many pixels, many of few.
const TASK_PIXELS: usize = 384;
/// Weights up to which a gradient is added in groups of images, each in a buffer of its own; a larger one is divided
/// by its channels or its rows instead, over all images.
const GROUPED: usize = 512 * 1024;
/// Groups of images of one batch.
const GROUPS: usize = 16;
/// Channels in and out of a task's part of a large gradient.
pub(super) const BLOCK: usize = 64;

/// How the gradient of a unit's weights is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    /// So many groups of images.
    Images(usize),
    /// By [`BLOCK`]s of channels in and out: so many of each.
    Channels(usize, usize),
    /// By rows of the weights, so many in a task.
    Rows(usize),
}

impl Division {
    pub(super) fn of(unit: &Unit, images: usize) -> Self {
        let shape = unit.shape;
        if shape.weights() <= GROUPED {
            Self::Images(GROUPS.min(images))
        } else if shape.multiplies_less() {
            Self::Channels(shape.inputs.div_ceil(BLOCK), shape.outputs.div_ceil(BLOCK))
        } else {
            Self::Rows(weight_gradient::ROWS)
        }
    }
}

/// Images of one task of a unit.
pub(super) fn group(unit: &Unit) -> usize {
    (TASK_PIXELS / unit.shape.pixels()).max(1)
}

/// Elements of two rows of a convolution's output.
pub(super) fn strip_len(shape: Shape) -> usize {
    2 * shape.width * shape.outputs
}

/// Spaces of so many floats, one behind the other.
pub(super) fn cut<const N: usize>(mut scratch: &mut [f32], lens: [usize; N]) -> [&mut [f32]; N] {
    lens.map(|len| scratch.split_off_mut(..len).expect("a thread's scratch holds what is cut from it"))
}

/// Lengths in f32.
#[derive(Debug)]
pub(super) struct Sizes {
    pub(super) threads: usize,
    /// Of each unit: the pack for the way forth, and back.
    pub(super) packs: Vec<[usize; 2]>,
    /// The unit whose outputs are not kept.
    pub(super) remade: Option<Unit>,
    /// How the others' are.
    pub(super) keep: Keep,
    /// Of each unit: its outputs, in f32 or in pairs of bf16.
    pub(super) z: Vec<usize>,
    /// Of each block: its pooled output.
    pub(super) outs: Vec<usize>,
    pub(super) features: usize,
    /// The largest input of a convolution that is not a block's first, kept as outputs are.
    pub(super) inner: usize,
    /// Shares of all tasks: two units, two f64 a channel.
    pub(super) shares: usize,
    /// Of one task.
    pub(super) share: usize,
    pub(super) partial_gradients: usize,
    /// A thread's images.
    pub(super) images: usize,
    /// Of those, what [`super::ConvNet::embed`] walks one image through: outputs of a block, of a convolution, of the
    /// one before it or two rows, of the way round.
    pub(super) spaces: [usize; 4],
    /// A thread's patches.
    pub(super) patches: usize,
}

impl Sizes {
    pub(super) fn new(network: &Architecture, options: &ConvOptions) -> Result<Self, ConvError> {
        let batch = options.images;
        if batch == 0 || batch > Chunks::MAX {
            return Err(ConvError::Setting {
                what: format!("a batch of {batch} images"),
                hint: "1 to 4096 images go through the network at once: use fewer episodes a step",
            });
        }
        let units: Vec<&Unit> = network.units().collect();
        let most = |f: &dyn Fn(&Unit) -> usize| units.iter().map(|unit| f(unit)).max().unwrap_or(0);
        let output = |unit: &Unit| unit.shape.pixels() * unit.shape.outputs;
        let widest_channels = |unit: &Unit| unit.shape.outputs.max(unit.shape.inputs);
        let widest = |unit: &Unit| unit.shape.pixels() * unit.shape.outputs.max(unit.shape.inputs);
        let first =
            |unit: &Unit| network.blocks[0].main[0] == *unit || network.blocks[0].shortcut == Some(*unit);
        let packs = |unit: &Unit| {
            let (forth, back) = (unit.shape, unit.shape.turned());
            let back = if first(unit) { 0 } else { back.panels() * back.panel_len() };
            [forth.panels() * forth.panel_len(), back]
        };
        let outs = network.blocks.iter().map(|block| batch * block.pooled() * block.last().shape.outputs);
        let outs: Vec<usize> = outs.collect();
        let inner = network.blocks.iter().filter(|block| block.main.len() > 1);
        let patches = |unit: &Unit| {
            let gradient = match Division::of(unit, batch) {
                Division::Images(_) => unit.shape.whole_gradient_scratch(),
                Division::Channels(..) => unit.shape.block_gradient_scratch(BLOCK, BLOCK),
                Division::Rows(rows) => unit.shape.gradient_scratch(rows),
            };
            let back = if first(unit) { 0 } else { unit.shape.turned().forward_scratch() };
            unit.shape.forward_scratch().max(back).max(gradient)
        };
        let partial = |unit: &Unit| match Division::of(unit, batch) {
            Division::Images(groups) => groups * unit.shape.weights(),
            Division::Channels(inputs, outputs) => inputs * outputs * 9 * BLOCK * BLOCK,
            Division::Rows(_) => 0,
        };
        // What a convolution reads beside what it makes or adds to; at the end of a block both ways, what comes before
        // pooling, its gradient; sums; a piece of what is kept.
        let convolves = |unit: &Unit| 2 * group(unit) * widest(unit);
        let ends = |unit: &Unit| 4 * strip_len(unit.shape);
        let task = |unit: &Unit| {
            convolves(unit).max(ends(unit)) + 2 * PIECE.max(unit.shape.outputs) + 8 * widest_channels(unit)
        };
        let blocks = || network.blocks.iter();
        let deep = blocks().any(|block| block.main.len() > 1);
        let strip = |unit: &Unit| strip_len(unit.shape);
        let spaces = [
            outs.iter().map(|len| len / batch).max().unwrap_or(0),
            most(&output),
            if deep { most(&output).max(most(&strip)) } else { most(&strip) },
            if blocks().any(|block| block.shortcut.is_some()) { most(&output) } else { 0 },
        ];
        let remade = remade(network);
        let keep = Keep::of(network);
        let kept = |unit: &Unit| if remade == Some(*unit) { 0 } else { keep.floats(batch * output(unit)) };
        let task = |unit: &Unit| if remade == Some(*unit) { scratch(unit.shape) } else { task(unit) };
        let share = 8 * most(&|unit| unit.shape.outputs);
        Ok(Self {
            threads: options.threads.max(1),
            packs: units.iter().map(|unit| packs(unit)).collect(),
            z: units.iter().map(|unit| kept(unit)).collect(),
            remade,
            keep,
            outs,
            features: batch * network.features,
            inner: keep.floats(batch * inner.map(|block| output(block.last())).max().unwrap_or(0)),
            shares: share * most(&|unit| batch.div_ceil(group(unit))),
            share,
            partial_gradients: most(&partial),
            images: most(&task).max(spaces.iter().sum()).next_multiple_of(16),
            spaces,
            patches: most(&patches),
        })
    }

    /// A thread's scratch.
    pub(super) fn scratch(&self) -> usize {
        (self.images + self.patches).next_multiple_of(16)
    }

    pub(super) fn plan(&self, network: &Architecture) -> MemoryPlan {
        let bytes = |len: usize| AlignedBuffer::bytes(len) as u64;
        let all = |lens: &[usize]| lens.iter().map(|&len| bytes(len)).sum::<u64>();
        let weights = network.parameters.len;
        let backward = [self.inner, self.partial_gradients];
        let groups = vec![
            ("weights", bytes(weights)),
            ("gradients", bytes(weights)),
            ("packed weights", self.packs.iter().map(|pair| all(pair)).sum()),
            ("statistics", 2 * bytes(network.channels) + 2 * Channels::planned(network.channels)),
            ("activations", all(&self.z) + all(&self.outs) + bytes(self.features)),
            ("backward", all(&backward)),
            ("scratch", bytes(self.threads * self.scratch()) + bytes(self.shares)),
        ];
        MemoryPlan { groups }
    }
}
