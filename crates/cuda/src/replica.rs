//! One card's copy of the model: its memory, its queue, and the passes over a share of a batch. Nothing here waits for
//! the card but what says so.
//!
//! Letters: M rows of the share (B sequences of T positions), C channels, F inner width, V vocabulary; E the operands'
//! type. The passes are those of `kernels/abi.h`.

use crate::abi::{AdamWArgs, AttentionArgs, DECAYS, EIGHT_BIT, GemmArgs, LayerNormBackwardArgs, StepNorm};
use crate::abi::{UpdateBlock, epilogue};
use crate::driver::{Context, DeviceMemory, Driver, DriverError, Pinned, Span, Stream};
use crate::kernels::{Form, Kernels};
use crate::sizes::{Buffer, Kept, ROWS_PER_BLOCK, Sizes, UPDATE, logits_tile, operand_bytes, splits, tile};
use isoflop_base::TokenBatch;
use isoflop_kernels::adamw8bit::BLOCK;
use isoflop_kernels::{Activation, dynamic_map};
use isoflop_nn::gpt::moments::Place;
use isoflop_nn::{AdamWConfig, Precision};
use std::ops::Range;
use std::rc::Rc;

/// Micro-batches whose tokens and losses are on their way at once: the host prepares one while the card computes the one
/// before.
pub(crate) const SLOTS: usize = 2;

/// A card's copy of the model.
#[derive(Debug)]
pub(crate) struct Replica {
    sizes: Rc<Sizes>,
    kernels: Kernels,
    pub(crate) stream: Stream,
    /// What carries gradients between cards beside the computation.
    pub(crate) copies: Stream,
    arena: DeviceMemory,
    tokens: [Pinned; SLOTS],
    losses: [Pinned; SLOTS],
    norms: Pinned,
    /// Sorted tokens of the share: how many different ones.
    share: Share,
    pub(crate) context: Context,
}

/// The share of a batch that is on the card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Sequences B.
    pub(crate) sequences: usize,
    /// Positions T.
    pub(crate) length: usize,
    /// Different tokens.
    ids: usize,
}

impl Share {
    /// Rows M.
    fn rows(&self) -> usize {
        self.sequences * self.length
    }
}

/// Which of the two norms on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormOf {
    /// The whole step's gradient.
    Step = 0,
    /// The gradient of its first micro-batch.
    SmallBatch = 1,
}

impl Replica {
    /// A card with its memory allocated, all zero, and its kernels loaded.
    pub(crate) fn new(
        driver: &Driver,
        number: u32,
        image: &[u8],
        sizes: &Rc<Sizes>,
    ) -> Result<Self, DriverError> {
        let context = driver.context(number)?;
        let (shape, precision) = (sizes.config.shape, sizes.options.precision);
        let kernels = Kernels::load(&context, image, precision, shape.d_model, shape.head_width())?;
        let arena = context.allocate(sizes.total())?;
        let stream = context.stream()?;
        stream.clear(arena.span())?;
        let pinned = |bytes: u64| context.pinned(bytes as usize);
        let replica = Self {
            sizes: Rc::clone(sizes),
            kernels,
            copies: context.stream()?,
            tokens: [pinned(sizes.tokens.bytes)?, pinned(sizes.tokens.bytes)?],
            losses: [pinned(sizes.losses.bytes)?, pinned(sizes.losses.bytes)?],
            norms: pinned(sizes.norms.bytes)?,
            stream,
            arena,
            share: Share::default(),
            context,
        };
        let maps: Vec<f32> = dynamic_map::SIGNED.iter().chain(&dynamic_map::UNSIGNED).copied().collect();
        replica.stream.upload(replica.at(sizes.maps), bytemuck::cast_slice(&maps))?;
        replica
            .stream
            .upload(replica.at(sizes.update_blocks), bytemuck::cast_slice(&update_blocks(sizes)))?;
        Ok(replica)
    }

    /// Where a buffer lies.
    pub(crate) fn at(&self, buffer: Buffer) -> Span {
        buffer.of(self.arena.span())
    }

    fn precision(&self) -> Precision {
        self.sizes.options.precision
    }

    fn e(&self) -> u64 {
        operand_bytes(self.precision())
    }

    /// Channels.
    fn c(&self) -> usize {
        self.sizes.config.shape.d_model
    }

    fn f(&self) -> usize {
        self.sizes.config.inner()
    }

    /// A tensor of the weights, f32.
    fn weight(&self, index: usize) -> Span {
        let tensor = &self.sizes.layout.tensors[index];
        self.at(self.sizes.weights).part(tensor.offset as u64 * 4, tensor.len as u64 * 4)
    }

    /// The same as an operand.
    fn operand(&self, index: usize) -> Span {
        if self.precision() == Precision::F32 {
            return self.weight(index);
        }
        let (tensor, e) = (&self.sizes.layout.tensors[index], self.e());
        self.at(self.sizes.weights_e).part(tensor.offset as u64 * e, tensor.len as u64 * e)
    }

    /// A tensor of the gradients.
    fn gradient(&self, index: usize) -> Span {
        let tensor = &self.sizes.layout.tensors[index];
        self.gradients(tensor.range())
    }

    /// Elements of the gradients.
    pub(crate) fn gradients(&self, range: Range<usize>) -> Span {
        self.at(self.sizes.gradients).part(range.start as u64 * 4, range.len() as u64 * 4)
    }

    /// The copy in E of the gradient of the stream.
    fn dx_e(&self) -> Span {
        match self.precision() {
            Precision::F32 => self.at(self.sizes.dx),
            Precision::Bf16 | Precision::Fp16 => self.at(self.sizes.dx_e),
        }
    }

    /// Adds another card's share of the gradients, on the queue of copies.
    pub(crate) fn add_copied(&self, x: Span, y: Span) -> Result<(), DriverError> {
        self.kernels.add(&self.copies, x, y)
    }

    /// The operands' copy of the weights.
    pub(crate) fn cast_weights(&self) -> Result<(), DriverError> {
        self.kernels.cast(&self.stream, self.at(self.sizes.weights), self.at(self.sizes.weights_e))
    }

    /// Puts a share of a batch on the card: tokens, targets, and the rows sorted by token. Waits for the upload before
    /// the last in this slot.
    pub(crate) fn set_batch(
        &mut self,
        batch: &TokenBatch,
        sequences: Range<usize>,
        slot: usize,
    ) -> Result<(), DriverError> {
        let length = batch.length();
        self.share = Share { sequences: sequences.len(), length, ids: 0 };
        if sequences.is_empty() {
            return Ok(());
        }
        let m = self.share.rows();
        let pinned: &mut [u32] = bytemuck::cast_slice_mut(self.tokens[slot].bytes()?);
        let (tokens, rest) = pinned.split_at_mut(m);
        let (targets, rest) = rest.split_at_mut(m);
        for (row, index) in sequences.enumerate() {
            tokens[row * length..][..length].copy_from_slice(batch.inputs(index));
            targets[row * length..][..length].copy_from_slice(batch.targets(index));
        }
        let (order, rest) = rest.split_at_mut(m);
        let ids = sort_by_token(tokens, order, rest);
        self.share.ids = ids;
        let bytes = 4 * (3 * m + 2 * ids + 1) as u64;
        let to = self.at(self.sizes.tokens).part(0, bytes);
        self.stream.upload_pinned(to, &mut self.tokens[slot])
    }

    /// The parts of the buffer of tokens.
    fn token_parts(&self) -> TokenParts {
        let (m, ids) = (self.share.rows() as u64, self.share.ids as u64);
        let all = self.at(self.sizes.tokens);
        let part = |at: u64, len: u64| all.part(4 * at, 4 * len);
        TokenParts {
            tokens: part(0, m),
            targets: part(m, m),
            order: part(2 * m, m),
            starts: part(3 * m, ids + 1),
            ids: part(3 * m + ids + 1, ids),
        }
    }

    /// Zeros the gradients that are only ever added to, before the first share of a step; all of them if there is none.
    pub(crate) fn clear_gradients(&self) -> Result<(), DriverError> {
        let layout = &self.sizes.layout;
        if self.share.sequences == 0 {
            return self.stream.clear(self.at(self.sizes.gradients));
        }
        self.stream.clear(self.gradient(layout.wpe))?;
        if layout.head != layout.wte {
            self.stream.clear(self.gradient(layout.wte))?;
        }
        Ok(())
    }

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
    fn norm_forward(&self, x: Span, w: usize, out: (Span, Span)) -> Result<(), DriverError> {
        let sizes = (self.share.rows(), self.c(), self.sizes.config.variant.norm_epsilon);
        self.kernels.layernorm_forward(&self.stream, (x, self.weight(w), self.weight(w + 1)), out, sizes)
    }

    /// `a[M,K]·w[K,N]` with what the epilogue needs already in `args`.
    fn product(&self, a: Span, w: usize, args: GemmArgs) -> Result<(), DriverError> {
        let shape = &self.sizes.layout.tensors[w].shape;
        let (k, n, m) = (shape[0], shape[1], self.share.rows());
        let args = GemmArgs {
            a: a.address,
            b: self.operand(w).address,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            lda: k as i32,
            ldb: n as i32,
            ldo: n as i32,
            k_split: k as i32,
            ..args
        };
        self.kernels.gemm(&self.stream, Form::Nn, tile(self.precision(), m, n), 1, &args)
    }

    /// `dy[M,N]·w[K,N]ᵀ` with what the epilogue needs already in `args`.
    fn product_transposed(&self, dy: Span, w: usize, args: GemmArgs) -> Result<(), DriverError> {
        let shape = &self.sizes.layout.tensors[w].shape;
        let (n, k, m) = (shape[0], shape[1], self.share.rows());
        let args = GemmArgs {
            a: dy.address,
            b: self.operand(w).address,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            lda: k as i32,
            ldb: k as i32,
            ldo: n as i32,
            k_split: k as i32,
            ..args
        };
        self.kernels.gemm(&self.stream, Form::Nt, tile(self.precision(), m, n), 1, &args)
    }

    /// `dw[K,N] = x[M,K]ᵀ·dy[M,N]`, or added to it: a sum over all rows, in parts that are then added in order.
    fn weight_gradient(
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
    fn bias_gradient(&self, operands: bool, dy: Span, b: usize, add: bool) -> Result<(), DriverError> {
        let n = self.sizes.layout.tensors[b].len;
        let parts = self.at(self.sizes.parts);
        let count = self.kernels.column_sums(&self.stream, operands, dy, parts, (self.share.rows(), n))?;
        self.kernels.reduce_parts(&self.stream, parts.address, self.gradient(b), (n, count, n), add)
    }

    /// `dx = residual + …` through the norm with weight `w`, its copy in E, and the norm's own gradients.
    fn norm_backward(
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

    fn attention(&self, layer: usize, kept: &Kept) -> AttentionArgs {
        let shape = self.sizes.config.shape;
        AttentionArgs {
            qkv: self.at(kept.qkv).address,
            out: self.at(kept.attended).address,
            lse: self.at(kept.lse).address,
            dout: self.at(self.sizes.dattended).address,
            delta: self.at(self.sizes.delta).address,
            dqkv: self.at(self.sizes.dwide).address,
            t: self.share.length as i32,
            heads: shape.n_head as i32,
            width: shape.head_width() as i32,
            scale: (1.0 / self.sizes.config.score_divisor(layer)) as f32,
        }
    }

    /// From the stream before block `layer` to the stream behind it.
    fn block_forward(&self, layer: usize) -> Result<(), DriverError> {
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

    fn activation(&self) -> i32 {
        match self.sizes.config.variant.activation {
            Activation::GeluTanh => 0,
            Activation::Gelu => 1,
            Activation::Relu => 2,
        }
    }

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
    fn logits_product(
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
    fn losses_of_logits(&self) -> Result<(), DriverError> {
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
    fn head_backward(&self, scale: f32, add: bool) -> Result<(), DriverError> {
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

    /// Sends the share's losses home.
    pub(crate) fn send_losses(&mut self, slot: usize) -> Result<(), DriverError> {
        let rows = self.share.rows();
        if rows == 0 {
            return Ok(());
        }
        let from = self.at(self.sizes.losses).part(0, 4 * rows as u64);
        self.stream.download_pinned(from, &mut self.losses[slot])
    }

    /// The losses that were sent, once they are here.
    pub(crate) fn losses(&mut self, slot: usize) -> Result<&[f32], DriverError> {
        Ok(bytemuck::cast_slice(self.losses[slot].bytes()?))
    }

    fn norm_at(&self, of: NormOf) -> Span {
        let bytes = size_of::<StepNorm>() as u64;
        self.at(self.sizes.norms).part(of as u64 * bytes, bytes)
    }

    /// Puts the norm of the gradients, divided by the loss scale, on the card.
    pub(crate) fn norm(&self, of: NormOf, inverse_scale: f64, clip: f64) -> Result<(), DriverError> {
        let n = self.sizes.layout.len;
        let (parts, factors) = (self.at(self.sizes.squares), (inverse_scale, clip));
        let g = (self.at(self.sizes.gradients), n);
        self.kernels.norm(&self.stream, g, parts, factors, self.norm_at(of))
    }

    /// Sends both norms home.
    pub(crate) fn send_norms(&mut self) -> Result<(), DriverError> {
        let from = self.at(self.sizes.norms);
        self.stream.download_pinned(from, &mut self.norms)
    }

    /// The norm that was sent, once it is here.
    pub(crate) fn norm_sent(&mut self, of: NormOf) -> Result<StepNorm, DriverError> {
        let norms: &[StepNorm] = bytemuck::cast_slice(self.norms.bytes()?);
        Ok(norms[of as usize])
    }

    /// Step `t` of AdamW, if the norm on the card is finite.
    pub(crate) fn adamw(&self, lr: f32, t: u64) -> Result<(), DriverError> {
        let (sizes, at) = (&self.sizes, |buffer: Buffer| self.at(buffer).address);
        let AdamWConfig { beta1, beta2, eps, weight_decay, .. } = sizes.options.adamw;
        let power = |beta: f64| libm::pow(beta, t as f64);
        let args = AdamWArgs {
            w: at(sizes.weights),
            g: at(sizes.gradients),
            w_e: if self.precision() == Precision::F32 { 0 } else { at(sizes.weights_e) },
            m: at(sizes.moments[0]),
            v: at(sizes.moments[1]),
            m_codes: at(sizes.codes[0]),
            v_codes: at(sizes.codes[1]),
            m_scales: at(sizes.scales[0]),
            v_scales: at(sizes.scales[1]),
            maps: at(sizes.maps),
            blocks: at(sizes.update_blocks),
            norm: self.norm_at(NormOf::Step).address,
            lr,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            weight_decay: weight_decay as f32,
            correction1: (1.0 - power(beta1)) as f32,
            correction2_root: libm::sqrt(1.0 - power(beta2)) as f32,
            pad: 0,
        };
        let blocks = sizes.update_blocks.bytes as usize / size_of::<UpdateBlock>();
        self.kernels.adamw(&self.stream, &args, blocks)
    }
}

/// What is known of the tokens of a share, on the card.
struct TokenParts {
    tokens: Span,
    targets: Span,
    order: Span,
    starts: Span,
    ids: Span,
}

/// The rows in the order of their tokens, those of one token in their own; then where each token's rows start, and which
/// token it is. Returns how many there are.
fn sort_by_token(tokens: &[u32], order: &mut [u32], rest: &mut [u32]) -> usize {
    for (row, place) in order.iter_mut().enumerate() {
        *place = row as u32;
    }
    order.sort_by_key(|&row| (tokens[row as usize], row));
    let token = |place: usize| tokens[order[place] as usize];
    let begins = |place: &usize| *place == 0 || token(*place) != token(place - 1);
    let ids = (0..order.len()).filter(begins).count();
    let (starts, list) = rest.split_at_mut(ids + 1);
    for (index, place) in (0..order.len()).filter(begins).enumerate() {
        (starts[index], list[index]) = (place as u32, token(place));
    }
    starts[ids] = order.len() as u32;
    ids
}

/// How tensors are divided among the blocks of the optimiser's kernel.
fn update_blocks(sizes: &Sizes) -> Vec<UpdateBlock> {
    let mut blocks = Vec::new();
    for (tensor, place) in sizes.layout.tensors.iter().zip(&sizes.moment_sizes.places) {
        for from in (0..tensor.len).step_by(UPDATE) {
            let (moment, scale, eight_bit) = match *place {
                Place::F32(at) => (at + from, 0, 0),
                Place::Eight(at, scale) => (at + from, scale + from / BLOCK, EIGHT_BIT),
            };
            blocks.push(UpdateBlock {
                at: (tensor.offset + from) as u64,
                moment: moment as u64,
                scale: scale as u64,
                len: UPDATE.min(tensor.len - from) as i32,
                flags: eight_bit | if tensor.decays() { DECAYS } else { 0 },
            });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_token_and_each_token_once() {
        let tokens = [7, 3, 7, 0, 3, 7];
        let (mut order, mut rest) = ([0; 6], [9; 13]);
        let ids = sort_by_token(&tokens, &mut order, &mut rest);
        assert_eq!((ids, order), (3, [3, 1, 4, 0, 2, 5]));
        assert_eq!(rest[..7], [0, 1, 3, 6, 0, 3, 7], "starts, then ids");
    }
}
