//! The runs of a few-shot study: pre-training once for each seed and each part of the data, then each head from there.

use super::study::{Asked, EpisodeRecipe, Method, Optimiser};
use crate::error::UserError;
use isoflop_base::fewshot::{Augment, Base, FewShotSpec, Learns, Sgd};
use isoflop_base::identity::RunIdentity;
use isoflop_base::study::{
    DataSpec, InitFrom, MachineSpec, ModelSpec, Resolution, Role, RunSpec, TrainSpec, Warmup,
};
use isoflop_base::{Backbone, EpisodeShape, HeadKind, Optimizer, Recompute, ScheduleKind};
use isoflop_data::images::ImageSet;
use isoflop_nn::conv::ConvConfig;
use isoflop_nn::conv::learner::LearnerConfig;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A study with its runs.
#[derive(Debug, Clone)]
pub struct FewShotStudy {
    /// What its file says.
    pub asked: Asked,
    /// Its runs: what a run starts from stands before it.
    pub runs: Vec<RunSpec>,
    /// What is tested, in the order of the table.
    pub entries: Vec<Entry>,
}

/// One row of the comparison: a method under a setting, with the runs it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The method.
    pub method: Method,
    /// Support images of a class it was trained for; those of the test for a method without training.
    pub shots: usize,
    /// Seed.
    pub seed: u64,
    /// What is varied, by axis: `classes`, `images`, `width`, `shots`, `per_step`. Empty for the main comparison.
    pub arm: BTreeMap<String, String>,
    /// Index of the run whose weights are tested.
    pub run: usize,
    /// Index of the pre-training it started from, if any.
    pub start: Option<usize>,
}

/// Where a study runs, for what determines its bits.
pub struct Place<'a> {
    /// The store: pre-training is started from there.
    pub store: &'a Path,
    /// The kernel set.
    pub kernels: &'a str,
}

impl FewShotStudy {
    /// Lays out the runs.
    ///
    /// # Errors
    /// A [`UserError`]: a part of the data that is none, a split that is missing or too small.
    pub fn new(asked: Asked, set: &ImageSet, place: &Place<'_>) -> Result<Self, UserError> {
        check_splits(&asked, set)?;
        let data = super::pictures::data_spec(&asked.pictures, set);
        let classes = set.classes("train").map_err(UserError::from_error)?.len() as u64;
        let whole = Setting { classes: 1.0, images: None, width: asked.width, support: None, per_step: None };
        let mut settings = vec![(BTreeMap::new(), whole)];
        let sweep = &asked.sweep;
        let arm = |axis: &str, value: String| BTreeMap::from([(axis.to_owned(), value)]);
        settings.extend(sweep.classes.iter().map(|&share| {
            let count = (share * classes as f64).round().max(1.0);
            (arm("classes", count.to_string()), Setting { classes: share, ..whole })
        }));
        let images = sweep.images.iter();
        settings
            .extend(images.map(|&n| (arm("images", n.to_string()), Setting { images: Some(n), ..whole })));
        let widths = sweep.widths.iter();
        settings.extend(widths.map(|&width| (arm("width", width.to_string()), Setting { width, ..whole })));
        let support = sweep.support.iter();
        settings
            .extend(support.map(|&k| (arm("shots", k.to_string()), Setting { support: Some(k), ..whole })));
        let steps = sweep.per_step.iter();
        settings
            .extend(steps.map(|&n| (arm("per_step", n.to_string()), Setting { per_step: Some(n), ..whole })));

        let mut layout =
            Layout { asked: &asked, data, place, classes, runs: Vec::new(), entries: Vec::new() };
        for (i, &seed) in asked.seeds.iter().enumerate() {
            // What is varied besides is varied with the first seed alone.
            for (arm, setting) in settings.iter().filter(|(arm, _)| i == 0 || arm.is_empty()) {
                layout.setting(seed, arm, setting)?;
            }
        }
        let Layout { runs, entries, .. } = layout;
        Ok(Self { asked, runs, entries })
    }

    /// How the runs are run here.
    pub fn machine(&self) -> &MachineSpec {
        &self.asked.machine
    }

    /// Choices made for the user.
    pub fn resolutions(&self) -> &[Resolution] {
        &self.asked.notes.0
    }
}

/// That there is something to test on, before anything is trained.
fn check_splits(asked: &Asked, set: &ImageSet) -> Result<(), UserError> {
    let refuse = |split: &str, shape: EpisodeShape| -> Result<(), UserError> {
        let classes = set.classes(split).map_err(UserError::from_error)?;
        isoflop_data::episodes::Episodes::new(classes, shape, 0)
            .map(drop)
            .map_err(|e| UserError::new(format!("{}, split `{split}`: {e}", asked.pictures.source.place())))
    };
    let test = &asked.test;
    let varied = || asked.sweep.shots.iter().chain(&asked.sweep.support);
    for &shots in test.shots.iter().chain(varied()) {
        refuse("test", EpisodeShape { ways: test.ways, shots, queries: test.queries })?;
    }
    let recipe = &asked.episodes;
    let heads = asked.methods.iter().any(|method| method.is_trained());
    for &shots in recipe.shots.iter().chain(varied()).filter(|_| heads) {
        refuse("train", EpisodeShape { ways: recipe.ways, shots, queries: recipe.queries })?;
    }
    Ok(())
}

/// What of a run is varied.
#[derive(Debug, Clone, Copy)]
struct Setting {
    classes: f64,
    images: Option<u64>,
    width: usize,
    support: Option<usize>,
    per_step: Option<u64>,
}

/// A training on episodes.
struct EpisodeTraining {
    method: Method,
    head: HeadKind,
    shots: usize,
    frozen: bool,
    optimiser: Optimiser,
    /// Episodes.
    count: u64,
    start: Option<usize>,
}

struct Layout<'a> {
    asked: &'a Asked,
    data: DataSpec,
    place: &'a Place<'a>,
    /// Classes of the training split.
    classes: u64,
    runs: Vec<RunSpec>,
    entries: Vec<Entry>,
}

impl Layout<'_> {
    /// The runs and entries of one seed and setting.
    fn setting(
        &mut self,
        seed: u64,
        arm: &BTreeMap<String, String>,
        setting: &Setting,
    ) -> Result<(), UserError> {
        let base = Base {
            classes: ((setting.classes * self.classes as f64).round() as u64).max(1),
            images: setting.images.unwrap_or(u64::from(u32::MAX)),
        };
        let start = (self.asked.pretrain.epochs > 0.0).then(|| self.pretraining(seed, setting, base));
        let sweep = &self.asked.sweep;
        let own: Vec<usize> = setting.support.into_iter().collect();
        let (methods, trained, tested) = match (arm.is_empty(), setting.support) {
            (true, _) => (&self.asked.methods, &self.asked.episodes.shots, &self.asked.test.shots),
            (false, Some(_)) => (&sweep.methods, &own, &own),
            (false, None) => (&sweep.methods, &sweep.shots, &sweep.shots),
        };
        // Few images of a class make no episodes: then features alone are compared.
        let recipe = &self.asked.episodes;
        let trains = |shots: usize| {
            (shots + recipe.queries) as u64 <= base.images && base.classes >= recipe.ways as u64
        };
        for &method in methods {
            match method {
                Method::Head(head) => {
                    for &shots in trained.iter().filter(|shots| trains(**shots)) {
                        let run = self.meta_training(seed, (setting, arm), base, (head, shots), start)?;
                        self.entries.push(Entry { method, shots, seed, arm: arm.clone(), run, start });
                    }
                }
                Method::Scratch => {
                    for &shots in trained.iter().filter(|shots| trains(**shots)) {
                        let run = self.scratch_training(seed, (setting, arm), base, shots)?;
                        self.entries.push(Entry { method, shots, seed, arm: arm.clone(), run, start: None });
                    }
                }
                // How many episodes a step has is nothing to a method without steps.
                _ if setting.per_step.is_some() => {}
                Method::NearestMean | Method::Baseline => {
                    let run = start.expect("checked: frozen features are pre-trained");
                    for &shots in tested {
                        self.entries.push(Entry { method, shots, seed, arm: arm.clone(), run, start });
                    }
                }
            }
        }
        Ok(())
    }

    /// Index of the pre-training of a setting, which settings that differ in other things share.
    fn pretraining(&mut self, seed: u64, setting: &Setting, base: Base) -> usize {
        let recipe = self.asked.pretrain;
        let images = self.images(base);
        let steps = ((recipe.epochs * images as f64 / recipe.batch as f64).round() as u64).max(1);
        let learns = Learns::Classes { smoothing: recipe.smoothing, augment: recipe.augment };
        let model = self.model(setting.width, base, learns, &recipe.optimiser);
        let id =
            format!("{}-pretrain{}-s{seed}", self.asked.name, suffix(setting, base, self.classes, false));
        let train = self.train(&recipe.optimiser, recipe.batch, recipe.batch, None);
        self.add(RunSpec {
            id,
            seed,
            arm: BTreeMap::new(),
            role: Role::Series,
            model: ModelSpec::FewShot(model),
            data: self.data.clone(),
            train,
            ends: vec![steps],
        })
    }

    fn meta_training(
        &mut self,
        seed: u64,
        varied: (&Setting, &BTreeMap<String, String>),
        base: Base,
        (head, shots): (HeadKind, usize),
        start: Option<usize>,
    ) -> Result<usize, UserError> {
        let recipe = &self.asked.episodes;
        let frozen = recipe.frozen && head != HeadKind::Proto;
        let training = EpisodeTraining {
            method: Method::Head(head),
            head,
            shots,
            frozen,
            optimiser: recipe.optimiser,
            count: if recipe.frozen && !frozen { recipe.trained_count } else { recipe.count },
            start,
        };
        self.on_episodes(seed, varied, base, &training)
    }

    /// ProtoNet without pre-training, for as many images as pre-training sees unless the study says otherwise.
    fn scratch_training(
        &mut self,
        seed: u64,
        varied: (&Setting, &BTreeMap<String, String>),
        base: Base,
        shots: usize,
    ) -> Result<usize, UserError> {
        let recipe = &self.asked.episodes;
        let shape = EpisodeShape { ways: recipe.ways, shots, queries: recipe.queries };
        let seen = self.asked.pretrain.epochs * self.images(base) as f64 / shape.images() as f64;
        let alike = if seen > 0.0 { seen.round() as u64 } else { recipe.trained_count };
        let training = EpisodeTraining {
            method: Method::Scratch,
            head: HeadKind::Proto,
            shots,
            frozen: false,
            optimiser: Optimiser { lr: recipe.scratch_lr, ..recipe.optimiser },
            count: recipe.scratch_count.unwrap_or(alike),
            start: None,
        };
        self.on_episodes(seed, varied, base, &training)
    }

    fn on_episodes(
        &mut self,
        seed: u64,
        (setting, arm): (&Setting, &BTreeMap<String, String>),
        base: Base,
        training: &EpisodeTraining,
    ) -> Result<usize, UserError> {
        let (recipe, shots) = (&self.asked.episodes, training.shots);
        let shape = EpisodeShape { ways: recipe.ways, shots, queries: recipe.queries };
        let per_step = setting.per_step.unwrap_or(recipe.per_step);
        let per_pass = match setting.per_step {
            // An episode is the small batch of which gradient noise is measured.
            Some(_) if recipe.frozen => 1,
            Some(per_step) => recipe.per_pass.min(per_step),
            None => recipe.per_pass,
        };
        if !per_step.is_multiple_of(per_pass) {
            return Err(UserError::new(format!(
                "{per_pass} episodes of a pass do not divide {per_step} of a step"
            ))
            .hint("choose episodes.per_pass such that it divides every sweep.per_step"));
        }
        let learns = learns(recipe, training.head, shape);
        let mut model = self.model(setting.width, base, learns, &training.optimiser);
        model.head_lr = if training.head == HeadKind::Proto { 1.0 } else { recipe.head_lr };
        model.frozen = training.frozen;
        model.frozen_norm = recipe.frozen_norm && training.method != Method::Scratch;
        let steps = (training.count / per_step).max(1);
        let name = suffix(setting, base, self.classes, true);
        let method = training.method.word();
        let id = format!("{}-{method}-k{shots}{name}-s{seed}", self.asked.name);
        let images = shape.images() as u64;
        let init_from = training.start.map(|start| self.init_from(start));
        let train = self.train(&training.optimiser, per_step * images, per_pass * images, init_from);
        let mut labels = arm.clone();
        labels.insert("method".to_owned(), method.to_owned());
        labels.insert("shots".to_owned(), shots.to_string());
        Ok(self.add(RunSpec {
            id,
            seed,
            arm: labels,
            role: Role::Series,
            model: ModelSpec::FewShot(model),
            data: self.data.clone(),
            train,
            ends: vec![steps],
        }))
    }

    /// Adds a run, unless it is there.
    fn add(&mut self, run: RunSpec) -> usize {
        self.runs.iter().position(|other| other.id == run.id).unwrap_or_else(|| {
            self.runs.push(run);
            self.runs.len() - 1
        })
    }

    /// Base images of a part, about: classes differ in size.
    fn images(&self, base: Base) -> u64 {
        let mean = self.data.train_tokens as f64 / self.classes as f64;
        (mean.min(base.images as f64) * base.classes as f64).round() as u64
    }

    fn model(&self, width: usize, base: Base, learns: Learns, optimiser: &Optimiser) -> FewShotSpec {
        let pictures = &self.asked.pictures;
        let mut model = FewShotSpec {
            backbone: self.asked.backbone,
            width,
            image: pictures.side,
            resize: pictures.resize,
            channels: pictures.channels,
            params: 0,
            learns,
            sgd: optimiser.sgd.then_some(Sgd { momentum: 0.9, nesterov: true }),
            head_lr: 1.0,
            frozen: false,
            frozen_norm: false,
            base,
        };
        model.params = params(&model);
        model
    }

    fn train(&self, optimiser: &Optimiser, batch: u64, pass: u64, init_from: Option<InitFrom>) -> TrainSpec {
        let judged = (self.asked.episodes.ways * self.asked.episodes.queries) as u64;
        TrainSpec {
            lr: optimiser.lr,
            batch_tokens: batch,
            branch: None,
            micro_batch: pass as usize,
            precision: self.asked.precision,
            optimizer: Optimizer::AdamW,
            schedule: ScheduleKind::Cosine,
            decay: 0.0,
            warmup: Warmup::Steps(0),
            warmup_steps: 0,
            min_lr: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: optimiser.weight_decay,
            clip: self.asked.clip,
            recompute: Recompute::None,
            eval_every: self.asked.eval_every,
            eval_tokens: self.asked.eval_episodes * judged,
            curve_tokens: (self.asked.eval_episodes / 4).max(1) * judged,
            init_from,
            kernels: self.place.kernels.to_owned(),
        }
    }

    /// The end of a pre-training as initial values. It need not be trained yet: what identifies it is the run.
    fn init_from(&self, start: usize) -> InitFrom {
        let run = &self.runs[start];
        let identity = serde_json::to_vec(&RunIdentity::of(run)).expect("plain data");
        InitFrom {
            path: checkpoint_dir(self.place.store, run),
            fingerprint: format!("run {}", isoflop_base::bits::hex(&Sha256::digest(identity))),
        }
    }
}

/// Where the end of a run is.
pub fn checkpoint_dir(store: &Path, run: &RunSpec) -> PathBuf {
    store.join(&run.id).join("checkpoints").join(checkpoint_label(run))
}

/// Name of the checkpoint at the end of a run.
pub fn checkpoint_label(run: &RunSpec) -> String {
    crate::train::program::point_label(run.tokens_at(run.end()))
}

fn learns(recipe: &EpisodeRecipe, head: HeadKind, shape: EpisodeShape) -> Learns {
    let feat = head == HeadKind::Feat;
    Learns::Episodes {
        head,
        shape,
        temperature: recipe.temperature,
        auxiliary: (feat && recipe.auxiliary.0 > 0.0).then_some(recipe.auxiliary),
        smoothing: recipe.smoothing,
        dropout: if feat { recipe.dropout } else { 0.0 },
        augment: recipe.augment,
    }
}

/// What a run's name says of its setting: nothing for the whole.
fn suffix(setting: &Setting, base: Base, classes: u64, episodes: bool) -> String {
    let mut text = String::new();
    if base.classes < classes {
        text += &format!("-c{}", base.classes);
    }
    if let Some(images) = setting.images {
        text += &format!("-i{images}");
    }
    text += &format!("-w{}", setting.width);
    if let Some(per_step) = setting.per_step.filter(|_| episodes) {
        text += &format!("-b{per_step}");
    }
    text
}

/// The network of a run.
pub fn network(spec: &FewShotSpec) -> ConvConfig {
    match spec.backbone {
        Backbone::Conv4 => ConvConfig::conv4(spec.image, spec.channels, spec.width),
        Backbone::ResNet12 => {
            let widths = [spec.width, 2 * spec.width, 4 * spec.width, 8 * spec.width];
            ConvConfig::resnet12(spec.image, spec.channels, widths)
        }
    }
}

/// What a run's network learns, for so many features.
pub fn learner(spec: &FewShotSpec, features: usize) -> LearnerConfig {
    match spec.learns {
        Learns::Classes { smoothing, .. } => {
            LearnerConfig::Classes { classes: spec.base.classes as usize, smoothing }
        }
        Learns::Episodes { head, temperature, auxiliary, smoothing, dropout, .. } => {
            LearnerConfig::Episodes(isoflop_nn::conv::HeadConfig {
                kind: head,
                width: features,
                temperature,
                auxiliary,
                smoothing,
                dropout,
            })
        }
    }
}

/// Weights of a network and its learner; 0 if there can be no such network, which making it will say.
fn params(spec: &FewShotSpec) -> u64 {
    let Ok(network) = isoflop_nn::conv::Architecture::new(&network(spec)) else { return 0 };
    let behind = learner(spec, network.features).parameters(network.features);
    network.parameters.count() + behind.count()
}

/// How images of a run are changed before they are seen.
pub fn augment(spec: &FewShotSpec) -> Augment {
    match spec.learns {
        Learns::Classes { augment, .. } | Learns::Episodes { augment, .. } => augment,
    }
}
