//! Where each tensor lies in the flat buffers of weights, gradients and moments, under its Hugging Face name.

use crate::GptConfig;
use isoflop_base::tensor::{Dtype, TensorGroup, TensorSpec};

/// Tensors start at multiples of this many elements: one cache line.
const ALIGN: usize = 16;

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Hugging Face name.
    pub name: String,
    /// Row-major shape; matrices of blocks are `[in, out]` as in Hugging Face's `Conv1D`.
    pub shape: Vec<usize>,
    /// First element in a flat buffer.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    /// How it starts.
    pub start: Start,
}

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Zeros: biases.
    Zero,
    /// Ones: weights of norms.
    One,
    /// Normal with the configured standard deviation.
    Normal,
    /// Normal, divided by √(2L): projections into the residual stream.
    Residual,
}

impl Tensor {
    /// Whether weight decay applies: matrices only.
    pub fn decays(&self) -> bool {
        self.shape.len() >= 2
    }

    /// Its range in a flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Ranges of one block's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Weight of the first norm `[C]`.
    pub ln1_w: usize,
    /// Its bias `[C]`.
    pub ln1_b: usize,
    /// `[C,3C]`.
    pub qkv_w: usize,
    /// `[3C]`.
    pub qkv_b: usize,
    /// `[C,C]`.
    pub proj_w: usize,
    /// `[C]`.
    pub proj_b: usize,
    /// Weight of the second norm `[C]`.
    pub ln2_w: usize,
    /// Its bias `[C]`.
    pub ln2_b: usize,
    /// `[C,F]`, F the width of the MLP's hidden layer.
    pub fc_w: usize,
    /// `[F]`.
    pub fc_b: usize,
    /// `[F,C]`.
    pub out_w: usize,
    /// `[C]`.
    pub out_b: usize,
}

/// All tensors of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In the order of the flat buffers.
    pub tensors: Vec<Tensor>,
    /// Index into `tensors` of each block's members.
    pub blocks: Vec<Block>,
    /// Index of the token embedding `[V,C]`.
    pub wte: usize,
    /// Index of the position embedding `[T,C]`.
    pub wpe: usize,
    /// Index of the last norm's weight.
    pub lnf_w: usize,
    /// Index of the last norm's bias.
    pub lnf_b: usize,
    /// Index of the head `[V,C]`: `wte` if it is tied.
    pub head: usize,
    /// Elements of a flat buffer, padding included.
    pub len: usize,
}

impl Layout {
    /// The layout of a model.
    pub fn new(config: &GptConfig) -> Self {
        let (c, inner) = (config.shape.d_model, config.inner());
        let mut layout = Self {
            tensors: Vec::new(),
            blocks: Vec::new(),
            wte: 0,
            wpe: 0,
            lnf_w: 0,
            lnf_b: 0,
            head: 0,
            len: 0,
        };
        layout.wte = layout.add(EMBEDDING.into(), &[config.vocab, c], Start::Normal);
        layout.wpe = layout.add("transformer.wpe.weight".into(), &[config.context, c], Start::Normal);
        for i in 0..config.shape.n_layer {
            let mut add = |name: &str, shape: &[usize], start| {
                layout.add(format!("transformer.h.{i}.{name}"), shape, start)
            };
            let block = Block {
                ln1_w: add("ln_1.weight", &[c], Start::One),
                ln1_b: add("ln_1.bias", &[c], Start::Zero),
                qkv_w: add("attn.c_attn.weight", &[c, 3 * c], Start::Normal),
                qkv_b: add("attn.c_attn.bias", &[3 * c], Start::Zero),
                proj_w: add("attn.c_proj.weight", &[c, c], Start::Residual),
                proj_b: add("attn.c_proj.bias", &[c], Start::Zero),
                ln2_w: add("ln_2.weight", &[c], Start::One),
                ln2_b: add("ln_2.bias", &[c], Start::Zero),
                fc_w: add("mlp.c_fc.weight", &[c, inner], Start::Normal),
                fc_b: add("mlp.c_fc.bias", &[inner], Start::Zero),
                out_w: add("mlp.c_proj.weight", &[inner, c], Start::Residual),
                out_b: add("mlp.c_proj.bias", &[c], Start::Zero),
            };
            layout.blocks.push(block);
        }
        layout.lnf_w = layout.add("transformer.ln_f.weight".into(), &[c], Start::One);
        layout.lnf_b = layout.add("transformer.ln_f.bias".into(), &[c], Start::Zero);
        layout.head = match config.variant.tied {
            true => layout.wte,
            false => layout.add(HEAD.into(), &[config.vocab, c], Start::Normal),
        };
        layout
    }

    fn add(&mut self, name: String, shape: &[usize], start: Start) -> usize {
        let len = shape.iter().product();
        self.tensors.push(Tensor { name, shape: shape.to_vec(), offset: self.len, len, start });
        self.len = (self.len + len).next_multiple_of(ALIGN);
        self.tensors.len() - 1
    }

    /// Tensor `index` inside a flat buffer.
    pub fn of<'a, T>(&self, buffer: &'a [T], index: usize) -> &'a [T] {
        &buffer[self.tensors[index].range()]
    }

    /// Tensor `index` inside a flat buffer.
    pub fn of_mut<'a, T>(&self, buffer: &'a mut [T], index: usize) -> &'a mut [T] {
        &mut buffer[self.tensors[index].range()]
    }

    /// The four matrices of block `layer`: qkv, proj, fc, out. They lie in this order, small tensors between them.
    pub(crate) fn matrices_mut<'a>(&self, layer: usize, buffer: &'a mut [f32]) -> [&'a mut [f32]; 4] {
        let block = &self.blocks[layer];
        let (mut rest, mut passed) = (buffer, 0);
        [block.qkv_w, block.proj_w, block.fc_w, block.out_w].map(|index| {
            let range = self.tensors[index].range();
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(range.end - passed);
            let tensor = &mut head[range.start - passed..];
            (rest, passed) = (tail, range.end);
            tensor
        })
    }

    /// Zeros the tensors whose gradients are sums of parts: all vectors, the position embedding, and the token
    /// embedding unless the head has written there first.
    pub(crate) fn clear_added(&self, gradients: &mut [f32]) {
        for (index, tensor) in self.tensors.iter().enumerate() {
            let embedding = index == self.wpe || (index == self.wte && self.head != self.wte);
            if tensor.shape.len() == 1 || embedding {
                gradients[tensor.range()].fill(0.0);
            }
        }
    }

    /// Parameters, padding not counted.
    pub fn params(&self) -> u64 {
        self.tensors.iter().map(|t| t.len as u64).sum()
    }

    /// The weights as a checkpoint holds them.
    pub fn specs(&self) -> Vec<TensorSpec> {
        let spec = |t: &Tensor| TensorSpec {
            name: t.name.clone(),
            group: TensorGroup::Model,
            dtype: Dtype::F32,
            shape: t.shape.clone(),
        };
        self.tensors.iter().map(spec).collect()
    }
}

/// Name of the token embedding.
pub const EMBEDDING: &str = "transformer.wte.weight";
/// Name of a head that is not the embedding.
pub const HEAD: &str = "lm_head.weight";
/// Prefix of first moments in `optimizer.safetensors`.
pub const FIRST_MOMENT: &str = "exp_avg.";
/// Prefix of second moments in `optimizer.safetensors`.
pub const SECOND_MOMENT: &str = "exp_avg_sq.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    #[test]
    fn parameters_are_those_of_the_shape() {
        for (shape, vocab, context) in
            [("L2-d24-h2", 256, 256), ("L12-d768-h12", 50_257, 1024), ("L1-d5-h1", 61, 12)]
        {
            let config =
                GptConfig { init: Init::Gpt2, ..GptConfig::new(shape.parse().unwrap(), vocab, context) };
            let layout = Layout::new(&config);
            assert_eq!(layout.params(), config.shape.params_total(vocab, context));
            assert!(layout.tensors.iter().all(|t| t.offset % ALIGN == 0 && t.offset + t.len <= layout.len));
        }
    }
}
