//! The forward pass of a share, block by block.

use super::Replica;
use crate::abi::{GemmArgs, epilogue};
use crate::driver::{DriverError, Span};
use crate::kernels::Form;
use crate::sizes::tile;
use isoflop_kernels::Activation;

impl Replica {
    /// From tokens to the normed end of the stack.
    pub(crate) fn forward(&self) -> Result<(), DriverError> {
        let (m, c, layout) = (self.share.rows(), self.c(), &self.sizes.layout);
        if m == 0 {
            return Ok(());
        }
        let tables = (self.token_parts().tokens, self.weight(layout.wte), self.weight(layout.wpe));
        let x = self.at(self.sizes.streams[0]);
        self.kernels.embed_forward(&self.stream, tables, x, (m, self.share.length, c))?;
        for layer in 0..layout.blocks.len() {
            self.block_forward(layer)?;
        }
        let x = self.at(self.sizes.streams[layout.blocks.len()]);
        let out = (self.at(self.sizes.normed), self.at(self.sizes.stats));
        self.norm_forward(x, layout.lnf_w, out)
    }

    /// Norm with weight `w` and bias behind it: `y` and its statistics.
    pub(super) fn norm_forward(&self, x: Span, w: usize, out: (Span, Span)) -> Result<(), DriverError> {
        let sizes = (self.share.rows(), self.c(), self.sizes.config.variant.norm_epsilon);
        self.kernels.layernorm_forward(&self.stream, (x, self.weight(w), self.weight(w + 1)), out, sizes)
    }

    /// `a[M,K]·w[K,N]` with what the epilogue needs already in `args`.
    pub(super) fn product(&self, a: Span, w: usize, args: GemmArgs) -> Result<(), DriverError> {
        let shape = &self.sizes.layout.tensors[w].shape;
        self.product_of(Form::Nn, a, w, (shape[1], shape[0]), args)
    }

    /// `dy[M,N]·w[K,N]ᵀ` with what the epilogue needs already in `args`.
    pub(super) fn product_transposed(&self, dy: Span, w: usize, args: GemmArgs) -> Result<(), DriverError> {
        let shape = &self.sizes.layout.tensors[w].shape;
        self.product_of(Form::Nt, dy, w, (shape[0], shape[1]), args)
    }

    /// A product of N columns and K steps; rows of the weight lie as it is stored, whichever way it is read.
    fn product_of(
        &self,
        form: Form,
        a: Span,
        w: usize,
        (n, k): (usize, usize),
        args: GemmArgs,
    ) -> Result<(), DriverError> {
        let m = self.share.rows();
        let args = GemmArgs {
            a: a.address,
            b: self.operand(w).address,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            lda: k as i32,
            ldb: self.sizes.layout.tensors[w].shape[1] as i32,
            ldo: n as i32,
            k_split: k as i32,
            ..args
        };
        self.kernels.gemm(&self.stream, form, tile(self.precision(), m, n), 1, &args)
    }

    /// From the stream before block `layer` to the stream behind it.
    pub(super) fn block_forward(&self, layer: usize) -> Result<(), DriverError> {
        let (block, kept) = (self.sizes.layout.blocks[layer], self.sizes.kept(layer));
        let at = |buffer| self.at(buffer);
        let x = at(self.sizes.streams[layer]);
        let (qkv, attended) = (at(kept.qkv), at(kept.attended));
        self.norm_forward(x, block.ln1_w, (at(kept.norm1), at(kept.stats1)))?;
        let bias = |index| self.weight(index).address;
        self.product(
            at(kept.norm1),
            block.qkv_w,
            GemmArgs {
                out_e: qkv.address,
                bias: bias(block.qkv_b),
                epilogue: epilogue::STORE_E,
                ..GemmArgs::default()
            },
        )?;
        self.kernels.attention_forward(&self.stream, &self.attention(layer, kept), self.share.sequences)?;
        let mid = at(kept.mid);
        self.product(
            attended,
            block.proj_w,
            GemmArgs {
                out: mid.address,
                bias: bias(block.proj_b),
                residual: x.address,
                epilogue: epilogue::RESIDUAL,
                ..GemmArgs::default()
            },
        )?;
        self.norm_forward(mid, block.ln2_w, (at(kept.norm2), at(kept.stats2)))?;
        self.product(
            at(kept.norm2),
            block.fc_w,
            GemmArgs {
                out_e: at(kept.active).address,
                slope: at(kept.slope).address,
                bias: bias(block.fc_b),
                epilogue: epilogue::ACTIVATION,
                activation: self.activation(),
                ..GemmArgs::default()
            },
        )?;
        self.product(
            at(kept.active),
            block.out_w,
            GemmArgs {
                out: at(self.sizes.streams[layer + 1]).address,
                bias: bias(block.out_b),
                residual: mid.address,
                epilogue: epilogue::RESIDUAL,
                ..GemmArgs::default()
            },
        )
    }

    pub(super) fn activation(&self) -> i32 {
        match self.sizes.config.variant.activation {
            Activation::GeluTanh => 0,
            Activation::Gelu => 1,
            Activation::Relu => 2,
        }
    }
}
