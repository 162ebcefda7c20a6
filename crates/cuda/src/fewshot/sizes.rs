//! Bytes of each buffer of a card's network, where it lies, and how its work is divided: functions of the shapes and
//! the batch alone. What is planned is what is allocated, because both are this.

use crate::abi::{DECAYS, UpdateBlock};
use crate::sizes::{Arena, Buffer, NORM_BYTES, SQUARES, UPDATE, UPDATE_BLOCK_BYTES, splits};
use isoflop_nn::conv::config::Unit;
use isoflop_nn::conv::{Architecture, ConvError, ConvOptions, FewShotConfig, OptimizerConfig};
use isoflop_nn::{MemoryPlan, Precision};
use std::ops::Range;

/// Most bytes of the patches that exist at once, but for a single image's.
const COLUMN_BYTES: u64 = 128 << 20;
/// Most rows of a product: blocks of 64 rows are at most 65,535.
const MOST_ROWS: usize = 1 << 21;
/// Rows of which one block makes its share of a channel's sums.
pub(crate) const CHANNEL_ROWS: usize = 512;
/// Images that are embedded at once, at least.
const EMBEDDED: usize = 16;

/// Numbers of each channel, those of all norms behind each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) scale: Buffer,
    pub(crate) shift: Buffer,
    pub(crate) mean: Buffer,
    pub(crate) rstd: Buffer,
    pub(crate) by_x: Buffer,
    pub(crate) rest: Buffer,
}

/// Every buffer of one card, all f32 but where said.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) config: FewShotConfig,
    pub(crate) network: Architecture,
    /// Most images of a card.
    pub(crate) images: usize,
    pub(crate) weights: Buffer,
    pub(crate) gradients: Buffer,
    pub(crate) moments: Vec<Buffer>,
    /// Mean and variance.
    pub(crate) running: [Buffer; 2],
    pub(crate) factors: Factors,
    pub(crate) input: Buffer,
    /// Output of each convolution.
    pub(crate) z: Vec<Buffer>,
    /// Output of each block.
    pub(crate) outs: Vec<Buffer>,
    pub(crate) features: Buffer,
    pub(crate) dfeatures: Buffer,
    /// Gradients: of the sum before an activation, of what a convolution gave, of a block's output or input.
    pub(crate) d: Buffer,
    pub(crate) e: Buffer,
    pub(crate) g: Buffer,
    pub(crate) columns: Buffer,
    /// Shares of channels' sums, of all cards; i32 rows of each.
    pub(crate) parts: Buffer,
    pub(crate) part_rows: Buffer,
    /// Parts of a weight gradient's sum.
    pub(crate) splits: Buffer,
    /// f64.
    pub(crate) squares: Buffer,
    /// A `StepNorm`.
    pub(crate) norm: Buffer,
    pub(crate) update_blocks: Buffer,
    arena: Arena,
}

impl Sizes {
    /// The buffers of one of `cards` cards that share the images of each pass.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub(crate) fn new(
        config: &FewShotConfig,
        options: &ConvOptions,
        cards: usize,
    ) -> Result<Self, ConvError> {
        let network = Architecture::new(&config.network)?;
        if options.images == 0 {
            return Err(ConvError::Setting {
                what: "a batch of no images".to_owned(),
                hint: "at least one image goes through the network at once",
            });
        }
        let images = options.images.div_ceil(cards).max(EMBEDDED);
        let units: Vec<&Unit> = network.units().collect();
        let wide = |len: usize| 4 * len as u64;
        let output = |unit: &Unit| unit.shape.pixels() * unit.shape.outputs;
        let most = |f: &dyn Fn(&Unit) -> usize| units.iter().map(|unit| f(unit)).max().unwrap_or(0);
        let pooled = network.blocks.iter().map(|block| images * block.pooled() * block.last().shape.outputs);
        let pooled: Vec<usize> = pooled.collect();
        let trained = |len: usize| if config.frozen { 0 } else { wide(len) };
        let len = network.parameters.len;
        let blocks = |unit: &Unit| cards * (images * unit.shape.pixels()).div_ceil(CHANNEL_ROWS);
        let columns = |unit: &Unit| match unit.shape.side {
            1 => 0,
            _ => chunk(unit, images) * unit.shape.pixels() * unit.shape.depth(),
        };
        let split = |unit: &Unit| {
            let rows = chunk(unit, images) * unit.shape.pixels();
            match splits(Precision::F32, unit.shape.depth(), unit.shape.outputs, rows).1 {
                1 => 0,
                count => count * unit.shape.weights(),
            }
        };
        let mut arena = Arena::default();
        let weights = arena.put("weights", wide(len));
        let gradients = arena.put("gradients", trained(len));
        let moments = config.optimizer.names().iter().map(|_| arena.put("moments", trained(len))).collect();
        let mut channels = || arena.put("statistics", wide(network.channels));
        let running = [channels(), channels()];
        let factors = Factors {
            scale: channels(),
            shift: channels(),
            mean: channels(),
            rstd: channels(),
            by_x: channels(),
            rest: channels(),
        };
        let parts = arena.put("statistics", wide(2 * most(&|unit| blocks(unit) * unit.shape.outputs)));
        let part_rows = arena.put("statistics", wide(units.iter().map(|unit| blocks(unit)).sum()));
        let mut keep = |len: usize| arena.put("activations", wide(len));
        let input = keep(images * network.input);
        let z = units.iter().map(|unit| keep(images * output(unit))).collect();
        let outs = pooled.iter().map(|&len| keep(len)).collect();
        let features = keep(images * network.features);
        let mut back = |len: usize| arena.put("backward", trained(len));
        let dfeatures = back(images * network.features);
        let (d, e) = (back(images * most(&output)), back(images * most(&output)));
        let g = back(pooled.iter().copied().max().unwrap_or(0));
        let split = back(most(&split));
        let columns = arena.put("patches", wide(most(&columns)));
        let mut update = |bytes: u64| arena.put("update", if config.frozen { 0 } else { bytes });
        let squares = update(8 * len.div_ceil(SQUARES) as u64);
        let norm = update(NORM_BYTES);
        let update_blocks = match config.optimizer {
            OptimizerConfig::AdamW { .. } => update(UPDATE_BLOCK_BYTES * len.div_ceil(UPDATE) as u64),
            OptimizerConfig::Sgd { .. } => update(0),
        };
        Ok(Self {
            config: config.clone(),
            images,
            weights,
            gradients,
            moments,
            running,
            factors,
            input,
            z,
            outs,
            features,
            dfeatures,
            d,
            e,
            g,
            columns,
            parts,
            part_rows,
            splits: split,
            squares,
            norm,
            update_blocks,
            network,
            arena,
        })
    }

    /// Bytes of the one allocation.
    pub(crate) fn total(&self) -> u64 {
        self.arena.end
    }

    /// They by what they hold.
    pub(crate) fn plan(&self) -> MemoryPlan {
        self.arena.plan()
    }

    /// How the flat weights are divided among the blocks of the kernel of AdamW: as in PyTorch, all of them decay.
    pub(crate) fn blocks(&self) -> Vec<UpdateBlock> {
        let len = self.network.parameters.len;
        let run = |at: usize| UpdateBlock {
            at: at as u64,
            moment: at as u64,
            scale: 0,
            len: UPDATE.min(len - at) as i32,
            flags: DECAYS,
        };
        (0..len).step_by(UPDATE).map(run).collect()
    }
}

/// Images of a unit whose patches exist at once.
fn chunk(unit: &Unit, images: usize) -> usize {
    let pixels = unit.shape.pixels();
    let fit = (COLUMN_BYTES / (4 * pixels * unit.shape.depth()) as u64) as usize;
    fit.min(MOST_ROWS / pixels).clamp(1, images)
}

/// A card's images of a unit in pieces: the first, and how many.
pub(crate) fn chunks(unit: &Unit, most: usize, count: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let chunk = chunk(unit, most);
    (0..count).step_by(chunk).map(move |first| first..count.min(first + chunk))
}

/// The shares of channels' sums of a batch: for each unit those of all cards, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Rows of each share, unit by unit.
    pub(crate) rows: Vec<i32>,
    /// Of each unit, where its shares are among `rows`.
    pub(crate) of_unit: Vec<Range<usize>>,
    /// Of each card and unit, its own among the unit's.
    pub(crate) own: Vec<Vec<Range<usize>>>,
}

impl Parts {
    /// Of cards with so many images each.
    pub(crate) fn new(network: &Architecture, images: &[usize]) -> Self {
        let mut parts = Self { own: vec![Vec::new(); images.len()], ..Self::default() };
        for unit in network.units() {
            let first = parts.rows.len();
            for (own, images) in parts.own.iter_mut().zip(images) {
                let (rows, start) = (images * unit.shape.pixels(), parts.rows.len() - first);
                let shares = (0..rows).step_by(CHANNEL_ROWS).map(|at| CHANNEL_ROWS.min(rows - at) as i32);
                parts.rows.extend(shares);
                own.push(start..parts.rows.len() - first);
            }
            parts.of_unit.push(first..parts.rows.len());
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_kernels::KernelSet;
    use isoflop_nn::conv::{ConvConfig, LearnerConfig, Norm};

    fn config(network: ConvConfig, frozen: bool) -> FewShotConfig {
        FewShotConfig {
            network,
            learner: LearnerConfig::Classes { classes: 64, smoothing: 0.0 },
            optimizer: OptimizerConfig::sgd(),
            head_lr: 1.0,
            norm: Norm::Batch,
            frozen,
            clip: 0.0,
        }
    }

    fn sizes(network: ConvConfig, frozen: bool, images: usize, cards: usize) -> Sizes {
        let options =
            ConvOptions { kernels: KernelSet::Naive, threads: 1, images, seed: 1, precision: Precision::F32 };
        Sizes::new(&config(network, frozen), &options, cards).unwrap()
    }

    /// A ResNet-12 of the published size, an episode of 100 images of 84 pixels.
    #[test]
    fn a_resnet_trains_in_two_gigabytes_and_two_cards_halve_what_images_take() {
        let resnet = || ConvConfig::resnet12(84, 3, [64, 128, 256, 512]);
        let one = sizes(resnet(), false, 100, 1);
        assert_eq!(one.plan().total(), one.total());
        assert!((3 << 29..5 << 29).contains(&one.total()), "{}", one.total());
        let group = |sizes: &Sizes, name: &str| {
            sizes.plan().groups.iter().find(|(n, _)| *n == name).map_or(0, |(_, bytes)| *bytes)
        };
        let two = sizes(resnet(), false, 100, 2);
        let ratio = group(&two, "activations") as f64 / group(&one, "activations") as f64;
        assert!((0.49..0.51).contains(&ratio), "{ratio}");
        let frozen = sizes(resnet(), true, 1, 1);
        assert_eq!(
            (group(&frozen, "gradients"), group(&frozen, "backward"), group(&frozen, "update")),
            (0, 0, 0)
        );
        assert!(frozen.total() < one.total() / 4);
    }

    #[test]
    fn shares_are_whole_rows_of_each_card_in_order() {
        let network = Architecture::new(&ConvConfig::conv4(28, 1, 4)).unwrap();
        let parts = Parts::new(&network, &[2, 0, 1]);
        // 784 rows an image: 1,568 on the first card, none on the second, 784 on the third.
        assert_eq!(parts.rows[parts.of_unit[0].clone()], [512, 512, 512, 32, 512, 272]);
        assert_eq!(parts.own.iter().map(|own| own[0].clone()).collect::<Vec<_>>(), [0..4, 4..4, 4..6]);
        assert_eq!(parts.of_unit.len(), network.units().count());
    }

    #[test]
    fn pieces_are_whole_images_and_cover_a_batch() {
        let network = Architecture::new(&ConvConfig::resnet12(84, 3, [64, 128, 256, 512])).unwrap();
        for unit in network.units() {
            let all: Vec<usize> = chunks(unit, 100, 77).flatten().collect();
            assert_eq!(all, (0..77).collect::<Vec<_>>());
            let bytes = 4 * chunk(unit, 100) * unit.shape.pixels() * unit.shape.depth();
            assert!(bytes as u64 <= COLUMN_BYTES && chunk(unit, 100) * unit.shape.pixels() <= MOST_ROWS);
        }
    }
}
