//! Is it a straight line on log-log axes? R² alone hides a bend, so three things are asked together.

use crate::document::Straightness;

/// "Straight" of `y` against `x` (both positive, natural logs are taken here): R² ≥ 0.98, the worst deviation from the line under
/// 1 %, and an interval of the quadratic coefficient that contains zero. `sigma` is the known spread of one run's ln y with
/// its degrees of freedom (seeds), if there is one; it is pooled with the residuals.
pub fn straightness(_x: &[f64], _y: &[f64], _sigma: Option<(f64, f64)>, _level: f64) -> Straightness {
    Straightness::default()
}
