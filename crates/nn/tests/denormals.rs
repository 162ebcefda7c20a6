//! Denormal numbers do not slow a step down: some processors take a hundred cycles for each, and nothing here may
//! switch them off (nobody may change MXCSR in Rust).
//!
//! About time, so not run by default. On a machine where nothing else runs:
//!
//! ```text
//! cargo test --release -p isoflop-nn --test denormals -- --ignored --nocapture
//! ```

#![expect(clippy::print_stdout, reason = "the ratios are what it is run for")]

use isoflop_base::tensor::{TensorGroup, TensorSpec};
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_nn::{
    Cpu, CpuGpt, Device as _, Engine as _, EngineOptions, GptConfig, KernelSet, Precision, TokenBatch,
};
use std::collections::HashMap;
use std::time::Instant;

/// The slowest a step of denormals may be, in normal steps.
const MOST: f64 = 1.2;
const ROUNDS: usize = 15;

/// A state in memory, in which every value may be made denormal.
#[derive(Default)]
struct State {
    tensors: HashMap<String, Vec<f32>>,
    step: u64,
}

impl State {
    /// The same signs, magnitudes of 1e-41 to 1e-39.
    fn denormal(&self) -> Self {
        let small = |values: &Vec<f32>| -> Vec<f32> {
            values.iter().enumerate().map(|(i, x)| (1e-41 + 1e-41 * (i % 97) as f32).copysign(*x)).collect()
        };
        let tensors: HashMap<_, _> = self.tensors.iter().map(|(n, v)| (n.clone(), small(v))).collect();
        assert!(tensors.values().flatten().all(|x| x.is_subnormal()));
        Self { tensors, step: self.step }
    }
}

impl TensorSink for State {
    fn begin(&mut self, _: &[TensorSpec]) -> Result<(), TensorError> {
        Ok(())
    }
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TensorError> {
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        self.tensors.insert(name.to_owned(), values.collect());
        Ok(())
    }
    fn counter(&mut self, _: &str, value: u64) -> Result<(), TensorError> {
        self.step = value;
        Ok(())
    }
}

impl TensorSource for State {
    fn has(&self, _: TensorGroup, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
    fn read_f32(
        &mut self,
        _: TensorGroup,
        name: &str,
        _: &[usize],
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        out.copy_from_slice(self.tensors.get(name).ok_or_else(|| TensorError::Missing(name.to_owned()))?);
        Ok(())
    }
    fn read_u8(&mut self, _: TensorGroup, name: &str, _: &[usize], _: &mut [u8]) -> Result<(), TensorError> {
        Err(TensorError::Missing(name.to_owned()))
    }
    fn counter(&self, _: &str) -> Option<u64> {
        Some(self.step)
    }
}

/// Seconds of one step from a state; gradients are `scale` times the mean.
fn seconds(model: &mut CpuGpt, state: &mut State, batch: &TokenBatch, scale: f32) -> f64 {
    model.load(state).unwrap();
    let start = Instant::now();
    model.accumulate(batch, scale).unwrap();
    model.update(1e-3).unwrap();
    start.elapsed().as_secs_f64()
}

/// Whatever else runs can only lengthen a step.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "compares times: needs a machine where nothing else runs"]
fn a_step_of_denormals_takes_about_as_long_as_any() {
    let config = GptConfig::new("L2-d128-h2".parse().unwrap(), 512, 128);
    let tokens = (0..2 * 129u32).map(|i| i.wrapping_mul(2_654_435_761) >> 23).collect();
    let batch = TokenBatch::new(tokens, 2, 128);
    let mut slow = Vec::new();
    // The oracle's plain loops may be slow.
    for set in KernelSet::runnable().filter(|set| *set != KernelSet::Naive) {
        for precision in [Precision::F32, Precision::Bf16] {
            let options = EngineOptions { precision, micro_batch: 2, ..EngineOptions::default() };
            let mut model = Cpu { kernels: set, threads: 1 }.make(&config, &options, 1).unwrap();
            for _ in 0..3 {
                model.accumulate(&batch, 1.0).unwrap();
                model.update(1e-3).unwrap();
            }
            let mut normal = State::default();
            model.save(&mut normal).unwrap();
            let mut small = normal.denormal();
            // Weights and moments as trained but gradients denormal, from the logits' on: 1e-38 over 256 tokens.
            let cases: [(&str, bool, f32); 2] =
                [("weights and moments", true, 1.0), ("gradients", false, 1e-38)];
            for (what, of_weights, scale) in cases {
                let mut times = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    times.0.push(seconds(&mut model, &mut normal, &batch, 1.0));
                    let state = if of_weights { &mut small } else { &mut normal };
                    times.1.push(seconds(&mut model, state, &batch, scale));
                }
                let (normal_s, small_s) = (least(&times.0), least(&times.1));
                let ratio = small_s / normal_s;
                println!(
                    "{:<11} {precision:?}, denormal {what:<20} {:.2} ms, normal {:.2} ms: {ratio:.2}",
                    set.name(),
                    1e3 * small_s,
                    1e3 * normal_s
                );
                if ratio > MOST {
                    slow.push(format!("{} {precision:?}, denormal {what}: {ratio:.2}", set.name()));
                }
            }
        }
    }
    assert!(slow.is_empty(), "above {MOST}: {slow:#?}");
}
