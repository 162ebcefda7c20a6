//! The processor as a device.

use crate::engine::{Device, DeviceFacts, EngineError, MemoryPlan};
use crate::{CpuGpt, EngineOptions, GptConfig};
use isoflop_base::Precision;
use isoflop_kernels::KernelSet;

/// A processor: which kernels, how many threads. Bits depend on the first alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Kernels.
    pub kernels: KernelSet,
    /// Threads, at least one.
    pub threads: usize,
}

impl Device<GptConfig> for Cpu {
    type Engine = CpuGpt;

    fn facts(&self) -> DeviceFacts {
        let precisions = match self.kernels.computes_bf16() {
            true => vec![Precision::Bf16, Precision::F32],
            false => vec![Precision::F32],
        };
        DeviceFacts { name: "cpu".to_owned(), kernels: self.kernels.name(), precisions }
    }

    fn plan(&self, config: &GptConfig, options: &EngineOptions) -> MemoryPlan {
        CpuGpt::plan(self, config, options)
    }

    fn make(&self, config: &GptConfig, options: &EngineOptions, seed: u64) -> Result<CpuGpt, EngineError> {
        CpuGpt::new(self, config, options, seed)
    }
}
