//! L = (A/N^alpha + B/D^beta)^k + E (arXiv 2608.07222): Chinchilla's form with one more parameter. Judge it on held-out
//! rows.

use super::{Coord, Form, Kernel, Reported, Role, Variable, exponent, floor_coord, ln_coord};
use crate::numeric::lanes::each_row;
use crate::numeric::theta_of;

macro_rules! reported {
    ($name:literal, $role:ident, $log:literal, $i:literal, $meaning:literal) => {
        Reported { name: $name, role: Role::$role, log: $log, of: |t| t[$i], meaning: $meaning }
    };
}

/// The form.
pub static FORMS: [Form; 1] = [Form {
    id: "l_nd_powered",
    variant: "",
    formula: "L = E + (A/N^alpha + B/D^beta)^k",
    latex: "L = E + (A/N^{\\alpha} + B/D^{\\beta})^k",
    source: "arXiv 2608.07222",
    variables: &[
        Variable { name: "n", log: true, distinct: 2 },
        Variable { name: "d", log: true, distinct: 2 },
    ],
    response: "loss",
    log_response: true,
    coords: &[
        ln_coord("ln_a"),
        ln_coord("ln_b"),
        floor_coord("ln_e"),
        exponent("alpha"),
        exponent("beta"),
        Coord { name: "ln_k", lo: -4.0, hi: 4.0 },
    ],
    reported: &[
        reported!("E", Floor, true, 2, "irreducible loss"),
        reported!("A", Scale, true, 0, "coefficient of the size term"),
        reported!("B", Scale, true, 1, "coefficient of the data term"),
        reported!("alpha", Exponent, false, 3, "exponent of N"),
        reported!("beta", Exponent, false, 4, "exponent of D"),
        reported!("k", Scale, true, 5, "power of the sum; 1 is Chinchilla's form"),
    ],
    kernel: Kernel::Row(|x, theta, f, jac| {
        each_row::<6>(x, theta, f, jac, |x, t| {
            let sum = (t[0] - t[3] * x[0]).log_add(t[1] - t[4] * x[1]);
            (t[5].exp() * sum).log_add(t[2])
        });
    }),
    starts: |_, _| {
        let mut out = Vec::new();
        for alpha in [0.15, 0.35, 0.7] {
            for beta in [0.15, 0.35, 0.7] {
                for e in [-0.7, 0.5] {
                    for ln_k in [-0.7, 0.0, 0.7] {
                        let scale = libm::exp(-ln_k);
                        let (a, b) = (alpha * scale, beta * scale);
                        out.push(theta_of(&[16.0 * a, 19.0 * b, e, a, b, ln_k]));
                    }
                }
            }
        }
        out
    },
    linear: None,
    min_rows: 8,
}];
