//! The two number types naive kernels run in: `f32` beside the fast kernels, `f64` for finite differences.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// `f32` or `f64`.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// From a constant.
    fn of(value: f64) -> Self;
    /// To double precision.
    fn to_f64(self) -> f64;
    /// e^x.
    fn exp(self) -> Self {
        Self::of(self.to_f64().exp())
    }
    /// Natural logarithm.
    fn ln(self) -> Self {
        Self::of(self.to_f64().ln())
    }
    /// Square root.
    fn sqrt(self) -> Self {
        Self::of(self.to_f64().sqrt())
    }
    /// Error function.
    fn erf(self) -> Self {
        Self::of(libm::erf(self.to_f64()))
    }
    /// Hyperbolic tangent.
    fn tanh(self) -> Self {
        Self::of(self.to_f64().tanh())
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}
