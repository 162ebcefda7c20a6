//! The arithmetic of training on a CPU: products, attention, normalisation, activation, cross-entropy, optimiser
//! loops; each beside a naive twin in plain loops. Slices in, slices out: no file, no clock, no environment.
//!
//! This is the only crate that may use `unsafe`. The shape of every module is the same:
//!
//! - a `naive` submodule: plain loops over `f32` or `f64`, the oracle of every test and the page to read first;
//! - one implementation generic over [`simd::Simd`], a vector of a few `f32` lanes;
//! - safe entry points that check lengths once and choose by [`KernelSet`].
//!
//! Letters: `B` sequences, `T` positions, `C` channels, `H` heads, `S = C/H` head width, `V` vocabulary.
#![expect(unsafe_code, reason = "the one crate that may: vector intrinsics, the thread pool, aligned memory")]

pub mod activation;
pub mod adamw;
pub mod adamw8bit;
pub mod attention;
pub mod batchnorm;
pub mod bf16;
pub mod buffer;
pub mod chunks;
pub mod conv;
pub mod cross_entropy;
pub mod dynamic_map;
pub mod gelu;
pub mod layernorm;
pub mod leaky_relu;
mod lent;
pub mod math;
pub mod matmul;
pub mod peak;
pub mod pieces;
pub mod pool;
pub mod pooling;
pub mod real;
pub mod rows;
mod set;
pub mod sgd;
pub mod simd;
pub mod text;
pub mod tiles;
pub mod weight_gradient;

pub use activation::Activation;
pub use buffer::AlignedBuffer;
pub use chunks::Chunks;
pub use pieces::{Cut, Region};
pub use pool::Pool;
pub use real::Real;
pub use set::{KernelError, KernelSet};
