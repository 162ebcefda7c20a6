//! A slice lent to the parts of one kernel.

use std::marker::PhantomData;

/// A mutable slice of which several threads write different elements at once.
#[derive(Debug)]
pub(crate) struct Lent<'a, T> {
    pointer: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: only unsafe methods reach an element, whose callers promise that nobody else has it.
unsafe impl<T: Send> Send for Lent<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Lent<'_, T> {}

impl<T> Clone for Lent<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lent<'_, T> {}

impl<'a, T> Lent<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What lies behind the first `at` elements.
    pub(crate) fn from(self, at: usize) -> Self {
        assert!(at <= self.len, "elements lie outside what was lent");
        Self { pointer: self.pointer.wrapping_add(at), len: self.len - at, ..self }
    }

    /// Elements `start..start + len`. Panics if they lie outside.
    ///
    /// # Safety
    /// Nobody else has one of them while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn at(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "elements lie outside what was lent");
        // SAFETY: inside the slice borrowed for 'a; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }

    /// The element `at` and those behind it, for whoever knows which are its own.
    #[inline(always)]
    pub(crate) fn pointer(&self, at: usize) -> *mut T {
        debug_assert!(at <= self.len);
        self.pointer.wrapping_add(at)
    }
}
