//! Rows of several sources in one run.
//!
//! Which source a row is of is [`Assignment`]'s to say: exact after every row, whatever the seed. Which window of its
//! source it is, is counted over that source's rows alone, under the run's seed: a run reads the rows of a source that
//! it would read if the others were not there, in that order.

mod assign;
#[cfg(test)]
mod tests;

use crate::corpus::{Corpus, CorpusSource};
use crate::junk::{Junk, Passages};
use crate::sampler::{Sampler, mix};
use crate::{DataError, Tokens, read_checked};
pub use assign::{Assignment, MOST_SOURCES, Stage};
use isoflop_base::mix::{MixSpec, Origin, SourceSeen, SourceSpec};
use isoflop_base::{JunkKind, TokenBatch};
use std::sync::Arc;

/// The rows of a run that has a mix: a pure function of (sources, seed, row).
#[derive(Clone)]
pub struct Mixture {
    sources: Vec<Source>,
    assignment: Arc<Assignment>,
    context: usize,
}

/// A source as a run reads it.
#[derive(Clone)]
struct Source {
    name: String,
    tokens: Arc<dyn Tokens>,
    order: Order,
    tag: Vec<u32>,
}

/// In which order the windows of a source are read.
#[derive(Clone)]
enum Order {
    /// Permuted anew in each pass.
    Shuffled(Sampler),
    /// As they come, from a stream without an end that is made of one of so many tokens, or of nothing.
    Endless { material: Option<u64> },
}

/// A mix's stages in rows, with `sequences` rows to an optimiser step.
pub fn stages(spec: &MixSpec, sequences: u64) -> Vec<Stage> {
    let stage = |s: &isoflop_base::mix::StageSpec| Stage {
        from_row: s.from_step * sequences,
        weights: s.weights.clone(),
    };
    spec.stages.iter().map(stage).collect()
}

impl Mixture {
    /// The first `rows` rows of `context + 1` tokens, `sequences` to an optimiser step.
    ///
    /// # Errors
    /// A source that is too short for the context or for its passages, a tag that fills a row, junk that needs a
    /// tokeniser which is not known, weights that cannot be exact.
    ///
    /// # Panics
    /// If the spec names sources that the corpus has not.
    pub fn new(
        corpus: &Corpus,
        spec: &MixSpec,
        seed: u64,
        context: usize,
        sequences: u64,
        rows: u64,
    ) -> Result<Self, DataError> {
        let source = |source: &SourceSpec| Source::new(corpus, spec, source, seed, context);
        Ok(Self {
            sources: spec.sources.iter().map(source).collect::<Result<_, _>>()?,
            assignment: Arc::new(Assignment::new(&stages(spec, sequences), rows)?),
            context,
        })
    }

    /// Rows `first .. first + B` into a batch of B rows of T positions.
    ///
    /// # Errors
    /// An id beyond the vocabulary, or a file that shrank.
    ///
    /// # Panics
    /// Beyond the rows it was made for, or if the batch's rows have another length than the context.
    pub fn fill(&self, first: u64, batch: &mut TokenBatch) -> Result<(), DataError> {
        assert_eq!(batch.length(), self.context, "rows as long as the context");
        for source in &self.sources {
            source.tokens.check_source()?;
        }
        let mut counts = self.assignment.counts(first);
        for row in first..first + batch.sequences() as u64 {
            let source = self.assignment.source(row);
            self.sources[source].will_read(counts[source], batch.length() + 1);
            counts[source] += 1;
        }
        let mut counts = self.assignment.counts(first);
        batch.fill(|index, row| {
            let source = self.assignment.source(first + index as u64);
            self.sources[source].read(counts[source], row);
            counts[source] += 1;
            Ok(())
        })?;
        if (batch.largest() as usize) < self.sources[0].tokens.vocab() {
            return Ok(());
        }
        // Again, to say where.
        let mut counts = self.assignment.counts(first);
        batch.fill(|index, row| {
            let source = self.assignment.source(first + index as u64);
            let number = counts[source];
            counts[source] += 1;
            self.sources[source].read_checked(number, row)
        })
    }

    /// What the first `rows` rows have of each source, in the order of the sources.
    pub fn seen(&self, rows: u64) -> Vec<SourceSeen> {
        let counts = self.assignment.counts(rows);
        self.sources.iter().zip(counts).map(|(source, rows)| source.seen(rows, self.context)).collect()
    }
}

impl Source {
    fn new(
        corpus: &Corpus,
        spec: &MixSpec,
        source: &SourceSpec,
        seed: u64,
        context: usize,
    ) -> Result<Self, DataError> {
        let tag = source.tag.clone();
        if tag.len() >= context {
            return Err(DataError::Setting {
                what: format!("the tag of {} fills a row: {} tokens of {context}", source.name, tag.len()),
                hint: "choose a shorter tag or a longer context".to_owned(),
            });
        }
        let content = context - tag.len();
        let text = |index: usize| -> &CorpusSource {
            let name = &spec.sources[index].name;
            corpus.sources.iter().find(|s| s.name == *name).expect("a source the study has opened")
        };
        let shuffled = |tokens: Arc<dyn Tokens>, seed| -> Result<(Arc<dyn Tokens>, Order), DataError> {
            let sampler = Sampler::over(&*tokens, content, seed, source.unique_tokens);
            let sampler = sampler.map_err(|e| named(e, tokens.name()))?;
            Ok((tokens, Order::Shuffled(sampler)))
        };
        let (tokens, order) = match &source.origin {
            Origin::Tokens { .. } => {
                let index = spec.sources.iter().position(|s| s.name == source.name).expect("one of them");
                shuffled(Arc::clone(&text(index).train), seed)?
            }
            Origin::Junk { kind, of, seed: own, passages } => {
                let seed = mix(seed ^ mix(own.wrapping_add(0x6a75_6e6b)));
                let material = of.map(|of| Arc::clone(&text(of).train));
                match (kind, passages, material) {
                    (JunkKind::Repeated, Some(passages), Some(material)) => {
                        let passages = Passages::new(material, passages.tokens, passages.count, seed)?;
                        shuffled(Arc::new(passages), seed)?
                    }
                    (kind, _, material) => {
                        let info = &corpus.info;
                        let junk = Junk::new(*kind, material, &info.tokenizer, info.vocab, seed)?;
                        let material = junk.material_tokens();
                        (Arc::new(junk) as Arc<dyn Tokens>, Order::Endless { material })
                    }
                }
            }
        };
        Ok(Self { name: source.name.clone(), tokens, order, tag })
    }

    /// First token of the source's row `number`, of so many tokens without its tag.
    fn start(&self, number: u64, content: usize) -> u64 {
        match &self.order {
            Order::Shuffled(sampler) => sampler.row_start(number),
            Order::Endless { .. } => number * (content as u64 - 1),
        }
    }

    fn will_read(&self, number: u64, row: usize) {
        let content = row - self.tag.len();
        self.tokens.will_read(self.start(number, content), content);
    }

    fn read(&self, number: u64, row: &mut [u32]) {
        let (tag, content) = row.split_at_mut(self.tag.len());
        tag.copy_from_slice(&self.tag);
        self.tokens.read(self.start(number, content.len()), content);
    }

    fn read_checked(&self, number: u64, row: &mut [u32]) -> Result<(), DataError> {
        let (tag, content) = row.split_at_mut(self.tag.len());
        tag.copy_from_slice(&self.tag);
        read_checked(&*self.tokens, self.start(number, content.len()), content)
    }

    fn seen(&self, rows: u64, context: usize) -> SourceSeen {
        let content = (context - self.tag.len()) as u64;
        let (unique_tokens, epochs) = match &self.order {
            Order::Shuffled(sampler) => (sampler.unique_tokens(rows), sampler.epochs(rows)),
            Order::Endless { material } => {
                let epochs = material.map_or(0.0, |tokens| (rows * content) as f64 / tokens as f64);
                (rows * content, epochs)
            }
        };
        SourceSeen { name: self.name.clone(), tokens: rows * context as u64, unique_tokens, epochs }
    }
}

/// A sampler knows no names.
fn named(error: DataError, name: &str) -> DataError {
    match error {
        DataError::TooFewTokens { tokens, context, .. } => {
            DataError::TooFewTokens { source_name: name.to_owned(), tokens, context }
        }
        other => other,
    }
}
