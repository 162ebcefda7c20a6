//! The head: losses and their gradient, for a part of the rows or of the vocabulary at a time.

use super::Replica;
use crate::abi::{GemmArgs, epilogue};
use crate::driver::DriverError;
use crate::kernels::Form;
use crate::sizes::{logits_tile, tile};
use std::ops::Range;

impl Replica {
    /// Losses of the share; with a scale also the gradient of the head, and `dx` at the end of the stack. Logits exist
    /// for a part of the rows or of the vocabulary at a time.
    pub(crate) fn head(&self, gradient: Option<(f32, bool)>) -> Result<(), DriverError> {
        if self.share.rows() == 0 {
            return Ok(());
        }
        self.losses_of_logits()?;
        let Some((scale, add)) = gradient else { return Ok(()) };
        self.head_backward(scale, add)?;
        let layout = &self.sizes.layout;
        let end = self.at(self.sizes.streams[layout.blocks.len()]);
        self.norm_backward((end, self.at(self.sizes.stats)), layout.lnf_w, None, add)
    }

    /// The product of normed rows with a part of the head, `normed[rows,C]·head[v0..v0+n,C]ᵀ`.
    pub(super) fn logits_product(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: usize,
        args: GemmArgs,
    ) -> Result<(), DriverError> {
        let (c, e) = (self.c(), self.e());
        let row_bytes = c as u64 * e;
        let head = self.operand(self.sizes.layout.head);
        let args = GemmArgs {
            a: self.at(self.sizes.normed).address + rows.start as u64 * row_bytes,
            b: head.address + columns.start as u64 * row_bytes,
            targets: self.token_parts().targets.address + 4 * rows.start as u64,
            target_logits: self.at(self.sizes.target_logits).address + 4 * rows.start as u64,
            lse: self.at(self.sizes.lse).address + 4 * rows.start as u64,
            m: rows.len() as i32,
            n: columns.len() as i32,
            k: c as i32,
            lda: c as i32,
            ldb: c as i32,
            ldo: columns.len() as i32,
            k_split: c as i32,
            column0: columns.start as i32,
            ..args
        };
        self.kernels.gemm(&self.stream, Form::Nt, tile, 1, &args)
    }

    /// `lse[M]` and `losses[M]`, some rows at a time.
    pub(super) fn losses_of_logits(&self) -> Result<(), DriverError> {
        let (m, v, sizes) = (self.share.rows(), self.sizes.config.vocab, &self.sizes);
        let tile = logits_tile(self.precision(), sizes.rows, v);
        let stats = self.at(sizes.logits);
        for first in (0..m).step_by(sizes.logit_rows) {
            let rows = first..m.min(first + sizes.logit_rows);
            let args = GemmArgs {
                stats: stats.address,
                stats_slices: sizes.slices as i32,
                epilogue: epilogue::LOGIT_STATS,
                ..GemmArgs::default()
            };
            self.logits_product(rows.clone(), 0..v, tile, args)?;
            let part = |buffer| self.at(buffer).part(4 * rows.start as u64, 4 * rows.len() as u64);
            let from = (stats, sizes.slices, part(sizes.target_logits));
            let to = (part(sizes.lse), part(sizes.losses));
            self.kernels.logit_losses(&self.stream, from, to, rows.len())?;
        }
        Ok(())
    }

    /// The head's gradient and that of its input, some columns of the vocabulary at a time.
    pub(super) fn head_backward(&self, scale: f32, add: bool) -> Result<(), DriverError> {
        let (m, c, v, sizes) = (self.share.rows(), self.c(), self.sizes.config.vocab, &self.sizes);
        let (dlogits, dnormed) = (self.at(sizes.logits), self.at(sizes.dnorm));
        let (head, dhead) = (self.operand(sizes.layout.head), self.gradient(sizes.layout.head));
        for first in (0..v).step_by(sizes.logit_columns) {
            let columns = first..v.min(first + sizes.logit_columns);
            let n = columns.len();
            let args = GemmArgs {
                out_e: dlogits.address,
                epilogue: epilogue::LOGIT_GRADIENT,
                scale,
                ..GemmArgs::default()
            };
            self.logits_product(0..m, columns, tile(self.precision(), m, n), args)?;
            let args = GemmArgs {
                a: dlogits.address,
                b: head.address + (first * c) as u64 * self.e(),
                out: dnormed.address,
                m: m as i32,
                n: c as i32,
                k: n as i32,
                lda: n as i32,
                ldb: c as i32,
                ldo: c as i32,
                k_split: n as i32,
                epilogue: if first == 0 { epilogue::STORE_F32 } else { epilogue::ADD_F32 },
                ..GemmArgs::default()
            };
            self.kernels.gemm(&self.stream, Form::Nn, tile(self.precision(), m, c), 1, &args)?;
            let dhead = dhead.part(4 * (first * c) as u64, 4 * (n * c) as u64);
            self.weight_gradient(dlogits, self.at(sizes.normed), dhead, (n, c), add)?;
        }
        Ok(())
    }

    /// Logits `[V]` of the share's last row, waited for.
    pub(crate) fn last_logits(&self) -> Result<Vec<f32>, DriverError> {
        let (m, v) = (self.share.rows(), self.sizes.config.vocab);
        let out = self.at(self.sizes.logits).part(0, 4 * v as u64);
        let args = GemmArgs { out: out.address, epilogue: epilogue::STORE_F32, ..GemmArgs::default() };
        self.logits_product(m - 1..m, 0..v, tile(self.precision(), 1, v), args)?;
        let mut logits = vec![0f32; v];
        self.stream.download(out, bytemuck::cast_slice_mut(&mut logits))?;
        Ok(logits)
    }
}
