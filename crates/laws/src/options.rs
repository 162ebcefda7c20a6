//! How to fit.

/// The penalty on ln observed − ln fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// Summed Huber on ln loss (Hoffmann et al. 2022; summed as in Besiroglu et al. 2024).
    #[default]
    Huber,
    /// Summed squared ln loss.
    Mse,
    /// Summed squared error of the loss itself.
    RawMse,
    /// Mean absolute error of the raw loss, observations below the law costing ten times as much: fits the floor of a
    /// cloud.
    Asymmetric,
}

impl Loss {
    /// As `--loss` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Huber => "huber",
            Self::Mse => "mse",
            Self::RawMse => "mse-raw",
            Self::Asymmetric => "asymmetric",
        }
    }
}

/// Options of a fit; [`Options::default`] is the literature's recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Ids of the forms to fit; empty: all the table's columns allow.
    pub forms: Vec<String>,
    /// Penalty.
    pub loss: Loss,
    /// Huber's δ in ln loss.
    pub delta: f64,
    /// Bootstrap refits where a bootstrap is made (20 runs or more).
    pub bootstrap: usize,
    /// Level of the intervals.
    pub level: f64,
    /// Seed of the bootstrap's draws.
    pub seed: u64,
    /// Threads; the result does not depend on it.
    pub threads: usize,
    /// Whether the largest rows are left out once, for the hold-out error.
    pub holdout: bool,
    /// The literature's full grid of starts (4,500 for Chinchilla's form) instead of a coarse one.
    pub dense: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            forms: Vec::new(),
            loss: Loss::Huber,
            delta: 1e-3,
            bootstrap: 1000,
            level: 0.95,
            seed: 20_220_329,
            threads: 2,
            holdout: true,
            dense: true,
        }
    }
}
