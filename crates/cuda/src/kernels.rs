//! The kernels on a card, one method each: what `kernels/abi.h` says of arguments and geometry, said once more where
//! they are put on a stream.

use crate::abi::{AdamWArgs, AttentionArgs, GemmArgs, LayerNormBackwardArgs};
use crate::driver::{Arg, Context, DriverError, Function, Grid, Module, Span, Stream};
use crate::sizes::{ROWS_PER_BLOCK, SQUARES};
use bytemuck::bytes_of;
use isoflop_nn::Precision;
use std::sync::Arc;

/// Which operands of a product lie transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `A[M,K]·B[K,N]`.
    Nn = 0,
    /// `A[M,K]·B[N,K]`.
    Nt = 1,
    /// `A[K,M]·B[K,N]`.
    Tn = 2,
}

/// The kernels of one precision on one card.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Where they are from.
    pub(crate) module: Arc<Module>,
    precision: Precision,
    /// By form; the tile of 128, which f32 has not, then that of 64.
    gemms: [[Option<Function>; 2]; 3],
    attention_forward: Function,
    attention_backward_kv: Function,
    attention_backward_q: Function,
    attention_delta: Function,
    layernorm_forward: Function,
    layernorm_backward: Function,
    column_sums: Function,
    column_sums_f32: Function,
    adamw: Function,
    cast: Option<Function>,
    logit_losses: Function,
    embed_forward: Function,
    embed_backward_tokens: Function,
    embed_backward_positions: Function,
    reduce_parts: Function,
    add: Function,
    squares: Function,
    norm: Function,
}

/// A kernel's suffix.
pub(crate) fn suffix(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Fp16 => "f16",
    }
}

pub(crate) fn line(elements: usize, per_block: usize) -> (u32, u32, u32) {
    (elements.div_ceil(per_block) as u32, 1, 1)
}

pub(crate) fn grid(blocks: (u32, u32, u32), threads: u32) -> Grid {
    Grid { blocks, threads, shared: 0 }
}

impl Kernels {
    /// Loads an image and finds the kernels of a precision, for a model of `width` channels with heads of `head_width`.
    pub(crate) fn load(
        context: &Context,
        image: &[u8],
        precision: Precision,
        width: usize,
        head_width: usize,
    ) -> Result<Self, DriverError> {
        let module = Arc::new(context.module(image)?);
        let e = suffix(precision);
        let find = |name: &str| module.function(name, 0);
        let of_e = |name: &str| find(&format!("{name}_{e}"));
        let half = precision != Precision::F32;
        let gemms = |form: &str| -> Result<[Option<Function>; 2], DriverError> {
            let tile = |tile: usize| find(&format!("gemm_{form}_{e}_{tile}"));
            Ok([if half { Some(tile(128)?) } else { None }, Some(tile(64)?)])
        };
        let attention = |part: &str| match half {
            true => {
                let least = [16, 32, 64, 128].into_iter().find(|w| *w >= head_width).unwrap_or(128);
                find(&format!("attention_{part}_{e}_{least}"))
            }
            false => of_e(&format!("attention_{part}")),
        };
        Ok(Self {
            precision,
            gemms: [gemms("nn")?, gemms("nt")?, gemms("tn")?],
            attention_forward: attention("forward")?,
            attention_backward_kv: attention("backward_kv")?,
            attention_backward_q: attention("backward_q")?,
            attention_delta: of_e("attention_delta")?,
            layernorm_forward: of_e("layernorm_forward")?,
            layernorm_backward: module.function(&format!("layernorm_backward_{e}"), 8 * width as u32)?,
            column_sums: of_e("column_sums")?,
            column_sums_f32: find("column_sums_f32")?,
            adamw: of_e("adamw")?,
            cast: if half { Some(of_e("cast")?) } else { None },
            logit_losses: find("logit_losses")?,
            embed_forward: find("embed_forward")?,
            embed_backward_tokens: find("embed_backward_tokens")?,
            embed_backward_positions: find("embed_backward_positions")?,
            reduce_parts: find("reduce_parts")?,
            add: find("add")?,
            squares: find("squares")?,
            norm: find("step_norm")?,
            module,
        })
    }

    /// `out[M,N]` by its epilogue, in tiles of 128 or 64, the sum over k in `splits` parts.
    pub(crate) fn gemm(
        &self,
        stream: &Stream,
        form: Form,
        tile: usize,
        splits: usize,
        args: &GemmArgs,
    ) -> Result<(), DriverError> {
        let function =
            self.gemms[form as usize][usize::from(tile == 64)].as_ref().expect("f32 has tiles of 64");
        let threads = if tile == 128 || self.precision == Precision::F32 { 256 } else { 128 };
        let tiles = |size: i32| (size as usize).div_ceil(tile) as u32;
        let blocks = (tiles(args.n), tiles(args.m), splits as u32);
        stream.launch(function, grid(blocks, threads), &[Arg::Bytes(bytes_of(args))])
    }

    /// Tiles of queries or keys of one attention block.
    fn attention_blocks(&self, args: &AttentionArgs, sequences: usize) -> (u32, u32, u32) {
        let rows = if self.precision == Precision::F32 { 4 } else { 64 };
        ((args.t as usize).div_ceil(rows) as u32, args.heads as u32, sequences as u32)
    }

    /// `out` and `lse` of attention over `sequences`.
    pub(crate) fn attention_forward(
        &self,
        stream: &Stream,
        args: &AttentionArgs,
        sequences: usize,
    ) -> Result<(), DriverError> {
        let blocks = self.attention_blocks(args, sequences);
        stream.launch(&self.attention_forward, grid(blocks, 128), &[Arg::Bytes(bytes_of(args))])
    }

    /// `delta`, then `dqkv`.
    pub(crate) fn attention_backward(
        &self,
        stream: &Stream,
        args: &AttentionArgs,
        sequences: usize,
    ) -> Result<(), DriverError> {
        let rows = ((args.t as usize).div_ceil(4) as u32, args.heads as u32, sequences as u32);
        let bytes = [Arg::Bytes(bytes_of(args))];
        stream.launch(&self.attention_delta, grid(rows, 128), &bytes)?;
        let blocks = self.attention_blocks(args, sequences);
        stream.launch(&self.attention_backward_kv, grid(blocks, 128), &bytes)?;
        stream.launch(&self.attention_backward_q, grid(blocks, 128), &bytes)
    }

    /// `y[R,C] E`, `stats[R,2]`.
    pub(crate) fn layernorm_forward(
        &self,
        stream: &Stream,
        (x, w, b): (Span, Span, Span),
        (y, stats): (Span, Span),
        (rows, c, epsilon): (usize, usize, f64),
    ) -> Result<(), DriverError> {
        let args = [
            x.into(),
            w.into(),
            b.into(),
            y.into(),
            stats.into(),
            (rows as i32).into(),
            (c as i32).into(),
            (epsilon as f32).into(),
        ];
        stream.launch(&self.layernorm_forward, grid(line(rows, 4), 128), &args)
    }

    /// `dx`, its copy, and parts of dw and db, one for each [`ROWS_PER_BLOCK`] rows.
    pub(crate) fn layernorm_backward(
        &self,
        stream: &Stream,
        args: &LayerNormBackwardArgs,
    ) -> Result<(), DriverError> {
        let blocks = line(args.rows as usize, args.rows_per_block as usize);
        let grid = Grid { blocks, threads: 256, shared: 8 * args.c as u32 };
        stream.launch(&self.layernorm_backward, grid, &[Arg::Bytes(bytes_of(args))])
    }

    /// Parts of the column sums of `x[R,N]`, in the operands' type or in f32; returns their number.
    pub(crate) fn column_sums(
        &self,
        stream: &Stream,
        operands: bool,
        x: Span,
        parts: Span,
        (rows, n): (usize, usize),
    ) -> Result<usize, DriverError> {
        let count = rows.div_ceil(ROWS_PER_BLOCK);
        let function = if operands { &self.column_sums } else { &self.column_sums_f32 };
        let args = [
            x.into(),
            parts.into(),
            (rows as i32).into(),
            (n as i32).into(),
            (n as i32).into(),
            (ROWS_PER_BLOCK as i32).into(),
        ];
        stream.launch(function, grid((n.div_ceil(64) as u32, count as u32, 1), 256), &args)?;
        Ok(count)
    }

    /// `out[n] = Σ parts`, or added to it.
    pub(crate) fn reduce_parts(
        &self,
        stream: &Stream,
        parts: u64,
        out: Span,
        (n, count, stride): (usize, usize, usize),
        accumulate: bool,
    ) -> Result<(), DriverError> {
        let args = [
            parts.into(),
            out.into(),
            (n as u64).into(),
            (count as i32).into(),
            (stride as u64).into(),
            i32::from(accumulate).into(),
        ];
        stream.launch(&self.reduce_parts, grid(line(n, 256), 256), &args)
    }

    /// `lse[M]` and `losses[M]` from the statistics of `m` rows.
    pub(crate) fn logit_losses(
        &self,
        stream: &Stream,
        (stats, slices, target_logits): (Span, usize, Span),
        (lse, losses): (Span, Span),
        m: usize,
    ) -> Result<(), DriverError> {
        let args = [
            stats.into(),
            (slices as i32).into(),
            target_logits.into(),
            lse.into(),
            losses.into(),
            (m as i32).into(),
        ];
        stream.launch(&self.logit_losses, grid(line(m, 8), 256), &args)
    }

    /// `x[M,C] = wte[tokens] + wpe`.
    pub(crate) fn embed_forward(
        &self,
        stream: &Stream,
        (tokens, wte, wpe): (Span, Span, Span),
        x: Span,
        (m, t, c): (usize, usize, usize),
    ) -> Result<(), DriverError> {
        let args = [
            tokens.into(),
            wte.into(),
            wpe.into(),
            x.into(),
            (m as i32).into(),
            (t as i32).into(),
            (c as i32).into(),
        ];
        stream.launch(&self.embed_forward, grid((m as u32, 1, 1), 128), &args)
    }

    /// Adds the rows of `dx` to those of their tokens in `dwte`, rows sorted by token.
    pub(crate) fn embed_backward_tokens(
        &self,
        stream: &Stream,
        dx: Span,
        (order, starts, ids): (Span, Span, Span),
        dwte: Span,
        (tokens, c): (usize, usize),
    ) -> Result<(), DriverError> {
        let args = [dx.into(), order.into(), starts.into(), ids.into(), dwte.into(), (c as i32).into()];
        let blocks = (tokens as u32, c.div_ceil(128) as u32, 1);
        stream.launch(&self.embed_backward_tokens, grid(blocks, 128), &args)
    }

    /// Adds the rows of `dx` to those of their positions in `dwpe`.
    pub(crate) fn embed_backward_positions(
        &self,
        stream: &Stream,
        dx: Span,
        dwpe: Span,
        (sequences, t, c): (usize, usize, usize),
    ) -> Result<(), DriverError> {
        let args = [dx.into(), dwpe.into(), (sequences as i32).into(), (t as i32).into(), (c as i32).into()];
        let blocks = (t as u32, c.div_ceil(128) as u32, 1);
        stream.launch(&self.embed_backward_positions, grid(blocks, 128), &args)
    }

    /// `x += y`, f32.
    pub(crate) fn add(&self, stream: &Stream, x: Span, y: Span) -> Result<(), DriverError> {
        assert_eq!(x.bytes, y.bytes);
        let n = x.bytes / 4;
        stream.launch(&self.add, grid(line(n as usize, 256), 256), &[x.into(), y.into(), n.into()])
    }

    /// The operands' copy of `n` f32; nothing to do in f32.
    pub(crate) fn cast(&self, stream: &Stream, x: Span, y: Span) -> Result<(), DriverError> {
        let Some(cast) = &self.cast else { return Ok(()) };
        let n = x.bytes / 4;
        stream.launch(cast, grid(line(n as usize, 256), 256), &[x.into(), y.into(), n.into()])
    }

    /// |g|² in `parts`, then the norm, the factor of the step, and whether all is finite, in `result`.
    pub(crate) fn norm(
        &self,
        stream: &Stream,
        (g, n): (Span, usize),
        parts: Span,
        (inverse_scale, clip): (f64, f64),
        result: Span,
    ) -> Result<(), DriverError> {
        let count = n.div_ceil(SQUARES);
        let args = [g.into(), parts.into(), (n as u64).into()];
        stream.launch(&self.squares, grid(line(n, SQUARES), 256), &args)?;
        let args = [parts.into(), (count as i32).into(), inverse_scale.into(), clip.into(), result.into()];
        stream.launch(&self.norm, grid((1, 1, 1), 256), &args)
    }

    /// One step of AdamW on all update blocks.
    pub(crate) fn adamw(&self, stream: &Stream, args: &AdamWArgs, blocks: usize) -> Result<(), DriverError> {
        stream.launch(&self.adamw, grid((blocks as u32, 1, 1), 256), &[Arg::Bytes(bytes_of(args))])
    }
}
