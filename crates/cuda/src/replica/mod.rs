//! One card's copy of the model: its memory, its queue, and the passes over a share of a batch. Nothing here waits for
//! the card but what says so.
//!
//! Letters: M rows of the share (B sequences of T positions), C channels, F inner width, V vocabulary; E the operands'
//! type. The passes are those of `kernels/abi.h`.

mod backward;
mod forward;
mod head;

use crate::abi::{AdamWArgs, AttentionArgs, DECAYS, EIGHT_BIT, StepNorm, UpdateBlock};
use crate::driver::{Context, DeviceMemory, Driver, DriverError, Pinned, Span, Stream};
use crate::kernels::Kernels;
use crate::sizes::{Buffer, Kept, Sizes, UPDATE, operand_bytes};
use isoflop_base::TokenBatch;
use isoflop_kernels::adamw8bit::BLOCK;
use isoflop_kernels::dynamic_map;
use isoflop_nn::gpt::moments::Place;
use isoflop_nn::{AdamWConfig, Precision};
use std::ops::Range;
use std::rc::Rc;

/// Micro-batches whose tokens and losses are on their way at once: the host prepares one while the card computes the
/// one before.
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
            ..AdamWArgs::rates(lr, (beta1, beta2), eps, weight_decay, t)
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

/// The rows in the order of their tokens, those of one token in their own; then where each token's rows start, and
/// which token it is. Returns how many there are.
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
