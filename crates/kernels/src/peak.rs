//! The most a core can do: fused multiply-adds that never leave the registers. The yardstick for every share of peak.

use crate::set::{KernelSet, dispatch};
use crate::simd::Simd;

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

#[cfg(test)]
mod tests {
    use super::*;

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
