//! What a convolution reads: images in f32, or kept in bf16 to take half the memory.

use crate::bf16;
use crate::set::{KernelSet, dispatch};
use crate::simd::{Simd, load_n, store_n, sweep};
use std::ops::Range;

/// Elements of images, or of gradients of images.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// As bits of bf16.
    Bf16(&'a [u16]),
}

impl<'a> From<&'a [f32]> for Pixels<'a> {
    fn from(x: &'a [f32]) -> Self {
        Self::F32(x)
    }
}

impl<'a> From<&'a Vec<f32>> for Pixels<'a> {
    fn from(x: &'a Vec<f32>) -> Self {
        Self::F32(x)
    }
}

impl<'a> Pixels<'a> {
    /// Elements.
    #[expect(clippy::len_without_is_empty, reason = "none of these is asked for being empty")]
    pub fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// Some of them.
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::Bf16(x) => Self::Bf16(&x[range]),
        }
    }

    /// All of them in f32: themselves, or widened into the first elements of `space`.
    pub fn read<'b>(self, set: KernelSet, space: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(x) => x,
            Self::Bf16(x) => {
                let space = &mut space[..x.len()];
                widen(set, x, space);
                space
            }
        }
    }
}

/// Elements that lie in memory as they do in [`Pixels`].
pub(super) trait Element: Copy {
    /// The first `n ≤ LANES` of them at `p`, zeros beyond.
    ///
    /// # Safety
    /// As [`Simd`]; reads n elements.
    unsafe fn load<S: Simd>(p: *const Self, n: usize) -> S::V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32, n: usize) -> S::V {
        // SAFETY: as the caller's.
        unsafe { load_n::<S>(p, n) }
    }
}

impl Element for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u16, n: usize) -> S::V {
        // SAFETY: as the caller's; the copy has room for every vector.
        unsafe {
            if n == S::LANES {
                return S::load_bf16(p);
            }
            let mut lanes = [0u16; 16];
            lanes.as_mut_ptr().copy_from_nonoverlapping(p, n);
            S::load_bf16(lanes.as_ptr())
        }
    }
}

/// `out = x`, of the same length, each element its f32.
pub fn widen(set: KernelSet, x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "as many elements go out as come in");
    if set == KernelSet::Naive {
        return out.iter_mut().zip(x).for_each(|(out, &x)| *out = bf16::widen(x));
    }
    dispatch!(set, widen_simd(x: &[u16], out: &mut [f32]));
}

#[inline(always)]
unsafe fn widen_simd<S: Simd>(x: &[u16], out: &mut [f32]) {
    sweep!(S, x.len(), |i, count| {
        // SAFETY: i + count ≤ the common length.
        unsafe { store_n::<S>(out.as_mut_ptr().add(i), u16::load::<S>(x.as_ptr().add(i), count), count) }
    });
}

/// `out = x`, of the same length, each element rounded to bf16.
pub fn narrow(set: KernelSet, x: &[f32], out: &mut [u16]) {
    assert_eq!(x.len(), out.len(), "as many elements go out as come in");
    if set == KernelSet::Naive {
        return out.iter_mut().zip(x).for_each(|(out, &x)| *out = bf16::round(x));
    }
    dispatch!(set, narrow_simd(x: &[f32], out: &mut [u16]));
}

#[inline(always)]
unsafe fn narrow_simd<S: Simd>(x: &[f32], out: &mut [u16]) {
    let whole = x.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: a whole vector lies inside both.
        unsafe { S::store_bf16(out.as_mut_ptr().add(i), S::load(x.as_ptr().add(i))) }
    }
    for i in whole..x.len() {
        out[i] = bf16::round(x[i]);
    }
}
