//! Unequal parts of one slice, handed to parallel tasks: the sister of [`crate::chunks`] for parts that are known
//! beforehand and need not be contiguous.

use crate::chunks::Claims;
use std::marker::PhantomData;

/// `count` runs of `len` elements, `stride` apart, the first at `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First element.
    pub start: usize,
    /// Elements of a run.
    pub len: usize,
    /// From one run to the next.
    pub stride: usize,
    /// Runs.
    pub count: usize,
}

impl Region {
    /// One run.
    pub fn run(start: usize, len: usize) -> Self {
        Self { start, len, stride: len, count: 1 }
    }
}

/// Regions that do not overlap.
#[derive(Debug)]
pub struct Cut {
    regions: Vec<Region>,
    end: usize,
}

impl Cut {
    /// Most regions of one cut.
    pub const MAX: usize = crate::Chunks::MAX;

    /// Panics if two regions share an element.
    pub fn new(regions: Vec<Region>) -> Self {
        assert!(regions.len() <= Self::MAX, "at most {} regions", Self::MAX);
        let runs = |r: &Region| {
            let (start, len, stride) = (r.start, r.len, r.stride);
            (0..r.count).map(move |i| (start + i * stride, start + i * stride + len))
        };
        let mut all: Vec<_> = regions.iter().flat_map(runs).filter(|(start, end)| start < end).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two regions share an element");
        let end = all.last().map_or(0, |run| run.1);
        Self { regions, end }
    }

    /// Shares `slice` among tasks, a region each. Panics if a region lies outside.
    pub fn share<'a, T>(&'a self, slice: &'a mut [T]) -> Parts<'a, T> {
        assert!(self.end <= slice.len(), "a region lies outside the slice");
        let claims = Claims::new(self.regions.len());
        Parts { pointer: slice.as_mut_ptr(), regions: &self.regions, claims, lifetime: PhantomData }
    }
}

/// A slice shared among tasks for one phase.
#[derive(Debug)]
pub struct Parts<'a, T> {
    pointer: *mut T,
    regions: &'a [Region],
    claims: Claims,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: an element belongs to one region at most, and a region is reachable from the one thread that took it.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

/// One region, taken.
#[derive(Debug)]
pub struct Part<'a, T> {
    pointer: *mut T,
    region: Region,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<T> Parts<'_, T> {
    /// Region `index`. Panics if it was taken before.
    pub fn take(&self, index: usize) -> Part<'_, T> {
        let region = self.regions[index];
        self.claims.take(index);
        Part { pointer: self.pointer, region, lifetime: PhantomData }
    }
}

impl<T> Part<'_, T> {
    /// Run `index` of the region.
    pub fn run(&mut self, index: usize) -> &mut [T] {
        assert!(index < self.region.count, "run {index} lies outside");
        // SAFETY: `Cut` saw that the run lies inside the slice and in no other region; the claim, never given back,
        // makes the region this part's own, and `&mut self` the run the caller's.
        unsafe {
            let first = self.pointer.add(self.region.start + index * self.region.stride);
            std::slice::from_raw_parts_mut(first, self.region.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_cover_what_they_say() {
        let comb = |start| Region { start, len: 2, stride: 5, count: 2 };
        let cut = Cut::new(vec![comb(0), Region::run(10, 3), comb(2), Region::run(4, 0)]);
        let mut data = vec![0; 13];
        let parts = cut.share(&mut data);
        for (index, value, runs) in [(0, 1, 2), (1, 2, 1), (2, 3, 2), (3, 4, 1)] {
            let mut part = parts.take(index);
            for run in 0..runs {
                part.run(run).iter_mut().for_each(|x| *x += value);
            }
        }
        assert_eq!(data, [1, 1, 3, 3, 0, 1, 1, 3, 3, 0, 2, 2, 2]);
    }

    #[test]
    #[should_panic(expected = "held by another task")]
    fn a_region_is_taken_once() {
        let cut = Cut::new(vec![Region::run(0, 2), Region::run(2, 2)]);
        let mut data = [0; 4];
        let parts = cut.share(&mut data);
        parts.take(1);
        parts.take(1);
    }

    #[test]
    #[should_panic(expected = "share an element")]
    fn overlapping_regions_are_refused() {
        Cut::new(vec![Region { start: 0, len: 2, stride: 4, count: 3 }, Region::run(5, 1)]);
    }

    #[test]
    #[should_panic(expected = "outside the slice")]
    fn regions_beyond_the_slice_are_refused() {
        Cut::new(vec![Region::run(3, 2)]).share(&mut [0; 4]);
    }
}
