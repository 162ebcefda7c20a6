//! Ranks that train one model together: what one of them computes over the whole batch, and leaving together.

mod memory;
mod threads;

use isoflop_nn::engine::{Buffer, DevicePtr};
use isoflop_nn::{
    Cpu, CpuGpt, Device, Engine, EngineError, EngineOptions, GptConfig, Group, KernelSet, Precision,
    TokenBatch, Update,
};
use memory::Memory;
use threads::Threads;

const LENGTH: usize = 40;

fn config() -> GptConfig {
    GptConfig::new("L2-d40-h5".parse().unwrap(), 131, LENGTH)
}

fn engine(precision: Precision) -> CpuGpt {
    let options = EngineOptions { precision, micro_batch: 4, ..EngineOptions::default() };
    Cpu { kernels: KernelSet::detect(), threads: 1 }.make(&config(), &options, 1).unwrap()
}

/// Rows `first .. first + count` of a step's batch of eight.
fn rows(step: u64, first: u64, count: u64) -> TokenBatch {
    let token = |row: u64, i: u64| {
        ((step * 7919 + row * 131 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u32 % 131
    };
    let tokens = (first..first + count).flat_map(|row| (0..=LENGTH as u64).map(move |i| token(row, i)));
    TokenBatch::new(tokens.collect(), count as usize, LENGTH)
}

const STEPS: u64 = 12;

/// What a rank saw and ended with.
struct Rank {
    updates: Vec<Result<Update, EngineError>>,
    /// The joined gradient of the first step.
    gradient: Vec<f32>,
    weights: Vec<f32>,
}

/// Steps of each of two ranks, with its half of each batch; `poison` is a step at which the second's weights hold a
/// NaN.
fn two_ranks(precision: Precision, poison: Option<u64>) -> Vec<Rank> {
    let train = |mut group: Threads| {
        let (mut engine, number) = (engine(precision), group.rank as u64);
        let mut rank = Rank { updates: Vec::new(), gradient: Vec::new(), weights: Vec::new() };
        for step in 0..STEPS {
            if poison == Some(step) && number == 1 {
                poisoned(&mut engine);
            }
            engine.accumulate(&rows(step, 4 * number, 4), 1.0).unwrap();
            engine.reduce(&mut group).unwrap();
            if step == 0 {
                rank.gradient = engine.gradients().to_vec();
            }
            rank.updates.push(engine.update(1e-2));
        }
        rank.weights = engine.weights().1.to_vec();
        rank
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> =
            Threads::of(2).into_iter().map(|group| scope.spawn(move || train(group))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// ‖a − b‖ / ‖b‖.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

#[test]
fn two_ranks_of_half_the_batch_are_one_of_the_whole() {
    // Gradients: only the order of sums differs, in f32 in either precision. Losses: AdamW moves weights whose gradient
    // is nothing but rounding as far as others, so that both go their way in the last digits; in bf16 a rounding of an
    // operand falls the other way here and there.
    for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Bf16, 5e-3)] {
        let mut one = engine(precision);
        let ranks = two_ranks(precision, None);
        for step in 0..STEPS {
            for half in 0..2 {
                one.accumulate(&rows(step, 4 * half, 4), 0.5).unwrap();
            }
            if step == 0 {
                let distance = apart(&ranks[0].gradient, one.gradients());
                assert!(distance < 1e-6, "{precision:?}: {distance:e}");
            }
            let whole = one.update(1e-2).unwrap();
            let [a, b] = [0, 1].map(|rank: usize| *ranks[rank].updates[step as usize].as_ref().unwrap());
            assert_eq!(a, b, "{precision:?}: every rank sees the same");
            assert_eq!(a.tokens, whole.tokens);
            for (found, expected) in [(a.loss, whole.loss), (a.grad_norm, whole.grad_norm)] {
                let distance = (found / expected - 1.0).abs();
                assert!(distance < tolerance, "{precision:?} step {step}: {found} {expected}");
            }
            let tokens = |update: &Update| update.noise.map(|pair| (pair.small_tokens, pair.big_tokens));
            assert_eq!(tokens(&a), tokens(&whole));
            assert_eq!(tokens(&a).is_some(), step % 10 == 0, "a rank's share is the small batch");
            assert!(a.noise.is_none_or(|pair| pair.small_squared > pair.big_squared), "{:?}", a.noise);
        }
        assert!(ranks[0].weights == ranks[1].weights, "{precision:?}: the same weights on each rank");
    }
}

#[test]
fn a_loss_that_is_no_number_on_one_rank_ends_the_step_on_all() {
    let ranks = two_ranks(Precision::F32, Some(5));
    for (rank, Rank { updates, .. }) in ranks.iter().enumerate() {
        for (step, update) in updates.iter().enumerate().take(6) {
            match update {
                Ok(update) => assert!(step < 5 && update.loss.is_finite(), "rank {rank}, step {step}"),
                Err(EngineError::NonFinite { what }) => {
                    assert_eq!((step, *what), (5, "the loss"), "rank {rank}")
                }
                Err(other) => panic!("rank {rank}, step {step}: {other}"),
            }
        }
    }
}

/// A NaN in one weight, as a broken device would leave it.
fn poisoned(engine: &mut CpuGpt) {
    let mut state = Memory::default();
    engine.save(&mut state).unwrap();
    state.tensors.get_mut("transformer.wte.weight").unwrap()[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    engine.load(&mut state).unwrap();
}

#[test]
fn a_buffer_the_group_does_not_know_is_refused() {
    let mut group = Threads::of(1).remove(0);
    let elsewhere = Buffer::Device(DevicePtr { device: 0, address: 0x1000, len: 4, queue: 0 });
    let error = group.join(elsewhere, &mut []).unwrap_err();
    assert!(matches!(error, EngineError::Device(_)), "{error}");
}
