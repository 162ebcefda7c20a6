//! Small dense linear algebra: Cholesky of matrices over a fit's coordinates, and least squares by normal equations.

use super::{MAX_COORDS, Square, Theta};

/// Lower Cholesky factor of the leading `p`×`p` block; `None` if it is not positive definite.
pub fn cholesky(a: &Square, p: usize) -> Option<Square> {
    let mut l = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..=i {
            let mut sum = a[i][j];
            for k in 0..j {
                sum -= l[i][k] * l[j][k];
            }
            if i == j {
                // Relative to the diagonal: what is left must be more than rounding.
                if !(sum.is_finite() && sum > 1e-15 * a[i][i].abs()) {
                    return None;
                }
                l[i][i] = libm::sqrt(sum);
            } else {
                l[i][j] = sum / l[j][j];
            }
        }
    }
    Some(l)
}

/// x of L·Lᵀ·x = b.
pub fn solve(l: &Square, b: &Theta, p: usize) -> Theta {
    let mut x = *b;
    for i in 0..p {
        for k in 0..i {
            x[i] -= l[i][k] * x[k];
        }
        x[i] /= l[i][i];
    }
    for i in (0..p).rev() {
        for k in i + 1..p {
            x[i] -= l[k][i] * x[k];
        }
        x[i] /= l[i][i];
    }
    x
}

/// Inverse of the leading `p`×`p` block of a positive definite matrix, scaled to unit diagonal first.
pub fn inverse(a: &Square, p: usize) -> Option<Square> {
    let mut scale = [0.0; MAX_COORDS];
    for i in 0..p {
        if !(a[i][i] > 0.0 && a[i][i].is_finite()) {
            return None;
        }
        scale[i] = 1.0 / libm::sqrt(a[i][i]);
    }
    let mut scaled = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            scaled[i][j] = a[i][j] * scale[i] * scale[j];
        }
    }
    let l = cholesky(&scaled, p)?;
    let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
    for j in 0..p {
        let mut unit = [0.0; MAX_COORDS];
        unit[j] = 1.0;
        let column = solve(&l, &unit, p);
        for i in 0..p {
            out[i][j] = column[i] * scale[i] * scale[j];
        }
    }
    Some(out)
}

/// g·A·g over the first `p` coordinates.
pub fn quadratic(a: &Square, g: &Theta, p: usize) -> f64 {
    let mut sum = 0.0;
    for i in 0..p {
        for j in 0..p {
            sum += g[i] * a[i][j] * g[j];
        }
    }
    sum
}

/// A weighted linear least-squares fit.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Coefficients.
    pub beta: Vec<f64>,
    /// (Xᵀ W X)⁻¹.
    pub inverse: Square,
    /// Σ w·r².
    pub ssr: f64,
}

/// Least squares of y on the rows of `x` (each of the same length, at most [`MAX_COORDS`]) with weights `w`, by
/// Householder reflections, so that a badly scaled design costs no digits.
pub fn least_squares(x: &[Vec<f64>], y: &[f64], w: &[f64]) -> Option<Linear> {
    let (n, p) = (x.len(), x.first()?.len());
    if p == 0 || p > MAX_COORDS || n < p {
        return None;
    }
    let mut a: Vec<Vec<f64>> = Vec::with_capacity(n);
    let mut b: Vec<f64> = Vec::with_capacity(n);
    for i in 0..n {
        let s = libm::sqrt(w[i].max(0.0));
        a.push(x[i].iter().map(|v| v * s).collect());
        b.push(y[i] * s);
    }
    for k in 0..p {
        let norm = libm::sqrt((k..n).map(|i| a[i][k] * a[i][k]).sum::<f64>());
        let column = libm::sqrt((0..n).map(|i| a[i][k] * a[i][k]).sum::<f64>());
        if !(norm > 1e-13 * column && norm.is_finite()) {
            return None;
        }
        let alpha = if a[k][k] > 0.0 { -norm } else { norm };
        let mut v: Vec<f64> = (k..n).map(|i| a[i][k]).collect();
        v[0] -= alpha;
        let vv: f64 = v.iter().map(|t| t * t).sum();
        for j in k..p {
            let dot: f64 = v.iter().enumerate().map(|(i, t)| t * a[k + i][j]).sum();
            for (i, t) in v.iter().enumerate() {
                a[k + i][j] -= 2.0 * dot / vv * t;
            }
        }
        let dot: f64 = v.iter().enumerate().map(|(i, t)| t * b[k + i]).sum();
        for (i, t) in v.iter().enumerate() {
            b[k + i] -= 2.0 * dot / vv * t;
        }
    }
    let back = |rhs: &[f64]| -> Vec<f64> {
        let mut out = rhs[..p].to_vec();
        for i in (0..p).rev() {
            for k in i + 1..p {
                out[i] -= a[i][k] * out[k];
            }
            out[i] /= a[i][i];
        }
        out
    };
    let beta = back(&b);
    // (RᵀR)⁻¹ = R⁻¹·R⁻ᵀ.
    let mut columns = Vec::with_capacity(p);
    for j in 0..p {
        let mut unit = vec![0.0; p];
        unit[j] = 1.0;
        columns.push(back(&unit));
    }
    let mut inverse = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            inverse[i][j] = columns.iter().map(|c| c[i] * c[j]).sum();
        }
    }
    Some(Linear { beta, inverse, ssr: b[p..].iter().map(|t| t * t).sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_found_to_the_last_digits() {
        let x: Vec<Vec<f64>> = (0..8).map(|i| f64::from(i) + 18.0).map(|t| vec![1.0, t, t * t]).collect();
        let y: Vec<f64> = x.iter().map(|r| 3.0 - 2.0 * r[1] + 0.25 * r[2]).collect();
        let fit = least_squares(&x, &y, &[1.0; 8]).unwrap();
        assert!((fit.beta[2] - 0.25).abs() < 1e-11 && (fit.beta[1] + 2.0).abs() < 1e-9);
        assert!(fit.ssr < 1e-20);
        assert!(least_squares(&x[..2], &y[..2], &[1.0; 2]).is_none());
    }

    #[test]
    fn inverse_undoes() {
        let mut a = [[0.0; MAX_COORDS]; MAX_COORDS];
        (a[0][0], a[0][1], a[1][0], a[1][1]) = (4.0, 1.0, 1.0, 3.0);
        let inv = inverse(&a, 2).unwrap();
        assert!((inv[0][0] - 3.0 / 11.0).abs() < 1e-14 && (inv[0][1] + 1.0 / 11.0).abs() < 1e-14);
        a[1][1] = 0.25;
        assert!(inverse(&a, 2).is_none());
    }
}
