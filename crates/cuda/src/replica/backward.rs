//! The backward pass of a share, from the last block to the embeddings.

use super::Replica;
use crate::abi::{GemmArgs, LayerNormBackwardArgs, epilogue};
use crate::driver::{DriverError, Span};
use crate::kernels::Form;
use crate::sizes::{ROWS_PER_BLOCK, splits, tile};
use isoflop_nn::Precision;

impl Replica {
    /// `dw[K,N] = x[M,K]ᵀ·dy[M,N]`, or added to it: a sum over all rows, in parts that are then added in order.
    pub(super) fn weight_gradient(
        &self,
        x: Span,
        dy: Span,
        dw: Span,
        (k, n): (usize, usize),
        add: bool,
    ) -> Result<(), DriverError> {
        let m = self.share.rows();
        let (part, count) = splits(self.precision(), k, n, m);
        let parts = self.at(self.sizes.parts);
        let (out, epilogue) = match (count, add) {
            (1, false) => (dw, epilogue::STORE_F32),
            (1, true) => (dw, epilogue::ADD_F32),
            _ => (parts, epilogue::STORE_F32),
        };
        let args = GemmArgs {
            a: x.address,
            b: dy.address,
            out: out.address,
            m: k as i32,
            n: n as i32,
            k: m as i32,
            lda: k as i32,
            ldb: n as i32,
            ldo: n as i32,
            k_split: part as i32,
            epilogue,
            ..GemmArgs::default()
        };
        self.kernels.gemm(&self.stream, Form::Tn, tile(self.precision(), k, n), count, &args)?;
        if count > 1 {
            self.kernels.reduce_parts(&self.stream, parts.address, dw, (k * n, count, k * n), add)?;
        }
        Ok(())
    }

    /// `db[N] = Σ dy[M,N]`, or added to it; `operands`: dy is in E.
    pub(super) fn bias_gradient(
        &self,
        operands: bool,
        dy: Span,
        b: usize,
        add: bool,
    ) -> Result<(), DriverError> {
        let n = self.sizes.layout.tensors[b].len;
        let parts = self.at(self.sizes.parts);
        let count = self.kernels.column_sums(&self.stream, operands, dy, parts, (self.share.rows(), n))?;
        self.kernels.reduce_parts(&self.stream, parts.address, self.gradient(b), (n, count, n), add)
    }

    /// `dx = residual + …` through the norm with weight `w`, its copy in E, and the norm's own gradients.
    pub(super) fn norm_backward(
        &self,
        (x, stats): (Span, Span),
        w: usize,
        residual: Option<Span>,
        add: bool,
    ) -> Result<(), DriverError> {
        let (m, c) = (self.share.rows(), self.c());
        let parts = self.at(self.sizes.parts);
        let copy = self.precision() != Precision::F32;
        let args = LayerNormBackwardArgs {
            x: x.address,
            stats: stats.address,
            w: self.weight(w).address,
            dy: self.at(self.sizes.dnorm).address,
            residual: residual.map_or(0, |span| span.address),
            dx: self.at(self.sizes.dx).address,
            dx_e: if copy { self.at(self.sizes.dx_e).address } else { 0 },
            parts: parts.address,
            rows: m as i32,
            c: c as i32,
            rows_per_block: ROWS_PER_BLOCK as i32,
            pad: 0,
        };
        self.kernels.layernorm_backward(&self.stream, &args)?;
        let count = m.div_ceil(ROWS_PER_BLOCK);
        for (offset, tensor) in [(0, w), (c, w + 1)] {
            let from = parts.address + 4 * offset as u64;
            self.kernels.reduce_parts(&self.stream, from, self.gradient(tensor), (c, count, 2 * c), add)?;
        }
        Ok(())
    }

    /// From the gradient behind block `layer` to the one before it; its weights' gradients.
    pub(crate) fn block_backward(&self, layer: usize, add: bool) -> Result<(), DriverError> {
        if self.share.rows() == 0 {
            return Ok(());
        }
        let (sizes, c, f) = (&self.sizes, self.c(), self.f());
        let (block, kept) = (sizes.layout.blocks[layer], sizes.kept(layer));
        if sizes.blocks_share() && layer + 1 < sizes.layout.blocks.len() {
            self.block_forward(layer)?;
        }
        let at = |buffer| self.at(buffer);
        let (dx, dwide) = (at(sizes.dx), at(sizes.dwide));
        let store_f32 =
            GemmArgs { out: at(sizes.dnorm).address, epilogue: epilogue::STORE_F32, ..GemmArgs::default() };

        let args = GemmArgs {
            out_e: dwide.address,
            slope: at(kept.slope).address,
            epilogue: epilogue::SLOPE,
            ..GemmArgs::default()
        };
        self.product_transposed(self.dx_e(), block.out_w, args)?;
        self.weight_gradient(at(kept.active), self.dx_e(), self.gradient(block.out_w), (f, c), add)?;
        self.bias_gradient(false, dx, block.out_b, add)?;

        self.product_transposed(dwide, block.fc_w, store_f32)?;
        self.weight_gradient(at(kept.norm2), dwide, self.gradient(block.fc_w), (c, f), add)?;
        self.bias_gradient(true, dwide, block.fc_b, add)?;
        self.norm_backward((at(kept.mid), at(kept.stats2)), block.ln2_w, Some(dx), add)?;

        let args = GemmArgs {
            out_e: at(sizes.dattended).address,
            epilogue: epilogue::STORE_E,
            ..GemmArgs::default()
        };
        self.product_transposed(self.dx_e(), block.proj_w, args)?;
        self.weight_gradient(at(kept.attended), self.dx_e(), self.gradient(block.proj_w), (c, c), add)?;
        self.bias_gradient(false, dx, block.proj_b, add)?;
        self.kernels.attention_backward(&self.stream, &self.attention(layer, kept), self.share.sequences)?;

        self.product_transposed(dwide, block.qkv_w, store_f32)?;
        self.weight_gradient(at(kept.norm1), dwide, self.gradient(block.qkv_w), (c, 3 * c), add)?;
        self.bias_gradient(true, dwide, block.qkv_b, add)?;
        self.norm_backward((at(sizes.streams[layer]), at(kept.stats1)), block.ln1_w, Some(dx), add)
    }

    /// Adds the gradients of the embeddings.
    pub(crate) fn embed_backward(&self) -> Result<(), DriverError> {
        let (share, layout) = (self.share, &self.sizes.layout);
        if share.rows() == 0 {
            return Ok(());
        }
        let (dx, parts) = (self.at(self.sizes.dx), self.token_parts());
        let sorted = (parts.order, parts.starts, parts.ids);
        let dwte = self.gradient(layout.wte);
        self.kernels.embed_backward_tokens(&self.stream, dx, sorted, dwte, (share.ids, self.c()))?;
        let sizes = (share.sequences, share.length, self.c());
        self.kernels.embed_backward_positions(&self.stream, dx, self.gradient(layout.wpe), sizes)
    }
}
