//! What the calls of the engine put on the cards: shares of a batch, the exchange of gradients, norm and update.

use super::{CudaGpt, Sent};
use crate::driver::{DriverError, Span};
use crate::replica::{NormOf, Replica, SLOTS};
use isoflop_base::TokenBatch;
use isoflop_nn::engine::{Buffer as GroupBuffer, EngineError, Group, SequenceLoss};

impl CudaGpt {
    /// Takes the losses of a slot into the step's sums, once they are here.
    pub(super) fn collect(&mut self, slot: usize) -> Result<(), DriverError> {
        if let Some(sent) = self.sent[slot].take() {
            let mut sum = 0.0;
            each_loss(self.replicas.get_mut(), &sent, slot, &mut |loss| sum += loss.sum)?;
            self.sums.loss += sum;
        }
        Ok(())
    }

    pub(super) fn collect_all(&mut self) -> Result<(), DriverError> {
        for offset in 0..SLOTS {
            // The older first: sums are made in the order of the micro-batches.
            self.collect((self.micro_batches + offset) % SLOTS)?;
        }
        Ok(())
    }

    pub(super) fn accumulate_on_cards(&mut self, batch: &TokenBatch, scale: f32) -> Result<(), DriverError> {
        let (tokens, first) = (batch.predicted(), self.sums.tokens == 0);
        let slot = self.micro_batches % SLOTS;
        self.collect(slot)?;
        let shares = self.shares(batch.sequences());
        let (cards, equal) = (shares.len(), shares.iter().all(|s| s.len() == shares[0].len()));
        let noise = first && equal && self.estimates_noise() && (scale < 1.0 || cards > 1);
        // Micro-batches are of equal weight: the last one's share completes the whole.
        let last = (self.micro_batches + 1) as f32 * scale > 1.0 - 0.5 * scale;
        let loss_scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let per_token = scale * loss_scale / tokens as f32;
        let layers = self.sizes.layout.blocks.len();
        let replicas = self.replicas.get_mut();
        for (index, (replica, share)) in replicas.iter_mut().zip(&shares).enumerate() {
            replica.set_batch(batch, share.clone(), slot)?;
            // A gradient that was joined is every card's already; it stays on the first and is added to there.
            let again = self.joined && index > 0;
            if first || again {
                replica.clear_gradients()?;
            }
            replica.forward()?;
            replica.head(Some((per_token, !first && !again)))?;
            replica.send_losses(slot)?;
        }
        let add = |index: usize| !(first || self.joined && index > 0);
        let mut overlapped = self.exchange.as_mut().filter(|_| last && !noise);
        let mut next = 0;
        for layer in (0..layers).rev() {
            for (index, replica) in replicas.iter().enumerate() {
                replica.block_backward(layer, add(index))?;
            }
            if let Some(exchange) = &mut overlapped {
                let ready = self.sizes.layout.tensors[self.sizes.layout.blocks[layer].ln1_w].offset;
                while next < exchange.buckets() && exchange.start(next) >= ready {
                    exchange.join(replicas, &self.sizes, next)?;
                    next += 1;
                }
            }
        }
        for replica in replicas.iter() {
            replica.embed_backward()?;
        }
        if let Some(exchange) = &mut overlapped {
            for bucket in next..exchange.buckets() {
                exchange.join(replicas, &self.sizes, bucket)?;
            }
            exchange.finish(replicas)?;
        }
        self.joined = overlapped.is_some();
        if noise {
            let inverse = cards as f64 / (f64::from(scale) * f64::from(loss_scale));
            for replica in replicas.iter() {
                replica.norm(NormOf::SmallBatch, inverse, 0.0)?;
            }
            self.small_waits = true;
            self.sums.small_tokens = tokens / cards as u64;
        }
        self.sent[slot] = Some(Sent { shares, length: batch.length() });
        self.micro_batches += 1;
        self.sums.tokens += tokens;
        Ok(())
    }

    /// The gradients of all cards are the joined one.
    pub(super) fn join_cards(&mut self) -> Result<(), DriverError> {
        let replicas = self.replicas.get_mut();
        if let Some(exchange) = self.exchange.as_mut().filter(|_| !self.joined && self.sums.tokens > 0) {
            for bucket in 0..exchange.buckets() {
                exchange.join(replicas, &self.sizes, bucket)?;
            }
            exchange.finish(replicas)?;
            self.joined = true;
        }
        Ok(())
    }

    /// The mean over cards of the small batch's |g|², which waits for them.
    pub(super) fn collect_small(&mut self) -> Result<(), DriverError> {
        if !std::mem::take(&mut self.small_waits) {
            return Ok(());
        }
        let replicas = self.replicas.get_mut();
        let mut sum = 0.0;
        for replica in replicas.iter_mut() {
            replica.send_norms()?;
            sum += replica.norm_sent(NormOf::SmallBatch)?.squares;
        }
        self.sums.small_squared = Some(sum / replicas.len() as f64);
        Ok(())
    }

    /// The gradient of other processes joined with this one's, by way of the host.
    pub(super) fn join_group(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        let span = |replica: &Replica| -> Span { replica.at(self.sizes.gradients) };
        let mut gradient = vec![0f32; self.sizes.layout.len];
        let mut read = || {
            let replica = &self.replicas.borrow()[0];
            replica.stream.download(span(replica), bytemuck::cast_slice_mut(&mut gradient))
        };
        let result = read();
        self.note(result, false)?;
        self.sums.join(GroupBuffer::Host(&mut gradient), group)?;
        let write = || {
            for replica in self.replicas.borrow().iter() {
                replica.stream.upload(replica.at(self.sizes.gradients), bytemuck::cast_slice(&gradient))?;
            }
            Ok(())
        };
        let result = write();
        self.note(result, false)
    }

    /// |g|² of the whole gradient on the first card, without the loss scale; waits for it.
    pub(super) fn squares_now(&mut self) -> Result<f64, DriverError> {
        let inverse = 1.0 / f64::from(self.scaler.map_or(1.0, |scaler| scaler.scale()));
        let replica = &mut self.replicas.get_mut()[0];
        replica.norm(NormOf::SmallBatch, inverse, 0.0)?;
        replica.send_norms()?;
        Ok(replica.norm_sent(NormOf::SmallBatch)?.squares)
    }

    /// The norm and the update on every card; the squared norm, and whether it was finite.
    pub(super) fn update_on_cards(&mut self, lr: f32) -> Result<(f64, bool), DriverError> {
        let inverse = 1.0 / f64::from(self.scaler.map_or(1.0, |scaler| scaler.scale()));
        let (clip, t) = (self.options.adamw.clip, self.step + 1);
        let replicas = self.replicas.get_mut();
        for replica in replicas.iter_mut() {
            replica.norm(NormOf::Step, inverse, clip)?;
            // Does nothing where the norm is not finite.
            replica.adamw(lr, t)?;
            replica.send_norms()?;
        }
        let mut first = None;
        for replica in replicas.iter_mut() {
            let norm = replica.norm_sent(NormOf::Step)?;
            first.get_or_insert((norm.squares, norm.finite != 0));
        }
        Ok(first.expect("an engine has a card"))
    }

    pub(super) fn clear_all_gradients(&mut self) -> Result<(), DriverError> {
        for replica in self.replicas.get_mut().iter() {
            replica.stream.clear(replica.at(self.sizes.gradients))?;
        }
        Ok(())
    }

    pub(super) fn evaluate_on_cards(
        &mut self,
        batch: &TokenBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), DriverError> {
        // A slot whose losses have been taken.
        let slot = self.micro_batches % SLOTS;
        self.collect(slot)?;
        let sent = Sent { shares: self.shares(batch.sequences()), length: batch.length() };
        let replicas = self.replicas.get_mut();
        for (replica, share) in replicas.iter_mut().zip(&sent.shares) {
            replica.set_batch(batch, share.clone(), slot)?;
            replica.forward()?;
            replica.head(None)?;
            replica.send_losses(slot)?;
        }
        each_loss(replicas, &sent, slot, each)
    }
}

/// Losses of the sequences of a batch, in order, once they are here.
fn each_loss(
    replicas: &mut [Replica],
    sent: &Sent,
    slot: usize,
    each: &mut dyn FnMut(SequenceLoss),
) -> Result<(), DriverError> {
    for (replica, share) in replicas.iter_mut().zip(&sent.shares) {
        if share.is_empty() {
            continue;
        }
        let losses = replica.losses(slot)?;
        for (row, index) in losses.chunks_exact(sent.length).zip(share.clone()) {
            let sum = row.iter().map(|&loss| f64::from(loss)).sum();
            each(SequenceLoss { index, sum, tokens: sent.length as u64 });
        }
    }
    Ok(())
}
