//! A backbone and what stands behind it as an [`Engine`]: the same loop that trains language models trains these.
//!
//! A micro-batch is so many images, or so many whole episodes, in one pass: batch norm sees all of them, whatever the
//! threads. A step may have several micro-batches; then each is normalised by itself, as on several devices.

use super::backbone::{Backbone, Host, Kept};
use super::config::ConvConfig;
use super::heads::{Head, HeadConfig};
use super::learner::{Learner, LearnerConfig, Sums, Targets};
use super::net::{ConvOptions, Norm};
use super::optimizer::OptimizerConfig;
use super::parameters::{Parameter, Parameters};
use super::{ConvError, config::Architecture, told};
use crate::engine::{Buffer, Group, Outcome, StepSums, Update};
use crate::{Engine, EngineError, MemoryPlan, SequenceLoss};
use isoflop_base::tensor::{Dtype, TensorGroup, TensorSpec};
use isoflop_base::{EpisodeShape, HeadKind, TensorError, TensorSink, TensorSource};
use isoflop_kernels::KernelSet;

/// Every so many steps a pair of gradient norms is measured.
const NOISE_EVERY: u64 = 10;

/// A network, what it learns, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct FewShotConfig {
    /// The backbone.
    pub network: ConvConfig,
    /// What it learns.
    pub learner: LearnerConfig,
    /// Optimiser of all weights.
    pub optimizer: OptimizerConfig,
    /// Rate of what stands behind the backbone, as a multiple of the backbone's.
    pub head_lr: f64,
    /// Statistics of the norms in training.
    pub norm: Norm,
    /// Whether the backbone stays as it is: then a training batch holds features, made once, in place of images.
    pub frozen: bool,
    /// Largest norm of the whole gradient; 0 for none.
    pub clip: f64,
}

/// Images with what they are to be.
#[derive(Debug, Clone, Default)]
pub struct ImageBatch {
    /// `[B,H,W,C]`, from 0 to 1; for an engine with a frozen backbone features `[B,d]`.
    pub images: Vec<f32>,
    /// What they are.
    pub targets: Targets,
}

/// A backbone and its learner in training: the backbone where it was made, its features' vectors on the processor.
pub struct FewShotEngine {
    config: FewShotConfig,
    kernels: KernelSet,
    backbone: Box<dyn Backbone>,
    learner: Learner,
    df: Vec<f32>,
    /// Features of images that are only looked at, and what judges them where the learner is a classifier.
    features: Vec<f32>,
    logits: Vec<f32>,
    nearest: Head,
    sums: StepSums,
}

impl FewShotEngine {
    /// With fresh weights, a function of the options' seed, on the processor.
    ///
    /// # Errors
    /// As [`ConvNet::new`](super::ConvNet::new).
    pub fn new(config: &FewShotConfig, options: &ConvOptions) -> Result<Self, ConvError> {
        Ok(Self::on(Box::new(Host::new(config, options)?), config, options))
    }

    /// On a backbone of the same configuration, with a fresh learner, a function of the options' seed.
    pub fn on(backbone: Box<dyn Backbone>, config: &FewShotConfig, options: &ConvOptions) -> Self {
        let width = backbone.network().features;
        Self {
            learner: Learner::new(config.learner, width, config.optimizer, options.seed),
            df: Vec::new(),
            features: Vec::new(),
            logits: Vec::new(),
            nearest: Head::new(nearest_mean(config.learner, width)),
            sums: StepSums::default(),
            backbone,
            config: config.clone(),
            kernels: options.kernels,
        }
    }

    /// Bytes [`FewShotEngine::new`] will allocate, by what they hold.
    ///
    /// # Errors
    /// An impossible network or batch.
    pub fn plan(config: &FewShotConfig, options: &ConvOptions) -> Result<MemoryPlan, ConvError> {
        let mut plan = Host::plan(config, options)?;
        plan.groups.push(Self::head_bytes(config, &Architecture::new(&config.network)?));
        Ok(plan)
    }

    /// What is held for the learner, on the processor wherever the backbone is.
    fn head_bytes(config: &FewShotConfig, network: &Architecture) -> (&'static str, u64) {
        ("head", Learner::bytes(&config.learner, network.features, &config.optimizer))
    }

    /// The backbone's units.
    pub fn network(&self) -> &Architecture {
        self.backbone.network()
    }

    /// The backbone's weights, flat.
    ///
    /// # Errors
    /// The device's.
    pub fn weights(&self) -> Result<Vec<f32>, EngineError> {
        let mut weights = vec![0.0; self.network().parameters.len];
        self.backbone.read(Kept::Weights, &mut weights)?;
        Ok(weights)
    }

    /// Features `out[B,d]` of any number of images, by the running statistics.
    ///
    /// # Errors
    /// No whole images, another number of features; the device's.
    pub fn embed(&mut self, images: &[f32], out: &mut [f32]) -> Result<(), EngineError> {
        self.backbone.embed(images, out)
    }

    /// Configuration and weights of the head, if it learns from episodes.
    pub fn head(&mut self) -> Option<(HeadConfig, &[f32])> {
        self.learner.head_mut().map(|(head, weights)| (*head.config(), weights))
    }

    /// Takes a checkpoint's backbone and nothing else of it: weights and running statistics.
    ///
    /// # Errors
    /// The source's; a tensor that is missing or of another shape.
    pub fn load_backbone(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        let layout = self.network().parameters.clone();
        let mut weights = vec![0.0; layout.len];
        for tensor in &layout.tensors {
            read(source, TensorGroup::Model, &tensor.name, tensor, &mut weights)?;
        }
        let [mut mean, mut variance] = [vec![0.0; self.network().channels], Vec::new()];
        variance.clone_from(&mean);
        for (name, own) in self.norms() {
            let shape = [own.len()];
            let mean = &mut mean[own.clone()];
            source.read_f32(TensorGroup::Model, &format!("{name}.running_mean"), &shape, mean)?;
            let variance = &mut variance[own];
            source.read_f32(TensorGroup::Model, &format!("{name}.running_var"), &shape, variance)?;
        }
        self.backbone.write(Kept::Weights, &weights)?;
        self.backbone.write(Kept::RunningMean, &mean)?;
        self.backbone.write(Kept::RunningVariance, &variance)
    }

    /// Each norm's name and channels.
    fn norms(&self) -> Vec<(String, std::ops::Range<usize>)> {
        let network = self.network();
        let own = network.units().map(|unit| unit.channel..unit.channel + unit.shape.outputs);
        network.norms.iter().cloned().zip(own).collect()
    }

    /// What `accumulate` and `evaluate` ask of a batch.
    fn check(&self, batch: &ImageBatch, each: usize) -> Result<usize, EngineError> {
        let images = batch.images.len() / each;
        let asked = match &batch.targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Episodes { shape, .. } => images.next_multiple_of(shape.images().max(1)),
        };
        if images == 0 || images * each != batch.images.len() || asked != images {
            let found = batch.images.len();
            return Err(EngineError::Device(format!(
                "{found} pixels are no {asked} images of {each}\nhint: a batch has whole images and whole episodes"
            )));
        }
        Ok(images)
    }

    /// Loss and right answers of an episode's features `f[N,K+Q,d]`, by the head, or by the nearest mean where the
    /// learner is a classifier; nothing is dropped.
    pub fn judge(&mut self, shape: EpisodeShape, f: &[f32]) -> super::heads::Outcome {
        let (head, weights) = match self.learner.head_mut() {
            Some(own) => own,
            None => (&mut self.nearest, &[][..]),
        };
        head.evaluate(self.kernels, shape, weights, f, &mut self.logits)
    }
}

/// Elements of the backbone's weights that are trained.
pub(super) fn trained(config: &FewShotConfig, network: &Architecture) -> usize {
    if config.frozen { 0 } else { network.parameters.len }
}

/// What judges features while they are learnt: class means, at the head's own temperature where there is a head.
fn nearest_mean(learner: LearnerConfig, width: usize) -> HeadConfig {
    match learner {
        LearnerConfig::Episodes(head) => HeadConfig { kind: HeadKind::Proto, ..head },
        LearnerConfig::Classes { .. } => HeadConfig::nearest_mean(width),
    }
}

/// Reads a tensor in PyTorch's order into a flat buffer of ours.
fn read(
    source: &mut dyn TensorSource,
    group: TensorGroup,
    name: &str,
    tensor: &Parameter,
    buffer: &mut [f32],
) -> Result<(), TensorError> {
    let mut torch = vec![0.0; tensor.len];
    source.read_f32(group, name, &tensor.shape, &mut torch)?;
    tensor.from_torch(&torch, &mut buffer[tensor.range()]);
    Ok(())
}

impl Engine for FewShotEngine {
    type Batch = ImageBatch;

    fn accumulate(&mut self, batch: &ImageBatch, scale: f32) -> Result<(), EngineError> {
        let (d, input) = (self.network().features, self.network().input);
        let images = self.check(batch, if self.config.frozen { d } else { input })?;
        if !self.learner.understands(&batch.targets) {
            return Err(EngineError::Device("the batch is of another kind than the learner".to_owned()));
        }
        let first = self.sums.tokens == 0;
        if first {
            self.learner.gradients.fill(0.0);
        }
        self.df.resize(images * d, 0.0);
        let (set, df) = (self.kernels, &mut self.df[..images * d]);
        let sums = if self.config.frozen {
            self.learner.train(set, &batch.targets, &batch.images, scale, df)
        } else {
            let f = self.backbone.forward(&batch.images, self.config.norm)?;
            let sums = self.learner.train(set, &batch.targets, f, scale, df);
            self.backbone.backward(&batch.images, df, first)?;
            sums
        };
        let Sums { loss, judged } = sums;
        if first && scale < 1.0 && self.learner.moments.steps().is_multiple_of(NOISE_EVERY) {
            self.sums.small_squared = Some(self.squares()? / f64::from(scale).powi(2));
            self.sums.small_tokens = judged;
        }
        self.sums.loss += loss;
        self.sums.tokens += judged;
        Ok(())
    }

    fn reduce(&mut self, group: &mut dyn Group) -> Result<(), EngineError> {
        if group.size() > 1 {
            group.join(Buffer::Host(&mut self.learner.gradients), &mut [])?;
        }
        self.backbone.join(&mut self.sums, group)
    }

    fn update(&mut self, lr: f32) -> Result<Update, EngineError> {
        let sums = std::mem::take(&mut self.sums);
        let loss = sums.mean_loss()?;
        let squares = self.squares()?;
        if !squares.is_finite() {
            return Err(EngineError::NonFinite { what: "the gradient norm" });
        }
        let norm = squares.sqrt();
        // The constant is `torch.nn.utils.clip_grad_norm_`'s.
        let most = self.config.clip;
        let scale = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let lr = f64::from(lr);
        self.backbone.update(lr, scale)?;
        let Learner { moments, weights, gradients, .. } = &mut self.learner;
        let (set, pool) = (self.kernels, self.backbone.pool());
        moments.step(set, pool, lr * self.config.head_lr, scale, weights, gradients).map_err(told)?;
        let noise = sums.noise(squares);
        Ok(Update { loss, tokens: sums.tokens, grad_norm: norm, noise, outcome: Outcome::Applied })
    }

    /// Losses of the batch's episodes: what [`SequenceLoss`] calls a sequence is an episode, its positions are its
    /// queries.
    fn evaluate(
        &mut self,
        batch: &ImageBatch,
        each: &mut dyn FnMut(SequenceLoss),
    ) -> Result<(), EngineError> {
        let images = self.check(batch, self.network().input)?;
        let Targets::Episodes { shape, .. } = batch.targets else {
            let what = "held-out classes are judged by episodes".to_owned();
            return Err(EngineError::Device(what));
        };
        let d = self.network().features;
        let mut features = std::mem::take(&mut self.features);
        features.resize(images * d, 0.0);
        self.backbone.embed(&batch.images, &mut features)?;
        let queries = (shape.ways * shape.queries) as u64;
        for (index, f) in features.chunks_exact(shape.images() * d).enumerate() {
            let loss = self.judge(shape, f).loss;
            each(SequenceLoss { index, sum: loss * queries as f64, tokens: queries });
        }
        self.features = features;
        Ok(())
    }

    fn save(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let network = self.network();
        let layout = &network.parameters;
        let spec = |name: String, group, shape: &[usize]| TensorSpec {
            name,
            group,
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        let body = |what, len: usize| -> Result<Vec<f32>, EngineError> {
            let mut values = vec![0.0; len];
            self.backbone.read(what, &mut values)?;
            Ok(values)
        };
        // Names, where they go, and their values in PyTorch's order.
        let mut tensors: Vec<(TensorSpec, Vec<f32>)> = Vec::new();
        let mut take = |name: String, group, tensor: &Parameter, from: &[f32]| {
            let mut torch = vec![0.0; tensor.len];
            tensor.to_torch(&from[tensor.range()], &mut torch);
            tensors.push((spec(name, group, &tensor.shape), torch));
        };
        let head = &self.learner.parameters;
        for (layout, weights) in
            [(layout, &body(Kept::Weights, layout.len)?[..]), (head, &self.learner.weights)]
        {
            for tensor in &layout.tensors {
                take(tensor.name.clone(), TensorGroup::Model, tensor, weights);
            }
        }
        let mut moments_of = |layout: &Parameters, kind: &str, moment: &[f32]| {
            for tensor in &layout.tensors {
                take(format!("{kind}.{}", tensor.name), TensorGroup::Optimizer, tensor, moment);
            }
        };
        if !self.config.frozen {
            for (index, kind) in self.config.optimizer.names().iter().enumerate() {
                moments_of(layout, kind, &body(Kept::Moment(index), layout.len)?);
            }
        }
        for (kind, moment) in self.learner.moments.moments() {
            moments_of(head, kind, moment);
        }
        for (of, what) in [("running_mean", Kept::RunningMean), ("running_var", Kept::RunningVariance)] {
            let values = body(what, network.channels)?;
            for (name, own) in self.norms() {
                let spec = spec(format!("{name}.{of}"), TensorGroup::Model, &[own.len()]);
                tensors.push((spec, values[own].to_vec()));
            }
        }
        tensors.sort_by_key(|(spec, _)| spec.group == TensorGroup::Optimizer);
        let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        sink.begin(&specs)?;
        for (spec, values) in &tensors {
            sink.write(&spec.name, bytemuck::cast_slice(values))?;
        }
        Ok(sink.counter("step", self.learner.moments.steps())?)
    }

    fn load(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        self.load_backbone(source)?;
        let layout = self.network().parameters.clone();
        let steps = source.counter("step").unwrap_or(0);
        let names = self.config.optimizer.names();
        let moment_of = |source: &mut dyn TensorSource, layout: &Parameters, kind: &str, to: &mut [f32]| {
            to.fill(0.0);
            for tensor in layout.tensors.iter().filter(|_| steps > 0) {
                read(source, TensorGroup::Optimizer, &format!("{kind}.{}", tensor.name), tensor, to)?;
            }
            Ok::<(), TensorError>(())
        };
        if !self.config.frozen {
            let mut moment = vec![0.0; layout.len];
            for (index, kind) in names.iter().enumerate() {
                moment_of(source, &layout, kind, &mut moment)?;
                self.backbone.write(Kept::Moment(index), &moment)?;
            }
        }
        let Learner { parameters, weights, moments, gradients, .. } = &mut self.learner;
        for tensor in &parameters.tensors {
            read(source, TensorGroup::Model, &tensor.name, tensor, weights)?;
        }
        for (kind, moment) in moments.moments_mut() {
            moment_of(source, parameters, kind, moment)?;
        }
        moments.go_on_after(steps);
        gradients.fill(0.0);
        self.sums = StepSums::default();
        self.backbone.go_on_after(steps)
    }

    fn memory(&self) -> MemoryPlan {
        let mut plan = self.backbone.memory();
        if self.backbone.on_processor() {
            plan.groups.push(Self::head_bytes(&self.config, self.network()));
        }
        plan
    }
}

impl FewShotEngine {
    /// |g|² of the step's gradients so far, the head's included.
    fn squares(&mut self) -> Result<f64, EngineError> {
        let body = self.backbone.squares()?;
        let Learner { moments, gradients, .. } = &mut self.learner;
        let head = moments.norm(self.kernels, self.backbone.pool(), gradients);
        Ok(body + head * head)
    }
}
