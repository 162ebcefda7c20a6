//! The store: run directories, metric logs, checkpoints, the index.
//!
//! ```text
//! runs/                         Store
//!   index.sqlite                a cache, rebuildable at any time
//!   L4-d128-h4-s1/              Run
//!     spec.json                 the resolved specification, never changed
//!     status.json               running | done | diverged | failed, and what training cost so far
//!     lock                      held by the process that writes; the system releases it when that dies
//!     metrics.jsonl             curve rows, a checksum each
//!     points.jsonl              finished points, a checksum each
//!     checkpoints/<label>/      a Hugging Face GPT-2 directory; MANIFEST.json, written last, makes it visible
//!     attempts/<n>/             what an interrupted attempt logged beyond the checkpoint that was resumed
//!     machine.jsonl             power, temperature, load from time to time; alarms.jsonl what looked wrong;
//!     environment.jsonl         what each process that worked on it was: no resume cuts these back
//!     events/                   TensorBoard event files, derived from the curve rows
//! ```
//!
//! This is the only crate that creates, renames or deletes files, in one module.
//!
//! **Position.** A run is a linear program: trunk and branches in the order in which they are executed. `position`
//! counts what was done in it (optimiser steps, and each record written), so it only grows, and it is written with
//! every record and checkpoint. Append what belongs to a position *before* the checkpoint of that position;
//! [`Run::resume`] then keeps exactly the records up to the checkpoint that is resumed.

mod checkpoint;
mod collected;
mod error;
mod events;
mod export;
mod files;
mod folder;
mod index;
mod log;
mod names;
mod run;
mod safetensors;
mod side;
mod spec;
mod store;
mod tail;

pub use checkpoint::{Checkpoint, CheckpointInfo, CheckpointWriter, Checkpoints, Damaged};
pub use collected::{Collected, CollectedRun};
pub use error::{FolderHeld, LockHolder, StoreError};
pub use export::{csv, json, json_lines, latex, markdown};
pub use folder::{Growing, JOB_LOCK, JobFolder};
pub use run::{CutBack, Health, Resumed, Run, RunView};
pub use side::{SideLog, SideLogs};
pub use spec::{Difference, differences};
pub use store::{Listing, RunSummary, Store, StudyLock, disk_bytes_per_s, write_artifact, write_streamed};
pub use tail::{Grown, Tail};
