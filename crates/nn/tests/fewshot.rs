//! The few-shot engine: the same bits whatever the threads, gone on with from a checkpoint as if nothing had been, and
//! ranks with shares of a step's episodes make the step of one with all of them.

mod memory;
mod threads;

use isoflop_base::{EpisodeShape, HeadKind};
use isoflop_nn::conv::{
    ConvConfig, ConvOptions, FewShotConfig, FewShotEngine, HeadConfig, ImageBatch, LearnerConfig, Norm,
    OptimizerConfig, Targets,
};
use isoflop_nn::{Engine, EngineError, KernelSet, Precision, SingleDevice, Update};
use memory::Memory;
use threads::Threads;

const SHAPE: EpisodeShape = EpisodeShape { ways: 3, shots: 2, queries: 2 };
const SIDE: usize = 16;
const WIDTH: usize = 16;

fn head(kind: HeadKind) -> LearnerConfig {
    let feat = kind == HeadKind::Feat;
    LearnerConfig::Episodes(HeadConfig {
        temperature: 4.0,
        auxiliary: feat.then_some((0.1, 8.0)),
        dropout: if feat { 0.5 } else { 0.0 },
        ..HeadConfig::new(kind, WIDTH)
    })
}

fn config(learner: LearnerConfig, norm: Norm) -> FewShotConfig {
    FewShotConfig {
        network: ConvConfig::conv4(SIDE, 1, WIDTH),
        learner,
        optimizer: OptimizerConfig::adam(),
        head_lr: 3.0,
        norm,
        frozen: false,
        clip: 1.0,
    }
}

fn engine(config: &FewShotConfig, threads: usize, episodes: usize) -> FewShotEngine {
    let options = ConvOptions {
        kernels: KernelSet::detect(),
        threads,
        images: episodes * SHAPE.images(),
        seed: 7,
        precision: Precision::F32,
    };
    let engine = FewShotEngine::new(config, &options).unwrap();
    assert_eq!(engine.memory(), FewShotEngine::plan(config, &options).unwrap(), "the plan is what is held");
    engine
}

/// Episodes `first..first + count` of an endless stream.
fn episodes(first: u64, count: usize) -> ImageBatch {
    let pixels = SHAPE.images() * SIDE * SIDE;
    let at = |i: usize| ((first as usize * pixels + i) as f32 * 0.7311).sin() * 0.5 + 0.5;
    ImageBatch {
        images: (0..count * pixels).map(at).collect(),
        targets: Targets::Episodes { shape: SHAPE, first },
    }
}

fn classes(first: u64) -> ImageBatch {
    let batch = episodes(first, 2);
    let images = 2 * SHAPE.images();
    ImageBatch { targets: Targets::Classes((0..images as u32).map(|i| i % 5).collect()), ..batch }
}

fn step(engine: &mut FewShotEngine, batches: &[ImageBatch]) -> Update {
    for batch in batches {
        engine.accumulate(batch, 1.0 / batches.len() as f32).unwrap();
    }
    engine.reduce(&mut SingleDevice).unwrap();
    engine.update(1e-2).unwrap()
}

fn saved(engine: &FewShotEngine) -> Memory {
    let mut memory = Memory::default();
    engine.save(&mut memory).unwrap();
    memory
}

fn learners() -> impl Iterator<Item = LearnerConfig> {
    HeadKind::ALL.into_iter().map(head).chain([LearnerConfig::Classes { classes: 5, smoothing: 0.1 }])
}

fn batches(learner: LearnerConfig, step: u64) -> [ImageBatch; 2] {
    match learner {
        LearnerConfig::Classes { .. } => [classes(4 * step), classes(4 * step + 2)],
        LearnerConfig::Episodes(_) => [episodes(4 * step, 2), episodes(4 * step + 2, 2)],
    }
}

#[test]
fn threads_change_no_bit_of_a_few_shot_step() {
    for learner in learners() {
        let run = |threads| {
            let mut engine = engine(&config(learner, Norm::Batch), threads, 2);
            let updates: Vec<Update> = (0..3).map(|s| step(&mut engine, &batches(learner, s))).collect();
            (saved(&engine), updates)
        };
        let (one, updates) = run(1);
        let (several, others) = run(3);
        assert!(one == several && updates == others, "{learner:?}");
        assert!(updates[0].noise.is_some() && updates[1].noise.is_none(), "every tenth step has a pair");
    }
}

#[test]
fn a_few_shot_engine_goes_on_from_its_checkpoint_bit_for_bit() {
    for (learner, optimizer) in
        learners().zip([OptimizerConfig::adam(), OptimizerConfig::sgd()].into_iter().cycle())
    {
        let config = FewShotConfig { optimizer, ..config(learner, Norm::Batch) };
        let mut whole = engine(&config, 2, 2);
        step(&mut whole, &batches(learner, 0));
        step(&mut whole, &batches(learner, 1));
        let mut stopped = saved(&whole);
        step(&mut whole, &batches(learner, 2));
        let mut resumed = engine(&config, 2, 2);
        resumed.load(&mut stopped).unwrap();
        step(&mut resumed, &batches(learner, 2));
        assert!(saved(&whole) == saved(&resumed), "{learner:?}");
    }
}

#[test]
fn a_backbone_is_taken_over_and_nothing_else() {
    let mut trained =
        engine(&config(LearnerConfig::Classes { classes: 5, smoothing: 0.0 }, Norm::Batch), 1, 2);
    step(&mut trained, &[classes(0)]);
    let mut fresh = engine(&config(head(HeadKind::Ccd), Norm::Batch), 1, 2);
    fresh.load_backbone(&mut saved(&trained)).unwrap();
    let images = episodes(9, 1).images;
    let embed = |engine: &mut FewShotEngine| {
        let mut out = vec![0.0; SHAPE.images() * WIDTH];
        engine.embed(&images, &mut out).unwrap();
        out
    };
    assert_eq!(embed(&mut trained), embed(&mut fresh));
    let untouched = engine(&config(head(HeadKind::Ccd), Norm::Batch), 1, 2).head().unwrap().1.to_vec();
    assert_eq!(fresh.head().unwrap().1, untouched);
}

/// With frozen norms an episode's gradient is its own, whoever computes it: two ranks with half of the episodes each,
/// or two passes of half, make the step of one pass with all.
#[test]
fn ranks_and_passes_with_shares_of_the_episodes_make_the_step_of_one_with_all() {
    for kind in HeadKind::ALL {
        let config = config(head(kind), Norm::Running);
        let mut whole = engine(&config, 1, 4);
        let alone = step(&mut whole, &[episodes(0, 4)]);
        let mut passes = engine(&config, 1, 2);
        let halves = step(&mut passes, &[episodes(0, 2), episodes(2, 2)]);
        let ranks: Vec<(Update, Memory)> = std::thread::scope(|scope| {
            let run = |(rank, mut group): (u64, Threads)| {
                let config = &config;
                scope.spawn(move || {
                    let mut own = engine(config, 1, 2);
                    own.accumulate(&episodes(2 * rank, 2), 1.0).unwrap();
                    own.reduce(&mut group).unwrap();
                    (own.update(1e-2).unwrap(), saved(&own))
                })
            };
            let threads: Vec<_> = (0..).zip(Threads::of(2)).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ranks[0].1 == ranks[1].1, "{kind:?}: the ranks have the same weights");
        for other in [&halves, &ranks[0].0] {
            assert!((other.loss - alone.loss).abs() < 1e-5 * alone.loss, "{kind:?}: {other:?}, {alone:?}");
            let norms = (other.grad_norm / alone.grad_norm - 1.0).abs();
            assert!(norms < 1e-4 && other.tokens == alone.tokens, "{kind:?}: {other:?}, {alone:?}");
        }
        let (a, b) = (whole.weights().unwrap(), passes.weights().unwrap());
        let apart = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
        assert!(apart * 100 < a.len(), "{kind:?}: {apart} of {} weights are apart", a.len());
    }
}

/// On features of a frozen backbone a head learns what it would on the images with a backbone that does not move.
#[test]
fn a_frozen_backbone_is_trained_behind_on_its_features() {
    let moving = config(head(HeadKind::Feat), Norm::Running);
    let frozen = FewShotConfig { frozen: true, ..moving.clone() };
    let (mut images, mut features) = (engine(&moving, 2, 2), engine(&frozen, 2, 2));
    let before = features.weights().unwrap();
    let batch = episodes(0, 2);
    let mut made =
        ImageBatch { images: vec![0.0; 2 * SHAPE.images() * WIDTH], targets: batch.targets.clone() };
    features.embed(&batch.images, &mut made.images).unwrap();
    let (a, b) = (step(&mut images, std::slice::from_ref(&batch)), step(&mut features, &[made.clone()]));
    assert!((a.loss / b.loss - 1.0).abs() < 1e-5, "{a:?} {b:?}");
    assert!(b.grad_norm < a.grad_norm && features.weights().unwrap() == before);
    let mut stopped = saved(&features);
    step(&mut features, &[made.clone()]);
    let mut resumed = engine(&frozen, 1, 2);
    resumed.load(&mut stopped).unwrap();
    step(&mut resumed, &[made]);
    assert!(saved(&features) == saved(&resumed));
}

#[test]
fn what_is_not_finite_or_does_not_fit_changes_nothing_of_a_few_shot_engine() {
    let mut engine = engine(&config(head(HeadKind::Feat), Norm::Running), 2, 2);
    let before = saved(&engine);
    let mut poisoned = episodes(0, 2);
    poisoned.images[100] = f32::NAN;
    engine.accumulate(&poisoned, 1.0).unwrap();
    assert!(matches!(engine.update(1e-2), Err(EngineError::NonFinite { .. })));
    assert!(saved(&engine) == before);
    let cut = ImageBatch { images: episodes(0, 1).images[..5 * SIDE * SIDE].to_vec(), ..episodes(0, 1) };
    for wrong in [cut, classes(0), ImageBatch::default()] {
        assert!(engine.accumulate(&wrong, 1.0).is_err());
    }
}
