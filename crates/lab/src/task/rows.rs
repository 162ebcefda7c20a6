//! The rows a run is trained on: windows of one text, or of several.

use super::Seen;
use crate::error::UserError;
use isoflop_base::mix::SourceSeen;
use isoflop_base::study::RunSpec;
use isoflop_data::{Corpus, Mixture, Sampler};
use isoflop_nn::TokenBatch;
use std::ops::Range;
use std::sync::Arc;

/// A pure function from a row's number to its tokens.
#[derive(Clone)]
pub struct Rows {
    corpus: Arc<Corpus>,
    order: Order,
    context: u64,
    /// Rows of an optimiser step.
    sequences: u64,
}

#[derive(Clone)]
enum Order {
    One(Sampler),
    /// With the source that a point's loss is about.
    Several(Mixture, usize),
}

impl Rows {
    /// The rows of a run.
    ///
    /// # Errors
    /// A [`UserError`] where a text is too short for the context, or a mix cannot be made.
    pub fn new(spec: &RunSpec, corpus: &Arc<Corpus>) -> Result<Self, UserError> {
        let context = spec.gpt().context;
        let sequences = spec.train.batch_tokens / context as u64;
        let order = match &spec.data.mix {
            None => Sampler::over(&*corpus.train, context, spec.seed, None).map(Order::One),
            Some(mix) => {
                // A step is read ahead, also of the last one.
                let rows = (spec.end() + spec.train.branch.map_or(1, |branch| branch.batches)) * sequences;
                Mixture::new(corpus, mix, spec.seed, context, sequences, rows)
                    .map(|mixture| Order::Several(mixture, mix.held_out[0]))
            }
        };
        let order = order.map_err(UserError::from_error)?;
        Ok(Self { corpus: Arc::clone(corpus), order, context: context as u64, sequences })
    }

    /// The micro-batches of an optimiser step that takes these batches, in the memory of those of another.
    ///
    /// # Errors
    /// An id beyond the vocabulary, or a file that shrank.
    pub fn fill(&self, of: Range<u64>, micro: usize, batches: &mut Vec<TokenBatch>) -> anyhow::Result<()> {
        let count = ((of.end - of.start) * self.sequences) as usize / micro;
        batches.resize_with(count, || TokenBatch::zeroed(micro, self.context as usize));
        let firsts = (of.start * self.sequences..).step_by(micro);
        for (batch, first) in batches.iter_mut().zip(firsts) {
            match &self.order {
                Order::One(sampler) => sampler.fill(&*self.corpus.train, first, batch),
                Order::Several(mixture, _) => mixture.fill(first, batch),
            }
            .map_err(UserError::from_error)?;
        }
        Ok(())
    }

    /// What was seen of each of several texts.
    pub fn sources(&self, steps: u64) -> Vec<SourceSeen> {
        match &self.order {
            Order::One(_) => Vec::new(),
            Order::Several(mixture, _) => mixture.seen(steps * self.sequences),
        }
    }

    /// What was seen in all.
    pub fn seen(&self, steps: u64, flops_per_token: f64) -> Seen {
        let rows = steps * self.sequences;
        let (epochs, unique) = match &self.order {
            Order::One(sampler) => (sampler.epochs(rows), sampler.unique_tokens(rows)),
            Order::Several(mixture, scored) => {
                let sources = mixture.seen(rows);
                (sources[*scored].epochs, sources.iter().map(|s| s.unique_tokens).sum())
            }
        };
        let samples = rows * self.context;
        Seen { samples, flops: samples as f64 * flops_per_token, epochs, unique }
    }
}
