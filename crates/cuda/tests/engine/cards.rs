//! Several cards in one process: the step of one card with the whole batch, whichever way gradients take, and what is
//! left when a card is lost.

use crate::Emulated;
use crate::memory::Memory;
use crate::numbers::{compare, config, options, rows};
use crate::threads::Threads;
use isoflop_cuda::{Cuda, CudaGpt};
use isoflop_nn::{
    Device, Engine, EngineError, EngineOptions, GptConfig, Optimizer, Precision, SingleDevice, Update,
    Variant,
};

const LENGTH: usize = 40;
/// Sequences of a micro-batch of all cards together.
const SEQUENCES: u64 = 4;

/// A model of several layers, so that there are several buckets.
fn model(tied: bool) -> GptConfig {
    GptConfig { variant: Variant { tied, ..Variant::default() }, ..config("L4-d48-h3") }
}

fn make(cards: &Cuda, config: &GptConfig, options: &EngineOptions) -> CudaGpt {
    cards.make(config, options, 1).unwrap()
}

/// One step over `micro` micro-batches, each given to the engine in `parts`.
fn step(engine: &mut CudaGpt, number: u64, micro: u64, parts: u64) -> Update {
    let share = SEQUENCES / parts;
    for m in 0..micro {
        for part in 0..parts {
            let first = m * SEQUENCES + part * share;
            let batch = rows(number, first..first + share, LENGTH);
            engine.accumulate(&batch, 1.0 / (micro * parts) as f32).unwrap();
        }
    }
    engine.reduce(&mut SingleDevice).unwrap();
    engine.update(1e-2).unwrap()
}

/// Whether every card holds the same weights; they.
fn weights(engine: &CudaGpt, cards: usize) -> Vec<f32> {
    let first = engine.weights_of(0).unwrap();
    for card in 1..cards {
        assert!(engine.weights_of(card).unwrap() == first, "card {card} has drifted");
    }
    first
}

/// Steps of `cards` cards against one card that adds up their shares in their order: the same bits, but for an
/// embedding that is head as well, where one card adds in another order.
fn agree(cards: u32, peers: bool, precision: Precision, optimizer: Optimizer) {
    let Some(emulated) = Emulated::with(4) else { return };
    emulated.emulator().set_peers(peers);
    let options = |micro_batch| EngineOptions { optimizer, ..options(precision, micro_batch) };
    for tied in [false, true] {
        let config = model(tied);
        let mut many = make(&emulated.cards(cards), &config, &options(SEQUENCES as usize));
        assert_eq!(many.by_peers(), Some(peers));
        let mut one = make(&emulated.cards(1), &config, &options(SEQUENCES as usize / cards as usize));
        for number in 0..3 {
            let found = step(&mut many, number, 1, 1);
            let exact = step(&mut one, number, 1, u64::from(cards));
            assert_eq!(found.tokens, exact.tokens);
            let pairs = found.noise.zip(exact.noise);
            assert_eq!(pairs.is_some(), number == 0, "a card's share is the small batch");
            if let Some((a, b)) = pairs {
                assert_eq!((a.small_tokens, a.big_tokens), (b.small_tokens, b.big_tokens));
            }
            if tied {
                assert!((found.loss - exact.loss).abs() < 2e-2, "{found:?} {exact:?}");
            } else {
                let bits = |update: &Update| (update.loss.to_bits(), update.grad_norm.to_bits());
                assert_eq!(bits(&found), bits(&exact), "{cards} cards, {precision:?}, step {number}");
            }
        }
        let (found, exact) = (weights(&many, cards as usize), weights(&one, 1));
        if tied {
            let (distance, _) = compare(&found, &exact);
            assert!(distance < 2e-2, "{distance:e}");
        } else {
            assert!(found == exact, "{cards} cards, peers {peers}, {precision:?}");
        }
    }
    emulated.check();
}

#[test]
fn two_cards_are_one_that_adds_up_their_shares() {
    agree(2, false, Precision::F32, Optimizer::AdamW);
    agree(2, false, Precision::Bf16, Optimizer::AdamW8bit);
}

#[test]
fn four_cards_are_too_and_so_are_cards_that_reach_each_other() {
    agree(4, false, Precision::F32, Optimizer::AdamW);
    agree(2, true, Precision::F32, Optimizer::AdamW);
    agree(4, true, Precision::Fp16, Optimizer::AdamW);
}

#[test]
fn two_cards_make_the_step_of_one_with_the_whole_batch() {
    let Some(emulated) = Emulated::with(2) else { return };
    let (config, options) = (model(true), options(Precision::F32, SEQUENCES as usize));
    let mut one = make(&emulated.cards(1), &config, &options);
    let mut two = make(&emulated.cards(2), &config, &options);
    for number in 0..3 {
        let (a, b) = (step(&mut one, number, 2, 1), step(&mut two, number, 2, 1));
        assert!((a.loss - b.loss).abs() < 1e-5 && a.tokens == b.tokens, "{a:?} {b:?}");
        assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-4, "{a:?} {b:?}");
    }
    let (distance, _) = compare(&weights(&two, 2), &weights(&one, 1));
    assert!(distance < 2e-3, "{distance:e}");
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let batch = rows(9, 0..3, LENGTH);
    one.evaluate(&batch, &mut |loss| a.push((loss.index, loss.sum))).unwrap();
    two.evaluate(&batch, &mut |loss| b.push((loss.index, loss.sum))).unwrap();
    let close = a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-2);
    assert!(a.len() == 3 && b.len() == 3 && close, "{a:?} {b:?}");
    emulated.check();
}

#[test]
fn a_card_without_a_sequence_adds_nothing() {
    let Some(emulated) = Emulated::with(4) else { return };
    let (config, options) = (model(false), options(Precision::F32, 4));
    let mut four = make(&emulated.cards(4), &config, &options);
    let mut one = make(&emulated.cards(1), &config, &options);
    for (number, sequences) in [(0, 4), (1, 1), (2, 3)] {
        let batch = rows(number, 0..sequences, LENGTH);
        four.accumulate(&batch, 1.0).unwrap();
        one.accumulate(&batch, 1.0).unwrap();
        let (a, b) = (four.update(1e-3).unwrap(), one.update(1e-3).unwrap());
        assert!(
            (a.loss - b.loss).abs() < 1e-5 && (a.grad_norm / b.grad_norm - 1.0).abs() < 1e-4,
            "{a:?} {b:?}"
        );
    }
    weights(&four, 4);
    emulated.check();
}

#[test]
fn more_micro_batches_than_their_scale_says_are_added_all_the_same() {
    let Some(emulated) = Emulated::with(2) else { return };
    let (config, options) = (model(true), options(Precision::F32, 4));
    let mut two = make(&emulated.cards(2), &config, &options);
    let mut one = make(&emulated.cards(1), &config, &options);
    step(&mut two, 0, 1, 1);
    step(&mut one, 0, 1, 1);
    for part in 0..3 {
        // The first says that it is the last one: gradients are joined with it, and the others come on top.
        let batch = rows(1, part * 4..part * 4 + 4, LENGTH);
        two.accumulate(&batch, 1.0).unwrap();
        one.accumulate(&batch, 1.0).unwrap();
    }
    let (a, b) = (two.update(1e-3).unwrap(), one.update(1e-3).unwrap());
    assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-4, "{a:?} {b:?}");
    emulated.check();
}

/// Processes with cards of their own, joined by a group.
#[test]
fn ranks_with_cards_make_the_step_of_one_with_all() {
    let Some(emulated) = Emulated::with(2) else { return };
    let config = model(true);
    let mut one = make(&emulated.cards(1), &config, &options(Precision::F32, 4));
    one.accumulate(&rows(0, 0..4, LENGTH), 1.0).unwrap();
    let exact = one.update(1e-2).unwrap();
    let libraries: Vec<Emulated> = (0..2).map(|_| Emulated::with(1).unwrap()).collect();
    let found: Vec<(Update, Vec<f32>)> = std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::of(2)
            .into_iter()
            .zip(&libraries)
            .map(|(mut group, library)| {
                let config = &config;
                scope.spawn(move || {
                    let first = group.rank as u64 * 2;
                    let mut engine = make(&library.cards(1), config, &options(Precision::F32, 2));
                    engine.accumulate(&rows(0, first..first + 2, LENGTH), 1.0).unwrap();
                    engine.reduce(&mut group).unwrap();
                    (engine.update(1e-2).unwrap(), engine.weights_of(0).unwrap())
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(found[0].1 == found[1].1, "the same weights on each rank");
    let update = found[0].0;
    assert!((update.loss - exact.loss).abs() < 1e-5 && update.tokens == exact.tokens, "{update:?} {exact:?}");
    assert!((update.grad_norm / exact.grad_norm - 1.0).abs() < 1e-4);
    assert_eq!(update.noise.unwrap().small_tokens, 80, "a rank's share is the small batch");
}

fn saved(engine: &CudaGpt) -> Memory {
    let mut memory = Memory::default();
    engine.save(&mut memory).unwrap();
    memory
}

#[test]
fn a_lost_card_leaves_the_state_before_the_step_to_be_gone_on_with() {
    let Some(emulated) = Emulated::with(2) else { return };
    let (config, options) = (model(true), options(Precision::F32, 4));
    let mut whole = make(&emulated.cards(2), &config, &options);
    step(&mut whole, 0, 1, 1);
    let before = saved(&whole);
    let exact = step(&mut whole, 1, 1, 1);
    for launches in [0, 7, 60, 131] {
        let mut engine = make(&emulated.cards(2), &config, &options);
        step(&mut engine, 0, 1, 1);
        emulated.emulator().fail("cuLaunchKernel", launches, 719);
        let batch = rows(1, 0..4, LENGTH);
        let error = engine.accumulate(&batch, 1.0).unwrap_err();
        assert!(matches!(error, EngineError::Lost(_)), "{error}");
        for part in ["card ", "cuLaunchKernel failed", "hint:", "the same command goes on"] {
            assert!(error.to_string().contains(part), "`{part}` is not in {error}");
        }
        assert!(
            matches!(engine.accumulate(&batch, 1.0), Err(EngineError::Lost(_))),
            "it is not used any more"
        );
        let mut state = saved(&engine);
        assert!(
            state.tensors == before.tensors && state.counters == before.counters,
            "after {launches} launches"
        );
        drop(engine);
        let mut again = make(&emulated.cards(2), &config, &options);
        again.load(&mut state).unwrap();
        let update = step(&mut again, 1, 1, 1);
        assert_eq!(update.loss.to_bits(), exact.loss.to_bits());
        assert!(weights(&again, 2) == weights(&whole, 2));
    }
}

#[test]
fn a_card_lost_in_the_update_leaves_no_state_that_could_be_taken_for_whole() {
    let Some(emulated) = Emulated::with(2) else { return };
    let mut engine = make(&emulated.cards(2), &model(true), &options(Precision::F32, 4));
    engine.accumulate(&rows(0, 0..4, LENGTH), 1.0).unwrap();
    engine.reduce(&mut SingleDevice).unwrap();
    // The first card's update is on its way when the second's cannot be.
    emulated.emulator().fail("cuLaunchKernel", 4, 719);
    assert!(matches!(engine.update(1e-3), Err(EngineError::Lost(_))));
    let error = engine.save(&mut Memory::default()).unwrap_err().to_string();
    assert!(error.contains("no card holds a whole state"), "{error}");
}

#[test]
fn the_only_card_lost_saves_nothing() {
    let Some(emulated) = Emulated::with(1) else { return };
    let mut engine = make(&emulated.cards(1), &model(true), &options(Precision::F32, 4));
    emulated.emulator().fail("cuLaunchKernel", 3, 700);
    assert!(matches!(engine.accumulate(&rows(0, 0..4, LENGTH), 1.0), Err(EngineError::Lost(_))));
    assert!(engine.save(&mut Memory::default()).is_err());
}
