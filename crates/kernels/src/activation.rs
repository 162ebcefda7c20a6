//! The activation functions GPT-2 checkpoints are found with: [`gelu`] in its tanh form, which is GPT-2's own and the
//! one with vectors and a bf16 form; GELU by the error function and ReLU in plain loops, for models trained elsewhere.
//!
//! ```text
//!   gelu(x) = x·Φ(x),  gelu'(x) = Φ(x) + x·φ(x),  Φ(x) = ½(1 + erf(x/√2)),  φ(x) = e^(−x²/2)/√(2π)
//!   (Hendrycks & Gimpel 2016, arXiv 1606.08415)
//! ```

use crate::Real;
use crate::gelu;
use crate::lent::Lent;
use crate::pool::split;
use crate::set::KernelSet;

/// Elements that a part of a pass has at least: an error function takes longer than a vector's lane of anything.
const GRAIN: usize = 512;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU in its tanh form: `gelu_new`.
    GeluTanh,
    /// GELU by the error function: `gelu`.
    Gelu,
    /// max(0, x): `relu`.
    Relu,
}

/// Plain loops.
pub mod naive {
    use super::*;

    /// Value and slope at `x`.
    fn at<T: Real>(activation: Activation, x: T) -> (T, T) {
        match activation {
            Activation::GeluTanh => {
                let (mut y, mut d) = ([T::default()], [T::of(1.0)]);
                gelu::naive::backward(&[x], &mut y, &mut d);
                (y[0], d[0])
            }
            Activation::Gelu => {
                let below = T::of(0.5) * (T::of(1.0) + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf());
                let density = (-(x * x) * T::of(0.5)).exp() * T::of(0.398_942_280_401_432_7);
                (x * below, below + x * density)
            }
            Activation::Relu if x > T::default() => (x, T::of(1.0)),
            Activation::Relu => (T::default(), T::default()),
        }
    }

    /// `y = f(x)`.
    pub fn forward<T: Real>(activation: Activation, x: &[T], y: &mut [T]) {
        for (&x, y) in x.iter().zip(y) {
            *y = at(activation, x).0;
        }
    }

    /// `y = f(x)` again, and `d ← d · f'(x)`.
    pub fn backward<T: Real>(activation: Activation, x: &[T], y: &mut [T], d: &mut [T]) {
        for ((&x, y), d) in x.iter().zip(y).zip(d) {
            let (value, slope) = at(activation, x);
            *y = value;
            *d = *d * slope;
        }
    }
}

/// `y = f(x)`.
pub fn forward(set: KernelSet, activation: Activation, x: &[f32], y: &mut [f32]) {
    if activation == Activation::GeluTanh {
        return gelu::forward(set, x, y);
    }
    assert_eq!(x.len(), y.len());
    let (n, y) = (x.len(), Lent::new(y));
    split(n.div_ceil(GRAIN), |p, _| {
        let at = p.start * GRAIN..n.min(p.end * GRAIN);
        // SAFETY: the part's own elements.
        naive::forward(activation, &x[at.clone()], unsafe { y.at(at.start, at.len()) });
    });
}

/// `y = f(x)` again, and `d ← d · f'(x)`.
pub fn backward(set: KernelSet, activation: Activation, x: &[f32], y: &mut [f32], d: &mut [f32]) {
    if activation == Activation::GeluTanh {
        return gelu::backward(set, x, y, d);
    }
    assert!(x.len() == y.len() && x.len() == d.len());
    let (n, y, d) = (x.len(), Lent::new(y), Lent::new(d));
    split(n.div_ceil(GRAIN), |p, _| {
        let at = p.start * GRAIN..n.min(p.end * GRAIN);
        // SAFETY: the part's own elements.
        let (y, d) = unsafe { (y.at(at.start, at.len()), d.at(at.start, at.len())) };
        naive::backward(activation, &x[at], y, d);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_a_table_and_slopes_the_limit_of_differences() {
        // erf(1/√2) = 0.682689492137, the share of a normal distribution within one deviation.
        let mut y = [0.0f64; 3];
        naive::forward(Activation::Gelu, &[1.0, -1.0, 0.0], &mut y);
        for (found, exact) in y.iter().zip([0.841_344_746_068, -0.158_655_253_932, 0.0]) {
            assert!((found - exact).abs() < 1e-12, "{found} {exact}");
        }
        for activation in [Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
            for i in -60..60 {
                let (x, h) = (f64::from(i) * 0.1 + 0.05, 1e-5);
                let (mut y, mut d) = ([0.0], [1.0]);
                naive::backward(activation, &[x], &mut y, &mut d);
                let (mut up, mut down) = ([0.0], [0.0]);
                naive::forward(activation, &[x + h], &mut up);
                naive::forward(activation, &[x - h], &mut down);
                assert!(((up[0] - down[0]) / (2.0 * h) - d[0]).abs() < 1e-9, "{activation:?} at {x}");
            }
        }
    }

    #[test]
    fn in_f32_they_are_what_f64_gives() {
        let x: Vec<f32> = (0..2001).map(|i| -10.0 + i as f32 * 0.01).chain([-1e4, 1e4]).collect();
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        for activation in [Activation::GeluTanh, Activation::Gelu, Activation::Relu] {
            let (mut y, mut again, mut d) = (x.clone(), x.clone(), vec![1.0f32; x.len()]);
            forward(KernelSet::detect(), activation, &x, &mut y);
            backward(KernelSet::detect(), activation, &x, &mut again, &mut d);
            assert_eq!(y, again);
            let (mut y64, mut d64) = (exact.clone(), vec![1.0; x.len()]);
            naive::backward(activation, &exact, &mut y64, &mut d64);
            for i in 0..x.len() {
                assert!(
                    (f64::from(y[i]) - y64[i]).abs() < 1e-6 * (1.0 + exact[i].abs()),
                    "{activation:?} {}",
                    x[i]
                );
                assert!((f64::from(d[i]) - d64[i]).abs() < 4e-6, "{activation:?}' {}", x[i]);
            }
        }
    }
}
