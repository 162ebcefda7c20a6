//! All that the page of a few-shot study shows.

use crate::section::Section;
use isoflop_base::Measured;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of the document.
pub const SCHEMA: &str = "isoflop.fewshot/1";

/// All that the page of a few-shot study shows; from it the same page can be drawn again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FewShotInput {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the study.
    pub name: String,
    /// When it was made, UTC.
    pub date: String,
    /// Version of the program.
    pub version: String,
    /// Processor, kernels and threads, in words.
    pub machine: String,
    /// The pictures.
    pub data: DataFacts,
    /// The backbone in a word, its features and weights.
    pub backbone: BackboneFacts,
    /// How it was trained, key and value.
    pub recipe: Vec<(String, String)>,
    /// The test.
    pub test: TestFacts,
    /// A row for each method and number of shots, seeds together.
    pub rows: Vec<MethodRow>,
    /// Differences to a method, on identical episodes.
    pub differences: Vec<DifferenceRow>,
    /// The best method at each number of shots against the second.
    #[serde(default)]
    pub leads: Vec<DifferenceRow>,
    /// The same methods on pictures that nothing was trained on.
    #[serde(default)]
    pub elsewhere: Vec<ElsewhereRow>,
    /// What is varied besides the method.
    pub sweeps: Vec<SweepRow>,
    /// Power laws of the error.
    pub laws: Vec<ErrorLaw>,
    /// Published statements with verdicts.
    pub claims: Vec<ClaimRow>,
    /// Episodes drawn as pictures.
    pub episodes: Vec<DrawnEpisode>,
    /// What it cost, as the page of a language model's study has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Section>,
    /// Anything else a reader should know.
    pub notes: Vec<String>,
}

/// The pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Name of the set.
    pub name: String,
    /// Split, its classes and its images.
    pub splits: Vec<(String, u64, u64)>,
    /// Pixels of a side.
    pub side: usize,
    /// Channels.
    pub channels: usize,
}

/// The backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneFacts {
    /// E.g. `conv4-64`.
    pub name: String,
    /// Features d.
    pub features: usize,
    /// Weights.
    pub params: u64,
}

/// The test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestFacts {
    /// Classes of an episode.
    pub ways: usize,
    /// Queries of each class.
    pub queries: usize,
    /// Episodes.
    pub episodes: u64,
}

/// A mean with its interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Half the width of its interval of 95 % over test episodes, seeds as they are.
    pub half: f64,
    /// Half the width over seeds, by Student's t; with one seed there is none.
    pub seeds_half: Option<f64>,
}

impl Interval {
    /// The wider half of both intervals: over episodes, and over seeds where there are several.
    pub fn wider(&self) -> f64 {
        match self.seeds_half {
            Some(seeds) if seeds.is_finite() => seeds.max(self.half),
            _ => self.half,
        }
    }
}

/// Prototypes before and after they saw each other, means over episodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GeometryRow {
    /// Mean cosine between class means.
    #[serde(deserialize_with = "or_none")]
    pub cosine_before: f64,
    /// Mean cosine between what distances are measured to.
    #[serde(deserialize_with = "or_none")]
    pub cosine_after: f64,
    /// Entropy of the attention over ln N; none without attention.
    pub entropy: Option<f64>,
}

/// One method at one number of shots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodRow {
    /// Its name.
    pub method: String,
    /// Support images of a class.
    pub shots: usize,
    /// Seeds that were tested.
    pub seeds: Vec<u64>,
    /// Share of right answers.
    pub accuracy: Interval,
    /// Of each seed.
    pub accuracies: Vec<f64>,
    /// Mean loss, nats.
    pub loss: f64,
    /// Seconds of training on episodes, mean over seeds; 0 for what is not trained.
    pub seconds: Measured<f64>,
    /// Seconds of the pre-training it starts from.
    pub start_seconds: Measured<f64>,
    /// Joules of both.
    pub joules: Measured<f64>,
    /// Training FLOPs of both.
    #[serde(default = "not_counted")]
    pub flops: Measured<f64>,
    /// Whole episodes it was trained on, of one seed.
    #[serde(default)]
    pub trained_episodes: u64,
    /// Bytes the engine held in training.
    pub memory_bytes: Measured<u64>,
    /// Weights beside the backbone's.
    pub head_params: u64,
    /// Prototypes, for a head.
    pub geometry: Option<GeometryRow>,
}

impl MethodRow {
    /// Mean power of its training, pre-training included, watts.
    pub fn watts(&self) -> Measured<f64> {
        let seconds = self.seconds.value().zip(self.start_seconds.value()).map(|(a, b)| a + b);
        match seconds.filter(|seconds| *seconds > 0.0) {
            Some(seconds) => self.joules.clone().map(|joules| joules / seconds),
            None => Measured::missing("no time was measured"),
        }
    }

    /// Training FLOPs a joule: FLOP/s per watt.
    pub fn flops_per_joule(&self) -> Measured<f64> {
        match (&self.flops, self.joules.value()) {
            (Measured::Missing { reason }, _) => Measured::missing(reason.clone()),
            (_, Some(joules)) if *joules <= 0.0 => Measured::missing("too short to be measured"),
            (flops, _) => {
                let flops = *flops.value().expect("it is not missing");
                self.joules.clone().map(|joules| flops / joules)
            }
        }
    }
}

/// How much better one method is than another on the same episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// The method.
    pub method: String,
    /// What it is compared with.
    pub against: String,
    /// Support images of a class.
    pub shots: usize,
    /// Accuracy of the one minus that of the other.
    pub difference: Interval,
}

/// One method at one number of shots on pictures that nothing was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ElsewhereRow {
    /// What the pictures are called.
    pub set: String,
    /// Their classes.
    pub classes: u64,
    /// Their number.
    pub images: u64,
    /// Queries of each class.
    pub queries: usize,
    /// The method.
    pub method: String,
    /// Support images of a class.
    pub shots: usize,
    /// Share of right answers.
    pub accuracy: Interval,
    /// Another method, and how much better this one is on the same episodes.
    pub difference: Option<(String, Interval)>,
}

/// One setting of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// What is varied: `classes`, `images`, `width`, `per_step`, `shots`.
    pub axis: String,
    /// Its value.
    pub value: f64,
    /// The method.
    pub method: String,
    /// Support images of a class.
    pub shots: usize,
    /// Share of right answers.
    pub accuracy: Interval,
    /// Gradient noise of an episode, tr Σ / |G|², from pairs of norms in training, if there were pairs.
    pub noise: Option<f64>,
}

/// A power law of the error: `error = floor + (scale / x)^exponent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorLaw {
    /// What is varied.
    pub axis: String,
    /// The method.
    pub method: String,
    /// Support images of a class.
    pub shots: usize,
    /// Points it is fitted to, (x, error, half interval).
    pub points: Vec<(f64, f64, f64)>,
    /// Exponent with its interval of 95 %, or why there is none.
    pub exponent: Result<(f64, f64, f64), String>,
    /// The x at which the error above the floor would be 1; no number without a fit.
    #[serde(deserialize_with = "or_none")]
    pub scale: f64,
    /// What no amount removes; 0 for a pure power law.
    #[serde(deserialize_with = "or_none")]
    pub floor: f64,
}

impl ErrorLaw {
    /// The exponent between the two largest values alone, with the interval of 95 % that their errors give.
    pub fn last_step(&self) -> Option<(f64, f64, f64)> {
        let [.., (x0, error0, half0), (x1, error1, half1)] = self.points[..] else { return None };
        let step = (x1 / x0).ln();
        let exponent = (error0 / error1).ln() / step;
        let half = (half0 / error0).hypot(half1 / error1) / step;
        (step > 0.0 && exponent.is_finite() && half.is_finite()).then_some((
            exponent,
            exponent - half,
            exponent + half,
        ))
    }

    /// Whether a law without a floor promises more than its last step gave: the error stops falling as it says.
    pub fn bends(&self) -> bool {
        match (&self.exponent, self.last_step()) {
            (Ok((_, least, _)), Some((.., most))) => self.floor == 0.0 && most < *least,
            _ => false,
        }
    }
}

/// A published statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The statement.
    pub claim: String,
    /// Where it was made.
    pub source: String,
    /// What was found here.
    pub found: String,
    /// `holds`, `refuted`, `open`.
    pub verdict: String,
    /// Why, or with what reservation.
    pub why: String,
}

/// One episode as pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrawnEpisode {
    /// Its number.
    pub number: u64,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// Support pictures of each class.
    pub support: Vec<Vec<Drawing>>,
    /// Some of its queries.
    pub queries: Vec<DrawnQuery>,
}

/// A query with what the methods said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrawnQuery {
    /// The picture.
    pub picture: Drawing,
    /// Its class among the episode's.
    pub class: usize,
    /// By method: probabilities of the classes.
    pub said: BTreeMap<String, Vec<f32>>,
}

/// A picture's pixels, row by row, channels together, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawing {
    /// Pixels of a side.
    pub side: usize,
    /// Channels.
    pub channels: usize,
    /// `side·side·channels` bytes.
    pub hex: String,
}

/// Of results written before the operations were counted.
fn not_counted() -> Measured<f64> {
    Measured::missing("they were not counted then")
}

/// A number, or NaN for the `null` that JSON has in its place.
fn or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
