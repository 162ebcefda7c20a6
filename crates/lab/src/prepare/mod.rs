//! From anybody's text to token shards: what `isoflop prepare` does.
//!
//! ```text
//! sources ──schedule──▶ batches ──work, on every thread──▶ documents as ids ──one by one, in order──▶ shards
//!           (data::documents)      (text, digest, encode)        │  seen: removed as a copy?
//!                                                                └─ held out? by digest: train or val
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | what was asked for, resolved; what of it determines the bytes |
//! | [`pipeline`] | the whole way, from the first source to the last shard |
//! | [`schedule`] | which thread reads which source next, in bounded memory |
//! | [`work`] | a batch of records becomes documents: their ids, and what identifies them |
//! | [`seen`] | documents seen before, exactly or nearly |
//! | [`shards`] | the two streams of tokens, cut into files |
//! | [`progress`] | how far it is: written so that a killed process can be gone on with |
//! | [`summary`] | `prepared.json` and the JSON beside each shard |
//!
//! The order of documents is that of the sources, whoever encodes them, so that the bytes are the same for any number
//! of threads. A kill at any time loses at most what came after the last checkpoint; the same command goes on there.

pub mod pipeline;
pub mod progress;
pub mod schedule;
pub mod seen;
pub mod settings;
pub mod shards;
pub mod summary;
pub mod work;

pub use pipeline::{Prepared, Status, prepare};
pub use settings::{Dedup, Settings};
