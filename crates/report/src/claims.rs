//! Verdicts on published claims: reproduced, not reproduced, cannot tell, each with its reason.

use serde::{Deserialize, Serialize};

/// A claim of the study file about one parameter of one law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// The claim in words, ending in its value: `alpha_N = 0.076`.
    pub claim: String,
    /// The claimed value, when it is not the number after `=` in `claim`.
    #[serde(default)]
    pub value: Option<f64>,
    /// Id of the law, e.g. `l_n`.
    pub law: String,
    /// The law's parameter, e.g. `alpha`.
    pub param: String,
    /// How far a measured value may lie from the claimed one.
    pub within: f64,
    /// Where the claim was made.
    #[serde(default)]
    pub source: Option<String>,
    /// What has to hold for the series to be able to speak about it: `converged`, `bpe`, `n >= 1e6`, …
    #[serde(default)]
    pub needs: Vec<String>,
}

/// What the series says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// The data agree, and could have disagreed.
    Reproduced,
    /// The data disagree.
    NotReproduced,
    /// The data, or the preconditions, do not allow a verdict.
    CannotTell,
}

/// One row of the claims table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The claim.
    pub claim: String,
    /// Where it was made.
    pub source: String,
    /// What was measured here.
    pub measured: String,
    /// The verdict.
    pub ruling: Ruling,
    /// Why, in a sentence or two.
    pub why: String,
}

/// Judges the standing claims (loss falls with N, straightness, α, C ≈ 6ND, the forecast) and those of the study.
pub fn judge(input: &crate::ReportInput) -> Vec<Verdict> {
    let _ = input;
    Vec::new()
}
