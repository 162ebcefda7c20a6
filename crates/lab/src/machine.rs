//! What this machine offers a study: its kernel set, threads and precision.

use crate::error::UserError;
use crate::study::resolve::Machine;
use isoflop_kernels::KernelSet;

/// Names the kernel set to use instead of the fastest one the machine has.
const KERNELS_VARIABLE: &str = "ISOFLOP_KERNELS";

/// The kernel set of this process: the one `ISOFLOP_KERNELS` names, else the fastest.
pub fn kernel_set() -> Result<KernelSet, UserError> {
    match std::env::var(KERNELS_VARIABLE) {
        Ok(name) if !name.is_empty() => KernelSet::by_name(&name).map_err(UserError::from_error),
        _ => Ok(KernelSet::detect()),
    }
}

/// What this machine offers a study.
pub fn machine() -> Result<Machine, UserError> {
    let kernels = kernel_set()?;
    Ok(Machine {
        kernels: kernels.name().to_owned(),
        threads: isoflop_meter::System::real().cpu().usable.value().copied().unwrap_or(1).max(1),
        bf16: kernels.computes_bf16(),
    })
}
