//! What the machine says of itself: energy, temperature, load, memory, cores.
//!
//! Every reading is [`Measured`](isoflop_base::Measured): read from an instrument, estimated with the name of the
//! model, or missing with the reason. Nothing is silently zero, and no reading can fail a run: what cannot be read is
//! missing.
//!
//! Readings come from `/proc` and `/sys` below a root, so that tests give them a tree of their own ([`System::at`]).
//! On systems without those trees everything that needs them is missing.
//!
//! | module | instrument |
//! |---|---|
//! | [`energy`] | RAPL counters of the processor packages; an estimate where there are none |
//! | [`load`] | processor time: ours, others', stolen by the hypervisor |
//! | [`memory`] | peak and present resident memory, what the machine and its control group allow |
//! | [`cpu`] | model, cores that may be used, features, caches, throttling |
//! | [`thermal`] | temperatures, fans |
//! | [`gpu`] | NVIDIA's cards by the driver's library or `nvidia-smi`, AMD's by sysfs |
//! | [`disk`] | free space |
//! | [`readable`] | which of these can be read here, and what would make the others readable |
//! | [`sampler`] | a thread that reads all of them from time to time |

pub mod cpu;
pub mod disk;
pub mod energy;
pub mod gpu;
pub mod load;
pub mod memory;
pub mod readable;
pub mod sampler;
mod system;
pub mod thermal;

pub use cpu::{Cache, Cpu};
pub use disk::Disk;
pub use energy::{EnergyMeter, Estimate, MachineEnergy};
pub use gpu::{Gpu, Gpus};
pub use load::{Load, LoadMeter};
pub use memory::Memory;
pub use readable::Readable;
pub use sampler::{GpuSample, Instruments, Sample, Sampler, SharedEnergy};
pub use system::{POWERCAP_VARIABLE, System};
pub use thermal::Temperature;
