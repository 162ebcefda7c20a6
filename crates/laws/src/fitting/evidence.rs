//! How much the rows tell of a function of the coordinates. Rows of one run share its luck, so the run is the unit of
//! evidence.
//!
//! Where every row is a run of its own, the variance of a run is that of the residuals, with Student's t. Where runs
//! have several rows, the variance of g is the sum over runs of their squared scores (Liang & Zeger 1986), which
//! allows any dependence inside a run. Its small-sample bias and its degrees of freedom are those under a working
//! model (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018): an offset shared by a run's rows and a scatter of its
//! own for each, both estimated from the residuals by moments.
//!
//! With J̃ = √w·J, M = (J̃ᵀJ̃)⁻¹, and per run i: S_i = J̃_iᵀJ̃_i, c_i = Σ w·J, n_i = Σ w, s_i = Σ w·r·J, t_i = Σ w·r.

use super::variance::Variance;
use crate::numeric::linear::quadratic;
use crate::numeric::{MAX_COORDS, Square, Theta};

/// Rows that lie on a law to more digits than this are taken to scatter by it: losses are written with no more.
const EXACT: f64 = 1e-9;
/// From this many runs on, degrees of freedom leave out what two runs share: it no longer matters.
const MANY_RUNS: usize = 400;

/// Rows with the Jacobian of what was fitted to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// `jacobian[coordinate][row]`.
    pub(crate) jacobian: &'a [Vec<f64>],
    /// Weights.
    pub(crate) w: &'a [f64],
    /// Residuals.
    pub(crate) residual: &'a [f64],
    /// Run of each row, 0..runs.
    pub(crate) run: &'a [usize],
    /// Number of runs.
    pub(crate) runs: usize,
    /// Inverse of JᵀWJ, one on the diagonal of a coordinate that is held.
    pub(crate) bread: &'a Square,
}

/// The variance of functions of the coordinates.
#[derive(Debug, Clone)]
pub(crate) enum Evidence {
    /// Rows are independent (or all of one run): their variance.
    Rows(Variance),
    /// Runs are.
    Runs(Box<Runs>),
}

/// What runs of several rows tell.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    p: usize,
    /// M.
    bread: Square,
    /// S_i.
    information: Vec<Square>,
    /// c_i.
    offset: Vec<Theta>,
    /// s_i.
    score: Vec<Theta>,
    rows_per_run: f64,
    /// Variance of the offset that a run's rows share.
    pub(crate) between: f64,
    /// Variance of a row about its run.
    pub(crate) within: f64,
    /// Degrees of freedom of the variance of one run.
    pub(crate) dof: f64,
}

/// Variance of g in units of its information: the rise of the sum of squares that one standard error stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    /// Variance of g over gᵀMg.
    pub(crate) lambda: f64,
    /// Its degrees of freedom.
    pub(crate) dof: f64,
    /// Variance of g over the plain sum of squared scores, which is what a bootstrap by run scatters by.
    pub(crate) ratio: f64,
}

impl Evidence {
    /// The scale of a function with this gradient; `None` if the runs are too few to tell.
    pub(crate) fn scale(&self, gradient: &Theta) -> Option<Scale> {
        let mut scale = match self {
            Self::Rows(v) => Scale { lambda: v.value, dof: v.dof, ratio: 1.0 },
            Self::Runs(runs) => runs.scale(gradient)?,
        };
        scale.lambda = scale.lambda.max(EXACT * EXACT);
        Some(scale)
    }

    /// Variance of one new run about the law, and its degrees of freedom.
    pub(crate) fn of_a_run(&self) -> (f64, f64) {
        match self {
            Self::Rows(v) => (v.value.max(EXACT * EXACT), v.dof),
            Self::Runs(r) => ((r.between + r.within).max(EXACT * EXACT), r.dof),
        }
    }

    /// Covariance of the coordinates; `bread` is M.
    pub(crate) fn covariance(&self, bread: &Square) -> Square {
        let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
        match self {
            Self::Rows(v) => {
                let value = v.value.max(EXACT * EXACT);
                for (o, b) in out.iter_mut().flatten().zip(bread.iter().flatten()) {
                    *o = b * value;
                }
            }
            Self::Runs(runs) => out = runs.covariance(),
        }
        out
    }
}

impl Runs {
    /// `None` with fewer than two runs, or runs that the law follows one by one.
    pub(crate) fn of(rows: &Rows<'_>) -> Option<Self> {
        let p = rows.jacobian.len();
        if rows.runs < 2 {
            return None;
        }
        let mut information = vec![[[0.0; MAX_COORDS]; MAX_COORDS]; rows.runs];
        let mut offset = vec![[0.0; MAX_COORDS]; rows.runs];
        let mut score = vec![[0.0; MAX_COORDS]; rows.runs];
        let (mut size, mut sum) = (vec![0.0; rows.runs], vec![0.0; rows.runs]);
        let (mut squares, mut count) = (0.0, 0.0);
        for (k, &i) in rows.run.iter().enumerate() {
            let (w, r) = (rows.w[k], rows.residual[k]);
            size[i] += w;
            sum[i] += w * r;
            squares += w * r * r;
            count += w;
            for a in 0..p {
                let ja = rows.jacobian[a][k];
                offset[i][a] += w * ja;
                score[i][a] += w * r * ja;
                for b in 0..p {
                    information[i][a][b] += w * ja * rows.jacobian[b][k];
                }
            }
        }
        let bread = *rows.bread;
        // K = δ·n_i − c_iᵀMc_k: what is left of the runs' offsets once the law is fitted.
        let leverage: Vec<f64> = offset.iter().map(|c| quadratic(&bread, c, p)).collect();
        let shared = outer_sum(&offset, p);
        let kept = size.iter().zip(&leverage).map(|(n, h)| n - h).sum::<f64>();
        let mut kept_squares: f64 = size.iter().zip(&leverage).map(|(n, h)| n * n - 2.0 * n * h).sum();
        let through = product(&bread, &shared, p);
        kept_squares +=
            (0..p).map(|a| (0..p).map(|b| through[a][b] * through[b][a]).sum::<f64>()).sum::<f64>();
        let of_sums: f64 = sum.iter().map(|t| t * t).sum();
        let free = count - p as f64;
        let (within, between) = moments(free, kept, kept_squares, squares, of_sums)?;
        let per_run = count / rows.runs as f64;
        let taken: f64 = size.iter().zip(&leverage).filter(|(n, _)| **n > 0.0).map(|(n, h)| h / n).sum();
        let free_between = rows.runs as f64 - taken;
        if free_between < 0.05 {
            return None;
        }
        let free_within = (free - free_between).max(0.0);
        let means = between + within / per_run;
        let inside = within * (1.0 - 1.0 / per_run);
        let spread = means * means / free_between
            + if free_within > 0.0 { inside * inside / free_within } else { 0.0 };
        let total = between + within;
        let dof = if spread > 0.0 { total * total / spread } else { free_between };
        Some(Self { p, bread, information, offset, score, rows_per_run: per_run, between, within, dof })
    }

    fn scale(&self, gradient: &Theta) -> Option<Scale> {
        let p = self.p;
        let a = times(&self.bread, gradient, p);
        let plain: f64 = self.score.iter().map(|s| dot(&a, s, p)).map(|v| v * v).sum();
        let shared = outer_sum(&self.offset, p);
        let own: f64 = self.information.iter().map(|s| quadratic(s, &a, p)).sum();
        let truth = self.within * own + self.between * quadratic(&shared, &a, p);
        // Γ_ik = Cov(v_i, v_k) under the working model, v_i = aᵀs_i.
        let b: Vec<Theta> = self.information.iter().map(|s| times(s, &a, p)).collect();
        let mb: Vec<Theta> = b.iter().map(|b| times(&self.bread, b, p)).collect();
        let cmb: Vec<Theta> = mb.iter().map(|m| times(&shared, m, p)).collect();
        let ca: Vec<f64> = self.offset.iter().map(|c| dot(c, &a, p)).collect();
        let gamma = |i: usize, k: usize| {
            let same = f64::from(u8::from(i == k));
            let inner = same * dot(&a, &b[i], p) - dot(&b[i], &mb[k], p);
            let offsets = same * ca[i] * ca[i]
                - ca[i] * dot(&self.offset[i], &mb[k], p)
                - ca[k] * dot(&self.offset[k], &mb[i], p)
                + dot(&mb[i], &cmb[k], p);
            self.within * inner + self.between * offsets
        };
        let runs = self.score.len();
        let expected: f64 = (0..runs).map(|i| gamma(i, i)).sum();
        let squares: f64 = if runs > MANY_RUNS {
            (0..runs).map(|i| gamma(i, i)).map(|g| g * g).sum()
        } else {
            (0..runs).map(|i| (0..runs).map(|k| gamma(i, k)).map(|g| g * g).sum::<f64>()).sum()
        };
        if self.between + self.within <= EXACT * EXACT {
            // Nothing scatters: there is nothing to estimate a bias from.
            return Some(Scale { lambda: 0.0, dof: self.dof, ratio: 1.0 });
        }
        let information = quadratic(&self.bread, gradient, p);
        if truth == 0.0 {
            // A coordinate that is held at the end of its range has no score: what a run's mean tells, at least.
            let per_run = self.rows_per_run;
            return Some(Scale { lambda: self.within + self.between * per_run, dof: self.dof, ratio: 1.0 });
        }
        let usable = expected > 1e-6 * truth && truth > 0.0 && squares > 0.0 && information > 0.0;
        usable.then(|| {
            let ratio = truth / expected;
            Scale { lambda: plain * ratio / information, dof: expected * expected / squares, ratio }
        })
    }

    /// M·(Σ s_i s_iᵀ)·M, widened by the largest bias among the coordinates.
    fn covariance(&self) -> Square {
        let p = self.p;
        let meat = outer_sum(&self.score, p);
        let half = product(&self.bread, &meat, p);
        let mut out = product(&half, &self.bread, p);
        let mut ratio: f64 = 1.0;
        for j in 0..p {
            let mut unit = [0.0; MAX_COORDS];
            unit[j] = 1.0;
            ratio = ratio.max(self.scale(&unit).map_or(1.0, |s| s.ratio));
        }
        out.iter_mut().flatten().for_each(|x| *x *= ratio);
        out
    }
}

/// (within, between) from E[Σ w·r²] = within·free + between·kept and E[Σ t_i²] = within·kept + between·kept_squares.
fn moments(free: f64, kept: f64, kept_squares: f64, squares: f64, of_sums: f64) -> Option<(f64, f64)> {
    if !(free > 0.0 && squares.is_finite() && of_sums.is_finite()) {
        return None;
    }
    let determinant = free * kept_squares - kept * kept;
    if determinant <= 1e-9 * free * kept_squares {
        return (kept > 0.0).then_some((squares / free, 0.0));
    }
    let between = (free * of_sums - kept * squares) / determinant;
    let within = (kept_squares * squares - kept * of_sums) / determinant;
    Some(if between <= 0.0 {
        (squares / free, 0.0)
    } else if within <= 0.0 {
        (0.0, squares / kept)
    } else {
        (within, between)
    })
}

fn dot(a: &Theta, b: &Theta, p: usize) -> f64 {
    (0..p).map(|i| a[i] * b[i]).sum()
}

fn times(m: &Square, v: &Theta, p: usize) -> Theta {
    let mut out = [0.0; MAX_COORDS];
    for i in 0..p {
        out[i] = (0..p).map(|j| m[i][j] * v[j]).sum();
    }
    out
}

fn product(a: &Square, b: &Square, p: usize) -> Square {
    let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
    for i in 0..p {
        for j in 0..p {
            out[i][j] = (0..p).map(|k| a[i][k] * b[k][j]).sum();
        }
    }
    out
}

fn outer_sum(vectors: &[Theta], p: usize) -> Square {
    let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
    for v in vectors {
        for i in 0..p {
            for j in 0..p {
                out[i][j] += v[i] * v[j];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::random::Random;

    /// Rows of a constant and a slope, `per` rows in each of `runs` runs, the slope's variable constant inside a run.
    fn rows(runs: usize, per: usize) -> (Vec<Vec<f64>>, Vec<usize>) {
        let run: Vec<usize> = (0..runs * per).map(|k| k / per).collect();
        let x = run.iter().map(|i| *i as f64 - 0.5 * (runs - 1) as f64).collect();
        (vec![vec![1.0; runs * per], x], run)
    }

    /// The columns are orthogonal.
    fn bread_of(jacobian: &[Vec<f64>]) -> Square {
        let mut out = [[0.0; MAX_COORDS]; MAX_COORDS];
        for (j, column) in jacobian.iter().enumerate() {
            out[j][j] = 1.0 / column.iter().map(|x| x * x).sum::<f64>();
        }
        out
    }

    /// With rows that repeat their run's mean, the runs are the evidence: the textbook's variance of a line through
    /// them, n − 2 degrees.
    #[test]
    fn copies_of_a_run_tell_no_more_than_the_run() {
        let offsets = [0.3, -0.5, 0.1, 0.4, -0.2, -0.3, 0.2];
        let fit = |per: usize| {
            let (jacobian, run) = rows(7, per);
            let n = run.len() as f64;
            let sxx: f64 = jacobian[1].iter().map(|x| x * x).sum();
            let mean = run.iter().map(|i| offsets[*i]).sum::<f64>() / n;
            let slope = run.iter().zip(&jacobian[1]).map(|(i, x)| offsets[*i] * x).sum::<f64>() / sxx;
            let residual: Vec<f64> =
                run.iter().zip(&jacobian[1]).map(|(i, x)| offsets[*i] - mean - slope * x).collect();
            let w = vec![1.0; run.len()];
            let ssr: f64 = residual.iter().map(|r| r * r).sum::<f64>() / per as f64;
            let bread = &bread_of(&jacobian);
            let rows = Rows { jacobian: &jacobian, w: &w, residual: &residual, run: &run, runs: 7, bread };
            let runs = Runs::of(&rows).unwrap();
            let mut unit = [0.0; MAX_COORDS];
            unit[1] = 1.0;
            let scale = Evidence::Runs(Box::new(runs.clone())).scale(&unit).unwrap();
            (scale.lambda / sxx, scale.dof, runs.between + runs.within, runs.dof, ssr / 5.0)
        };
        let (one, many) = (fit(2), fit(40));
        for (var, dof, total, run_dof, textbook) in [one, many] {
            assert!(
                (total / textbook - 1.0).abs() < 1e-9 && (run_dof - 5.0).abs() < 1e-9,
                "{total} {run_dof}"
            );
            assert!(dof > 2.0 && dof < 5.0, "{dof}");
            assert!((var / one.0 - 1.0).abs() < 1e-9, "{var} {}", one.0);
        }
    }

    /// The estimated variance is right on average, whatever the shares of run and row, in runs of very different
    /// length.
    #[test]
    fn the_variance_of_a_slope_is_right_on_average() {
        for (between, within) in [(0.0, 1.0), (1.0, 0.1), (0.3, 0.3)] {
            let mut run = Vec::new();
            for i in 0..9 {
                run.extend(std::iter::repeat_n(i, [1, 2, 3, 5, 8, 20, 20, 2, 1][i]));
            }
            let n = run.len();
            let x: Vec<f64> = run.iter().map(|i| *i as f64).collect();
            let mean = x.iter().sum::<f64>() / n as f64;
            let x: Vec<f64> = x.iter().map(|v| v - mean).collect();
            let sxx: f64 = x.iter().map(|v| v * v).sum();
            let jacobian = vec![vec![1.0; n], x.clone()];
            let (w, bread) = (vec![1.0; n], &bread_of(&jacobian));
            let mut random = Random::new(3, 1);
            let (mut slopes, mut told, rounds) = (0.0, 0.0, 4000);
            for _ in 0..rounds {
                let luck: Vec<f64> = (0..9).map(|_| f64::sqrt(between) * random.normal()).collect();
                let y: Vec<f64> =
                    run.iter().map(|i| luck[*i] + f64::sqrt(within) * random.normal()).collect();
                let slope = y.iter().zip(&x).map(|(y, x)| y * x).sum::<f64>() / sxx;
                let level = y.iter().sum::<f64>() / n as f64;
                let residual: Vec<f64> = y.iter().zip(&x).map(|(y, x)| y - level - slope * x).collect();
                let rows =
                    Rows { jacobian: &jacobian, w: &w, residual: &residual, run: &run, runs: 9, bread };
                let mut unit = [0.0; MAX_COORDS];
                unit[1] = 1.0;
                let scale = Evidence::Runs(Box::new(Runs::of(&rows).unwrap())).scale(&unit).unwrap();
                slopes += slope * slope;
                told += scale.lambda / sxx;
            }
            let share = told / slopes;
            assert!((0.85..1.15).contains(&share), "{between} {within}: {share}");
        }
    }
}
