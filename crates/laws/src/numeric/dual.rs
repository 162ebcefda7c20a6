//! Forward-mode derivatives: a value with its gradient in the coordinates of the fit. A form is written once, as the
//! formula reads, and its gradient is exact.

use super::MAX_COORDS;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// v and ∂v/∂θ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dual {
    /// Value.
    pub v: f64,
    /// Gradient.
    pub g: [f64; MAX_COORDS],
}

impl Dual {
    /// A number that does not depend on the coordinates.
    pub fn constant(v: f64) -> Self {
        Self { v, g: [0.0; MAX_COORDS] }
    }

    /// Coordinate `i` at value `v`.
    pub fn coordinate(i: usize, v: f64) -> Self {
        let mut out = Self::constant(v);
        out.g[i] = 1.0;
        out
    }

    /// All coordinates of `theta`.
    pub fn coordinates(theta: &[f64; MAX_COORDS]) -> [Self; MAX_COORDS] {
        std::array::from_fn(|i| Self::coordinate(i, theta[i]))
    }

    fn chain(self, v: f64, slope: f64) -> Self {
        Self { v, g: self.g.map(|x| x * slope) }
    }

    /// e^x.
    pub fn exp(self) -> Self {
        let v = libm::exp(self.v.clamp(-700.0, 700.0));
        self.chain(v, v)
    }

    /// Natural logarithm; arguments below 1e-300 are taken as 1e-300, so that a search may cross the edge and come
    /// back.
    pub fn ln(self) -> Self {
        let x = self.v.max(1e-300);
        self.chain(libm::log(x), 1.0 / x)
    }

    /// 1 − e^(−x), accurate for small x.
    pub fn one_minus_exp_neg(self) -> Self {
        let x = self.v.clamp(-700.0, 700.0);
        self.chain(-libm::expm1(-x), libm::exp(-x))
    }

    /// ln(e^a + e^b) without overflow.
    pub fn log_add(self, other: Self) -> Self {
        let top = self.v.max(other.v);
        let (p, q) = (libm::exp(self.v - top), libm::exp(other.v - top));
        let sum = p + q;
        let (p, q) = (p / sum, q / sum);
        Self { v: top + libm::log(sum), g: std::array::from_fn(|i| p * self.g[i] + q * other.g[i]) }
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, g: std::array::from_fn(|i| self.g[i] + o.g[i]) }
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, g: std::array::from_fn(|i| self.g[i] - o.g[i]) }
    }
}

impl Mul for Dual {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the product rule has a sum")]
    fn mul(self, o: Self) -> Self {
        Self { v: self.v * o.v, g: std::array::from_fn(|i| self.g[i] * o.v + o.g[i] * self.v) }
    }
}

impl Div for Dual {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the quotient rule has a difference")]
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        Self { v, g: std::array::from_fn(|i| (self.g[i] - v * o.g[i]) / o.v) }
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        self.chain(-self.v, -1.0)
    }
}

impl Add<f64> for Dual {
    type Output = Self;
    fn add(self, o: f64) -> Self {
        Self { v: self.v + o, ..self }
    }
}

impl Sub<f64> for Dual {
    type Output = Self;
    fn sub(self, o: f64) -> Self {
        Self { v: self.v - o, ..self }
    }
}

impl Mul<f64> for Dual {
    type Output = Self;
    fn mul(self, o: f64) -> Self {
        self.chain(self.v * o, o)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_match_differences() {
        let f = |a: Dual, b: Dual| {
            ((a * b).exp() + b / a).ln().log_add(a - b) + (a * 2.0).one_minus_exp_neg() - (-b)
        };
        let (a, b, h) = (0.7, 1.3, 1e-6);
        let at = |x: f64, y: f64| f(Dual::coordinate(0, x), Dual::coordinate(1, y));
        let exact = at(a, b).g;
        let da = (at(a + h, b).v - at(a - h, b).v) / (2.0 * h);
        let db = (at(a, b + h).v - at(a, b - h).v) / (2.0 * h);
        assert!((exact[0] - da).abs() < 1e-8 && (exact[1] - db).abs() < 1e-8);
    }
}
