//! Networks of images: one card and several against the processor's engine, which is PyTorch's within rounding; the
//! same checkpoints; and what is planned is what is allocated.

use crate::Emulated;
use crate::memory::Memory;
use crate::numbers::compare;
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{EpisodeShape, HeadKind, TensorSource as _};
use isoflop_nn::conv::{
    BlockConfig, ConvConfig, ConvOptions, Features, FewShotConfig, FewShotEngine, HeadConfig, ImageBatch,
    LearnerConfig, Norm, OptimizerConfig, Targets,
};
use isoflop_nn::{Engine as _, EngineError, KernelSet, Precision, SingleDevice, Update};

const SHAPE: EpisodeShape = EpisodeShape { ways: 2, shots: 2, queries: 1 };
/// An odd side, so that pooling leaves rows and columns over.
const SIDE: usize = 9;
/// Episodes of a pass.
const EPISODES: usize = 3;

/// Blocks of one convolution, all pixels of two channels of input; ReLU.
fn plain() -> ConvConfig {
    let blocks = vec![BlockConfig { width: 6, convs: 1, shortcut: false }; 2];
    ConvConfig { image: SIDE, channels: 2, blocks, slope: 0.0, features: Features::Flatten }
}

/// Two residual blocks of two convolutions, wider than a block of threads has channels; leaky ReLU, mean.
fn residual() -> ConvConfig {
    let block = |width| BlockConfig { width, convs: 2, shortcut: true };
    let blocks = vec![block(5), block(66)];
    ConvConfig { image: SIDE, channels: 3, blocks, slope: 0.1, features: Features::Mean }
}

fn width(network: &ConvConfig) -> usize {
    if network.features == Features::Mean { 66 } else { 6 * 4 }
}

fn head(network: &ConvConfig, kind: HeadKind) -> LearnerConfig {
    let temperature = 4.0;
    let auxiliary = (kind == HeadKind::Feat).then_some((0.1, 8.0));
    LearnerConfig::Episodes(HeadConfig { temperature, auxiliary, ..HeadConfig::new(kind, width(network)) })
}

fn config(network: ConvConfig, learner: LearnerConfig) -> FewShotConfig {
    FewShotConfig {
        learner,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-2 },
        head_lr: 2.0,
        norm: Norm::Batch,
        frozen: false,
        clip: 1.0,
        network,
    }
}

fn options(images: usize) -> ConvOptions {
    ConvOptions { kernels: KernelSet::detect(), threads: 1, images, seed: 7, precision: Precision::F32 }
}

fn on_cards(emulated: &Emulated, cards: u32, config: &FewShotConfig) -> FewShotEngine {
    emulated.cards(cards).few_shot(config, &options(EPISODES * SHAPE.images())).unwrap()
}

fn on_processor(config: &FewShotConfig) -> FewShotEngine {
    FewShotEngine::new(config, &options(EPISODES * SHAPE.images())).unwrap()
}

fn images(config: &FewShotConfig, first: u64, count: usize) -> Vec<f32> {
    let each = SIDE * SIDE * config.network.channels;
    // No two windows are alike, and no value is twice in one.
    (0..count * each)
        .map(|i| {
            let x = (first as usize * each + i) as f32;
            (x * 0.7311).sin() * 0.3 + (x * 0.0173).sin() * 0.2 + 0.5
        })
        .collect()
}

fn batch(config: &FewShotConfig, first: u64, episodes: usize) -> ImageBatch {
    let count = episodes * SHAPE.images();
    let targets = match config.learner {
        LearnerConfig::Classes { .. } => Targets::Classes((0..count as u32).map(|i| i % 3).collect()),
        LearnerConfig::Episodes(_) => Targets::Episodes { shape: SHAPE, first },
    };
    ImageBatch { images: images(config, 100 * first, count), targets }
}

/// A step of two passes, the second smaller: cards have shares of different sizes.
fn step(engine: &mut FewShotEngine, config: &FewShotConfig, number: u64) -> Update {
    for (pass, episodes) in [(0, EPISODES), (1, EPISODES - 1)] {
        engine.accumulate(&batch(config, 2 * number + pass, episodes), 0.5).unwrap();
    }
    engine.reduce(&mut SingleDevice).unwrap();
    engine.update(0.05).unwrap()
}

fn saved(engine: &FewShotEngine) -> Memory {
    let mut memory = Memory::default();
    engine.save(&mut memory).unwrap();
    memory
}

/// How far two checkpoints of the same tensors are apart: the worst tensor, by its name.
fn apart(found: &mut Memory, exact: &mut Memory) -> (f64, String) {
    assert!(found.announced == exact.announced && found.counters == exact.counters);
    let mut worst = (0.0, String::new());
    // The bias of keys moves no attention: its gradient is rounding alone.
    for spec in exact.announced.clone().iter().filter(|spec| !spec.name.ends_with("key.bias")) {
        let read = |memory: &mut Memory| {
            let mut values = vec![0f32; spec.shape.iter().product()];
            memory.read_f32(TensorGroup::Model, &spec.name, &spec.shape, &mut values).unwrap();
            values
        };
        let distance = compare(&read(found), &read(exact)).0;
        if distance > worst.0 {
            worst = (distance, spec.name.clone());
        }
    }
    worst
}

fn embedded(engine: &mut FewShotEngine, config: &FewShotConfig) -> Vec<f32> {
    // More images than go through at once.
    let count = 37;
    let mut features = vec![0.0; count * engine.network().features];
    engine.embed(&images(config, 5, count), &mut features).unwrap();
    features
}

fn agree(found: &mut FewShotEngine, exact: &mut FewShotEngine, config: &FewShotConfig, what: &str) {
    for number in 0..3 {
        let (a, b) = (step(found, config, number), step(exact, config, number));
        assert!((a.loss / b.loss - 1.0).abs() < 1e-4, "{what}, step {number}: {a:?} {b:?}");
        assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-3, "{what}, step {number}: {a:?} {b:?}");
        assert_eq!((a.tokens, a.outcome), (b.tokens, b.outcome));
        let pairs = a.noise.zip(b.noise);
        assert_eq!((pairs.is_some(), b.noise.is_some()), (number == 0, number == 0), "{what}");
        if let Some((a, b)) = pairs {
            assert!((a.small_squared / b.small_squared - 1.0).abs() < 1e-3, "{what}: {a:?} {b:?}");
        }
    }
    let (distance, tensor) = apart(&mut saved(found), &mut saved(exact));
    assert!(distance < 1e-3, "{what}: {tensor} is {distance:e} apart");
    let (distance, _) = compare(&embedded(found, config), &embedded(exact, config));
    assert!(distance < 1e-4, "{what}: features are {distance:e} apart");
}

fn configurations() -> Vec<(&'static str, FewShotConfig)> {
    let classes = LearnerConfig::Classes { classes: 3, smoothing: 0.1 };
    let adam = FewShotConfig {
        optimizer: OptimizerConfig::adam(),
        ..config(plain(), head(&plain(), HeadKind::Proto))
    };
    let frozen_norm =
        FewShotConfig { norm: Norm::Running, ..config(residual(), head(&residual(), HeadKind::Feat)) };
    vec![
        ("plain, prototypes", config(plain(), head(&plain(), HeadKind::Proto))),
        ("plain, prototypes, AdamW", adam),
        ("residual, classes", config(residual(), classes)),
        ("residual, FEAT, frozen norms", frozen_norm),
    ]
}

/// Weight gradients by the first step of plain descent: what the weights moved is the rate times them.
#[test]
fn gradients_of_networks_of_images_are_the_processors_within_rounding() {
    let Some(emulated) = Emulated::with(2) else { return };
    for (what, config) in configurations() {
        let optimizer = OptimizerConfig::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let config = FewShotConfig { optimizer, clip: 0.0, ..config };
        let moved = |engine: &mut FewShotEngine| {
            let before = engine.weights().unwrap();
            engine.accumulate(&batch(&config, 0, EPISODES), 1.0).unwrap();
            engine.reduce(&mut SingleDevice).unwrap();
            engine.update(1.0).unwrap();
            let after = engine.weights().unwrap();
            after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<f32>>()
        };
        let exact = moved(&mut on_processor(&config));
        for cards in [1, 2] {
            let mut engine = on_cards(&emulated, cards, &config);
            let found = moved(&mut engine);
            for tensor in &engine.network().parameters.tensors {
                let (distance, _) = compare(&found[tensor.range()], &exact[tensor.range()]);
                assert!(distance < 1e-3, "{what}, {cards} cards: {} is {distance:e} apart", tensor.name);
            }
        }
    }
    emulated.check();
}

#[test]
fn steps_of_networks_of_images_are_those_of_the_processor_on_one_card_and_on_several() {
    let Some(emulated) = Emulated::with(3) else { return };
    for (what, config) in configurations() {
        let cards = if what.starts_with("residual, classes") { 3 } else { 1 };
        let (mut found, mut exact) = (on_cards(&emulated, cards, &config), on_processor(&config));
        agree(&mut found, &mut exact, &config, what);
    }
    emulated.check();
}

#[test]
fn a_few_shot_checkpoint_of_either_engine_is_gone_on_with_by_the_other() {
    let Some(emulated) = Emulated::with(2) else { return };
    for (what, config) in configurations().into_iter().skip(1).take(2) {
        let mut card = on_cards(&emulated, 2, &config);
        step(&mut card, &config, 0);
        let mut stopped = saved(&card);
        let mut processor = on_processor(&config);
        processor.load(&mut stopped).unwrap();
        assert!(saved(&processor) == stopped, "{what}: the same tensors");
        step(&mut card, &config, 1);
        step(&mut processor, &config, 1);
        let (distance, tensor) = apart(&mut saved(&card), &mut saved(&processor));
        assert!(distance < 1e-3, "{what}: {tensor} is {distance:e} apart");
        // And on cards what was stopped is what was not, bit for bit; evaluation between changes nothing.
        let mut resumed = on_cards(&emulated, 2, &config);
        resumed.load(&mut stopped).unwrap();
        embedded(&mut resumed, &config);
        step(&mut resumed, &config, 1);
        assert!(saved(&resumed) == saved(&card), "{what}");
    }
    emulated.check();
}

#[test]
fn a_frozen_network_on_a_card_is_trained_behind_on_its_features() {
    let Some(emulated) = Emulated::with(1) else { return };
    let trained = config(plain(), head(&plain(), HeadKind::CcdResidual));
    let config = FewShotConfig { frozen: true, ..trained };
    let (mut found, mut exact) = (on_cards(&emulated, 1, &config), on_processor(&config));
    let images = batch(&config, 0, 2);
    for engine in [&mut found, &mut exact] {
        let count = 2 * SHAPE.images();
        let mut features = vec![0.0; count * width(&config.network)];
        engine.embed(&images.images, &mut features).unwrap();
        engine.accumulate(&ImageBatch { images: features, ..images.clone() }, 1.0).unwrap();
        engine.reduce(&mut SingleDevice).unwrap();
        engine.update(0.1).unwrap();
    }
    let (distance, tensor) = apart(&mut saved(&found), &mut saved(&exact));
    assert!(distance < 1e-4, "{tensor} is {distance:e} apart");
    emulated.check();
}

#[test]
fn what_is_planned_for_a_network_of_images_is_allocated_and_too_much_is_refused() {
    let Some(emulated) = Emulated::with(2) else { return };
    for (what, config) in configurations() {
        let options = options(EPISODES * SHAPE.images());
        let cards = emulated.cards(2);
        let plan = cards.few_shot_plan(&config, &options).unwrap();
        let before = emulated.emulator().allocated(0);
        let engine = cards.few_shot(&config, &options).unwrap();
        assert_eq!(engine.memory(), plan, "{what}");
        for card in [0, 1] {
            assert_eq!(emulated.emulator().allocated(card) - before, plan.total(), "{what}");
        }
        drop(engine);
        assert_eq!(emulated.emulator().allocated(0), before, "{what}: given back");
    }
    emulated.emulator().set_memory(1 << 16);
    let (_, config) = configurations().remove(0);
    let error = emulated.cards(1).few_shot(&config, &options(12)).err().unwrap().to_string();
    assert!(error.contains("are free") && error.contains("hint:"), "{error}");
}

#[test]
fn a_few_shot_step_that_fails_says_which_call_it_was_and_leaves_no_half_step_to_save() {
    /// `CUDA_ERROR_ECC_UNCORRECTABLE`: the card is lost.
    const LOST: i32 = 214;
    let Some(emulated) = Emulated::with(2) else { return };
    let (_, config) = configurations().remove(0);
    for (call, after, code) in
        [("cuLaunchKernel", 9, LOST), ("cuMemcpyDtoH_v2", 1, LOST), ("cuMemcpyHtoD_v2", 3, 801)]
    {
        let mut engine = on_cards(&emulated, 2, &config);
        emulated.emulator().fail(call, after, code);
        let error = engine.accumulate(&batch(&config, 0, EPISODES), 1.0).unwrap_err();
        assert!(error.to_string().contains(&format!("{call} failed")), "{error}");
        assert_eq!(matches!(error, EngineError::Lost(_)), code == LOST, "{error}");
        let error = engine.save(&mut Memory::default()).unwrap_err();
        assert!(error.to_string().contains("last checkpoint"), "{error}");
    }
    step(&mut on_cards(&emulated, 2, &config), &config, 0);
}

#[test]
fn batches_that_fit_no_network_are_refused() {
    let Some(emulated) = Emulated::with(1) else { return };
    let (_, config) = configurations().remove(0);
    let mut engine = on_cards(&emulated, 1, &config);
    let before = saved(&engine);
    let many = batch(&config, 0, 20);
    let error = engine.accumulate(&many, 1.0).unwrap_err().to_string();
    assert!(error.contains("images"), "{error}");
    let mut images = batch(&config, 0, 1);
    images.images.pop();
    assert!(engine.accumulate(&images, 1.0).is_err());
    images = batch(&config, 0, 1);
    images.images[3] = f32::NAN;
    engine.accumulate(&images, 1.0).unwrap();
    assert!(matches!(engine.update(0.1), Err(EngineError::NonFinite { .. })));
    assert!(engine.weights().unwrap().iter().all(|w| w.is_finite()));
    assert!(before.announced == saved(&engine).announced);
}
