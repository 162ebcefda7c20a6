//! The words every room shares: measured values with their provenance, units, model shapes, run records,
//! points, batches of tokens, and the two traits through which named tensors travel. Plain data, no I/O, no other room.

pub mod batch;
pub mod bits;
pub mod columns;
pub mod devices;
pub mod episode;
pub mod fewshot;
pub mod identity;
pub mod instruments;
pub mod ledger;
pub mod measured;
pub mod mix;
pub mod nearest;
pub mod recipe;
pub mod record;
pub mod shape;
pub mod study;
pub mod tensor;
pub mod units;

pub use batch::TokenBatch;
pub use episode::EpisodeShape;
pub use identity::{RunDocument, RunIdentity};
pub use measured::Measured;
pub use mix::{JunkKind, SourceLoss, SourceSeen};
pub use recipe::{Backbone, HeadKind, Init, Optimizer, Precision, Recompute, ScheduleKind, Word};
pub use record::{BlockLoss, Cost, CurveRow, NoisePairs, Point, PointKind, Status};
pub use shape::ModelShape;
pub use study::Study;
pub use tensor::{TensorError, TensorSink, TensorSource};
