//! Repeated data and junk: what a token is worth.

use super::{Coord, Form, Kernel, Reported, Role, Variable, exponent, floor_coord, ln_coord};
use crate::numeric::lanes::{Lanes, RowDual, each_row};
use crate::numeric::theta_of;

macro_rules! reported {
    ($name:literal, $role:ident, $log:literal, $i:literal, $meaning:literal) => {
        Reported { name: $name, role: Role::$role, log: $log, of: |t| t[$i], meaning: $meaning }
    };
}

const N: Variable = Variable { name: "n", log: true, distinct: 2 };
const D: Variable = Variable { name: "d", log: true, distinct: 2 };
const ABE: [Coord; 5] =
    [ln_coord("ln_a"), ln_coord("ln_b"), floor_coord("ln_e"), exponent("alpha"), exponent("beta")];
const R_STAR: Coord = Coord { name: "ln_r_star", lo: -4.0, hi: 25.0 };

/// ln of U + U·R*·(1 − e^(−R/R*)), R = max(D/U − 1, 0) repeats of U unique tokens.
fn ln_effective<const P: usize>(ln_total: Lanes, ln_unique: Lanes, ln_r_star: RowDual<P>) -> RowDual<P> {
    let repeats = (ln_total - ln_unique).map(|x| (libm::exp(x.min(50.0)) - 1.0).max(0.0));
    let r_star = ln_r_star.exp();
    let worth = r_star * (RowDual::constant(repeats) / r_star).one_minus_exp_neg();
    (worth + 1.0).ln() + ln_unique.zip(ln_total, f64::min)
}

/// ln(1 − q) of junk shares; what is no share (a damaged table) stays finite.
fn ln_clean(junk: Lanes) -> Lanes {
    junk.map(|q| libm::log1p(-q.clamp(-10.0, 1.0 - 1e-9)))
}

fn grid(extra: &[&[f64]]) -> Vec<crate::numeric::Theta> {
    let mut out = Vec::new();
    for alpha in [0.2, 0.35, 0.6] {
        for beta in [0.2, 0.35, 0.6] {
            for e in [-0.7, 0.5] {
                for more in extra {
                    let mut start = vec![16.0 * alpha, 19.0 * beta, e, alpha, beta];
                    start.extend_from_slice(more);
                    out.push(theta_of(&start));
                }
            }
        }
    }
    out
}

/// Repeats (data alone; data and parameters), junk (with sizes, with an offset, with capacity, for one size).
pub static FORMS: [Form; 6] = [
    Form {
        id: "repeat",
        variant: "data",
        formula: "L = E + A/N^alpha + B/D'^beta, D' = U + U*R*(1 - exp(-R/R*))",
        latex: "L = E + A/N^{\\alpha} + B/D'^{\\beta},\\; D' = U + U R^* (1 - e^{-R/R^*})",
        source: "Muennighoff et al. 2023, arXiv 2305.16264, eq. 5",
        variables: &[N, D, Variable { name: "unique_tokens", log: true, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[ABE[0], ABE[1], ABE[2], ABE[3], ABE[4], R_STAR],
        reported: &[
            reported!("E", Floor, true, 2, "irreducible loss"),
            reported!("A", Scale, true, 0, "coefficient of the size term"),
            reported!("B", Scale, true, 1, "coefficient of the data term"),
            reported!("alpha", Exponent, false, 3, "exponent of N"),
            reported!("beta", Exponent, false, 4, "exponent of D"),
            reported!(
                "R_star_D",
                Scale,
                true,
                5,
                "repeats after which a repeated token has lost 63 % of its worth"
            ),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<6>(x, theta, f, jac, |x, t| {
                let data = ln_effective(x[1], x[2], t[5]);
                (t[0] - t[3] * x[0]).log_add(t[1] - t[4] * data).log_add(t[2])
            });
        }),
        starts: |_, _| grid(&[&[0.7], &[2.7], &[5.0]]),
        linear: None,
        min_rows: 8,
    },
    Form {
        id: "repeat",
        variant: "data and parameters",
        formula: "L = E + A/N'^alpha + B/D'^beta, both with diminishing worth beyond what U unique tokens support",
        latex: "L = E + A/N'^{\\alpha} + B/D'^{\\beta}",
        source: "Muennighoff et al. 2023, arXiv 2305.16264, eq. 6",
        variables: &[N, D, Variable { name: "unique_tokens", log: true, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[
            ABE[0],
            ABE[1],
            ABE[2],
            ABE[3],
            ABE[4],
            R_STAR,
            Coord { name: "ln_rn_star", lo: -4.0, hi: 25.0 },
        ],
        reported: &[
            reported!("E", Floor, true, 2, "irreducible loss"),
            reported!("A", Scale, true, 0, "coefficient of the size term"),
            reported!("B", Scale, true, 1, "coefficient of the data term"),
            reported!("alpha", Exponent, false, 3, "exponent of N"),
            reported!("beta", Exponent, false, 4, "exponent of D"),
            reported!(
                "R_star_D",
                Scale,
                true,
                5,
                "repeats after which a repeated token has lost 63 % of its worth"
            ),
            reported!(
                "R_star_N",
                Scale,
                true,
                6,
                "the same for parameters beyond those the unique tokens support"
            ),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<7>(x, theta, f, jac, |x, t| {
                let data = ln_effective(x[1], x[2], t[5]);
                // Parameters that U unique tokens support: alpha·A/N^alpha = beta·B/U^beta.
                let unique = x[2].zip(x[1], f64::min);
                let supported = (t[0] + t[3].ln() - t[1] - t[4].ln() + t[4] * unique) / t[3];
                let excess = (RowDual::constant(x[0]) - supported).exp() - 1.0;
                let r_star = t[6].exp();
                let worth = supported + (r_star * (excess / r_star).one_minus_exp_neg() + 1.0).ln();
                let size = RowDual::constant(x[0]).at_most_or(supported.v, worth);
                (t[0] - t[3] * size).log_add(t[1] - t[4] * data).log_add(t[2])
            });
        }),
        starts: |_, _| grid(&[&[2.7, 1.7], &[1.0, 3.0]]),
        linear: None,
        min_rows: 10,
    },
    Form {
        id: "junk",
        variant: "sizes",
        formula: "L = E + A/N^alpha + B/(D*(1-q)^g)^beta",
        latex: "L = E + A/N^{\\alpha} + B/(D(1-q)^g)^{\\beta}",
        source: "after arXiv 2510.03313; D_eff = D(1-q)^g for a junk share q",
        variables: &[N, D, Variable { name: "junk", log: false, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[ABE[0], ABE[1], ABE[2], ABE[3], ABE[4], Coord { name: "g", lo: -20.0, hi: 50.0 }],
        reported: &[
            reported!("E", Floor, true, 2, "irreducible loss"),
            reported!("A", Scale, true, 0, "coefficient of the size term"),
            reported!("B", Scale, true, 1, "coefficient of the data term"),
            reported!("alpha", Exponent, false, 3, "exponent of N"),
            reported!("beta", Exponent, false, 4, "exponent of D"),
            reported!("g", Exponent, false, 5, "1: junk is only wasted; above 1: it harms"),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<6>(x, theta, f, jac, |x, t| {
                let data = t[5] * ln_clean(x[2]) + x[1];
                (t[0] - t[3] * x[0]).log_add(t[1] - t[4] * data).log_add(t[2])
            });
        }),
        starts: |_, _| grid(&[&[1.0], &[3.0]]),
        linear: None,
        min_rows: 8,
    },
    Form {
        id: "junk",
        variant: "offset",
        formula: "L = E + A/N^alpha + B/(D*(1-q))^beta + k*q",
        latex: "L = E + A/N^{\\alpha} + B/(D(1-q))^{\\beta} + k q",
        source: "junk costs its tokens, and a constant at every size: the other reading of arXiv 2510.03313's rows",
        variables: &[N, D, Variable { name: "junk", log: false, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[ABE[0], ABE[1], ABE[2], ABE[3], ABE[4], Coord { name: "k", lo: -3.0, hi: 20.0 }],
        reported: &[
            reported!("E", Floor, true, 2, "irreducible loss on clean data"),
            reported!("A", Scale, true, 0, "coefficient of the size term"),
            reported!("B", Scale, true, 1, "coefficient of the data term"),
            reported!("alpha", Exponent, false, 3, "exponent of N"),
            reported!("beta", Exponent, false, 4, "exponent of D"),
            reported!("k", Exponent, false, 5, "loss added per share of junk, at every size; 0: only wasted"),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<6>(x, theta, f, jac, |x, t| {
                let data = ln_clean(x[2]) + x[1];
                let clean = (t[0] - t[3] * x[0]).log_add(t[1] - t[4] * data).log_add(t[2]);
                (clean.exp() + t[5] * x[2].map(|q| q.clamp(-10.0, 1.0))).ln()
            });
        }),
        starts: |_, _| grid(&[&[0.0], &[0.3]]),
        linear: None,
        min_rows: 8,
    },
    Form {
        id: "junk",
        variant: "sizes and data",
        formula: "L = E + A/(N*(1-q)^h)^alpha + B/(D*(1-q)^g)^beta",
        latex: "L = E + A/(N(1-q)^h)^{\\alpha} + B/(D(1-q)^g)^{\\beta}",
        source: "junk also takes capacity (arXiv 2404.05405); N_eff = N(1-q)^h, D_eff = D(1-q)^g",
        variables: &[N, D, Variable { name: "junk", log: false, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[
            ABE[0],
            ABE[1],
            ABE[2],
            ABE[3],
            ABE[4],
            Coord { name: "g", lo: -20.0, hi: 50.0 },
            Coord { name: "h", lo: -20.0, hi: 50.0 },
        ],
        reported: &[
            reported!("E", Floor, true, 2, "irreducible loss"),
            reported!("A", Scale, true, 0, "coefficient of the size term"),
            reported!("B", Scale, true, 1, "coefficient of the data term"),
            reported!("alpha", Exponent, false, 3, "exponent of N"),
            reported!("beta", Exponent, false, 4, "exponent of D"),
            reported!("g", Exponent, false, 5, "1: junk is only wasted; above 1: it harms as data"),
            reported!("h", Exponent, false, 6, "0: junk takes no capacity; 1: it takes its share of it"),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<7>(x, theta, f, jac, |x, t| {
                let clean = ln_clean(x[2]);
                let (size, data) = (t[6] * clean + x[0], t[5] * clean + x[1]);
                (t[0] - t[3] * size).log_add(t[1] - t[4] * data).log_add(t[2])
            });
        }),
        starts: |_, _| grid(&[&[1.0, 0.0], &[1.0, 1.0], &[3.0, 0.3]]),
        linear: None,
        min_rows: 10,
    },
    Form {
        id: "junk",
        variant: "one size",
        formula: "L = E + B/(D*(1-q)^g)^beta",
        latex: "L = E + B/(D(1-q)^g)^{\\beta}",
        source: "after arXiv 2510.03313; D_eff = D(1-q)^g for a junk share q",
        variables: &[D, Variable { name: "junk", log: false, distinct: 2 }],
        response: "loss",
        log_response: true,
        coords: &[
            ln_coord("ln_b"),
            floor_coord("ln_e"),
            exponent("beta"),
            Coord { name: "g", lo: -20.0, hi: 50.0 },
        ],
        reported: &[
            reported!("E", Floor, true, 1, "irreducible loss at this size"),
            reported!("B", Scale, true, 0, "coefficient of the data term"),
            reported!("beta", Exponent, false, 2, "exponent of D"),
            reported!("g", Exponent, false, 3, "1: junk is only wasted; above 1: it harms"),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<4>(x, theta, f, jac, |x, t| {
                (t[0] - t[2] * (t[3] * ln_clean(x[1]) + x[0])).log_add(t[1])
            });
        }),
        starts: |_, _| {
            let mut out = Vec::new();
            for beta in [0.1, 0.3, 0.6] {
                for e in [-2.0, 0.0, 0.7] {
                    out.extend([1.0, 3.0].map(|g| theta_of(&[17.0 * beta, e, beta, g])));
                }
            }
            out
        },
        linear: None,
        min_rows: 6,
    },
];
