//! Memory for tensors: aligned to cache lines, zeroed, allocated once.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};

/// Alignment of every buffer: one cache line, one AVX-512 vector.
pub const ALIGN: usize = 64;

/// Buffers of at least this many bytes begin at a multiple of it and ask for pages of that size: a training step walks
/// through far more memory than the processor has addresses of small pages at hand.
const HUGE_PAGE: usize = 2 << 20;

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
        let raw = unsafe { alloc(layout) };
        let Some(pointer) = std::ptr::NonNull::new(raw.cast::<f32>()) else { handle_alloc_error(layout) };
        advise(raw, layout.size());
        // SAFETY: `size` bytes were just allocated; zeros are valid f32. Touching all of it now makes memory that is
        // not there an error of the start, not of some later step.
        unsafe { raw.write_bytes(0, layout.size()) }
        Self { pointer, len }
    }

    /// Bytes a buffer of `len` elements takes: whole cache lines.
    pub fn bytes(len: usize) -> usize {
        (len * size_of::<f32>()).next_multiple_of(ALIGN)
    }

    fn layout(len: usize) -> Layout {
        let bytes = Self::bytes(len);
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        Layout::from_size_align(bytes, align).expect("a tensor's size fits the address space")
    }
}

/// Asks for huge pages where that is for the asking; refusal changes nothing but speed.
fn advise(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes >= HUGE_PAGE {
        // SAFETY: whole pages inside an allocation of ours; the advice changes no content.
        unsafe { libc::madvise(start.cast(), bytes / HUGE_PAGE * HUGE_PAGE, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
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
        for len in [0, 1, 15, 16, 17, 1000, HUGE_PAGE / 4, HUGE_PAGE + 77] {
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
