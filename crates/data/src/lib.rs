//! Text and token files in, batches of token ids out.
//!
//! A [`Corpus`] is two streams of tokens, one to train on and one held out. Which tokens a step reads is a pure
//! function of (source, seed, position): there is no state to save, and a resumed run reads what an uninterrupted one
//! would have.
//!
//! | module | what it holds |
//! |---|---|
//! | [`corpus`] | [`builtin()`], [`from_text`], [`from_bin`], what a corpus is |
//! | [`split`] | hashed 32 kB blocks: which bytes of a text are held out |
//! | [`bin`] | token files, memory-mapped, with an optional JSON sidecar |
//! | [`dialect`] | how a file's tokens are stored: raw, NumPy, llm.c, Megatron, and what is no token file |
//! | [`mix`] | rows of several sources, exact in their shares after every row |
//! | [`junk`] | text that teaches nothing, made from a seed as it is read |
//! | [`documents`] | texts out of JSON Lines, Parquet, CSV and plain files, packed or not, as a stream |
//! | [`prepared`] | a directory of token shards as one corpus |
//! | [`boundaries`] | where documents end, and the windows that lie inside of them |
//! | [`sampler`] | which window of the training stream each row of each step reads |
//! | [`eval`] | the windows of an evaluation, and the block each belongs to |
//! | [`tokenizer`] | how text became tokens; bytes as tokens |
//! | [`tokenize`] | text to ids and back: GPT-2's BPE, other people's vocabularies, training one |
//! | [`parquet`] | Parquet tables of flat columns, read and written |
//! | [`images`] | pictures in class folders or lists, decoded and resized into one memory-mapped array |
//! | [`episodes`] | which classes and pictures an episode of few-shot learning is made of |
//!
//! Letters: `T` the model's context; a row is `T + 1` tokens, of which the first `T` are read and the last `T`
//! predicted.

pub mod bin;
pub mod boundaries;
pub mod corpus;
pub mod dialect;
pub mod documents;
pub mod episodes;
mod error;
pub mod eval;
mod fingerprint;
pub mod images;
pub mod junk;
mod map;
pub mod mix;
pub mod parquet;
pub mod prepared;
pub mod sampler;
pub mod split;
pub mod tokenize;
pub mod tokenizer;
mod tokens;
mod unpack;

pub use bin::{BinFile, BinOptions, Scan};
pub use boundaries::{Boundaries, Separated};
pub use corpus::{
    BUILTIN, Corpus, CorpusInfo, CorpusSource, builtin, builtin_named, from_bin, from_prepared, from_text,
};
pub use dialect::TokenDtype;
pub use error::DataError;
pub use eval::{EvalBatch, Window, eval_batches, eval_windows};
pub use mix::Mixture;
pub use sampler::Sampler;
pub use tokenizer::TokenizerKind;
pub use tokens::{ByteTokens, Tokens, read_checked, read_rows};
pub use unpack::unpacked;
