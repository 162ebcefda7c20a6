//! Language modelling: rows of tokens, each predicting the next.

use super::ahead::Ahead;
use super::evaluate::{Windows, evaluate};
use super::rows::Rows;
use super::{CheckpointTexts, Score, Scoring, Seen, Task};
use crate::error::UserError;
use crate::stop::Stop;
use crate::{gpt, hf_config};
use anyhow::Context as _;
use isoflop_base::study::RunSpec;
use isoflop_base::tensor::WeightsOnly;
use isoflop_base::{SourceLoss, SourceSeen};
use isoflop_data::Corpus;
use isoflop_nn::{Engine, TokenBatch};
use isoflop_store::Checkpoint;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A GPT-2 on a corpus. Generic over the engine: a device is known only through [`Engine`].
pub struct LanguageTask<E> {
    spec: RunSpec,
    corpus: Arc<Corpus>,
    rows: Rows,
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
        let (rows, micro) = (Rows::new(spec, corpus)?, spec.train.micro_batch);
        let reader = rows.clone();
        let batches =
            Ahead::new(move |batches, buffer: &mut Vec<TokenBatch>| reader.fill(batches, micro, buffer))?;
        Ok(Self {
            flops_per_token: gpt::run_flops_per_token(spec),
            spec: spec.clone(),
            corpus: Arc::clone(corpus),
            rows,
            batches,
            engine: PhantomData,
        })
    }
}

impl<E> LanguageTask<E> {
    fn windows(&self, block_tokens: u64, limit: u64) -> Windows {
        Windows { context: self.spec.gpt().context, block_tokens, limit: Some(limit) }
    }
}

impl<E: Engine<Batch = TokenBatch>> Task for LanguageTask<E> {
    type Engine = E;

    fn micro_batches(&mut self, batches: Range<u64>) -> anyhow::Result<&[TokenBatch]> {
        self.batches.get(batches)
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
        let windows = self.windows(self.corpus.info.block_tokens, limit);
        evaluate(engine, &*self.corpus.val, windows, train.micro_batch, stop)
    }

    fn score_others(&mut self, engine: &mut E, stop: &Stop) -> anyhow::Result<Vec<SourceLoss>> {
        let (train, Some(mix)) = (&self.spec.train, &self.spec.data.mix) else { return Ok(Vec::new()) };
        let mut losses = Vec::new();
        for index in &mix.held_out[1..] {
            let name = &mix.sources[*index].name;
            let source = self.corpus.sources.iter().find(|s| s.name == *name);
            let Some((source, val)) = source.and_then(|s| Some((s, s.val.as_ref()?))) else { continue };
            let windows = self.windows(source.info.block_tokens, train.eval_tokens);
            let score = evaluate(engine, &**val, windows, train.micro_batch, stop)?;
            losses.push(SourceLoss {
                name: name.clone(),
                loss: score.loss,
                loss_se: score.se,
                tokens: score.samples,
            });
        }
        Ok(losses)
    }

    fn seen(&self, steps: u64) -> Seen {
        self.rows.seen(steps, self.flops_per_token)
    }

    fn sources(&self, steps: u64) -> Vec<SourceSeen> {
        self.rows.sources(steps)
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
