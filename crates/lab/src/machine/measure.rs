//! What this machine reaches at most: operations a second that never leave registers, bytes a second from memory.

use isoflop_kernels::{KernelSet, peak};
use isoflop_nn::Precision;
use std::hint::black_box;
use std::time::Instant;

/// Seconds of one measurement of the peak: long enough for the clock frequency to settle.
pub const PEAK_SECONDS: f64 = 0.2;
/// Seconds of one at the start of a study: good to some per cent.
pub const PEAK_GLANCE_S: f64 = 0.03;
/// Times a measurement is repeated; the best counts.
const ROUNDS: usize = 3;
/// Bytes of each of the three arrays of the bandwidth measurement, over all threads: beyond any cache.
const ARRAY_BYTES: usize = 128 << 20;

/// Operations per second of `threads` threads at once that never leave registers (f32) or L1 (bf16): the best of three
/// measurements of so many seconds.
pub fn peak_flops_per_s(set: KernelSet, precision: Precision, threads: usize, seconds: f64) -> f64 {
    let once = || {
        let start = Instant::now();
        let mut operations = 0.0;
        while start.elapsed().as_secs_f64() < seconds {
            let (done, value) = match precision {
                Precision::F32 => peak::multiply_adds(set, 100_000),
                // A processor has no fp16; whoever asks for it is answered with what it would do instead.
                Precision::Bf16 | Precision::Fp16 => peak::bf16_products(set, 200),
            };
            black_box(value);
            operations += done;
        }
        operations / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| together(threads, once)).fold(0.0, f64::max)
}

/// Bytes per second of `threads` threads that compute `a = b + s·c` over arrays no cache holds, counted as STREAM does:
/// two reads and a write a value. The best of three. `free` bytes of memory may be used, less than the arrays of a
/// large machine's caches makes the figure too good.
pub fn memory_bytes_per_s(threads: usize, free: u64) -> f64 {
    let bytes = ARRAY_BYTES.min((free / 12) as usize).max(1 << 20);
    let values = bytes / size_of::<f32>() / threads.max(1);
    let once = || {
        let (mut a, b, c) = (vec![0f32; values], vec![1f32; values], vec![2f32; values]);
        let triad = |a: &mut [f32]| {
            for ((a, b), c) in a.iter_mut().zip(black_box(&b)).zip(black_box(&c)) {
                *a = b + 3.0 * c;
            }
            black_box(a);
        };
        triad(&mut a); // pages are there from now on
        let start = Instant::now();
        triad(&mut a);
        (3 * values * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| together(threads, once)).fold(0.0, f64::max)
}

/// The sum of what `threads` threads measure at once.
fn together(threads: usize, once: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&once)).collect();
        let mine = once();
        // A measuring thread only counts and adds.
        let others = others.into_iter().map(|other| other.join().expect("a measuring thread does not panic"));
        others.sum::<f64>() + mine
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_of_the_size_of_a_machine() {
        let flops = peak_flops_per_s(KernelSet::detect(), Precision::F32, 1, 0.01);
        assert!((1e8..1e15).contains(&flops), "{flops}");
        let bytes = memory_bytes_per_s(1, 64 << 20);
        assert!((1e7..1e14).contains(&bytes), "{bytes}");
    }
}
