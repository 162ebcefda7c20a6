//! Single kernels timed on a card, by its own clock: products and attention of a model's shapes.

use crate::abi::{AttentionArgs, GemmArgs, epilogue};
use crate::device::Cuda;
use crate::driver::{Context, DeviceMemory, DriverError, Span, Stream};
use crate::images;
use crate::kernels::{Form, Kernels};
use crate::sizes::{operand_bytes, splits, tile};
use isoflop_nn::Precision;

/// Times a measurement is repeated; the best counts.
const ROUNDS: usize = 5;
/// Launches of one of them.
const LAUNCHES: usize = 10;

/// The kernels of a precision on the first of some cards.
#[derive(Debug)]
pub struct Bench {
    precision: Precision,
    kernels: Kernels,
    stream: Stream,
    context: Context,
}

impl Bench {
    /// Loads them, those of attention for heads of this width.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(cuda: &Cuda, precision: Precision, head_width: usize) -> Result<Self, DriverError> {
        let card = &cuda.cards()[0];
        let context = cuda.driver().context(card.number)?;
        let image = images::image(precision, card.capability);
        let kernels = Kernels::load(&context, &image, precision, head_width, head_width)?;
        Ok(Self { precision, kernels, stream: context.stream()?, context })
    }

    /// Seconds of `y[M,N] = x[M,K]·w[K,N]`, and of the weights' gradient `xᵀ[K,M]·dy[M,N]`.
    ///
    /// # Errors
    /// The driver's: no memory for the operands.
    pub fn product(&self, m: usize, n: usize, k: usize) -> Result<[f64; 2], DriverError> {
        let (x, w, dy) = (self.operand(m * k)?, self.operand(k * n)?, self.operand(m * n)?);
        let y = self.context.allocate(m as u64 * n as u64 * operand_bytes(self.precision))?;
        let (part, count) = splits(self.precision, k, n, m);
        let (dw, parts) = (self.floats(k * n)?, self.floats(if count > 1 { count * k * n } else { 1 })?);
        let sizes = |m: usize, n: usize, k: usize| GemmArgs {
            m: m as i32,
            n: n as i32,
            k: k as i32,
            ldo: n as i32,
            ldb: n as i32,
            ..GemmArgs::default()
        };
        let forward = GemmArgs {
            a: x.span().address,
            b: w.span().address,
            out_e: y.span().address,
            lda: k as i32,
            k_split: k as i32,
            epilogue: epilogue::STORE_E,
            ..sizes(m, n, k)
        };
        let backward = GemmArgs {
            a: x.span().address,
            b: dy.span().address,
            out: if count > 1 { parts.span().address } else { dw.span().address },
            lda: k as i32,
            k_split: part as i32,
            epilogue: epilogue::STORE_F32,
            ..sizes(k, n, m)
        };
        let (tiles, stream) = (|m, n| tile(self.precision, m, n), &self.stream);
        Ok([
            self.seconds(&|| self.kernels.gemm(stream, Form::Nn, tiles(m, n), 1, &forward))?,
            self.seconds(&|| {
                self.kernels.gemm(stream, Form::Tn, tiles(k, n), count, &backward)?;
                if count > 1 {
                    let from = parts.span().address;
                    self.kernels.reduce_parts(stream, from, dw.span(), (k * n, count, k * n), false)?;
                }
                Ok(())
            })?,
        ])
    }

    /// Seconds of causal attention over `sequences` of T positions with `heads` heads in C channels: forward, backward.
    ///
    /// # Errors
    /// The driver's: no memory for the operands.
    pub fn attention(
        &self,
        sequences: usize,
        t: usize,
        c: usize,
        heads: usize,
    ) -> Result<[f64; 2], DriverError> {
        let rows = sequences * t;
        let (qkv, dout) = (self.operand(rows * 3 * c)?, self.operand(rows * c)?);
        let bytes = operand_bytes(self.precision);
        let out = self.context.allocate((rows * c) as u64 * bytes)?;
        let dqkv = self.context.allocate((rows * 3 * c) as u64 * bytes)?;
        let (lse, delta) = (self.floats(rows * heads)?, self.floats(rows * heads)?);
        let width = c / heads;
        let args = AttentionArgs {
            qkv: qkv.span().address,
            out: out.span().address,
            lse: lse.span().address,
            dout: dout.span().address,
            delta: delta.span().address,
            dqkv: dqkv.span().address,
            t: t as i32,
            heads: heads as i32,
            width: width as i32,
            scale: 1.0 / (width as f32).sqrt(),
        };
        Ok([
            self.seconds(&|| self.kernels.attention_forward(&self.stream, &args, sequences))?,
            self.seconds(&|| self.kernels.attention_backward(&self.stream, &args, sequences))?,
        ])
    }

    fn floats(&self, len: usize) -> Result<DeviceMemory, DriverError> {
        self.context.allocate(4 * len as u64)
    }

    /// Values that are not zero: a multiplier's power, and so its clock, depends on them.
    fn operand(&self, len: usize) -> Result<DeviceMemory, DriverError> {
        let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
        let wide = self.floats(len)?;
        self.stream.upload(wide.span(), bytemuck::cast_slice(&values))?;
        if self.precision == Precision::F32 {
            return Ok(wide);
        }
        let operand = self.context.allocate(len as u64 * operand_bytes(self.precision))?;
        let to: Span = operand.span();
        self.kernels.cast(&self.stream, wide.span(), to)?;
        self.stream.synchronize()?;
        Ok(operand)
    }

    /// Seconds of one launch: the best of some rounds of several, by events on the card.
    fn seconds(&self, launch: &dyn Fn() -> Result<(), DriverError>) -> Result<f64, DriverError> {
        launch()?;
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = self.stream.mark_timed()?;
            for _ in 0..LAUNCHES {
                launch()?;
            }
            let end = self.stream.mark_timed()?;
            end.synchronize()?;
            best = best.min(end.seconds_since(&start)? / LAUNCHES as f64);
        }
        Ok(best)
    }
}
