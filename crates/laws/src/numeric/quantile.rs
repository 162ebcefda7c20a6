//! Distribution functions of the normal, Student's t and Fisher's F, and their quantiles by bisection and Newton.

/// P(Z ≤ z) of the standard normal.
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// z with P(Z ≤ z) = p, for 0 < p < 1.
pub fn normal_quantile(p: f64) -> f64 {
    invert(p, normal_cdf, |z| libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * std::f64::consts::PI))
}

/// P(T ≤ t) with `dof` degrees of freedom.
pub fn t_cdf(t: f64, dof: f64) -> f64 {
    if dof > 1e7 {
        return normal_cdf(t);
    }
    let tail = 0.5 * incomplete_beta(0.5 * dof, 0.5, dof / (dof + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// t with P(T ≤ t) = p, for 0 < p < 1 and `dof` > 0.
pub fn t_quantile(p: f64, dof: f64) -> f64 {
    if dof > 1e7 {
        return normal_quantile(p);
    }
    let ln_scale = libm::lgamma(0.5 * (dof + 1.0))
        - libm::lgamma(0.5 * dof)
        - 0.5 * libm::log(dof * std::f64::consts::PI);
    invert(p, |t| t_cdf(t, dof), |t| libm::exp(ln_scale - 0.5 * (dof + 1.0) * libm::log1p(t * t / dof)))
}

/// P(F > f) with `d1` and `d2` degrees of freedom.
pub fn f_tail(f: f64, d1: f64, d2: f64) -> f64 {
    if f <= 0.0 {
        return 1.0;
    }
    incomplete_beta(0.5 * d2, 0.5 * d1, d2 / (d2 + d1 * f))
}

/// Newton inside a bracket that always holds the root.
fn invert(p: f64, cdf: impl Fn(f64) -> f64, density: impl Fn(f64) -> f64) -> f64 {
    let p = p.clamp(1e-300, 1.0 - 1e-16);
    let (mut lo, mut hi) = (-1.0, 1.0);
    while cdf(lo) > p && lo > -1e150 {
        lo *= 2.0;
    }
    while cdf(hi) < p && hi < 1e150 {
        hi *= 2.0;
    }
    let mut x = 0.5 * (lo + hi);
    for _ in 0..200 {
        let error = cdf(x) - p;
        if error > 0.0 {
            hi = x
        } else {
            lo = x
        }
        let slope = density(x);
        let newton = x - error / slope;
        let next = if slope > 0.0 && newton > lo && newton < hi { newton } else { 0.5 * (lo + hi) };
        if (next - x).abs() <= 1e-15 * x.abs().max(1e-3) {
            return next;
        }
        x = next;
    }
    x
}

/// Regularised incomplete beta function I_x(a, b) by its continued fraction (Lentz).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = libm::exp(
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x),
    ) / a;
    let tiny = 1e-300;
    let guard = |v: f64| if v.abs() < tiny { tiny } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..400 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (dof, want) in
            [(1.0, 12.706_204_736), (2.0, 4.302_652_730), (4.0, 2.776_445_105), (25.0, 2.059_538_553)]
        {
            assert!((t_quantile(0.975, dof) - want).abs() < 1e-8, "{dof}");
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!((t_quantile(0.975, 1e9) - 1.959_963_984_540_054).abs() < 1e-9);
        assert!((t_quantile(0.025, 4.0) + 2.776_445_105).abs() < 1e-8);
        // F(0.95; 3, 10) = 3.708
        assert!((f_tail(3.708_265, 3.0, 10.0) - 0.05).abs() < 1e-6);
    }
}
