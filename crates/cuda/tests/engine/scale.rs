//! Dynamic loss scaling: what overflows is skipped and said, and nothing else changes.

use crate::Emulated;
use crate::memory::Memory;
use crate::numbers::{batch, config, options};
use isoflop_nn::{Device, Engine, EngineError, Outcome, Precision};

/// The state of an engine with another loss scale.
fn with_scale(engine: &impl Engine, scale: f32) -> Memory {
    let mut state = Memory::default();
    engine.save(&mut state).unwrap();
    state.counters.insert("loss_scale_bits".to_owned(), u64::from(scale.to_bits()));
    state
}

#[test]
fn a_step_that_overflows_is_skipped_the_scale_lowered_and_the_next_one_made() {
    let Some(emulated) = Emulated::with(1) else { return };
    let config = config("L1-d48-h3");
    let mut engine = emulated.cards(1).make(&config, &options(Precision::Fp16, 2), 1).unwrap();
    let start = engine.weights_of(0).unwrap();
    // Gradients of logits of about 1/100, times this, are beyond 65,504.
    engine.load(&mut with_scale(&engine, 16_777_216.0)).unwrap();
    let (mut skipped, mut last) = (0, 16_777_216.0);
    loop {
        let before = engine.weights_of(0).unwrap();
        engine.accumulate(&batch(skipped, 2, 40), 1.0).unwrap();
        let update = engine.update(1e-3).unwrap();
        assert!(update.loss.is_finite(), "the loss is not scaled");
        match update.outcome {
            Outcome::Skipped { scale } => {
                assert_eq!(scale, last / 2.0);
                assert_eq!(engine.loss_scale(), Some(scale));
                assert!(before == engine.weights_of(0).unwrap(), "weights are as they were");
                (skipped, last) = (skipped + 1, scale);
            }
            Outcome::Applied => break,
        }
        assert!(skipped < 24, "it never came down");
    }
    assert!(skipped > 0, "nothing overflowed");
    assert!(start != engine.weights_of(0).unwrap());
    let mut state = Memory::default();
    engine.save(&mut state).unwrap();
    assert_eq!(state.counters["step"], 1, "bias correction counts steps that were made");
    assert_eq!(state.counters["loss_scale_bits"], u64::from(last.to_bits()));
    emulated.check();
}

#[test]
fn a_scale_that_cannot_come_down_any_more_is_a_divergence() {
    let Some(emulated) = Emulated::with(1) else { return };
    let mut engine = emulated.cards(1).make(&config("L1-d48-h3"), &options(Precision::Fp16, 2), 1).unwrap();
    let mut state = with_scale(&engine, 1.0);
    // A head's row so large that its gradient overflows in fp16 whatever the scale.
    let weights = state.tensors.get_mut("transformer.ln_f.weight").unwrap();
    weights[..4].copy_from_slice(&60_000f32.to_le_bytes());
    let wte = state.tensors.get_mut("transformer.wte.weight").unwrap();
    for row in wte.chunks_exact_mut(4 * 48) {
        row[..4].copy_from_slice(&2_000f32.to_le_bytes());
    }
    engine.load(&mut state).unwrap();
    engine.accumulate(&batch(0, 2, 40), 1.0).unwrap();
    assert!(matches!(engine.update(1e-3), Err(EngineError::NonFinite { .. })));
}

#[test]
fn the_scale_changes_no_bit_of_what_does_not_overflow() {
    let Some(emulated) = Emulated::with(1) else { return };
    let step = |scale: f32| {
        let mut engine =
            emulated.cards(1).make(&config("L1-d48-h3"), &options(Precision::Fp16, 2), 1).unwrap();
        engine.load(&mut with_scale(&engine, scale)).unwrap();
        engine.accumulate(&batch(0, 2, 40), 1.0).unwrap();
        let update = engine.update(1e-3).unwrap();
        (update.loss.to_bits(), update.grad_norm)
    };
    let (a, b) = (step(65_536.0), step(32_768.0));
    // Powers of two: only what falls below fp16's smallest numbers differs.
    assert!(a.0 == b.0 && (a.1 / b.1 - 1.0).abs() < 1e-6, "{a:?} {b:?}");
    let small = step(1.0);
    assert!((a.1 / small.1 - 1.0).abs() > 1e-6, "without a scale small gradients are lost: {a:?} {small:?}");
}
