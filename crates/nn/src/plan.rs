//! Memory to the byte, before anything is allocated.

use crate::engine::MemoryUse;
use crate::gpt::Sizes;
use crate::{EngineOptions, GptConfig};
use isoflop_kernels::AlignedBuffer;

/// What an engine will allocate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Name and bytes of each group.
    pub groups: Vec<(&'static str, u64)>,
}

impl MemoryPlan {
    /// The plan for a model under these options: the sizes [`crate::CpuGpt::new`] allocates.
    pub fn new(config: &GptConfig, options: &EngineOptions) -> Self {
        Self::of(&Sizes::new(config, options))
    }

    pub(crate) fn of(sizes: &Sizes) -> Self {
        let bytes = |len: usize| AlignedBuffer::bytes(len) as u64;
        let zeros = bytes(sizes.length * sizes.width);
        let scratch = bytes(sizes.needs.scratch * sizes.threads) + bytes(sizes.needs.heads * sizes.threads);
        let groups = vec![
            ("weights", bytes(sizes.layout.len)),
            ("gradients", bytes(sizes.layout.len)),
            ("moments", sizes.moments.bytes()),
            ("packed weights", bytes(sizes.packed)),
            ("activations", bytes(sizes.kept * sizes.sequences)),
            ("backward", bytes(sizes.needs.work * sizes.sequences) + bytes(sizes.needs.partial)),
            ("logits", bytes(sizes.needs.logits * sizes.sequences) + bytes(sizes.sequences * sizes.length)),
            ("scratch", scratch + zeros),
        ];
        Self { groups }
    }

    /// All groups together.
    pub fn total(&self) -> u64 {
        self.groups.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl From<MemoryPlan> for MemoryUse {
    fn from(plan: MemoryPlan) -> Self {
        Self { groups: plan.groups }
    }
}
