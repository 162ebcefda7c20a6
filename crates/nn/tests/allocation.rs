//! Nothing is allocated in the training loop: a counting allocator watches whole steps, on every thread.
//!
//! One test in a binary of its own, since the counter sees whatever any thread of the process does. That includes the
//! test runner's own, which says so, and allocates, when a test has run for 60 seconds: the model is small enough to be
//! done by then under an emulator too.

use isoflop_nn::{
    Cpu, Device as _, Engine as _, EngineOptions, GptConfig, KernelSet, Optimizer, Precision, Recompute,
    SingleDevice, TokenBatch,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn batch(step: u32) -> TokenBatch {
    TokenBatch::new((0..3 * 41).map(|i| (i * 31 + step * 17) % 131).collect(), 3, 40)
}

#[test]
fn a_step_allocates_nothing() {
    let config = GptConfig::new("L2-d40-h5".parse().unwrap(), 131, 40);
    let batches: Vec<TokenBatch> = (0..4).map(batch).collect();
    let mut watched = 0;
    for precision in [Precision::F32, Precision::Bf16] {
        for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
            for recompute in [Recompute::None, Recompute::Block] {
                for threads in [1, 3] {
                    let options = EngineOptions {
                        precision,
                        optimizer,
                        recompute,
                        micro_batch: 3,
                        ..EngineOptions::default()
                    };
                    let cpu = Cpu { kernels: KernelSet::detect(), threads };
                    let mut model = cpu.make(&config, &options, 1).unwrap();
                    let mut step = || {
                        // Two micro-batches, so that the noise scale's norms are taken too, at the tenth step.
                        for micro in batches.chunks(2).map(|pair| &pair[0]) {
                            model.accumulate(micro, 0.5).unwrap();
                        }
                        model.reduce(&mut SingleDevice).unwrap();
                        model.update(1e-3).unwrap();
                    };
                    step();
                    step();
                    let region = Region::new(ALLOCATOR);
                    for _ in 0..10 {
                        step();
                    }
                    let change = region.change();
                    let made = (change.allocations, change.reallocations, change.bytes_allocated);
                    assert_eq!(made, (0, 0, 0), "{options:?}");
                    watched += 1;
                }
            }
        }
    }
    assert_eq!(watched, 16);
    // The counter counts, or the rest says nothing.
    let region = Region::new(ALLOCATOR);
    let made = std::hint::black_box(vec![0u8; 100]);
    assert!(region.change().bytes_allocated >= made.len());
}
