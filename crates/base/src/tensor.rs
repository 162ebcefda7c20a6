//! How named tensors travel between an engine and a checkpoint without a second copy in memory.

/// Why a tensor could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The source has no tensor of this name.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// The tensor has another shape than the model asks for.
    #[error("tensor `{name}` has shape {found:?}, the model needs {needed:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape in the source.
        found: Vec<usize>,
        /// The shape asked for.
        needed: Vec<usize>,
    },
    /// The tensor has an element type that is not understood here.
    #[error("tensor `{name}` has element type {found}, {needed} is needed")]
    Dtype {
        /// Its name.
        name: String,
        /// Its element type in the source.
        found: String,
        /// The element type asked for.
        needed: &'static str,
    },
    /// Reading or writing failed.
    #[error("tensor `{name}`: {source}")]
    Io {
        /// Its name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Which file of a checkpoint a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorGroup {
    /// `model.safetensors`: weights under their Hugging Face names.
    Model,
    /// `optimizer.safetensors`: moments, named `exp_avg.<weight>` and `exp_avg_sq.<weight>`.
    Optimizer,
}

/// Name, group, element type and shape of a tensor, known before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name, e.g. `transformer.h.0.attn.c_attn.weight`.
    pub name: String,
    /// The file it goes to.
    pub group: TensorGroup,
    /// Element type.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: Vec<usize>,
}

/// Element types of stored tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// Bytes (8-bit optimiser states).
    U8,
}

impl TensorSpec {
    /// Number of bytes the tensor takes.
    pub fn bytes(&self) -> usize {
        let size = match self.dtype {
            Dtype::F32 => 4,
            Dtype::U8 => 1,
        };
        self.shape.iter().product::<usize>() * size
    }
}

/// Receives tensors. `begin` comes once with every spec, then each tensor's little-endian bytes in that order,
/// then the counters.
pub trait TensorSink {
    /// Announces all tensors, so that a header can be written before the first byte.
    fn begin(&mut self, specs: &[TensorSpec]) -> Result<(), TensorError>;
    /// One tensor's bytes, in the order of `begin`, possibly in several pieces.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TensorError>;
    /// A counter that is part of the training state (`step`, …).
    fn counter(&mut self, name: &str, value: u64) -> Result<(), TensorError>;
}

/// Hands tensors out by name. f16 and bf16 tensors are widened to f32.
pub trait TensorSource {
    /// Whether a tensor of this name exists in this group.
    fn has(&self, group: TensorGroup, name: &str) -> bool;
    /// Fills `out` (row-major, `shape`) with the tensor, converting to f32.
    fn read_f32(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [f32],
    ) -> Result<(), TensorError>;
    /// Fills `out` with a byte tensor.
    fn read_u8(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [u8],
    ) -> Result<(), TensorError>;
    /// A counter, if it was saved.
    fn counter(&self, name: &str) -> Option<u64>;
}

/// A source without its optimiser's tensors and counters: an engine that loads it starts its optimiser anew.
pub struct WeightsOnly<'a>(pub &'a mut dyn TensorSource);

impl TensorSource for WeightsOnly<'_> {
    fn has(&self, group: TensorGroup, name: &str) -> bool {
        group == TensorGroup::Model && self.0.has(group, name)
    }

    fn read_f32(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        self.0.read_f32(group, name, shape, out)
    }

    fn read_u8(
        &mut self,
        group: TensorGroup,
        name: &str,
        shape: &[usize],
        out: &mut [u8],
    ) -> Result<(), TensorError> {
        self.0.read_u8(group, name, shape, out)
    }

    fn counter(&self, _name: &str) -> Option<u64> {
        None
    }
}
