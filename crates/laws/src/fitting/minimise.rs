//! Local minimisation of Σ w·ρ(y − f(θ)): Newton's method with exact second derivatives where they are positive, else
//! the reweighted Gauss–Newton matrix, damped as Levenberg and Marquardt do, inside the coordinates' box.

use super::data::{Curvature, Data, LONG, Work, dot, evaluate};
use super::penalty::Penalty;
use crate::forms::{Form, Kernel};
use crate::numeric::linear::{cholesky, solve};
use crate::numeric::{MAX_COORDS, Square, Theta};

/// What is minimised.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// Form.
    pub form: &'a Form,
    /// Rows.
    pub data: &'a Data,
    /// Weights (those of the data, or a bootstrap's counts times them).
    pub w: &'a [f64],
    /// ρ.
    pub penalty: Penalty,
    /// One more observation, of a function of the coordinates: weight/2 · (target − g(θ))².
    pub pull: Option<Pull<'a>>,
}

/// A function of the coordinates with its gradient.
pub type Functional<'f> = dyn Fn(&Theta) -> (f64, Theta) + Sync + 'f;

/// An observation of a function of the coordinates; how profiles and prediction intervals are walked.
#[derive(Clone, Copy)]
pub struct Pull<'a> {
    /// g and its gradient.
    pub of: &'a Functional<'a>,
    /// Where it is pulled to.
    pub target: f64,
    /// How hard.
    pub weight: f64,
}

/// Where a search ended.
#[derive(Debug, Clone, Copy)]
pub struct Optimum {
    /// Coordinates.
    pub theta: Theta,
    /// Σ w·ρ, with the pull if there was one.
    pub objective: f64,
    /// Steps taken.
    pub steps: usize,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Most steps.
    pub steps: usize,
    /// Relative decrease of the objective that counts as none.
    pub tolerance: f64,
    /// Use exact second derivatives; without, Gauss–Newton, which costs half and is as good for squares.
    pub exact: bool,
    /// End a search where the next step promises a smaller decrease than that, instead of taking two such steps.
    pub foresee: bool,
}

/// Rough: for the stages before the last.
pub const ROUGH: Stop = Stop { steps: 12, tolerance: 1e-4, exact: true, foresee: true };
/// Fine enough to compare optima.
pub const FINE: Stop = Stop { steps: 120, tolerance: 1e-10, exact: true, foresee: false };
/// Least squares from a far start.
pub const SQUARES: Stop = Stop { steps: 120, tolerance: 1e-7, exact: false, foresee: true };
/// To the last digits.
pub const POLISH: Stop = Stop { steps: 400, tolerance: 1e-16, exact: true, foresee: false };

/// Buffers that live through many searches on the same thread.
#[derive(Debug, Default)]
pub struct Solver {
    work: Work,
    trial: Work,
    scratch: Work,
    residual: Vec<f64>,
    coef: Vec<f64>,
    bend: Vec<f64>,
    weight: Vec<f64>,
}

impl Solver {
    /// Minimises from `start`.
    pub fn minimise(&mut self, problem: &Problem<'_>, start: &Theta, stop: Stop) -> Optimum {
        self.minimise_from(problem, start, None, stop)
    }

    /// Minimises from `start`, where what [`evaluate`] gives may be `known`: many searches of the same rows under other
    /// weights share it.
    pub fn minimise_from(
        &mut self,
        problem: &Problem<'_>,
        start: &Theta,
        known: Option<&Work>,
        stop: Stop,
    ) -> Optimum {
        let p = problem.form.p();
        let exact = stop.exact && (cheap(problem) || stop.steps >= POLISH.steps);
        let mut theta = clamp(problem.form, start);
        match known {
            Some(known) => self.work.copy(known),
            None => evaluate(problem.form, problem.data, &theta, &mut self.work),
        }
        let mut objective = self.objective(problem, &theta, false);
        let mut lambda = 1e-3;
        let mut quiet = 0;
        let mut steps = 0;
        // The matrix of the step before, if that step was hardly damped.
        let mut before: Option<Square> = None;
        while steps < stop.steps && objective.is_finite() {
            let gradient = self.gradient(problem, &theta);
            let free = free_coords(problem.form, &theta, &gradient);
            let rest = before.filter(|_| stop.foresee).and_then(|h| decrement(&gradient, &h, &free, p));
            if rest.is_some_and(|rest| rest <= stop.tolerance * objective.abs()) {
                break;
            }
            steps += 1;
            let (newton, majorant) = self.curvature(problem, &theta, exact);
            let mut accepted = None;
            for _ in 0..30 {
                let step = damped_step(&gradient, &newton, &majorant, lambda, &free, p);
                let mut next = theta;
                for i in 0..p {
                    next[i] += step[i];
                }
                let next = clamp(problem.form, &next);
                if next == theta {
                    break;
                }
                evaluate(problem.form, problem.data, &next, &mut self.trial);
                let value = self.objective(problem, &next, true);
                if value < objective {
                    accepted = Some((next, value));
                    lambda = (lambda * 0.15).max(1e-12);
                    break;
                }
                lambda = (lambda * 6.0).min(1e15);
            }
            let Some((next, value)) = accepted else { break };
            let gain = objective - value;
            std::mem::swap(&mut self.work, &mut self.trial);
            theta = next;
            objective = value;
            before = (lambda <= 1e-3).then_some(newton);
            // Two small gains in a row: one may come from a step that was damped too much.
            quiet = if gain <= stop.tolerance * objective.abs() { quiet + 1 } else { 0 };
            if quiet >= 2 || objective == 0.0 {
                break;
            }
        }
        Optimum { theta, objective, steps }
    }

    /// Least squares of ln y from a far start.
    pub fn squares(&mut self, problem: &Problem<'_>, start: &Theta) -> Optimum {
        self.minimise(&Problem { penalty: Penalty::square(), ..*problem }, start, SQUARES)
    }

    /// Least squares of ln y first, unless `start` is good in it already, then the penalty with its δ narrowed step
    /// by step: the kinked objective is only met close to its optimum.
    pub fn search(&mut self, problem: &Problem<'_>, start: &Theta, last: Stop, far: bool) -> Optimum {
        let warm = if far { self.squares(problem, start).theta } else { *start };
        self.narrow(problem, &warm, last)
    }

    /// The last part of [`Solver::search`], from a point that is good in least squares.
    pub fn narrow(&mut self, problem: &Problem<'_>, start: &Theta, last: Stop) -> Optimum {
        let mut theta = *start;
        if problem.penalty.has_delta() {
            evaluate(problem.form, problem.data, &theta, &mut self.work);
            self.residuals(problem, false);
            let mean = self.residual.iter().map(|r| r.abs()).sum::<f64>() / self.residual.len().max(1) as f64;
            let mut delta = 2.0 * mean;
            while delta > 2.0 * problem.penalty.delta && delta.is_finite() {
                let wide = Problem { penalty: problem.penalty.with_delta(delta), ..*problem };
                theta = self.minimise(&wide, &theta, ROUGH).theta;
                delta *= 0.25;
            }
        }
        self.minimise(problem, &theta, last)
    }

    /// The reported objective at `theta` and the residuals (ln y − f, or y − f).
    pub fn report(&mut self, problem: &Problem<'_>, theta: &Theta) -> (f64, Vec<f64>) {
        evaluate(problem.form, problem.data, theta, &mut self.work);
        self.residuals(problem, false);
        let objective = problem.penalty.reported(&self.residual, problem.w);
        let logs = problem.data.y.iter().zip(&self.work.f).map(|(y, f)| y - f).collect();
        (objective, logs)
    }

    /// f and the gradient columns of the last evaluation at `theta`.
    pub fn evaluate(&mut self, problem: &Problem<'_>, theta: &Theta) -> &Work {
        evaluate(problem.form, problem.data, theta, &mut self.work);
        &self.work
    }

    fn residuals(&mut self, problem: &Problem<'_>, trial: bool) {
        let f = if trial { &self.trial.f } else { &self.work.f };
        self.residual.clear();
        if problem.penalty.raw && problem.form.log_response {
            self.residual.extend(problem.data.y.iter().zip(f).map(|(y, f)| libm::exp(*y) - libm::exp(*f)));
        } else {
            self.residual.extend(problem.data.y.iter().zip(f).map(|(y, f)| y - f));
        }
    }

    fn objective(&mut self, problem: &Problem<'_>, theta: &Theta, trial: bool) -> f64 {
        self.residuals(problem, trial);
        let mut sum = problem.penalty.total(&self.residual, problem.w);
        if let Some(pull) = &problem.pull {
            let miss = pull.target - (pull.of)(theta).0;
            sum += 0.5 * pull.weight * miss * miss;
        }
        sum
    }

    /// Gradient at the point in `work`; leaves what each row brings to it, and to [`Solver::curvature`], in buffers.
    fn gradient(&mut self, problem: &Problem<'_>, theta: &Theta) -> Theta {
        let (n, p) = (problem.data.len(), problem.form.p());
        self.residuals(problem, false);
        for buffer in [&mut self.coef, &mut self.bend, &mut self.weight] {
            buffer.clear();
            buffer.resize(n, 0.0);
        }
        let raw = problem.penalty.raw && problem.form.log_response;
        for i in 0..n {
            let cost = problem.penalty.cost(self.residual[i]);
            let w = problem.w[i];
            // r = Y − e^f has dr/df = −e^f and d²r/df² = −e^f; r = y − f has −1 and 0.
            let (s, s2) =
                if raw { (libm::exp(self.work.f[i]), libm::exp(self.work.f[i])) } else { (1.0, 0.0) };
            self.coef[i] = -w * cost.slope * s;
            self.bend[i] = w * (cost.bend * s * s - cost.slope * s2);
            self.weight[i] = w * cost.weight * s * s;
        }
        let mut gradient = [0.0; MAX_COORDS];
        for i in 0..p {
            gradient[i] = dot(&self.coef, &self.work.jac[i]);
        }
        if let Some(pull) = &problem.pull {
            let (value, slope) = (pull.of)(theta);
            for i in 0..p {
                gradient[i] -= pull.weight * (pull.target - value) * slope[i];
            }
        }
        gradient
    }

    /// Exact second derivatives, and the positive matrix of reweighted Gauss–Newton, where the last gradient was taken.
    fn curvature(&mut self, problem: &Problem<'_>, theta: &Theta, exact: bool) -> (Square, Square) {
        let p = problem.form.p();
        let mut newton = [[0.0; MAX_COORDS]; MAX_COORDS];
        let mut majorant = [[0.0; MAX_COORDS]; MAX_COORDS];
        Curvature::squares(&self.weight, &self.work, p, &mut majorant);
        if exact {
            let exact = Curvature { coef: &self.coef, bend: &self.bend };
            exact.add(problem.form, problem.data, theta, &self.work, &mut self.scratch, &mut newton);
        } else if problem.penalty.is_floor() {
            newton = majorant;
        } else {
            // Without ∂²f, but with the penalty's own second derivative: near an optimum of many rows the ∂²f of
            // rows above the law cancel those of rows below it, while the majorant of a kinked penalty creeps.
            Curvature::squares(&self.bend, &self.work, p, &mut newton);
        }
        if let Some(pull) = &problem.pull {
            let (_, slope) = (pull.of)(theta);
            for i in 0..p {
                for j in 0..p {
                    let outer = pull.weight * slope[i] * slope[j];
                    newton[i][j] += outer;
                    majorant[i][j] += outer;
                }
            }
        }
        (newton, majorant)
    }
}

/// Whether exact second derivatives are worth their time in every step: without a formula they cost 2p evaluations,
/// which on a long table only the last polish is worth.
fn cheap(problem: &Problem<'_>) -> bool {
    matches!(problem.form.kernel, Kernel::Terms(_)) || problem.data.len() <= LONG
}

/// What an undamped step would gain, ½·gᵀH⁻¹g over the free coordinates; `None` where H is not positive.
fn decrement(gradient: &Theta, h: &Square, free: &[bool; MAX_COORDS], p: usize) -> Option<f64> {
    let (h, b) = held(gradient, h, free, p);
    let l = cholesky(&h, p)?;
    let step = solve(&l, &b, p);
    Some(0.5 * (0..p).map(|i| b[i] * step[i]).sum::<f64>())
}

/// H and −g with the coordinates that are not free held where they are.
fn held(gradient: &Theta, h: &Square, free: &[bool; MAX_COORDS], p: usize) -> (Square, Theta) {
    let (mut h, mut b) = (*h, *gradient);
    for i in 0..p {
        b[i] = -b[i];
        if !free[i] {
            for j in 0..p {
                h[i][j] = 0.0;
                h[j][i] = 0.0;
            }
            h[i][i] = 1.0;
            b[i] = 0.0;
        }
    }
    (h, b)
}

/// The coordinates with each inside its box; a coordinate that is not a number becomes its lower end.
fn clamp(form: &Form, theta: &Theta) -> Theta {
    let mut out = *theta;
    for (t, c) in out.iter_mut().zip(form.coords) {
        *t = if t.is_nan() { c.lo } else { t.clamp(c.lo, c.hi) };
    }
    out
}

/// Coordinates that may move: not those at an end of the box whose gradient pushes outwards.
fn free_coords(form: &Form, theta: &Theta, gradient: &Theta) -> [bool; MAX_COORDS] {
    let mut free = [false; MAX_COORDS];
    for (i, c) in form.coords.iter().enumerate() {
        let held = (theta[i] <= c.lo && gradient[i] > 0.0) || (theta[i] >= c.hi && gradient[i] < 0.0);
        free[i] = !held;
    }
    free
}

/// −(H + λ·diag)⁻¹ g over the free coordinates, H the exact matrix if that is positive definite, else the majorant.
fn damped_step(
    gradient: &Theta,
    newton: &Square,
    majorant: &Square,
    lambda: f64,
    free: &[bool; MAX_COORDS],
    p: usize,
) -> Theta {
    let mut floor: f64 = 1e-300;
    for i in 0..p {
        floor = floor.max(1e-12 * majorant[i][i]);
    }
    for base in [newton, majorant] {
        let mut damped = *base;
        for i in 0..p {
            damped[i][i] += lambda * majorant[i][i].max(floor);
        }
        let (h, b) = held(gradient, &damped, free, p);
        if let Some(l) = cholesky(&h, p) {
            return solve(&l, &b, p);
        }
    }
    // Neither is positive: a short step downhill.
    let mut out = [0.0; MAX_COORDS];
    for i in 0..p {
        out[i] = if free[i] { -gradient[i] / ((1.0 + lambda) * majorant[i][i].max(floor)) } else { 0.0 };
    }
    out
}
