//! Outputs of convolutions as they are kept between phases, and their gradients in the same place: f32, or bf16 where
//! convolutions multiply in bf16, which halves what a network takes. Everything is computed in f32.

use super::statistics::Channels;
use crate::conv::config::{Architecture, Unit};
use isoflop_kernels::KernelSet;
use isoflop_kernels::batchnorm;
use isoflop_kernels::conv::Pixels;
use isoflop_kernels::conv::pixels::{narrow, widen};
use std::ops::Range;

/// Floats that are widened at once: they stay in L1.
pub(super) const PIECE: usize = 4 * 1024;

/// How outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    F32,
    Bf16,
}

impl Keep {
    /// In bf16 if all convolutions multiply so, and each image's output fills whole floats.
    pub(super) fn of(network: &Architecture) -> Self {
        let narrow =
            |unit: &Unit| unit.shape.bf16 && (unit.shape.pixels() * unit.shape.outputs).is_multiple_of(2);
        if network.units().all(narrow) { Self::Bf16 } else { Self::F32 }
    }

    /// Floats of memory for so many elements.
    pub(super) fn floats(self, elements: usize) -> usize {
        match self {
            Self::F32 => elements,
            Self::Bf16 => elements / 2,
        }
    }

    /// Some elements of what is kept.
    pub(super) fn view(self, kept: &[f32], elements: Range<usize>) -> Pixels<'_> {
        match self {
            Self::F32 => Pixels::F32(&kept[elements]),
            Self::Bf16 => Pixels::Bf16(&bytemuck::cast_slice(kept)[elements]),
        }
    }

    /// Lets `change` alter some elements of what is kept, which are in f32 meanwhile, in `space` if they are not.
    pub(super) fn alter(
        self,
        set: KernelSet,
        kept: &mut [f32],
        elements: Range<usize>,
        space: &mut [f32],
        change: impl FnOnce(&mut [f32]),
    ) {
        match self {
            Self::F32 => change(&mut kept[elements]),
            Self::Bf16 => {
                let kept = &mut bytemuck::cast_slice_mut::<f32, u16>(kept)[elements];
                let space = &mut space[..kept.len()];
                widen(set, kept, space);
                change(space);
                narrow(set, space, kept);
            }
        }
    }

    /// Lets `make` write some elements of what is kept, in `space` if that is not f32.
    pub(super) fn fill(
        self,
        set: KernelSet,
        kept: &mut [f32],
        elements: Range<usize>,
        space: &mut [f32],
        make: impl FnOnce(&mut [f32]),
    ) {
        match self {
            Self::F32 => make(&mut kept[elements]),
            Self::Bf16 => {
                let kept = &mut bytemuck::cast_slice_mut::<f32, u16>(kept)[elements];
                let space = &mut space[..kept.len()];
                make(space);
                narrow(set, space, kept);
            }
        }
    }
}

/// Pieces of the elements `at` that hold whole pixels of `channels`: where each lies in all, and in `at`.
pub(super) fn pieces(
    at: Range<usize>,
    channels: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let piece = (PIECE / channels).max(1) * channels;
    at.clone().step_by(piece).map(move |first| {
        let last = at.end.min(first + piece);
        (first..last, first - at.start..last - at.start)
    })
}

/// The shares of a norm's sums (Σ d, Σ d·x̂) of one task, added up piece by piece.
pub(super) struct Shares<'a> {
    pub(super) set: KernelSet,
    pub(super) channels: &'a Channels,
    pub(super) unit: &'a Unit,
    /// `out[C,2]` in f64 as floats.
    pub(super) all: &'a mut [f32],
    /// Space for as much.
    pub(super) own: &'a mut [f32],
}

impl<'a> Shares<'a> {
    /// Shares of nothing yet.
    pub(super) fn none(
        set: KernelSet,
        channels: &'a Channels,
        unit: &'a Unit,
        all: &'a mut [f32],
        own: &'a mut [f32],
    ) -> Self {
        let len = 4 * unit.shape.outputs;
        let (all, own) = (&mut all[..len], &mut own[..len]);
        all.fill(0.0);
        Self { set, channels, unit, all, own }
    }

    /// Adds those of some pixels.
    pub(super) fn add(&mut self, z: &[f32], d: &[f32]) {
        let at = self.unit.channel..self.unit.channel + self.unit.shape.outputs;
        let own: &mut [f64] = bytemuck::cast_slice_mut(self.own);
        batchnorm::sums(self.set, z, d, &self.channels.mean[at.clone()], &self.channels.rstd[at], own);
        let all: &mut [f64] = bytemuck::cast_slice_mut(self.all);
        all.iter_mut().zip(own).for_each(|(all, own)| *all += *own);
    }
}
