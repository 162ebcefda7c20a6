//! What a residual costs: ρ with its first and second derivative, on ln loss or on the loss itself.

use crate::Loss;
use crate::numeric::quantile::normal_cdf;

/// ρ and the scale it works on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    kind: Kind,
    /// Residuals are taken on the loss itself, not on its logarithm.
    pub raw: bool,
    /// Where ρ turns from quadratic to linear.
    pub delta: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Square,
    Huber,
    /// |r| for r ≥ 0, 10·|r| below, rounded off within δ of the kink.
    Floor,
}

/// ρ, ρ', ρ'' and the weight ρ'/r of reweighted least squares.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// ρ(r).
    pub rho: f64,
    /// ρ'(r).
    pub slope: f64,
    /// ρ''(r).
    pub bend: f64,
    /// ρ'(r)/r.
    pub weight: f64,
}

/// An observation below the law costs this many times one above it (the recipe of the PyPI package `chinchilla`).
const BELOW: f64 = 10.0;

impl Penalty {
    /// r²/2 on ln loss, so that its derivatives are those of least squares.
    pub fn square() -> Self {
        Self { kind: Kind::Square, raw: false, delta: f64::INFINITY }
    }

    /// The penalty of an option, fully sharp.
    pub fn of(loss: Loss, delta: f64) -> Self {
        match loss {
            Loss::Huber => Self { kind: Kind::Huber, raw: false, delta },
            Loss::Mse => Self::square(),
            Loss::RawMse => Self { raw: true, ..Self::square() },
            Loss::Asymmetric => Self { kind: Kind::Floor, raw: true, delta: 1e-9 },
        }
    }

    /// The same penalty with another δ.
    pub fn with_delta(self, delta: f64) -> Self {
        Self { delta, ..self }
    }

    /// Whether the law is fitted to the floor of a cloud, not to its middle: then squared errors say nothing of it.
    pub fn is_floor(self) -> bool {
        self.kind == Kind::Floor
    }

    /// Whether δ means anything.
    pub fn has_delta(self) -> bool {
        self.kind != Kind::Square
    }

    /// ρ and its derivatives at r.
    #[inline]
    pub fn cost(self, r: f64) -> Cost {
        match self.kind {
            Kind::Square => Cost { rho: 0.5 * r * r, slope: r, bend: 1.0, weight: 1.0 },
            Kind::Huber => {
                // Branch-free: inside, c = r; outside, c = ±δ.
                let c = r.clamp(-self.delta, self.delta);
                let inside = f64::from(u8::from(c == r));
                Cost {
                    rho: c * (r - 0.5 * c),
                    slope: c,
                    bend: inside,
                    weight: self.delta / r.abs().max(self.delta),
                }
            }
            Kind::Floor => {
                let side = if r < 0.0 { BELOW } else { 1.0 };
                let a = r.abs();
                if a < self.delta {
                    let k = side / self.delta;
                    Cost { rho: 0.5 * k * r * r, slope: k * r, bend: k, weight: k }
                } else {
                    Cost {
                        rho: side * (a - 0.5 * self.delta),
                        slope: side * r.signum(),
                        bend: 0.0,
                        weight: side / a,
                    }
                }
            }
        }
    }

    /// Variance of this estimator over that of least squares, when rows scatter normally by `sigma` about a law that
    /// `dof` degrees of freedom are left to judge. For Huber's penalty `E[ψ²]/(E[ψ']²·σ²)` (Huber 1964), π/2 at most;
    /// with few degrees of freedom both follow the rows and differ less: of a median over a mean the excess shrinks
    /// as dof/(dof + 1.3), which is within 1 % of the exact ratios at 3, 5 and 7 rows (1.35, 1.43, 1.47).
    pub fn inefficiency(self, sigma: f64, dof: f64) -> f64 {
        if self.kind != Kind::Huber || !(sigma > 0.0 && sigma.is_finite()) {
            return 1.0;
        }
        let d = self.delta / sigma;
        let inside = 2.0 * normal_cdf(d) - 1.0;
        let density = libm::exp(-0.5 * d * d) / libm::sqrt(2.0 * std::f64::consts::PI);
        let squares = inside - 2.0 * d * density + 2.0 * d * d * normal_cdf(-d);
        let many = (squares / (inside * inside)).clamp(1.0, std::f64::consts::FRAC_PI_2);
        1.0 + (many - 1.0) * dof / (dof + 1.3)
    }

    /// Share of residuals in the linear part of ρ.
    pub fn linear_share(self, residuals: &[f64]) -> f64 {
        if !self.has_delta() || residuals.is_empty() {
            return 0.0;
        }
        residuals.iter().filter(|r| r.abs() > self.delta).count() as f64 / residuals.len() as f64
    }

    /// Σ w·ρ(r) in four lanes.
    pub fn total(self, residuals: &[f64], w: &[f64]) -> f64 {
        // One loop per kind, so that each vectorises.
        match self.kind {
            Kind::Square => lanes(residuals, w, |r| 0.5 * r * r),
            Kind::Huber => lanes(residuals, w, |r| {
                let c = r.clamp(-self.delta, self.delta);
                c * (r - 0.5 * c)
            }),
            Kind::Floor => lanes(residuals, w, |r| self.cost(r).rho),
        }
    }

    /// The objective as it is reported: summed Huber, summed squares, or the mean asymmetric error without rounding.
    pub fn reported(self, residuals: &[f64], w: &[f64]) -> f64 {
        let total: f64 = w.iter().sum();
        let sum = |f: &dyn Fn(f64) -> f64| residuals.iter().zip(w).map(|(r, w)| w * f(*r)).sum::<f64>();
        match self.kind {
            Kind::Square => sum(&|r| r * r),
            Kind::Huber => sum(&|r| self.cost(r).rho),
            Kind::Floor => sum(&|r| if r < 0.0 { -BELOW * r } else { r }) / total,
        }
    }

    /// What is minimised, as the words "profile of …" go on.
    pub fn estimator(self) -> &'static str {
        match (self.kind, self.raw) {
            (Kind::Square, false) => "the squared error of ln loss",
            (Kind::Square, true) => "the squared error of the loss",
            (Kind::Huber, _) => {
                "Huber's estimate, by least squares that ends there and is as wide as its own variance,"
            }
            (Kind::Floor, _) => "the floor of the rows",
        }
    }

    /// In words.
    pub fn words(self) -> String {
        match (self.kind, self.raw) {
            (Kind::Square, false) => "sum of squared residuals of ln loss".to_owned(),
            (Kind::Square, true) => "sum of squared residuals of the loss".to_owned(),
            (Kind::Huber, _) => format!("sum of Huber penalties of ln loss, delta {}", self.delta),
            (Kind::Floor, _) => {
                format!("mean absolute error of the loss, {BELOW} times as much below the law")
            }
        }
    }
}

#[inline]
fn lanes(residuals: &[f64], w: &[f64], rho: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; 4];
    let (r4, w4) = (residuals.chunks_exact(4), w.chunks_exact(4));
    let tail: f64 = r4.remainder().iter().zip(w4.remainder()).map(|(r, w)| w * rho(*r)).sum();
    for (r, w) in r4.zip(w4) {
        for k in 0..4 {
            sums[k] += w[k] * rho(r[k]);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huber_is_between_the_median_and_the_mean() {
        let huber = Penalty::of(Loss::Huber, 1e-3);
        assert!((huber.inefficiency(1.0, 1e9) / std::f64::consts::FRAC_PI_2 - 1.0).abs() < 1e-3);
        assert!((huber.inefficiency(1e-5, 1e9) - 1.0).abs() < 1e-9);
        // Huber's own table: 1.345 standard deviations cost 5 %.
        assert!((huber.inefficiency(1e-3 / 1.345, 1e9) - 1.0 / 0.95).abs() < 1e-3);
        for (rows, exact) in [(3.0, 1.3463), (5.0, 1.4341), (7.0, 1.4726)] {
            assert!((huber.inefficiency(1.0, rows - 1.0) / exact - 1.0).abs() < 0.01, "{rows}");
        }
    }

    #[test]
    fn derivatives_match_differences() {
        let h = 1e-7;
        for penalty in [
            Penalty::square(),
            Penalty::of(Loss::Huber, 1e-3),
            Penalty::of(Loss::Asymmetric, 1e-3).with_delta(1e-2),
        ] {
            for r in [-0.05, -4e-4, 3e-4, 6e-3, 0.2] {
                let c = penalty.cost(r);
                let slope = (penalty.cost(r + h).rho - penalty.cost(r - h).rho) / (2.0 * h);
                assert!((c.slope - slope).abs() < 1e-6, "{penalty:?} {r}");
                assert!((c.weight * r - c.slope).abs() < 1e-12);
            }
        }
    }
}
