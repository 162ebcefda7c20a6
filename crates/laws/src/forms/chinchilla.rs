//! L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, arXiv 2203.15556, approach 3), exponents free or tied.

use super::{
    Columns, Coord, Form, Kernel, LinearPart, Reported, Role, Slot, Variable, exponent, floor_coord, ln_coord,
};
use crate::numeric::{Theta, theta_of};

const VARIABLES: &[Variable] =
    &[Variable { name: "n", log: true, distinct: 2 }, Variable { name: "d", log: true, distinct: 2 }];
const FREE: &[Coord] =
    &[ln_coord("ln_a"), ln_coord("ln_b"), floor_coord("ln_e"), exponent("alpha"), exponent("beta")];
const TIED: &[Coord] = &[ln_coord("ln_a"), ln_coord("ln_b"), floor_coord("ln_e"), exponent("alpha")];

const E: Reported =
    Reported { name: "E", role: Role::Floor, log: true, of: |t| t[2], meaning: "irreducible loss" };
const A: Reported = Reported {
    name: "A",
    role: Role::Scale,
    log: true,
    of: |t| t[0],
    meaning: "coefficient of the size term",
};
const B: Reported = Reported {
    name: "B",
    role: Role::Scale,
    log: true,
    of: |t| t[1],
    meaning: "coefficient of the data term",
};
const ALPHA: Reported =
    Reported { name: "alpha", role: Role::Exponent, log: false, of: |t| t[3], meaning: "exponent of N" };
const BETA: Reported =
    Reported { name: "beta", role: Role::Exponent, log: false, of: |t| t[4], meaning: "exponent of D" };

const SHARE: Reported = Reported {
    name: "a",
    role: Role::Exponent,
    log: false,
    of: |t| t[4] / (t[3] + t[4]),
    meaning: "exponent of N_opt = G·C^a, beta/(alpha + beta)",
};

/// Free and tied.
pub static FORMS: [Form; 2] = [
    Form {
        id: "l_nd_chinchilla",
        variant: "",
        formula: "L = E + A/N^alpha + B/D^beta",
        latex: "L = E + A/N^{\\alpha} + B/D^{\\beta}",
        source: "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2; fitted as in Besiroglu et al. 2024, arXiv 2404.10102",
        variables: VARIABLES,
        response: "loss",
        log_response: true,
        coords: FREE,
        reported: &[E, A, B, ALPHA, BETA, SHARE],
        kernel: Kernel::Terms(&[
            &[Slot::Plus(0), Slot::Minus(3, 0)],
            &[Slot::Plus(1), Slot::Minus(4, 1)],
            &[Slot::Plus(2)],
        ]),
        starts: free_starts,
        linear: Some(&LinearPart {
            terms: &[Some((0, 0)), Some((1, 1)), None],
            ln_coefficient: &[0, 1, 2],
            exponents: &[3, 4],
        }),
        min_rows: 6,
    },
    Form {
        id: "l_nd_tied",
        variant: "",
        formula: "L = E + A/N^alpha + B/D^alpha",
        latex: "L = E + A/N^{\\alpha} + B/D^{\\alpha}",
        source: "Hoffmann et al. 2022, arXiv 2203.15556, with alpha = beta",
        variables: VARIABLES,
        response: "loss",
        log_response: true,
        coords: TIED,
        reported: &[E, A, B, ALPHA],
        kernel: Kernel::Terms(&[
            &[Slot::Plus(0), Slot::Minus(3, 0)],
            &[Slot::Plus(1), Slot::Minus(3, 1)],
            &[Slot::Plus(2)],
        ]),
        starts: tied_starts,
        linear: Some(&LinearPart {
            terms: &[Some((0, 0)), Some((0, 1)), None],
            ln_coefficient: &[0, 1, 2],
            exponents: &[3],
        }),
        min_rows: 5,
    },
];

/// The published grid (α, β 0:0.5:2; e −1:0.5:1; a, b 0:5:25; 4,500 starts), or a coarser one around the data.
fn free_starts(_data: &Columns<'_>, dense: bool) -> Vec<Theta> {
    let steps = |from: f64, step: f64, count: usize| (0..count).map(move |i| from + step * i as f64);
    let mut out = Vec::new();
    if dense {
        for alpha in steps(0.0, 0.5, 5) {
            for beta in steps(0.0, 0.5, 5) {
                for e in steps(-1.0, 0.5, 5) {
                    for a in steps(0.0, 5.0, 6) {
                        out.extend(steps(0.0, 5.0, 6).map(|b| theta_of(&[a, b, e, alpha, beta])));
                    }
                }
            }
        }
    } else {
        for alpha in [0.1, 0.35, 0.8] {
            for beta in [0.1, 0.35, 0.8] {
                // ln A that gives the size term about one nat at N around 1e7.
                out.extend([-0.7, 0.5].map(|e| theta_of(&[16.0 * alpha, 19.0 * beta, e, alpha, beta])));
            }
        }
    }
    out
}

fn tied_starts(data: &Columns<'_>, dense: bool) -> Vec<Theta> {
    free_starts(data, dense)
        .into_iter()
        .filter(|t| t[3] == t[4])
        .map(|t| theta_of(&[t[0], t[1], t[2], t[3]]))
        .collect()
}
