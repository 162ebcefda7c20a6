//! The step in burn, on its pure-Rust back end `flex`. (The back end `cpu` compiles through an LLVM that its build
//! downloads.) Clipping is burn's own, by the norm of each tensor rather than of all: the same work, one pass less.

use crate::{Shape, Trainer};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, Param};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{gelu_approximate, softmax};
use burn::tensor::module::embedding;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

const NORMAL: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct Model {
    tokens: Param<Tensor<2>>,    // [V, C], also the head
    positions: Param<Tensor<2>>, // [T, C]
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Block {
    fn new(width: usize, device: &Device) -> Block {
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_initializer(NORMAL).init(device);
        let norm = || LayerNormConfig::new(width).init(device);
        Block {
            norm1: norm(),
            qkv: linear(width, 3 * width),
            proj: linear(width, width),
            norm2: norm(),
            up: linear(width, 4 * width),
            down: linear(4 * width, width),
        }
    }

    /// `out[B,T,C]` of `x[B,T,C]`; `mask[1,1,T,T]` is true where a position may not look.
    fn forward(&self, x: Tensor<3>, heads: usize, mask: &Tensor<4, Bool>) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let width = c / heads;
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let part = |i: usize| qkv.clone().narrow(2, i * c, c).reshape([b, t, heads, width]).swap_dims(1, 2);
        let (q, k, v) = (part(0).mul_scalar((width as f32).powf(-0.5)), part(1), part(2)); // [B,H,T,C/H]
        let scores = q.matmul(k.swap_dims(2, 3)).mask_fill(mask.clone(), f32::NEG_INFINITY); // [B,H,T,T]
        let mixed = softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([b, t, c]);
        let x = x + self.proj.forward(mixed);
        let hidden = gelu_approximate(self.up.forward(self.norm2.forward(x.clone())));
        x + self.down.forward(hidden)
    }
}

impl Model {
    fn new(shape: &Shape, device: &Device) -> Model {
        Model {
            tokens: NORMAL.init([shape.vocab, shape.width], device),
            positions: NORMAL.init([shape.context, shape.width], device),
            blocks: (0..shape.layers).map(|_| Block::new(shape.width, device)).collect(),
            norm: LayerNormConfig::new(shape.width).init(device),
        }
    }

    /// `logits[B·T, V]` of `inputs[B,T]`
    fn forward(&self, inputs: Tensor<2, Int>, heads: usize, mask: &Tensor<4, Bool>) -> Tensor<2> {
        let [b, t] = inputs.dims();
        let tokens = self.tokens.val(); // [V, C]
        let c = tokens.dims()[1];
        let mut x = embedding(tokens.clone(), inputs) + self.positions.val().unsqueeze::<3>();
        for block in &self.blocks {
            x = block.forward(x, heads, mask);
        }
        self.norm.forward(x).reshape([b * t, c]).matmul(tokens.transpose())
    }
}

pub struct BurnTrainer {
    heads: usize,
    model: Option<Model>,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    mask: Tensor<4, Bool>,
    batches: Vec<(Tensor<2, Int>, Tensor<1, Int>)>,
    done: usize,
}

impl BurnTrainer {
    pub fn new(shape: &Shape) -> BurnTrainer {
        let device = Device::flex().autodiff();
        let (b, t) = (shape.batch, shape.context);
        let batch = |seed| {
            let (inputs, targets) = shape.batch(seed);
            let ints = |v: Vec<u32>| v.into_iter().map(|x| x as i32).collect::<Vec<_>>();
            (
                Tensor::from_ints(TensorData::new(ints(inputs), [b, t]), &device),
                Tensor::from_ints(TensorData::new(ints(targets), [b * t]), &device),
            )
        };
        let config = AdamWConfig::new()
            .with_beta_2(0.95)
            .with_weight_decay(0.1)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)));
        BurnTrainer {
            heads: shape.heads,
            model: Some(Model::new(shape, &device)),
            optimizer: config.init(),
            loss: CrossEntropyLossConfig::new().init(&device),
            mask: Tensor::<2, Bool>::tril_mask([t, t], 0, &device).unsqueeze(),
            batches: (0..4).map(batch).collect(),
            done: 0,
        }
    }
}

impl Trainer for BurnTrainer {
    fn step(&mut self) -> f32 {
        let (inputs, targets) = self.batches[self.done % self.batches.len()].clone();
        self.done += 1;
        let model = self.model.take().expect("put back at the end of each step");
        let loss = self.loss.forward(model.forward(inputs, self.heads, &self.mask), targets);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(1e-3, model, grads));
        loss.into_scalar()
    }
}
