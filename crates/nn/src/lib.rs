//! The model and everything about training it that is pure computation: no file, no clock; same input, same bytes.
//!
//! Start with [`reference`](mod@reference), GPT-2 forward and backward in plain loops. [`gpt::CpuGpt`] is the same
//! model walked in the order the caches like; [`engine::Engine`] is all a training loop sees of it.
//!
//! Letters: `B` sequences, `T` positions, `C` channels, `H` heads, `V` vocabulary, `L` layers.

pub mod config;
pub mod conv;
pub mod cpu;
pub mod engine;
pub mod gpt;
pub mod init;
pub mod layout;
pub mod ledger;
pub mod reference;
pub mod schedule;

pub use config::{
    Activation, AdamWConfig, EngineOptions, GptConfig, Init, Optimizer, Precision, Recompute, Variant,
};
pub use cpu::Cpu;
pub use engine::{
    Device, Engine, EngineError, Group, LanguageModel, MemoryPlan, NoisePair, Outcome, SequenceLoss,
    SingleDevice, Update,
};
pub use gpt::CpuGpt;
pub use isoflop_base::TokenBatch;
pub use isoflop_kernels::{KernelError, KernelSet};
