//! Held-out loss, by block, as DESIGN defines it: window i reads tokens [i·T, i·T+T) and predicts the next of each.

use super::Score;
use crate::stop::Stop;
use isoflop_base::BlockLoss;
use isoflop_data::{Tokens, eval_batches};
use isoflop_nn::{Engine, TokenBatch};

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
) -> anyhow::Result<Score> {
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
    let samples = blocks.iter().map(|b| b.tokens).sum();
    Ok(Score { loss, se, samples, blocks })
}
