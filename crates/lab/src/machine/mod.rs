//! What this machine offers a study: its kernel set, threads and precision.

pub mod choice;
pub mod hardware;
pub mod measure;

pub use hardware::{Hardware, driver};

use crate::error::UserError;
use crate::study::resolve::Machine;
use isoflop_kernels::KernelSet;
use isoflop_nn::{Cpu, Device, GptConfig, Precision};

/// Names the kernel set to use instead of the fastest one the machine has.
const KERNELS_VARIABLE: &str = "ISOFLOP_KERNELS";

/// The kernel set of this process: the one `ISOFLOP_KERNELS` names, else the fastest.
///
/// # Errors
/// A [`UserError`]: no such set, or one this processor does not have.
pub fn kernel_set() -> Result<KernelSet, UserError> {
    match std::env::var(KERNELS_VARIABLE) {
        Ok(name) if !name.is_empty() => KernelSet::by_name(&name).map_err(UserError::from_error),
        _ => Ok(KernelSet::detect()),
    }
}

/// The processor with every core this process may use.
///
/// # Errors
/// As [`kernel_set`].
pub fn processor() -> Result<Cpu, UserError> {
    let usable = isoflop_meter::System::real().cpu().usable.value().copied();
    Ok(Cpu { kernels: kernel_set()?, threads: usable.unwrap_or(1).max(1) })
}

/// What this machine offers a study.
///
/// # Errors
/// As [`kernel_set`].
pub fn machine() -> Result<Machine, UserError> {
    let cpu = processor()?;
    let facts = Device::<GptConfig>::facts(&cpu);
    Ok(Machine {
        kernels: facts.kernels.to_owned(),
        threads: cpu.threads,
        bf16: facts.precisions.contains(&Precision::Bf16),
        bf16_loses: choice::precision_of(cpu.kernels).loses(),
    })
}
