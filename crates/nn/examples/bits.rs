//! Prints the bits of small trainings, one line each: kernel set, precision, optimiser, recomputation, and a hash of
//! every gradient norm, noise pair, weight and held-out loss. Run it before and after a change that must not
//! change numbers, and compare the two outputs.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use isoflop_nn::{
    Cpu, Device as _, Engine as _, EngineOptions, GptConfig, KernelSet, LanguageModel as _, Optimizer,
    Precision, Recompute, TokenBatch,
};

/// FNV-1a over the bits of numbers.
struct Hash(u64);

impl Hash {
    fn add(&mut self, bits: u64) {
        for byte in bits.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn batch(number: u64, sequences: usize, length: usize) -> TokenBatch {
    let token = |i: u64| ((i + number).wrapping_mul(i + 7 * number + 3) % 131) as u32;
    TokenBatch::new((0..(sequences * (length + 1)) as u64).map(token).collect(), sequences, length)
}

fn run(kernels: KernelSet, shape: &str, options: EngineOptions) -> u64 {
    let config = GptConfig::new(shape.parse().expect("a shape"), 131, 40);
    let mut engine = Cpu { kernels, threads: 2 }.make(&config, &options, 1).expect("an engine");
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    for step in 0..12 {
        for micro in 0..2 {
            engine.accumulate(&batch(2 * step + micro, 6, 40), 0.5).expect("a batch");
        }
        let update = engine.update(3e-3).expect("a step");
        hash.add(update.grad_norm.to_bits());
        if let Some(noise) = update.noise {
            hash.add(noise.small_squared.to_bits());
        }
    }
    engine.evaluate(&batch(99, 5, 23), &mut |loss| hash.add(loss.sum.to_bits())).expect("a batch");
    for w in engine.weights().1 {
        hash.add(u64::from(w.to_bits()));
    }
    for logit in engine.next_token_logits(&[1, 2, 3]).expect("three tokens") {
        hash.add(u64::from(logit.to_bits()));
    }
    hash.0
}

fn main() {
    for (kernels, runs) in KernelSet::available() {
        // The oracle is slow, and every other set is tested against it.
        if runs.is_err() || kernels == KernelSet::Naive {
            continue;
        }
        for shape in ["L2-d48-h3", "L3-d80-h5"] {
            for precision in [Precision::F32, Precision::Bf16] {
                for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
                    for recompute in [Recompute::None, Recompute::Block] {
                        let options = EngineOptions {
                            precision,
                            optimizer,
                            recompute,
                            micro_batch: 6,
                            ..EngineOptions::default()
                        };
                        let bits = run(kernels, shape, options);
                        println!(
                            "{} {shape} {precision:?} {optimizer:?} {recompute:?} {bits:016x}",
                            kernels.name()
                        );
                    }
                }
            }
        }
    }
}
