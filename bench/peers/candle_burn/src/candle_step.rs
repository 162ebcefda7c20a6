//! The step in candle. Its fused layer norm and softmax have no backward: the differentiable forms are used.

use crate::{Shape, Trainer};
use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use candle_nn::{loss, ops};

const EPSILON: f32 = 1e-5;

struct Norm {
    gain: Var,
    bias: Var,
}

struct Linear {
    weight: Var, // [in, out]
    bias: Var,
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
}

struct Model {
    heads: usize,
    tokens: Var,    // [V, C], also the head
    positions: Var, // [T, C]
    blocks: Vec<Block>,
    norm: Norm,
    mask: Tensor, // [T, T]: 0 or minus infinity
}

/// Makes parameters and keeps a list of them for the optimizer.
struct Maker(Vec<Var>);

impl Maker {
    fn keep(&mut self, var: Var) -> Var {
        self.0.push(var.clone());
        var
    }

    fn normal(&mut self, shape: (usize, usize)) -> Result<Var> {
        Ok(self.keep(Var::randn(0f32, 0.02, shape, &Device::Cpu)?))
    }

    fn norm(&mut self, width: usize) -> Result<Norm> {
        let gain = self.keep(Var::ones(width, DType::F32, &Device::Cpu)?);
        Ok(Norm { gain, bias: self.keep(Var::zeros(width, DType::F32, &Device::Cpu)?) })
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = self.normal((inputs, outputs))?;
        Ok(Linear { weight, bias: self.keep(Var::zeros(outputs, DType::F32, &Device::Cpu)?) })
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.gain, &self.bias, EPSILON)
    }
}

impl Linear {
    /// `out[B·T, O] = x[B·T, I] · weight[I, O] + bias[O]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl Model {
    fn new(shape: &Shape, make: &mut Maker) -> Result<Model> {
        let (c, t) = (shape.width, shape.context);
        let block = |make: &mut Maker| -> Result<Block> {
            Ok(Block {
                norm1: make.norm(c)?,
                qkv: make.linear(c, 3 * c)?,
                proj: make.linear(c, c)?,
                norm2: make.norm(c)?,
                up: make.linear(c, 4 * c)?,
                down: make.linear(4 * c, c)?,
            })
        };
        let mask = (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 }).collect();
        Ok(Model {
            heads: shape.heads,
            tokens: make.normal((shape.vocab, c))?,
            positions: make.normal((t, c))?,
            blocks: (0..shape.layers).map(|_| block(make)).collect::<Result<_>>()?,
            norm: make.norm(c)?,
            mask: Tensor::from_vec(mask, (t, t), &Device::Cpu)?,
        })
    }

    /// `out[B·T, C]` of `qkv[B·T, 3C]`
    fn attention(&self, qkv: &Tensor, b: usize, t: usize) -> Result<Tensor> {
        let c = qkv.dim(1)? / 3;
        let width = c / self.heads;
        let part = |i: usize| -> Result<Tensor> {
            qkv.narrow(1, i * c, c)?.reshape((b, t, self.heads, width))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = ((part(0)? * (width as f64).powf(-0.5))?, part(1)?, part(2)?); // [B,H,T,C/H]
        let scores = q.matmul(&k.t()?)?.broadcast_add(&self.mask)?; // [B,H,T,T]
        ops::softmax(&scores, D::Minus1)?.matmul(&v)?.transpose(1, 2)?.reshape((b * t, c))
    }

    /// Mean loss of `inputs[B,T]` with `targets[B·T]`, nats.
    fn loss(&self, inputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (b, t) = inputs.dims2()?;
        let c = self.tokens.dim(1)?;
        let x = self.tokens.index_select(&inputs.flatten_all()?, 0)?.reshape((b, t, c))?;
        let mut x = x.broadcast_add(&self.positions)?.reshape((b * t, c))?;
        for block in &self.blocks {
            let qkv = block.qkv.forward(&block.norm1.forward(&x)?)?;
            x = (x + block.proj.forward(&self.attention(&qkv, b, t)?)?)?;
            let hidden = block.up.forward(&block.norm2.forward(&x)?)?.gelu()?;
            x = (x + block.down.forward(&hidden)?)?;
        }
        let logits = self.norm.forward(&x)?.matmul(&self.tokens.t()?)?; // [B·T, V]
        loss::cross_entropy(&logits, targets)
    }
}

pub struct CandleTrainer {
    model: Model,
    vars: Vec<Var>,
    optimizer: AdamW,
    batches: Vec<(Tensor, Tensor)>,
    done: usize,
}

impl CandleTrainer {
    pub fn new(shape: &Shape) -> Result<CandleTrainer> {
        let mut make = Maker(Vec::new());
        let model = Model::new(shape, &mut make)?;
        let config = ParamsAdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
        let batch = |seed| -> Result<(Tensor, Tensor)> {
            let (inputs, targets) = shape.batch(seed);
            let count = targets.len();
            let inputs = Tensor::from_vec(inputs, (shape.batch, shape.context), &Device::Cpu)?;
            Ok((inputs, Tensor::from_vec(targets, count, &Device::Cpu)?))
        };
        Ok(CandleTrainer {
            model,
            optimizer: AdamW::new(make.0.clone(), config)?,
            vars: make.0,
            batches: (0..4).map(batch).collect::<Result<_>>()?,
            done: 0,
        })
    }

    fn try_step(&mut self) -> Result<f32> {
        let (inputs, targets) = &self.batches[self.done % self.batches.len()];
        self.done += 1;
        let loss = self.model.loss(inputs, targets)?;
        let mut grads = loss.backward()?;
        let mut squares = 0.0;
        for var in &self.vars {
            if let Some(grad) = grads.get(var) {
                squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let scale = (1.0 / (squares.sqrt() + 1e-6)).min(1.0);
        if scale < 1.0 {
            for var in &self.vars {
                if let Some(grad) = grads.remove(var) {
                    grads.insert(var, (grad * scale)?);
                }
            }
        }
        self.optimizer.step(&grads)?;
        loss.to_scalar()
    }
}

impl Trainer for CandleTrainer {
    fn step(&mut self) -> f32 {
        self.try_step().expect("shapes agree, so no operation of candle fails")
    }
}
