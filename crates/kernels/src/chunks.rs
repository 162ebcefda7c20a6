//! Equal pieces of one slice, handed to parallel tasks.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::AcqRel};

const WORDS: usize = 64;

/// Which parts are held: one bit each, without allocation.
#[derive(Debug)]
pub(crate) struct Claims([AtomicU64; WORDS]);

impl Claims {
    pub(crate) fn new(parts: usize) -> Self {
        assert!(parts <= Chunks::MAX, "at most {} parts", Chunks::MAX);
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Takes part `index`; panics if it is held.
    pub(crate) fn take(&self, index: usize) {
        let bit = 1 << (index % 64);
        assert!(self.0[index / 64].fetch_or(bit, AcqRel) & bit == 0, "part {index} is held by another task");
    }

    fn give_back(&self, index: usize) {
        self.0[index / 64].fetch_and(!(1 << (index % 64)), AcqRel);
    }
}

/// A mutable slice seen as equal chunks, each of which one task at a time may hold.
///
/// Claims are checked at run time, so that safe code can share it between threads without allocating: a chunk that
/// is already held panics, which would be a mistake in the division of work.
#[derive(Debug)]
pub struct Chunks<'a> {
    pointer: *mut f32,
    len: usize,
    chunk: usize,
    claims: Claims,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a chunk is reachable from one thread at a time, through its `Chunk`; f32 is Send.
unsafe impl Send for Chunks<'_> {}
// SAFETY: as above.
unsafe impl Sync for Chunks<'_> {}

/// One chunk, held until dropped.
#[derive(Debug)]
pub struct Chunk<'a> {
    slice: &'a mut [f32],
    claims: &'a Claims,
    index: usize,
}

impl<'a> Chunks<'a> {
    /// At most this many chunks.
    pub const MAX: usize = WORDS * 64;

    /// Chunks of `chunk` elements; the last may be shorter.
    pub fn new(slice: &'a mut [f32], chunk: usize) -> Self {
        assert!(chunk > 0, "chunks are not empty");
        Self {
            pointer: slice.as_mut_ptr(),
            len: slice.len(),
            chunk,
            claims: Claims::new(slice.len().div_ceil(chunk)),
            lifetime: PhantomData,
        }
    }

    /// Chunk `index`. Panics if it is held already or does not exist.
    pub fn hold(&self, index: usize) -> Chunk<'_> {
        let start = index * self.chunk;
        assert!(start < self.len, "chunk {index} lies outside");
        self.claims.take(index);
        let len = self.chunk.min(self.len - start);
        // SAFETY: the range lies inside the slice borrowed for 'a; the claim just taken makes it exclusive until the
        // `Chunk` is dropped.
        let slice = unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) };
        Chunk { slice, claims: &self.claims, index }
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        self.claims.give_back(self.index);
    }
}

impl Deref for Chunk<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.slice
    }
}

impl DerefMut for Chunk<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_slice_once() {
        let mut data = vec![0f32; 10];
        let chunks = Chunks::new(&mut data, 4);
        for i in 0..3 {
            chunks.hold(i).iter_mut().for_each(|x| *x += 1.0 + i as f32);
        }
        assert_eq!(data, [1., 1., 1., 1., 2., 2., 2., 2., 3., 3.]);
    }

    #[test]
    #[should_panic(expected = "held by another task")]
    fn a_chunk_is_held_once() {
        let mut data = vec![0f32; 10];
        let chunks = Chunks::new(&mut data, 5);
        let _first = chunks.hold(1);
        let _second = chunks.hold(1);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_chunk_outside_is_refused() {
        let mut data = vec![0f32; 10];
        Chunks::new(&mut data, 5).hold(2);
    }
}
