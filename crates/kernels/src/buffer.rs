//! Memory for tensors: aligned to cache lines, zeroed, allocated once.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};

/// Alignment of every buffer: one cache line, one AVX-512 vector.
pub const ALIGN: usize = 64;

/// A fixed number of zero-initialised `f32`, aligned to [`ALIGN`] bytes.
#[derive(Debug)]
pub struct AlignedBuffer {
    pointer: std::ptr::NonNull<f32>,
    len: usize,
}

// SAFETY: the buffer owns its memory; access follows the usual rules of & and &mut.
unsafe impl Send for AlignedBuffer {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `len` zeros. Aborts as `Vec` does if memory is exhausted.
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self { pointer: std::ptr::NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(pointer) = std::ptr::NonNull::new(raw.cast::<f32>()) else { handle_alloc_error(layout) };
        Self { pointer, len }
    }

    /// Bytes a buffer of `len` elements takes: whole cache lines.
    pub fn bytes(len: usize) -> usize {
        (len * size_of::<f32>()).next_multiple_of(ALIGN)
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(Self::bytes(len), ALIGN).expect("a tensor's size fits the address space")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with the same layout, freed once.
            unsafe { dealloc(self.pointer.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements, owned by self.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: `len` initialised elements, owned by self, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut b = AlignedBuffer::zeroed(len);
            assert_eq!(b.len(), len);
            assert!(b.iter().all(|&x| x == 0.0));
            if len > 0 {
                assert_eq!(b.as_ptr() as usize % ALIGN, 0);
                b[len - 1] = 1.0;
            }
        }
    }
}
