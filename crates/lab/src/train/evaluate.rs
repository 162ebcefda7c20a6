//! Held-out loss, by block, as DESIGN defines it: window i reads tokens [i·T, i·T+T) and predicts the next of each.

use super::job::Job;
use crate::stop::Stop;
use isoflop_base::BlockLoss;
use isoflop_data::{Tokens, eval_batches};
use isoflop_nn::{Engine, TokenBatch};

/// Mean loss over held-out tokens with its clustered standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Nats per predicted token.
    pub loss: f64,
    /// Standard error, blocks as clusters; `None` with a single block.
    pub se: Option<f64>,
    /// Predicted tokens.
    pub tokens: u64,
    /// Sums by block.
    pub blocks: Vec<BlockLoss>,
}

/// Held-out loss of a run's model on about `limit` tokens spread over its validation split.
pub fn held_out<E: Engine<Batch = TokenBatch>>(
    job: &Job<'_>,
    engine: &mut E,
    limit: u64,
) -> anyhow::Result<HeldOut> {
    let (train, info) = (&job.study.train, &job.corpus.info);
    let windows = Windows { context: train.context, block_tokens: info.block_tokens, limit: Some(limit) };
    evaluate(engine, &*job.corpus.val, windows, train.micro_batch, job.stop)
}

/// Which windows of a stream are scored.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    pub context: usize,
    pub block_tokens: u64,
    pub limit: Option<u64>,
}

/// Scores the windows in batches of at most `sequences`; a signal ends it between two batches.
pub fn evaluate<E: Engine<Batch = TokenBatch>>(
    engine: &mut E,
    tokens: &dyn Tokens,
    windows: Windows,
    sequences: usize,
    stop: &Stop,
) -> anyhow::Result<HeldOut> {
    let Windows { context, block_tokens, limit } = windows;
    let mut blocks: Vec<BlockLoss> = Vec::new();
    let batches = eval_batches(tokens, context, block_tokens, limit, sequences)
        .map_err(crate::error::UserError::from_error)?;
    for batch in batches {
        stop.check()?;
        let batch = batch.map_err(crate::error::UserError::from_error)?;
        engine.evaluate(&batch.rows, &mut |sequence| {
            let block = batch.windows[sequence.index].block;
            match blocks.last_mut() {
                Some(last) if last.block == block => {
                    last.sum += sequence.sum;
                    last.tokens += sequence.tokens;
                }
                _ => blocks.push(BlockLoss { block, sum: sequence.sum, tokens: sequence.tokens }),
            }
        })?;
    }
    let (loss, se) = isoflop_laws::clustered_mean(&blocks)?;
    let tokens = blocks.iter().map(|b| b.tokens).sum();
    Ok(HeldOut { loss, se, tokens, blocks })
}
