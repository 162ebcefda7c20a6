//! Is it a straight line on log-log axes? R² alone hides a bend, so three things are asked together. Also what the
//! residuals say.

use super::evidence::{Evidence, Rows, Runs};
use super::variance;
use crate::document::{LocalSlope, ParamEstimate, Residual, ResidualTests, Straightness};
use crate::numeric::linear::{Linear, least_squares};
use crate::numeric::quantile::t_quantile;
use crate::table::same_level;
use std::collections::BTreeMap;

/// R² a straight line must reach.
pub const R2_ENOUGH: f64 = 0.98;
/// Deviation that must not be reached.
pub const WORST_ALLOWED: f64 = 0.01;

/// "Straight" of `y` against `x` (both positive, natural logs are taken here): R² ≥ 0.98, the worst deviation from
/// the line under 1 %, and an interval of the quadratic coefficient that contains zero. `seeds` is what repeated
/// seeds elsewhere say of one run's ln y: (sum of squares, degrees of freedom); it is pooled with the residuals.
/// `run` says which rows share their luck,
/// 0.. for each.
pub fn straightness(
    x: &[f64],
    y: &[f64],
    run: &[usize],
    seeds: Option<(f64, usize)>,
    level: f64,
) -> Straightness {
    let usable = |i: &usize| x[*i] > 0.0 && y[*i] > 0.0 && x[*i].is_finite() && y[*i].is_finite();
    let rows: Vec<usize> = (0..x.len()).filter(usable).collect();
    let lx: Vec<f64> = rows.iter().map(|i| libm::log(x[*i])).collect();
    let ly: Vec<f64> = rows.iter().map(|i| libm::log(y[*i])).collect();
    let run: Vec<usize> = rows.iter().map(|i| run[*i]).collect();
    let Some(line) = polynomial(&lx, &ly, 1).filter(|_| lx.len() >= 3) else {
        return Straightness {
            words: format!(
                "cannot tell: {} usable points, at least 3 at different places are needed",
                lx.len()
            ),
            ..Straightness::default()
        };
    };
    let mean = ly.iter().sum::<f64>() / ly.len() as f64;
    let total: f64 = ly.iter().map(|v| (v - mean) * (v - mean)).sum();
    let r2 = (total > rounding(&ly)).then(|| 1.0 - line.ssr / total);
    let centre = lx.iter().sum::<f64>() / lx.len() as f64;
    let worst_deviation = lx
        .iter()
        .zip(&ly)
        .map(|(x, y)| (libm::exp(y - line.beta[0] - line.beta[1] * (x - centre)) - 1.0).abs())
        .fold(0.0, f64::max);
    let curvature = curvature(&lx, &ly, &run, seeds, level);
    let r2_enough = r2.is_some_and(|r| r >= R2_ENOUGH);
    let worst_small = worst_deviation < WORST_ALLOWED;
    let contains_zero = curvature.as_ref().is_some_and(|c| match (c.lo, c.hi) {
        (Some(lo), Some(hi)) => lo <= 0.0 && hi >= 0.0,
        _ => false,
    });
    let straight = r2_enough && worst_small && contains_zero;
    let words = words(r2, worst_deviation, curvature.as_ref(), straight);
    Straightness {
        straight,
        r2,
        r2_enough,
        worst_deviation,
        worst_small,
        curvature,
        curvature_contains_zero: contains_zero,
        words,
    }
}

fn words(r2: Option<f64>, worst: f64, curvature: Option<&ParamEstimate>, straight: bool) -> String {
    let r2 = r2.map_or_else(|| "R² undefined".to_owned(), |r| format!("R² {r:.4} (0.98 needed)"));
    let bend = match curvature {
        Some(ParamEstimate { value, lo: Some(lo), hi: Some(hi), .. }) => format!(
            "curvature {value:+.4} ({lo:+.4} to {hi:+.4}, {} zero)",
            if *lo <= 0.0 && *hi >= 0.0 { "contains" } else { "excludes" }
        ),
        Some(c) => format!("curvature {:+.4} without an interval (too few points)", c.value),
        None => "curvature unknown (fewer than 3 places)".to_owned(),
    };
    let verdict = if straight { "straight" } else { "not shown to be straight" };
    format!("{verdict}: {r2}, worst deviation {:.2} % (under 1 % needed), {bend}", 100.0 * worst)
}

/// Total squares that rounding alone makes of equal numbers.
pub(super) fn rounding(y: &[f64]) -> f64 {
    let largest = y.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    y.len() as f64 * (1e-13 * largest) * (1e-13 * largest)
}

/// Quadratic coefficient of ln y in ln x (arguments are logs) with its t interval; rows of one run count together.
pub fn curvature(
    lx: &[f64],
    ly: &[f64],
    run: &[usize],
    seeds: Option<(f64, usize)>,
    level: f64,
) -> Option<ParamEstimate> {
    let fit = polynomial(lx, ly, 2)?;
    let value = fit.beta[2];
    let runs = run.iter().collect::<std::collections::BTreeSet<_>>().len();
    let found = if runs > 1 && runs < lx.len() {
        by_run(lx, ly, run, &fit)
    } else {
        let dof = lx.len() as f64 - 3.0;
        variance::variance(fit.ssr, dof, seeds.unwrap_or((0.0, 0)))
            .map(|v| (libm::sqrt(v.value * fit.inverse[2][2]), v.dof))
    };
    let Some((se, dof)) = found else {
        return Some(ParamEstimate { value, ..ParamEstimate::default() });
    };
    let half = se * t_quantile(0.5 + 0.5 * level, dof.max(0.2));
    Some(ParamEstimate {
        value,
        se: Some(se),
        lo: Some(value - half),
        hi: Some(value + half),
        ..ParamEstimate::default()
    })
}

/// Standard error of the quadratic coefficient and its degrees of freedom, the run as the unit.
fn by_run(lx: &[f64], ly: &[f64], run: &[usize], fit: &Linear) -> Option<(f64, f64)> {
    let centre = lx.iter().sum::<f64>() / lx.len() as f64;
    let power = |k: i32| -> Vec<f64> { lx.iter().map(|x| libm::pow(x - centre, f64::from(k))).collect() };
    let jacobian = vec![power(0), power(1), power(2)];
    let residual: Vec<f64> =
        (0..lx.len()).map(|i| ly[i] - (0..3).map(|k| fit.beta[k] * jacobian[k][i]).sum::<f64>()).collect();
    let mut names: Vec<usize> = run.to_vec();
    names.sort_unstable();
    names.dedup();
    let index: Vec<usize> = run.iter().filter_map(|r| names.binary_search(r).ok()).collect();
    let w = vec![1.0; lx.len()];
    let rows = Rows {
        jacobian: &jacobian,
        w: &w,
        residual: &residual,
        run: &index,
        runs: names.len(),
        bread: &fit.inverse,
    };
    let mut unit = [0.0; crate::numeric::MAX_COORDS];
    unit[2] = 1.0;
    let scale = Evidence::Runs(Box::new(Runs::of(&rows)?)).scale(&unit)?;
    Some((libm::sqrt(scale.lambda * fit.inverse[2][2]), scale.dof))
}

/// Least squares of y on 1, x, x², … with x centred.
fn polynomial(x: &[f64], y: &[f64], degree: usize) -> Option<Linear> {
    let centre = x.iter().sum::<f64>() / x.len().max(1) as f64;
    let rows: Vec<Vec<f64>> = x
        .iter()
        .map(|x| {
            let t = x - centre;
            (0..=degree).scan(1.0, |power, _| Some(std::mem::replace(power, *power * t))).collect()
        })
        .collect();
    least_squares(&rows, y, &vec![1.0; y.len()])
}

/// `sign`·Δ ln y / Δ ln x between neighbouring places, with the mean of ln y at each place: −1 for losses that fall,
/// whose exponent is written positive, 1 for y = G·x^exponent.
pub fn local_slopes(x: &[f64], y: &[f64], sign: f64) -> Vec<LocalSlope> {
    let mut order: Vec<usize> = (0..x.len()).filter(|i| x[*i] > 0.0 && y[*i] > 0.0).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
    let mut places: Vec<(f64, f64, f64)> = Vec::new();
    for i in order {
        let ly = libm::log(y[i]);
        match places.last_mut() {
            Some((at, sum, count)) if same_level(*at, x[i]) => {
                *sum += ly;
                *count += 1.0;
            }
            _ => places.push((x[i], ly, 1.0)),
        }
    }
    places
        .windows(2)
        .map(|w| LocalSlope {
            from: w[0].0,
            to: w[1].0,
            slope: sign * (w[1].1 / w[1].2 - w[0].1 / w[0].2) / (libm::log(w[1].0) - libm::log(w[0].0)),
        })
        .collect()
}

/// Tests on residuals in the order given; the runs test takes rows of one `unit` (of each residual) by their mean, in
/// the order of their first: rows that share their luck have one sign together.
pub(super) fn residual_tests(residuals: &[Residual], units: &[usize]) -> ResidualTests {
    let values: Vec<f64> = residuals.iter().map(|r| r.residual).collect();
    if values.is_empty() {
        return ResidualTests::default();
    }
    let rms = libm::sqrt(values.iter().map(|r| r * r).sum::<f64>() / values.len() as f64);
    let worst = residuals.iter().map(|r| (libm::exp(r.residual) - 1.0).abs()).fold(0.0, f64::max);
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    let mut sums: Vec<f64> = Vec::new();
    for (value, unit) in values.iter().zip(units) {
        let place = *places.entry(*unit).or_insert(sums.len());
        if place == sums.len() {
            sums.push(0.0);
        }
        sums[place] += value;
    }
    let signs: Vec<bool> = sums.iter().filter(|r| **r != 0.0).map(|r| *r > 0.0).collect();
    let sign_runs = if signs.is_empty() { 0 } else { 1 + signs.windows(2).filter(|w| w[0] != w[1]).count() };
    let up = signs.iter().filter(|s| **s).count();
    ResidualTests {
        rms: Some(rms),
        worst_deviation: Some(worst).filter(|w| w.is_finite()),
        sign_runs,
        sign_runs_p: runs_p(sign_runs, up, signs.len() - up),
    }
}

/// Exact two-sided p of `runs` runs among `a` signs of one kind and `b` of the other (Wald & Wolfowitz).
fn runs_p(runs: usize, a: usize, b: usize) -> Option<f64> {
    if a == 0 || b == 0 || a + b > 5000 {
        return None;
    }
    let ln_choose = |n: usize, k: usize| -> Option<f64> {
        (k <= n).then(|| {
            let g = |m: usize| libm::lgamma(m as f64 + 1.0);
            g(n) - g(k) - g(n - k)
        })
    };
    let all = ln_choose(a + b, a)?;
    let probability = |r: usize| -> f64 {
        let term = |x: usize, y: usize| match (ln_choose(a - 1, x), ln_choose(b - 1, y)) {
            (Some(p), Some(q)) => libm::exp(p + q - all),
            _ => 0.0,
        };
        let half = r / 2;
        if r.is_multiple_of(2) {
            2.0 * term(half - 1, half - 1)
        } else {
            term(half, half - 1) + term(half - 1, half)
        }
    };
    let observed = probability(runs);
    let p: f64 = (2..=a + b).map(probability).filter(|q| *q <= observed * (1.0 + 1e-9)).sum();
    Some(p.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(bend: f64) -> (Vec<f64>, Vec<f64>) {
        let x: Vec<f64> = (0..7).map(|i| 1e4 * 2f64.powi(i)).collect();
        let wiggle = [1.0, -1.0, 0.5, 0.0, -0.5, 1.0, -1.0];
        let y = x
            .iter()
            .zip(wiggle)
            .map(|(x, e)| {
                let t = x.ln() - 11.0;
                (1.0 - 0.08 * t + bend * t * t + 1e-4 * e).exp()
            })
            .collect();
        (x, y)
    }

    #[test]
    fn a_line_is_straight_and_a_bend_is_not_though_its_r2_is_high() {
        let (x, y) = series(0.0);
        let line = straightness(&x, &y, &[0, 1, 2, 3, 4, 5, 6], None, 0.95);
        assert!(line.straight, "{}", line.words);
        let (x, y) = series(0.004);
        let bent = straightness(&x, &y, &[0, 1, 2, 3, 4, 5, 6], None, 0.95);
        assert!(bent.r2_enough && !bent.straight && !bent.curvature_contains_zero, "{}", bent.words);
        assert!((bent.curvature.unwrap().value - 0.004).abs() < 2e-4);
    }

    #[test]
    fn too_few_points_cannot_tell() {
        let s = straightness(&[1.0, 2.0], &[2.0, 1.0], &[0, 1], None, 0.95);
        assert!(!s.straight && s.words.contains("cannot tell"));
        let s = straightness(&[1.0, f64::NAN, 2.0], &[2.0, 1.0, -1.0], &[0, 1, 2], None, 0.95);
        assert!(!s.straight);
    }

    #[test]
    fn slopes_between_neighbours() {
        let slopes = local_slopes(&[4.0, 1.0, 1.0, 2.0], &[0.25, 1.0, 1.0, 0.5], -1.0);
        assert_eq!(slopes.len(), 2);
        assert!(slopes.iter().all(|s| (s.slope - 1.0).abs() < 1e-12));
    }

    #[test]
    fn a_constant_has_no_r2_and_copies_of_runs_do_not_narrow_a_bend() {
        let (x, _) = series(0.0);
        let flat = straightness(&x, &[0.1 + 0.2; 7], &[0, 1, 2, 3, 4, 5, 6], None, 0.95);
        assert!(flat.r2.is_none(), "{flat:?}");
        let (x, y) = series(0.004);
        let width = |times: usize| {
            let many = |v: &[f64]| -> Vec<f64> { v.iter().flat_map(|a| vec![*a; times]).collect() };
            let run: Vec<usize> = (0..7 * times).map(|k| k / times).collect();
            let c = straightness(&many(&x), &many(&y), &run, None, 0.95).curvature.unwrap();
            c.hi.unwrap() - c.lo.unwrap()
        };
        assert!((width(30) / width(2) - 1.0).abs() < 1e-6);
        assert!(width(30) > 0.5 * width(1), "{} {}", width(30), width(1));
    }

    #[test]
    fn the_runs_test_is_exact() {
        // 10 rows, 5 up then 5 down: 2 runs, P = 2/252, and by symmetry 10 runs as well.
        let p = runs_p(2, 5, 5).unwrap();
        assert!((p - 4.0 / 252.0).abs() < 1e-9, "{p}");
        assert!(runs_p(1, 5, 0).is_none());
    }
}
