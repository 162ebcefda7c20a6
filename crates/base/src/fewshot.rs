//! A few-shot run's model: a backbone, what it learns, and on how much of the base classes. Plain data.

use crate::episode::EpisodeShape;
use crate::recipe::{Backbone, HeadKind};
use serde::{Deserialize, Serialize};

/// A backbone with what it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FewShotSpec {
    /// The network.
    pub backbone: Backbone,
    /// Channels of its first block: 64 in the literature.
    pub width: usize,
    /// Pixels of a side.
    pub image: usize,
    /// Pixels to which the shorter side of a picture is resized, of which the middle `image` are kept.
    pub resize: usize,
    /// Channels of an image: 1 grey, 3 colour.
    pub channels: usize,
    /// Weights that are trained, those behind the backbone included.
    pub params: u64,
    /// What it learns.
    pub learns: Learns,
    /// SGD; without it AdamW by the recipe's β₁, β₂ and ε.
    pub sgd: Option<Sgd>,
    /// Rate of what stands behind the backbone, as a multiple of the backbone's.
    pub head_lr: f64,
    /// Whether the backbone stays as it started.
    pub frozen: bool,
    /// Whether batch norm keeps the statistics it started with, in training too.
    pub frozen_norm: bool,
    /// How much of the training split is used.
    pub base: Base,
}

/// What a backbone learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Learns {
    /// To tell the base classes apart.
    Classes {
        /// Share ε of the target that is spread over all classes.
        smoothing: f64,
        /// How images are changed before they are seen.
        augment: Augment,
    },
    /// To solve episodes.
    Episodes {
        /// The head.
        head: HeadKind,
        /// Shape of an episode.
        shape: EpisodeShape,
        /// What squared distances are divided by.
        temperature: f64,
        /// Weight λ and temperature of FEAT's auxiliary loss.
        auxiliary: Option<(f64, f64)>,
        /// Share ε of the target that is spread over all classes.
        smoothing: f64,
        /// Share of FEAT's output that is dropped in training.
        dropout: f64,
        /// How images are changed before they are seen.
        augment: Augment,
    },
}

/// Changes of an image that leave its class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Least share of the area that a random crop, resized to the whole, keeps; 1 crops nothing.
    pub crop: f64,
    /// Whether every second image is turned left to right.
    pub flip: bool,
}

impl Augment {
    /// Images as they are.
    pub const NONE: Self = Self { crop: 1.0, flip: false };
}

/// SGD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// Decay of the velocity.
    pub momentum: f64,
    /// Whether the gradient is taken where the velocity leads.
    pub nesterov: bool,
}

/// A part of the training split, chosen by the run's data alone: the same for all methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Classes.
    pub classes: u64,
    /// Most images of each.
    pub images: u64,
}

impl FewShotSpec {
    /// Its name in tables: `conv4-64 ccd-residual`.
    pub fn name(&self) -> String {
        let learns = match &self.learns {
            Learns::Classes { .. } => "classes",
            Learns::Episodes { head, .. } => head.word(),
        };
        format!("{}-{}-{learns}", self.backbone.word(), self.width)
    }
}
