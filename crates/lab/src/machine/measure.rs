//! What this machine reaches at most: operations a second that never leave registers, bytes a second from memory.

use super::choice::Products;
use isoflop_kernels::matmul::{Init, Left, PANEL, Right, multiply, pack, packed_len};
use isoflop_kernels::tiles::{self, Cells, convert, product};
use isoflop_kernels::{AlignedBuffer, KernelSet, peak};
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

/// Rows, columns and depth of the product that [`products`] times, and how often in a row: a third of a millisecond and
/// up to two each.
const PRODUCT: (usize, usize, usize) = (256, 256, 256);
const CALLS: usize = 6;

/// Operations a second of one thread in products of both precisions, as training lays operands: the best of some rounds
/// in turns, a few hundredths of a second in all.
pub fn products(set: KernelSet) -> Products {
    let (m, n, k) = PRODUCT;
    let values: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut c = AlignedBuffer::zeroed(m * n);
    // Twice as long as cells of 16 bits need.
    let [mut left, mut right, mut packed] =
        [tiles::len(m, k), tiles::len(k, n), packed_len(k, n)].map(AlignedBuffer::zeroed);
    for (panel, out) in packed.chunks_exact_mut(PANEL * k).enumerate() {
        pack(&values, k, n, panel, out);
    }
    let (left, right) = (bytemuck::cast_slice_mut(&mut left), bytemuck::cast_slice_mut(&mut right));
    convert::left(set, &values, (m, k), k, left);
    convert::right(set, &values, (k, n), n, right);
    let (left, right) = (Cells::whole(left, k), Cells::whole(right, k));
    let mut best = [f64::INFINITY; 2];
    for _ in 0..2 * ROUNDS {
        for (best, bf16) in best.iter_mut().zip([true, false]) {
            let start = Instant::now();
            for _ in 0..CALLS {
                if bf16 {
                    product::rows(set, PRODUCT, left, right, None, None, &mut c, n);
                } else {
                    let (a, b) = (Left::rows(&values, k), Right::packed(&packed, k));
                    multiply(set, PRODUCT, a, b, &mut c, n, Init::Zero);
                }
                black_box(&mut c);
            }
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    let [bf16, f32] = best.map(|seconds| (CALLS * 2 * m * n * k) as f64 / seconds);
    Products { bf16, f32 }
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
        for set in KernelSet::runnable().filter(|set| set.computes_bf16()) {
            let products = products(set);
            assert!(
                (1e8..1e14).contains(&products.bf16) && (1e8..1e13).contains(&products.f32),
                "{products:?}"
            );
        }
        let bytes = memory_bytes_per_s(1, 64 << 20);
        assert!((1e7..1e14).contains(&bytes), "{bytes}");
    }
}
