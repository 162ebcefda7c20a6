//! What a convolutional network is: blocks of convolutions, each halved by max-pooling, and what is made of the last.

use super::ConvError;
use super::parameters::{Order, Parameters, Start};
use crate::Precision;
use isoflop_kernels::conv::Shape;

/// One block: `convs` times convolution 3×3, batch norm, leaky ReLU; then max-pooling 2×2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockConfig {
    /// Channels out.
    pub width: usize,
    /// Convolutions behind each other.
    pub convs: usize,
    /// Whether the block's input, through a convolution 1×1 and a norm, is added before the last activation.
    pub shortcut: bool,
}

/// What becomes of the last block's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// All of them, channel by channel as PyTorch's `flatten` of `[C,H,W]` has them.
    Flatten,
    /// Their mean.
    Mean,
}

/// A network. Convolutions have no bias: the norm behind each would take it away again.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvConfig {
    /// Height and width of an image, pixels.
    pub image: usize,
    /// Channels of an image: 1 grey, 3 colour.
    pub channels: usize,
    /// The blocks.
    pub blocks: Vec<BlockConfig>,
    /// Slope of the activation for negative inputs: 0 is ReLU.
    pub slope: f64,
    /// What becomes of the last block's pixels.
    pub features: Features,
}

impl ConvConfig {
    /// Conv-4 (Vinyals et al. 2016, Snell et al. 2017): four blocks of one convolution, ReLU, all pixels. With width 64
    /// an image of 28 pixels becomes 64 features, one of 84 pixels 1,600.
    pub fn conv4(image: usize, channels: usize, width: usize) -> Self {
        let blocks = vec![BlockConfig { width, convs: 1, shortcut: false }; 4];
        Self { image, channels, blocks, slope: 0.0, features: Features::Flatten }
    }

    /// ResNet-12 as few-shot learning has it (Lee et al. 2019, MetaOptNet): four residual blocks of three convolutions,
    /// leaky ReLU 0.1, the mean over pixels. Widths 64, 128, 256, 512 have 8.0 M parameters and 512 features; 64, 160,
    /// 320, 640 are the wider one.
    pub fn resnet12(image: usize, channels: usize, widths: [usize; 4]) -> Self {
        let blocks = widths.map(|width| BlockConfig { width, convs: 3, shortcut: true }).to_vec();
        Self { image, channels, blocks, slope: 0.1, features: Features::Mean }
    }

    /// FLOPs of one image forward: two for each multiplication of a convolution by its definition, though Winograd's
    /// transform makes do with fewer; backward costs about twice as many.
    pub fn flops(&self) -> u64 {
        let Ok(network) = Architecture::new(self) else { return 0 };
        let product = |unit: &Unit| 2 * (unit.shape.pixels() * unit.shape.weights()) as u64;
        network.units().map(product).sum()
    }
}

/// A convolution and its norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Number among all units, in the order they run.
    pub index: usize,
    /// The convolution.
    pub shape: Shape,
    /// Its weights among the parameters.
    pub weight: usize,
    /// The norm's weight among the parameters; its bias is the next.
    pub gamma: usize,
    /// First channel in the buffers of statistics.
    pub channel: usize,
}

/// A block's units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The way through, first to last.
    pub main: Vec<Unit>,
    /// The way round.
    pub shortcut: Option<Unit>,
}

impl Block {
    /// The last convolution: what is pooled has its shape.
    pub fn last(&self) -> &Unit {
        self.main.last().expect("a block has a convolution")
    }

    /// Pixels after pooling.
    pub fn pooled(&self) -> usize {
        let shape = self.last().shape;
        (shape.height / 2) * (shape.width / 2)
    }
}

/// A network's units with their shapes, parameters and statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// All weights, under PyTorch's names.
    pub parameters: Parameters,
    /// For each unit the name of its norm, e.g. `layer1.0.bn1`.
    pub norms: Vec<String>,
    /// Channels of all norms together.
    pub channels: usize,
    /// Elements of an image.
    pub input: usize,
    /// Features of an image, d.
    pub features: usize,
}

impl Architecture {
    /// The units of a network.
    ///
    /// # Errors
    /// [`ConvError::Setting`] if a size is zero or pooling leaves no pixel.
    pub fn new(config: &ConvConfig) -> Result<Self, ConvError> {
        let widths = config.blocks.iter().map(|b| b.width.min(b.convs));
        if widths.chain([config.image, config.channels]).any(|n| n == 0) || config.blocks.is_empty() {
            return Err(ConvError::Setting {
                what: "a network needs blocks, widths, convolutions, channels and pixels above 0".into(),
                hint: "Conv-4 has four blocks of one convolution of 64 channels",
            });
        }
        if config.image >> config.blocks.len() == 0 {
            return Err(ConvError::Setting {
                what: format!("images of {} pixels vanish in {} halvings", config.image, config.blocks.len()),
                hint: "images need at least 16 pixels a side for four blocks",
            });
        }
        let mut network = Self {
            blocks: Vec::new(),
            parameters: Parameters::default(),
            norms: Vec::new(),
            channels: 0,
            input: config.image * config.image * config.channels,
            features: 0,
        };
        let (mut side, mut inputs) = (config.image, config.channels);
        for (number, block) in config.blocks.iter().enumerate() {
            let layer = format!("layer{}.0", number + 1);
            let shape = |inputs, window| Shape {
                height: side,
                width: side,
                inputs,
                outputs: block.width,
                side: window,
                bf16: false,
            };
            let main = (0..block.convs).map(|i| {
                let inputs = if i == 0 { inputs } else { block.width };
                let names = (format!("{layer}.conv{}", i + 1), format!("{layer}.bn{}", i + 1));
                network.unit(shape(inputs, 3), names)
            });
            let main = main.collect();
            let names = (format!("{layer}.downsample.0"), format!("{layer}.downsample.1"));
            let shortcut = block.shortcut.then(|| network.unit(shape(inputs, 1), names));
            network.blocks.push(Block { main, shortcut });
            (side, inputs) = (side / 2, block.width);
        }
        network.features = match config.features {
            Features::Flatten => side * side * inputs,
            Features::Mean => inputs,
        };
        Ok(network)
    }

    /// The same with convolutions that multiply in this precision.
    ///
    /// # Errors
    /// [`ConvError::Setting`]: fp16, whose gradients would need a loss that is scaled.
    pub fn in_precision(mut self, precision: Precision) -> Result<Self, ConvError> {
        if precision == Precision::Fp16 {
            return Err(ConvError::Setting {
                what: "convolutions in fp16".into(),
                hint: "f32 and bf16 are what images are trained in",
            });
        }
        for block in &mut self.blocks {
            for unit in block.main.iter_mut().chain(&mut block.shortcut) {
                unit.shape.bf16 = precision == Precision::Bf16;
            }
        }
        Ok(self)
    }

    fn unit(&mut self, shape: Shape, (conv, norm): (String, String)) -> Unit {
        let (s, i, o) = (shape.side, shape.inputs, shape.outputs);
        // Kaiming's rule by the channels out, as the published networks start.
        let start = Start::Normal(libm::sqrt(2.0 / (s * s * o) as f64));
        let weight = self.parameters.add(format!("{conv}.weight"), &[o, i, s, s], start, Order::Window);
        let gamma = self.parameters.add(format!("{norm}.weight"), &[o], Start::One, Order::AsIs);
        self.parameters.add(format!("{norm}.bias"), &[o], Start::Zero, Order::AsIs);
        let unit = Unit { index: self.norms.len(), shape, weight, gamma, channel: self.channels };
        self.norms.push(norm);
        self.channels += o;
        unit
    }

    /// All units in the order they run.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.blocks.iter().flat_map(|block| block.main.iter().chain(&block.shortcut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_networks_have_their_sizes() {
        let of = |config: &ConvConfig| {
            let network = Architecture::new(config).unwrap();
            (network.parameters.count(), network.features)
        };
        // 113,088 with biases of the convolutions, which norms make superfluous: 256 fewer.
        assert_eq!(of(&ConvConfig::conv4(84, 3, 64)), (112_832, 1600));
        assert_eq!(of(&ConvConfig::conv4(28, 1, 64)).1, 64);
        let (parameters, features) = of(&ConvConfig::resnet12(84, 3, [64, 128, 256, 512]));
        assert!((7_950_000..8_050_000).contains(&parameters) && features == 512, "{parameters}");
        let (parameters, features) = of(&ConvConfig::resnet12(84, 3, [64, 160, 320, 640]));
        assert!((12_400_000..12_500_000).contains(&parameters) && features == 640, "{parameters}");
    }

    /// A training episode, 5-way 5-shot 15-query: 100 images forward and backward.
    #[test]
    fn an_episode_costs_what_is_published() {
        let episode = |config: &ConvConfig| config.flops() as f64 * 3.0 * 100.0 / 1e9;
        assert!((episode(&ConvConfig::conv4(28, 1, 64)) - 6.0).abs() < 0.3);
        assert!((episode(&ConvConfig::conv4(84, 3, 64)) - 58.0).abs() < 3.0);
        let resnet = episode(&ConvConfig::resnet12(84, 3, [64, 128, 256, 512]));
        assert!((1300.0..1700.0).contains(&resnet), "{resnet}");
    }

    #[test]
    fn impossible_networks_are_refused() {
        for config in [ConvConfig::conv4(15, 1, 4), ConvConfig::conv4(28, 0, 4), ConvConfig::conv4(28, 1, 0)]
        {
            assert!(Architecture::new(&config).unwrap_err().to_string().contains("hint: "));
        }
    }
}
