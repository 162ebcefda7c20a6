//! One's own pictures: classes from a support folder, answers with probabilities.

use super::evaluate::softmax;
use super::runs;
use super::task::MODEL_TYPE;
use crate::error::UserError;
use crate::machine::processor;
use crate::stop::Stop;
use isoflop_base::fewshot::FewShotSpec;
use isoflop_base::tensor::WeightsOnly;
use isoflop_base::{EpisodeShape, Precision};
use isoflop_data::images::{self, Index, Picture};
use isoflop_nn::Engine as _;
use isoflop_nn::conv::{
    Architecture, ConvOptions, FewShotConfig, FewShotEngine, Head, HeadConfig, Norm, OptimizerConfig,
};
use isoflop_store::Checkpoint;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What was said of a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The picture.
    pub picture: PathBuf,
    /// All classes, the likeliest first.
    pub classes: Vec<ClassProbability>,
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassProbability {
    /// Its folder.
    pub class: String,
    /// From 0 to 1; all together 1.
    pub probability: f32,
}

/// Tells of each picture which class of the support folder it belongs to.
///
/// # Errors
/// A [`UserError`]: no few-shot checkpoint, pictures that cannot be read, fewer than two classes.
pub fn predict(
    checkpoint: &Path,
    support: &Path,
    pictures: &[PathBuf],
    invert: bool,
    stop: &Stop,
) -> anyhow::Result<Vec<Prediction>> {
    let (mut engine, model) = open(&newest(checkpoint))?;
    let (short, side) = (model.resize, model.image);
    let picture = Picture { short, side, channels: model.channels, convert: true };
    let read = |path: &Path| -> Result<Vec<f32>, UserError> {
        let mut pixels = images::read_picture(path, &picture).map_err(UserError::from_error)?;
        if invert {
            pixels.iter_mut().for_each(|x| *x = 1.0 - *x);
        }
        Ok(pixels)
    };
    let classes = Index::of_class_folders(support).map_err(UserError::from_error)?;
    if classes.len() < 2 {
        return Err(UserError::new(format!("{} has one class", support.display()))
            .hint("give a folder with a folder of pictures for each of at least two classes")
            .into());
    }
    let d = engine.network().features;
    // Classes may have different numbers of pictures: each is given as one image, the mean of its features.
    let mut f = Vec::new();
    for class in &classes {
        let mut mean = vec![0.0; d];
        for file in &class.files {
            stop.check()?;
            let mut features = vec![0.0; d];
            engine.embed(&read(file)?, &mut features)?;
            mean.iter_mut().zip(&features).for_each(|(m, x)| *m += x / class.files.len() as f32);
        }
        f.extend(mean);
        f.extend(std::iter::repeat_n(0.0, d));
    }
    let shape = EpisodeShape { ways: classes.len(), shots: 1, queries: 1 };
    let kernels = processor()?.kernels;
    let (config, weights) = match engine.head() {
        Some((config, weights)) => (config, weights.to_vec()),
        None => (HeadConfig::nearest_mean(d), Vec::new()),
    };
    let (mut head, mut answers) = (Head::new(config), Vec::new());
    for path in pictures {
        stop.check()?;
        let (mut features, mut logits) = (vec![0.0; d], Vec::new());
        engine.embed(&read(path)?, &mut features)?;
        for class in f.chunks_exact_mut(2 * d) {
            class[d..].copy_from_slice(&features);
        }
        head.evaluate(kernels, shape, &weights, &f, &mut logits);
        softmax(&mut logits[..shape.ways]);
        answers.push(answer(path, &classes, &logits[..shape.ways]));
    }
    Ok(answers)
}

fn answer(path: &Path, classes: &[images::Class], probabilities: &[f32]) -> Prediction {
    let each = classes.iter().zip(probabilities);
    let named =
        |(class, p): (&images::Class, &f32)| ClassProbability { class: class.name.clone(), probability: *p };
    let mut classes: Vec<ClassProbability> = each.map(named).collect();
    classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Prediction { picture: path.to_owned(), classes }
}

/// A run's newest finished point, or the directory itself.
fn newest(dir: &Path) -> PathBuf {
    let entries = std::fs::read_dir(dir.join("checkpoints"));
    let points = entries.into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let samples = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("point-")?.parse::<u64>().ok();
    points.filter(|path| samples(path).is_some()).max_by_key(samples).unwrap_or_else(|| dir.to_owned())
}

fn open(dir: &Path) -> anyhow::Result<(FewShotEngine, FewShotSpec)> {
    let mut checkpoint = Checkpoint::open_dir(dir).map_err(UserError::from_error)?;
    let config = checkpoint.config();
    if config["model_type"] != MODEL_TYPE {
        return Err(UserError::new(format!("{} holds no few-shot network", dir.display()))
            .hint("name a run that `isoflop fewshot` trained, e.g. runs/fewshot-demo-feat-k5-w64-s1")
            .into());
    }
    let model: FewShotSpec = serde_json::from_value(config["model"].clone())
        .map_err(|e| UserError::new(format!("{}/config.json cannot be understood: {e}", dir.display())))?;
    let network = runs::network(&model);
    let features = Architecture::new(&network).map_err(UserError::from_error)?.features;
    let config = FewShotConfig {
        learner: runs::learner(&model, features),
        network,
        optimizer: OptimizerConfig::adam(),
        head_lr: 1.0,
        norm: Norm::Running,
        frozen: true,
        clip: 0.0,
    };
    let cpu = processor()?;
    let options = ConvOptions {
        kernels: cpu.kernels,
        threads: cpu.threads,
        images: 1,
        seed: 0,
        // Whatever it was trained in: of a few pictures the time is nothing, and every processor can.
        precision: Precision::F32,
    };
    let mut engine = FewShotEngine::new(&config, &options).map_err(UserError::from_error)?;
    engine.load(&mut WeightsOnly(&mut checkpoint))?;
    Ok((engine, model))
}
