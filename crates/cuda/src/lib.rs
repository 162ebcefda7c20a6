//! The GPT-2 of `isoflop_nn` on NVIDIA's cards: our own kernels, and the driver found at run time.
//!
//! - [`driver`]: the driver's library and what it hands out, with every call's answer.
//! - [`device`]: cards as a [`isoflop_nn::Device`], and cards that are planned for without being here.
//! - [`gpt::CudaGpt`]: the engine, over one arena of memory laid out by `sizes`, in the passes of a `replica` on each
//!   card; `exchange` joins the gradients of several.
//! - [`fewshot`]: networks of images, batch norm over all cards, behind the engine of `isoflop_nn::conv`.
//! - [`mod@bench`]: single kernels timed.
//! - `kernels`, `abi`: how each kernel is put on a stream; `kernels/abi.h` is the other side.
//! - `scaler`: dynamic loss scaling for fp16.

mod abi;
pub mod bench;
pub mod device;
pub mod driver;
mod exchange;
pub mod fewshot;
pub mod gpt;
mod images;
mod kernels;
mod replica;
mod scaler;
mod sizes;

pub use bench::Bench;
pub use device::{AbsentCards, CardError, Cuda, RESERVED, cards_of, kernels_of, largest_micro_batch};
pub use driver::{Card, Driver, DriverError};
pub use gpt::CudaGpt;
