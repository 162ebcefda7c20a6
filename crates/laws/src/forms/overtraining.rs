//! Over-training: L = E + (a·M^eta + b·M^−eta)·C^−eta with M = D/N tokens per parameter (Gadre et al. 2024, arXiv
//! 2403.08540, eq. 4).

use super::{Form, Kernel, Reported, Role, Slot, Variable, exponent, floor_coord, ln_coord};
use crate::numeric::theta_of;

/// The form.
pub static FORMS: [Form; 1] = [Form {
    id: "overtraining",
    variant: "",
    formula: "L = E + (a*M^eta + b*M^-eta)*C^-eta, M = D/N",
    latex: "L = E + (a M^{\\eta} + b M^{-\\eta}) C^{-\\eta}",
    source: "Gadre et al. 2024, arXiv 2403.08540, eq. 4",
    variables: &[
        Variable { name: "n", log: true, distinct: 2 },
        Variable { name: "d", log: true, distinct: 2 },
        Variable { name: "c", log: true, distinct: 2 },
    ],
    response: "loss",
    log_response: true,
    coords: &[ln_coord("ln_a"), ln_coord("ln_b"), floor_coord("ln_e"), exponent("eta")],
    reported: &[
        Reported { name: "E", role: Role::Floor, log: true, of: |t| t[2], meaning: "irreducible loss" },
        Reported {
            name: "a",
            role: Role::Scale,
            log: true,
            of: |t| t[0],
            meaning: "weight of over-training",
        },
        Reported {
            name: "b",
            role: Role::Scale,
            log: true,
            of: |t| t[1],
            meaning: "weight of under-training",
        },
        Reported {
            name: "eta",
            role: Role::Exponent,
            log: false,
            of: |t| t[3],
            meaning: "exponent of compute",
        },
    ],
    // a·(D/N)^eta·C^−eta, b·(N/D)^eta·C^−eta, and E.
    kernel: Kernel::Terms(&[
        &[Slot::Plus(0), Slot::Times(3, 1), Slot::Minus(3, 0), Slot::Minus(3, 2)],
        &[Slot::Plus(1), Slot::Minus(3, 1), Slot::Times(3, 0), Slot::Minus(3, 2)],
        &[Slot::Plus(2)],
    ]),
    starts: |data, _| {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (n, d, c) = (mean(&data.x[0]), mean(&data.x[1]), mean(&data.x[2]));
        let middle = libm::exp(mean(data.y));
        let mut out = Vec::new();
        for eta in [0.05, 0.12, 0.2, 0.35] {
            for share in [0.1, 0.3, 0.6, 0.85] {
                // Both terms give half of what the floor leaves, in the middle of the data.
                let half = libm::log(0.5 * (1.0 - share) * middle);
                let ratio = d - n;
                out.push(theta_of(&[
                    half - eta * (ratio - c),
                    half + eta * (ratio + c),
                    libm::log(share * middle),
                    eta,
                ]));
            }
        }
        out
    },
    linear: None,
    min_rows: 5,
}];
