//! Forward-mode derivatives of several rows at once: what [`super::dual::Dual`] is for one place, in lanes that the
//! compiler turns into vector instructions, with no more gradient entries than the form has coordinates.

use super::fast;
use super::{MAX_COORDS, Theta};
use std::array::from_fn;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Rows in a lane.
pub const LANES: usize = 4;

/// One number of each of [`LANES`] rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanes(pub [f64; LANES]);

/// v and ∂v/∂θ of each row; P coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowDual<const P: usize> {
    /// Values.
    pub v: Lanes,
    /// Gradients.
    pub g: [Lanes; P],
}

impl Lanes {
    /// The same number in every row.
    pub fn all(x: f64) -> Self {
        Self([x; LANES])
    }

    /// `f` of each row's number.
    #[inline(always)]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self(self.0.map(f))
    }

    /// `f` of each row's two numbers.
    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self(from_fn(|k| f(self.0[k], other.0[k])))
    }
}

macro_rules! lanewise {
    ($($op:ident $name:ident $sign:tt),*) => {$(
        impl $op for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $name(self, o: Self) -> Self {
                self.zip(o, |a, b| a $sign b)
            }
        }
        impl $op<f64> for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $name(self, o: f64) -> Self {
                self.map(|a| a $sign o)
            }
        }
    )*};
}
lanewise!(Add add +, Sub sub -, Mul mul *, Div div /);

impl<const P: usize> RowDual<P> {
    /// Numbers that do not depend on the coordinates.
    #[inline(always)]
    pub fn constant(v: Lanes) -> Self {
        Self { v, g: [Lanes::all(0.0); P] }
    }

    /// All coordinates of `theta`, the same for every row.
    fn coordinates(theta: &Theta) -> [Self; P] {
        from_fn(|i| Self { v: Lanes::all(theta[i]), g: from_fn(|j| Lanes::all(f64::from(u8::from(i == j)))) })
    }

    #[inline(always)]
    fn chain(self, v: Lanes, slope: Lanes) -> Self {
        Self { v, g: self.g.map(|x| x * slope) }
    }

    /// e^x.
    #[inline(always)]
    pub fn exp(self) -> Self {
        let v = self.v.map(fast::exp);
        self.chain(v, v)
    }

    /// Natural logarithm; arguments below 1e-300 are taken as 1e-300, so that a search may cross the edge and come
    /// back.
    #[inline(always)]
    pub fn ln(self) -> Self {
        let x = self.v.map(|x| x.max(1e-300));
        self.chain(x.map(fast::ln), x.map(|x| 1.0 / x))
    }

    /// 1 − e^(−x), accurate for small x.
    pub fn one_minus_exp_neg(self) -> Self {
        let x = self.v.map(|x| x.clamp(-700.0, 700.0));
        self.chain(x.map(|x| -libm::expm1(-x)), x.map(|x| fast::exp(-x)))
    }

    /// ln(e^a + e^b) without overflow.
    #[inline(always)]
    pub fn log_add(self, other: Self) -> Self {
        let top = self.v.zip(other.v, f64::max);
        let (p, q) = ((self.v - top).map(fast::exp), (other.v - top).map(fast::exp));
        let sum = p + q;
        let (p, q) = (p / sum, q / sum);
        Self { v: top + sum.map(fast::ln), g: from_fn(|i| p * self.g[i] + q * other.g[i]) }
    }

    /// `self` in the rows where its value is at most `top`, else `other`.
    pub fn at_most_or(self, top: Lanes, other: Self) -> Self {
        let keep: [bool; LANES] = from_fn(|k| self.v.0[k] <= top.0[k]);
        let pick = |a: Lanes, b: Lanes| Lanes(from_fn(|k| if keep[k] { a.0[k] } else { b.0[k] }));
        Self { v: pick(self.v, other.v), g: from_fn(|i| pick(self.g[i], other.g[i])) }
    }
}

impl<const P: usize> Add for RowDual<P> {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, g: from_fn(|i| self.g[i] + o.g[i]) }
    }
}

impl<const P: usize> Sub for RowDual<P> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, g: from_fn(|i| self.g[i] - o.g[i]) }
    }
}

impl<const P: usize> Mul for RowDual<P> {
    type Output = Self;
    #[inline(always)]
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the product rule has a sum")]
    fn mul(self, o: Self) -> Self {
        Self { v: self.v * o.v, g: from_fn(|i| self.g[i] * o.v + o.g[i] * self.v) }
    }
}

impl<const P: usize> Div for RowDual<P> {
    type Output = Self;
    #[inline(always)]
    #[expect(clippy::suspicious_arithmetic_impl, reason = "the quotient rule has a difference")]
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        Self { v, g: from_fn(|i| (self.g[i] - v * o.g[i]) / o.v) }
    }
}

impl<const P: usize> Neg for RowDual<P> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self { v: self.v.map(|x| -x), g: self.g.map(|g| g.map(|x| -x)) }
    }
}

macro_rules! with_constant {
    ($($constant:ty),*) => {$(
        impl<const P: usize> Add<$constant> for RowDual<P> {
            type Output = Self;
            #[inline(always)]
            fn add(self, o: $constant) -> Self {
                Self { v: self.v + o, ..self }
            }
        }
        impl<const P: usize> Sub<$constant> for RowDual<P> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, o: $constant) -> Self {
                Self { v: self.v - o, ..self }
            }
        }
        impl<const P: usize> Mul<$constant> for RowDual<P> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, o: $constant) -> Self {
                Self { v: self.v * o, g: self.g.map(|x| x * o) }
            }
        }
    )*};
}
with_constant!(f64, Lanes);

/// f and ∂f/∂θ for all rows: `f[row]`, `jac[coordinate][row]` = `formula` of `x[variable][row]`. A last lane that is
/// not full repeats its last row.
#[inline(always)]
pub fn each_row<const P: usize>(
    x: &[&[f64]],
    theta: &Theta,
    f: &mut [f64],
    jac: &mut [Vec<f64>],
    formula: impl Fn(&[Lanes], &[RowDual<P>; P]) -> RowDual<P>,
) {
    let coordinates = RowDual::<P>::coordinates(theta);
    let mut lanes = [Lanes::all(0.0); MAX_COORDS];
    let n = f.len();
    for start in (0..n).step_by(LANES) {
        let full = (n - start).min(LANES);
        for (lane, column) in lanes.iter_mut().zip(x) {
            lane.0 = from_fn(|k| column[start + k.min(full - 1)]);
        }
        let out = formula(&lanes[..x.len()], &coordinates);
        f[start..start + full].copy_from_slice(&out.v.0[..full]);
        for (column, g) in jac.iter_mut().zip(&out.g) {
            column[start..start + full].copy_from_slice(&g.0[..full]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::theta_of;

    #[test]
    fn gradients_match_differences_in_every_row() {
        let x: Vec<f64> = (0..7).map(|i| 0.4 + 0.3 * f64::from(i)).collect();
        let at = |a: f64, b: f64| {
            let (mut f, mut jac) = (vec![0.0; 7], vec![vec![0.0; 7]; 2]);
            each_row::<2>(&[&x], &theta_of(&[a, b]), &mut f, &mut jac, |x, t| {
                let sum = ((t[0] * t[1]).exp() + t[1] / t[0]).ln().log_add(t[0] - t[1] * x[0]);
                let bent = sum + (t[0] * 2.0).one_minus_exp_neg() - (-t[1]) * x[0];
                bent.at_most_or(Lanes::all(3.0), bent * bent)
            });
            (f, jac)
        };
        let (a, b, h) = (0.7, 1.3, 1e-6);
        let exact = at(a, b);
        let (da, db) = ((at(a + h, b).0, at(a - h, b).0), (at(a, b + h).0, at(a, b - h).0));
        for row in 0..7 {
            let slope = |d: &(Vec<f64>, Vec<f64>)| (d.0[row] - d.1[row]) / (2.0 * h);
            assert!((exact.1[0][row] - slope(&da)).abs() < 1e-8, "{row}");
            assert!((exact.1[1][row] - slope(&db)).abs() < 1e-8, "{row}");
        }
        assert!(exact.0.iter().any(|v| *v < 3.0) && exact.0.iter().any(|v| *v > 3.0), "both branches");
    }
}
