//! A checkpoint in memory, for tests that save and load.

use isoflop_base::tensor::{TensorGroup, TensorSpec};
use isoflop_base::{TensorError, TensorSink, TensorSource};
use std::collections::HashMap;

/// A checkpoint in memory.
#[derive(Default, PartialEq)]
pub(crate) struct Memory {
    /// Bytes by name.
    pub(crate) tensors: HashMap<String, Vec<u8>>,
    /// Values by name.
    pub(crate) counters: HashMap<String, u64>,
    /// What `begin` was told.
    pub(crate) announced: Vec<TensorSpec>,
}

impl TensorSink for Memory {
    fn begin(&mut self, specs: &[TensorSpec]) -> Result<(), TensorError> {
        self.announced = specs.to_vec();
        Ok(())
    }
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TensorError> {
        assert_eq!(self.announced[self.tensors.len()].name, name, "tensors come in the order announced");
        assert_eq!(self.announced[self.tensors.len()].bytes(), bytes.len());
        self.tensors.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
    fn counter(&mut self, name: &str, value: u64) -> Result<(), TensorError> {
        self.counters.insert(name.to_owned(), value);
        Ok(())
    }
}

impl TensorSource for Memory {
    fn has(&self, _: TensorGroup, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
    fn read_f32(
        &mut self,
        _: TensorGroup,
        name: &str,
        _: &[usize],
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        let bytes = self.tensors.get(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?;
        for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *out = f32::from_le_bytes(b.try_into().unwrap());
        }
        Ok(())
    }
    fn read_u8(
        &mut self,
        _: TensorGroup,
        name: &str,
        _: &[usize],
        out: &mut [u8],
    ) -> Result<(), TensorError> {
        out.copy_from_slice(self.tensors.get(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?);
        Ok(())
    }
    fn counter(&self, name: &str) -> Option<u64> {
        self.counters.get(name).copied()
    }
}
