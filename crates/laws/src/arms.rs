//! Arms of a study against each other: means and slopes with their intervals, what data are worth on another arm's
//! curve, where a sweep is best.
//!
//! A unit of evidence (a run, or runs of one seed that are compared with each other) is one number here; what is
//! within it has been averaged before. Intervals are Student's, of independent units.

use crate::numeric::linear::least_squares;
use crate::numeric::quantile::t_quantile;

/// An estimate; without ends where the units are too few for an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Its value.
    pub value: f64,
    /// Ends of its interval.
    pub ends: Option<(f64, f64)>,
    /// Units it is of.
    pub units: usize,
}

impl Estimate {
    /// Whether the whole interval lies above a value.
    pub fn is_above(&self, value: f64) -> bool {
        self.ends.is_some_and(|(lo, _)| lo > value)
    }

    /// Whether the whole interval lies below a value.
    pub fn is_below(&self, value: f64) -> bool {
        self.ends.is_some_and(|(_, hi)| hi < value)
    }

    /// Whether the interval holds a value.
    pub fn holds(&self, value: f64) -> bool {
        self.ends.is_some_and(|(lo, hi)| lo <= value && value <= hi)
    }

    /// Half the interval's width.
    pub fn half_width(&self) -> Option<f64> {
        self.ends.map(|(lo, hi)| 0.5 * (hi - lo))
    }

    /// The estimate of a monotone function of it.
    #[must_use]
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let ends = self.ends.map(|(lo, hi)| (f(lo), f(hi))).map(|(a, b)| (a.min(b), a.max(b)));
        Self { value: f(self.value), ends, units: self.units }
    }
}

/// The mean of units with its interval at `level`; `None` of no units.
pub fn mean(values: &[f64], level: f64) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let value = values.iter().sum::<f64>() / n as f64;
    let half = (n > 1).then(|| {
        let ss: f64 = values.iter().map(|v| (v - value) * (v - value)).sum();
        let dof = (n - 1) as f64;
        t_quantile(0.5 + 0.5 * level, dof) * libm::sqrt(ss / dof / n as f64)
    });
    Some(Estimate { value, ends: half.map(|h| (value - h, value + h)), units: n })
}

/// Coefficients of y on the columns of `x` by least squares, each with its interval at `level`.
pub fn regression(x: &[Vec<f64>], y: &[f64], level: f64) -> Option<Vec<Estimate>> {
    let fit = least_squares(x, y, &vec![1.0; y.len()])?;
    let (n, p) = (x.len(), fit.beta.len());
    let scale = (n > p).then(|| {
        let dof = (n - p) as f64;
        t_quantile(0.5 + 0.5 * level, dof) * libm::sqrt(fit.ssr / dof)
    });
    let coefficient = |i: usize| {
        let (value, half) = (fit.beta[i], scale.map(|s| s * libm::sqrt(fit.inverse[i][i])));
        Estimate { value, ends: half.map(|h| (value - h, value + h)), units: n }
    };
    fit.beta.iter().all(|b| b.is_finite()).then(|| (0..p).map(coefficient).collect())
}

/// Slope of y on x with its interval at `level`; `None` unless x differs.
pub fn slope(x: &[f64], y: &[f64], level: f64) -> Option<Estimate> {
    let centre = x.iter().sum::<f64>() / x.len().max(1) as f64;
    let rows: Vec<Vec<f64>> = x.iter().map(|x| vec![1.0, x - centre]).collect();
    regression(&rows, y, level).map(|coefficients| coefficients[1])
}

/// What a curve says of the place where it reaches a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reached {
    /// There.
    At(f64),
    /// Before its first point.
    Before(f64),
    /// Not by its last point.
    After(f64),
}

/// Where a falling curve of (x, y) first reaches `y`, between its points straight in ln x and ln y. Points need no
/// order; all are positive.
pub fn reaches(curve: &[(f64, f64)], y: f64) -> Option<Reached> {
    let mut points = curve.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (points.first()?, points.last()?);
    if y > first.1 {
        return Some(Reached::Before(first.0));
    }
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if y1 <= y && y0 > y1 {
            let share = ((libm::log(y0) - libm::log(y)) / (libm::log(y0) - libm::log(y1))).clamp(0.0, 1.0);
            return Some(Reached::At(libm::exp(libm::log(x0) + share * (libm::log(x1) - libm::log(x0)))));
        }
    }
    Some(if y == first.1 { Reached::At(first.0) } else { Reached::After(last.0) })
}

/// As [`reaches`], but bent between two points as those beside them are: ln y is the parabola in ln x through both
/// whose second derivative is the mean of those through three neighbouring points, no more of it than leaves the
/// curve falling all the way. With two points in all, straight.
///
/// A loss that falls towards a floor lies below the chord: a fifth more tokens would be read as 19 %.
pub fn reaches_bent(curve: &[(f64, f64)], y: f64) -> Option<Reached> {
    let mut points = curve.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by_key(|p| p.0);
    let straight = reaches(&points, y)?;
    let Some(i) = points.windows(2).position(|pair| pair[1].1 <= y && y < pair[0].1) else {
        return Some(straight);
    };
    let logs: Vec<(f64, f64)> = points.iter().map(|p| (libm::log(p.0), libm::log(p.1))).collect();
    // Half of the second derivative of the parabola through three points.
    let bend = |three: &[(f64, f64)]| {
        let slope = |a: usize, b: usize| (three[b].1 - three[a].1) / (three[b].0 - three[a].0);
        (slope(1, 2) - slope(0, 1)) / (three[2].0 - three[0].0)
    };
    let bends: Vec<f64> = [i.checked_sub(1), Some(i)]
        .into_iter()
        .flatten()
        .filter_map(|from| logs.get(from..from + 3))
        .map(bend)
        .collect();
    let bend = bends.iter().sum::<f64>() / bends.len().max(1) as f64;
    let ((x0, y0), (x1, y1)) = (logs[i], logs[i + 1]);
    let (fall, below) = (y0 - y1, y0 - libm::log(y));
    // With u from 0 to 1 between the two: fall·u + a·u(1 − u) = below; it falls everywhere where |a| ≤ fall.
    let a = (bend * (x1 - x0) * (x1 - x0)).clamp(-fall, fall);
    let b = fall + a;
    let root = libm::sqrt((b * b - 4.0 * a * below).max(0.0));
    let share = if below > 0.0 { (2.0 * below / (b + root)).clamp(0.0, 1.0) } else { 0.0 };
    Some(Reached::At(libm::exp(x0 + share * (x1 - x0))))
}

/// The value of a curve of (x, y) at `x`, straight in ln x and ln y between its points; `None` outside of them.
pub fn interpolate(curve: &[(f64, f64)], x: f64) -> Option<f64> {
    let mut points = curve.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.windows(2).find(|pair| pair[0].0 <= x && x <= pair[1].0).map(|pair| {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(x, y)| (libm::log(x), libm::log(y)));
        libm::exp(y0 + (libm::log(x) - x0) / (x1 - x0) * (y1 - y0))
    })
}

/// The bottom of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bottom {
    /// Where, in the sweep's coordinate.
    pub x: f64,
    /// Ends of its interval; an end the data do not bound is infinite. `None` where the points leave no freedom.
    pub ends: Option<(f64, f64)>,
    /// The parabola's value there.
    pub y: f64,
    /// The parabola's curvature, d²y/dx².
    pub curvature: f64,
    /// It lies inside what was tried, and the lowest point is not at an end.
    pub interior: bool,
}

/// How far from the lowest point a sweep is taken for a parabola: a factor of four in a logarithmic coordinate.
const NEAR: f64 = 1.40;

/// The bottom of the parabola through a sweep's points near its lowest one, with Fieller's interval at `level`: the
/// places at which the derivative may be zero.
pub fn bottom(x: &[f64], y: &[f64], level: f64) -> Option<Bottom> {
    let mut places: Vec<f64> = x.to_vec();
    places.sort_by(f64::total_cmp);
    places.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let mean_at = |place: f64| {
        let here: Vec<f64> =
            x.iter().zip(y).filter(|(x, _)| (**x - place).abs() < 1e-9).map(|(_, y)| *y).collect();
        here.iter().sum::<f64>() / here.len() as f64
    };
    let lowest = *places.iter().min_by(|a, b| mean_at(**a).total_cmp(&mean_at(**b)))?;
    let at_an_end = lowest == places[0] || lowest == places[places.len() - 1];
    let near: Vec<usize> = (0..x.len()).filter(|i| (x[*i] - lowest).abs() <= NEAR).collect();
    let rows: Vec<Vec<f64>> = near.iter().map(|i| x[*i] - lowest).map(|t| vec![1.0, t, t * t]).collect();
    let values: Vec<f64> = near.iter().map(|i| y[*i]).collect();
    let fit = least_squares(&rows, &values, &vec![1.0; values.len()])?;
    let (b, c) = (fit.beta[1], fit.beta[2]);
    let t = -b / (2.0 * c);
    let (low, high) = (places[0] - lowest, places[places.len() - 1] - lowest);
    let ends = (near.len() > 3).then(|| {
        let dof = (near.len() - 3) as f64;
        let q = t_quantile(0.5 + 0.5 * level, dof);
        let s = q * q * fit.ssr / dof;
        let v = |i: usize, j: usize| s * fit.inverse[i][j];
        fieller(4.0 * (c * c - v(2, 2)), 4.0 * (b * c - v(1, 2)), b * b - v(1, 1), t)
    });
    let shifted = ends.map(|(lo, hi)| (lo + lowest, hi + lowest));
    Some(Bottom {
        x: t + lowest,
        ends: shifted,
        y: fit.beta[0] + b * t + c * t * t,
        curvature: 2.0 * c,
        interior: c > 0.0 && t >= low && t <= high && !at_an_end,
    })
}

/// Where a·t² + b·t + c ≤ 0 around `centre`: an end that the data do not bound is infinite.
fn fieller(a: f64, b: f64, c: f64, centre: f64) -> (f64, f64) {
    let discriminant = b * b - 4.0 * a * c;
    if a <= 0.0 || discriminant < 0.0 || !centre.is_finite() {
        return (f64::NEG_INFINITY, f64::INFINITY);
    }
    let root = libm::sqrt(discriminant);
    ((-b - root) / (2.0 * a), (-b + root) / (2.0 * a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_students_interval() {
        // t_{0.975, 3} = 3.1824463.
        let m = mean(&[1.0, 2.0, 3.0, 4.0], 0.95).unwrap();
        let half = 3.182_446_3 * (5.0f64 / 3.0 / 4.0).sqrt();
        assert!((m.value - 2.5).abs() < 1e-12 && (m.half_width().unwrap() - half).abs() < 1e-6, "{m:?}");
        assert_eq!(mean(&[3.0], 0.95).unwrap().ends, None);
        assert!(mean(&[], 0.95).is_none());
        assert!(m.is_above(0.0) && !m.is_above(1.0) && m.holds(2.0) && m.is_below(5.0));
        assert_eq!(m.map(|v| -v).value, -2.5);
    }

    #[test]
    fn slopes_are_found_and_their_intervals_hold_them() {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let wiggle = |i: usize| if i.is_multiple_of(2) { 0.1 } else { -0.1 };
        let y: Vec<f64> = x.iter().enumerate().map(|(i, x)| 3.0 - 0.5 * x + wiggle(i)).collect();
        let found = slope(&x, &y, 0.95).unwrap();
        assert!(found.holds(-0.5) && found.half_width().unwrap() < 0.03, "{found:?}");
        assert!(slope(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0], 0.95).is_none());
    }

    #[test]
    fn a_curve_is_inverted_along_straight_lines_of_logarithms() {
        let curve: Vec<(f64, f64)> =
            [8.0, 1.0, 2.0, 4.0].iter().map(|d: &f64| (*d, 3.0 * d.powf(-0.25))).collect();
        for d in [1.0, 1.5, 3.0, 8.0] {
            let Some(Reached::At(x)) = reaches(&curve, 3.0 * f64::powf(d, -0.25)) else { panic!("{d}") };
            assert!((x - d).abs() < 1e-9, "{d}: {x}");
        }
        assert!((interpolate(&curve, 3.0).unwrap() - 3.0 * f64::powf(3.0, -0.25)).abs() < 1e-9);
        assert_eq!((interpolate(&curve, 0.5), interpolate(&curve, 9.0)), (None, None));
        assert_eq!(reaches(&curve, 3.1), Some(Reached::Before(1.0)));
        assert_eq!(reaches(&curve, 0.1), Some(Reached::After(8.0)));
        // A curve that turns up is reached where it falls.
        let Some(Reached::At(x)) = reaches(&[(1.0, 3.0), (2.0, 2.0), (4.0, 2.5)], 2.5) else { panic!() };
        assert!(x > 1.0 && x < 2.0);
    }

    #[test]
    fn a_curve_with_a_floor_is_inverted_more_closely_by_bent_lines() {
        let loss = |d: f64| 1.5 + 90.0 * libm::pow(d, -0.42);
        let curve: Vec<(f64, f64)> =
            [32e3, 512e3, 64e3, 128e3, 256e3].iter().map(|d| (*d, loss(*d))).collect();
        let error = |reached: Option<Reached>, d: f64| match reached {
            Some(Reached::At(x)) => (x / d - 1.0).abs(),
            other => panic!("{d}: {other:?}"),
        };
        for d in [40e3, 80e3, 110e3, 200e3, 300e3, 430e3] {
            let straight = error(reaches(&curve, loss(d)), d);
            let bent = error(reaches_bent(&curve, loss(d)), d);
            assert!(straight > 0.004 && bent < 0.0015, "{d}: {straight} straight, {bent} bent");
        }
        for (d, l) in &curve {
            assert!(error(reaches_bent(&curve, *l), *d) < 1e-12, "the points themselves");
        }
        assert_eq!(reaches_bent(&curve, 9.0), Some(Reached::Before(32e3)));
        assert_eq!(reaches_bent(&curve, 1.5), Some(Reached::After(512e3)));
        // A power law needs no bend, two points have none, and a plateau beside a fall leaves the curve falling.
        let pure: Vec<(f64, f64)> =
            [1.0, 2.0, 4.0].iter().map(|d| (*d, 3.0 * libm::pow(*d, -0.25))).collect();
        assert!(error(reaches_bent(&pure, 3.0 * libm::pow(1.5, -0.25)), 1.5) < 1e-9);
        assert_eq!(reaches_bent(&pure[..2], 2.8), reaches(&pure[..2], 2.8));
        let cliff = [(1.0, 2.51), (2.0, 2.5), (4.0, 1.0), (8.0, 0.99)];
        let places: Vec<f64> = [2.4, 2.0, 1.5, 1.1]
            .iter()
            .map(|y| match reaches_bent(&cliff, *y) {
                Some(Reached::At(x)) => x,
                other => panic!("{y}: {other:?}"),
            })
            .collect();
        assert!(places.is_sorted() && places[0] > 2.0 && places[3] < 4.0, "{places:?}");
    }

    #[test]
    fn the_bottom_of_a_sweep_lies_in_its_interval() {
        let x: Vec<f64> = [0.25f64, 0.5, 1.0, 2.0, 4.0].iter().map(|f| f.ln()).collect();
        let y: Vec<f64> = x.iter().map(|x| 2.0 + 0.05 * (x - 0.3) * (x - 0.3)).collect();
        let exact = bottom(&x, &y, 0.95).unwrap();
        assert!(
            (exact.x - 0.3).abs() < 1e-9 && exact.interior && (exact.curvature - 0.1).abs() < 1e-9,
            "{exact:?}"
        );
        let rough: Vec<f64> =
            y.iter().zip([0.001, -0.001, 0.0005, 0.001, -0.001]).map(|(y, e)| y + e).collect();
        let (lo, hi) = bottom(&x, &rough, 0.95).unwrap().ends.unwrap();
        assert!(lo < 0.3 && 0.3 < hi && hi - lo < 2.0, "{lo} {hi}");
        // Flat: nothing is known of the bottom.
        let flat = bottom(&x, &[2.0, 2.01, 1.99, 2.0, 2.01], 0.95).unwrap();
        assert_eq!(flat.ends, Some((f64::NEG_INFINITY, f64::INFINITY)));
        // Falling to the end of the sweep: not found.
        let falling: Vec<f64> = x.iter().map(|x| 2.0 - 0.1 * x + 0.001 * x * x).collect();
        assert!(!bottom(&x, &falling, 0.95).unwrap().interior);
    }
}
