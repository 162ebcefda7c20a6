//! The gradients of weights, by blocks of rows and by groups of sequences: what a task sums, where, and in which order
//! the groups are joined. Both precisions divide the work so; how a block is summed is theirs.

use super::dims::{Dims, take};
use super::sizes::Sizes;
use isoflop_kernels::chunks::Chunk;
use isoflop_kernels::{Chunks, Pool, rows};

/// `dw[m,n]` in blocks of `rows` rows, and what groups of sequences after the first add to it.
pub(crate) struct Gradient<'a> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) rows: usize,
    dw: Chunks<'a>,
    partial: Chunks<'a>,
}

/// Elements of one group's part of a gradient: whole blocks.
pub(crate) fn partial_len(m: usize, n: usize, rows: usize) -> usize {
    m.next_multiple_of(rows) * n
}

/// The same of a block's four weights together, `rows(m)` giving a block's rows.
pub(crate) fn partial_len_of_block(s: &Dims, rows: impl Fn(usize) -> usize) -> usize {
    s.matrices().iter().map(|&(m, n)| partial_len(m, n, rows(m))).sum()
}

impl<'a> Gradient<'a> {
    /// `partial` has [`partial_len`] elements for each group but the first.
    pub(crate) fn new(
        (m, n): (usize, usize),
        rows: usize,
        dw: &'a mut [f32],
        partial: &'a mut [f32],
    ) -> Self {
        Self { m, n, rows, dw: Chunks::new(dw, rows * n), partial: Chunks::new(partial, rows * n) }
    }

    /// Those of a block's weights, in the order of [`Dims::matrices`].
    pub(crate) fn of_block(
        s: &Sizes,
        layer: usize,
        gradients: &'a mut [f32],
        mut partial: &'a mut [f32],
        rows: impl Fn(usize) -> usize,
    ) -> [Self; 4] {
        let [dqkv, dproj, dfc, dout] = s.layout.matrices_mut(layer, gradients);
        let mut gradients = [dfc, dqkv, dout, dproj].into_iter();
        s.matrices().map(|(m, n)| {
            let part = take(&mut partial, (s.groups() - 1) * partial_len(m, n, rows(m)));
            Self::new((m, n), rows(m), gradients.next().expect("as many as matrices"), part)
        })
    }

    fn blocks(&self) -> usize {
        self.m.div_ceil(self.rows)
    }

    /// Where a group's sum for one block goes: the first group's to the gradient, another's to its own place.
    fn hold(&self, group: usize, block: usize) -> Chunk<'_> {
        match group.checked_sub(1) {
            None => self.dw.hold(block),
            Some(other) => self.partial.hold(other * self.blocks() + block),
        }
    }

    /// Adds the other groups' sums for one block, in order.
    fn join(&self, block: usize, groups: usize) {
        let mut dw = self.dw.hold(block);
        for group in 1..groups {
            let part = self.hold(group, block);
            rows::add_assign(&part[..dw.len()], &mut dw);
        }
    }
}

/// One group's share of one block of a gradient.
pub(crate) struct Share {
    /// Which of the list.
    pub(crate) which: usize,
    pub(crate) block: usize,
    /// The group's sequences.
    pub(crate) sequences: std::ops::Range<usize>,
    /// Whether the sum is the first of its place, which holds nothing that counts.
    pub(crate) fresh: bool,
}

/// Fills the gradients of the list: `sum(share, dw, thread)` computes a share, `each` sequences to a group, in place of
/// what `dw` holds or added to it. Unless `fresh`, the gradients hold what was summed before.
pub(crate) fn sum_by_groups(
    pool: &Pool,
    list: &[Gradient<'_>],
    (sequences, each): (usize, usize),
    fresh: bool,
    sum: impl Fn(Share, &mut [f32], usize) + Sync,
) {
    let blocks: usize = list.iter().map(Gradient::blocks).sum();
    let find = |mut block: usize| {
        let mut which = 0;
        while block >= list[which].blocks() {
            block -= list[which].blocks();
            which += 1;
        }
        (which, block)
    };
    let groups = sequences.div_ceil(each);
    pool.run(groups * blocks, |task, thread| {
        let (group, (which, block)) = (task / blocks, find(task % blocks));
        let sequences = group * each..sequences.min((group + 1) * each);
        let share = Share { which, block, sequences, fresh: fresh || group > 0 };
        sum(share, &mut list[which].hold(group, block), thread);
    });
    if groups > 1 {
        pool.run(blocks, |task, _| {
            let (which, block) = find(task);
            list[which].join(block, groups);
        });
    }
}
