//! Language modelling: rows of tokens, each predicting the next.

use super::ahead::Ahead;
use super::evaluate::{Windows, evaluate};
use super::{CheckpointTexts, Score, Scoring, Seen, Task};
use crate::error::UserError;
use crate::stop::Stop;
use crate::{gpt, hf_config};
use anyhow::Context as _;
use isoflop_base::study::RunSpec;
use isoflop_base::tensor::WeightsOnly;
use isoflop_data::{Corpus, Sampler};
use isoflop_nn::{Engine, TokenBatch};
use isoflop_store::Checkpoint;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// A GPT-2 on a corpus. Generic over the engine: a device is known only through [`Engine`].
pub struct LanguageTask<E> {
    spec: RunSpec,
    corpus: Arc<Corpus>,
    sampler: Sampler,
    batches: Ahead<TokenBatch>,
    flops_per_token: f64,
    engine: PhantomData<fn() -> E>,
}

impl<E: Engine<Batch = TokenBatch>> LanguageTask<E> {
    /// What a run is trained on; its batches begin to be read.
    ///
    /// # Errors
    /// A [`UserError`] where the corpus is too short for the context.
    pub fn new(spec: &RunSpec, corpus: &Arc<Corpus>) -> anyhow::Result<Self> {
        let (context, micro) = (spec.gpt().context, spec.train.micro_batch);
        let sampler = Sampler::new(corpus.train.len(), context, spec.seed).map_err(UserError::from_error)?;
        let sequences = spec.train.batch_tokens / context as u64;
        let (reader, source) = (sampler.clone(), Arc::clone(corpus));
        let batches = Ahead::new(move |step, buffer: &mut Vec<TokenBatch>| {
            buffer.clear();
            for offset in (0..sequences).step_by(micro) {
                let rows = reader.batch(&*source.train, step * sequences + offset, micro);
                buffer.push(rows.map_err(UserError::from_error)?);
            }
            Ok(())
        })?;
        Ok(Self {
            flops_per_token: gpt::run_flops_per_token(spec),
            spec: spec.clone(),
            corpus: Arc::clone(corpus),
            sampler,
            batches,
            engine: PhantomData,
        })
    }
}

impl<E: Engine<Batch = TokenBatch>> Task for LanguageTask<E> {
    type Engine = E;

    fn micro_batches(&mut self, step: u64) -> anyhow::Result<&[TokenBatch]> {
        self.batches.get(step)
    }

    fn waited_s(&self) -> f64 {
        self.batches.waited_s()
    }

    fn score(&mut self, engine: &mut E, which: Scoring, stop: &Stop) -> anyhow::Result<Score> {
        let train = &self.spec.train;
        let limit = match which {
            Scoring::Curve => train.curve_tokens,
            Scoring::Point => train.eval_tokens,
        };
        let windows = Windows {
            context: self.spec.gpt().context,
            block_tokens: self.corpus.info.block_tokens,
            limit: Some(limit),
        };
        evaluate(engine, &*self.corpus.val, windows, train.micro_batch, stop)
    }

    fn seen(&self, steps: u64) -> Seen {
        let tokens = self.spec.tokens_at(steps);
        let rows = tokens / self.spec.gpt().context as u64;
        Seen {
            samples: tokens,
            flops: tokens as f64 * self.flops_per_token,
            epochs: self.sampler.epochs(rows),
            unique: self.sampler.unique_tokens(rows),
        }
    }

    fn texts(&self) -> CheckpointTexts {
        CheckpointTexts {
            config: hf_config::config_json(&gpt::config(self.spec.gpt())),
            others: self.corpus.tokenizer_json().map(|text| ("tokenizer.json", text)).into_iter().collect(),
        }
    }

    fn begin(&self, engine: &mut E) -> anyhow::Result<()> {
        match &self.spec.train.init_from {
            Some(from) => start_from(&self.spec, engine, &from.path),
            None => Ok(()),
        }
    }
}

/// Weights of any GPT-2 directory as initial values; its optimiser's state, if any, is left behind.
fn start_from<E: Engine>(spec: &RunSpec, engine: &mut E, dir: &Path) -> anyhow::Result<()> {
    let mut checkpoint = Checkpoint::open_dir(dir).map_err(UserError::from_error)?;
    hf_config::check_matches(&mut checkpoint, &gpt::config(spec.gpt()))?;
    engine
        .load(&mut WeightsOnly(&mut checkpoint))
        .with_context(|| format!("train.init_from: loading {}", dir.display()))
}
