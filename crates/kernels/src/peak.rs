//! The most a core can do: multiply-adds that never leave the registers, or products of bf16 cells that never leave L1.
//! The yardstick for every share of peak.

use crate::set::{KernelSet, dispatch};
use crate::simd::{BlockSize, Segment, Simd};
use crate::tiles::CELL;

/// Independent chains: enough to hide the latency of the unit on every processor we know.
const CHAINS: usize = 12;

/// Runs `rounds` rounds of multiply-adds on the calling thread and returns how many operations they were, and a value
/// that depends on all of them, so that none can be left out.
pub fn multiply_adds(set: KernelSet, rounds: usize) -> (f64, f32) {
    if set == KernelSet::Naive {
        let mut x = [0.5f32; CHAINS];
        for _ in 0..rounds {
            x.iter_mut().for_each(|x| *x = *x * 0.999 + 0.001);
        }
        return (2.0 * (CHAINS * rounds) as f64, x.iter().sum());
    }
    dispatch!(set, chains(rounds: usize) -> (f64, f32))
}

#[inline(always)]
unsafe fn chains<S: Simd>(rounds: usize) -> (f64, f32) {
    // SAFETY: registers only.
    unsafe {
        // Operands the compiler cannot know, or it would move work out of the loop.
        let (a, b) = (S::splat(std::hint::black_box(0.999)), S::splat(std::hint::black_box(0.001)));
        let mut x = [S::splat(std::hint::black_box(0.5)); CHAINS];
        for _ in 0..rounds {
            for x in &mut x {
                *x = S::fma(*x, a, b);
            }
        }
        let mut sum = x[0];
        for x in &x[1..] {
            sum = S::add(sum, *x);
        }
        (2.0 * (CHAINS * S::LANES * rounds) as f64, S::sum(sum))
    }
}

/// Runs `rounds` rounds of products of bf16 cells that stay in L1 on the calling thread, and returns as
/// [`multiply_adds`].
pub fn bf16_products(set: KernelSet, rounds: usize) -> (f64, f32) {
    let set = set.with_vectors();
    dispatch!(set, cells(rounds: usize) -> (f64, f32))
}

/// Cells in a row: enough that storing the sums does not count.
const DEPTH: usize = 64;

#[inline(always)]
unsafe fn cells<S: Simd>(rounds: usize) -> (f64, f32) {
    #[repr(C, align(64))]
    struct Operand([u16; CELL]);
    // 0.5 and 0.25: values, not zeros, since a multiplier's power, and so its clock, depends on them.
    let (a, b) =
        (Operand([std::hint::black_box(0x3f00); CELL]), Operand([std::hint::black_box(0x3e80); CELL]));
    let segments = [Segment { a: a.0.as_ptr(), b: b.0.as_ptr() }; DEPTH];
    let mut c = [0f32; CELL];
    // SAFETY: every segment is one whole cell on either side, and c has 1,024 elements.
    unsafe {
        S::enter();
        for _ in 0..rounds {
            S::block(&segments, BlockSize { rows: 32, cols: 32, depth: 32 }, c.as_mut_ptr());
            std::hint::black_box(&mut c);
        }
        S::leave();
    }
    (2.0 * (CELL * 32 * DEPTH * rounds) as f64, c[CELL - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_cells_are_counted_and_right() {
        for set in KernelSet::runnable() {
            let (operations, value) = bf16_products(set, 2);
            assert_eq!(operations, 2.0 * 2.0 * 32.0 * 32.0 * 32.0 * 64.0);
            assert_eq!(value, 0.5 * 0.25 * 32.0 * 64.0, "{set:?}");
        }
    }

    #[test]
    fn operations_are_counted_and_values_converge() {
        for set in KernelSet::runnable() {
            let (operations, value) = multiply_adds(set, 20_000);
            assert!(operations >= 2.0 * 12.0 * 20_000.0);
            // Each lane tends to 0.001/0.001 = 1, and every lane of every chain is in the sum.
            let lanes = operations / (2.0 * 20_000.0);
            assert!((f64::from(value) - lanes).abs() < 0.01 * lanes, "{set:?} {value} {lanes}");
        }
    }
}
