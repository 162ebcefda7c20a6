//! Power laws in one variable, pure and with an irreducible loss: L(N), L(D), L(C), L(C_min).
//!
//! Kaplan et al. 2020 (arXiv 2001.08361), equations 1.1 to 1.3, write L = (X_c/X)^alpha; with an irreducible loss the
//! scale X_c has no meaning of its own, and A is reported.

use super::{
    Columns, Coord, Form, Kernel, LinearPart, Reported, Role, Slot, Variable, exponent, floor_coord, ln_coord,
};
use crate::numeric::{Theta, theta_of};

const PURE: &[Coord] = &[Coord { name: "ln_a", lo: -200.0, hi: 500.0 }, exponent("alpha")];
const FLOORED: &[Coord] = &[ln_coord("ln_a"), exponent("alpha"), floor_coord("ln_e")];
const PURE_KERNEL: Kernel = Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0)]]);
const FLOORED_KERNEL: Kernel = Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0)], &[Slot::Plus(2)]]);
const FLOORED_LINEAR: LinearPart =
    LinearPart { terms: &[Some((0, 0)), None], ln_coefficient: &[0, 2], exponents: &[1] };

const ALPHA: Reported = Reported {
    name: "alpha",
    role: Role::Exponent,
    log: false,
    of: |t| t[1],
    meaning: "exponent of the power law",
};
const A: Reported = Reported {
    name: "A",
    role: Role::Scale,
    log: true,
    of: |t| t[0],
    meaning: "coefficient of the power law",
};
const E: Reported =
    Reported { name: "E", role: Role::Floor, log: true, of: |t| t[2], meaning: "irreducible loss" };

macro_rules! scale {
    ($name:literal, $meaning:literal) => {
        Reported { name: $name, role: Role::Scale, log: true, of: |t| t[0] / t[1], meaning: $meaning }
    };
}

macro_rules! pair {
    ($id:literal, $var:literal, $big:literal, $scale:literal, $tex:literal, $source:literal) => {
        [
            Form {
                id: $id,
                variant: "pure",
                formula: concat!("L = (", $scale, "/", $big, ")^alpha"),
                latex: concat!("L = (", $tex, "_c/", $tex, ")^{\\alpha}"),
                source: $source,
                variables: &[Variable { name: $var, log: true, distinct: 2 }],
                response: "loss",
                log_response: true,
                coords: PURE,
                reported: &[
                    ALPHA,
                    scale!($scale, "value of the variable at which the law gives a loss of 1"),
                    A,
                ],
                kernel: PURE_KERNEL,
                starts: pure_starts,
                linear: None,
                min_rows: 3,
            },
            Form {
                id: $id,
                variant: "irreducible",
                formula: concat!("L = E + A/", $big, "^alpha"),
                latex: concat!("L = E + A/", $tex, "^{\\alpha}"),
                source: $source,
                variables: &[Variable { name: $var, log: true, distinct: 3 }],
                response: "loss",
                log_response: true,
                coords: FLOORED,
                reported: &[ALPHA, A, E],
                kernel: FLOORED_KERNEL,
                starts: floored_starts,
                linear: Some(&FLOORED_LINEAR),
                min_rows: 4,
            },
        ]
    };
}

const N: [Form; 2] = pair!("l_n", "n", "N", "N_c", "N", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.1");
const D: [Form; 2] = pair!("l_d", "d", "D", "D_c", "D", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.2");
const C: [Form; 2] = pair!("l_c", "c", "C", "C_c", "C", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.3");
const CMIN: [Form; 2] =
    pair!("l_cmin", "c_min", "C_min", "Cmin_c", "C_{min}", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.3");

const fn joined() -> [Form; 8] {
    let [n0, n1] = N;
    let [d0, d1] = D;
    let [c0, c1] = C;
    let [m0, m1] = CMIN;
    [n0, n1, d0, d1, c0, c1, m0, m1]
}

/// All of them.
pub static FORMS: [Form; 8] = joined();

/// The straight line through the logarithms.
fn pure_starts(data: &Columns<'_>, _dense: bool) -> Vec<Theta> {
    let (slope, intercept) = line(data);
    vec![theta_of(&[intercept, -slope])]
}

/// Floors from nothing to just under the lowest loss; for each, the line through what is left.
fn floored_starts(data: &Columns<'_>, dense: bool) -> Vec<Theta> {
    let lowest = data.y.iter().copied().fold(f64::INFINITY, f64::min);
    let shares: &[f64] = if dense {
        &[0.001, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99]
    } else {
        &[0.001, 0.3, 0.6, 0.8, 0.9, 0.97]
    };
    shares
        .iter()
        .map(|share| {
            let floor = share * libm::exp(lowest);
            let rest: Vec<f64> =
                data.y.iter().map(|y| libm::log((libm::exp(*y) - floor).max(1e-12))).collect();
            let (slope, intercept) = line(&Columns { y: &rest, ..*data });
            theta_of(&[intercept, -slope, libm::log(floor)])
        })
        .collect()
}

/// Weighted straight line of y on the first variable: (slope, intercept).
pub(crate) fn line(data: &Columns<'_>) -> (f64, f64) {
    let (x, y, w) = (&data.x[0], data.y, data.w);
    let total: f64 = w.iter().sum();
    let mean = |v: &[f64]| v.iter().zip(w).map(|(a, b)| a * b).sum::<f64>() / total;
    let (mx, my) = (mean(x), mean(y));
    let mut sxx = 0.0;
    let mut sxy = 0.0;
    for i in 0..x.len() {
        sxx += w[i] * (x[i] - mx) * (x[i] - mx);
        sxy += w[i] * (x[i] - mx) * (y[i] - my);
    }
    let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
    (slope, my - slope * mx)
}
