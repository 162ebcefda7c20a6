//! `law.json`: the one document that `fit` prints, `demo` stores and `report` draws.
//!
//! Losses are in the unit `loss_unit` names (nats per token unless the table said otherwise), sizes are counts,
//! compute is FLOPs. Logarithms are natural. A number that does not exist is absent or `null`, never NaN; the words
//! beside it say why.

mod foretold;

pub use foretold::{LeftOut, Rollout};

use isoflop_base::units::si;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The `schema` of a [`LawDocument`].
pub const SCHEMA: &str = "isoflop.law/1";

/// Everything that was fitted to one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LawDocument {
    /// [`SCHEMA`].
    pub schema: String,
    /// One record per form and condition (`l_n` at each D, …).
    pub fits: Vec<FitRecord>,
    /// Which of competing forms the data support, one entry per question.
    pub comparisons: Vec<Comparison>,
    /// Rows of the table that could be used at all.
    pub rows_read: usize,
    /// Rows that could not, with the line and the reason.
    pub rows_dropped: Vec<DroppedRow>,
    /// Spread of the loss between seeds at the same N and D, if any were repeated.
    pub seed_spread: Option<SeedSpread>,
    /// Does loss fall from one size to the next, on the same held-out tokens?
    pub paired: Vec<PairedDifference>,
    /// What the k smallest sizes say of the next, for every k.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollout: Vec<Rollout>,
    /// What all others say of each size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Compute-optimal allocation by each approach the table allows, side by side.
    pub allocation: Vec<Allocation>,
    /// Exponents under each way of counting N that the columns allow, side by side.
    pub conventions: Vec<Convention>,
    /// Forms that were asked for, or tried, and could not be fitted: id and why.
    pub not_fitted: Vec<NotFitted>,
    /// Remarks in words.
    pub notes: Vec<String>,
}

/// One form fitted to one selection of rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FitRecord {
    /// Id of the form: `l_n`, `l_d`, `l_c`, `l_nd_chinchilla`, …
    pub form: String,
    /// `pure` or `irreducible` for the power laws in one variable, else empty.
    pub variant: String,
    /// The formula in plain text, e.g. `L = E + A/N^alpha`.
    pub formula: String,
    /// What was held fixed, e.g. `{"tokens": 3000000}` for L(N) at one D. Empty if nothing was.
    pub condition: BTreeMap<String, f64>,
    /// What the rows have in common that is no number, e.g. `junk base64`. Empty if the fit is of no group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// e.g. `nats per token`.
    pub loss_unit: String,
    /// How N was counted: `kaplan` (12·L·d²), `total`, or `as given`.
    pub n_convention: String,
    /// How C was counted: `exact`, `6nd`, `as given`.
    pub c_convention: String,
    /// Parameters by name, in the formula's order.
    pub params: Params,
    /// Confidence level of every interval here, e.g. 0.95.
    pub level: f64,
    /// How `lo` and `hi` were made, in words.
    pub interval_method: String,
    /// Value of the objective at the optimum.
    pub objective: Option<f64>,
    /// Which objective, in words.
    pub objective_kind: String,
    /// R² of ln L (observed against fitted).
    pub r2_loglog: Option<f64>,
    /// Exponent between neighbouring values of the variable (one-variable forms): −Δ ln L / Δ ln x, and +Δ ln y / Δ ln
    /// x of y = G·x^exponent.
    pub local_slope: Vec<LocalSlope>,
    /// Quadratic coefficient of ln L in ln x (one-variable forms). Zero is a straight line.
    pub curvature: Option<ParamEstimate>,
    /// The three tests of a straight line together (one-variable forms).
    pub straight: Option<Straightness>,
    /// Row by row.
    pub residuals: Vec<Residual>,
    /// Tests on the residuals.
    pub residual_tests: ResidualTests,
    /// Number of rows used.
    pub rows_used: usize,
    /// Number of distinct runs among them (what a bootstrap draws).
    pub runs_used: usize,
    /// Rows left out of this fit, and why.
    pub rows_dropped: Vec<DroppedRow>,
    /// Starts of the search.
    pub starts: usize,
    /// How many of them ended at the reported optimum (objective within 0.01 %).
    pub starts_agree: usize,
    /// Same optimum by variable projection, where the form allows it: the objective it reached.
    pub varpro_objective: Option<f64>,
    /// Per parameter: does the interval pin it down?
    pub identified: BTreeMap<String, bool>,
    /// The same in words, one sentence per parameter that is not identified.
    pub not_identified: Vec<String>,
    /// Error on rows that were left out (the largest ones).
    pub holdout: Option<Holdout>,
    /// How the fit was made, in one paragraph that lets another repeat it.
    pub recipe: String,
    /// Correlations between parameters.
    pub correlations: Vec<Correlation>,
    /// Corrected Akaike criterion of the Gaussian fit of ln L; only differences on the same rows mean something.
    pub aicc: Option<f64>,
    /// What is needed to evaluate the law with its uncertainty.
    pub state: FitState,
    /// Remarks in words.
    pub notes: Vec<String>,
}

/// `D = 3.00 M`, …
pub fn condition_words(condition: &BTreeMap<String, f64>) -> String {
    let parts: Vec<String> = condition
        .iter()
        .map(|(name, value)| {
            let symbol = match name.as_str() {
                "tokens" => "D",
                "params" => "N",
                "flops" => "C",
                other => other,
            };
            format!("{symbol} = {}", si(*value))
        })
        .collect();
    parts.join(", ")
}

/// The fit in the coordinates it was made in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FitState {
    /// Names of the coordinates, e.g. `ln_a`, `alpha`, `ln_e`.
    pub names: Vec<String>,
    /// Their values.
    pub theta: Vec<f64>,
    /// Their covariance, row by row; empty if it does not exist.
    pub covariance: Vec<Vec<f64>>,
    /// Standard deviation of one run's ln loss about the law (seed variance included).
    pub sigma: Option<f64>,
    /// Degrees of freedom behind `sigma`.
    pub dof: f64,
    /// Quantile that turns a standard error into a half-width at `level`.
    pub quantile: Option<f64>,
}

/// A value with its uncertainty. An end that is absent is open: the data do not bound it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParamEstimate {
    /// Point estimate.
    pub value: f64,
    /// Standard error.
    pub se: Option<f64>,
    /// Lower end of the interval.
    pub lo: Option<f64>,
    /// Upper end of the interval.
    pub hi: Option<f64>,
    /// Profile interval, if it is not the one in `lo`, `hi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Ends>,
}

/// Two ends of an interval; an absent one is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ends {
    /// Lower end.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
}

/// Parameters by name; a JSON object that keeps the formula's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(pub Vec<(String, ParamEstimate)>);

impl Params {
    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&ParamEstimate> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, p)| p)
    }

    /// Name and estimate, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamEstimate)> {
        self.0.iter().map(|(n, p)| (n.as_str(), p))
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Params;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    out.push(entry);
                }
                Ok(Params(out))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// A row that was left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DroppedRow {
    /// Line in its file (the header is line 1), or position among the points, from 1.
    pub row: usize,
    /// The run, if it has a name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Why.
    pub reason: String,
}

/// The exponent between two neighbouring values of the variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalSlope {
    /// Smaller value.
    pub from: f64,
    /// Larger value.
    pub to: f64,
    /// −Δ ln L / Δ ln x; +Δ ln y / Δ ln x where the law is y = G·x^exponent.
    pub slope: f64,
}

/// "Straight on log-log axes": R² ≥ 0.98, worst deviation under 1 %, and a curvature interval that contains zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Straightness {
    /// All three hold.
    pub straight: bool,
    /// R² of the straight line in ln L, ln x.
    pub r2: Option<f64>,
    /// R² ≥ 0.98.
    pub r2_enough: bool,
    /// Largest |L/L_line − 1|.
    pub worst_deviation: f64,
    /// Below 1 %.
    pub worst_small: bool,
    /// Quadratic coefficient of ln L in ln x, with its interval.
    pub curvature: Option<ParamEstimate>,
    /// The interval exists and contains zero.
    pub curvature_contains_zero: bool,
    /// The verdict in words.
    pub words: String,
}

/// Observed against fitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Residual {
    /// Line of the row.
    pub row: usize,
    /// Run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// N, if the row has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<f64>,
    /// D, if the row has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d: Option<f64>,
    /// C, if the row has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Observed response (loss unless the form says otherwise).
    pub observed: f64,
    /// Fitted response.
    pub predicted: f64,
    /// ln observed − ln predicted.
    pub residual: f64,
}

/// Tests on the residuals, in the order of the form's first variable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResidualTests {
    /// Root mean square of ln observed − ln predicted.
    pub rms: Option<f64>,
    /// Largest |observed/predicted − 1|.
    pub worst_deviation: Option<f64>,
    /// Number of runs of equal sign.
    pub sign_runs: usize,
    /// Two-sided p of that number under random order (exact below 20 rows); small means the form bends away from the
    /// data.
    pub sign_runs_p: Option<f64>,
}

/// Error on held-out rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holdout {
    /// What was left out, e.g. `N = 1.54 M` or `C >= 1e21`.
    pub left_out: String,
    /// Rows it was fitted to.
    pub rows_fitted: usize,
    /// Rows it was tested on.
    pub rows_tested: usize,
    /// Root mean square of ln observed − ln forecast.
    pub rms: Option<f64>,
    /// Mean of ln observed − ln forecast: positive means the law promised too much.
    pub bias: Option<f64>,
    /// Each tested row.
    pub tested: Vec<Residual>,
}

/// Correlation of two parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Correlation {
    /// One.
    pub a: String,
    /// Other.
    pub b: String,
    /// From −1 to 1.
    pub r: f64,
}

/// Which of several forms the data support.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// e.g. `l_n at D = 3.00 M: is there an irreducible loss?`
    pub question: String,
    /// Candidates.
    pub candidates: Vec<Candidate>,
    /// Label of the one supported, or `neither` when the data cannot tell.
    pub supported: String,
    /// Why, in a sentence.
    pub words: String,
}

/// One form in a comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// e.g. `pure`, `irreducible`, or a form's id.
    pub label: String,
    /// Corrected Akaike criterion.
    pub aicc: Option<f64>,
    /// Root mean square error of ln L on held-out rows.
    pub holdout_rms: Option<f64>,
    /// Number of parameters.
    pub num_params: usize,
}

/// Spread between seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedSpread {
    /// Standard deviation of ln loss between seeds at the same N and D, pooled.
    pub sigma_ln: f64,
    /// Roughly the same in units of loss.
    pub sigma_loss: f64,
    /// Degrees of freedom: repeats minus groups.
    pub dof: usize,
    /// Groups with more than one seed.
    pub groups: usize,
}

/// Difference of validation loss between two sizes on the same held-out blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairedDifference {
    /// Run of the smaller model.
    pub small: String,
    /// Run of the larger model.
    pub large: String,
    /// N of the smaller.
    pub small_n: f64,
    /// N of the larger.
    pub large_n: f64,
    /// D of both.
    pub tokens: f64,
    /// Seeds of the smaller, whose losses are averaged block by block.
    pub small_seeds: usize,
    /// Seeds of the larger.
    pub large_seeds: usize,
    /// loss(small) − loss(large), nats per token; positive: the larger is better.
    pub difference: f64,
    /// Standard error of it, clustered by block.
    pub se: Option<f64>,
    /// Blocks both were evaluated on.
    pub blocks: usize,
    /// The difference is positive by more than 1.96 standard errors.
    pub falls: bool,
}

/// Where a budget is best spent, by one approach.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocation {
    /// `parametric`, `parabola`, `envelope`, `argmin`, `frontier`.
    pub approach: String,
    /// Exponent a of N_opt = G·C^a.
    pub a: ParamEstimate,
    /// ln of the coefficient G.
    pub ln_coefficient: f64,
    /// Exponent of D_opt, 1 − a when C = 6ND.
    pub b: f64,
    /// ln of the coefficient of D_opt = H·C^b.
    pub ln_coefficient_d: f64,
    /// The optimum found at each budget.
    pub optima: Vec<Optimum>,
    /// Covariance behind intervals of N_opt at a budget, if the approach gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_n: Option<LineSpread>,
    /// Covariance behind intervals of D_opt at a budget, if the approach gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_d: Option<LineSpread>,
    /// How the intervals were made, in words; why there is none, if there is none.
    pub interval_method: String,
    /// Remarks in words.
    pub notes: Vec<String>,
}

/// Covariance of the coefficient and the exponent of a line ln y = ln G + a·ln C.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LineSpread {
    /// Variance of ln G.
    pub coefficient: f64,
    /// Covariance of ln G and a.
    pub both: f64,
    /// Variance of a.
    pub exponent: f64,
    /// Quantile that turns a standard error into a half-width.
    pub quantile: f64,
}

/// The best model at one budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Optimum {
    /// FLOPs.
    pub c: f64,
    /// Parameters.
    pub n: f64,
    /// Tokens.
    pub d: f64,
    /// Loss there, if the approach gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The optimum lies inside the range that was tried.
    pub interior: bool,
    /// Number of rows behind it.
    pub rows: usize,
}

/// One exponent under one way of counting N.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Convention {
    /// Id of the form.
    pub form: String,
    /// Its variant.
    pub variant: String,
    /// What was held fixed.
    pub condition: BTreeMap<String, f64>,
    /// `kaplan`, `total`.
    pub n_convention: String,
    /// Name of the exponent.
    pub param: String,
    /// Its estimate.
    pub estimate: ParamEstimate,
}

/// A form that could not be fitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotFitted {
    /// Id of the form.
    pub form: String,
    /// Why, with what would be needed.
    pub reason: String,
}

/// A forecast, made before the run that tests it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// Parameters of the model forecast.
    pub n: Option<f64>,
    /// Its training tokens.
    pub d: Option<f64>,
    /// Its compute.
    pub c: Option<f64>,
    /// Forecast loss.
    pub loss: f64,
    /// Lower end of the prediction interval for one new run.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Level of the interval.
    pub level: f64,
    /// How it was made, in words.
    pub method: String,
    /// Half-widths in ln loss by source: fit, seed, and the spread between forms.
    pub half_width_fit: Option<f64>,
    /// Half-width from the spread of single runs.
    pub half_width_seed: Option<f64>,
    /// Half of the distance between the forms' forecasts.
    pub half_width_form: Option<f64>,
    /// Rows it was made from.
    pub rows_used: usize,
    /// The forecast of each form.
    pub by_form: Vec<FormForecast>,
    /// What happened, once it has.
    pub outcome: Option<Outcome>,
    /// Remarks in words: how far outside of the rows it lies.
    pub notes: Vec<String>,
}

/// One form's forecast.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormForecast {
    /// e.g. `l_n pure`.
    pub form: String,
    /// Its forecast.
    pub loss: f64,
    /// Lower end of its own interval.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Akaike weight among the forms tried, 0 to 1; absent when it could not be judged.
    pub weight: Option<f64>,
}

/// What came of a forecast.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Observed loss.
    pub observed: f64,
    /// Inside the interval.
    pub hit: bool,
    /// observed/forecast − 1.
    pub relative_error: f64,
    /// `hit: …` or `miss: …`.
    pub words: String,
}
