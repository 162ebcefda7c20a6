//! Kaplan et al. 2020 (arXiv 2001.08361): L(N, D) of equation 1.5, L(N, S_min) of 1.6, and B_crit(L) of 5.3.

use super::{Columns, Coord, Form, Kernel, Reported, Role, Slot, Variable, exponent, ln_coord};
use crate::numeric::lanes::each_row;
use crate::numeric::{Theta, theta_of};

macro_rules! reported {
    ($name:literal, $role:ident, $log:literal, $of:expr, $meaning:literal) => {
        Reported { name: $name, role: Role::$role, log: $log, of: $of, meaning: $meaning }
    };
}

/// L(N, D), L(N, S_min), B_crit(L).
pub static FORMS: [Form; 3] = [
    Form {
        id: "l_nd_kaplan",
        variant: "",
        formula: "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
        latex: "L = \\left[(N_c/N)^{\\alpha_N/\\alpha_D} + D_c/D\\right]^{\\alpha_D}",
        source: "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
        variables: &[
            Variable { name: "n", log: true, distinct: 2 },
            Variable { name: "d", log: true, distinct: 2 },
        ],
        response: "loss",
        log_response: true,
        coords: &[
            Coord { name: "ln_nc", lo: -50.0, hi: 400.0 },
            Coord { name: "ln_dc", lo: -50.0, hi: 400.0 },
            Coord { name: "alpha_n", lo: 1e-4, hi: 5.0 },
            Coord { name: "alpha_d", lo: 1e-4, hi: 5.0 },
        ],
        reported: &[
            reported!("alpha_N", Exponent, false, |t| t[2], "exponent of N"),
            reported!("alpha_D", Exponent, false, |t| t[3], "exponent of D"),
            reported!("N_c", Scale, true, |t| t[0], "size at which the loss would be 1 with endless data"),
            reported!(
                "D_c",
                Scale,
                true,
                |t| t[1],
                "data at which the loss would be 1 with an endless model"
            ),
        ],
        kernel: Kernel::Row(|x, theta, f, jac| {
            each_row::<4>(x, theta, f, jac, |x, t| {
                let size = t[2] / t[3] * (t[0] - x[0]);
                let data = t[1] - x[1];
                t[3] * size.log_add(data)
            });
        }),
        starts: |_, _| {
            let mut out = Vec::new();
            for a in [0.03, 0.076, 0.15, 0.3] {
                for b in [0.03, 0.1, 0.2, 0.4] {
                    out.extend([1.2, 2.5, 4.0].map(|top: f64| {
                        // Scales that make each term alone give a loss between 1 and `top` in the usual ranges.
                        theta_of(&[16.0 + libm::log(top) / a, 19.0 + libm::log(top) / b, a, b])
                    }));
                }
            }
            out
        },
        linear: None,
        min_rows: 5,
    },
    Form {
        id: "l_ns",
        variant: "",
        formula: "L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S",
        latex: "L = (N_c/N)^{\\alpha_N} + (S_c/S_{min})^{\\alpha_S}",
        source: "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.6",
        variables: &[
            Variable { name: "n", log: true, distinct: 2 },
            Variable { name: "s_min", log: true, distinct: 2 },
        ],
        response: "loss",
        log_response: true,
        coords: &[ln_coord("ln_a"), ln_coord("ln_b"), exponent("alpha_n"), exponent("alpha_s")],
        reported: &[
            reported!("alpha_N", Exponent, false, |t| t[2], "exponent of N"),
            reported!("alpha_S", Exponent, false, |t| t[3], "exponent of S_min"),
            reported!("N_c", Scale, true, |t| t[0] / t[2], "scale of N"),
            reported!("S_c", Scale, true, |t| t[1] / t[3], "scale of S_min"),
        ],
        kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(2, 0)], &[Slot::Plus(1), Slot::Minus(3, 1)]]),
        starts: pair_starts,
        linear: None,
        min_rows: 5,
    },
    Form {
        id: "b_crit",
        variant: "",
        formula: "B_crit = B_*/L^(1/alpha_B)",
        latex: "B_{crit} = B_*/L^{1/\\alpha_B}",
        source: "Kaplan et al. 2020, arXiv 2001.08361, eq. 5.3",
        variables: &[Variable { name: "loss", log: true, distinct: 2 }],
        response: "b_crit",
        log_response: true,
        coords: &[
            Coord { name: "ln_b", lo: -200.0, hi: 500.0 },
            Coord { name: "slope", lo: -50.0, hi: 100.0 },
        ],
        reported: &[
            Reported {
                name: "alpha_B",
                role: Role::Exponent,
                log: false,
                of: |t| (t[1] * 0.0 + 1.0) / t[1],
                meaning: "B_crit falls with loss to the power 1/alpha_B",
            },
            reported!("B_star", Scale, true, |t| t[0], "critical batch at a loss of 1"),
        ],
        kernel: Kernel::Terms(&[&[Slot::Plus(0), Slot::Minus(1, 0)]]),
        starts: |data, _| {
            let (slope, intercept) = super::power::line(data);
            vec![theta_of(&[intercept, -slope])]
        },
        linear: None,
        min_rows: 3,
    },
];

/// Exponents on a grid; each term gives about half of the middle loss in the middle of the data.
fn pair_starts(data: &Columns<'_>, _dense: bool) -> Vec<Theta> {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (n, s, y) = (mean(&data.x[0]), mean(&data.x[1]), mean(data.y));
    let mut out = Vec::new();
    for a in [0.03, 0.08, 0.2, 0.5] {
        for b in [0.1, 0.3, 0.7, 1.2] {
            for share in [0.1f64, 0.5, 0.9] {
                let (size, steps) = (libm::log(share), libm::log(1.0 - share));
                out.push(theta_of(&[y + size + a * n, y + steps + b * s, a, b]));
            }
        }
    }
    out
}
