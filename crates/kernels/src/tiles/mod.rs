//! Products of bf16 operands that lie in *cells*: the layout matrix units read, and its twins on every processor.
//!
//! An operand is cut into cells of 32×32 elements, 2 KiB each, zeros beyond its edges. A cell of a left operand
//! `a[M,K]` holds 32 rows, k contiguous; one of a right operand `b[K,N]` holds two tiles of 16 columns, in which
//! pairs of k lie side by side (Intel calls this order VNNI):
//!
//! ```text
//!   left cell (i, k)                       right cell (j, k)
//!   row 0   a(0,0) a(0,1) … a(0,31)        tile 0, pair 0   b(0,0) b(1,0)  b(0,1) b(1,1) … b(0,15) b(1,15)
//!   row 1   a(1,0) …                               pair 1   b(2,0) b(3,0)  b(2,1) b(3,1) …
//!     ⋮       64 bytes a row                          ⋮
//!   row 31                                 tile 1, pair 0   b(0,16) b(1,16) … b(0,31) b(1,31)
//!
//!   cells of an operand:  (0,0) (0,1) … (0,K/32−1)  (1,0) …       k runs fastest on both sides
//! ```
//!
//! The backward needs each value in up to three such orders. They are a few moves apart ([`convert`]):
//!
//! ```text
//!   left x[R,C] ──interleave──▶ right x (k = R) ──transpose the words of each tile──▶ left xᵀ[C,R]
//!   left x[N,K] ──transpose the words of each tile──▶ right xᵀ (k = K)
//! ```
//!
//! [`product`] multiplies and, while a block of 32×32 sums is in L1, does what comes after it: bias, residual, GELU,
//! rounding, packing. [`attention`] is causal attention in this layout. All arithmetic but the products is in f32.

pub mod attention;
pub mod convert;
pub mod product;

/// Side of a cell.
pub const SIDE: usize = 32;
/// Elements of a cell.
pub const CELL: usize = SIDE * SIDE;

/// Cells along a dimension of `n` elements.
pub fn cells(n: usize) -> usize {
    n.div_ceil(SIDE)
}

/// Elements of an operand `[rows, columns]`, padding included.
pub fn len(rows: usize, columns: usize) -> usize {
    cells(rows) * cells(columns) * CELL
}

/// An operand, or a stretch of one along k.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    /// From its first cell on.
    pub data: &'a [u16],
    /// Cells from one block of 32 rows (left) or columns (right) to the next.
    pub stride: usize,
}

impl<'a> Cells<'a> {
    /// A whole operand whose k has `k` steps.
    pub fn whole(data: &'a [u16], k: usize) -> Self {
        Self { data, stride: cells(k) }
    }

    /// The same from step `k` on, which must be a multiple of 32.
    pub fn from_k(self, k: usize) -> Self {
        assert!(k.is_multiple_of(SIDE), "k is cut between cells");
        Self { data: &self.data[k / SIDE * CELL..], ..self }
    }

    /// Asserts that `blocks` blocks of `depth` steps of k lie inside.
    fn check(&self, blocks: usize, depth: usize) {
        let last = blocks.saturating_sub(1) * self.stride + cells(depth);
        assert!(
            self.data.len() >= last * CELL,
            "an operand of {} elements is shorter than its shape",
            self.data.len()
        );
    }

    /// First element of a block's cells.
    fn block(&self, index: usize) -> *const u16 {
        self.data.as_ptr().wrapping_add(index * self.stride * CELL)
    }
}
