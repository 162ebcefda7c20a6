//! The gradient of one weight, by blocks of 32 rows and by groups of sequences.

use super::{narrow_mut, start};
use isoflop_kernels::tiles::product::{self, Start};
use isoflop_kernels::tiles::{Cells, SIDE, cells};
use isoflop_kernels::{Chunks, KernelSet, rows};

/// `dw[rows, columns]`, and what groups of sequences after the first add to it.
pub(super) struct Gradient<'a> {
    rows: usize,
    columns: usize,
    dw: Chunks<'a>,
    partial: Chunks<'a>,
}

/// Elements of one group's part of a gradient: whole blocks.
pub(super) fn partial_len(rows: usize, columns: usize) -> usize {
    cells(rows) * SIDE * columns
}

impl<'a> Gradient<'a> {
    /// `partial` has [`partial_len`] elements for each group but the first.
    pub(super) fn new((rows, columns): (usize, usize), dw: &'a mut [f32], partial: &'a mut [f32]) -> Self {
        let block = SIDE * columns;
        Self { rows, columns, dw: Chunks::new(dw, block), partial: Chunks::new(partial, block) }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn blocks(&self) -> usize {
        cells(self.rows)
    }

    /// A group's sum for one block over `stretches` operands: the first group's goes to the gradient, if `fresh` in
    /// place of what is there.
    pub(super) fn sum<'b>(
        &self,
        set: KernelSet,
        (group, block): (usize, usize),
        stretches: usize,
        operand: impl Fn(usize) -> (Cells<'b>, Cells<'b>, usize),
        space: &mut [f32],
        fresh: bool,
    ) {
        let (mut dw, start) = match group.checked_sub(1) {
            None => (self.dw.hold(block), start(fresh)),
            Some(other) => (self.partial.hold(other * self.blocks() + block), Start::Zero),
        };
        let shape = (self.rows, self.columns);
        product::weight_gradient(set, shape, block, stretches, operand, narrow_mut(space), start, &mut dw);
    }

    /// Adds the other groups' sums for one block, in order.
    pub(super) fn join(&self, block: usize, groups: usize) {
        let mut dw = self.dw.hold(block);
        for other in 0..groups - 1 {
            let part = self.partial.hold(other * self.blocks() + block);
            rows::add_assign(&part[..dw.len()], &mut dw);
        }
    }
}
