//! What few-shot learning brings to the training loop: batches of base images, or of whole episodes, read ahead of the
//! step; a score on validation classes.

use super::pictures::BaseImages;
use super::runs;
use crate::error::UserError;
use crate::machine::Hardware;
use crate::stop::Stop;
use crate::task::ahead::Ahead;
use crate::task::{CheckpointTexts, Score, Scoring, Seen, Task};
use anyhow::Context as _;
use isoflop_base::bits::mix;
use isoflop_base::fewshot::{Augment, FewShotSpec, Learns};
use isoflop_base::study::{MachineSpec, RunSpec};
use isoflop_base::tensor::WeightsOnly;
use isoflop_base::{BlockLoss, EpisodeShape};
use isoflop_data::DataError;
use isoflop_data::episodes::{Episode, Episodes};
use isoflop_data::images::{ImageSet, augment};
use isoflop_kernels::KernelSet;
use isoflop_nn::conv::{
    ConvOptions, FewShotConfig, FewShotEngine, ImageBatch, Norm, OptimizerConfig, Targets,
};
use isoflop_nn::{Cpu, EngineError, MemoryPlan};
use isoflop_store::Checkpoint;
use std::ops::Range;
use std::sync::Arc;

/// Seed of the validation episodes: the same for every run.
const VALIDATION: u64 = 0x7661_6c69;
/// Support and query images of a validation class for what is not trained on episodes.
const NEAREST: (usize, usize) = (5, 15);

/// Training on pictures.
pub struct ImageTask {
    spec: RunSpec,
    set: Arc<ImageSet>,
    batches: Ahead<ImageBatch>,
    validation: Episodes,
    /// Features of validation images by a frozen backbone, with the images they are of.
    judged: Option<(Vec<usize>, Vec<f32>)>,
    /// Base images.
    images: u64,
    flops_per_image: f64,
}

/// The few-shot model of a run. Panics for another family: only this room's code asks.
pub fn model(spec: &RunSpec) -> &FewShotSpec {
    spec.model.few_shot().expect("a few-shot run")
}

/// What an engine is made of.
pub fn config(spec: &RunSpec) -> FewShotConfig {
    let (model, train) = (model(spec), &spec.train);
    let network = runs::network(model);
    let features = isoflop_nn::conv::Architecture::new(&network).map_or(1, |network| network.features);
    FewShotConfig {
        learner: runs::learner(model, features),
        network,
        optimizer: match model.sgd {
            Some(sgd) => OptimizerConfig::Sgd {
                momentum: sgd.momentum,
                nesterov: sgd.nesterov,
                weight_decay: train.weight_decay,
            },
            None => OptimizerConfig::AdamW {
                beta1: train.beta1,
                beta2: train.beta2,
                eps: train.eps,
                weight_decay: train.weight_decay,
            },
        },
        head_lr: model.head_lr,
        norm: if model.frozen_norm { Norm::Running } else { Norm::Batch },
        frozen: model.frozen,
        clip: train.clip,
    }
}

/// The processor's kernel set of a run: all of it, or what stands behind a network on graphics cards.
///
/// # Errors
/// A [`UserError`]: a kernel set this processor does not have.
pub fn kernels(spec: &RunSpec) -> Result<KernelSet, UserError> {
    let name = spec.train.kernels.as_str();
    KernelSet::by_name(name.split_once('+').map_or(name, |(_, host)| host)).map_err(UserError::from_error)
}

/// What trains a run here, and how, for passes of so many images.
///
/// # Errors
/// A [`UserError`]: a kernel set or cards that are not here.
fn options(
    spec: &RunSpec,
    machine: &MachineSpec,
    images: usize,
) -> Result<(Hardware, ConvOptions), UserError> {
    let options = ConvOptions {
        kernels: kernels(spec)?,
        threads: machine.threads,
        images,
        seed: spec.seed,
        precision: spec.train.precision,
    };
    let hardware = match Hardware::is_cards(&machine.device) {
        true => Hardware::cards(&machine.device)?,
        false => Hardware::Cpu(Cpu { kernels: options.kernels, threads: options.threads }),
    };
    Ok((hardware, options))
}

/// An engine with fresh weights.
///
/// # Errors
/// A network or batch that is impossible, threads that cannot be started; the device's.
pub fn engine(spec: &RunSpec, machine: &MachineSpec) -> anyhow::Result<FewShotEngine> {
    engine_for(spec, machine, pass(spec))
}

/// An engine that only looks: it keeps nothing between images, so one built for a single image is the smallest.
///
/// # Errors
/// As [`engine`].
pub fn looking(spec: &RunSpec, machine: &MachineSpec) -> anyhow::Result<FewShotEngine> {
    engine_for(spec, machine, 1)
}

fn engine_for(spec: &RunSpec, machine: &MachineSpec, images: usize) -> anyhow::Result<FewShotEngine> {
    let (hardware, options) = options(spec, machine, images)?;
    hardware.few_shot(&config(spec), &options).map_err(|e| UserError::from_error(e).into())
}

/// Bytes that engine will allocate, counted before it does: of the processor's memory, or of each card's.
///
/// # Errors
/// As [`engine`].
pub fn memory_plan(spec: &RunSpec, machine: &MachineSpec) -> Result<MemoryPlan, UserError> {
    let (hardware, options) = options(spec, machine, pass(spec))?;
    hardware.few_shot_plan(&config(spec), &options).map_err(UserError::from_error)
}

/// Images that go through the network at once in training: none through a frozen one.
fn pass(spec: &RunSpec) -> usize {
    if model(spec).frozen { 1 } else { spec.train.micro_batch }
}

/// Features of the base images of a run whose backbone is frozen; made anew whenever the run is taken up.
///
/// # Errors
/// A start that is missing; [`crate::Stopped`].
pub fn frozen_features(
    spec: &RunSpec,
    set: &ImageSet,
    engine: &mut FewShotEngine,
    stop: &Stop,
) -> anyhow::Result<Option<Vec<f32>>> {
    if !model(spec).frozen {
        return Ok(None);
    }
    start_from(spec, engine)?;
    let base = BaseImages::new(set, model(spec).base).map_err(UserError::from_error)?;
    embed(engine, set, &base.images, stop).map(Some)
}

fn start_from(spec: &RunSpec, engine: &mut FewShotEngine) -> anyhow::Result<()> {
    let Some(from) = &spec.train.init_from else { return Ok(()) };
    let mut checkpoint = Checkpoint::open_dir(&from.path).map_err(UserError::from_error)?;
    engine
        .load_backbone(&mut WeightsOnly(&mut checkpoint))
        .with_context(|| format!("starting from {}", from.path.display()))
}

/// Training FLOPs of an image: the backward pass costs twice the forward one.
pub fn flops_per_image(spec: &RunSpec) -> f64 {
    let forward = runs::network(model(spec)).flops() as f64;
    if model(spec).frozen {
        // Every base image goes through once, however often its features are used.
        return forward * spec.data.train_tokens as f64 / spec.tokens_at(spec.end()) as f64;
    }
    3.0 * forward
}

/// Whole episodes a run is trained on; 0 of one that learns classes.
pub fn episodes(spec: &RunSpec) -> u64 {
    match &model(spec).learns {
        Learns::Classes { .. } => 0,
        Learns::Episodes { shape, .. } => spec.tokens_at(spec.end()) / shape.images() as u64,
    }
}

impl ImageTask {
    /// What a run is trained on; its batches begin to be made. `features` are those of [`frozen_features`].
    ///
    /// # Errors
    /// Splits that are missing, classes too small for an episode.
    pub fn new(spec: &RunSpec, set: &Arc<ImageSet>, features: Option<Vec<f32>>) -> anyhow::Result<Self> {
        let model = model(spec);
        let base = BaseImages::new(set, model.base).map_err(UserError::from_error)?;
        let images = base.images.len() as u64;
        let mut make = Maker {
            set: Arc::clone(set),
            each: match &features {
                Some(features) => features.len() / base.images.len(),
                None => set.side() * set.side() * set.channels(),
            },
            features,
            augment: runs::augment(model),
            key: mix(spec.seed ^ 0x6261_7463),
            micro: spec.train.micro_batch,
            micros: (spec.train.batch_tokens as usize / spec.train.micro_batch).max(1),
            spare: Vec::new(),
        };
        let batches = match model.learns {
            Learns::Classes { .. } => {
                let mut order = Order::new(&base, mix(spec.seed ^ 0x6f72_6465));
                Ahead::new(move |batches, buffer: &mut Vec<ImageBatch>| {
                    Ok(make.classes(batches.start, &mut order, buffer)?)
                })
            }
            Learns::Episodes { shape, .. } => {
                let seed = mix(spec.seed ^ 0x6570_6973);
                let episodes =
                    Episodes::new(base.classes.clone(), shape, seed).map_err(UserError::from_error)?;
                let (images, mut episode) = (base.images, Episode::default());
                Ahead::new(move |batches, buffer: &mut Vec<ImageBatch>| {
                    Ok(make.episodes(batches.start, (&episodes, &images), &mut episode, buffer)?)
                })
            }
        }?;
        Ok(Self {
            flops_per_image: flops_per_image(spec),
            validation: validation(set, model)?,
            judged: None,
            spec: spec.clone(),
            set: Arc::clone(set),
            batches,
            images,
        })
    }
}

/// The episodes a run is scored by while it trains: of the validation classes, or of the base classes where there are
/// none.
fn validation(set: &ImageSet, model: &FewShotSpec) -> Result<Episodes, UserError> {
    let classes = set.classes("val").or_else(|_| set.classes("train")).map_err(UserError::from_error)?;
    let smallest = classes.iter().map(|class| class.images.len()).min().unwrap_or(0);
    let (ways, shots, queries) = match model.learns {
        Learns::Classes { .. } => (5, NEAREST.0, NEAREST.1),
        Learns::Episodes { shape, .. } => (shape.ways, shape.shots, shape.queries),
    };
    // A validation class need not be as large as a base class.
    let shots = shots.min(smallest.saturating_sub(1)).max(1);
    let queries = queries.min(smallest.saturating_sub(shots)).max(1);
    let shape = EpisodeShape { ways: ways.min(classes.len()), shots, queries };
    Episodes::new(classes, shape, VALIDATION).map_err(UserError::from_error)
}

/// Images embedded between two looks at the stop.
const BLOCK: usize = 128;

/// Features `[n,d]` of these images of a set.
///
/// # Errors
/// Pictures that cannot be read; [`crate::Stopped`].
pub fn embed(
    engine: &mut FewShotEngine,
    set: &ImageSet,
    images: &[usize],
    stop: &Stop,
) -> anyhow::Result<Vec<f32>> {
    let (d, each) = (engine.network().features, engine.network().input);
    let (mut features, mut pixels) = (vec![0.0; images.len() * d], Vec::new());
    for (images, out) in images.chunks(BLOCK).zip(features.chunks_mut(BLOCK * d)) {
        stop.check()?;
        pixels.resize(images.len() * each, 0.0);
        for (&image, out) in images.iter().zip(pixels.chunks_exact_mut(each)) {
            set.read(image, out).map_err(UserError::from_error)?;
        }
        engine.embed(&pixels, out)?;
    }
    Ok(features)
}

/// Base images in an order that is another one in each epoch: a function of (seed, epoch).
struct Order {
    images: Vec<(usize, u32)>,
    key: u64,
    epoch: Option<u64>,
    shuffled: Vec<(usize, u32)>,
}

impl Order {
    fn new(base: &BaseImages, key: u64) -> Self {
        let images = base.images.iter().copied().zip(base.labels()).collect();
        Self { images, key, epoch: None, shuffled: Vec::new() }
    }

    /// The image at a position of the endless stream, with its class.
    fn at(&mut self, position: u64) -> (usize, u32) {
        let count = self.images.len() as u64;
        let epoch = position / count;
        if self.epoch != Some(epoch) {
            self.shuffled.clone_from(&self.images);
            let key = mix(self.key ^ mix(epoch + 1));
            self.shuffled.sort_by_key(|(image, _)| mix(key ^ mix(*image as u64 + 1)));
            self.epoch = Some(epoch);
        }
        self.shuffled[(position % count) as usize]
    }
}

/// Makes the batches of a step.
struct Maker {
    set: Arc<ImageSet>,
    /// Features of the base images, for a frozen backbone.
    features: Option<Vec<f32>>,
    /// Elements of an image, or its features.
    each: usize,
    augment: Augment,
    key: u64,
    /// Images of a micro-batch.
    micro: usize,
    /// Micro-batches of a step.
    micros: usize,
    spare: Vec<f32>,
}

impl Maker {
    /// Base image `index`, which is `image` of the set, as the `number`-th of the run, into `out`.
    fn image(
        &mut self,
        (index, image): (usize, usize),
        number: u64,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        if let Some(features) = &self.features {
            out.copy_from_slice(&features[index * self.each..(index + 1) * self.each]);
            return Ok(());
        }
        self.set.read(image, out)?;
        let size = (self.set.side(), self.set.channels());
        augment(out, size, &self.augment, mix(self.key ^ mix(number)), &mut self.spare);
        Ok(())
    }

    fn classes(
        &mut self,
        step: u64,
        order: &mut Order,
        buffer: &mut Vec<ImageBatch>,
    ) -> Result<(), DataError> {
        buffer.resize_with(self.micros, ImageBatch::default);
        let each = self.each;
        for (m, batch) in buffer.iter_mut().enumerate() {
            let first = (step * self.micros as u64 + m as u64) * self.micro as u64;
            batch.images.resize(self.micro * each, 0.0);
            let Targets::Classes(classes) = &mut batch.targets else { unreachable!("made here") };
            classes.clear();
            for (i, out) in batch.images.chunks_exact_mut(each).enumerate() {
                let (image, class) = order.at(first + i as u64);
                classes.push(class);
                self.image((0, image), first + i as u64, out)?;
            }
        }
        Ok(())
    }

    fn episodes(
        &mut self,
        step: u64,
        (episodes, images): (&Episodes, &[usize]),
        episode: &mut Episode,
        buffer: &mut Vec<ImageBatch>,
    ) -> Result<(), DataError> {
        buffer.resize_with(self.micros, ImageBatch::default);
        let shape = episodes.shape();
        let each = self.each;
        let count = self.micro / shape.images();
        for (m, batch) in buffer.iter_mut().enumerate() {
            let first = (step * self.micros as u64 + m as u64) * count as u64;
            batch.targets = Targets::Episodes { shape, first };
            batch.images.resize(self.micro * each, 0.0);
            for (e, out) in batch.images.chunks_exact_mut(shape.images() * each).enumerate() {
                episodes.episode(first + e as u64, episode);
                for (i, (&image, out)) in episode.images.iter().zip(out.chunks_exact_mut(each)).enumerate() {
                    let number = (first + e as u64) * shape.images() as u64 + i as u64;
                    self.image((image, images[image]), number, out)?;
                }
            }
        }
        Ok(())
    }
}

impl Task for ImageTask {
    type Engine = FewShotEngine;

    fn micro_batches(&mut self, batches: Range<u64>) -> anyhow::Result<&[ImageBatch]> {
        self.batches.get(batches)
    }

    fn waited_s(&self) -> f64 {
        self.batches.waited_s()
    }

    fn score(&mut self, engine: &mut FewShotEngine, which: Scoring, stop: &Stop) -> anyhow::Result<Score> {
        let shape = self.validation.shape();
        let judged = (shape.ways * shape.queries) as u64;
        let asked = match which {
            Scoring::Curve => self.spec.train.curve_tokens,
            Scoring::Point => self.spec.train.eval_tokens,
        };
        let count = asked.div_ceil(judged).max(1);
        let (drawn, features) = match self.judged.take() {
            Some(known) if which == Scoring::Curve => known,
            _ => {
                let drawn = self.validation.drawn(count);
                let features = embed(engine, &self.set, &drawn, stop)?;
                (drawn, features)
            }
        };
        let d = engine.network().features;
        let (mut blocks, mut episode, mut f) = (Vec::new(), Episode::default(), Vec::new());
        for number in 0..count {
            self.validation.episode(number, &mut episode);
            f.clear();
            for image in &episode.images {
                let at = drawn.binary_search(image).expect("it was drawn") * d;
                f.extend_from_slice(&features[at..at + d]);
            }
            let sum = engine.judge(shape, &f).loss * judged as f64;
            if !sum.is_finite() {
                return Err(EngineError::NonFinite { what: "the validation loss" }.into());
            }
            blocks.push(BlockLoss { block: number as u32, sum, tokens: judged });
        }
        if model(&self.spec).frozen && which == Scoring::Curve {
            self.judged = Some((drawn, features));
        }
        let (loss, se) = isoflop_laws::clustered_mean(&blocks)?;
        Ok(Score { loss, se, samples: blocks.len() as u64 * judged, blocks })
    }

    fn seen(&self, steps: u64) -> Seen {
        let samples = self.spec.tokens_at(steps);
        Seen {
            samples,
            flops: samples as f64 * self.flops_per_image,
            epochs: samples as f64 / self.images as f64,
            unique: samples.min(self.images),
        }
    }

    fn texts(&self) -> CheckpointTexts {
        let config = serde_json::json!({ "model_type": MODEL_TYPE, "model": model(&self.spec) });
        CheckpointTexts { config, others: Vec::new() }
    }

    fn begin(&self, engine: &mut FewShotEngine) -> anyhow::Result<()> {
        start_from(&self.spec, engine)
    }
}

/// What `config.json` of a checkpoint says it is.
pub const MODEL_TYPE: &str = "isoflop-fewshot";
