//! What a training loop relies on: the same bits whatever the threads, resuming exactly, refusing what is not finite.

mod memory;

use isoflop_kernels::pool::in_single_parts;
use isoflop_nn::gpt::checkpoint_bytes;
use isoflop_nn::{
    Cpu, CpuGpt, Device, Engine, EngineError, EngineOptions, GptConfig, KernelSet, LanguageModel, Optimizer,
    Precision, Recompute, TokenBatch,
};
use memory::Memory;

fn config() -> GptConfig {
    GptConfig::new("L2-d40-h5".parse().unwrap(), 131, 50)
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn engine(threads: usize, micro_batch: usize) -> CpuGpt {
    engine_in(Precision::F32, threads, micro_batch)
}

fn engine_in(precision: Precision, threads: usize, micro_batch: usize) -> CpuGpt {
    make(&config(), threads, &EngineOptions { precision, micro_batch, ..EngineOptions::default() })
}

/// The fastest kernels.
fn cpu(threads: usize) -> Cpu {
    Cpu { kernels: KernelSet::detect(), threads }
}

fn make(config: &GptConfig, threads: usize, options: &EngineOptions) -> CpuGpt {
    cpu(threads).make(config, options, 1).unwrap()
}

fn batch(step: u64, sequences: usize, length: usize) -> TokenBatch {
    let token = |i: u64| ((step * 7919 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u32 % 131;
    TokenBatch::new((0..(sequences * (length + 1)) as u64).map(token).collect(), sequences, length)
}

fn train(engine: &mut CpuGpt, steps: std::ops::Range<u64>) -> Vec<u64> {
    train_on(engine, steps, (7, 50))
}

fn train_on(
    engine: &mut CpuGpt,
    steps: std::ops::Range<u64>,
    (sequences, length): (usize, usize),
) -> Vec<u64> {
    steps
        .map(|step| {
            engine.accumulate(&batch(step, sequences, length), 1.0).unwrap();
            engine.update(1e-2).unwrap().loss.to_bits()
        })
        .collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for precision in PRECISIONS {
        let mut one = engine_in(precision, 1, 7);
        let losses = train(&mut one, 0..12);
        for threads in [2, 3, 8] {
            let mut many = engine_in(precision, threads, 7);
            assert_eq!(train(&mut many, 0..12), losses, "{precision:?}, {threads} threads");
            assert_eq!(many.weights().1, one.weights().1, "{precision:?}, {threads} threads");
        }
    }
}

/// Threads without a sequence help inside the kernels of the others: as many as have nothing to do, whenever they come.
/// Here every kernel's work is divided as finely as it can be, in the wrong order.
#[test]
fn the_division_of_a_kernels_work_changes_no_bit() {
    // The last is longer than its hidden layer is wide.
    for shape in ["L2-d40-h5", "L2-d96-h2", "L1-d16-h2"] {
        let config = GptConfig { shape: shape.parse().unwrap(), context: 100, ..config() };
        for kernels in KernelSet::runnable() {
            for precision in PRECISIONS {
                let make = || {
                    let options = EngineOptions { precision, micro_batch: 3, ..EngineOptions::default() };
                    Cpu { kernels, threads: 1 }.make(&config, &options, 1).unwrap()
                };
                let (mut whole, mut divided) = (make(), make());
                let losses = train_on(&mut whole, 0..3, (3, 100));
                let what = format!("{shape} {kernels:?} {precision:?}");
                assert_eq!(in_single_parts(|| train_on(&mut divided, 0..3, (3, 100))), losses, "{what}");
                assert_eq!(divided.weights().1, whole.weights().1, "{what}");
            }
        }
    }
}

#[test]
fn fewer_sequences_than_threads_change_no_bit() {
    for precision in PRECISIONS {
        for sequences in [1, 2, 3] {
            let train = |threads| {
                let mut engine = engine_in(precision, threads, sequences);
                (train_on(&mut engine, 0..12, (sequences, 50)), engine.weights().1.to_vec())
            };
            let one = train(1);
            for threads in [2, 4] {
                assert!(train(threads) == one, "{precision:?}, {sequences} sequences, {threads} threads");
            }
        }
    }
}

#[test]
fn recomputation_changes_no_bit_and_saves_memory() {
    let config = GptConfig { shape: "L5-d40-h5".parse().unwrap(), ..config() };
    for precision in PRECISIONS {
        let [mut kept, mut again] = [Recompute::None, Recompute::Block].map(|recompute| {
            let options = EngineOptions { precision, micro_batch: 7, recompute, ..EngineOptions::default() };
            make(&config, 2, &options)
        });
        assert_eq!(train(&mut kept, 0..5), train(&mut again, 0..5), "{precision:?}");
        assert_eq!(kept.weights().1, again.weights().1, "{precision:?}");
        let bytes = |engine: &CpuGpt| engine.memory().groups.iter().find(|g| g.0 == "activations").unwrap().1;
        assert!(bytes(&again) * 2 < bytes(&kept), "{} against {}", bytes(&again), bytes(&kept));
    }
}

#[test]
fn resumed_is_uninterrupted_bit_for_bit() {
    for precision in PRECISIONS {
        for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
            resumed_in(precision, optimizer);
        }
    }
}

fn resumed_in(precision: Precision, optimizer: Optimizer) {
    let engine = |threads| engine_with(precision, optimizer, threads);
    let mut whole = engine(2);
    let losses = train(&mut whole, 0..14);
    let mut first = engine(2);
    let mut resumed_losses = train(&mut first, 0..6);
    let mut checkpoint = Memory::default();
    first.save(&mut checkpoint).unwrap();
    let mut second = engine(1);
    second.load(&mut checkpoint).unwrap();
    resumed_losses.extend(train(&mut second, 6..14));
    assert_eq!(resumed_losses, losses, "{precision:?} {optimizer:?}");
    assert_eq!(second.weights().1, whole.weights().1, "{precision:?} {optimizer:?}");
    let mut end = (Memory::default(), Memory::default());
    whole.save(&mut end.0).unwrap();
    second.save(&mut end.1).unwrap();
    assert!(end.0.tensors == end.1.tensors && end.0.counters == end.1.counters, "moments too");
}

fn engine_with(precision: Precision, optimizer: Optimizer, threads: usize) -> CpuGpt {
    let options = EngineOptions { precision, optimizer, micro_batch: 7, ..EngineOptions::default() };
    // Wide enough for tensors whose moments are quantised, of a length that no block of them divides.
    make(&GptConfig { shape: "L2-d45-h5".parse().unwrap(), ..config() }, threads, &options)
}

#[test]
fn eight_bit_moments_take_a_quarter_and_learn_as_well() {
    let [mut wide, mut eight] =
        [Optimizer::AdamW, Optimizer::AdamW8bit].map(|optimizer| engine_with(Precision::F32, optimizer, 2));
    let bytes = |engine: &CpuGpt| engine.memory().groups.iter().find(|g| g.0 == "moments").unwrap().1 as f64;
    let ratio = bytes(&eight) / bytes(&wide);
    assert!((0.25..0.40).contains(&ratio), "{ratio}: small tensors stay in f32");
    let same = batch(5, 7, 50);
    let after = |model: &mut CpuGpt| {
        let step = |_| {
            model.accumulate(&same, 1.0).unwrap();
            model.update(3e-3).unwrap().loss
        };
        (0..61).map(step).last().unwrap()
    };
    let (wide, eight) = (after(&mut wide), after(&mut eight));
    assert!(wide < 2.5 && (eight - wide).abs() < 0.05 * wide, "{wide} {eight}");
    assert!(wide != eight, "one of them is the other in disguise");
}

#[test]
fn a_checkpoint_has_the_bytes_counted_and_moments_of_the_other_kind_are_refused() {
    let mut wide = engine_with(Precision::F32, Optimizer::AdamW, 1);
    train(&mut wide, 0..1);
    let mut checkpoint = Memory::default();
    wide.save(&mut checkpoint).unwrap();
    for (optimizer, saved) in [(Optimizer::AdamW, &checkpoint), (Optimizer::AdamW8bit, &saved_eight())] {
        let bytes: usize = saved.tensors.values().map(Vec::len).sum();
        assert_eq!(checkpoint_bytes(wide.config(), optimizer), bytes as u64, "{optimizer:?}");
    }
    let mut eight = engine_with(Precision::F32, Optimizer::AdamW8bit, 1);
    let error = eight.load(&mut checkpoint).unwrap_err();
    assert!(error.to_string().contains("exp_avg.codes."), "{error}");
}

fn saved_eight() -> Memory {
    let mut saved = Memory::default();
    engine_with(Precision::F32, Optimizer::AdamW8bit, 1).save(&mut saved).unwrap();
    saved
}

#[test]
fn micro_batches_make_the_gradient_of_the_whole() {
    PRECISIONS.into_iter().for_each(micro_batches_in);
}

fn micro_batches_in(precision: Precision) {
    let (mut whole, mut parts) = (engine_in(precision, 2, 8), engine_in(precision, 2, 2));
    let big = batch(3, 8, 50);
    whole.accumulate(&big, 1.0).unwrap();
    for part in 0..4 {
        let mut tokens = Vec::new();
        for s in part * 2..part * 2 + 2 {
            tokens.extend_from_slice(big.inputs(s));
            tokens.push(*big.targets(s).last().unwrap());
        }
        parts.accumulate(&TokenBatch::new(tokens, 2, 50), 0.25).unwrap();
    }
    let scale = whole.gradients().iter().fold(0f32, |a, g| a.max(g.abs()));
    for (a, b) in whole.gradients().iter().zip(parts.gradients()) {
        assert!((a - b).abs() < 1e-6 * scale, "{a} {b}");
    }
    let (whole, parts) = (whole.update(1e-3).unwrap(), parts.update(1e-3).unwrap());
    assert!(whole.noise.is_none(), "one micro-batch has no pair");
    let pair = parts.noise.unwrap();
    assert_eq!((pair.small_tokens, pair.big_tokens), (100, 400));
    assert!(pair.small_squared > pair.big_squared, "a smaller batch has a noisier, larger gradient");
    assert!((pair.big_squared.sqrt() - parts.grad_norm).abs() < 1e-12);
}

#[test]
fn a_gradient_is_used_once() {
    for precision in PRECISIONS {
        let mut model = engine_in(precision, 2, 7);
        train(&mut model, 0..1);
        assert_eq!(
            model.update(1e-3).unwrap().grad_norm,
            0.0,
            "{precision:?}: nothing was accumulated since"
        );
    }
}

#[test]
fn what_is_not_finite_changes_nothing() {
    for precision in PRECISIONS {
        not_finite_in(precision);
    }
}

fn not_finite_in(precision: Precision) {
    let mut model = engine_in(precision, 2, 4);
    train_small(&mut model, 3);
    let mut good = Memory::default();
    model.save(&mut good).unwrap();
    for name in
        ["transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias", "transformer.wte.weight"]
    {
        let mut bad =
            Memory { tensors: good.tensors.clone(), counters: good.counters.clone(), ..Memory::default() };
        bad.tensors.get_mut(name).unwrap()[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        model.load(&mut bad).unwrap();
        let before = model.weights().1.to_vec();
        model.accumulate(&batch(9, 4, 50), 1.0).unwrap();
        assert!(matches!(model.update(1e-2), Err(EngineError::NonFinite { .. })), "{name}");
        let same = before.iter().zip(model.weights().1).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name}: the weights changed");
        model.load(&mut good).unwrap();
        train_small(&mut model, 1);
    }
}

fn train_small(model: &mut CpuGpt, steps: u64) {
    for step in 0..steps {
        model.accumulate(&batch(step, 4, 50), 1.0).unwrap();
        assert!(model.update(1e-2).unwrap().loss.is_finite());
    }
}

#[test]
fn wrong_batches_are_refused() {
    let mut model = engine(1, 4);
    assert!(matches!(model.accumulate(&batch(0, 5, 50), 1.0), Err(EngineError::Batch { .. })));
    assert!(matches!(model.accumulate(&batch(0, 2, 51), 1.0), Err(EngineError::Batch { .. })));
    let beyond = TokenBatch::new(vec![0, 131, 2], 1, 2);
    assert!(matches!(model.accumulate(&beyond, 1.0), Err(EngineError::Token { token: 131, vocab: 131 })));
    assert!(matches!(model.next_token_logits(&[]), Err(EngineError::Batch { .. })));
    model.accumulate(&batch(0, 3, 17), 1.0).unwrap();
    let update = model.update(1e-3).unwrap();
    assert_eq!(update.tokens, 3 * 17, "shorter sequences are fine, and the refused left nothing behind");
}

#[test]
fn the_plan_is_what_is_held() {
    for (shape, micro_batch, precision) in [
        ("L2-d24-h2", 8, Precision::F32),
        ("L3-d100-h5", 3, Precision::F32),
        ("L3-d100-h5", 3, Precision::Bf16),
    ] {
        let config = GptConfig { shape: shape.parse().unwrap(), ..config() };
        for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
            let options = EngineOptions { precision, optimizer, micro_batch, ..EngineOptions::default() };
            assert_eq!(cpu(2).plan(&config, &options), make(&config, 2, &options).memory());
        }
    }
}

#[test]
fn learning_works_on_every_kernel_set() {
    for (kernels, precision) in KernelSet::runnable().flat_map(|set| PRECISIONS.map(|p| (set, p))) {
        let options = EngineOptions { precision, micro_batch: 2, ..EngineOptions::default() };
        let mut model = Cpu { kernels, threads: 1 }.make(&config(), &options, 1).unwrap();
        let same = batch(5, 2, 50);
        let step = |_| {
            model.accumulate(&same, 1.0).unwrap();
            model.update(1e-2).unwrap().loss
        };
        let losses: Vec<f64> = (0..42).map(step).collect();
        assert!(losses[41] < losses[0] - 2.0, "{kernels:?} {precision:?}: {losses:?}");
    }
}
