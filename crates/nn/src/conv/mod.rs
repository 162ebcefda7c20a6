//! Convolutional networks for few-shot learning: a backbone that makes features of images, and heads that make
//! predictions of the features of an episode.
//!
//! ```text
//!   images [B,H,W,C] ── ConvNet ──▶ features [B,d] ── Head ──▶ loss, accuracy
//!                     ◀── backward ── d features ◀──────────┘
//! ```
//!
//! Start with [`reference`](mod@reference), a network forward and backward in plain loops, and [`heads`], which are
//! written once over the number type and over what multiplies matrices. [`net::ConvNet`] is the same network on the
//! kernels, whole batches at a time, with the same bits for any number of threads. [`engine`] trains it with what
//! stands behind it, on the processor or on graphics cards: a [`Backbone`].
//!
//! Letters: `B` images, `P` pixels of one, `I` and `O` channels in and out, `d` features; `N` classes of an episode
//! (ways), `K` support and `Q` query images of each.

pub mod backbone;
pub mod config;
pub mod engine;
pub mod heads;
pub mod learner;
pub mod net;
pub mod optimizer;
pub mod parameters;
pub mod reference;

pub use backbone::{Backbone, Kept};
pub use config::{Architecture, BlockConfig, ConvConfig, Features};
pub use engine::{FewShotConfig, FewShotEngine, ImageBatch};
pub use heads::{Head, HeadConfig, HeadKind};
pub use learner::{LearnerConfig, Targets};
pub use net::{ConvNet, ConvOptions, Norm};
pub use optimizer::{OptimizerConfig, OptimizerState};

/// Why a network could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ConvError {
    /// An impossible setting.
    #[error("{what}\nhint: {hint}")]
    Setting {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The batch does not fit the network.
    #[error("{found} elements are no batch of 1 to {most} images of {each} elements")]
    Batch {
        /// Elements given.
        found: usize,
        /// Images the network was built for.
        most: usize,
        /// Elements of an image.
        each: usize,
    },
    /// A gradient is infinite or not a number. Nothing was changed.
    #[error("{what} is not finite")]
    NonFinite {
        /// Loss or gradient norm.
        what: &'static str,
    },
    /// Kernels that cannot run here.
    #[error(transparent)]
    Kernel(#[from] isoflop_kernels::KernelError),
    /// Threads could not be started.
    #[error("threads could not be started: {0}")]
    Threads(std::io::Error),
}

/// What an engine says of it.
fn told(error: ConvError) -> crate::EngineError {
    match error {
        ConvError::NonFinite { what } => crate::EngineError::NonFinite { what },
        other => crate::EngineError::Device(other.to_string()),
    }
}
