//! Checkpoints, resuming, refusals: what the training loop relies on.

use crate::Emulated;
use crate::memory::Memory;
use crate::numbers::{batch, compare, config, cpu, options};
use isoflop_cuda::CudaGpt;
use isoflop_nn::{
    Device, Engine, EngineError, EngineOptions, LanguageModel, Optimizer, Outcome, Precision, TokenBatch,
};

fn train(engine: &mut CudaGpt, steps: std::ops::Range<u64>) -> Vec<u64> {
    steps
        .map(|step| {
            engine.accumulate(&batch(step, 2, 40), 1.0).unwrap();
            engine.update(1e-2).unwrap().loss.to_bits()
        })
        .collect()
}

fn saved(engine: &impl Engine) -> Memory {
    let mut memory = Memory::default();
    engine.save(&mut memory).unwrap();
    memory
}

#[test]
fn resumed_is_uninterrupted_bit_for_bit_on_a_card() {
    let Some(emulated) = Emulated::with(1) else { return };
    // Wide enough for tensors whose moments are quantised, of a length that no block of them divides.
    let config = config("L1-d45-h5");
    for precision in [Precision::F32, Precision::Bf16, Precision::Fp16] {
        for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
            let options = EngineOptions { optimizer, ..options(precision, 2) };
            let make = || emulated.cards(1).make(&config, &options, 1).unwrap();
            let (mut whole, mut first, mut second) = (make(), make(), make());
            let losses = train(&mut whole, 0..6);
            let mut resumed = train(&mut first, 0..3);
            second.load(&mut saved(&first)).unwrap();
            resumed.extend(train(&mut second, 3..6));
            assert_eq!(resumed, losses, "{precision:?} {optimizer:?}");
            let (a, b) = (saved(&whole), saved(&second));
            assert!(a.tensors == b.tensors && a.counters == b.counters, "{precision:?} {optimizer:?}");
            assert_eq!(a.counters.contains_key("loss_scale_bits"), precision == Precision::Fp16);
        }
    }
    emulated.check();
}

#[test]
fn a_checkpoint_of_either_engine_is_gone_on_with_by_the_other() {
    let Some(emulated) = Emulated::with(1) else { return };
    let config = config("L1-d45-h5");
    for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
        let options = EngineOptions { optimizer, ..options(Precision::F32, 2) };
        let mut card = emulated.cards(1).make(&config, &options, 1).unwrap();
        let mut processor = cpu(&config, &options);
        let step = |engine: &mut dyn Engine<Batch = TokenBatch>, step: u64| {
            engine.accumulate(&batch(step, 2, 40), 1.0).unwrap();
            engine.update(3e-3).unwrap().loss
        };
        for i in 0..3 {
            step(&mut card, i);
        }
        processor.load(&mut saved(&card)).unwrap();
        assert!(card.weights_of(0).unwrap() == processor.weights().1, "weights travel without rounding");
        assert!((step(&mut card, 3) - step(&mut processor, 3)).abs() < 1e-5);
        card.load(&mut saved(&processor)).unwrap();
        let (a, b) = (saved(&card), saved(&processor));
        assert!(a.tensors == b.tensors && a.counters == b.counters, "{optimizer:?}: moments too");
        assert!((step(&mut card, 4) - step(&mut processor, 4)).abs() < 1e-5);
        let (distance, _) = compare(&card.weights_of(0).unwrap(), processor.weights().1);
        assert!(distance < 2e-3, "{optimizer:?}: {distance:e}");
    }
    emulated.check();
}

#[test]
fn the_plan_is_what_is_allocated_and_too_much_is_refused_by_it() {
    let Some(emulated) = Emulated::with(1) else { return };
    let config = config("L3-d96-h3");
    // The driver remembers the most that was ever allocated, so the smaller plan comes first.
    let mut before = 0;
    for precision in [Precision::Bf16, Precision::F32] {
        let options = options(precision, 3);
        let cards = emulated.cards(1);
        let planned = cards.plan(&config, &options);
        let engine = cards.make(&config, &options, 1).unwrap();
        assert_eq!(engine.memory(), planned);
        assert_eq!(emulated.emulator().peak(0), planned.total(), "to the byte, on the card itself");
        drop(engine);
        emulated.emulator().set_memory(planned.total() - 1);
        let refused = cards.make(&config, &options, 1).unwrap_err().to_string();
        for part in ["bytes of the card's memory", "are free", "hint:"] {
            assert!(refused.contains(part), "`{part}` is not in {refused}");
        }
        emulated.emulator().set_memory(1 << 30);
        assert!(planned.total() > before, "f32 takes more than bf16");
        before = planned.total();
    }
}

#[test]
fn what_is_not_finite_changes_nothing_on_a_card() {
    let Some(emulated) = Emulated::with(1) else { return };
    let mut engine = emulated.cards(1).make(&config("L2-d48-h3"), &options(Precision::Bf16, 2), 1).unwrap();
    train(&mut engine, 0..2);
    let good = saved(&engine);
    for name in
        ["transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias", "transformer.wte.weight"]
    {
        let mut bad =
            Memory { tensors: good.tensors.clone(), counters: good.counters.clone(), ..Memory::default() };
        bad.tensors.get_mut(name).unwrap()[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        engine.load(&mut bad).unwrap();
        let before = engine.weights_of(0).unwrap();
        engine.accumulate(&batch(9, 2, 40), 1.0).unwrap();
        assert!(matches!(engine.update(1e-2), Err(EngineError::NonFinite { .. })), "{name}");
        let same = before.iter().zip(engine.weights_of(0).unwrap()).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name}: the weights changed");
        let mut good =
            Memory { tensors: good.tensors.clone(), counters: good.counters.clone(), ..Memory::default() };
        engine.load(&mut good).unwrap();
        train(&mut engine, 2..3);
    }
}

#[test]
fn a_gradient_is_used_once_and_wrong_batches_are_refused() {
    let Some(emulated) = Emulated::with(1) else { return };
    let mut engine = emulated.cards(1).make(&config("L1-d40-h5"), &options(Precision::F32, 2), 1).unwrap();
    assert!(matches!(engine.accumulate(&batch(0, 3, 50), 1.0), Err(EngineError::Batch { .. })));
    assert!(matches!(engine.accumulate(&batch(0, 2, 51), 1.0), Err(EngineError::Batch { .. })));
    let beyond = TokenBatch::new(vec![0, 131, 2], 1, 2);
    assert!(matches!(engine.accumulate(&beyond, 1.0), Err(EngineError::Token { token: 131, vocab: 131 })));
    assert!(matches!(engine.next_token_logits(&[]), Err(EngineError::Batch { .. })));
    engine.accumulate(&batch(0, 1, 17), 1.0).unwrap();
    let update = engine.update(1e-3).unwrap();
    assert_eq!((update.tokens, update.outcome), (17, Outcome::Applied), "the refused left nothing behind");
    assert_eq!(engine.update(1e-3).unwrap().grad_norm, 0.0, "nothing was accumulated since");
    emulated.check();
}
